"""The document of `evospike evaluate`: means over paired seeds, arms against each other, and its place in a run folder.

Imports no torch: a report reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, get_args

from evospike.core.statistics import deviation, half_interval
from evospike.jobs.folder import EVALUATION, RESULT, RunFolder, reading
from evospike.measure.settings import Robustness

_KINDS = ("binary", "counts", "real")
"""What enters a layer, the most special first."""

_OF_A_SEED = (
    "test_accuracy",
    "top5_accuracy",
    "test_loss",
    "firing_rate",
    "spikes_per_sample",
    "synaptic_operations",
    "accumulates",
    "multiply_accumulates",
    "dead_units",
    "saturated_units",
    "density",
    "connection_density",
)
"""Numbers that are listed for every seed."""

_COMPARED = ("test_accuracy", "spikes_per_sample", "synaptic_operations", "noisy_accuracy")
"""Numbers of a seed by which arms are compared, beside every energy model."""


def stored_evaluation(run: RunFolder) -> dict[str, Any] | None:
    """The evaluation of a run; None when there is none or it is of other weights than the run's result.

    Raises: RunError when a file was altered.
    """
    document, result = run.read(EVALUATION), run.read(RESULT)
    if document is None or result is None or document.get("digest") != result.get("digest"):
        return None
    return document


def lost_by(
    document: Mapping[str, Any], arms: Sequence[str], robustness: str, samples: int, seeds: int, space: str
) -> list[str]:
    """What a document says that one of these arms and this robustness would not: each in some words.

    samples, seeds, space: of the new robustness, the last where its noise is added.
    """
    with reading("the earlier evaluation", "replace it with --force"):
        return _lost_by(document, arms, robustness, samples, seeds, space)


def _lost_by(
    document: Mapping[str, Any], arms: Sequence[str], robustness: str, samples: int, seeds: int, space: str
) -> list[str]:
    missing = [arm["arm"] for arm in document["arms"] if arm["arm"] not in arms]
    lost = [f"the numbers of {', '.join(missing)}"] if missing else []
    found = document["robustness"]
    if found is None:
        return lost
    levels = get_args(Robustness)
    if levels.index(robustness) < levels.index(found["kind"]):
        return [*lost, f"its robustness ({found['kind']})"]
    if samples < found["samples"] or seeds < found["noise_seeds"]:
        lost.append(f"robustness over {found['samples']:,} samples and {found['noise_seeds']} noise seeds")
    if space != found["noise_space"]:
        lost.append(f"its noise in {found['noise_space']} space")
    return lost


def compared_arms(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One document per arm from those of its trainings, in the order of the seeds; all but the first with their
    `difference` to the first, paired over seeds."""
    first, *others = (arm_document(name, trainings) for name, trainings in arms.items())
    return [first, *({**other, "difference": _difference(other, first)} for other in others)]


def arm_document(name: str, trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the trainings of one arm say together: means, the confusions added up, and a record of every seed.

    trainings: documents of the same form, one per seed.
    """
    seeds = [_of_seed(seed, training) for seed, training in enumerate(trainings)]
    spread = _spread(seeds)
    special = ("confusion", "layers", "robustness")
    plain = averaged([{key: value for key, value in t.items() if key not in special} for t in trainings])
    return {
        "arm": name,
        **plain,
        "test_accuracy_std": spread["test_accuracy"]["std"],
        "test_accuracy_interval": spread["test_accuracy"]["interval"],
        "spread": spread,
        "confusion": _added([training["confusion"] for training in trainings]),
        "layers": _layers([training["layers"] for training in trainings]),
        "robustness": _robustness([training["robustness"] for training in trainings]),
        "seeds": seeds,
    }


def _spread(seeds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """By how much every number that was measured of each seed varies: its standard deviation over the seeds and half
    the 95 % interval of its mean, both None for one seed."""
    listed = [_numbers(seed, (*_OF_A_SEED, "noisy_accuracy")) for seed in seeds]
    columns = {key: [numbers[key] for numbers in listed] for key in listed[0] if all(key in one for one in listed)}
    return {key: {"std": deviation(values), "interval": half_interval(values)} for key, values in columns.items()}


def averaged(values: Sequence[Any]) -> Any:
    """One plain value from several of the same form: the mean of every number, None where one of them has none, and
    the first of every text."""
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, Mapping):
        return {key: averaged([value[key] for value in values]) for key in first}
    if isinstance(first, (list, tuple)):
        return [averaged(entries) for entries in zip(*values, strict=True)]
    return first if isinstance(first, str) else mean(values)


def _added(confusions: Sequence[Sequence[Sequence[int]]]) -> list[list[int]]:
    return [[sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*confusions, strict=True)]


def _layers(trainings: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Layers by name; what enters one is of the least special kind that entered it in any training."""
    rows = []
    for same in zip(*trainings, strict=True):
        kinds = [layer["input_kind"] for layer in same]
        rows.append({**averaged(same), "input_kind": max(kinds, key=_KINDS.index)})
    return rows


def _robustness(found: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Of several trainings, each is one entry wherever a spread is given: its mean over the noise seeds."""
    measured = [one for one in found if one is not None]
    if len(measured) < len(found):
        return None
    if len(measured) == 1:
        return dict(measured[0])
    noisy = [one["noisy"] for one in measured]
    note = f"spreads are over {len(measured)} trainings, each with its mean over the noise seeds"
    plain = averaged([{key: value for key, value in one.items() if key not in ("curves", "notes")} for one in measured])
    return {
        **plain,
        "noisy_std": stdev(noisy),
        "noisy_interval": half_interval(noisy),
        "notes": [*measured[0]["notes"], note],
        "curves": [_curve(same) for same in zip(*(one["curves"] for one in measured), strict=True)],
    }


def _curve(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One curve from those of several trainings."""
    means = [list(at) for at in zip(*(curve["mean"] for curve in trainings), strict=True)]
    return {**trainings[0], "accuracies": means, "mean": [mean(at) for at in means], "std": [stdev(at) for at in means]}


def _of_seed(seed: int, training: Mapping[str, Any]) -> dict[str, Any]:
    robustness = training["robustness"]
    return {
        "seed": seed,
        **{key: training[key] for key in _OF_A_SEED},
        "energy": {name: model["picojoules"] for name, model in training["energy"].items()},
        "noisy_accuracy": None if robustness is None else robustness["noisy"],
    }


def _difference(arm: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and half its 95 % interval of every number that was measured of both."""
    mine, theirs = ([_numbers(seed, _COMPARED) for seed in one["seeds"]] for one in (arm, first))
    found = {}
    for key in mine[0]:
        if key in theirs[0]:
            differences = [a[key] - b[key] for a, b in zip(mine, theirs, strict=True)]
            found[key] = {"mean": mean(differences), "interval": half_interval(differences)}
    return found


def _numbers(seed: Mapping[str, Any], keys: Sequence[str]) -> dict[str, float]:
    """Those of these keys that were measured, and every energy under `energy.MODEL`."""
    numbers = {key: seed[key] for key in keys if seed[key] is not None}
    return numbers | {f"energy.{model}": picojoules for model, picojoules in seed["energy"].items()}
