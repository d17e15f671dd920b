"""The ledger: what a run asks for is taken from its record, or evaluated and recorded.

A run keeps no state of its own. It asks from the beginning with a fresh strategy; the ledger answers from the store
as far as that reaches and refuses a record that another run made. So a run that was killed at any moment continues
as if it had not been.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evospike.core.errors import RunError, StoreError
from evospike.core.settings import differences
from evospike.evolution.evaluate import Arrival, Evaluate
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store

STUDY, WINNER = "study", "winner"
"""Names of the facts that a run records: what defines it, and what it chose."""


@dataclass(frozen=True)
class Event:
    """Something to show: `generation` (its scores are in), `score` (one arrived), `finalists` (begin),
    `winner`.

    done, total: scores in the current batch. replayed: all of it came from the record.
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

    evaluate:  takes requests and yields (request, score, attempts), or lists of them, in any order, each request once.
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

    def score_finalists(self, generation: int, genotypes: Sequence[Genotype], draws: int) -> list[tuple[Score, ...]]:
        """Scores of each genotype on the draws ("finalist", 0..draws-1), the same for all of them."""
        requests = [
            Request("finalist", generation, place * draws + k, genotype, ("finalist", k))
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
            raise RunError(f"evaluation ended without a score for {still[0]}; it must yield every request once")
        total = len(requests)
        self._on_event(Event(kind, requests[0].generation, total, total, replayed=not missing))
        return tuple(self._scores[request.key][1] for request in requests)

    def _is_recorded(self, request: Request) -> bool:
        known = self._scores.get(request.key)
        if known is not None and known[0] != request:
            raise self._other_run(f"{request} differs from the one recorded")
        return known is not None

    def _evaluate_missing(self, missing: list[Request], total: int) -> None:
        done = total - len(missing)
        arrivals = self._evaluate(missing)
        with contextlib.ExitStack() as stack:
            if hasattr(arrivals, "close"):  # a generator then ends its workers at once, whatever happens here
                stack.callback(arrivals.close)
            for arrived in arrivals:
                for request, score, _ in self._record(arrived if isinstance(arrived, list) else [arrived], missing):
                    done += 1
                    self._on_event(Event("score", request.generation, done, total, request, score))

    def _record(self, arrived: list[Arrival], missing: list[Request]) -> list[Arrival]:
        """Record what arrived together, all or none of it."""
        for request, _, _ in arrived:
            if request not in missing:
                raise RunError(f"evaluation gave a score for {request}, which was not asked for")
        self._store.record_scores(arrived)
        self._scores.update((request.key, (request, score)) for request, score, _ in arrived)
        return arrived

    def _other_run(self, what: str) -> StoreError:
        return StoreError(
            f"{what} in {self._store.path}; the record was made with other settings or other versions "
            f"of evospike, {self._libraries}: go on with those, or start a new run folder"
        )
