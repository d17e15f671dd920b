"""What not waiting costs in quality: the real evolution and the real search on workers whose time is made up.

Objectives cost nothing. A candidate takes as long as one of a real run, drawn at random whatever the candidate is, in
units of the mean; the driver takes no time.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate
from math import log10
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from evospike.core.rng import stream
from evospike.core.statistics import half_interval
from evospike.evolution.evaluate import Arrival
from evospike.evolution.population import PopulationSearch
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.settings import EvolutionSettings, PopulationSettings
from evospike.evolution.store import Store
from evospike.evolution.study import SearchSpace, Study
from evospike.evolution.variation import vector_of
from evospike.jobs.recipe import read_recipe
from evospike.search.genome import Genome
from evospike.search.space import Space
from evospike.search.variation import GenomeVariation
from growth_costs import DIMENSIONS, SEARCH, SEARCH_POPULATION, STE_POPULATION

Objective = Callable[[Genotype], float]

CONDITION = 1e3
"""Of the quadratic: the largest over the smallest curvature."""

ROUNDS = 32
"""So many candidates for each worker: where there are no more, and may be as many, the target is looked for longer."""

TARGETS = {"evolution": 1e-3, "search": 2.0}
"""Objectives that count as found."""

POPULATIONS = {"evolution": STE_POPULATION, "search": SEARCH_POPULATION}


@dataclass(frozen=True)
class Setup:
    """One search of one seed.

    in_flight: 0 for generations of `population`. relative: times to draw from, in units of their mean.
    """

    kind: str
    population: int
    in_flight: int
    workers: int
    candidates: int
    seed: int
    relative: tuple[float, ...]


class VirtualWorkers:
    """An `evaluate` that answers in the order in which workers of made-up speed would; keeps the clock.

    told: (time, objective) of every candidate, in the order in which they arrived.
    """

    def __init__(self, workers: int, durations: Iterator[float], objective: Objective) -> None:
        self.told: list[tuple[float, float]] = []
        self._workers, self._durations, self._objective = workers, durations, objective
        self._now = 0.0

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Arrival]:
        """Requests may be added while scores are taken."""
        running: list[tuple[float, int]] = []
        started = 0
        while True:
            while started < len(requests) and len(running) < self._workers:
                heapq.heappush(running, (self._now + next(self._durations), started))
                started += 1
            if not running:
                return
            self._now, place = heapq.heappop(running)
            yield requests[place], self._score(requests[place]), 1

    def _score(self, request: Request) -> Score:
        value = self._objective(request.genotype)
        if request.kind == "candidate":
            self.told.append((self._now, value))
        return Score("ok", "", {"loss": value, "validation_loss": value})


def quadratic(seed: int) -> Objective:
    """A bowl that is steeper in some directions, with its least value 0 at a random place of the box."""
    rng = stream(seed, "growth", "quadratic")
    place = rng.uniform(-2.5, 0.0, DIMENSIONS)
    turned, _ = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIMENSIONS)))
    curvatures = CONDITION ** np.linspace(0.0, 1.0, DIMENSIONS)
    return lambda genotype: float(curvatures @ (turned @ (np.array(genotype.values) - place)) ** 2)


def differing_genes(space: Space, seed: int) -> Objective:
    """In how many of the genes that a hidden genome uses another one differs from it."""
    variation = GenomeVariation(space, _Named)
    hidden = variation.sample(stream(seed, "growth", "hidden genome"))
    used = sorted(space.used(hidden))

    def objective(genotype: Genotype) -> float:
        vector = vector_of(genotype)
        return float(sum(vector[gene] != hidden[gene] for gene in used))

    return objective


class _Named:
    """In the place of a network: genomes that describe different ones differ in what they use."""

    def __init__(self, genome: Genome) -> None:
        self._genome = genome

    def digest(self) -> str:
        return self._genome.to_json()


def course(setup: Setup) -> tuple[list[float], list[float]]:
    """When each candidate of a search arrived, in mean durations, and the best objective until then."""
    rng = stream(setup.seed, "growth", "durations")
    durations = iter(lambda: float(rng.choice(setup.relative)), None)
    run = _evolution if setup.kind == "evolution" else _search
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, Store.create(Path(folder) / "study.sqlite") as store:
        workers = run(store, setup, durations)
    times, values = zip(*workers.told[: setup.candidates], strict=True)
    return list(times), list(accumulate(values, min))


def _evolution(store: Store, setup: Setup, durations: Iterator[float]) -> VirtualWorkers:
    settings = EvolutionSettings(
        mode="loss",
        population=setup.population,
        generations=-(-setup.candidates // setup.population),
        in_flight=setup.in_flight,
        finalists=1,
        finalist_seeds=1,
    )
    workers = VirtualWorkers(setup.workers, durations, quadratic(setup.seed))
    space = SearchSpace.of([f"x{k}" for k in range(DIMENSIONS)], settings)
    Study(store, settings, setup.seed, space, workers.evaluate).run()
    return workers


def _search(store: Store, setup: Setup, durations: Iterator[float]) -> VirtualWorkers:
    settings = PopulationSettings(
        population=setup.population,
        offspring=setup.population,
        generations=-(-setup.candidates // setup.population),
        objectives=("loss",),
        in_flight=setup.in_flight,
        finalists=0,
    )
    space = Space(read_recipe(SEARCH).space)
    workers = VirtualWorkers(setup.workers, durations, differing_genes(space, setup.seed))
    PopulationSearch(store, settings, setup.seed, GenomeVariation(space, _Named), workers.evaluate).run()
    return workers


def compared(
    kind: str, candidates: int, longer: int, workers: Sequence[int], seeds: int, relative: Sequence[float]
) -> list[Any]:
    """Rows of searches over some seeds, for each number of workers; what is best is that of the first `candidates`.

    The steady state with as many in flight as workers; generations of the usual population, which use no more workers
    than that; both with a population of as many as workers, where those are more. longer: in how many times as many
    candidates the target is looked for, where `ROUNDS` says so.
    """
    usual = POPULATIONS[kind]
    steady = [(usual, n, n) for n in workers]
    waiting = [(usual, 0, n) for n in dict.fromkeys(min(n, usual) for n in workers)]
    large = [(n, in_flight, n) for n in workers if n > usual for in_flight in (n, 0)]
    setups = []
    for population, in_flight, n in (*steady, *waiting, *large):
        count = longer * candidates if candidates <= ROUNDS * n <= longer * candidates else candidates
        setups.append(Setup(kind, population, in_flight, n, count, 0, tuple(relative)))
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        courses = list(pool.map(course, [replace(setup, seed=seed) for setup in setups for seed in range(seeds)]))
    groups = (courses[place * seeds : (place + 1) * seeds] for place in range(len(setups)))
    return [_row(setup, candidates, group) for setup, group in zip(setups, groups, strict=True)]


def _row(setup: Setup, candidates: int, courses: Sequence[tuple[list[float], list[float]]]) -> dict[str, Any]:
    """Means and halves of their 95 % intervals over seeds; the quadratic by its logarithm."""
    target = TARGETS[setup.kind]
    finals = [_shown(setup.kind, best[candidates - 1]) for _, best in courses]
    reached = [next((k for k, value in enumerate(best) if value <= target), None) for _, best in courses]
    found = [(courses[seed][0][k], k + 1) for seed, k in enumerate(reached) if k is not None]
    return {
        "kind": setup.kind,
        "population": setup.population,
        "in flight": setup.in_flight,
        "workers": setup.workers,
        "candidates": candidates,
        "longest": setup.candidates,
        "seeds": len(courses),
        "best": fmean(finals),
        "best interval": half_interval(finals),
        "found": len(found),
        "time": _mean_of_all([time for time, _ in found], courses),
        "time interval": half_interval([time for time, _ in found]) if len(found) == len(courses) else None,
        "evaluated": _mean_of_all([number for _, number in found], courses),
    }


def _mean_of_all(values: Sequence[float], courses: Sequence[Any]) -> float | None:
    """None where some course did not find the target: a mean over the others would flatter."""
    return fmean(values) if len(values) == len(courses) else None


def _shown(kind: str, value: float) -> float:
    return log10(max(value, 1e-300)) if kind == "evolution" else value
