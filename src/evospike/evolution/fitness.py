"""Fitness and ranks: the weighted sum that is minimised, and the order that a strategy is told.

The weights change with the generation, so a fitness is never compared across generations; the raw terms are
archived.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evospike.core.errors import RunError
from evospike.evolution.records import Score
from evospike.evolution.settings import Decay, EvolutionSettings, LossFrom

LOSS_TERMS: dict[LossFrom, str] = {"training": "loss", "validation": "validation_loss"}


@dataclass(frozen=True)
class TermWeights:
    """lambda_T(n) and lambda_S(n): weights of the temporal and the entropy term in one generation."""

    temporal: float
    entropy: float


def decay_factor(decay: Decay, n: int, generations: int) -> float:
    """Share of the first weight that is left in generation n = 0..generations-1.

    exponential: exp(-3 n/(N-1)); linear: 1 - n/N; inverse: 1/(1+n). Source: methods reference 3.9.
    """
    if decay == "exponential":
        return math.exp(-3.0 * n / max(generations - 1, 1))
    if decay == "linear":
        return 1.0 - n / generations
    return 1.0 / (1.0 + n)


def term_weights(settings: EvolutionSettings, n: int, spread: float) -> TermWeights:
    """Weights of both terms in generation n; a term that the mode leaves out weighs 0.

    spread: standard deviation of the loss in generation 0, in units of the loss (`loss_spread`).
    Source: methods reference 3.9.
    """
    left = decay_factor(settings.decay, n, settings.generations)
    scaled = settings.term_scale * spread

    def weight(fixed: float | None, modes: tuple[str, ...]) -> float:
        return left * (scaled if fixed is None else fixed) if settings.mode in modes else 0.0

    return TermWeights(
        temporal=weight(settings.temporal_weight, ("loss+temporal", "ste")),
        entropy=weight(settings.entropy_weight, ("loss+entropy", "ste")),
    )


def loss_spread(generations: Iterable[Sequence[Score]], loss_from: LossFrom) -> float:
    """Population standard deviation of the loss in the first generation that has two usable candidates, or 0.

    Deliberately different from the source, which takes generation 0 whatever became of it: when that
    generation failed, its spread of 0 would switch both terms off for the whole run.
    """
    for scores in generations:
        losses = [term(score, LOSS_TERMS[loss_from]) for score in scores if score.ok]
        if len(losses) >= 2:
            return statistics.pstdev(losses)
    return 0.0


def fitness(score: Score, weights: TermWeights, loss_from: LossFrom = "training") -> float | None:
    """F = loss - lambda_T R_T - lambda_S R_S, to be minimised; None for a score that is not ok.

    Raises: RunError when an ok score lacks a term that the weights need.
    Source: methods reference 3.9, eq. 16.
    """
    if not score.ok:
        return None
    value = term(score, LOSS_TERMS[loss_from])
    if weights.temporal:
        value -= weights.temporal * term(score, "temporal")
    if weights.entropy:
        value -= weights.entropy * term(score, "entropy")
    return value


def ranks(values: Sequence[float | None]) -> list[int]:
    """Rank of each fitness: usable ones ascending from 0 (ties by index), all others share the next rank."""
    usable = [index for index, value in enumerate(values) if value is not None and math.isfinite(value)]
    usable.sort(key=lambda index: (values[index], index))
    result = [len(usable)] * len(values)
    for rank, index in enumerate(usable):
        result[index] = rank
    return result


@dataclass(frozen=True)
class Judgement:
    """A generation as its own weights see it. fitnesses: None for a score that is not ok."""

    weights: TermWeights
    fitnesses: tuple[float | None, ...]
    ranks: tuple[int, ...]


def judge(settings: EvolutionSettings, generations: Sequence[Sequence[Score]]) -> Judgement:
    """Fitness and rank in the last of the generations, given all before it, from 0 on."""
    weights = term_weights(settings, len(generations) - 1, loss_spread(generations, settings.loss_from))
    values = tuple(fitness(score, weights, settings.loss_from) for score in generations[-1])
    return Judgement(weights, values, tuple(ranks(values)))


def term(score: Score, name: str) -> float:
    """One raw term of an ok score.

    Raises: RunError when the evaluation did not measure it.
    """
    value = score.terms.get(name)
    if value is None:
        known = ", ".join(sorted(score.terms)) or "none"
        raise RunError(
            f"evaluation gave no '{name}' term (it gave: {known}); let it measure '{name}', or ask for another"
        )
    return value
