"""A run of evolve or train as plain records: what its page shows, and of an unfinished run what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evospike.core.statistics import half_interval, significant
from evospike.jobs.folder import PLAN, RESULT, RunFolder
from evospike.jobs.recipe import Recipe
from evospike.report.evaluation.facts import Evaluation
from evospike.report.evaluation.reader import read_evaluation
from evospike.report.facts import RunFacts, data_facts, reading_of
from evospike.report.training.history import History, read_history
from evospike.report.training.structure_facts import (
    Connectivity,
    SparseLayer,
    connectivity_of,
    mean_layers,
    sparse_layers,
)


@dataclass(frozen=True)
class Arm:
    """One row of the comparison. difference: mean over paired seeds against the first arm, None for that arm itself.

    interval, difference_interval: half of the 95 % interval, None with fewer than two seeds.
    density: share of the prunable numbers that exist; synapse_density: of what is computed with; connection_density:
    the same with layers weighted by their operations. active_parameters: parameters that exist.
    """

    name: str
    test_accuracy: float
    interval: float | None
    seeds: tuple[float, ...]
    parameters: int
    dense_parameters: int
    firing_rate: float
    seconds: float
    density: float
    synapse_density: float
    connection_density: float
    active_parameters: int
    difference: float | None = None
    difference_interval: float | None = None

    @property
    def share(self) -> float:
        """Parameters as a share of the dense twin's."""
        return self.parameters / self.dense_parameters

    @property
    def sparse(self) -> bool:
        return self.density < 1

    @property
    def significant(self) -> bool | None:
        """Whether the interval of the difference speaks against zero; None where there is no interval."""
        if self.difference is None:
            return None
        return significant(self.difference, self.difference_interval, len(self.seeds))


@dataclass(frozen=True)
class Training:
    """A finished final training. epochs: its records, as `training.history.History` has them. layers: of a sparse
    network, else none."""

    arm: str
    repeat: int
    epochs: tuple[Mapping[str, float], ...]
    layer_rates: Mapping[str, float]
    layers: tuple[SparseLayer, ...]


@dataclass(frozen=True)
class Layer:
    """What one layer holds. order: how it is contracted, empty for one that stores its weights."""

    name: str
    op: str
    encoding: str
    order: str
    parameters: int
    dense_parameters: int


@dataclass(frozen=True)
class Network:
    """The network of the first genetic arm, counted from the plan's specification."""

    name: str
    digest: str
    parameters: int
    dense_parameters: int
    encoding_parameters: int
    gene_parameters: int
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class TrainingFacts(RunFacts):
    """Everything the page of evolve or train shows.

    structures: the layers of the sparse arms, mean over seeds. connectivity: of the first sparse training.
    evaluation: of the weights that the run ended with. outdated: whether there is one of other weights.
    """

    history: History | None
    arms: tuple[Arm, ...]
    trainings: tuple[Training, ...]
    network: Network | None
    structures: Mapping[str, tuple[SparseLayer, ...]]
    connectivity: Connectivity | None
    evaluation: Evaluation | None
    outdated: bool

    @property
    def sparse(self) -> bool:
        """Whether any network of the comparison lacks synapses."""
        return any(arm.sparse for arm in self.arms)

    @property
    def masks_storage(self) -> bool:
        """Whether what is stored and what is computed with are of different densities."""
        return any(arm.density != arm.synapse_density for arm in self.arms)

    @property
    def evolves(self) -> bool:
        return self.record.get("verb") == "evolve" and self.recipe.evolution.mode != "random"


def gather(run: RunFolder) -> TrainingFacts:
    """Read a run folder. Raises: RunError, StoreError, SettingsError naming the file that was altered."""
    recipe = run.recipe
    plan, result = run.read(PLAN), run.read(RESULT)
    finals = _finals(run, recipe)
    with reading_of(run):
        data = data_facts(recipe, result)
        arms = _partial_arms(list(finals.values())) if result is None else tuple(_arm(arm) for arm in result["arms"])
        trainings = tuple(map(_training, finals.values()))
        network = None if plan is None else _network(recipe, plan["spec"], plan["contractions"])
        structures, connectivity = _structures(trainings), _connectivity(run, finals)
    history = read_history(run, recipe.evolution)
    evaluation, outdated = read_evaluation(run)
    return TrainingFacts(
        str(run.path),
        run.record,
        recipe,
        plan,
        result,
        data,
        history,
        arms,
        trainings,
        network,
        structures,
        connectivity,
        evaluation,
        outdated,
    )


def _finals(run: RunFolder, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Results of the final trainings that are done, in the order of arms and seeds, by their folder in the run's."""
    found = {}
    for training in recipe.final.trainings:
        folder = str(run.final_path(*training).relative_to(run.path))
        result = run.read(f"{folder}/result.json")
        if result is not None:
            found[folder] = result
    return found


def _training(final: Mapping[str, Any]) -> Training:
    return Training(
        final["arm"],
        final["repeat"],
        tuple(final["history"]),
        final["layer_rates"],
        sparse_layers(final.get("structure")),
    )


def _structures(trainings: Sequence[Training]) -> dict[str, tuple[SparseLayer, ...]]:
    layers: dict[str, list[tuple[SparseLayer, ...]]] = {}
    for training in trainings:
        if training.layers:
            layers.setdefault(training.arm, []).append(training.layers)
    return {arm: mean_layers(own) for arm, own in layers.items()}


def _connectivity(run: RunFolder, finals: Mapping[str, Mapping[str, Any]]) -> Connectivity | None:
    """Of the first training that is sparse; None where there is none, or its picture is not there."""
    for folder, final in finals.items():
        if final.get("structure"):
            drawn = run.read(f"{folder}/connectivity.json")
            layers = sparse_layers(final["structure"])
            return None if drawn is None else connectivity_of(final["arm"], final["repeat"], layers, drawn["layers"])
    return None


def _arm(row: Mapping[str, Any]) -> Arm:
    names = ("test_accuracy", "interval", "parameters", "dense_parameters", "firing_rate", "seconds")
    return Arm(
        name=str(row["arm"]),
        seeds=tuple(row["seeds"]),
        difference=row.get("difference"),
        difference_interval=row.get("difference_interval"),
        **{name: row[name] for name in names},
        **_existing([row]),
    )


def _existing(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How much of a network exists, from its trainings; all of it in records from before there was structure learning.

    As in the result of a run: `connection_density` is the mean, the rest is of the first seed.
    """
    first = rows[0]
    return {
        "density": first.get("density", 1.0),
        "synapse_density": first.get("synapse_density", 1.0),
        "connection_density": fmean(row.get("connection_density", 1.0) for row in rows),
        "active_parameters": first.get("active_parameters", first["parameters"]),
    }


def _partial_arms(finals: Sequence[Mapping[str, Any]]) -> tuple[Arm, ...]:
    """The comparison as far as it goes; differences over the seeds that both arms have."""
    names = list(dict.fromkeys(final["arm"] for final in finals))
    seeds = {name: {f["repeat"]: f["test_accuracy"] for f in finals if f["arm"] == name} for name in names}
    arms = []
    for name in names:
        own = [final for final in finals if final["arm"] == name]
        accuracies = list(seeds[name].values())
        first = seeds[names[0]]
        paired = [value - first[repeat] for repeat, value in seeds[name].items() if repeat in first]
        compared = name != names[0] and bool(paired)
        arms.append(
            Arm(
                name=name,
                test_accuracy=fmean(accuracies),
                interval=half_interval(accuracies),
                seeds=tuple(accuracies),
                parameters=own[0]["parameters"],
                dense_parameters=own[0]["dense_parameters"],
                firing_rate=fmean(final["firing_rate"] for final in own),
                seconds=fmean(final["seconds"] for final in own),
                **_existing(own),
                difference=fmean(paired) if compared else None,
                difference_interval=half_interval(paired) if compared else None,
            )
        )
    return tuple(arms)


def _network(recipe: Recipe, text: str, orders: Mapping[str, str]) -> Network:
    """Counts of the recipe's own encoding, from the plan's specification; needs no data, builds nothing."""
    from evospike.genetic.encode import encoded_parameters  # the one import of torch, for its counting rules
    from evospike.models.spec import NetworkSpec

    spec = NetworkSpec.from_json(text)
    counted = encoded_parameters(spec, recipe.encoding)
    layers = tuple(
        Layer(
            name=layer.name,
            op=spec[layer.name].op,
            encoding=recipe.encoding.kind if layer.kind == "encoded" else "stored",
            order=orders.get(layer.name, ""),
            parameters=layer.parameters,
            dense_parameters=layer.dense_parameters,
        )
        for layer in counted.layers
        if layer.dense_parameters
    )
    return Network(
        name=spec.name,
        digest=spec.digest(),
        parameters=counted.total,
        dense_parameters=sum(layer.dense_parameters for layer in layers),
        encoding_parameters=counted.encodings,
        gene_parameters=counted.genes,
        layers=layers,
    )
