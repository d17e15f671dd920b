"""Selection among candidates by pymoo: non-dominated sorting, crowding, survival and tournament (NSGA-II).

pymoo is imported when a pool is made, not with this module. It sees objectives that are minimised, and a constraint
that a failed candidate violates, so that the failed rank behind all others without a made-up value.

Source: methods reference 4.8 (Deb et al. 2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evospike.core.errors import MissingExtra, SettingsError

Objectives = tuple[float, ...]
"""Values to be minimised, finite, one per objective."""


class Pool:
    """The surviving population; candidates are numbered in the order in which they were told.

    size:       most survivors.
    objectives: how many values each candidate is judged by.
    rng:        decides ties and who meets whom.
    Raises: MissingExtra without pymoo.
    """

    tournament_type = "comp_by_dom_and_crowding"  # pymoo's tournament reads it and `random_state` from its caller

    def __init__(self, size: int, objectives: int, rng: np.random.Generator) -> None:
        nsga2 = _nsga2()
        from pymoo.core.problem import Problem

        self._size = size
        self._objectives = objectives
        self.random_state = rng
        self._problem = Problem(n_var=1, n_obj=objectives, n_ieq_constr=1)
        self._survival = nsga2.RankAndCrowding()
        self._tournament = nsga2.TournamentSelection(func_comp=nsga2.binary_tournament)
        self._individuals: list[Any] = []
        self._told = 0

    @property
    def told(self) -> int:
        """How many candidates were told so far."""
        return self._told

    def select(self, outcomes: Sequence[Objectives | None]) -> tuple[int, ...]:
        """Add candidates (None: failed) and keep the best `size`; returns the numbers that survive, ascending."""
        from pymoo.core.population import Population

        newcomers = [self._individual(self._told + k, outcome) for k, outcome in enumerate(outcomes)]
        self._told += len(newcomers)
        everyone = Population.create(*self._individuals, *newcomers)
        survivors = self._survival.do(self._problem, everyone, n_survive=self._size, random_state=self.random_state)
        self._individuals = sorted(survivors, key=_number)
        return tuple(map(_number, self._individuals))

    def pairs(self, count: int) -> list[tuple[int, int]]:
        """Numbers of `count` pairs of parents, each parent the winner of a binary tournament."""
        from pymoo.core.population import Population

        population = Population.create(*self._individuals)
        chosen = self._tournament.do(
            self._problem, population, count, 2, to_pop=False, algorithm=self, random_state=self.random_state
        )
        return [(_number(population[a]), _number(population[b])) for a, b in chosen]

    def _individual(self, number: int, outcome: Objectives | None) -> Any:
        from pymoo.core.individual import Individual

        if outcome is not None and len(outcome) != self._objectives:
            raise SettingsError(f"candidate {number} has {len(outcome)} values; expected {self._objectives}")
        failed = outcome is None
        values = np.zeros(self._objectives) if outcome is None else np.array(outcome, dtype=np.float64)
        return Individual(F=values, G=np.array([float(failed)]), number=number)


def fronts(objectives: Sequence[Objectives]) -> list[list[int]]:
    """Indices of all candidates front by front, the non-dominated first; the least crowded first in a front,
    ties by index.

    Raises: MissingExtra without pymoo.
    """
    survival = _nsga2().RankAndCrowding()
    values = np.array(objectives, dtype=np.float64)
    result = []
    for front in survival.nds.do(values):
        crowding = survival.crowding_func.do(values[front])
        result.append([int(front[k]) for k in sorted(range(len(front)), key=lambda k: -crowding[k])])
    return result


def _nsga2() -> Any:
    try:
        from pymoo.algorithms.moo import nsga2
    except ImportError:
        raise MissingExtra("pymoo", "search", "a population search") from None
    return nsga2


def _number(individual: Any) -> int:
    return int(individual.get("number"))
