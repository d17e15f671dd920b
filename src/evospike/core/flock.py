"""Locks on open files: the kernel holds them for as long as a process has the file open, and frees them when it dies.

Not every file system has them, and Windows has others.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def lock_file(file: IO[str], *, wait: bool, shared: bool = False) -> bool:
    """Lock an open file for as long as it is open; whether this can be had. Raises: BlockingIOError, unless `wait`."""
    if sys.platform == "win32":
        return False
    import fcntl

    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True


def close_locked(file: IO[str]) -> None:
    """Unlock and close a file, also for a child that was forked meanwhile and has it open too."""
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):
        file.close()


def is_locked(path: Path) -> bool:
    """Whether some process holds an flock on a file."""
    try:
        with open(path, encoding="utf-8") as file:
            lock_file(file, wait=False, shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """One process of this host at a time, where files can be locked; the kernel frees the guard when its holder dies.

    path: of the guard, an empty file that stays: removing it would be a race.
    """
    with open(path, "a", encoding="utf-8") as file:
        lock_file(file, wait=True)
        yield
