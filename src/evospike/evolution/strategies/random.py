"""Random search, in a box or over genomes: the control that costs as much as any other strategy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evospike.core.rng import stream
from evospike.evolution.strategies.base import Box, Vector, check_told
from evospike.evolution.strategies.population import PopulationStrategy
from evospike.evolution.variation import Vector as Genome


class RandomSearch:
    """Uniform draws in the box; learns nothing."""

    def __init__(self, box: Box, population: int, step: float, seed: int) -> None:
        self._box = box
        self._population = population
        self._generator = stream(seed, "strategy", "random")

    def ask(self) -> list[Vector]:
        """Draw one generation."""
        return [self.ask_one() for _ in range(self._population)]

    def ask_one(self) -> Vector:
        """Draw once."""
        low, high = np.array(self._box.lower), np.array(self._box.upper)
        point = np.clip(low + self._generator.random(len(low)) * (high - low), low, high)
        return tuple(float(x) for x in point)

    def tell(self, vectors: Sequence[Vector], ranks: Sequence[int]) -> None:
        """Check the outcome and forget it."""
        check_told(self._population, vectors, ranks)


class RandomPopulation(PopulationStrategy):
    """Fresh samples in every generation; survival only tells the best so far."""

    def _propose(self, count: int) -> list[Genome]:
        return self._sample(count)

    def _propose_one(self) -> Genome:
        return self._sample(1)[0]
