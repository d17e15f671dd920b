"""How time and memory grow: with steps, batch and genes of a training, with population and workers of a search.

Networks are small and run by the eager path, so that a curve takes seconds, and so that nothing is compiled for each T.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evospike.bench.case import OURS, Circumstances, Growth
from evospike.bench.cases import networks
from evospike.bench.cases.evolving import Size, evolve
from evospike.bench.cases.genetic import make_network
from evospike.bench.cases.networks import Entrant, Workload
from evospike.bench.timing import in_fresh_process, timed
from evospike.jobs.recipe import Recipe, read_recipe
from evospike.models.presets import small32

if TYPE_CHECKING:
    from evospike.evolution.ledger import Event
    from evospike.evolution.records import Request, Score

Figure = Callable[[], float]

IMAGE = (3, 16, 16)
SMALL = Workload(networks.vgg_small((32, 32, 64, 64), IMAGE), batch=16, steps=4)
WIDE = Workload(small32(IMAGE, networks.CLASSES, channels=(512, 512, 512, 512)), batch=4, steps=2)
"""Of layers that even 400 genes make smaller."""

CANDIDATES = Size(population=8, generations=2, samples=256)
SEARCH = "digits-search"


def time_of_steps(circumstances: Circumstances, steps: int) -> Figure:
    """Milliseconds of a training step over `steps` time steps."""
    return training_time(replace(SMALL, steps=steps, device=circumstances.device))


def time_of_batch(circumstances: Circumstances, batch: int) -> Figure:
    """Milliseconds of a training step of `batch` images."""
    return training_time(replace(SMALL, batch=batch, device=circumstances.device))


def training_time(workload: Workload) -> Figure:
    """Milliseconds of a training step with stored weights."""
    from evospike.bench.cases.running import training_step

    return timed(training_step(workload, _ourselves()), workload.device)


def time_of_genes(circumstances: Circumstances, genes: int) -> Figure:
    """Milliseconds of a training step with `genes` genes."""
    from evospike.bench.cases.running import training_step_of

    workload = replace(WIDE, device=circumstances.device)
    return timed(training_step_of(make_network(workload, genes, "eager"), workload), workload.device)


def memory_of_steps(circumstances: Circumstances, steps: int) -> Figure:
    """Megabytes of a training step over `steps` time steps, at its peak."""
    return training_memory(replace(SMALL, steps=steps, device=circumstances.device), circumstances.threads)


def memory_of_batch(circumstances: Circumstances, batch: int) -> Figure:
    """Megabytes of a training step of `batch` images, at its peak."""
    return training_memory(replace(SMALL, batch=batch, device=circumstances.device), circumstances.threads)


def training_memory(workload: Workload, threads: int) -> Figure:
    """Megabytes of a training step at its peak, each repetition in a process of its own."""
    return lambda: in_fresh_process(f"{__name__}:peak_megabytes", {"workload": workload}, threads)


def peak_megabytes(workload: Workload) -> float:
    """What a training step with stored weights takes in this process at its peak, as `memory.peak_above` says."""
    from evospike.bench.cases.memory import peak_above
    from evospike.bench.cases.running import training_step

    return peak_above(training_step(workload, _ourselves()), workload.device) / 1e6


def _ourselves() -> Entrant:
    return Entrant("evospike eager", OURS)


def time_of_population(circumstances: Circumstances, population: int) -> Figure:
    """Milliseconds that the driver of a search spends on a generation of `population` candidates."""
    recipe = read_recipe(SEARCH, flags={"search": search_of(population)})
    return lambda: 1e3 * driver_seconds(recipe, circumstances.folder)


def search_of(population: int) -> dict[str, int]:
    """Fields of [search]: a random generation, and a bred one."""
    return {"population": population, "offspring": population, "generations": 2, "finalists": 0}


def driver_seconds(recipe: Recipe, folder: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds from the last score of a search's generation 0 to that of generation 1, nothing being evaluated.

    Selection of the survivors, the children with the checks of their bounds and digests, the record of both and of the
    scores, which are random. folder: where the record lies meanwhile.
    """
    from evospike.data.known import KNOWN
    from evospike.evolution.population import PopulationSearch
    from evospike.evolution.store import Store
    from evospike.jobs.spaces import genome_variation

    known = KNOWN[recipe.data.source]
    variation = genome_variation(recipe, known.shape, known.classes)
    ends = GenerationEnds(clock)
    with tempfile.TemporaryDirectory(dir=folder) as run, Store.create(Path(run) / "study.sqlite") as store:
        PopulationSearch(store, recipe.search.each, recipe.run.seed, variation, random_scores, ends.note).run()
    return ends.times[1] - ends.times[0]


@dataclass
class GenerationEnds:
    """Notes when the scores of each generation were in."""

    clock: Callable[[], float]
    times: list[float] = field(default_factory=list)

    def note(self, event: Event) -> None:
        """Told by the search of every event."""
        if event.kind == "generation":
            self.times.append(self.clock())


def random_scores(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
    """An evaluation that takes no time: every request gets a number of its own at once."""
    from evospike.core.rng import stream
    from evospike.evolution.records import Score

    for request in requests:
        yield request, Score("ok", "", {"score": float(stream(0, "bench", request.key).random())}), 1


def time_of_workers(circumstances: Circumstances, workers: int) -> Figure:
    """Milliseconds of wall time a candidate of an evolution takes with `workers` workers of one thread each."""

    def measure() -> float:
        course = evolve(CANDIDATES, workers, circumstances)
        return 1e3 * course.seconds / len(course.arrivals)

    return measure


SMALL_ABOUT = "VGG of 32-32-64-64 channels at 16x16"

GROWTHS: tuple[Growth, ...] = (
    Growth(
        "growth-steps",
        f"training step of a {SMALL_ABOUT}, batch {SMALL.batch}, over T time steps",
        "T",
        "ms",
        (1, 2, 4, 8, 16),
        time_of_steps,
        quick_values=(1, 2, 4),
    ),
    Growth(
        "growth-batch",
        f"training step of a {SMALL_ABOUT}, T={SMALL.steps}",
        "batch",
        "ms",
        (4, 8, 16, 32, 64),
        time_of_batch,
        quick_values=(4, 8, 16),
    ),
    Growth(
        "growth-genes",
        f"training step of three genetic layers of 512 channels, batch {WIDE.batch}, T={WIDE.steps}, 16x16",
        "genes",
        "ms",
        (25, 50, 100, 200, 400),
        time_of_genes,
        quick_values=(25, 100, 400),
    ),
    Growth(
        "growth-population",
        f"the driver of {SEARCH}, a generation of NSGA-II: selecting, breeding, checking and recording candidates "
        "whose scores cost nothing",
        "population",
        "ms",
        (8, 32, 128, 512),
        time_of_population,
        quick_values=(8, 16, 32),
        repeats=2,
    ),
    Growth(
        "growth-workers",
        "wall time a candidate of a small evolution takes, one thread a worker; the inverse of the throughput",
        "workers",
        "ms",
        (1, 2, 4),
        time_of_workers,
        repeats=2,
    ),
    Growth(
        "growth-memory-steps",
        f"peak memory of a training step of a {SMALL_ABOUT}, batch {SMALL.batch}, over T time steps",
        "T",
        "MB",
        (1, 2, 4, 8, 16),
        memory_of_steps,
        repeats=1,
    ),
    Growth(
        "growth-memory-batch",
        f"peak memory of a training step of a {SMALL_ABOUT}, T={SMALL.steps}",
        "batch",
        "MB",
        (4, 8, 16, 32, 64),
        memory_of_batch,
        repeats=1,
    ),
)
