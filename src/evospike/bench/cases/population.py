"""What it brings to train the candidates of an evolution as one network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from evospike.bench.case import OURS, Case, Circumstances, Contestant
from evospike.bench.cases.genetic import best_path
from evospike.bench.cases.networks import when_asked
from evospike.bench.timing import timed
from evospike.jobs.recipe import read_recipe

if TYPE_CHECKING:
    from evospike.core.rng import Name
    from evospike.jobs.workshop import Workshop
    from evospike.models.network import Network

    Train = Callable[[Sequence[Network], Workshop], object]

RECIPE = "digits"
CANDIDATES = 16
SAMPLES = 640
"""Images that each candidate is trained on for one epoch: 20 steps."""

KEY: tuple[Name, ...] = ("generation", 0)
"""All candidates of a generation share what they draw from."""


def brief_trainings(circumstances: Circumstances) -> Iterator[Contestant]:
    """Milliseconds of a generation's brief trainings, all at once and one after the other."""
    path = best_path(circumstances)
    ways: tuple[tuple[str, Train], ...] = (("batched", at_once), ("sequential", one_after_another))
    for name, train in ways:
        prepare = functools.partial(_repetition, train, circumstances)
        yield Contestant(name, OURS, when_asked(prepare), {"candidates": CANDIDATES, "path": path})


def _repetition(train: Train, circumstances: Circumstances) -> Callable[[], float]:
    """One repetition: the candidates' first values, which are put back before the clock is started, then `train`."""
    shop = workshop(circumstances)
    nets = candidates(shop)
    drawn = [{name: tensor.clone() for name, tensor in net.state_dict().items()} for net in nets]
    clocked = timed(functools.partial(train, nets, shop), circumstances.device)

    def measure() -> float:
        for net, values in zip(nets, drawn, strict=True):
            net.load_state_dict(values)
        return clocked()

    return measure


def workshop(circumstances: Circumstances) -> Workshop:
    """The recipe on its data."""
    from evospike.data.task import load_task
    from evospike.jobs.plan import make_plan
    from evospike.jobs.workshop import Workshop

    settings = {"threads": circumstances.threads, "device": circumstances.device, "path": best_path(circumstances)}
    recipe = read_recipe(RECIPE, flags={"run": settings})
    task = load_task(recipe.data, recipe.run.seed)
    return Workshop(recipe, make_plan(recipe, task, evolves=True), task)


def candidates(shop: Workshop, count: int = CANDIDATES) -> list[Network]:
    """Networks as the first generation of an evolution has them, their spreads from half to twice the start's."""
    start = 10**shop.recipe.evolution.start_mean
    spreads = [start * 2 ** (2 * place / max(count - 1, 1) - 1) for place in range(count)]
    return [shop.network("genetic", KEY, {"encoding": spread, "genes": start}) for spread in spreads]


def at_once(nets: Sequence[Network], shop: Workshop) -> object:
    """As a worker trains candidates that its run's plan puts together."""
    from evospike.jobs.brief import proxy_images, train_briefly_together

    return train_briefly_together(nets, shop, proxy_images(shop, SAMPLES), 1, [KEY] * len(nets))


def one_after_another(nets: Sequence[Network], shop: Workshop) -> object:
    """As a worker trains candidates one by one."""
    from evospike.jobs.brief import proxy_images, train_briefly

    return [train_briefly(net, shop, proxy_images(shop, SAMPLES), 1, KEY) for net in nets]


CASES: tuple[Case, ...] = (
    Case(
        "candidates-batched",
        "Evolution",
        f"brief trainings of {CANDIDATES} candidates of {RECIPE}: one epoch of {SAMPLES} images in batches of 32, as "
        "one wide network and one after the other; making the wide network of theirs, and theirs of it, included",
        "ms",
        "sequential",
        brief_trainings,
        repeats=5,
        warmup=1,
        quick=False,
    ),
)
