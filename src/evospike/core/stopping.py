"""Ctrl-C and SIGTERM: stop at the next safe moment, with the last good state on disk."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from evospike.core.errors import Interrupted

GRACE_SECONDS = 8.0
"""After the first signal, how long the run may take to reach a safe moment before it is ended."""


class Stop:
    """Set by the first SIGINT or SIGTERM; the run looks at it between steps."""

    def __init__(self) -> None:
        self.signum = 0

    def check(self) -> None:
        """Raise Interrupted once a signal has arrived."""
        if self.signum:
            raise Interrupted(self.signum)


@contextmanager
def stop_on_signals(at_once: Callable[[], None] = lambda: None) -> Iterator[Stop]:
    """Inside, signals set the Stop instead of raising anywhere; a second one ends the process at once.

    at_once: called before the process is ended, to take worker processes along. Everything a run needs is on disk at
    any moment, so ending it at once loses work, never the run.
    """
    stop = Stop()
    timers: list[threading.Timer] = []

    def end(signum: int) -> None:
        at_once()
        os._exit(128 + signum)

    def handle(signum: int, frame: FrameType | None) -> None:
        if stop.signum:
            end(signum)
        stop.signum = signum
        print("\nstopping at the next safe moment; once more to stop at once", file=sys.stderr)
        timer = threading.Timer(GRACE_SECONDS, end, [signum])
        timer.daemon = True
        timer.start()
        timers.append(timer)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for timer in timers:
            timer.cancel()
        for signum, handler in before.items():
            signal.signal(signum, handler)
