"""Reads what `evospike evaluate` wrote into a run folder, field by field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

from evospike.core.statistics import half_interval
from evospike.jobs.evaluation_document import stored_evaluation
from evospike.jobs.folder import EVALUATION, RunFolder, reading
from evospike.report.evaluation.facts import (
    ENERGY,
    MEASURES,
    PLAIN,
    SEED_MEASURES,
    BreakEven,
    CostedLayer,
    Curve,
    Encoding,
    Energy,
    EvaluatedArm,
    EvaluatedSeed,
    Evaluation,
    Neurons,
    PairedDifference,
    Robustness,
)


def read_evaluation(run: RunFolder) -> tuple[Evaluation | None, bool]:
    """The evaluation of a run's weights, and whether there is one of other weights instead.

    Raises: RunError when the file was altered.
    """
    document = stored_evaluation(run)
    if document is None:
        return None, (run.path / EVALUATION).is_file()
    with reading(f"{run.path / EVALUATION}", f"write it anew: evospike evaluate {run.path}"):
        return _evaluation(document), False


def _evaluation(document: Mapping[str, Any]) -> Evaluation:
    classes = tuple(map(str, document["classes"]))
    arms = tuple(_arm(arm, len(classes)) for arm in document["arms"])
    if not arms:
        raise ValueError("no network was evaluated")
    first, *others = arms
    compared = (replace(arm, differences={**arm.differences, **_as_stored(first, arm)}) for arm in others)
    return Evaluation(classes, _number(document["wall_seconds"]), (first, *compared))


def _as_stored(first: EvaluatedArm, arm: EvaluatedArm) -> dict[str, PairedDifference]:
    """Differences by models that price only one of two networks, the other one as what it comes to there."""
    found = {}
    for model in PLAIN:
        own = {seed.seed: seed.picojoules(model) for seed in first.seeds}
        pairs = [(own.get(seed.seed), seed.picojoules(model)) for seed in arm.seeds]
        known = [theirs - ours for ours, theirs in pairs if ours is not None and theirs is not None]
        priced = sum(model in one.energy for one in (*first.seeds, *arm.seeds))
        if known and len(known) == len(own) == len(arm.seeds) == priced:
            found[ENERGY + model] = PairedDifference(fmean(known), half_interval(known), len(known))
    return found


def _arm(arm: Mapping[str, Any], classes: int) -> EvaluatedArm:
    confusion = tuple(tuple(map(int, row)) for row in arm["confusion"])
    if {classes} != {len(confusion), *map(len, confusion)}:
        raise ValueError(f"the confusion of '{arm['arm']}' is not {classes} by {classes}")
    steps, by_step = int(arm["steps"]), _numbers(arm["accuracy_by_step"])
    neurons = tuple(map(_neurons, arm["neurons"]))
    if {steps} != {len(by_step), *(len(layer.spikes_by_step) for layer in neurons)}:
        raise ValueError(f"'{arm['arm']}' has not one number for each of {steps} steps")
    return EvaluatedArm(
        name=str(arm["arm"]),
        samples=int(arm["samples"]),
        steps=steps,
        numbers={measure.key: _maybe(arm[measure.key]) for measure in MEASURES},
        accuracy_by_step=by_step,
        confusion=confusion,
        energies=tuple(_energy(str(model), row) for model, row in arm["energy"].items()),
        break_evens=tuple(_break_even(str(model), row) for model, row in arm["break_even"].items()),
        layers=tuple(map(_layer, arm["layers"])),
        neurons=neurons,
        robustness=None if arm["robustness"] is None else _robustness(arm["robustness"]),
        seeds=tuple(map(_seed, arm["seeds"])),
        differences={str(key): _difference(row, len(arm["seeds"])) for key, row in arm.get("difference", {}).items()},
    )


def _layer(row: Mapping[str, Any]) -> CostedLayer:
    numbers = ("input_rate", "input_activity", "passes", "dense_macs", "weights", "density", "effective")
    return CostedLayer(
        name=str(row["name"]),
        op=str(row["op"]),
        input_kind=str(row["input_kind"]),
        encoding=None if row["encoding"] is None else _encoding(row["encoding"]),
        **{name: _number(row[name]) for name in (*numbers, "synaptic_operations", "parameters")},
    )


def _encoding(row: Mapping[str, Any]) -> Encoding:
    return Encoding(str(row["order"]), *(_number(row[name]) for name in ("forming", "first_stage", "second_stage")))


def _neurons(row: Mapping[str, Any]) -> Neurons:
    if not _number(row["units"]) > 0:
        raise ValueError(f"layer '{row['name']}' has {row['units']} units")
    return Neurons(
        name=str(row["name"]),
        spikes_by_step=_numbers(row["spikes_by_step"]),
        **{name: _number(row[name]) for name in ("units", "rate", "spikes", "dead", "saturated")},
    )


def _energy(model: str, row: Mapping[str, Any]) -> Energy:
    return Energy(
        model=model,
        picojoules=_number(row["picojoules"]),
        dense_picojoules=_number(row["dense_picojoules"]),
        parts={str(part): _number(value) for part, value in row["parts"].items()},
        assumptions=str(row["assumptions"]),
        source=str(row["source"]),
    )


def _break_even(model: str, row: Mapping[str, Any]) -> BreakEven:
    return BreakEven(
        model=model,
        firing_rate=_maybe(row["firing_rate"]),
        scale=_maybe(row["scale"]),
        quantised_picojoules=_number(row["quantised_picojoules"]),
        bits=_number(row["bits"]),
        assumptions=str(row["assumptions"]),
    )


def _robustness(row: Mapping[str, Any]) -> Robustness:
    return Robustness(
        kind=str(row["kind"]),
        samples=int(row["samples"]),
        noise_seeds=int(row["noise_seeds"]),
        strength=_number(row["strength"]),
        space=str(row["noise_space"]),
        clean=_number(row["clean"]),
        noisy=_number(row["noisy"]),
        drop=_number(row["drop"]),
        noisy_std=_maybe(row["noisy_std"]),
        noisy_interval=_maybe(row["noisy_interval"]),
        notes=tuple(map(str, row["notes"])),
        curves=tuple(map(_curve, row["curves"])),
        samples_digest=None if row.get("samples_digest") is None else str(row["samples_digest"]),
    )


def _curve(row: Mapping[str, Any]) -> Curve:
    strengths, mean, std = _numbers(row["strengths"]), _numbers(row["mean"]), tuple(map(_maybe, row["std"]))
    if not len(strengths) == len(mean) == len(std) > 0:
        raise ValueError(f"the curve '{row['name']}' has not one mean and one spread for every strength")
    return Curve(str(row["name"]), str(row["unit"]), strengths, mean, std)


def _seed(row: Mapping[str, Any]) -> EvaluatedSeed:
    return EvaluatedSeed(
        seed=int(row["seed"]),
        numbers={measure.key: _maybe(row[measure.key]) for measure in SEED_MEASURES},
        energy={str(model): _number(value) for model, value in row["energy"].items()},
    )


def _difference(row: Mapping[str, Any], seeds: int) -> PairedDifference:
    return PairedDifference(_number(row["mean"]), _maybe(row["interval"]), seeds)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _maybe(value: Any) -> float | None:
    return None if value is None else _number(value)


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(map(_number, values))
