"""Finished runs side by side: in what their recipes differ, what their first networks reach, and what they cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evospike.core.errors import RunError, SettingsError
from evospike.jobs.folder import PLAN, RunFolder
from evospike.report.compare.alike import Entry, differing, labels_of, toml
from evospike.report.compare.quantities import Quantity, Value, cost, energy, percentage
from evospike.report.evaluation.facts import ENERGY, EvaluatedArm, Robustness, model_title
from evospike.report.facts import DataFacts, reading_of
from evospike.report.training.gather import Arm, Training, TrainingFacts, gather

NOISY = "noisy_accuracy"


@dataclass(frozen=True)
class ComparedRun(Entry):
    """One run, by its first arm.

    evaluation: that arm's part of its evaluation; None without, and then `lacking` says why. apart: why its seeds are
    not paired with those of the first run, empty where they are.
    """

    facts: TrainingFacts
    evaluation: EvaluatedArm | None
    lacking: str
    apart: tuple[str, ...]

    @property
    def arm(self) -> Arm:
        return self.facts.arms[0]

    @property
    def trainings(self) -> tuple[Training, ...]:
        return tuple(training for training in self.facts.trainings if training.arm == self.arm.name)

    @property
    def robustness(self) -> Robustness | None:
        return None if self.evaluation is None else self.evaluation.robustness


@dataclass(frozen=True)
class Comparison:
    """Everything the page shows.

    fields: of the recipes, those that differ, with every run's value as TOML. quantities: by key, those that some run
    has. assumptions: of the energy models, by title; runs may state different ones. unlike: numbers of the runs whose
    robustness was measured otherwise than that of the first run that has one, and is left out.
    """

    runs: tuple[ComparedRun, ...]
    fields: Mapping[str, tuple[str, ...]]
    quantities: Mapping[str, Quantity]
    assumptions: Mapping[str, tuple[str, ...]]
    unlike: tuple[int, ...]

    @property
    def data(self) -> DataFacts:
        return self.runs[0].facts.data

    @property
    def sparse(self) -> bool:
        return any(run.arm.sparse for run in self.runs)

    @property
    def unevaluated(self) -> tuple[ComparedRun, ...]:
        return tuple(run for run in self.runs if run.lacking)

    @property
    def headlines(self) -> tuple[Quantity, ...]:
        """The few that stand at the top, of the energies the first, where runs differ in them."""
        priced = next((key for key in self.quantities if key.startswith(ENERGY)), "")
        keys = ("test_accuracy", "parameters", NOISY, "synaptic_operations", priced)
        return tuple(self.quantities[key] for key in keys if key in self.quantities and self.quantities[key].varies)

    @property
    def costs(self) -> tuple[Quantity, ...]:
        """Of which less is better, and which two runs or more have."""
        return tuple(one for one in self.quantities.values() if one.aim == "less" and one.known > 1)

    @property
    def tried(self) -> tuple[ComparedRun, ...]:
        """Runs that were evaluated, and not on other samples or with other draws than the first of them."""
        return tuple(run for run in self.runs if run.evaluation and run.number not in self.unlike)

    @property
    def curves(self) -> tuple[tuple[str, str], ...]:
        """Every kind of change that two runs or more were tried under alike, and the unit of its strengths."""
        counts = Counter(
            (curve.name, curve.unit) for run in self.tried if run.robustness for curve in run.robustness.curves
        )
        return tuple(curve for curve, runs in counts.items() if runs > 1)

    @property
    def measured(self) -> tuple[Quantity, ...]:
        """What only an evaluation knows."""
        own = ("test_accuracy", "parameters", "firing_rate")
        return tuple(quantity for key, quantity in self.quantities.items() if key not in own)


def gather_comparison(folders: Sequence[RunFolder]) -> Comparison:
    """Read finished trainings to compare. Raises: RunError when they cannot be compared, or naming the file that was
    altered; StoreError likewise."""
    everything = list(map(_gathered, folders))
    for facts, folder in zip(everything, folders, strict=True):
        _require_alike(folder, facts, folders[0], everything[0])
    labels = labels_of(folders)
    runs = tuple(
        ComparedRun(place + 1, labels[place], facts, *_evaluation(facts), _apart(facts, everything[0]))
        for place, facts in enumerate(everything)
    )
    quantities, unlike = _quantities(runs)
    fields = differing([facts.recipe for facts in everything])
    return Comparison(runs, fields, quantities, _assumptions(runs), unlike)


def _gathered(run: RunFolder) -> TrainingFacts:
    try:
        return gather(run)
    except SettingsError as error:
        raise RunError(f"this release cannot read the recipe of '{run.path}': {error}") from None


def _require_alike(run: RunFolder, facts: TrainingFacts, first_run: RunFolder, first: TrainingFacts) -> None:
    """Refuse runs whose numbers are of different tasks."""
    pairs = {
        "data sets": (first.data.name, facts.data.name),
        "splits": (first.data.split, facts.data.split),
        "sizes of input": (_spec_entry(first_run, "input_shape"), _spec_entry(run, "input_shape")),
        "numbers of classes": (_spec_entry(first_run, "classes"), _spec_entry(run, "classes")),
    }
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise RunError(
                f"'{first_run.path}' and '{run.path}' have different {what} ({toml(ours)} and {toml(theirs)}); "
                "compare runs on the same data"
            )


def _spec_entry(run: RunFolder, key: str) -> Any:
    """An entry of the planned network's specification, read as JSON: that needs no torch."""
    with reading_of(run):
        plan = run.read(PLAN) or {}
        return json.loads(plan["spec"])[key]


def _evaluation(facts: TrainingFacts) -> tuple[EvaluatedArm | None, str]:
    """What the evaluation of a run says of its first arm, or why there is none."""
    name = facts.arms[0].name
    if facts.evaluation is None:
        return None, "its evaluation is of other weights" if facts.outdated else "not evaluated"
    own = next((arm for arm in facts.evaluation.arms if arm.name == name), None)
    return own, "" if own is not None else f"its evaluation leaves out '{name}'"


def _apart(facts: TrainingFacts, first: TrainingFacts) -> tuple[str, ...]:
    """Why seeds of a run do not belong to those of the first."""
    reasons = {
        "another root seed": facts.recipe.run.seed != first.recipe.run.seed,
        "another number of seeds": len(facts.arms[0].seeds) != len(first.arms[0].seeds),
        "another data section": replace(facts.recipe.data, folder="") != replace(first.recipe.data, folder=""),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def _quantities(runs: Sequence[ComparedRun]) -> tuple[dict[str, Quantity], tuple[int, ...]]:
    """Every quantity that some run has, by key, and the runs whose robustness is not comparable."""
    noises = {run.number: _noise(run, run.robustness) for run in runs if run.robustness is not None}
    usual = next(iter(noises.values()), None)
    unlike = tuple(number for number, noise in noises.items() if noise != usual)

    def over(key: str) -> tuple[Value | None, ...]:
        values = (_numbers(run, key) for run in runs)
        return tuple(Value.over(seeds) if seeds else None for seeds in values)

    noisy = tuple(None if run.number in unlike else value for run, value in zip(runs, over(NOISY), strict=True))
    models = dict.fromkeys(one.model for run in runs if run.evaluation for one in run.evaluation.energies)
    present = "Parameters present" if any(run.arm.sparse for run in runs) else "Parameters"
    found = [
        percentage("test_accuracy", "Test accuracy", tuple(map(_accuracy, runs))),
        cost("parameters", present, tuple(map(_parameters, runs))),
        Quantity("firing_rate", "Firing rate", "", 1.0, 3, "", tuple(map(_firing_rate, runs))),
        percentage(NOISY, "Accuracy with noise", noisy),
        cost("spikes_per_sample", "Spikes per sample", over("spikes_per_sample")),
        cost("synaptic_operations", "Synaptic operations per sample", over("synaptic_operations")),
        *(energy(f"{ENERGY}{model}", f"Energy, {model_title(model)}", over(f"{ENERGY}{model}")) for model in models),
    ]
    return {quantity.key: quantity for quantity in found if quantity.known}, unlike


def _noise(run: ComparedRun, robustness: Robustness) -> tuple[int | float | str, ...]:
    """How robustness was measured; an evaluation that does not name its samples drew them by the root seed."""
    samples = robustness.samples_digest or run.facts.recipe.run.seed
    return robustness.samples, robustness.noise_seeds, robustness.strength, robustness.space, samples


def _numbers(run: ComparedRun, key: str) -> dict[int, float]:
    """A quantity of an evaluated network by seed; empty where it was not measured."""
    if run.evaluation is None:
        return {}
    found = {
        seed.seed: seed.picojoules(key.removeprefix(ENERGY)) if key.startswith(ENERGY) else seed.numbers[key]
        for seed in run.evaluation.seeds
    }
    return {seed: value for seed, value in found.items() if value is not None}


def _accuracy(run: ComparedRun) -> Value:
    return Value(run.arm.test_accuracy, run.arm.interval, dict(enumerate(run.arm.seeds)))


def _parameters(run: ComparedRun) -> Value:
    """Counted, so without seeds."""
    return Value(run.arm.active_parameters if run.arm.sparse else run.arm.parameters, None, {})


def _firing_rate(run: ComparedRun) -> Value:
    """Seed by seed where the result says it so."""
    rows = (run.facts.result or {}).get("seeds", ())
    seeds = {int(row["seed"]): float(row["firing_rate"]) for row in rows}
    return Value.over(seeds) if seeds else Value(run.arm.firing_rate, None, {})


def _assumptions(runs: Sequence[ComparedRun]) -> dict[str, tuple[str, ...]]:
    """What every energy model assumes and where it is from, in the words of the evaluations, each once."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for one in run.evaluation.energies if run.evaluation else ():
            found.setdefault(model_title(one.model), {})[f"{one.assumptions} ({one.source})"] = None
    return {title: tuple(texts) for title, texts in found.items()}
