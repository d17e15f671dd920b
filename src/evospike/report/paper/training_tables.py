"""Tables for papers of a run of evolve or train: its networks, and what an evaluation found.

Layouts: methods 3.13 (networks and their energy, robustness) and 5.6 (densities).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from evospike.core.statistics import half_interval
from evospike.core.units import energy_number, energy_unit
from evospike.report.evaluation.facts import ENERGY, EvaluatedArm, Evaluation, model_title
from evospike.report.paper.tables import Cell, Column, Table, counts, data_name, words
from evospike.report.paper.text import count_text, count_unit, number_text, share_text
from evospike.report.training.gather import Arm, TrainingFacts


def training_tables(facts: TrainingFacts) -> list[Table]:
    """Every table that a run of evolve or train has numbers for."""
    found: list[Table] = []
    if facts.arms:
        found.append(results_table(facts))
        if facts.sparse:
            found.append(density_table(facts))
    if facts.evaluation is not None:
        found += evaluation_tables(facts.evaluation, data_name(facts))
    return found


def results_table(facts: TrainingFacts) -> Table:
    """Method, network, parameters, steps, accuracy, and once evaluated the energy (methods 3.13)."""
    arms, evaluation = facts.arms, facts.evaluation
    columns = [
        words("Method", [arm.name for arm in arms]),
        words("Network", [_network_name(facts)] * len(arms)),
        counts("Param.", [arm.parameters for arm in arms]),
        Column("T", [str(facts.recipe.model.steps)] * len(arms)),
        Column("Accuracy (%)", [share_text(arm.test_accuracy, arm.interval) for arm in arms]),
    ]
    if evaluation is not None:
        evaluated = [_evaluated(evaluation, arm.name) for arm in arms]
        columns += [_energy_column(evaluated, model) for model in evaluation.models[:1]]
    notes = [_spread_note([len(arm.seeds) for arm in arms])]
    if facts.outdated:
        notes.append("The evaluation of this run is of other weights and left out.")
    return Table("results", f"Test accuracy on {data_name(facts)}.", tuple(columns), tuple(notes))


def density_table(facts: TrainingFacts) -> Table:
    """Density, accuracy, and the loss against the dense network (methods 5.6)."""
    arms = facts.arms
    columns = (
        words("Method", [arm.name for arm in arms]),
        words("Network", [_network_name(facts)] * len(arms)),
        Column("T", [str(facts.recipe.model.steps)] * len(arms)),
        Column("Density (%)", [share_text(arm.density) for arm in arms]),
        Column("Conn. (%)", [share_text(arm.connection_density) for arm in arms]),
        counts("Param. present", [arm.active_parameters for arm in arms]),
        Column("Accuracy (%)", [share_text(arm.test_accuracy, arm.interval) for arm in arms]),
        Column("Loss (points)", _losses(arms)),
    )
    notes = (
        _spread_note([len(arm.seeds) for arm in arms]),
        "Density: share of the prunable parameters that exist. Conn.: the same weighted by operations. Loss: accuracy "
        "of the dense network minus this one's, paired over seeds.",
    )
    return Table("density", f"Sparse networks on {data_name(facts)}.", columns, notes)


def evaluation_tables(evaluation: Evaluation, data: str) -> list[Table]:
    """What the networks cost and how they hold up. data: what they were measured on, for the captions."""
    found = [costs_table(evaluation.arms, data)]
    if evaluation.models:
        found.append(energy_table(evaluation, data))
    found.append(layers_table(evaluation.arms[0], data))
    if any(arm.robustness for arm in evaluation.arms):
        found.append(robustness_table(evaluation.arms, data))
    return found


def costs_table(arms: Sequence[EvaluatedArm], data: str) -> Table:
    """Spikes and operations of a sample."""
    columns = (
        words("Method", [arm.name for arm in arms]),
        Column("T", [str(arm.steps) for arm in arms]),
        Column("Firing rate", [number_text(arm.numbers["firing_rate"]) for arm in arms]),
        *(
            counts(head, [arm.numbers[key] for arm in arms])
            for head, key in (
                ("Spikes", "spikes_per_sample"),
                ("SOPs", "synaptic_operations"),
                ("AC", "accumulates"),
                ("MAC", "multiply_accumulates"),
            )
        ),
    )
    notes = (
        "Per sample, mean over test samples and seeds. SOPs: synaptic operations. AC: effective accumulates of layers "
        "that read spikes. MAC: effective multiply-accumulates of all others; those on whole numbers are accumulates "
        "to the energy models.",
    )
    return Table("costs", f"Activity and operations of a sample of {data}.", columns, notes)


def energy_table(evaluation: Evaluation, data: str) -> Table:
    """Energy of a sample under every model, against the dense network, and the rate at which it breaks even."""
    rows = [
        (arm, energy)
        for model in evaluation.models
        for arm in evaluation.arms
        for energy in arm.energies
        if energy.model == model
    ]
    columns = (
        words("Energy model", [model_title(energy.model) for _, energy in rows]),
        words("Method", [arm.name for arm, _ in rows]),
        Column("Energy", [_energy_text(evaluation, energy.model, energy.picojoules) for _, energy in rows]),
        Column("Dense twin", [_energy_text(evaluation, energy.model, energy.dense_picojoules) for _, energy in rows]),
        Column("Of its twin (%)", [share_text(energy.share, digits=1) for _, energy in rows]),
        Column("Break-even rate", [_break_even_text(arm, energy.model) for arm, energy in rows]),
    )
    known = {energy.model: energy for _, energy in rows}
    even = {one.model: one.assumptions for arm in evaluation.arms for one in arm.break_evens}
    notes = (
        "Per sample. Dense twin: the same network with all synapses and stored weights. Break-even rate: spikes per "
        "unit and step at which a quantised network costs as much; always: it costs more at every rate; none: at none.",
        *(f"{model_title(model)}: {energy.assumptions}. Source: {energy.source}." for model, energy in known.items()),
        *(f"Break-even by {model_title(model)}: {text}." for model, text in even.items()),
    )
    return Table("energy", f"Energy of a sample by model, on {data}.", columns, notes)


def layers_table(arm: EvaluatedArm, data: str) -> Table:
    """What every layer of one network does for a sample."""
    layers = arm.layers
    spiking = [layer.effective if layer.accumulates else None for layer in layers]
    others = [None if layer.accumulates else layer.effective for layer in layers]
    columns = (
        words("Layer", [layer.name for layer in layers]),
        words("Input", [layer.input_kind for layer in layers]),
        Column("Input rate", [number_text(layer.rate) for layer in layers]),
        Column("Density (%)", [share_text(layer.density) for layer in layers]),
        Column("AC", [count_text(value, count_unit(())) for value in spiking]),
        Column("MAC", [count_text(value, count_unit(())) for value in others]),
    )
    notes = (
        "Effective operations per sample, mean over test samples and seeds; generated weights as if formed. Input "
        "rate: mean of what enters, of real values the share that is not zero.",
    )
    return Table("layers", f"Layers of the {arm.name} network on {data}.", columns, notes)


def robustness_table(arms: Sequence[EvaluatedArm], data: str) -> Table:
    """Accuracy with and without noise, of the networks that were tested (methods 1.9, 3.13)."""
    tested = [(arm.name, arm.robustness) for arm in arms if arm.robustness is not None]
    columns = (
        words("Method", [name for name, _ in tested]),
        Column("Clean (%)", [share_text(found.clean) for _, found in tested]),
        Column("Noisy (%)", [share_text(found.noisy, found.noisy_interval) for _, found in tested]),
        Column("Drop (points)", [share_text(found.drop) for _, found in tested]),
    )
    first = tested[0][1]
    notes = (
        f"Gaussian noise of {100 * first.strength:g} % of the norm of the {first.space} input, {first.noise_seeds} "
        f"draws, {first.samples:,} fixed test samples; mean, and half of the 95 % interval.",
        *dict.fromkeys(note for _, found in tested for note in found.notes),
    )
    return Table("robustness", f"Accuracy under noise on {data}.", columns, notes)


def _energy_column(arms: Sequence[EvaluatedArm | None], model: str) -> Column:
    values = [None if arm is None else arm.value(ENERGY + model) for arm in arms]
    unit = energy_unit(values)
    cells = [None if value is None else energy_number(value, unit) for value in values]
    return Column(f"Energy, {model_title(model)} ({unit.name})", cells)


def _energy_text(evaluation: Evaluation, model: str, picojoules: float) -> str:
    """An energy in the unit of its model's largest."""
    priced = [energy for arm in evaluation.arms for energy in arm.energies if energy.model == model]
    unit = energy_unit(value for energy in priced for value in (energy.picojoules, energy.dense_picojoules))
    return f"{energy_number(picojoules, unit)} {unit.name}"


def _evaluated(evaluation: Evaluation, name: str) -> EvaluatedArm | None:
    return next((arm for arm in evaluation.arms if arm.name == name), None)


def _break_even_text(arm: EvaluatedArm, model: str) -> Cell:
    found = next((one for one in arm.break_evens if one.model == model), None)
    return None if found is None else found.verdict or number_text(found.firing_rate)


def _losses(arms: Sequence[Arm]) -> list[Cell]:
    """Points of accuracy below the dense network, paired over seeds; none where there is no such pair."""
    dense = next((arm for arm in arms if arm.name == "dense"), None)
    if dense is None:
        return [None] * len(arms)
    return [None if arm is dense or len(arm.seeds) != len(dense.seeds) else _loss(arm, dense) for arm in arms]


def _loss(arm: Arm, dense: Arm) -> Cell:
    differences = [whole - own for own, whole in zip(arm.seeds, dense.seeds, strict=True)]
    return share_text(fmean(differences), half_interval(differences))


def _network_name(facts: TrainingFacts) -> str:
    return facts.recipe.model.preset if facts.network is None else facts.network.name


def _spread_note(counts: Sequence[int]) -> str:
    """Over how many seeds the means are."""
    low, high = min(counts), max(counts)
    if high == 1:
        return "One seed."
    seeds = f"{low}" if low == high else f"{low} to {high}"
    return f"Mean over {seeds} seeds and half of the 95 % interval."
