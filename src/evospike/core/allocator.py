"""What the C library does with freed memory.

glibc gives a freed block of 32 MB or more back to the system, and asks for it again at the next step: every page of it
is then cleared and mapped anew, which takes longer than what is computed with it. A training step asks for the same
blocks again and again, so they are kept.
"""

from __future__ import annotations

import ctypes
import functools
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
"""Parameters of `mallopt`, by their numbers in glibc's malloc.h."""


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, until it ends; whether that could be asked of the C library.

    For processes of our own, never on import: it is a setting of the whole process, and what was once needed stays
    resident.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return all(mallopt(name, value) == 1 for name, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_ARENA_MAX, 1)))
