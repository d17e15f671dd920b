"""CMA-ES: a normal distribution that moves, turns and scales towards what ranked best.

Source: methods reference 3.8 (Hansen, arXiv 1604.00772); the updates are those of the `cmaes` package, which
also uses the negative weights of that tutorial. Deliberately different from `cmaes` alone: it is told ranks,
so that failed candidates need no made-up fitness, and a generation in which nothing differs teaches it
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evospike.core.rng import stream_key
from evospike.evolution.strategies.base import Box, Vector, check_told


class CmaEs:
    """CMA-ES in a box; vectors outside are drawn again, at last clipped."""

    def __init__(self, box: Box, population: int, step: float, seed: int) -> None:
        from cmaes import CMA  # brings scipy along where that is installed, which only a driver should pay for

        self._population = population
        self._cma = CMA(
            mean=np.array(box.start, dtype=np.float64),
            sigma=step,
            bounds=np.array([box.lower, box.upper], dtype=np.float64).T,
            population_size=population,
            seed=stream_key(seed, "strategy", "cma_es") & 0xFFFFFFFF,  # NumPy's RandomState takes 32 bits
        )

    def ask(self) -> list[Vector]:
        """Draw one generation from the current distribution."""
        return [self.ask_one() for _ in range(self._population)]

    def ask_one(self) -> Vector:
        """Draw from the current distribution."""
        return tuple(float(x) for x in self._cma.ask())

    def tell(self, vectors: Sequence[Vector], ranks: Sequence[int]) -> None:
        """Update the distribution; when all ranks are equal (all candidates failed) it stays as it is.

        Vectors of an earlier distribution count as if they came from this one.
        """
        check_told(self._population, vectors, ranks)
        if len(set(ranks)) == 1:
            return
        solutions = [(np.array(x, dtype=np.float64), float(r)) for x, r in zip(vectors, ranks, strict=True)]
        self._cma.tell(solutions)
