"""The data pipeline: CIFAR-10 from its files or its cache to memory, and what augmentation adds to a training step."""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from evospike.bench.case import OURS, Absent, Case, Circumstances, Contestant
from evospike.bench.cases import networks
from evospike.bench.cases.structure import short_workshop, step_times
from evospike.bench.timing import in_fresh_process, timed
from evospike.core.errors import EvospikeError
from evospike.data.settings import DataSettings
from evospike.jobs.recipe import read_recipe
from evospike.sparse.settings import SparseSettings

if TYPE_CHECKING:
    from evospike.jobs.workshop import Workshop

GROUP = "Data"
SOURCE = "cifar10"
RECIPE = "cifar10-cpu"

BATCHES = 4
"""Augmented batches of which a repetition takes the mean."""


def first(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Seconds to memory with an empty cache."""
    settings = DataSettings(SOURCE, folder=circumstances.data)

    def measure() -> float:
        with tempfile.TemporaryDirectory(dir=circumstances.folder) as cache:
            return load(settings, cache, circumstances.threads)

    yield if_there(settings, measure)


def cached(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Seconds to memory from a cache, which is filled before the first repetition."""
    settings = DataSettings(SOURCE, folder=circumstances.data)

    def prepare() -> Callable[[], float]:
        cache = tempfile.mkdtemp(dir=circumstances.folder)
        load(settings, cache, circumstances.threads)
        return lambda: load(settings, cache, circumstances.threads)

    yield if_there(settings, networks.when_asked(prepare))


def if_there(settings: DataSettings, measure: Callable[[], float]) -> Contestant | Absent:
    """Ourselves, absent where the data set cannot be opened."""
    from evospike.data.locate import find

    try:
        find(settings).open()
    except EvospikeError as error:
        return Absent(OURS, OURS, str(error))
    return Contestant(OURS, OURS, measure)


def load(settings: DataSettings, cache: str, threads: int) -> float:
    """Seconds that a fresh process takes to have the images of all splits in memory. cache: its folder of caches."""
    arguments = {"settings": settings, "cache": cache}
    return in_fresh_process(f"{__name__}:seconds_to_load", arguments, threads)


def seconds_to_load(settings: DataSettings, cache: str) -> float:
    """What that process does; its clock starts when everything of ours is imported."""
    from evospike.data.task import load_task

    os.environ["EVOSPIKE_CACHE"] = cache
    started = time.perf_counter()
    task = load_task(settings, 0)
    task.open_test()
    return time.perf_counter() - started


def augmentation(circumstances: Circumstances) -> Iterator[Contestant]:
    """Percent of a training step that it takes to make its batch: cropped and flipped, and as in long trainings."""
    batch = networks.batch_of(circumstances, read_recipe(RECIPE).training.batch)
    kinds: tuple[Literal["basic", "strong"], ...] = ("basic", "strong")
    for kind in kinds:

        def prepare(kind: Literal["basic", "strong"] = kind) -> Callable[[], float]:
            return share_of_step(short_workshop(RECIPE, batch, circumstances), kind)

        yield Contestant(kind, OURS, networks.when_asked(prepare), {"batch": batch})


def share_of_step(shop: Workshop, kind: Literal["basic", "strong"]) -> Callable[[], float]:
    """Percent: time of an augmented batch over time of a training step, both of the workshop's batch."""
    batch = augmented_batch(shop, kind)
    augment = timed(lambda: [batch(epoch) for epoch in range(BATCHES)], shop.plan.device)

    def measure() -> float:
        return 100 * (augment() / BATCHES) / fmean(step_times(shop, SparseSettings()).plain)

    return measure


def augmented_batch(shop: Workshop, kind: Literal["basic", "strong"]) -> Callable[[int], object]:
    """From an epoch to a training batch of the workshop's images, augmented as its recipe says but for the kind."""
    import torch

    from evospike.data.augment import Augmenter

    training = shop.recipe.training
    settings = replace(read_recipe(RECIPE).data.augment, kind=kind)
    augmenter = Augmenter(shop.task, settings, shop.recipe.run.seed)
    positions = torch.arange(training.batch)
    return functools.partial(
        augmenter.train_batch, positions, device=shop.plan.device, channels_last=training.channels_last
    )


CASES: tuple[Case, ...] = (
    Case(
        "data-first",
        GROUP,
        "CIFAR-10 from Parquet files to bytes in memory, both splits, with an empty cache; a fresh process each time, "
        "imports apart, files as warm as the system keeps them",
        "s",
        "",
        first,
        repeats=3,
        warmup=0,
        quick=False,
    ),
    Case(
        "data-cached",
        GROUP,
        "the same with a filled cache",
        "s",
        "",
        cached,
        repeats=7,
        warmup=1,
        quick=False,
    ),
    Case(
        "data-augment",
        GROUP,
        f"time of an augmented batch of {RECIPE} as a share of a training step: crop and flip (basic), and with "
        "RandAugment and random erasing (strong)",
        "%",
        "",
        augmentation,
        repeats=5,
        quick_repeats=2,
        warmup=1,
    ),
)
