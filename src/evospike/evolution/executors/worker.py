"""A worker process: reads payloads from standard input, writes results to standard output.

Started by `LocalExecutor` as `python -c`, so that neither the user's main module runs again nor a signal for
the driver arrives here. Messages are pickles; they pass between processes of one run only.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from evospike.evolution.executors.base import Outcome

POLL_S = 0.5
_GRACE_S = 1.0
_PR_SET_PDEATHSIG = 1

Task = tuple[int, Any]


def main() -> None:
    """Serve until standard input ends or the driver is gone. Arguments: the driver's process number."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with(int(sys.argv[1]))
    replies = _take_over_stdout()
    source = sys.stdin.buffer
    name, context = pickle.load(source)
    tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    threading.Thread(target=_read_tasks, args=(source, tasks), daemon=True).start()
    try:
        function = load_function(name)
    except BaseException as error:
        _send(replies, ("unusable", one_line(error)))
        return
    _send(replies, ("ready", None))
    while (task := tasks.get()) is not None:
        number, payload = task
        _send(replies, ("done", number, *call(function, payload, context)))


def load_function(name: str) -> Callable[[Any, dict[str, Any]], Any]:
    """The function named 'package.module:function'; raises whatever its import raises."""
    module, _, attribute = name.partition(":")
    function: Callable[[Any, dict[str, Any]], Any] = getattr(importlib.import_module(module), attribute)
    return function


def one_line(error: BaseException) -> str:
    """Type and message of an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def call(
    function: Callable[[Any, dict[str, Any]], Any], payload: Any, context: dict[str, Any]
) -> tuple[bytes | None, str | None]:
    """(pickled value, None) or (None, error); the value is pickled here, so that one that cannot travel is an error
    too.
    """
    try:
        return pickle.dumps(function(payload, dict(context))), None
    except BaseException as error:  # also SystemExit: one candidate must not end the worker
        return None, one_line(error)


def outcome_of(value: bytes | None, error: str | None, attempts: int) -> Outcome:
    """What `call` gave, read where the driver is."""
    if value is not None:
        try:
            return Outcome(pickle.loads(value), None, attempts)
        except Exception as problem:
            error = f"the value cannot be read here: {one_line(problem)}"
    return Outcome(None, error, attempts)


def _take_over_stdout() -> BinaryIO:
    """Keep standard output for replies; whatever the function prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _read_tasks(source: BinaryIO, tasks: queue.SimpleQueue[Task | None]) -> None:
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            tasks.put(pickle.load(source))
    tasks.put(None)
    time.sleep(_GRACE_S)
    os._exit(1)  # the driver closed the pipe, yet a payload still runs: nobody waits for it


def _send(replies: BinaryIO, message: tuple[Any, ...]) -> None:
    try:
        pickle.dump(message, replies)
        replies.flush()
    except OSError:  # the driver is gone
        os._exit(1)


def _die_with(driver: int) -> None:
    """End this process when the driver ends, however it ends."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_watch, args=(driver,), daemon=True).start()


def _watch(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(POLL_S)
    os._exit(1)
