"""Ctrl-C and SIGTERM: stop at the next safe moment, with the last good state on disk."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from evospike.core.errors import Interrupted

GRACE_SECONDS = 8.0
"""After the first signal, how long the run may take to reach a safe moment before it is ended."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Set by the first SIGINT or SIGTERM; the run looks at it between steps.

    also: called at each look, before a signal is looked for; may raise to stop the run.
    """

    def __init__(self, also: Callable[[], None] = lambda: None) -> None:
        self.signum = 0
        self.also = also

    def check(self) -> None:
        """Raise Interrupted once a signal has arrived."""
        self.also()
        if self.signum:
            raise Interrupted(self.signum)


NOTICE = "stopping at the next safe moment; once more to stop at once"


@contextmanager
def stop_on_signals(at_once: Callable[[], None] = lambda: None, notice: str = NOTICE) -> Iterator[Stop]:
    """Inside, signals set the Stop instead of raising anywhere; a second one ends the process at once.

    at_once: called before the process is ended, to take worker processes along. notice: see `ended_in_time`. Everything
    a run needs is on disk at any moment, so ending it at once loses work, never the run. Outside the main thread, which
    alone hears signals, they are left as they are.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        stop.signum = stop.signum or signum

    with ended_in_time(at_once, notice):
        before = {signum: signal.signal(signum, handle) for signum in SIGNALS}
        try:
            yield stop
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


@contextmanager
def ended_in_time(at_once: Callable[[], None] = lambda: None, notice: str = "") -> Iterator[None]:
    """Inside, the process is ended some seconds after a signal and at a second one, wherever its main thread is.

    Python calls handlers between two instructions of the main thread, so not while that is in a library's code. But it
    writes the number of a signal to a descriptor right away, where a thread reads it. That needs the interpreter's
    lock, which libraries give up for what takes long. To be used in the main thread, around handlers.

    notice: a line for the person at the terminal after the first signal.
    """
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        thread = threading.Thread(target=_end_in_time, args=(reading, at_once, notice), daemon=True)
        thread.start()
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            writing.close()
            thread.join()


def _end_in_time(signals: socket.socket, at_once: Callable[[], None], notice: str) -> None:
    """End the process at the second signal, or some seconds after the first; not where the signals end before."""
    first = _next_signal(signals, None)
    if first is None:
        return
    if notice:
        telling = threading.Thread(target=_tell, args=(notice,), daemon=True)
        telling.start()
        telling.join(1.0)  # nobody may be reading what the process writes
    try:
        last = _next_signal(signals, time.monotonic() + GRACE_SECONDS)
    except TimeoutError:
        last = first
    if last is not None:
        at_once()
        os._exit(128 + last)


def _tell(notice: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"\n{notice}\n")  # in one piece: the process itself may say something at the same moment
        sys.stderr.flush()


def _next_signal(signals: socket.socket, until: float | None) -> int | None:
    """The next signal that is one of ours; None when no more will come. Raises: TimeoutError."""
    while True:
        signals.settimeout(None if until is None else max(until - time.monotonic(), 1e-3))
        number = signals.recv(1)
        if not number:
            return None
        if number[0] in SIGNALS:
            return number[0]
