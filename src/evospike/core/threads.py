"""How many CPU threads a number stands for."""

from __future__ import annotations

import os


def resolved_threads(threads: int) -> int:
    """A number of threads; 0 is one for each CPU that this process may use."""
    if threads:
        return threads
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
