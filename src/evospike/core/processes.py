"""Which process a number names: numbers are used again, after another start of the machine and after an end.

Linux says all of it in /proc; elsewhere some answers are empty.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def boot_id() -> str:
    """Of this start of the machine; empty outside Linux."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def namespace() -> str:
    """In which process numbers mean what they mean here, as `pid:[4026531836]`; empty outside Linux."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def clock() -> float:
    """Seconds since some moment, on Linux since the machine has started; there they also pass while it sleeps."""
    since_boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if since_boot is None else time.clock_gettime(since_boot)


def is_running(pid: int) -> bool:
    """Whether a number is that of a process of this namespace that has not ended."""
    if sys.platform == "win32":
        return True  # no harmless way to ask; the user is told to delete the file
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat_fields(pid)[:1] != ["Z"]  # killed, but not yet collected by its parent


def start_of(pid: int) -> str:
    """Start of a process in clock ticks since boot, or '' where /proc is missing."""
    fields = _stat_fields(pid)
    return fields[19] if len(fields) > 19 else ""


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on (field 3 of proc(5)); the name before may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
