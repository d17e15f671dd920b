"""What the tests of hostile input share: their helpers, and a run that is real and tiny."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from evospike.cli.main import main
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.recipe import read_recipe
from evospike.search.space import Space

TINY = [
    "data.train_limit=60",
    "data.test_limit=20",
    "data.validation=0.2",
    "model.channels=[4,4]",
    "model.steps=2",
    "encoding.genes=2",
    "encoding.skip_growing=false",
    "training.epochs=1",
    "training.batch=16",
    "training.warmup_epochs=0.0",
    'final.arms=["genetic"]',
    "final.seeds=1",
]


def _made(folder: Path, verb: str, *arguments: str) -> RunFolder:
    settings = [part for setting in TINY for part in ("--set", setting)]
    assert main([verb, *arguments, "-o", str(folder), "--quiet", "--json", *settings]) == 0
    return open_run(folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished and evaluated training."""
    run = _made(tmp_path_factory.mktemp("trained") / "run", "train", "digits")
    assert main(["evaluate", str(run.path), "--quiet", "--json", "--samples", "10", "--noise-seeds", "1"]) == 0
    return run


@pytest.fixture(scope="session")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished training of a sparse network, of which the report draws the synapses."""
    return _made(tmp_path_factory.mktemp("sparse") / "run", "train", "digits", "--set", "sparse.density=0.5")


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What a finished search leaves, its record aside: starting a worker for one would take longer than all else."""
    recipe = read_recipe("digits-search", ["search.seeds=1"])
    run = create_run("search", recipe, str(tmp_path_factory.mktemp("searched") / "run"))
    genome = json.loads(Space(recipe.space).genome([0] * len(Space(recipe.space).names)).to_json())
    terms = {"score": 1.5, "parameters": 10.0, "operations": 20.0}
    one = {"seed": 0, "score": 1.5, "parameters": 10, "operations": 20, "firing_rate": 0.1, "candidates": 4, "draws": 0}
    run.write(
        "result.json",
        {
            "run": str(run.path),
            "recipe": recipe.name,
            **one,
            "score_std": None,
            "interval": None,
            "test_accuracy": None,
            "dense_parameters": 10,
            "density": 1.0,
            "digest": "0" * 32,
            "candidates_per_second": 3.0,
            "winner_seed": 0,
            "winner": {"genome": genome, "network": "0" * 32, "terms": terms},
            "front": [{"genome": genome, "terms": terms}],
            "seeds": [{**one, "winner": genome, "digest": "0" * 32}],
            "data": {"name": "digits", "split": "as it is", "simulated": False, "notes": []},
        },
    )
    return run


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a reader may use. Fails when anything is written beside it: into the current folder, the home or
    the cache."""
    inside = tmp_path / "inside"
    for name in ("inside", "home", "cache", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EVOSPIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EVOSPIKE_DATA", raising=False)
    monkeypatch.chdir(tmp_path / "here")
    yield inside
    strays = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(inside)]
    assert strays == []
