"""A finished run measured: what its networks do and cost on the test split, and how they hold up.

The document that `evospike evaluate` prints and RUN/evaluation.json keeps. Every network is loaded as it was trained
and shown the whole test split once, counting; robustness is measured on a fixed part of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evospike.core.errors import DataError, RunError
from evospike.core.limits import MOST_REPEATS
from evospike.core.lock import holder_of
from evospike.core.progress import Bar, bar, tell
from evospike.core.rng import stream
from evospike.core.settings import convert, differences, require
from evospike.data.task import ImageSet
from evospike.genetic.groups import parameter_roles
from evospike.jobs.evaluation_document import compared_arms, lost_by, stored_evaluation
from evospike.jobs.folder import EVALUATION, RESULT, WEIGHTS, RunFolder, reading
from evospike.jobs.load import finished_training, open_training, trained_network, workshop_of
from evospike.jobs.results import data_facts
from evospike.jobs.workshop import Workshop, parameter_count, settle_process
from evospike.measure.cost import Costs, LayerCost, count_costs
from evospike.measure.energy import break_even, energy_models
from evospike.measure.robustness import measure_robustness
from evospike.measure.settings import NOISE_SEEDS, SAMPLES, NoiseSpace, Robustness
from evospike.models.counts import dense_parameters
from evospike.models.network import Network
from evospike.sparse.masks import summarise

_ROOT = 0
"""Of its samples and random changes: as the test split, they are the same for runs of every seed."""


@dataclass(frozen=True)
class _Disturbance:
    """How robustness is measured, on how many samples, with how many draws of every random change."""

    kind: Robustness
    samples: int
    seeds: int
    space: NoiseSpace

    def __post_init__(self) -> None:
        convert(self.kind, Robustness, "robustness")
        convert(self.space, NoiseSpace, "noise space")
        require(self.samples >= 1, f"robustness is measured on at least 1 test sample, given {self.samples}")
        require(self.seeds >= 1, f"at least 1 noise seed is needed, given {self.seeds}")
        require(self.seeds <= MOST_REPEATS, f"noise seeds are at most {MOST_REPEATS}, given {self.seeds}")

    @classmethod
    def asked(cls, kind: Robustness, samples: int | None, seeds: int | None, space: NoiseSpace | None) -> _Disturbance:
        """What was asked for, completed by the protocol. Raises: SettingsError for details of what is not measured."""
        detailed = [samples, seeds, space] != [None, None, None]
        require(
            kind != "none" or not detailed,
            "samples, noise seeds and noise space say how robustness is measured, but robustness is 'none'; "
            "leave them out, or ask for 'protocol' or 'full'",
        )
        return cls(
            kind,
            SAMPLES if samples is None else samples,
            NOISE_SEEDS if seeds is None else seeds,
            "normalised" if space is None else space,
        )

    def chosen(self, images: ImageSet) -> ImageSet:
        """The test samples it is measured on: all, or so many drawn, the same ones under every seed, in their order."""
        if self.samples >= len(images):
            return images
        drawn = stream(_ROOT, "robustness samples").choice(len(images), self.samples, replace=False)
        return images.subset(torch.from_numpy(drawn).sort().values)


def evaluate_run(
    path: str | Path,
    *,
    arms: Sequence[str] = (),
    robustness: Robustness = "protocol",
    samples: int | None = None,
    noise_seeds: int | None = None,
    noise_space: NoiseSpace | None = None,
    device: str = "auto",
    force: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure the trained networks of a finished run, and keep the document as RUN/evaluation.json.

    arms: networks to measure, the run's own (its first arm) by default; every seed of each, and all of them against the
        first. robustness: `protocol` is noise of half the input's norm (methods 1.9), `full` a curve for every kind of
        change. samples: test samples for robustness, at most (1,000 by default). noise_seeds: draws of every random
        change (5). noise_space: where noise is added (normalised input). force: whether an earlier document is
        replaced by one that says less.

    Raises: SettingsError for a value that cannot be used or an arm given twice; RunError for a run without trained
    networks, one that is not finished, an arm it does not have, or an earlier document that says more; CheckpointError
    for damaged weights; DataError for data that are not what the networks were trained on; ShapeError for a network
    without neurons.
    """
    disturbance = _Disturbance.asked(robustness, samples, noise_seeds, noise_space)
    started = time.monotonic()
    run = open_training(path)
    digest = _digest_of_result(run)
    names, seeds = _known_arms(run, arms), range(run.recipe.final.seeds)
    results = [finished_training(run, arm, seed) for arm in names for seed in seeds]
    known_samples = _test_samples(results[0])
    if not force:
        _refuse_to_lose(run, names, disturbance, known_samples)
    if samples is not None and samples > known_samples:
        tell(f"the test split has {known_samples:,} samples, {samples:,} were asked for; robustness is measured on all")
    shop = workshop_of(run, device, same_path=True)
    settle_process(shop.plan)
    images = shop.task.open_test()
    _check_data(shop, len(images), known_samples)
    passes = len(results) * (1 if disturbance.kind == "none" else 2)
    with bar("evaluate", passes, "passes", quiet=quiet) as shown:
        measure = _Measure(run, shop, images, disturbance, shown)
        measured = compared_arms({arm: [measure(arm, seed) for seed in seeds] for arm in names})
    document = {
        "run": str(path),
        "recipe": shop.recipe.name,
        "verb": run.verb,
        "data": data_facts(shop.task),
        **measured[0],
        "arms": measured,
        "wall_seconds": round(time.monotonic() - started, 1),
        "digest": digest,
    }
    _keep(run, document)
    return document


def _digest_of_result(run: RunFolder) -> str:
    result = run.read(RESULT)
    if result is None:
        raise _unfinished(run)
    if "digest" not in result:
        raise RunError(f"{run.path / 'result.json'} holds no result; the file was altered, delete it and resume")
    return str(result["digest"])


def _test_samples(result: Mapping[str, Any]) -> int:
    with reading("the result of a training", "delete it and resume the run"):
        return int(result["test_samples"])


def _unfinished(run: RunFolder) -> RunError:
    """Why a run has no result: it is at work, or it stopped. Raises: RunError for a lock that cannot be read."""
    holder = holder_of(run.path)
    if holder is None or holder.state == "stale":
        return RunError(f"'{run.path}' is not finished; continue it with: evospike resume {run.path}")
    return RunError(
        f"'{run.path}' is still running (process {holder.pid} on {holder.host}); "
        f"watch it with: evospike watch {run.path}"
    )


def _refuse_to_lose(run: RunFolder, arms: Sequence[str], disturbance: _Disturbance, test_samples: int) -> None:
    """Raises: RunError when an earlier document of the same weights says what the new one would not."""
    try:
        earlier = stored_evaluation(run)
    except RunError:  # an altered document is no loss
        return
    if earlier is None:
        return
    samples = min(disturbance.samples, test_samples)
    if lost := lost_by(earlier, arms, disturbance.kind, samples, disturbance.seeds, disturbance.space):
        raise RunError(
            f"{run.path / EVALUATION} says more, this would lose {' and '.join(lost)}; ask for as much, keep a copy of "
            "the file elsewhere, or replace it with --force"
        )


def _known_arms(run: RunFolder, asked: Sequence[str]) -> list[str]:
    known = run.recipe.final.arms
    for arm in asked:
        if arm not in known:
            raise RunError(f"run '{run.path}' has no arm '{arm}'; known: {', '.join(known)}")
        require(list(asked).count(arm) == 1, f"arm '{arm}' is asked for twice; name each once")
    return list(asked) or [known[0]]


def _check_data(shop: Workshop, samples: int, known_samples: int) -> None:
    """Refuse data that are not those of the training. samples: of the test split, now and as the run knew it."""
    task, spec = shop.task, shop.spec
    if (task.shape, len(task.classes)) != (spec.input_shape, spec.classes):
        raise DataError(
            f"data set '{task.name}' has samples of {_sides(task.shape)} in {len(task.classes)} classes, the network "
            f"reads {_sides(spec.input_shape)} and tells {spec.classes} apart; restore the data it was trained on"
        )
    found = {"train": task.train.digest(), "validation": task.validation.digest(), "test samples": samples}
    if changed := differences({**shop.plan.data, "test samples": known_samples}, found):
        raise DataError(f"data set '{task.name}' changed since the run began ({'; '.join(changed)}); restore it")


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _keep(run: RunFolder, document: dict[str, Any]) -> None:
    """Write the document into the run folder, in place of an earlier one; a folder that cannot be written is said."""
    try:
        run.write(EVALUATION, document)
    except OSError as error:
        tell(f"cannot write {run.path / EVALUATION} ({error.strerror}); the evaluation is printed but not kept")


class _Measure:
    """Measures one training after the other, showing how far it is."""

    def __init__(self, run: RunFolder, shop: Workshop, images: ImageSet, disturbance: _Disturbance, shown: Bar) -> None:
        self._run, self._shop, self._images, self._bar = run, shop, images, shown
        self._disturbance, self._done = disturbance, 0
        self._few = disturbance.chosen(images)

    def __call__(self, arm: str, seed: int) -> dict[str, Any]:
        """The document of one training: of the form of its arm's, but for what several seeds say together."""
        net, shop = trained_network(self._run, self._shop, arm, seed), self._shop
        costs, seen = count_costs(net, shop.batches(self._images))
        self._passed()
        return {
            "samples": seen.samples,
            "steps": costs.steps,
            "classes": list(shop.task.classes),
            "test_accuracy": seen.accuracy,
            "top5_accuracy": seen.top5,
            "test_loss": seen.loss,
            **_parameters(net),
            **_densities(net, shop, arm),
            "bytes_on_disk": (self._run.final_path(arm, seed) / WEIGHTS).stat().st_size,
            "bytes_in_memory": _bytes(net),
            "dense_bytes_in_memory": _bytes_of_dense_twin(shop),
            **_activity(costs),
            "accuracy_by_step": list(seen.accuracy_by_step),
            "confusion": seen.confusion,
            "energy": energy_models(costs),
            "break_even": break_even(costs),
            "layers": [_layer(net, layer) for layer in costs.layers],
            "neurons": _neurons(costs),
            "robustness": self._robustness(net),
        }

    def _robustness(self, net: Network) -> dict[str, Any] | None:
        wanted, task = self._disturbance, self._shop.task
        if wanted.kind == "none":
            return None
        found = measure_robustness(
            net,
            lambda: self._shop.batches(self._few),
            kind=wanted.kind,
            mean=task.mean,
            std=task.std,
            events=net.spec.events,
            space=wanted.space,
            seeds=wanted.seeds,
            seed=_ROOT,
            shown=lambda done, total: self._bar.reach(round(self._done + done / total, 1)),
        )
        self._passed()
        return {**found, "samples_digest": self._few.digest()}

    def _passed(self) -> None:
        self._done += 1
        self._bar.reach(self._done)


def _parameters(net: Network) -> dict[str, int]:
    """Trainable numbers by what they are; encodings, genes and stored ones add up to all."""
    roles, counts = parameter_roles(net), {"encoding": 0, "genes": 0}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad and roles[name] in counts:
            counts[roles[name]] += parameter.numel()
    total = parameter_count(net)
    return {
        "parameters": total,
        "dense_parameters": dense_parameters(net.spec),
        "encoding_parameters": counts["encoding"],
        "gene_parameters": counts["genes"],
        "stored_parameters": total - sum(counts.values()),
    }


def _densities(net: Network, shop: Workshop, arm: str) -> dict[str, Any]:
    seen = summarise(net, shop.arm(arm).sparse)
    return {
        "active_parameters": seen.active_parameters,
        "density": seen.density,
        "synapse_density": seen.synapse_density,
        "connection_density": seen.connection_density,
    }


def _bytes(net: nn.Module) -> int:
    """Of all parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*net.parameters(), *net.buffers()))


def _bytes_of_dense_twin(shop: Workshop) -> int:
    with torch.device("meta"):
        return _bytes(shop.bare_network("dense"))


def _activity(costs: Costs) -> dict[str, float]:
    return {
        "firing_rate": costs.firing_rate,
        "spikes_per_sample": costs.spikes_per_sample,
        "synaptic_operations": costs.synaptic_operations,
        "accumulates": costs.accumulates,
        "multiply_accumulates": costs.multiply_accumulates,
        "membrane_updates": costs.membrane_updates,
        "activation_sparsity": costs.activation_sparsity,
        "connection_sparsity": costs.connection_sparsity,
        "dead_units": costs.dead,
        "saturated_units": costs.saturated,
    }


def _layer(net: Network, layer: LayerCost) -> dict[str, Any]:
    own = net.get_submodule(layer.name).parameters(recurse=False)
    return {
        **asdict(layer),
        "density": layer.density,
        "present_macs": layer.present_macs,
        "parameters": sum(parameter.numel() for parameter in own if parameter.requires_grad),
    }


def _neurons(costs: Costs) -> list[dict[str, Any]]:
    return [
        {
            "name": layer.name,
            "units": layer.units,
            "rate": layer.rate,
            "spikes": layer.spikes,
            "spikes_by_step": list(layer.spikes_by_step),
            "dead": layer.dead,
            "saturated": layer.saturated,
        }
        for layer in costs.neurons
    ]
