"""The evaluation of a run as plain records: what its networks cost, what they answer, and how they hold up.

Numbers are those of the document that `evospike evaluate` wrote: means over the seeds of a network, per sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar

from evospike.core.statistics import significant

Kind = Literal["share", "number", "count", "bytes", "energy"]
"""How a number is written: as per cent, with some digits, as a whole number, in units of bytes or of energy."""


@dataclass(frozen=True)
class Measure:
    """One number of an evaluated network: its name in the document, and what a reader calls it."""

    key: str
    label: str
    kind: Kind


MEASURES = (
    Measure("test_accuracy", "Test accuracy", "share"),
    Measure("test_accuracy_std", "Its standard deviation over seeds", "share"),
    Measure("test_accuracy_interval", "Half of its 95 % interval", "share"),
    Measure("top5_accuracy", "Top-5 accuracy", "share"),
    Measure("test_loss", "Test loss", "number"),
    Measure("parameters", "Parameters", "count"),
    Measure("dense_parameters", "Parameters of the dense twin", "count"),
    Measure("encoding_parameters", "Parameters in encodings", "count"),
    Measure("gene_parameters", "Parameters in the gene matrix", "count"),
    Measure("stored_parameters", "Parameters stored as they are", "count"),
    Measure("active_parameters", "Parameters that exist", "count"),
    Measure("density", "Density of what is stored", "share"),
    Measure("synapse_density", "Density of the weights that are computed with", "share"),
    Measure("connection_density", "Density of the connections", "share"),
    Measure("bytes_on_disk", "Size on disk", "bytes"),
    Measure("bytes_in_memory", "Size in memory", "bytes"),
    Measure("dense_bytes_in_memory", "Size in memory of the dense twin", "bytes"),
    Measure("firing_rate", "Firing rate, spikes per unit and step", "number"),
    Measure("spikes_per_sample", "Spikes per sample", "count"),
    Measure("synaptic_operations", "Synaptic operations per sample", "count"),
    Measure("accumulates", "Accumulates per sample", "count"),
    Measure("multiply_accumulates", "Multiply-accumulates per sample", "count"),
    Measure("membrane_updates", "Membrane updates per sample", "count"),
    Measure("activation_sparsity", "Activation sparsity", "share"),
    Measure("connection_sparsity", "Connection sparsity", "share"),
    Measure("dead_units", "Units that never fire", "share"),
    Measure("saturated_units", "Units that always fire", "share"),
)
"""What is told of every evaluated network, in this order."""

SEED_MEASURES = (
    *(measure for measure in MEASURES if measure.key in ("test_accuracy", "test_loss")),
    Measure("noisy_accuracy", "Noisy accuracy", "share"),
    Measure("firing_rate", "Firing rate", "number"),
    Measure("spikes_per_sample", "Spikes", "count"),
    Measure("synaptic_operations", "Synaptic operations", "count"),
)
"""What is told of every seed."""

PLAIN: Mapping[str, str] = MappingProxyType({"45nm_with_encoding": "45nm"})
"""Models that price only networks which generate weights, and the model that they come to for any other."""

ENERGY = "energy."
"""Begins the name of an energy among the differences; the model follows."""


@dataclass(frozen=True)
class PairedDifference:
    """Mean over paired seeds of a network's number minus the first network's. interval: half of the 95 % interval,
    None with one seed. seeds: how many."""

    mean: float
    interval: float | None
    seeds: int

    @property
    def significant(self) -> bool | None:
        """Whether the interval speaks against zero; None where there is no interval."""
        return significant(self.mean, self.interval, self.seeds)


@dataclass(frozen=True)
class Encoding:
    """What a layer that generates its weights does besides. Multiply-accumulates, but for first_stage, per sample."""

    order: str
    forming: float
    first_stage: float
    second_stage: float


@dataclass(frozen=True)
class CostedLayer:
    """One layer with weights; fields as `measure.cost.LayerCost` has them. parameters: without shared genes."""

    name: str
    op: str
    input_kind: str
    input_rate: float
    input_activity: float
    passes: float
    dense_macs: float
    weights: float
    density: float
    effective: float
    synaptic_operations: float
    parameters: float
    encoding: Encoding | None

    @property
    def accumulates(self) -> bool:
        """Whether its operations are accumulates; else, those on whole numbers too, they are multiply-accumulates."""
        return self.input_kind == "binary"

    @property
    def rate(self) -> float:
        """Mean of what enters; of real values, whose mean may be negative, the share that is not zero."""
        return self.input_activity if self.input_kind == "real" else self.input_rate


@dataclass(frozen=True)
class Neurons:
    """One layer of neurons. rate: spikes per unit and step. dead, saturated: shares of units that never or always
    fire."""

    name: str
    units: float
    rate: float
    spikes: float
    spikes_by_step: tuple[float, ...]
    dead: float
    saturated: float


@dataclass(frozen=True)
class Energy:
    """What a sample costs under one model, and the same network with all synapses and stored weights."""

    model: str
    picojoules: float
    dense_picojoules: float
    parts: Mapping[str, float]
    assumptions: str
    source: str

    @property
    def share(self) -> float | None:
        """Of the dense network's energy; None where that costs nothing."""
        return self.picojoules / self.dense_picojoules if self.dense_picojoules else None


@dataclass(frozen=True)
class BreakEven:
    """firing_rate: where the network costs as much as a quantised one, `scale` times its own; None: at no rate."""

    model: str
    firing_rate: float | None
    scale: float | None
    quantised_picojoules: float
    bits: float
    assumptions: str

    @property
    def verdict(self) -> str:
        """`none` or `always` where no rate is the break-even; one above a spike per unit and step is not."""
        if self.firing_rate is None:
            return "none"
        return "always" if self.firing_rate > 1 else ""


Priced = TypeVar("Priced", Energy, BreakEven)


@dataclass(frozen=True)
class Curve:
    """Accuracy under one kind of change, by its strength: mean and standard deviation over draws and seeds."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float | None, ...]

    @property
    def falls(self) -> bool:
        """Whether the smaller number is the stronger change, as with bits; they are then set one beside the other."""
        return self.strengths[0] > self.strengths[-1]


@dataclass(frozen=True)
class Robustness:
    """How accuracy holds up. strength, space: of the protocol's noise. interval: half of the 95 % interval of noisy.

    samples_digest: which samples and noise it was measured with; None in evaluations that do not say.
    """

    kind: str
    samples: int
    noise_seeds: int
    strength: float
    space: str
    clean: float
    noisy: float
    drop: float
    noisy_std: float | None
    noisy_interval: float | None
    notes: tuple[str, ...]
    curves: tuple[Curve, ...]
    samples_digest: str | None = None


@dataclass(frozen=True)
class EvaluatedSeed:
    """One seed of a network. numbers: by the keys of `SEED_MEASURES`. energy: picojoules by model."""

    seed: int
    numbers: Mapping[str, float | None]
    energy: Mapping[str, float]

    def picojoules(self, model: str) -> float | None:
        """Its energy by a model, or by the one that this comes to for a network that stores its weights."""
        return self.energy.get(model, self.energy.get(PLAIN.get(model, model)))


@dataclass(frozen=True)
class EvaluatedArm:
    """One network. numbers: by the keys of `MEASURES`. confusion: rows are true classes, columns answers.
    differences: to the first network by name of the number, empty for that network itself."""

    name: str
    samples: int
    steps: int
    numbers: Mapping[str, float | None]
    accuracy_by_step: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    energies: tuple[Energy, ...]
    break_evens: tuple[BreakEven, ...]
    layers: tuple[CostedLayer, ...]
    neurons: tuple[Neurons, ...]
    robustness: Robustness | None
    seeds: tuple[EvaluatedSeed, ...]
    differences: Mapping[str, PairedDifference]

    def value(self, key: str) -> float | None:
        """A number by its name among the differences."""
        if key.startswith(ENERGY):
            model = key.removeprefix(ENERGY)
            prices = {one.model: one.picojoules for one in self.energies}
            return prices.get(model, prices.get(PLAIN.get(model, model)))
        if key == "noisy_accuracy":
            return None if self.robustness is None else self.robustness.noisy
        return self.numbers[key]

    @property
    def reading_values(self) -> tuple[str, ...]:
        """Layers that read real values in more than one pass."""
        return tuple(layer.name for layer in self.layers if layer.input_kind == "real" and layer.passes > 1)

    def mistakes(self, most: int) -> list[tuple[int, int, int]]:
        """The most frequent errors: true class, answer, and how often."""
        wrong = [
            (true, answer, count)
            for true, row in enumerate(self.confusion)
            for answer, count in enumerate(row)
            if count and answer != true
        ]
        return sorted(wrong, key=lambda error: -error[2])[:most]


@dataclass(frozen=True)
class Evaluation:
    """What `evospike evaluate` measured, the run's own network first."""

    classes: tuple[str, ...]
    wall_seconds: float
    arms: tuple[EvaluatedArm, ...]

    @property
    def compared(self) -> tuple[Measure, ...]:
        """The numbers whose differences to the first network are known."""
        labels = {measure.key: measure for measure in (*SEED_MEASURES, *MEASURES)}
        keys = dict.fromkeys(key for arm in self.arms for key in arm.differences)
        energies = (ENERGY + model for model in self.models if ENERGY + model in keys)
        plain = (labels[key] for key in keys if not key.startswith(ENERGY))
        return (*plain, *map(_energy_measure, energies))

    @property
    def energies(self) -> tuple[Energy, ...]:
        """One price by every model that priced a network, of the first network that it priced."""
        return _first_of_each_model(one for arm in self.arms for one in arm.energies)

    @property
    def unbroken(self) -> bool:
        """Whether a network is dearer than its quantised one at any rate."""
        return any(one.verdict == "none" for arm in self.arms for one in arm.break_evens)

    @property
    def break_evens(self) -> tuple[BreakEven, ...]:
        """The same of the comparisons with a quantised network."""
        return _first_of_each_model(one for arm in self.arms for one in arm.break_evens)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that priced a network."""
        return tuple(one.model for one in self.energies)

    @property
    def curves(self) -> tuple[tuple[str, str], ...]:
        """Every kind of change and the unit of its strengths."""
        found = (curve for arm in self.arms if arm.robustness for curve in arm.robustness.curves)
        return tuple(dict.fromkeys((curve.name, curve.unit) for curve in found))


def model_title(model: str) -> str:
    """How a model of energy is called on a page."""
    return model.replace("_", " ")


def _energy_measure(key: str) -> Measure:
    return Measure(key, f"Energy, {model_title(key.removeprefix(ENERGY))}", "energy")


def _first_of_each_model(rows: Iterable[Priced]) -> tuple[Priced, ...]:
    found: dict[str, Priced] = {}
    for row in rows:
        found.setdefault(row.model, row)
    return tuple(found.values())
