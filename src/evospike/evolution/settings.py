"""Settings of the evolution of initial values (STE) and of the search by populations of genomes."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal

from evospike.core.limits import MOST_REPEATS
from evospike.core.settings import Settings, plain, require

StrategyName = Literal["cma_es", "random"]
Mode = Literal["random", "loss", "loss+temporal", "loss+entropy", "ste"]
Decay = Literal["exponential", "linear", "inverse"]
LossFrom = Literal["training", "validation"]

SMALLEST_POPULATION = 4

WIDEST = 30
"""Of the search box, in powers of ten."""


@dataclass(frozen=True)
class EvolutionSettings(Settings):
    """How spreads of initial values are evolved before the long training.

    strategy:          what proposes candidates; `random` is the control of equal cost.
    mode:              what is minimised (methods reference 3.9): `loss` alone, with the temporal or the
                       entropy term, or both (`ste`); `random` means no evolution, the caller then makes no
                       study.
    population, generations: candidates per generation, and generations.
    start_mean, start_step, lower, upper: search box and start, in log10 of the standard deviation.
    decay:             how the weights of both terms fall with the generation.
    term_scale:        weight in generation 0 as a multiple of the standard deviation of the loss in that
                       generation.
    temporal_weight, entropy_weight: that weight as a fixed number instead.
    finalists, finalist_seeds: how many of the last candidates are drawn again, and how often.
    proxy_epochs, proxy_samples: length of a candidate's training; 0 samples means all.
    temporal_form, entropy_form, entropy_normalise, entropy_when: how the evaluation measures the two terms.
    loss_from:         which loss enters the fitness.
    spreads:           what is evolved: two spreads for the whole network, or one per stage.
    together:          how many candidates are trained at the same time as one wide network, which computes the same
                       up to rounding; 0: up to 16 on a CUDA device, one on a CPU. A run decides it once, in its plan.
    in_flight:         of a steady-state evolution: how many candidates are asked for and not told yet; whenever one is
                       told, the next is asked for. 0: generation by generation.
    """

    strategy: StrategyName = "cma_es"
    mode: Mode = "ste"
    population: int = 12
    generations: int = 5
    start_mean: float = -1.0
    start_step: float = 0.3
    lower: float = -3.0
    upper: float = 0.5
    decay: Decay = "exponential"
    term_scale: float = 0.1
    temporal_weight: float | None = None
    entropy_weight: float | None = None
    finalists: int = 2
    finalist_seeds: int = 3
    proxy_epochs: int = 2
    proxy_samples: int = 0
    temporal_form: Literal["relative", "absolute", "spikes"] = "relative"
    entropy_form: Literal["scaled", "gap", "ratio"] = "scaled"
    entropy_normalise: Literal["abs", "softmax"] = "abs"
    entropy_when: Literal["after", "before"] = "after"
    loss_from: LossFrom = "training"
    spreads: Literal["global", "stage"] = "global"
    together: int = 0
    in_flight: int = 0

    @property
    def definition(self) -> dict[str, Any]:
        """What of this defines a study, as plain values: all but how its candidates are computed."""
        return _definition(self, without={"together"})

    @property
    def sizes(self) -> tuple[int, ...]:
        """Candidates of each generation."""
        return (self.population,) * self.generations

    @property
    def candidates(self) -> int:
        """How many candidates the evolution scores, finalists not counted."""
        return sum(self.sizes)

    @property
    def scores(self) -> int:
        """How many evaluations an evolution makes, the draws of its finalists included."""
        return self.candidates + self.finalists * self.finalist_seeds

    def validate(self) -> None:
        self._validate_sizes()
        self._validate_box()
        require(self.term_scale >= 0, f"term_scale={self.term_scale} is negative; give 0 or more")
        for name, weight in (("temporal", self.temporal_weight), ("entropy", self.entropy_weight)):
            require(weight is None or weight >= 0, f"{name}_weight={weight} is negative; give 0 or more")

    def _validate_sizes(self) -> None:
        require(
            self.population >= SMALLEST_POPULATION,
            f"population={self.population} is too small to rank; give {SMALLEST_POPULATION} or more",
        )
        for name in ("generations", "finalists", "finalist_seeds", "proxy_epochs"):
            value = getattr(self, name)
            require(value >= 1, f"{name}={value} leaves nothing to do; give 1 or more")
        for name in ("population", "generations", "finalists", "finalist_seeds"):
            value = getattr(self, name)
            require(value <= MOST_REPEATS, f"{name}={value} is more than a record holds; give at most {MOST_REPEATS}")
        require(
            self.finalists <= self.population,
            f"finalists={self.finalists} exceeds population={self.population}; lower finalists",
        )
        require(
            self.together >= 0,
            f"together={self.together} is negative; give 0 to let the run decide, or how many candidates",
        )
        _validate_in_flight(self.in_flight)
        require(
            self.together <= 1 or not self.in_flight,
            f"together={self.together} trains candidates that are asked for together, in_flight={self.in_flight} asks "
            "for one at a time; set one of them to 0",
        )
        require(
            self.proxy_samples >= 0,
            f"proxy_samples={self.proxy_samples} is negative; give 0 for all samples, or how many",
        )

    def _validate_box(self) -> None:
        require(self.lower < self.upper, f"lower={self.lower} is not below upper={self.upper}; swap or widen them")
        require(
            self.lower <= self.start_mean <= self.upper,
            f"start_mean={self.start_mean} lies outside the box [{self.lower}, {self.upper}]; move one of them",
        )
        for name in ("lower", "upper"):
            value = getattr(self, name)
            require(abs(value) <= WIDEST, f"{name}={value} is no power of ten to draw from; give -{WIDEST} to {WIDEST}")
        require(self.start_step > 0, f"start_step={self.start_step} does not move; give a positive number")


MAXIMISED = frozenset({"score", "accuracy"})
"""Terms of which more is better; every other term of a population search is minimised."""

MOST_GENERATIONS = 9999  # a record names generations with four digits


@dataclass(frozen=True)
class PopulationSettings(Settings):
    """How a population of genomes is searched (methods reference 4.8).

    strategy:    `nsga2`, or `random`: fresh samples in every generation, the control of equal cost.
    population:  size of the random start and of what survives each generation.
    offspring:   candidates of every later generation.
    generations: generations, the random start included.
    objectives:  names of measured terms; those in `MAXIMISED` are maximised, all others minimised.
    crossover_probability: how often two parents are crossed before their children are mutated.
    finalists, finalist_seeds: how many of the best in the first objective are scored again, and on how many other
                 draws; 0 finalists: the best of the search is the winner.
    tries:       attempts to find a child that was not scored before; a generation whose children all were ends
                 the search.
    in_flight:   of a steady-state search: how many candidates are asked for and not told yet; whenever one is told,
                 selection takes place and the next is asked for. 0: generation by generation.
    """

    strategy: Literal["nsga2", "random"] = "nsga2"
    population: int = 50
    offspring: int = 50
    generations: int = 100
    objectives: tuple[str, ...] = ("score",)
    crossover_probability: float = 0.9
    finalists: int = 4
    finalist_seeds: int = 3
    tries: int = 50
    in_flight: int = 0

    @property
    def definition(self) -> dict[str, Any]:
        """What of this defines a search, as plain values."""
        return _definition(self)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Candidates of each generation; fewer when the search runs out of new ones."""
        return (self.population, *[self.offspring] * (self.generations - 1))

    @property
    def candidates(self) -> int:
        """How many candidates the search scores, finalists not counted; fewer when it runs out of new ones."""
        return sum(self.sizes)

    @property
    def scores(self) -> int:
        """How many evaluations a search makes, the draws of its finalists included; fewer likewise."""
        return self.candidates + self.finalists * self.finalist_seeds

    def validate(self) -> None:
        require(self.population >= 2, f"population={self.population} has no two parents; give 2 or more")
        for name in ("offspring", "generations", "finalist_seeds", "tries"):
            value = getattr(self, name)
            require(value >= 1, f"{name}={value} leaves nothing to do; give 1 or more")
        for name in ("population", "offspring", "finalists", "finalist_seeds", "tries"):
            value = getattr(self, name)
            require(value <= MOST_REPEATS, f"{name}={value} is more than a record holds; give at most {MOST_REPEATS}")
        require(
            self.generations <= MOST_GENERATIONS,
            f"generations={self.generations} is more than a record holds; give at most {MOST_GENERATIONS}",
        )
        _validate_in_flight(self.in_flight)
        require(
            0.0 <= self.crossover_probability <= 1.0,
            f"crossover_probability={self.crossover_probability} is no probability; give a number from 0 to 1",
        )
        require(
            0 <= self.finalists <= self.candidates,
            f"finalists={self.finalists} of {self.candidates} candidates cannot be; give 0 to {self.candidates}",
        )
        self._validate_objectives()

    def _validate_objectives(self) -> None:
        require(bool(self.objectives), "objectives=[] leaves nothing to search for; name a term, as in ['score']")
        require(
            len(set(self.objectives)) == len(self.objectives) and all(self.objectives),
            f"objectives={list(self.objectives)} must be distinct names; name each term once",
        )


def _definition(settings: Settings, without: AbstractSet[str] = frozenset()) -> dict[str, Any]:
    """The settings by name, but those `without`; records of earlier releases know no `in_flight`, which was 0."""
    values = {name: value for name, value in plain(settings).items() if name not in without}
    if not values["in_flight"]:
        del values["in_flight"]
    return values


def _validate_in_flight(count: int) -> None:
    require(
        0 <= count <= MOST_REPEATS,
        f"in_flight={count} cannot be; give 0 to evolve generation by generation, or how many candidates are to be in "
        f"flight, at most {MOST_REPEATS}",
    )
