"""Evaluations in worker processes on this machine.

Each worker is a fresh interpreter with its own process group: Ctrl-C reaches the driver alone, and the number
of threads is set in the environment before NumPy or torch is imported. A worker that dies is replaced. The
payload it held runs once more, alone, after the others, since memory that ran out among many may suffice for
one; so does one that says that memory ran out. A payload that takes longer than the limit is ended with its
worker and not tried again.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from evospike.core.errors import RunError, SettingsError
from evospike.evolution.executors.base import Outcome, Payload
from evospike.evolution.executors.worker import Reply, outcome_of

_POLL_S = 0.1
_MOST_FAILED_STARTS = 3
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_BOOTSTRAP = "from evospike.evolution.executors.worker import main; main()"

Message = tuple[Any, ...]
Inbox = queue.SimpleQueue[tuple["_Worker", Message]]


@dataclass(frozen=True)
class WorkerState:
    """One worker process. ready: it has started. payload: what it works on, None while it waits for something.

    since: time of day, in seconds of `time.time`, at which it began to.
    """

    pid: int
    ready: bool
    payload: Payload | None
    attempt: int
    since: float


class LocalExecutor:
    """Runs `function(payload, context)` in worker processes; use it as a context manager.

    workers:  processes at work at the same time; they start on the first `run`.
    threads:  threads per worker, for the environment of the worker and as `context["threads"]`.
    function: 'package.module:name' of a function of (payload, context); both can be pickled, and so can its
              value.
    context:  what every call needs.
    on_change: told of all workers whenever one begins or ends something; must not take long.
    limit_s:  seconds that a payload may take, from handing it over to its value; 0: as many as it likes.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        function: str,
        context: Mapping[str, Any],
        on_change: Callable[[Sequence[WorkerState]], None] = lambda states: None,
        limit_s: float = 0.0,
    ) -> None:
        if workers < 1 or threads < 1:
            raise SettingsError(f"workers={workers}, threads={threads}; give 1 or more of both")
        if not all(function.partition(":")):
            raise SettingsError(f"cannot read function '{function}'; expected 'package.module:name'")
        self._count = workers
        self._threads = threads
        self._function = function
        self._context = {**context, "threads": threads}
        self._workers: list[_Worker] = []
        self._inbox: Inbox = queue.SimpleQueue()
        self._failed_starts = 0
        self._on_change = on_change
        self._limit_s = limit_s

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, kill: bool = True) -> None:
        """End all workers: at once, or, without `kill`, after asking them to end (idle ones do, others have 3
        s).
        """
        workers, self._workers = self._workers, []
        self._tell()
        for worker in workers:
            worker.stop(kill)
        for worker in workers:
            worker.wait(0.0 if kill else 3.0)

    def run(
        self, payloads: Sequence[Payload], check: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield (index, outcome) as they arrive; see `Executor`.

        Raises: RunError when workers cannot start or cannot load the function. Leaving the iterator early
        ends the workers that are busy.
        """
        waiting: deque[int] = deque()
        alone: deque[int] = deque()
        known = 0
        try:
            while True:
                if not alone:  # what needs to run alone does not wait for payloads that came later
                    waiting.extend(range(known, len(payloads)))
                    known = len(payloads)
                if not (waiting or alone or self._busy()):
                    break
                self._hand_out(payloads, waiting, alone)
                yield from self._end_overdue()
                message = self._next_message(check)
                if message is None:
                    continue
                worker, content = message
                outcome = self._take(worker, content, alone)
                if outcome is not None:
                    yield outcome
        finally:
            for worker in self._busy():
                self._discard(worker)

    def _tell(self) -> None:
        self._on_change([worker.state() for worker in self._workers])

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _hand_out(self, payloads: Sequence[Payload], waiting: deque[int], alone: deque[int]) -> None:
        """Give work to every free worker; retries start when nothing else is left, one at a time.

        What was added meanwhile waits until a retry is done.
        """
        busy = self._busy()
        if any(worker.attempt > 1 for worker in busy):
            return
        retrying = not waiting
        wanted = min(self._count, len(busy) + len(waiting)) or 1
        while len(self._workers) < wanted:
            self._start_worker()
        for worker in self._workers:
            if worker.ready and worker.task is None and not worker.has_ended():
                if waiting:
                    worker.give(waiting[0], payloads[waiting[0]], attempt=1)
                    waiting.popleft()
                    self._tell()
                elif retrying and alone and not busy:
                    worker.give(alone[0], payloads[alone[0]], attempt=2)
                    alone.popleft()
                    self._tell()
                    return

    def _next_message(self, check: Callable[[], None] | None) -> tuple[_Worker, Message] | None:
        """The next message of a worker that still counts; None when there was none for a moment."""
        if check is not None:
            check()
        try:
            worker, message = self._inbox.get(timeout=_POLL_S)
        except queue.Empty:
            # A child that a dead worker had forked may hold its pipe open; then no message tells of it.
            ended = next((worker for worker in self._workers if worker.has_ended()), None)
            return (ended, ("dead",)) if ended else None
        return (worker, message) if worker in self._workers else None

    def _take(self, worker: _Worker, message: Message, alone: deque[int]) -> tuple[int, Outcome] | None:
        """Act on a message; the outcome it settles, if any."""
        if message[0] == "ready":
            worker.ready, self._failed_starts = True, 0
            self._tell()
        elif message[0] == "unusable":
            raise RunError(f"workers cannot load '{self._function}' ({message[1]}); check the name and its imports")
        elif message[0] == "done":
            return self._settle(worker, message, alone)
        else:
            return self._bury(worker, alone)
        return None

    def _settle(self, worker: _Worker, message: Message, alone: deque[int]) -> tuple[int, Outcome] | None:
        """The outcome of a reply; none where memory ran out at the first attempt."""
        index, reply = message[1], Reply(*message[2:])
        worker.rest()
        self._tell()
        if reply.exhausted and worker.attempt == 1:
            alone.append(index)
            return None
        return index, outcome_of(reply, worker.attempt)

    def _bury(self, worker: _Worker, alone: deque[int]) -> tuple[int, Outcome] | None:
        """Remove a dead worker; its payload is retried, or given up at the second death."""
        task, how = worker.task, self._discard(worker)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise RunError(
                    f"workers end before they are ready ({how}); see their output above, or use fewer workers"
                )
        if task is None:
            return None
        if worker.attempt == 1:
            alone.append(task)
            return None
        return task, Outcome.given_up("worker died", how, worker.attempt)

    def _end_overdue(self) -> Iterator[tuple[int, Outcome]]:
        """End the workers whose payloads take too long, and give these up."""
        for worker in self._busy() if self._limit_s else ():
            task = worker.task
            if task is not None and worker.seconds_at_work() > self._limit_s:
                self._discard(worker)
                yield task, Outcome.overdue(self._limit_s, worker.attempt)

    def _discard(self, worker: _Worker) -> str:
        self._workers.remove(worker)
        self._tell()
        worker.stop(kill=True)
        return worker.wait(0.0)

    def _start_worker(self) -> None:
        try:
            worker = _Worker(self._function, self._context, self._threads, self._inbox)
        except OSError as error:
            raise RunError(f"cannot start a worker ({error.strerror}); free memory or use fewer workers") from None
        self._workers.append(worker)
        self._tell()


class _Worker:
    """One worker process as the driver sees it; a thread moves its messages into the inbox."""

    def __init__(self, function: str, context: dict[str, Any], threads: int, inbox: Inbox) -> None:
        self.ready = False
        self.task: int | None = None
        self.attempt = 0
        self._payload: Payload | None = None
        self._since = time.time()
        self._given = 0.0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOTSTRAP, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(threads),
            **_own_group(),
        )
        self._listener = threading.Thread(target=self._listen, args=(inbox,), daemon=True)
        self._listener.start()
        self._send((function, context))

    def give(self, index: int, payload: Payload, attempt: int) -> None:
        """Hand over one payload."""
        self.task, self.attempt = index, attempt
        self._payload, self._since, self._given = payload, time.time(), time.monotonic()
        self._send((index, payload))

    def rest(self) -> None:
        """Its payload is done."""
        self.task, self._payload, self._since = None, None, time.time()

    def seconds_at_work(self) -> float:
        """How long it has had its payload."""
        return time.monotonic() - self._given

    def state(self) -> WorkerState:
        return WorkerState(self._process.pid, self.ready, self._payload, self.attempt, self._since)

    def has_ended(self) -> bool:
        """Whether the process is gone, for whatever reason."""
        return self._process.poll() is not None

    def stop(self, kill: bool) -> None:
        """Kill the process, or close its input, which ends it when it is idle."""
        if kill:
            self._process.kill()
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def wait(self, seconds: float) -> str:
        """Collect the process, by force after `seconds` (0: it was killed already); says how it ended."""
        try:
            code = self._process.wait(seconds or None)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._listener.join(1.0)
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _send(self, message: Message) -> None:
        data = pickle.dumps(message)
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):  # a dead worker: the listener reports it
            stdin.write(data)
            stdin.flush()

    def _listen(self, inbox: Inbox) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout, contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                inbox.put((self, pickle.load(stdout)))
        inbox.put((self, ("dead",)))


def _environment(threads: int) -> dict[str, str]:
    """The driver's environment with its import path and the worker's number of threads."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def _own_group() -> dict[str, Any]:
    """Popen arguments that keep the terminal's Ctrl-C away from a worker."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"process_group": 0}
