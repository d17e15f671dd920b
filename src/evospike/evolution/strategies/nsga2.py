"""NSGA-II: survival by non-dominated sorting and crowding, parents by tournament, children by the space's variation.

With one objective this is truncation of parents and offspring by score.
Source: methods reference 4.8.
"""

from __future__ import annotations

from evospike.evolution.strategies.population import PopulationStrategy
from evospike.evolution.variation import Vector


class Nsga2(PopulationStrategy):
    """Crosses and mutates winners of tournaments among the survivors."""

    def _propose(self, count: int) -> list[Vector]:
        pairs = self._pool.pairs((count + 1) // 2)
        return [child for a, b in pairs for child in self._children(self._vectors[a], self._vectors[b])]

    def _propose_one(self) -> Vector:
        ((a, b),) = self._pool.pairs(1)
        return self._variation.mutate(self._crossed(self._vectors[a], self._vectors[b])[0], self._rng)

    def _children(self, a: Vector, b: Vector) -> tuple[Vector, Vector]:
        a, b = self._crossed(a, b)
        return self._variation.mutate(a, self._rng), self._variation.mutate(b, self._rng)

    def _crossed(self, a: Vector, b: Vector) -> tuple[Vector, Vector]:
        if self._rng.random() < self._settings.crossover_probability:
            return self._variation.cross(a, b, self._rng)
        return a, b
