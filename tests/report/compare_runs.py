"""Finished runs that can be compared, made in a moment; the numbers of their seeds are what a test says."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from evospike.core.statistics import half_interval
from evospike.jobs.folder import read_record, write_record
from evospike.report.evaluation.facts import MEASURES

DATA = {"name": "digits", "split": "stratified 80/20, fixed", "simulated": False, "notes": []}
MODELS = ("45nm", "chip")


class Runs:
    """Makes runs under one folder. make_run: the fixture that makes a run in the folder `run` beside them."""

    def __init__(self, make_run: Callable[..., Any], folder: Path) -> None:
        self._make_run, self._folder = make_run, folder

    def __call__(
        self,
        name: str,
        accuracies: Sequence[float],
        *,
        verb: str = "train",
        arm: str = "genetic",
        overrides: Sequence[str] = (),
        data: Mapping[str, Any] = DATA,
        hostile: bool = False,
    ) -> Path:
        """A run whose first arm reaches those accuracies, one a seed. overrides: of its recipe."""
        path = self._folder / name
        settings = [f'final.arms=["{arm}"]', f"final.seeds={len(accuracies)}", *overrides]
        made = self._make_run(verb, overrides=settings, hostile=hostile, data=dict(data), scores=None)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made.path, path)
        rewrite(path / "result.json", lambda result: _with_accuracies(result, accuracies, name))
        for seed, value in enumerate(accuracies):
            rewrite(path / "final" / f"{arm}-{seed}" / "result.json", partial(_trained_to, value))
        return path


def rewrite(path: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Change a JSON document on disk."""
    write_record(path, dict(change(read_record(path))))


def _with_accuracies(result: dict[str, Any], accuracies: Sequence[float], name: str) -> dict[str, Any]:
    mean = fmean(accuracies)
    first = {**result["arms"][0], "test_accuracy": mean, "seeds": list(accuracies)}
    first["interval"] = half_interval(accuracies)
    seeds = [
        {"seed": seed, "test_accuracy": value, "firing_rate": 0.2 + 0.1 * value}
        for seed, value in enumerate(accuracies)
    ]
    return {**result, "digest": f"digest of {name}", "test_accuracy": mean, "seeds": seeds, "arms": [first]}


def _trained_to(accuracy: float, result: dict[str, Any]) -> dict[str, Any]:
    """The result of one training whose validation accuracy rises to its test accuracy."""
    epochs = [
        {**epoch, "validation_accuracy": accuracy - 0.1 / (1 + place)} for place, epoch in enumerate(result["history"])
    ]
    return {**result, "test_accuracy": accuracy, "history": epochs}


def evaluate(
    path: Path,
    operations: Sequence[float],
    *,
    noisy: Sequence[float] = (),
    curves: Sequence[Mapping[str, Any]] = (),
    strength: float = 0.5,
    models: Sequence[str] = MODELS,
    **changed: Any,
) -> None:
    """Write the evaluation of a run's first arm: so many synaptic operations a seed, half as many spikes, 0.9 pJ each
    under the first model and a thousandth of it more under every other.

    noisy: accuracy with noise by seed, none without. changed: entries of the document that are otherwise.
    """
    result = json.loads((path / "result.json").read_text(encoding="utf-8"))
    prices = {model: 0.9 + 0.0009 * place for place, model in enumerate(models)}
    rows = [
        {
            **{measure.key: 0.5 for measure in MEASURES},
            "seed": seed,
            "test_accuracy": result["arms"][0]["seeds"][seed],
            "noisy_accuracy": noisy[seed] if noisy else None,
            "spikes_per_sample": count / 2,
            "synaptic_operations": count,
            "energy": {model: price * count for model, price in prices.items()},
        }
        for seed, count in enumerate(operations)
    ]
    part = {
        **{measure.key: 0.5 for measure in MEASURES},
        "arm": result["arms"][0]["arm"],
        "samples": 359,
        "steps": 4,
        "accuracy_by_step": [0.5, 0.6, 0.7, 0.8],
        "confusion": [[36 if k == j else 0 for j in range(10)] for k in range(10)],
        "energy": {
            model: {
                "picojoules": fmean(row["energy"][model] for row in rows),
                "dense_picojoules": 1e6,
                "parts": {"accumulates": 1.0},
                "assumptions": f"Assumptions of {model}.",
                "source": f"Somebody on {model}.",
            }
            for model in models
        },
        "break_even": {},
        "layers": [],
        "neurons": [],
        "robustness": _robustness(noisy, curves, strength) if noisy else None,
        "seeds": rows,
    }
    document = {
        "run": str(path),
        "classes": [str(digit) for digit in range(10)],
        **part,
        "arms": [part],
        "wall_seconds": 1.0,
        "digest": result["digest"],
    }
    write_record(path / "evaluation.json", {**document, **changed})


def _robustness(noisy: Sequence[float], curves: Sequence[Mapping[str, Any]], strength: float) -> dict[str, Any]:
    mean = fmean(noisy)
    return {
        "kind": "full" if curves else "protocol",
        "samples": 359,
        "noise_seeds": 5,
        "strength": strength,
        "noise_space": "normalised",
        "clean": mean + 0.1,
        "noisy": mean,
        "drop": 0.1,
        "noisy_std": stdev(noisy) if len(noisy) > 1 else None,
        "noisy_interval": None,
        "notes": [],
        "curves": [dict(curve) for curve in curves],
    }


def curve(name: str, unit: str, means: Sequence[float]) -> dict[str, Any]:
    """One robustness curve at strengths 0, 0.25, 0.5, ... with a standard deviation of 0.01."""
    return {
        "name": name,
        "unit": unit,
        "strengths": [0.25 * k for k in range(len(means))],
        "accuracies": [[mean] for mean in means],
        "mean": list(means),
        "std": [0.01] * len(means),
    }
