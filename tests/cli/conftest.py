"""The command line, called in this process, and a small finished run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import evospike
from evospike.cli.main import main

TINY = """
[data]
source = "digits"
train_limit = 200
test_limit = 60
validation = 0.2
[data.augment]
kind = "none"
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
[evolution]
population = 4
generations = 2
proxy_epochs = 1
finalists = 1
finalist_seeds = 1
start_mean = 0.0
start_step = 0.2
[run]
device = "cpu"
path = "eager"
"""


@dataclass(frozen=True)
class Said:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    @property
    def lines(self) -> list[str]:
        return self.err.strip().splitlines()


@pytest.fixture(autouse=True)
def _quiet_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.set_num_threads(1)
    monkeypatch.delenv("EVOSPIKE_DATA", raising=False)
    monkeypatch.setenv("EVOSPIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(evospike.__file__).parents[1]))  # for processes started elsewhere
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(1)


@pytest.fixture(name="evospike")
def evospike_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    """A finished training; tests that change it copy it."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["train", str(recipe), "-o", str(run), "--quiet"]) == 0
    return run
