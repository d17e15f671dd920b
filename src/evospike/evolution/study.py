"""The study: ask, evaluate, record, tell, and at last choose; the ledger replays it from its record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evospike.core.errors import RunError, SettingsError
from evospike.core.settings import plain
from evospike.evolution.evaluate import Evaluate
from evospike.evolution.failures import advice, most_common, stop_when_failing
from evospike.evolution.fitness import LOSS_TERMS, TermWeights, judge, term
from evospike.evolution.ledger import WINNER as WINNER
from evospike.evolution.ledger import Event as Event
from evospike.evolution.ledger import Ledger
from evospike.evolution.records import Genotype, Score
from evospike.evolution.settings import EvolutionSettings
from evospike.evolution.store import Store
from evospike.evolution.strategies.base import Box
from evospike.evolution.strategies.registry import make_strategy

_STEADY_DRAW = ("steady state",)
_REMEDY = "try one candidate by itself, a lower learning rate or a lower 'upper' bound, then start a new run folder"


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
class Generation:
    """One generation: index k of every tuple belongs to candidate k; `fitness` compares within it only.

    In a steady state, candidates are numbered as they were told.
    """

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
        self._seed = seed
        self._settings = settings
        self._space = space
        self._ledger = Ledger(store, evaluate, on_event, "cmaes or numpy")
        box = Box(space.lower, space.upper, space.start)
        self._strategy = make_strategy(settings.strategy, box, settings.population, settings.start_step, seed)

    def run(self) -> StudyResult:
        """Replay the record, go on from its end, choose the winner; once per study.

        Raises: RunError when two generations in a row mostly fail or no finalist is usable, StoreError when
        the record was written by other settings or versions. Whatever `evaluate` raises passes through.
        """
        self._ledger.open({"settings": self._settings.definition, "space": plain(self._space), "seed": self._seed})
        history = self._in_steady_state() if self._settings.in_flight else self._by_generations()
        finalists = self._finalists(history)
        winner = _choose(finalists)
        self._record_winner(winner)
        return StudyResult(winner, tuple(history), finalists)

    def _by_generations(self) -> list[Generation]:
        history: list[Generation] = []
        for number in range(self._settings.generations):
            genotypes = tuple(Genotype(self._space.names, vector) for vector in self._strategy.ask())
            scores = self._ledger.score_generation(number, genotypes, ("generation", number))
            self._close_generation(genotypes, scores, history)
        return history

    def _in_steady_state(self) -> list[Generation]:
        """As many as a population are told together, as a generation, whenever they were asked for.

        All meet the same draw, since those that are told together may have been asked for at different times.
        """
        history: list[Generation] = []
        told: list[tuple[Genotype, Score]] = []
        settings = self._settings
        turns = self._ledger.score_in_turn(self._ask_one, settings.sizes, settings.in_flight, _STEADY_DRAW)
        with contextlib.closing(turns):
            for turn in turns:
                told.append(turn)
                if len(told) == settings.population:
                    genotypes, scores = zip(*told, strict=True)
                    self._close_generation(genotypes, scores, history)
                    told.clear()
        return history

    def _ask_one(self) -> Genotype:
        return Genotype(self._space.names, self._strategy.ask_one())

    def _close_generation(
        self, genotypes: tuple[Genotype, ...], scores: tuple[Score, ...], history: list[Generation]
    ) -> None:
        """Rank a generation, tell the strategy and add it to the history."""
        judged = judge(self._settings, [*(past.scores for past in history), scores])
        generation = Generation(len(history), genotypes, scores, judged.weights, judged.fitnesses, judged.ranks)
        self._strategy.tell([genotype.values for genotype in genotypes], generation.ranks)
        history.append(generation)
        stop_when_failing(history, _REMEDY)

    def _finalists(self, history: Sequence[Generation]) -> tuple[Finalist, ...]:
        """Draw the candidates of least loss again, each on the same draws.

        They come from the last generation; where none of it is usable, from the last one that has a usable
        candidate.
        Source: methods reference 3.10. Losses, not fitnesses: the terms only guide the search.
        """
        generation = next((past for past in reversed(history) if any(score.ok for score in past.scores)), None)
        if generation is None:
            raise RunError(f"no candidate of {len(history)} generations is usable; {advice(history, _REMEDY)}")
        chosen = self._least_loss(generation)
        genotypes = [generation.genotypes[index] for index in chosen]
        groups = self._ledger.score_finalists(generation.number, genotypes, self._settings.finalist_seeds)
        return tuple(
            Finalist(generation.number, index, genotype, group, _mean_validation_loss(group))
            for index, genotype, group in zip(chosen, genotypes, groups, strict=True)
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
        self._ledger.record_winner(winner.generation, value)


def _choose(finalists: Sequence[Finalist]) -> Finalist:
    """Fewest failed draws first, then least mean validation loss, then order."""
    usable = [finalist for finalist in finalists if finalist.validation_loss is not None]
    if not usable:
        reason = most_common([score for finalist in finalists for score in finalist.scores])
        raise RunError(f"none of {len(finalists)} finalists is usable on other draws (most often: {reason}); {_REMEDY}")
    return min(usable, key=lambda finalist: (finalist.failed_draws, finalist.validation_loss))


def _mean_validation_loss(scores: Sequence[Score]) -> float | None:
    losses = [term(score, "validation_loss") for score in scores if score.ok]
    return sum(losses) / len(losses) if losses else None
