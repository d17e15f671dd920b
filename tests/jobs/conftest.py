"""Runs small enough for a test: 200 digits, a network of some hundred parameters, two generations of four."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evospike.data.task import load_task
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run
from evospike.jobs.plan import make_plan
from evospike.jobs.recipe import Recipe, read_recipe
from evospike.jobs.workshop import Workshop

TINY = """
[data]
source = "digits"
train_limit = 200
test_limit = 60
validation = 0.2
[data.augment]
kind = "basic"
crop_padding = 1
flip = 0.0
[model]
preset = "small8"
steps = 2
channels = [4, 4, 8, 8]
[encoding]
genes = 4
skip_growing = false
[training]
epochs = 2
batch = 20
rate = 5e-3
warmup_epochs = 0.5
ema = 0.9
[evolution]
population = 4
generations = 2
proxy_epochs = 1
proxy_samples = 80
finalists = 1
finalist_seeds = 1
start_mean = 0.0
start_step = 0.2
[final]
arms = ["genetic", "dense"]
seeds = 1
[run]
device = "cpu"
path = "eager"
"""


SEARCH = """
[space]
cells = 4
channels = 2
[search]
population = 4
offspring = 4
generations = 2
finalists = 2
finalist_seeds = 2
[dissimilarity]
batch = 20
[scoring]
samples = 80
[rank]
genomes = 5
resamples = 200
"""
"""Sections of the tiny recipe for an architecture search: networks of some thousand parameters, twelve scores."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(TINY + SEARCH)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_file: Path) -> Callable[..., Recipe]:
    """The tiny recipe with overrides."""

    def make(*overrides: str) -> Recipe:
        return read_recipe(str(tiny_file), overrides)

    return make


@pytest.fixture(scope="session")
def workshop(tiny: Callable[..., Recipe]) -> Callable[..., Workshop]:
    """The tiny recipe on its data, with overrides."""

    def make(*overrides: str) -> Workshop:
        recipe = tiny(*overrides)
        task = load_task(recipe.data, recipe.run.seed)
        return Workshop(recipe, make_plan(recipe, task, evolves=True), task)

    return make


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Recipe]) -> tuple[RunFolder, dict[str, Any]]:
    """A finished architecture search with one worker, and its result."""
    recipe = tiny()
    run = create_run("search", recipe, str(tmp_path_factory.mktemp("runs") / "searched"))
    return run, conduct(run, recipe, quiet=True)


@pytest.fixture(scope="session")
def evolved(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Recipe]) -> tuple[RunFolder, dict[str, Any]]:
    """A finished evolution with one worker, and its result; tests copy it before they change anything."""
    recipe = tiny()
    run = create_run("evolve", recipe, str(tmp_path_factory.mktemp("runs") / "evolved"))
    return run, conduct(run, recipe, quiet=True)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[..., Recipe]) -> tuple[RunFolder, dict[str, Any]]:
    """A finished training of one network, done in this process."""
    recipe = tiny("final.arms=['genetic']")
    run = create_run("train", recipe, str(tmp_path_factory.mktemp("runs") / "trained"))
    return run, conduct(run, recipe, quiet=True)
