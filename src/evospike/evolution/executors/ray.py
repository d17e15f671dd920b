"""Evaluations in workers of a Ray cluster (the extra `ray`): one that is running, or one of this machine alone.

Workers are actors, each a process with its own number of threads. The context lies in the object store once, and the
workers of a machine read its arrays in place. Ray's own retries are off: a worker that dies, with or without its
machine, is replaced, and the payload it held is tried again as it was, after all that were never tried; the last time
alone, since memory that ran out among many may suffice for one. So is one that says that memory ran out. A worker that
waited shows that it is alive before it gets a payload, since machines are lost between generations too.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from evospike.core.errors import RunError, SettingsError
from evospike.core.progress import tell
from evospike.evolution.executors.base import Outcome, Payload
from evospike.evolution.executors.local import THREAD_VARIABLES, WorkerState
from evospike.evolution.executors.ray_cluster import Cluster
from evospike.evolution.executors.ray_worker import RayWorker, Started
from evospike.evolution.executors.worker import Reply, one_line, outcome_of

_POLL_S = 0.1
_MOST_FAILED_STARTS = 3
_PAUSE_S = 60.0
"""How long no worker is started after so many failed starts in a row, while there are others that work."""

_PATIENCE_S = 60.0
"""How long no worker may have started before the person at the terminal is told what they wait for."""

_JUST_NOW_S = 2.0
"""How old a sign of life may be when a payload is handed over."""

_CAUSES = {
    "OutOfMemoryError": "its machine ran out of memory",
    "NodeDiedError": "its machine was lost",
    "ActorDiedError": "its process ended",
    "ActorUnavailableError": "it cannot be reached",
    "WorkerCrashedError": "its process ended",
}
"""What Ray's errors mean for a worker."""


class RayExecutor:
    """Runs `function(payload, context)` in workers of a Ray cluster; use it as a context manager.

    workers, threads, function, context, on_change, limit_s: as of `LocalExecutor`. Of the workers, as many run at the
               same time as the cluster has room for; each takes as many of its CPUs as it has threads.
    address:   of a running cluster: 'HOST:PORT', or 'auto' for the one this machine belongs to. Empty: one is started
               on this machine, on loopback, and ended by `close`.
    gpu_share: GPUs that each worker takes: 0.25 lets four workers share one, 0 takes none.
    retries:   how often a payload is tried again whose worker died.
    describe:  'package.module:name' of a function of the context that gives what values depend on in a worker, by name.
    on_worker: told the host of every worker that starts, and what `describe` gave there.
    """

    def __init__(
        self,
        workers: int,
        threads: int,
        function: str,
        context: Mapping[str, Any],
        on_change: Callable[[Sequence[WorkerState]], None] = lambda states: None,
        limit_s: float = 0.0,
        *,
        address: str = "",
        gpu_share: float = 0.0,
        retries: int = 2,
        describe: str = "",
        on_worker: Callable[[str, Mapping[str, str]], None] = lambda host, facts: None,
    ) -> None:
        if workers < 1 or threads < 1 or retries < 0 or gpu_share < 0:
            raise SettingsError(
                f"workers={workers}, threads={threads}, retries={retries}, gpu_share={gpu_share:g}; give 1 or more of "
                "the first two, 0 or more of the others"
            )
        if not all(function.partition(":")):
            raise SettingsError(f"cannot read function '{function}'; expected 'package.module:name'")
        self._count = workers
        self._function = function
        self._context = {**context, "threads": threads}
        self._on_change = on_change
        self._limit_s = limit_s
        self._attempts = 1 + retries
        self._describe = describe
        self._on_worker = on_worker
        self._cluster = Cluster(address, workers * threads, workers * gpu_share)
        self._resources = {"num_cpus": threads, "num_gpus": gpu_share}
        self._variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
        self._stored: Any = None
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self._no_start_before = 0.0

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all workers at once, and the cluster if it was started here."""
        for worker in list(self._workers):
            self._discard(worker)
        self._stored = None
        self._cluster.leave()

    def run(
        self, payloads: Sequence[Payload], check: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield (index, outcome) as they arrive; see `Executor`.

        Raises: RunError when the cluster cannot be reached or its head is lost, or when workers cannot start or cannot
        load the function. Leaving the iterator early ends the workers that are busy.
        """
        queue = _Queue(self._attempts)
        patience = _Patience(self._cluster, self._resources)
        try:
            while queue.grow_to(len(payloads)) or self._busy():
                if check is not None:
                    check()
                if not self._cluster.answers():
                    time.sleep(_POLL_S)
                    continue
                yield from self._end_overdue()
                self._hand_out(payloads, queue)
                worker = self._next_answer()
                if worker is not None:
                    yield from self._take(worker, queue)
                patience.look(self._any_ready())
        finally:
            for worker in self._busy():
                self._discard(worker)

    def _tell(self) -> None:
        self._on_change([worker.state() for worker in self._workers])

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _hand_out(self, payloads: Sequence[Payload], queue: _Queue) -> None:
        """Start workers that are missing and give work to every free one, unless one is to be at work alone."""
        if any(worker.attempt == self._attempts > 1 for worker in self._busy()):
            return
        wanted = min(self._count, len(self._busy()) + queue.side_by_side()) or 1
        while len(self._workers) < wanted and self._may_start():
            self._start_worker()
        for worker in [worker for worker in self._workers if worker.ready and worker.answer is None]:
            if not queue.has_next(alone=not self._busy()):
                break
            if worker.is_alive():
                index = queue.next()
                worker.give(index, payloads[index], queue.attempts[index])
                self._tell()
            else:
                worker.ask()
        for worker in self._workers:
            worker.lapse()

    def _may_start(self) -> bool:
        return time.monotonic() >= self._no_start_before or not self._any_ready()

    def _any_ready(self) -> bool:
        return any(worker.ready for worker in self._workers)

    def _next_answer(self) -> _Worker | None:
        """A worker that has answered or died; None when there was none for a moment."""
        asked = {worker.answer: worker for worker in self._workers if worker.answer is not None}
        if not asked:
            return None
        answered, _ = self._cluster.ray.wait(list(asked), timeout=_POLL_S)
        return asked[answered[0]] if answered else None

    def _take(self, worker: _Worker, queue: _Queue) -> Iterator[tuple[int, Outcome]]:
        """Act on an answer; the outcome it settles, if any."""
        ray = self._cluster.ray
        try:
            answer = ray.get(worker.answer)
        except ray.exceptions.RayError as error:
            if self._cluster.answers(now=True):  # otherwise that is what was lost
                yield from self._bury(worker, error, queue)
            return
        if worker.task is not None:
            yield from self._settle(worker, worker.task, answer, queue)
        elif worker.ready:
            worker.shown()
        else:
            self._welcome(worker, answer)

    def _welcome(self, worker: _Worker, started: Started) -> None:
        if started.error is not None:
            raise RunError(
                f"workers on '{started.host}' cannot load '{self._function}' ({started.error}); install the same "
                "evospike on every machine of the cluster"
            )
        worker.begin(started)
        self._failed_starts, self._no_start_before = 0, 0.0
        self._on_worker(started.host, started.facts)
        self._tell()

    def _settle(self, worker: _Worker, task: int, reply: Reply, queue: _Queue) -> Iterator[tuple[int, Outcome]]:
        """The outcome of a reply; none where memory ran out and the payload waits again."""
        worker.rest()
        self._tell()
        if not (reply.exhausted and queue.again(task)):
            yield task, outcome_of(reply, worker.attempt)

    def _bury(self, worker: _Worker, error: Exception, queue: _Queue) -> Iterator[tuple[int, Outcome]]:
        """Remove a dead worker; its payload waits again, or is given up."""
        how = self._how(worker, error)
        self._discard(worker)
        if not worker.ready:
            self._count_failed_start(worker, how)
        if worker.task is not None and not queue.again(worker.task):
            yield worker.task, Outcome.given_up("worker died", how, worker.attempt)

    def _count_failed_start(self, worker: _Worker, how: str) -> None:
        """Give up when starts fail one after the other, or, while other workers are ready, pause.

        Starts that were under way together count as one: a machine that is lost takes them all.
        """
        if worker.failed_before < self._failed_starts:
            return
        self._failed_starts += 1
        if self._failed_starts < _MOST_FAILED_STARTS:
            return
        if not self._any_ready():
            raise RunError(f"workers end before they are ready ({how}); see the logs of Ray, or use fewer workers")
        if self._failed_starts == _MOST_FAILED_STARTS:
            tell(f"some workers end before they are ready ({how}); the others go on")
        self._no_start_before = time.monotonic() + _PAUSE_S

    def _how(self, worker: _Worker, error: Exception) -> str:
        """What became of a worker, in words."""
        name = type(error).__name__
        if worker.node and not self._cluster.has(worker.node):
            name = "NodeDiedError"
        return f"{name}: {_CAUSES[name]}" if name in _CAUSES else one_line(error)

    def _end_overdue(self) -> Iterator[tuple[int, Outcome]]:
        """End the workers whose payloads take too long, and give these up."""
        for worker in self._busy() if self._limit_s else ():
            if worker.task is not None and worker.seconds_at_work() > self._limit_s:
                self._discard(worker)
                yield worker.task, Outcome.overdue(self._limit_s, worker.attempt)

    def _discard(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._tell()
        worker.kill()

    def _start_worker(self) -> None:
        ray = self._cluster.join()
        if self._stored is None:
            try:
                self._stored = ray.put(self._context)
            except ray.exceptions.RayError as error:
                raise RunError(
                    f"the object store of Ray cannot hold the data ({one_line(error)}); enlarge it"
                ) from None
        options = {
            **self._resources,
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": {**self._cluster.variables, **self._variables}},
        }
        actor = ray.remote(RayWorker).options(**options).remote(self._function, self._stored, self._describe)
        self._workers.append(_Worker(ray, actor, self._failed_starts))
        self._tell()


class _Worker:
    """One worker as the driver sees it.

    failed_before: starts that had failed in a row when this one began. answer: what it is awaited with; None while it
    waits for a payload.
    """

    def __init__(self, ray: Any, actor: Any, failed_before: int) -> None:
        self._ray, self._actor, self.failed_before = ray, actor, failed_before
        self.answer: Any = actor.start.remote()
        self.ready = False
        self.node = ""
        self.task: int | None = None
        self.attempt = 0
        self._pid = 0
        self._payload: Payload | None = None
        self._since = time.time()
        self._given = self._asked = 0.0
        self._alive_at = -math.inf

    def begin(self, started: Started) -> None:
        """It has started."""
        self.ready, self.node, self._pid = True, started.node, started.pid
        self.rest()

    def give(self, index: int, payload: Payload, attempt: int) -> None:
        """Hand over one payload."""
        self.task, self.attempt = index, attempt
        self._payload, self._since, self._given = payload, time.time(), time.monotonic()
        self.answer = self._actor.work.remote(payload)

    def ask(self) -> None:
        """Ask for a sign that it is alive."""
        self.answer, self._asked = self._actor.sign.remote(), time.monotonic()

    def shown(self) -> None:
        """It has given that sign."""
        self.answer, self._alive_at = None, self._asked

    def is_alive(self) -> bool:
        """Whether it was, just now."""
        return time.monotonic() - self._alive_at < _JUST_NOW_S

    def lapse(self) -> None:
        """What it has shown so far counts no more."""
        self._alive_at = -math.inf

    def rest(self) -> None:
        """Its payload is done."""
        self.answer, self.task, self._payload, self._since = None, None, None, time.time()
        self._alive_at = time.monotonic()

    def seconds_at_work(self) -> float:
        """How long it has had its payload."""
        return time.monotonic() - self._given

    def state(self) -> WorkerState:
        return WorkerState(self._pid, self.ready, self._payload, self.attempt, self._since)

    def kill(self) -> None:
        """End its process, or take back the request for one."""
        with contextlib.suppress(self._ray.exceptions.RayError):  # the cluster may be gone
            self._ray.kill(self._actor)


class _Queue:
    """Payloads that wait for a worker. attempts: how often each was started."""

    def __init__(self, most_attempts: int) -> None:
        self.attempts: list[int] = []
        self._most = most_attempts
        self._waiting: deque[int] = deque()
        self._alone: deque[int] = deque()

    def grow_to(self, count: int) -> bool:
        """Let all payloads below `count` wait that never did, unless one needs to run alone; whether any waits."""
        if not self._alone:
            self._waiting.extend(range(len(self.attempts), count))
            self.attempts += [0] * (count - len(self.attempts))
        return bool(self._waiting or self._alone)

    def side_by_side(self) -> int:
        """How many payloads may start now, whatever else is at work."""
        return len(self._waiting)

    def has_next(self, alone: bool) -> bool:
        """Whether a payload may start now. alone: whether nothing else is at work."""
        return bool(self._waiting or (self._alone and alone))

    def next(self) -> int:
        """That payload; it counts as started."""
        index = (self._waiting or self._alone).popleft()
        self.attempts[index] += 1
        return index

    def again(self, index: int) -> bool:
        """Let a payload wait once more; False when it was started often enough."""
        left = self._most - self.attempts[index]
        if left > 0:
            (self._alone if left == 1 else self._waiting).append(index)
        return left > 0


class _Patience:
    """Says what the workers wait for when none of them starts."""

    def __init__(self, cluster: Cluster, resources: Mapping[str, float]) -> None:
        self._cluster, self._resources = cluster, resources
        self._until = time.monotonic() + _PATIENCE_S

    def look(self, started: bool) -> None:
        """started: whether there is a worker that has."""
        if started:
            self._until = time.monotonic() + _PATIENCE_S
        elif time.monotonic() > self._until:
            self._until = math.inf
            tell(
                f"no worker has started yet; each needs {self._resources['num_cpus']} CPUs and "
                f"{self._resources['num_gpus']:g} GPUs of one machine, the cluster has {self._cluster.free()} free"
            )
