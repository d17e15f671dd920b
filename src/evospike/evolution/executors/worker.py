"""A worker process: reads payloads from standard input, writes results to standard output.

Started by `LocalExecutor` as `python -c`, so that neither the user's main module runs again nor a signal for
the driver arrives here. Messages are pickles; they pass between processes of one run only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

from evospike.core.limits import memory_ran_out
from evospike.evolution.executors.base import Outcome

POLL_S = 0.5
_GRACE_S = 1.0
_PR_SET_PDEATHSIG = 1

Task = tuple[int, Any]


class Reply(NamedTuple):
    """What a call gave: a pickled value, or an error in one line.

    exhausted: the error is that memory ran out, of the machine or of its GPU. Others had their part of it, so alone
    the same call may succeed.
    """

    value: bytes | None
    error: str | None = None
    exhausted: bool = False


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


def call(function: Callable[[Any, dict[str, Any]], Any], payload: Any, context: dict[str, Any]) -> Reply:
    """The reply to a payload; the value is pickled here, so that one that cannot travel is an error too.

    A worker whose memory ran out goes on: what the call held is free again. So is, after every call, what torch would
    keep of a GPU for the next one: workers that wait must not hold what another, alone, may need.
    """
    try:
        reply = Reply(pickle.dumps(function(payload, dict(context))))
    except BaseException as error:  # also SystemExit: one candidate must not end the worker
        reply = Reply(None, one_line(error), memory_ran_out(error))
    if reply.exhausted:
        gc.collect()  # what is left of the call may refer to itself
    _give_back_gpu_memory()
    return reply


def outcome_of(reply: Reply, attempts: int) -> Outcome:
    """What `call` gave, read where the driver is; at the last attempt where memory ran out."""
    error = reply.error
    if reply.exhausted:
        return Outcome.given_up("memory ran out", error or "", attempts)
    if reply.value is not None:
        try:
            return Outcome(pickle.loads(reply.value), None, attempts)
        except Exception as problem:
            error = f"the value cannot be read here: {one_line(problem)}"
    return Outcome(None, error, attempts)


def _give_back_gpu_memory() -> None:
    """Let other processes have what torch keeps of a GPU without using it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        with contextlib.suppress(RuntimeError):  # an error on the GPU that came before is told by the next call
            torch.cuda.empty_cache()


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
