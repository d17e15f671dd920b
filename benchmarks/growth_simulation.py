"""A search on many workers as a simulation of events: one driver, which does one thing at a time, and workers that wait
for it or for each other.

The driver asks for candidates, hands them out, takes answers back, records them and tells the strategy, each at a given
cost; it does so in the order in which `Ledger` and the executors do. A worker rests from its answer until the driver
hands it the next candidate.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

Seconds = Callable[[int, int], float]
"""How long a candidate takes on a worker; both are numbered from 0."""


@dataclass
class Costs:
    """Seconds that the driver spends on one candidate, by what for; or on all of them.

    hand: half of it when the candidate is handed out, half when its answer is taken.
    """

    ask: float = 0.0
    tell: float = 0.0
    record: float = 0.0
    hand: float = 0.0

    @property
    def total(self) -> float:
        """Seconds for all of it."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Course:
    """How a search went.

    seconds: from its begin until the last candidate was told. told: when each candidate was. driver: seconds that the
    driver was at work, by what for. working, waiting, barrier: shares of the workers' time: at work; waiting for the
    driver; having nothing to do after the last candidate of a generation, or of the search, was handed out and until
    the slowest is done.
    """

    seconds: float
    told: list[float]
    working: float
    waiting: float
    barrier: float
    driver: Costs

    @property
    def throughput(self) -> float:
        """Candidates a second."""
        return len(self.told) / self.seconds

    @property
    def limit(self) -> str:
        """What most of the workers' time is lost to: `driver`, `record` (the dearest work of such a driver), `slowest`;
        `workers` where less than a tenth is lost.
        """
        if self.working >= 0.9:
            return "workers"
        if self.barrier > self.waiting:
            return "slowest"
        return "record" if self.driver.record > self.driver.total / 2 else "driver"


def by_generations(candidates: int, population: int, workers: int, seconds: Seconds, costs: Costs) -> Course:
    """Candidates in generations of `population`; the next is asked for when all of the last are told."""
    run = _Run(workers, seconds, costs)
    while (left := candidates - run.asked) > 0:
        run.ask(min(population, left))
        run.hand_out()
        while run.at_work:
            run.take()
            run.hand_out()
        run.tell(min(population, left))
    return run.course()


def in_steady_state(candidates: int, in_flight: int, workers: int, seconds: Seconds, costs: Costs) -> Course:
    """`in_flight` candidates are asked for and not told yet; whenever one is told, the next is asked for."""
    run = _Run(workers, seconds, costs)
    run.ask(min(in_flight, candidates))
    run.hand_out()
    while run.at_work:
        run.take()
        run.tell(1)
        run.ask(min(1, candidates - run.asked))
        run.hand_out()
    return run.course()


class _Run:
    """The driver's clock, what waits for a worker, and which worker rests since when."""

    def __init__(self, workers: int, seconds: Seconds, costs: Costs) -> None:
        self.asked = 0
        self.at_work: list[tuple[float, int]] = []  # a heap of (end, worker)
        self._seconds, self._costs, self._spent = seconds, costs, Costs()
        self._now = self._worked = self._idle = 0.0
        self._waiting: deque[int] = deque()
        self._resting = deque(range(workers))
        self._since = [0.0] * workers
        self._handed = 0.0  # when the last candidate was handed out
        self._told: list[float] = []

    def ask(self, count: int) -> None:
        self._waiting.extend(range(self.asked, self.asked + count))
        self.asked += count
        self._work("ask", count)

    def hand_out(self) -> None:
        """Hand waiting candidates to resting workers, those that rest longest first."""
        while self._waiting and self._resting:
            worker, candidate = self._resting.popleft(), self._waiting.popleft()
            self._work("hand", 0.5)
            self._handed = self._now
            duration = self._seconds(candidate, worker)
            self._worked += duration
            heapq.heappush(self.at_work, (self._now + duration, worker))

    def take(self) -> None:
        """Wait for the next answer, take it and record it."""
        end, worker = heapq.heappop(self.at_work)
        self._now, self._since[worker] = max(self._now, end), end
        self._resting.append(worker)
        if not self.at_work and not self._waiting:
            self._idle += sum(end - max(since, self._handed) for since in self._since)
        self._work("hand", 0.5)
        self._work("record", 1)

    def tell(self, count: int) -> None:
        self._work("tell", count)
        self._told += [self._now] * count

    def course(self) -> Course:
        whole = self._now * len(self._since) or math.inf
        working, barrier = self._worked / whole, self._idle / whole
        return Course(self._now, self._told, working, 1 - working - barrier, barrier, self._spent)

    def _work(self, what: str, count: float) -> None:
        seconds = count * getattr(self._costs, what)
        setattr(self._spent, what, getattr(self._spent, what) + seconds)
        self._now += seconds


def stretched(durations: Sequence[float], slow_workers: float = 1.0, stragglers: float = 1.0) -> Seconds:
    """Durations of candidates on workers.

    slow_workers: how many times longer every second worker takes. stragglers: how many times longer every hundredth
    candidate takes.
    """

    def seconds(candidate: int, worker: int) -> float:
        duration = durations[candidate % len(durations)]
        return duration * (slow_workers if worker % 2 else 1.0) * (stragglers if candidate % 100 == 99 else 1.0)

    return seconds
