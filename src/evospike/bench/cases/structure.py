"""What structure learning costs a training step, its rewirings spread over the steps between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING

from evospike.bench.case import OURS, Case, Circumstances, Contestant
from evospike.bench.cases import networks
from evospike.bench.cases.genetic import best_path
from evospike.bench.timing import waiting
from evospike.data.known import KNOWN
from evospike.jobs.recipe import Recipe, read_recipe
from evospike.sparse.schedule import make_schedule
from evospike.sparse.settings import SparseSettings

if TYPE_CHECKING:
    from evospike.jobs.workshop import Workshop

RECIPE = "cifar10-cpu-sparse"
DENSITY = 0.1

WARM_UP = 2
"""Steps of a measured training before those that count."""

REWIRED = 5
"""The step, from 0, in which a measured training rewires; those between it and the warm-up leave the graph alone."""

STEPS = REWIRED + 2
"""Steps of a measured training: the last one cannot rewire, and ends an epoch besides."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class StepTimes:
    """Milliseconds of steps that leave the graph alone, and of the step that rewires it, where one does."""

    plain: tuple[float, ...]
    rewiring: float

    def amortised(self, period: int) -> float:
        """Mean of a step when one in `period` rewires: plain + (rewiring - plain) / period."""
        plain = fmean(self.plain)
        return plain + (self.rewiring - plain) / period


def rules() -> Mapping[str, SparseSettings]:
    """What is compared, by the contestant's name: all synapses, one mask for good, and four ways to rewire it."""
    rewired = SparseSettings(density=DENSITY)
    return {
        "dense": SparseSettings(),
        "static": replace(rewired, method="static"),
        "gradient": replace(rewired, grow="gradient"),
        "momentum": replace(rewired, grow="momentum"),
        "adam": replace(rewired, grow="adam"),
        "random": replace(rewired, grow="random"),
    }


def steps(circumstances: Circumstances) -> Iterator[Contestant]:
    """Mean training step of the recipe's network by every rule, in milliseconds."""
    recipe = read_recipe(RECIPE)
    batch = networks.batch_of(circumstances, recipe.training.batch)
    for name, sparse in rules().items():
        period = real_period(recipe, sparse)

        def prepare(sparse: SparseSettings = sparse, period: int = period) -> Callable[[], float]:
            shop = short_workshop(RECIPE, batch, circumstances)
            return lambda: step_times(shop, sparse).amortised(period)

        yield Contestant(name, OURS, networks.when_asked(prepare), {"density": sparse.density, "period": period})


def real_period(recipe: Recipe, sparse: SparseSettings) -> int:
    """Steps between two rewirings of the recipe's own training, at its full length; as if it did where it never does.

    So that every rule is averaged over the same steps.
    """
    data, training = recipe.data, recipe.training
    samples = round(KNOWN[data.source].train * (1 - data.validation))
    rewired = replace(sparse, density=DENSITY, method="rewire")
    return make_schedule(rewired, training.epochs, training.steps_per_epoch(samples)).period


def short_workshop(recipe: str, batch: int, circumstances: Circumstances) -> Workshop:
    """A recipe on random images of its size, as many as `STEPS` steps take, for one epoch."""
    from evospike.jobs.attempt import stand_in_workshop

    flags = {
        "training": {"epochs": 1, "warmup_epochs": 0.0, "batch": batch},
        "run": {"threads": circumstances.threads, "device": circumstances.device, "path": best_path(circumstances)},
    }
    return stand_in_workshop(read_recipe(recipe, flags=flags), STEPS * batch)


def step_times(shop: Workshop, sparse: SparseSettings, clock: Clock = time.perf_counter) -> StepTimes:
    """Train the workshop's network anew for one epoch of `STEPS` steps, of which step `REWIRED` rewires if any does.

    clock: gives seconds.
    """
    from evospike.genetic.groups import parameter_roles
    from evospike.training.loop import Trainer

    net = shop.network("genetic", ("bench",))
    structure = shop.structure(net, rewiring_once(sparse), ("bench",))
    source = shop.source(shop.task.train, ("bench",))
    ends = StepEnds(waiting(shop.plan.device), clock)
    Trainer(net, source, shop.recipe.training, parameter_roles(net), hooks=[ends], structure=structure).run()
    times = [1e3 * (after - before) for before, after in zip(ends.times, ends.times[1:], strict=False)]
    return StepTimes(tuple(times[WARM_UP - 1 : REWIRED - 1]), times[REWIRED - 1])


def rewiring_once(sparse: SparseSettings) -> SparseSettings:
    """The rule with a rewiring in step `REWIRED` of `STEPS`, of as many synapses as the first one of a training."""
    if not sparse.active:
        return sparse
    period = (REWIRED + 1) / STEPS
    return replace(sparse, period_epochs=period, freeze=1.0, final_fraction=sparse.fraction)


@dataclass
class StepEnds:
    """A hook of a training that notes when each step ended. wait: returns once the device is idle."""

    wait: Callable[[], None]
    clock: Clock
    times: list[float] = field(default_factory=list)

    def after_step(self, step: int, total: int) -> None:
        """Called by the training after each step."""
        self.wait()
        self.times.append(self.clock())


CASES: tuple[Case, ...] = (
    Case(
        "structure-step",
        "Structure learning",
        f"training step of {RECIPE}'s network, batch 128, T=2, at density {DENSITY:g}, rewiring included: rewiring and "
        "other steps are measured apart and combined as plain + (rewiring - plain) / period, with the period of the "
        "recipe's full training",
        "ms",
        "dense",
        steps,
        repeats=7,
        quick_repeats=2,
        warmup=0,
    ),
)
