"""Run folders as a run leaves them, made in a moment: a real store filled by a real study, results made up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from evospike.core.files import write_json
from evospike.evolution.records import Request, Score
from evospike.evolution.store import Store
from evospike.evolution.study import SearchSpace, Study, StudyResult
from evospike.jobs.folder import RunFolder, open_run
from evospike.jobs.recipe import Recipe, read_recipe
from evospike.jobs.results import summarise
from evospike.models.presets import make_spec

HOSTILE = "<script>alert(1)</script>"
ATTRIBUTE = "\"'><img src=x onerror=alert(2)>"
GLOBAL = ("log10 spread of encoding", "log10 spread of genes")
ACCURACIES = {"genetic": (0.90, 0.92, 0.91), "dense": (0.95, 0.97, 0.96), "random": (0.90, 0.93, 0.90)}


class Stopped(BaseException):
    """Ends a study in the middle."""


def judge(request: Request) -> Score:
    """A smooth bowl; the third candidate of a generation is silent for a reason that holds markup."""
    if request.kind == "candidate" and request.index == 2:
        return Score("silent", f"layer '{HOSTILE}' hardly fires")
    x, y = request.genotype.values[0], request.genotype.values[-1]
    noise = 0.001 * float(request.draw_key[1]) if request.kind == "finalist" else 0.0
    loss = 1.0 + (x + 1.5) ** 2 + (y + 0.5) ** 2
    terms = {"loss": loss, "validation_loss": loss + noise, "temporal": -x, "entropy": y, "firing_rate": 0.2}
    return Score("ok", terms=terms)


class MadeRun:
    """A run folder and what it was made from."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self.recipe = path, recipe
        self.study: StudyResult | None = None

    @property
    def folder(self) -> RunFolder:
        return open_run(self.path)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., MadeRun]:
    """Make a run folder.

    scores: how many scores the study records before it stops, None for all. finals: how many final trainings are
    there, None for all; with all of them the run has its result.
    """

    def make(
        verb: str = "evolve",
        *,
        overrides: Sequence[str] = (),
        hostile: bool = False,
        plan: bool = True,
        scores: int | None = None,
        finals: int | None = None,
        names: tuple[str, ...] = GLOBAL,
    ) -> MadeRun:
        recipe = read_recipe(
            "digits",
            [
                "evolution.generations=3",
                "evolution.proxy_epochs=1",
                "training.epochs=3",
                'final.arms=["genetic","dense","random"]',
                "final.seeds=3",
                *overrides,
            ],
        )
        if hostile:
            recipe = dataclasses.replace(
                recipe,
                name=HOSTILE,
                about=ATTRIBUTE,
                data=dataclasses.replace(recipe.data, folder=HOSTILE + ATTRIBUTE),
            )
        run = MadeRun(tmp_path / "run", recipe)
        name = HOSTILE if hostile else ""
        write_json(run.path / "run.json", _record(verb, recipe, name))
        if plan:
            write_json(run.path / "plan.json", _plan(recipe, name))
        if verb == "evolve" and plan:
            run.study = _evolve(run, names, scores)
        if finals is None or finals > 0:
            _train(run, finals, name)
        return run

    return make


def _record(verb: str, recipe: Recipe, name: str) -> dict[str, Any]:
    return {
        "format": 1,
        "verb": verb,
        "recipe": recipe.to_plain(),
        "command": [verb, f"digits{name}", "-o", "somewhere", "--seeds", "3", "--output=elsewhere"],
        "created": f"2026-01-02T03:04:05+0000{name}",
        "evospike": "0.1.0",
        "commit": f"abc123+{name}",
        "python": "3.11.7",
        "platform": f"Linux{name}",
    }


def _plan(recipe: Recipe, name: str) -> dict[str, Any]:
    return {
        "device": f"cpu{name}",
        "threads": 7,
        "path": "fused",
        "contractions": {"conv2.conv": "materialise", "conv3.conv": "two_stage", "conv4.conv": "two_stage"},
        "spec": make_spec(recipe.model, (1, 8, 8), 10).to_json().replace("small8", json.dumps(name or "small8")[1:-1]),
        "data": {"train": "0" * 32, f"validation{name}": "1" * 32},
        "versions": {"torch": f"2.13.0{name}", "cpu": "AVX512"},
        "seconds": 2.0,
    }


def _evolve(run: MadeRun, names: tuple[str, ...], scores: int | None) -> StudyResult | None:
    left = scores

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        nonlocal left
        for request in requests:
            if left == 0:
                raise Stopped
            left = None if left is None else left - 1
            yield request, judge(request), 1

    settings = run.recipe.evolution
    with Store.open_or_create(run.path / "study.sqlite") as store:
        try:
            return Study(store, settings, 0, SearchSpace.of(names, settings), evaluate).run()
        except Stopped:
            return None


def _train(run: MadeRun, count: int | None, name: str) -> None:
    final = run.recipe.final
    results = [
        _final(arm, repeat, run.recipe.training.epochs, name) for arm in final.arms for repeat in range(final.seeds)
    ]
    for result in results[:count]:
        folder = f"{result['arm'].removesuffix(name)}-{result['repeat']}"
        write_json(run.path / "final" / folder / "result.json", result)
    if count is None:
        study = None
        if run.study is not None:
            study = {"winner": {"genotype": run.study.genotype.as_mapping()}, "history_digest": "2" * 32}
        named = [{**result, "arm": result["arm"].removesuffix(name)} for result in results]
        document = summarise(RunFolder(run.path, {}), run.recipe, named, study, 754.0)
        if name:
            document["arms"] = [{**arm, "arm": arm["arm"] + name} for arm in document["arms"]]
        write_json(run.path / "result.json", document)


def _final(arm: str, repeat: int, epochs: int, name: str) -> dict[str, Any]:
    accuracy = ACCURACIES[arm][repeat]
    history = [
        {
            "epoch": float(epoch),
            "loss": 2.0 / (epoch + 1) + 0.01 * repeat,
            "rate": 0.01,
            "validation_accuracy": accuracy - 0.1 / (epoch + 1),
            "validation_loss": 1.0,
            "seconds": 1.0,
        }
        for epoch in range(epochs)
    ]
    return {
        "arm": arm + name,
        "repeat": repeat,
        "test_accuracy": accuracy,
        "test_loss": 0.3,
        "test_samples": 359,
        "firing_rate": 0.2 + 0.01 * repeat,
        "layer_rates": {f"conv1.neuron{name}": 0.1, "conv2.neuron": 0.3},
        "parameters": 65834 if arm == "dense" else 27962,
        "dense_parameters": 65834,
        "history": history,
        "seconds": 12.0,
        "weights": "3" * 32,
    }
