"""Search by a population of genomes: ask, evaluate, record, select, and at last choose; replayed by the ledger.

Every candidate is scored on the same draw, because survivors meet candidates of later generations. The best are
scored again on other draws, so that the winner is not the luckiest on that one.
Source: methods reference 4.8.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evospike.core.errors import RunError
from evospike.evolution.evaluate import Evaluate
from evospike.evolution.failures import advice, most_common, stop_when_failing
from evospike.evolution.fitness import term
from evospike.evolution.ledger import Event, Ledger
from evospike.evolution.records import Genotype, Score
from evospike.evolution.settings import MAXIMISED, PopulationSettings
from evospike.evolution.store import Store
from evospike.evolution.strategies.pool import Objectives, fronts
from evospike.evolution.strategies.registry import make_population_strategy
from evospike.evolution.variation import Variation, genotype_of, vector_of

_DRAW = ("search",)
_REMEDY = "try one candidate by itself, narrower bounds or another space, then start a new run folder"


@dataclass(frozen=True)
class Candidate:
    """One scored genome and where it was asked for, or in a steady state, told."""

    generation: int
    index: int
    genotype: Genotype
    score: Score


@dataclass(frozen=True)
class Summary:
    """An objective over the usable survivors of a generation, in its own units; None: none is usable."""

    name: str
    best: float | None
    median: float | None


@dataclass(frozen=True)
class PopulationGeneration:
    """One generation.

    survivors: the population after selection, as indices into `PopulationResult.candidates`, ascending.
    summaries: one per objective.
    """

    number: int
    candidates: tuple[Candidate, ...]
    survivors: tuple[int, ...]
    summaries: tuple[Summary, ...]

    @property
    def genotypes(self) -> tuple[Genotype, ...]:
        """The genotype of every candidate."""
        return tuple(candidate.genotype for candidate in self.candidates)

    @property
    def scores(self) -> tuple[Score, ...]:
        """The score of every candidate."""
        return tuple(candidate.score for candidate in self.candidates)


@dataclass(frozen=True)
class PopulationFinalist:
    """A candidate scored again: its scores by draw, and the mean of the first objective over the usable ones."""

    candidate: Candidate
    scores: tuple[Score, ...]
    mean: float | None

    @property
    def failed_draws(self) -> int:
        """How many of its draws gave no usable score."""
        return sum(not score.ok for score in self.scores)


@dataclass(frozen=True)
class PopulationResult:
    """The outcome of a population search.

    front:     all non-dominated candidates of the whole search, the best in the first objective first.
    finalists: in the order in which the search ranked them; empty when none were asked for.
    winner:    the best finalist, or the best candidate of the search.
    notice:    one line when the search ended early, else empty.
    """

    history: tuple[PopulationGeneration, ...]
    front: tuple[Candidate, ...]
    finalists: tuple[PopulationFinalist, ...]
    winner: Candidate
    notice: str = ""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Everything scored, in the order in which it was asked for, or in a steady state, told."""
        return tuple(candidate for generation in self.history for candidate in generation.candidates)


class PopulationSearch:
    """Searches genomes over a store.

    seed:      root seed of the run; the strategy draws from its own streams.
    variation: draws and changes genomes.
    evaluate:  takes requests and yields (request, score, attempts) in any order, each request once.
    on_event:  told of progress; it cannot change the run.
    facts:     what else defines the run (plain JSON values, lists instead of tuples); a record of other facts is
               refused.
    Raises: MissingExtra without pymoo.
    """

    def __init__(
        self,
        store: Store,
        settings: PopulationSettings,
        seed: int,
        variation: Variation,
        evaluate: Evaluate,
        on_event: Callable[[Event], None] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = settings
        self._names = variation.names
        self._definition = {
            "settings": settings.definition,
            "names": list(variation.names),
            "seed": seed,
            "facts": dict(facts or {}),
        }
        self._ledger = Ledger(store, evaluate, on_event, "pymoo or numpy")
        self._strategy = make_population_strategy(variation, settings, seed)

    def run(self) -> PopulationResult:
        """Replay the record, go on from its end, choose the winner; once per search.

        Raises: RunError when two generations in a row mostly fail or nothing is usable, StoreError when the
        record was written by other settings or versions. Whatever `evaluate` raises passes through.
        """
        self._ledger.open(self._definition)
        history = self._in_steady_state() if self._settings.in_flight else self._by_generations()
        ordered = self._fronts([candidate for generation in history for candidate in generation.candidates])
        if not ordered:
            raise RunError(f"no candidate of {len(history)} generations is usable; {advice(history, _REMEDY)}")
        for front in ordered:
            front.sort(key=lambda one: (self._objectives(one.score), one.generation, one.index))
        last = history[-1].number
        finalists = self._finalists(last, [candidate for front in ordered for candidate in front])
        winner = self._choose(finalists) if finalists else ordered[0][0]
        self._record_winner(last, winner)
        return PopulationResult(tuple(history), tuple(ordered[0]), finalists, winner, self._notice(len(history)))

    def _by_generations(self) -> list[PopulationGeneration]:
        """All generations; an empty one, which ends the search, is recorded but no part of the history."""
        history: list[PopulationGeneration] = []
        for number in range(self._settings.generations):
            candidates = self._score(number)
            if not candidates:
                break
            survivors = self._strategy.tell([self._outcome(candidate.score) for candidate in candidates])
            self._close_generation(candidates, survivors, history)
        return history

    def _in_steady_state(self) -> list[PopulationGeneration]:
        """Selection takes place whenever a candidate is told; generations only count those that were."""
        history: list[PopulationGeneration] = []
        told: list[Candidate] = []
        survivors: tuple[int, ...] = ()
        sizes = self._settings.sizes
        turns = self._ledger.score_in_turn(self._ask_one, sizes, self._settings.in_flight, _DRAW)
        with contextlib.closing(turns):
            for genotype, score in turns:
                told.append(Candidate(len(history), len(told), genotype, score))
                survivors = self._strategy.tell_one(vector_of(genotype), self._outcome(score))
                if len(told) == sizes[len(history)]:
                    self._close_generation(tuple(told), survivors, history)
                    told.clear()
        if told:  # nothing new was found
            self._close_generation(tuple(told), survivors, history)
        return history

    def _ask_one(self) -> Genotype | None:
        vector = self._strategy.ask_one()
        return None if vector is None else genotype_of(self._names, vector)

    def _close_generation(
        self, candidates: tuple[Candidate, ...], survivors: tuple[int, ...], history: list[PopulationGeneration]
    ) -> None:
        """Add a generation to the history. survivors: numbers among all candidates so far, this generation included."""
        everyone = [*(one for past in history for one in past.candidates), *candidates]
        summaries = self._summaries([everyone[place].score for place in survivors])
        history.append(PopulationGeneration(len(history), candidates, survivors, summaries))
        stop_when_failing(history, _REMEDY)

    def _score(self, number: int) -> tuple[Candidate, ...]:
        genotypes = tuple(genotype_of(self._names, vector) for vector in self._strategy.ask())
        scores = self._ledger.score_generation(number, genotypes, _DRAW)
        pairs = enumerate(zip(genotypes, scores, strict=True))
        return tuple(Candidate(number, index, genotype, score) for index, (genotype, score) in pairs)

    def _notice(self, generations: int) -> str:
        wanted = self._settings.generations
        if generations == wanted:
            return ""
        return (
            f"the search ended after {generations} of {wanted} generations: {self._settings.tries} attempts found "
            "nothing that was not scored before"
        )

    def _outcome(self, score: Score) -> Objectives | None:
        return self._objectives(score) if score.ok else None

    def _objectives(self, score: Score) -> Objectives:
        """All objectives of a usable score, to be minimised."""
        return tuple(_to_minimise(name, term(score, name)) for name in self._settings.objectives)

    def _summaries(self, scores: Sequence[Score]) -> tuple[Summary, ...]:
        usable = [score for score in scores if score.ok]
        return tuple(_summary(name, [term(score, name) for score in usable]) for name in self._settings.objectives)

    def _fronts(self, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
        """Usable candidates front by front, the least crowded of a front first."""
        usable = [candidate for candidate in candidates if candidate.score.ok]
        if not usable:
            return []
        ordered = fronts([self._objectives(candidate.score) for candidate in usable])
        return [[usable[place] for place in front] for front in ordered]

    def _finalists(self, generation: int, ordered: Sequence[Candidate]) -> tuple[PopulationFinalist, ...]:
        """Score the best candidates again, each on the same draws."""
        chosen = ordered[: self._settings.finalists]
        genotypes = [candidate.genotype for candidate in chosen]
        groups = self._ledger.score_finalists(generation, genotypes, self._settings.finalist_seeds)
        return tuple(
            PopulationFinalist(candidate, group, self._mean(group))
            for candidate, group in zip(chosen, groups, strict=True)
        )

    def _mean(self, scores: Sequence[Score]) -> float | None:
        values = [term(score, self._settings.objectives[0]) for score in scores if score.ok]
        return statistics.fmean(values) if values else None

    def _choose(self, finalists: Sequence[PopulationFinalist]) -> Candidate:
        """Fewest failed draws first, then the best mean of the first objective, then order."""
        usable = [(one, one.mean) for one in finalists if one.mean is not None]
        if not usable:
            reason = most_common([score for finalist in finalists for score in finalist.scores])
            raise RunError(
                f"none of {len(finalists)} finalists is usable on other draws (most often: {reason}); {_REMEDY}"
            )
        first = self._settings.objectives[0]
        return min(usable, key=lambda pair: (pair[0].failed_draws, _to_minimise(first, pair[1])))[0].candidate

    def _record_winner(self, generation: int, winner: Candidate) -> None:
        value = {
            "generation": winner.generation,
            "candidate": winner.index,
            "genotype": winner.genotype.to_json(),
        }
        self._ledger.record_winner(generation, value)


def _to_minimise(name: str, value: float) -> float:
    return -value if name in MAXIMISED else value


def _summary(name: str, values: Sequence[float]) -> Summary:
    if not values:
        return Summary(name, None, None)
    best = max(values) if name in MAXIMISED else min(values)
    return Summary(name, best, statistics.median(values))
