"""The ledger: what a run asks for is taken from its record, or evaluated and recorded.

A run keeps no state of its own. It asks from the beginning with a fresh strategy; the ledger answers from the store
as far as that reaches and refuses a record that another run made. So a run that was killed at any moment continues
as if it had not been.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evospike.core.errors import RunError, StoreError
from evospike.core.settings import differences
from evospike.core.text import shown
from evospike.evolution.evaluate import Arrival, Evaluate
from evospike.evolution.records import Genotype, Request, Score, finalist_index
from evospike.evolution.store import Store

STUDY, WINNER = "study", "winner"
"""Names of the facts that a run records: what defines it, and what it chose."""


@dataclass(frozen=True)
class Event:
    """Something to show: `generation` (its scores are in), `score` (one arrived), `finalists` (begin),
    `winner`.

    done, total: scores in the current batch. replayed: all of it came from the record; of a generation in a steady
    state, all until then.
    """

    kind: Literal["generation", "score", "finalists", "winner"]
    generation: int
    done: int
    total: int
    request: Request | None = None
    score: Score | None = None
    replayed: bool = False


class Ledger:
    """Answers one run from its store and its evaluation; call `open` first.

    evaluate:  takes requests and yields (request, score, attempts), or lists of them, in any order, each request once;
               in a steady state it finds further requests at the end of what it was given.
    on_event:  told of progress; it cannot change the run.
    libraries: what else than evospike decides what is asked for, for the message that refuses a record.
    """

    def __init__(
        self, store: Store, evaluate: Evaluate, on_event: Callable[[Event], None] | None, libraries: str
    ) -> None:
        self._store = store
        self._evaluate = evaluate
        self._on_event = on_event or (lambda event: None)
        self._libraries = libraries
        self._recorded: list[tuple[Genotype, ...]] = []
        self._scores: dict[str, tuple[Request, Score]] = {}

    def open(self, definition: Mapping[str, Any]) -> None:
        """Record what defines this run (plain JSON values), or refuse a record that another one made.

        Raises: StoreError naming what differs.
        """
        known = self._store.values().get(STUDY)
        if known is None:
            self._store.record_value(STUDY, definition)
        elif not isinstance(known, Mapping):
            raise StoreError(
                f"what defines the study in {self._store.path} is {shown(known)}; the file was altered, start a new run"
            )
        elif known != definition:
            changed = "; ".join(differences(known, definition))
            raise StoreError(
                f"{self._store.path} belongs to another study ({changed}); set these back or start a new run folder"
            )
        self._recorded = self._store.generations()
        self._scores = {item.request.key: (item.request, item.score) for item in self._store.scores()}

    def score_generation(
        self, number: int, genotypes: tuple[Genotype, ...], draw_key: tuple[str | int, ...]
    ) -> tuple[Score, ...]:
        """Scores of generation `number` in the order of its genotypes; generations are asked for in order.

        draw_key: see `Request`; all candidates of the generation share it.
        Raises: StoreError when the record holds other genotypes or lacks a score that it must hold.
        """
        if number >= len(self._recorded):
            self._store.record_generation(number, genotypes)
        elif self._recorded[number] != genotypes:
            raise self._other_run(f"generation {number} asks for other genotypes than recorded")
        requests = [Request("candidate", number, k, genotype, draw_key) for k, genotype in enumerate(genotypes)]
        return self._complete(requests, "generation", may_be_missing=number >= len(self._recorded) - 1)

    def score_in_turn(
        self,
        ask: Callable[[], Genotype | None],
        sizes: Sequence[int],
        in_flight: int,
        draw_key: tuple[str | int, ...],
    ) -> Generator[tuple[Genotype, Score]]:
        """The candidates of a steady-state evolution, in the order in which they are to be told; close it when done.

        At most `in_flight` candidates are asked for and not told yet. Scores are told as they arrive, and that order is
        recorded; an order that is recorded already is followed, whatever arrives first. So all that is asked for
        follows from the record.
        ask:   the next genotype, given all that was told; None: there is none, unless more is told.
        sizes: of generations, in which candidates are counted, as they are asked for and as they are told.
        Raises: StoreError when the record holds other genotypes, or tells what was not asked for.
        """
        order, flight, wanted, new = self._store.told(), _Flight(), list[Request](), set[str]()
        asking, arrivals = _Asking(ask, sizes, draw_key), self._evaluate(wanted)
        with contextlib.ExitStack() as stack:
            if hasattr(arrivals, "close"):
                stack.callback(arrivals.close)
            for turn, (number, place) in enumerate(_places(sizes)):
                while len(flight.open) < in_flight and (request := asking.next()) is not None:
                    flight.open[request.key] = request
                    if self._is_recorded(request):
                        flight.ready.add(request.key)
                    else:
                        wanted.append(request)
                        new.add(request.key)
                if not flight.open:
                    return
                request = flight.take(self._next_told(turn, order, flight, arrivals))
                score, size = self._scores[request.key][1], sizes[number]
                self._on_event(Event("score", number, place + 1, size, request, score, request.key not in new))
                if place + 1 == size:
                    self._on_event(Event("generation", number, size, size, replayed=not new))
                yield request.genotype, score

    def score_finalists(self, generation: int, genotypes: Sequence[Genotype], draws: int) -> list[tuple[Score, ...]]:
        """Scores of each genotype on the draws ("finalist", 0..draws-1), the same for all of them."""
        requests = [
            Request("finalist", generation, finalist_index(place, k, draws), genotype, ("finalist", k))
            for place, genotype in enumerate(genotypes)
            for k in range(draws)
        ]
        scores = self._complete(requests, "finalists")
        return [scores[place * draws : (place + 1) * draws] for place in range(len(genotypes))]

    def record_winner(self, generation: int, winner: Mapping[str, Any]) -> None:
        """Record what was chosen (plain JSON values), or refuse a record that chose differently."""
        known = self._store.values().get(WINNER)
        if known is None:
            self._store.record_value(WINNER, winner)
        elif known != winner:
            raise self._other_run("the winner differs from the one recorded")
        self._on_event(Event("winner", generation, 1, 1, replayed=known is not None))

    def _complete(
        self, requests: list[Request], kind: Literal["generation", "finalists"], may_be_missing: bool = True
    ) -> tuple[Score, ...]:
        """Scores of all requests in their order; those not recorded yet are evaluated and recorded."""
        if not requests:
            return ()
        missing = [request for request in requests if not self._is_recorded(request)]
        if missing and not may_be_missing:
            raise StoreError(
                f"{self._store.path} lacks the score of {missing[0]}; the file was altered, start a new run"
            )
        if missing:
            self._evaluate_missing(missing, len(requests))
        still = [request for request in requests if request.key not in self._scores]
        if still:
            raise _no_score(still[0])
        total = len(requests)
        self._on_event(Event(kind, requests[0].generation, total, total, replayed=not missing))
        return tuple(self._scores[request.key][1] for request in requests)

    def _next_told(
        self,
        turn: int,
        order: Sequence[str],
        flight: _Flight,
        arrivals: Iterator[Arrival | list[Arrival]],
    ) -> str:
        """Key of the candidate to be told now: the recorded one, else one whose score was never told, else the next to
        arrive.
        """
        if turn < len(order):
            key = order[turn]
            if key not in flight.open:
                raise self._other_run(f"turn {turn} tells a candidate that was not asked for")
            while key not in flight.ready:
                self._receive(flight, arrivals)
            return key
        if flight.ready:
            untold = next(key for key in flight.open if key in flight.ready)
            self._store.record_told(turn, untold)
            return untold
        return self._receive(flight, arrivals, turn)

    def _receive(self, flight: _Flight, arrivals: Iterator[Arrival | list[Arrival]], told_at: int | None = None) -> str:
        """Record what arrives next, told or not; the key of the first of it."""
        arrived = next(arrivals, None)
        if arrived is None:
            raise _no_score(next(iter(flight.open.values())))
        recorded = self._record(_as_list(arrived), flight.open, told_at)
        flight.ready.update(request.key for request, _, _ in recorded)
        return recorded[0][0].key

    def _is_recorded(self, request: Request) -> bool:
        known = self._scores.get(request.key)
        if known is not None and known[0] != request:
            raise self._other_run(f"{request} differs from the one recorded")
        return known is not None

    def _evaluate_missing(self, missing: list[Request], total: int) -> None:
        done, wanted = total - len(missing), {request.key: request for request in missing}
        arrivals = self._evaluate(missing)
        with contextlib.ExitStack() as stack:
            if hasattr(arrivals, "close"):  # a generator then ends its workers at once, whatever happens here
                stack.callback(arrivals.close)
            for arrived in arrivals:
                for request, score, _ in self._record(_as_list(arrived), wanted):
                    done += 1
                    self._on_event(Event("score", request.generation, done, total, request, score))

    def _record(
        self, arrived: list[Arrival], wanted: Mapping[str, Request], told_at: int | None = None
    ) -> list[Arrival]:
        """Record what arrived together, all or none of it. told_at: the turn at which the first of it is told."""
        for request, _, _ in arrived:
            if wanted.get(request.key) != request:
                raise RunError(f"evaluation gave a score for {request}, which was not asked for")
        if told_at is None:
            self._store.record_scores(arrived)
        else:
            self._store.record_told(told_at, arrived[0][0].key, arrived)
        self._scores.update((request.key, (request, score)) for request, score, _ in arrived)
        return arrived

    def _other_run(self, what: str) -> StoreError:
        return StoreError(
            f"{what} in {self._store.path}; the record was made with other settings or other versions "
            f"of evospike, {self._libraries}: go on with those, or start a new run folder"
        )


class _Flight:
    """What is asked for and not told yet.

    open: requests by key, in that order. ready: keys of those that are scored.
    """

    def __init__(self) -> None:
        self.open: dict[str, Request] = {}
        self.ready: set[str] = set()

    def take(self, key: str) -> Request:
        """The request that is told now."""
        self.ready.discard(key)
        return self.open.pop(key)


class _Asking:
    """Asks for the candidates of a steady-state evolution, one at a time."""

    def __init__(
        self, ask: Callable[[], Genotype | None], sizes: Sequence[int], draw_key: tuple[str | int, ...]
    ) -> None:
        self._ask = ask
        self._places = deque(_places(sizes))
        self._draw_key = draw_key

    def next(self) -> Request | None:
        """The next request; None when all are asked for, or there is no genotype."""
        genotype = self._ask() if self._places else None
        return None if genotype is None else Request("candidate", *self._places.popleft(), genotype, self._draw_key)


def _places(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(generation, place in it) of one candidate after the other."""
    return ((number, place) for number, size in enumerate(sizes) for place in range(size))


def _as_list(arrived: Arrival | list[Arrival]) -> list[Arrival]:
    return arrived if isinstance(arrived, list) else [arrived]


def _no_score(request: Request) -> RunError:
    return RunError(f"evaluation ended without a score for {request}; it must yield every request once")
