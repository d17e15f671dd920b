"""Settings of the evolution of initial values (STE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evospike.core.settings import Settings, require

StrategyName = Literal["cma_es", "random"]
Mode = Literal["random", "loss", "loss+temporal", "loss+entropy", "ste"]
Decay = Literal["exponential", "linear", "inverse"]
LossFrom = Literal["training", "validation"]

SMALLEST_POPULATION = 4


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
        require(
            self.finalists <= self.population,
            f"finalists={self.finalists} exceeds population={self.population}; lower finalists",
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
        require(self.start_step > 0, f"start_step={self.start_step} does not move; give a positive number")
