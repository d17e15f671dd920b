"""Every strategy by name; a new one is added here and passes the tests of `StrategyContract`."""

from __future__ import annotations

from collections.abc import Callable

from evospike.core.settings import choose
from evospike.evolution.settings import PopulationSettings
from evospike.evolution.strategies.base import Box, Strategy
from evospike.evolution.strategies.cma_es import CmaEs
from evospike.evolution.strategies.nsga2 import Nsga2
from evospike.evolution.strategies.population import PopulationStrategy
from evospike.evolution.strategies.random import RandomPopulation, RandomSearch
from evospike.evolution.variation import Variation

STRATEGIES: dict[str, Callable[[Box, int, float, int], Strategy]] = {"cma_es": CmaEs, "random": RandomSearch}

POPULATION_STRATEGIES: dict[str, type[PopulationStrategy]] = {"nsga2": Nsga2, "random": RandomPopulation}


def make_strategy(name: str, box: Box, population: int, step: float, seed: int) -> Strategy:
    """A fresh strategy.

    step: first standard deviation in the units of the box, for strategies that have one.
    Raises: SettingsError for an unknown name.
    """
    return choose("strategy", name, STRATEGIES)(box, population, step, seed)


def make_population_strategy(variation: Variation, settings: PopulationSettings, seed: int) -> PopulationStrategy:
    """A fresh strategy over genomes.

    Raises: SettingsError for an unknown name, MissingExtra without pymoo.
    """
    return choose("strategy", settings.strategy, POPULATION_STRATEGIES)(variation, settings, seed)
