"""The benchmark of structure learning counts what a training holds while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from evospike.jobs.attempt import stand_in_workshop
from evospike.jobs.recipe import read_recipe
from evospike.sparse.settings import SparseSettings


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
        import structure_learning

        yield structure_learning


def test_averages_of_gradients_count_although_they_are_gone_in_the_end(benchmark: ModuleType) -> None:
    short = ["training.epochs=1", "training.warmup_epochs=0", "training.batch=2", "model.channels=[4,4,8,8]"]
    recipe = read_recipe("digits-sparse", short)
    shop = stand_in_workshop(recipe, 12)
    rewired = SparseSettings(density=0.1, allocation="uniform", period_epochs=0.5, grow="momentum")
    cases = {"dense": SparseSettings(), "static": replace(rewired, method="static"), "momentum": rewired}
    cases["adam"] = replace(rewired, grow="adam")
    held = {name: benchmark.train(shop, sparse)[1]["masks and learner"] for name, sparse in cases.items()}
    weights = 36 + 144 + 288 + 576 + 80  # of four convolutions and the classifier
    counts = 2 * 8  # of synapses born and lost
    masks = 2 * weights + counts
    assert held == {"dense": 0, "static": masks, "momentum": masks + 4 * weights, "adam": masks + 8 * weights}
