"""What an evolution spends outside its evaluations, and what a second worker brings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evospike.bench.case import OURS, Case, Circumstances, Contestant
from evospike.jobs.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from evospike.evolution.evaluate import Evaluate
    from evospike.evolution.ledger import Event

GROUP = "Evolution"
RECIPE = "digits"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Size:
    """How much is evolved. samples: images that each candidate is trained on for one epoch, 0 for all."""

    population: int
    generations: int
    samples: int


OVERHEAD = Size(population=4, generations=3, samples=0)
QUICK = Size(population=4, generations=2, samples=256)
MANY = Size(population=12, generations=3, samples=512)


@dataclass
class Course:
    """When an evolution did what, in seconds of one clock.

    started: the scores of generation 0 were in, so that every process has started. arrivals: when each later score
    came, and how long its evaluation took. ended: after the winner was recorded.
    """

    clock: Callable[[], float] = time.perf_counter
    started: float = 0.0
    ended: float = 0.0
    arrivals: list[tuple[float, float]] = field(default_factory=list)

    def note(self, event: Event) -> None:
        """Told by the evolution of every event."""
        now = self.clock()
        if event.kind == "generation" and event.generation == 0:
            self.started, self.arrivals = now, []
        elif event.kind == "score" and event.score is not None:
            self.arrivals.append((now, event.score.seconds))
        self.ended = now

    @property
    def seconds(self) -> float:
        """From `started` to `ended`."""
        return self.ended - self.started

    @property
    def outside(self) -> float:
        """Percent of that time in which no evaluation was running."""
        evaluations = ((max(arrived - taken, self.started), arrived) for arrived, taken in self.arrivals)
        return 100 * (1 - covered(evaluations) / self.seconds)


def covered(intervals: Iterable[Interval]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total


def evolve(size: Size, workers: int, circumstances: Circumstances) -> Course:
    """Evolve the digits' initial values in worker processes of one thread each, as `evospike evolve` does."""
    from evospike.data.task import load_task
    from evospike.evolution.evaluate import evaluate_with
    from evospike.evolution.executors.local import LocalExecutor
    from evospike.jobs.candidates import dimension_names
    from evospike.jobs.plan import make_plan
    from evospike.jobs.workshop import Workshop, as_context

    recipe = small_recipe(size, circumstances.device)
    task = load_task(recipe.data, recipe.run.seed)
    shop = Workshop(recipe, make_plan(recipe, task, evolves=True), task)
    context = as_context(recipe, shop.plan, circumstances.folder)
    with LocalExecutor(workers, recipe.run.threads, "evospike.jobs.workers:score", context) as executor:
        return follow(recipe, dimension_names(shop), evaluate_with(executor), Course(), circumstances.folder)


def small_recipe(size: Size, device: str) -> Recipe:
    """The recipe, cut to a size."""
    evolution = {
        "population": size.population,
        "generations": size.generations,
        "proxy_epochs": 1,
        "proxy_samples": size.samples,
        "finalists": 1,
        "finalist_seeds": 2,
    }
    return read_recipe(RECIPE, flags={"evolution": evolution, "run": {"threads": 1, "device": device}})


def follow(recipe: Recipe, names: Iterable[str], evaluate: Evaluate, course: Course, folder: str) -> Course:
    """Run a recipe's evolution to its winner, its record in a folder of its own below `folder`, and note its course."""
    from evospike.evolution.store import Store
    from evospike.evolution.study import SearchSpace, Study

    space = SearchSpace.of(tuple(names), recipe.evolution)
    with (
        tempfile.TemporaryDirectory(dir=folder) as run,
        Store.create(Path(run) / "study.sqlite") as store,
    ):
        Study(store, recipe.evolution, recipe.run.seed, space, evaluate, course.note).run()
    return course


def overhead(circumstances: Circumstances) -> Iterator[Contestant]:
    """Percent of an evolution's time in which nothing is evaluated, for one and for two workers."""
    size = QUICK if circumstances.quick else OVERHEAD
    for workers, name in ((1, "1 worker"), (2, "2 workers")):

        def measure(workers: int = workers) -> float:
            return evolve(size, workers, circumstances).outside

        yield Contestant(name, OURS, measure, {"workers": workers, "threads": 1})


def throughput(circumstances: Circumstances) -> Iterator[Contestant]:
    """Candidates a second of two workers over those of one, the same candidates."""

    def measure() -> float:
        one, two = (evolve(MANY, workers, circumstances).seconds for workers in (1, 2))
        return one / two

    yield Contestant("2 workers", OURS, measure, {"workers": 2, "threads": 1})


CASES: tuple[Case, ...] = (
    Case(
        "evolution-overhead",
        GROUP,
        f"wall time of an evolution of the {RECIPE} in which no evaluation is running: asking, recording, handing out, "
        "choosing; from the second generation on, so that no process starts in it; one thread a worker, candidates "
        "trained for one epoch (few images in a quick run, which makes the share larger)",
        "%",
        "",
        overhead,
        repeats=3,
        quick_repeats=1,
        warmup=0,
    ),
    Case(
        "evolution-workers",
        GROUP,
        f"candidates a second of two workers over those of one, one thread each: {MANY.population} candidates a "
        f"generation, {MANY.samples} {RECIPE} each, from the second generation on",
        "x",
        "",
        throughput,
        repeats=3,
        warmup=0,
        higher=True,
        quick=False,
    ),
)
