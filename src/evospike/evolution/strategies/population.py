"""What the strategies of a population search share: the random start, survival, and no genome twice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from evospike.core.rng import stream
from evospike.evolution.settings import PopulationSettings
from evospike.evolution.strategies.pool import Objectives, Pool
from evospike.evolution.variation import Variation, Vector


class PopulationStrategy(ABC):
    """Proposes generations of vectors of which no two, in the whole search, have equal keys.

    All strategies start from the same random sample of a seed. A strategy is never saved: told the same outcomes
    from the start, one made with the same seed asks for the same vectors, in any process.
    Raises: MissingExtra without pymoo.
    """

    def __init__(self, variation: Variation, settings: PopulationSettings, seed: int) -> None:
        self._variation = variation
        self._settings = settings
        self._start = stream(seed, "strategy", "start")
        self._rng = stream(seed, "strategy", settings.strategy)
        self._pool = Pool(settings.population, len(settings.objectives), self._rng)
        self._vectors: list[Vector] = []
        self._keys: set[str] = set()

    def ask(self) -> list[Vector]:
        """The vectors of the next generation; fewer, at last none, where too few new ones are found."""
        start = self._pool.told == 0
        count = self._settings.population if start else self._settings.offspring
        asked: list[Vector] = []
        for _ in range(self._settings.tries):
            missing = count - len(asked)
            if not missing:
                break
            asked += self._new(self._sample(missing) if start else self._propose(missing), missing)
        self._vectors += asked
        return asked

    def tell(self, outcomes: Sequence[Objectives | None]) -> tuple[int, ...]:
        """Take the outcomes of the last `ask` (None: failed); returns who survives, numbered in the order asked."""
        return self._pool.select(outcomes)

    def ask_one(self) -> Vector | None:
        """One vector of a steady state, from all that was told so far; None where no new one is found.

        The first ones, as many as the population, are random; so are those that are asked for before any is told.
        """
        start = len(self._keys) < self._settings.population or not self._pool.told
        for _ in range(self._settings.tries):
            if new := self._new(self._sample(1) if start else [self._propose_one()], 1):
                return new[0]
        return None

    def tell_one(self, vector: Vector, outcome: Objectives | None) -> tuple[int, ...]:
        """Take the outcome of one vector of a steady state; returns who survives, numbered in the order told.

        Source: steady-state NSGA-II (Durillo, Nebro, Luna, Alba 2008), which selects from the population and one more.
        """
        self._vectors.append(vector)
        return self._pool.select([outcome])

    @abstractmethod
    def _propose(self, count: int) -> list[Vector]:
        """At least `count` vectors for a later generation, new or not."""

    @abstractmethod
    def _propose_one(self) -> Vector:
        """A vector for a steady state, new or not."""

    def _sample(self, count: int) -> list[Vector]:
        return [self._variation.sample(self._start) for _ in range(count)]

    def _new(self, vectors: Sequence[Vector], count: int) -> list[Vector]:
        """The first `count` vectors whose key was not met before."""
        new: list[Vector] = []
        for vector in vectors:
            key = self._variation.key(vector)
            if len(new) < count and key not in self._keys:
                self._keys.add(key)
                new.append(vector)
        return new
