"""Run folders as a run leaves them, made in a moment: a real store filled by a real study on a made-up landscape."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from evospike.evolution.records import Request, Score
from evospike.evolution.store import Store
from evospike.evolution.study import SearchSpace, Study, StudyResult
from evospike.jobs.folder import WEIGHTS, RunFolder, create_run
from evospike.jobs.recipe import Recipe
from evospike.training.checkpoint import Checkpoint, save_checkpoint

NAMES = ("log10 spread of encoding", "log10 spread of genes")
REASON = "layer 'conv1' hardly fires"


class Stopped(BaseException):
    """Ends a study in the middle."""


def judge(request: Request) -> Score:
    """A smooth bowl that takes a quarter of a second; the third candidate of a generation is silent."""
    if request.kind == "candidate" and request.index == 2:
        return Score("silent", REASON, {"loss": 0.0}, 0.25)
    x, y = request.genotype.values
    loss = 1.0 + (x + 1.5) ** 2 + (y + 0.5) ** 2
    noise = 0.001 * float(request.draw_key[1])
    terms = {"loss": loss, "validation_loss": loss + noise, "temporal": -x, "entropy": y, "firing_rate": 0.2}
    return Score("ok", "", terms, 0.25)


def begin(path: Path, verb: str, recipe: Recipe) -> RunFolder:
    """A run with a plan; nothing here reads what it says."""
    run = create_run(verb, recipe, str(path))
    run.write("plan.json", {})
    return run


def evolve(run: RunFolder, scores: int | None = None) -> StudyResult | None:
    """Evolve, or go on evolving, until so many scores were added; None: to the end, which has a result."""
    left = scores

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        nonlocal left
        for request in requests:
            if left == 0:
                raise Stopped
            left = None if left is None else left - 1
            yield request, judge(request), 1

    settings = run.recipe.evolution
    with Store.open_or_create(run.store_path) as store:
        try:
            return Study(store, settings, 0, SearchSpace.of(NAMES, settings), evaluate).run()
        except Stopped:
            return None


def epoch(number: int) -> dict[str, float]:
    """The record of one epoch of a sparse training."""
    return {
        "epoch": float(number),
        "loss": 2.0 / (number + 1),
        "rate": 0.01 / (number + 1),
        "density": 0.1,
        "exploration": 0.1 * (number + 1),
        "validation_accuracy": 0.5 + 0.1 * number,
        "validation_loss": 1.0 / (number + 3),
        "seconds": 2.0 + number,
    }


def train(run: RunFolder, arm: str, epochs: int, repeat: int = 0) -> None:
    """A training after its last checkpoint, which was written at the end of an epoch."""
    record: dict[str, Any] = {"step": 10 * epochs, "history": [epoch(k) for k in range(epochs)], "seconds": 0.0}
    tensors = {"w": torch.zeros(2)}
    save_checkpoint(run.final_path(arm, repeat), 10 * epochs, Checkpoint(tensors, tensors, record))


def finish(run: RunFolder, arm: str, epochs: int, repeat: int = 0) -> dict[str, Any]:
    """A finished training: its result, and a file in the place of its weights."""
    result: dict[str, Any] = {
        "arm": arm,
        "repeat": repeat,
        "test_accuracy": 0.625,
        "test_loss": 0.375,
        "firing_rate": 0.25,
        "layer_rates": {"conv1.neuron": 0.125, "conv2.neuron": 0.375},
        "history": [epoch(k) for k in range(epochs)],
    }
    run.write(f"final/{arm}-{repeat}/result.json", result)
    (run.final_path(arm, repeat) / WEIGHTS).touch()
    return result


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of a folder: when it was written, and what is in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (os.stat(path).st_mtime_ns, path.read_bytes()) for path in files}
