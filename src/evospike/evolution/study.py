"""The study: ask, evaluate, record, tell, and at last choose.

A study keeps no state of its own. It replays what the store holds with a fresh strategy and goes on where the
record ends, so that a run that was killed at any moment continues as if it had not been.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from evospike.core.errors import RunError, SettingsError, StoreError
from evospike.core.settings import differences, plain
from evospike.evolution.evaluate import Evaluate
from evospike.evolution.fitness import (
    LOSS_TERMS,
    TermWeights,
    fitness,
    loss_spread,
    ranks,
    term,
    term_weights,
)
from evospike.evolution.records import FAILURES, Genotype, Request, Score
from evospike.evolution.settings import EvolutionSettings
from evospike.evolution.store import Store
from evospike.evolution.strategies.base import Box
from evospike.evolution.strategies.registry import make_strategy

STUDY, WINNER = "study", "winner"
"""Names of the facts that a study records: what defines it, and what it chose."""


@dataclass(frozen=True)
class SearchSpace:
    """Names, bounds and start of what is varied, one entry per dimension (for STE, log10 of a standard
    deviation).
    """

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    start: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.names), len(set(self.names)), len(self.lower), len(self.upper), len(self.start)}
        if len(sizes) != 1 or not self.names:
            raise SettingsError(
                f"search space of {list(self.names)} needs one lower, upper and start per distinct name"
            )
        for name, low, high, start in zip(self.names, self.lower, self.upper, self.start, strict=True):
            if not (low < high and low <= start <= high):
                raise SettingsError(
                    f"search space: '{name}' has lower={low}, start={start}, upper={high}; order them so"
                )

    @classmethod
    def of(cls, names: Sequence[str], settings: EvolutionSettings) -> SearchSpace:
        """The same bounds and start for every name, from the settings."""
        n = len(names)
        return cls(tuple(names), (settings.lower,) * n, (settings.upper,) * n, (settings.start_mean,) * n)


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


@dataclass(frozen=True)
class Generation:
    """One generation: index k of every tuple belongs to candidate k; `fitness` compares within it only."""

    number: int
    genotypes: tuple[Genotype, ...]
    scores: tuple[Score, ...]
    weights: TermWeights
    fitness: tuple[float | None, ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Finalist:
    """A candidate drawn again: its scores by draw, their mean validation loss (None: none is usable)."""

    generation: int
    candidate: int
    genotype: Genotype
    scores: tuple[Score, ...]
    validation_loss: float | None

    @property
    def failed_draws(self) -> int:
        """How many of its draws gave no usable score."""
        return sum(not score.ok for score in self.scores)


@dataclass(frozen=True)
class StudyResult:
    """The outcome of a study; `finalists` are in the order of their candidates' loss, `winner` is one of
    them.
    """

    winner: Finalist
    history: tuple[Generation, ...]
    finalists: tuple[Finalist, ...]

    @property
    def genotype(self) -> Genotype:
        """The genotype to draw from in the long training."""
        return self.winner.genotype


class Study:
    """Evolves genotypes over a store.

    seed:     root seed of the run; the strategy draws from its own stream.
    evaluate: takes requests and yields (request, score, attempts) in any order, each request once.
    on_event: told of progress; it cannot change the run.
    Raises: SettingsError for mode "random", which means that there is nothing to evolve.
    """

    def __init__(
        self,
        store: Store,
        settings: EvolutionSettings,
        seed: int,
        space: SearchSpace,
        evaluate: Evaluate,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        if settings.mode == "random":
            raise SettingsError("mode 'random' evolves nothing; train without a study, or choose mode 'ste'")
        self._store = store
        self._seed = seed
        self._settings = settings
        self._space = space
        self._evaluate = evaluate
        self._on_event = on_event or (lambda event: None)
        box = Box(space.lower, space.upper, space.start)
        self._strategy = make_strategy(settings.strategy, box, settings.population, settings.start_step, seed)

    def run(self) -> StudyResult:
        """Replay the record, go on from its end, choose the winner; once per study.

        Raises: RunError when two generations in a row mostly fail or no finalist is usable, StoreError when
        the record was written by other settings or versions. Whatever `evaluate` raises passes through.
        """
        self._agree_on_study()
        recorded = self._store.generations()
        self._scores = {item.request.key: (item.request, item.score) for item in self._store.scores()}
        history: list[Generation] = []
        for number in range(self._settings.generations):
            history.append(self._generation(number, recorded, history))
            _stop_when_failing(history)
        finalists = self._finalists(history)
        winner = _choose(finalists)
        self._record_winner(winner)
        return StudyResult(winner, tuple(history), finalists)

    def _agree_on_study(self) -> None:
        """Record what defines this study, or refuse a record that was made by another one."""
        mine = {"settings": plain(self._settings), "space": plain(self._space), "seed": self._seed}
        known = self._store.values().get(STUDY)
        if known is None:
            self._store.record_value(STUDY, mine)
        elif known != mine:
            changed = "; ".join(differences(known, mine))
            raise StoreError(
                f"{self._store.path} belongs to another study ({changed}); set these back or start a new run folder"
            )

    def _generation(
        self, number: int, recorded: list[tuple[Genotype, ...]], history: Sequence[Generation]
    ) -> Generation:
        vectors = self._strategy.ask()
        genotypes = tuple(Genotype(self._space.names, vector) for vector in vectors)
        if number >= len(recorded):
            self._store.record_generation(number, genotypes)
        elif recorded[number] != genotypes:
            raise self._other_run(f"generation {number} asks for other genotypes than recorded")
        draw_key = ("generation", number)
        requests = [Request("candidate", number, k, genotype, draw_key) for k, genotype in enumerate(genotypes)]
        scores = self._complete(requests, "generation", may_be_missing=number >= len(recorded) - 1)
        generation = self._rank(number, genotypes, scores, history)
        self._strategy.tell(vectors, generation.ranks)
        return generation

    def _rank(
        self,
        number: int,
        genotypes: tuple[Genotype, ...],
        scores: tuple[Score, ...],
        history: Sequence[Generation],
    ) -> Generation:
        loss_from = self._settings.loss_from
        spread = loss_spread([*(past.scores for past in history), scores], loss_from)
        weights = term_weights(self._settings, number, spread)
        values = tuple(fitness(score, weights, loss_from) for score in scores)
        return Generation(number, genotypes, scores, weights, values, tuple(ranks(values)))

    def _complete(
        self, requests: list[Request], kind: Literal["generation", "finalists"], may_be_missing: bool = True
    ) -> tuple[Score, ...]:
        """Scores of all requests in their order; those not recorded yet are evaluated and recorded."""
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
            for request, score, attempts in arrivals:
                if request not in missing:
                    raise RunError(f"evaluation gave a score for {request}, which was not asked for")
                self._store.record_score(request, score, attempts)
                self._scores[request.key] = (request, score)
                done += 1
                self._on_event(Event("score", request.generation, done, total, request, score))

    def _finalists(self, history: Sequence[Generation]) -> tuple[Finalist, ...]:
        """Draw the candidates of least loss again, each on the same draws.

        They come from the last generation; where none of it is usable, from the last one that has a usable
        candidate.
        Source: methods reference 3.10. Losses, not fitnesses: the terms only guide the search.
        """
        generation = next((past for past in reversed(history) if any(score.ok for score in past.scores)), None)
        if generation is None:
            raise RunError(f"no candidate of {len(history)} generations is usable; {_advice(history)}")
        chosen = self._least_loss(generation)
        draws = self._settings.finalist_seeds
        requests = [
            Request("finalist", generation.number, place * draws + k, generation.genotypes[index], ("finalist", k))
            for place, index in enumerate(chosen)
            for k in range(draws)
        ]
        scores = self._complete(requests, "finalists")
        groups = [scores[place * draws : (place + 1) * draws] for place in range(len(chosen))]
        return tuple(
            Finalist(generation.number, index, generation.genotypes[index], group, _mean_validation_loss(group))
            for index, group in zip(chosen, groups, strict=True)
        )

    def _least_loss(self, generation: Generation) -> list[int]:
        name = LOSS_TERMS[self._settings.loss_from]
        usable = [index for index, score in enumerate(generation.scores) if score.ok]
        usable.sort(key=lambda index: (term(generation.scores[index], name), index))
        return usable[: self._settings.finalists]

    def _record_winner(self, winner: Finalist) -> None:
        value = {
            "generation": winner.generation,
            "candidate": winner.candidate,
            "genotype": winner.genotype.to_json(),
            "validation_loss": winner.validation_loss,
        }
        known = self._store.values().get(WINNER)
        if known is None:
            self._store.record_value(WINNER, value)
        elif known != value:
            raise self._other_run("the winner differs from the one recorded")
        self._on_event(Event("winner", winner.generation, 1, 1, replayed=known is not None))

    def _other_run(self, what: str) -> StoreError:
        return StoreError(
            f"{what} in {self._store.path}; the record was made with other settings or other versions "
            "of evospike, "
            "cmaes or numpy: go on with those, or start a new run folder"
        )


def _choose(finalists: Sequence[Finalist]) -> Finalist:
    """Fewest failed draws first, then least mean validation loss, then order."""
    usable = [finalist for finalist in finalists if finalist.validation_loss is not None]
    if not usable:
        reason = _most_common([score for finalist in finalists for score in finalist.scores])
        raise RunError(f"none of {len(finalists)} finalists is usable on other draws (most often: {reason}); {_REMEDY}")
    return min(usable, key=lambda finalist: (finalist.failed_draws, finalist.validation_loss))


def _mean_validation_loss(scores: Sequence[Score]) -> float | None:
    losses = [term(score, "validation_loss") for score in scores if score.ok]
    return sum(losses) / len(losses) if losses else None


def _stop_when_failing(history: Sequence[Generation]) -> None:
    """Raise RunError when more than half of the candidates failed, twice in a row; silent ones are no
    failures.
    """
    last = history[-2:]
    if len(last) == 2 and all(_mostly_failed(generation.scores) for generation in last):
        numbers = " and ".join(str(generation.number) for generation in last)
        raise RunError(f"more than half of the candidates failed in generations {numbers}; {_advice(last)}")


def _mostly_failed(scores: Sequence[Score]) -> bool:
    return 2 * sum(score.status in FAILURES for score in scores) > len(scores)


_REMEDY = "try one candidate by itself, a lower learning rate or a lower 'upper' bound, then start a new run folder"


def _advice(history: Sequence[Generation]) -> str:
    reason = _most_common([score for generation in history for score in generation.scores])
    return f"most often: {reason}; {_REMEDY}"


def _most_common(scores: Sequence[Score]) -> str:
    """The most frequent status and reason among unusable scores, errors before silent ones on a tie."""
    counts = Counter(f"{score.status}: {score.reason}" for score in scores if not score.ok)
    return counts.most_common(1)[0][0] if counts else "unknown"
