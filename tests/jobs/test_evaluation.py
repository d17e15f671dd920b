"""The evaluation of a run: every number of its document against the trained networks themselves."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import evospike
from evospike.core.errors import CheckpointError, DataError, RunError, SettingsError, ShapeError
from evospike.core.lock import RunLock
from evospike.core.statistics import significant
from evospike.data.task import Task, load_task
from evospike.genetic.encode import encoded_parameters
from evospike.jobs import load as load_module
from evospike.jobs.conduct import conduct
from evospike.jobs.evaluation import evaluate_run
from evospike.jobs.evaluation_document import arm_document, averaged, lost_by, stored_evaluation
from evospike.jobs.evaluation_text import describe_evaluation
from evospike.jobs.final import train_arm
from evospike.jobs.folder import RunFolder, create_run
from evospike.jobs.load import TrainedNetwork
from evospike.jobs.plan import make_plan
from evospike.jobs.recipe import Recipe
from evospike.jobs.workshop import Workshop
from evospike.layers.weights import weight_of
from evospike.models.counts import dense_parameters
from evospike.models.spec import Edge, NetworkSpec
from evospike.sparse.masks import summarise


def words(text: str) -> list[str]:
    return text.split()


NUMBERS = words(
    """
    test_accuracy test_loss parameters dense_parameters encoding_parameters gene_parameters stored_parameters
    active_parameters density synapse_density connection_density bytes_on_disk bytes_in_memory dense_bytes_in_memory
    firing_rate spikes_per_sample synaptic_operations accumulates multiply_accumulates membrane_updates
    activation_sparsity connection_sparsity dead_units saturated_units
"""
)
MAYBE_NUMBERS = ["test_accuracy_std", "test_accuracy_interval", "top5_accuracy"]
OF_AN_ARM = [
    *("arm", "samples", "steps", "classes", *NUMBERS, *MAYBE_NUMBERS, "accuracy_by_step", "confusion"),
    *("energy", "break_even", "layers", "neurons", "robustness", "seeds", "spread"),
]
OF_THE_RUN = ["run", "recipe", "verb", "data", "arms", "wall_seconds", "digest"]
OF_A_SEED = words(
    """
    seed test_accuracy top5_accuracy test_loss firing_rate spikes_per_sample synaptic_operations accumulates
    multiply_accumulates dead_units saturated_units density connection_density energy noisy_accuracy
"""
)
OF_A_LAYER = words(
    """
    name op reads input_kind input_rate input_activity passes inputs outputs weights present dense_macs unpadded_macs
    effective synaptic_operations dense_unpadded_macs dense_effective dense_synaptic_operations encoding density
    present_macs parameters
"""
)
OF_NEURONS = ["name", "units", "rate", "spikes", "spikes_by_step", "dead", "saturated"]
OF_ROBUSTNESS = words(
    """
    kind samples samples_digest noise_seeds strength noise_space clean noisy drop noisy_std noisy_interval notes curves
"""
)
OF_A_CURVE = ["name", "unit", "strengths", "accuracies", "mean", "std"]

LEARNING = ("training.ema=0", "training.epochs=4", "training.rate=2e-2", "training.warmup_epochs=0")
EVENTS = (
    *("data.source=digits-events", "data.events.frames=2", "data.simulator.sensor=8", "data.simulator.loops=1"),
    "data.simulator.samples=8",
)
SPARSE = ("encoding.kind=dense", "sparse.density=0.3", "sparse.period_epochs=0.25", "final.arms=['sparse','dense']")


def finished(recipe: Recipe, path: Path, verb: str = "train") -> RunFolder:
    """A run brought to its end in this process."""
    run = create_run(verb, recipe, str(path))
    task = load_task(recipe.data, recipe.run.seed)
    plan = make_plan(recipe, task, evolves=False)
    run.write("plan.json", plan.to_plain())
    for arm in recipe.final.arms:
        for seed in range(recipe.final.seeds):
            train_arm(Workshop(recipe, plan, task), run, arm, seed, None)
    conduct(run, recipe, quiet=True)
    return run


@pytest.fixture(scope="module")
def runs(tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunFolder]]:
    """A finished run with these overrides; made once, so tests copy it before they change anything."""
    base, made = tmp_path_factory.mktemp("runs"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVOSPIKE_CACHE", str(base / "cache"))

        def run(*overrides: str) -> RunFolder:
            if overrides not in made:
                made[overrides] = finished(tiny(*LEARNING, *overrides), base / f"run{len(made)}")
            return made[overrides]

        yield run


ARMS = ("final.arms=['genetic','dense']", "final.seeds=3")
ONE = ("final.arms=['genetic']",)
FILMED = ("final.arms=['genetic']", *EVENTS)
CASES = {"arms": ARMS, "one": ONE, "events": FILMED, "sparse": SPARSE}


@pytest.fixture(scope="module")
def measured(runs) -> Callable[[str], tuple[RunFolder, dict[str, Any]]]:
    """A run and its evaluation of every arm: with curves for the sparse one, without robustness for events."""
    kinds = {"arms": "protocol", "one": "protocol", "events": "none", "sparse": "full"}
    made: dict[str, tuple[RunFolder, dict[str, Any]]] = {}

    def evaluation(case: str) -> tuple[RunFolder, dict[str, Any]]:
        if case not in made:
            run = runs(*CASES[case])
            few = {} if kinds[case] == "none" else {"samples": 20, "noise_seeds": 2}
            asked = {"robustness": kinds[case], "arms": run.recipe.final.arms, **few}
            made[case] = run, evaluate_run(run.path, device="cpu", quiet=True, force=True, **asked)
        return made[case]

    return evaluation


@pytest.fixture
def copy(runs, tmp_path: Path) -> RunFolder:
    run = runs(*ONE)
    shutil.copytree(run.path, tmp_path / "copy")
    (tmp_path / "copy" / "evaluation.json").unlink(missing_ok=True)
    return RunFolder(tmp_path / "copy", run.record)


def quickly(run: RunFolder, **asked: Any) -> dict[str, Any]:
    usual = {"robustness": "none", "device": "cpu", "quiet": True, "force": True}
    return evaluate_run(run.path, **{**usual, **asked})


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_numbers(row: Mapping[str, Any], texts: set[str], free: set[str] = frozenset()) -> None:
    """Every value of a row is a finite number, but for these texts and these free ones."""
    for key, value in row.items():
        if key not in free:
            assert isinstance(value, str) if key in texts else is_number(value), key


@pytest.mark.parametrize("case", CASES)
def test_every_documented_key_is_there(measured, case: str) -> None:
    run, document = measured(case)
    assert sorted(document) == sorted([*OF_THE_RUN, *OF_AN_ARM])
    assert (document["run"], document["verb"], document["recipe"]) == (str(run.path), "train", "tiny")
    assert sorted(document["data"]) == ["name", "notes", "simulated", "split"]
    assert document["arms"][0] == {key: document[key] for key in OF_AN_ARM}
    assert [arm["arm"] for arm in document["arms"]] == list(run.recipe.final.arms)
    for arm in document["arms"]:
        check_arm(arm, run.recipe)
    for arm in document["arms"][1:]:
        assert sorted(arm) == sorted([*OF_AN_ARM, "difference"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def check_arm(arm: Mapping[str, Any], recipe: Recipe) -> None:
    assert all(is_number(arm[key]) for key in NUMBERS)
    assert all(arm[key] is None or is_number(arm[key]) for key in MAYBE_NUMBERS)
    assert (arm["samples"], arm["steps"], arm["classes"]) == (60, 2, list("0123456789"))
    assert len(arm["accuracy_by_step"]) == 2
    assert arm["accuracy_by_step"][-1] == arm["test_accuracy"]
    assert [len(row) for row in arm["confusion"]] == [10] * 10
    assert sum(map(sum, arm["confusion"])) == 60 * recipe.final.seeds
    for model in arm["energy"].values():
        assert sorted(model) == ["assumptions", "dense_picojoules", "parts", "picojoules", "source"]
        check_numbers(model, {"assumptions", "source"}, {"parts"})
        assert sum(model["parts"].values()) == pytest.approx(model["picojoules"])
    for model in arm["break_even"].values():
        assert sorted(model) == ["assumptions", "bits", "firing_rate", "quantised_picojoules", "scale"]
    for layer in arm["layers"]:
        assert sorted(layer) == sorted(OF_A_LAYER)
        check_numbers(layer, {"name", "op", "reads", "input_kind"}, {"encoding"})
        if layer["encoding"] is not None:
            assert sorted(layer["encoding"]) == ["first_stage", "first_stage_macs", "forming", "order", "second_stage"]
    for neurons in arm["neurons"]:
        assert sorted(neurons) == sorted(OF_NEURONS)
        check_numbers(neurons, {"name"}, {"spikes_by_step"})
        assert sum(neurons["spikes_by_step"]) == pytest.approx(neurons["spikes"])
    assert [seed["seed"] for seed in arm["seeds"]] == list(range(recipe.final.seeds))
    for seed in arm["seeds"]:
        assert sorted(seed) == sorted(OF_A_SEED)
        assert sorted(seed["energy"]) == sorted(arm["energy"])
    if arm["robustness"] is not None:
        check_robustness(arm["robustness"])


def check_robustness(found: Mapping[str, Any]) -> None:
    assert sorted(found) == sorted(OF_ROBUSTNESS)
    assert found["drop"] == pytest.approx(found["clean"] - found["noisy"])
    for curve in found["curves"]:
        assert sorted(curve) == sorted(OF_A_CURVE)
        lengths = {len(curve[key]) for key in ("strengths", "accuracies", "mean", "std")}
        assert len(lengths) == 1
        assert curve["mean"] == [pytest.approx(mean(at)) for at in curve["accuracies"]]


class Direct:
    """Everything that is measured of a network, computed here from `evospike.load` and nothing of `measure`."""

    def __init__(self, run: RunFolder, arm: str, seed: int) -> None:
        self.trained: TrainedNetwork = evospike.load(run.path, arm=arm, seed=seed)
        self.net = self.trained.network
        task = load_task(run.recipe.data, run.recipe.run.seed)
        pixels, self.labels = task.open_test().take(torch.arange(60))
        self.x = self._shown(pixels, task)
        self.spikes: dict[str, Tensor] = {}
        self.met: dict[str, float] = {}
        self._run()

    def _shown(self, pixels: Tensor, task: Task) -> Tensor:
        if task.frames:
            return pixels.float().transpose(0, 1)
        return (pixels.float() / 255 - self.trained.mean) / self.trained.std

    @torch.no_grad()
    def _run(self) -> None:
        hooks = [
            layer.register_forward_pre_hook(lambda layer, given, name=name: self._meet(name, layer, given[0]))
            for name, layer in self.layers()
        ]
        self.net.observer = lambda name, spikes, _: self.spikes.__setitem__(name, spikes.double())
        self.scores = self.net(self.x)
        self.net.observer = None
        for hook in hooks:
            hook.remove()

    def layers(self) -> list[tuple[str, nn.Module]]:
        named = {node.name for node in self.net.spec.weighted()}
        return [(name, layer) for name, layer in self.net.named_modules() if name in named]

    def _meet(self, name: str, layer: nn.Module, x: Tensor) -> None:
        """Pairs of an input and a weight that are both not zero, by running the layer on ones."""
        present, active = (weight_of(layer) != 0).double(), (x != 0).double()
        if present.dim() == 2:
            pairs = F.linear(active, present)
        else:
            pairs = F.conv2d(active, present, None, layer.stride, layer.padding, layer.dilation)
        self.met[name] = float(pairs.sum()) / 60

    def accuracy(self, steps: int = 0) -> float:
        scores = self.scores[: steps or len(self.scores)].mean(0)
        return float((scores.argmax(1) == self.labels).double().mean())


@pytest.mark.parametrize(
    ("case", "arm", "seed"),
    [("arms", "genetic", 1), ("arms", "dense", 2), ("events", "genetic", 0), ("sparse", "sparse", 0)],
)
def test_numbers_are_those_of_the_loaded_network(measured, case: str, arm: str, seed: int) -> None:
    run, document = measured(case)
    found = next(one for one in document["arms"] if one["arm"] == arm)
    direct, of_seed = Direct(run, arm, seed), found["seeds"][seed]
    assert of_seed["test_accuracy"] == direct.accuracy()
    scores = direct.scores.mean(0)
    assert of_seed["test_loss"] == pytest.approx(float(F.cross_entropy(scores, direct.labels)), rel=1e-5)
    among = (scores.argsort(1, descending=True)[:, :5] == direct.labels[:, None]).any(1)
    assert of_seed["top5_accuracy"] == pytest.approx(float(among.double().mean()))
    fired = {name: float(spikes.sum()) / 60 for name, spikes in direct.spikes.items()}
    assert of_seed["spikes_per_sample"] == pytest.approx(sum(fired.values()))
    units = sum(spikes[0, 0].numel() for spikes in direct.spikes.values())
    assert of_seed["firing_rate"] == pytest.approx(sum(fired.values()) / (2 * units))
    dead = sum(int((spikes.sum((0, 1)) == 0).sum()) for spikes in direct.spikes.values())
    assert of_seed["dead_units"] == pytest.approx(dead / units)
    assert of_seed["accumulates"] + of_seed["multiply_accumulates"] == pytest.approx(sum(direct.met.values()))
    density = summarise(direct.net, Workshop.arm(shop_of(run), arm).sparse)
    assert (of_seed["density"], of_seed["connection_density"]) == (density.density, density.connection_density)
    if len(found["seeds"]) == 1:
        check_single(found, direct, run, arm)


def check_single(found: Mapping[str, Any], direct: Direct, run: RunFolder, arm: str) -> None:
    """What is not listed by seed, of an arm with one."""
    assert found["accuracy_by_step"] == [direct.accuracy(1), direct.accuracy(2)]
    predicted = direct.scores.mean(0).argmax(1)
    for true in range(10):
        assert found["confusion"][true] == torch.bincount(predicted[direct.labels == true], minlength=10).tolist()
    assert {layer["name"]: layer["effective"] for layer in found["layers"]} == pytest.approx(direct.met)
    assert {layer["name"]: layer["spikes"] for layer in found["neurons"]} == pytest.approx(
        {name: float(spikes.sum()) / 60 for name, spikes in direct.spikes.items()}
    )
    assert found["membrane_updates"] == sum(2 * spikes[0, 0].numel() for spikes in direct.spikes.values())
    size = (run.final_path(arm, 0) / "weights.safetensors").stat().st_size
    assert found["bytes_on_disk"] == size


def shop_of(run: RunFolder) -> Workshop:
    return load_module.workshop_of(run, "cpu")


@pytest.mark.parametrize("case", CASES)
def test_parameters_add_up(measured, case: str) -> None:
    run, document = measured(case)
    shop = shop_of(run)
    for arm in document["arms"]:
        net = evospike.load(run.path, arm=arm["arm"]).network
        counted = encoded_parameters(shop.spec, shop.arm(arm["arm"]).encoding)
        assert arm["parameters"] == sum(p.numel() for p in net.parameters() if p.requires_grad) == counted.total
        parts = (arm["encoding_parameters"], arm["gene_parameters"], arm["stored_parameters"])
        assert parts == (counted.encodings, counted.genes, counted.dense)
        assert arm["dense_parameters"] == counted.unencoded == dense_parameters(shop.spec)
        own = {layer.name: layer.parameters for layer in counted.layers}
        assert all(layer["parameters"] == own[layer["name"]] for layer in arm["layers"])


@pytest.mark.parametrize("case", CASES)
def test_memory_is_that_of_parameters_and_buffers(measured, case: str) -> None:
    run, document = measured(case)
    for arm in document["arms"]:
        net = evospike.load(run.path, arm=arm["arm"]).network
        state = net.state_dict()
        assert arm["bytes_in_memory"] == sum(tensor.nbytes for tensor in state.values())
        twin = {name: tensor for name, tensor in state.items() if tensor.dtype != torch.bool}
        norms = sum(twin[name].nbytes for name, _ in net.named_buffers() if name in twin)
        assert arm["dense_bytes_in_memory"] == 4 * arm["dense_parameters"] + norms


@pytest.mark.parametrize("case", CASES)
def test_the_result_of_the_run_is_met_exactly(measured, case: str) -> None:
    run, document = measured(case)
    result = run.read("result.json")
    for key in ("test_accuracy", "parameters", "dense_parameters", "density", "digest", "data", "recipe"):
        assert document[key] == result[key]
    assert document["firing_rate"] == pytest.approx(result["firing_rate"], rel=1e-12)
    for ours, theirs in zip(document["arms"], result["arms"], strict=True):
        assert [seed["test_accuracy"] for seed in ours["seeds"]] == theirs["seeds"]
        for key in ("density", "synapse_density", "connection_density", "active_parameters"):
            assert ours[key] == theirs[key]
    assert len({accuracy for arm in result["arms"] for accuracy in arm["seeds"]}) > 1 or len(result["arms"]) == 1


def test_an_arm_is_the_mean_of_its_seeds(measured) -> None:
    """And its interval Student's: 4.303 standard errors for three seeds."""
    _, document = measured("arms")
    for arm in document["arms"]:
        seeds = arm["seeds"]
        for key in set(OF_A_SEED) - {"seed", "energy", "noisy_accuracy"}:
            assert arm[key] == pytest.approx(mean(seed[key] for seed in seeds)), key
        for model, energy in arm["energy"].items():
            assert energy["picojoules"] == pytest.approx(mean(seed["energy"][model] for seed in seeds))
        accuracies = [seed["test_accuracy"] for seed in seeds]
        assert len(set(accuracies)) > 1
        assert arm["test_accuracy_std"] == pytest.approx(stdev(accuracies))
        assert arm["test_accuracy_interval"] == pytest.approx(4.30265 * stdev(accuracies) / 3**0.5, rel=1e-5)
        assert arm["robustness"]["noisy"] == pytest.approx(mean(seed["noisy_accuracy"] for seed in seeds))
        assert arm["robustness"]["noisy_std"] == pytest.approx(stdev(seed["noisy_accuracy"] for seed in seeds))
        assert "over 3 trainings" in arm["robustness"]["notes"][-1]
        check_spread(arm)
        assert sum(layer["synaptic_operations"] for layer in arm["layers"]) == pytest.approx(arm["synaptic_operations"])


def check_spread(arm: Mapping[str, Any]) -> None:
    """Of every number of a seed."""
    numbers = [*(set(OF_A_SEED) - {"seed", "energy"}), *(f"energy.{model}" for model in arm["energy"])]
    assert sorted(arm["spread"]) == sorted(numbers)
    for key, found in arm["spread"].items():
        values = [value_of(seed, key) for seed in arm["seeds"]]
        assert found["std"] == pytest.approx(stdev(values)), key
        assert found["interval"] == pytest.approx(4.30265 * stdev(values) / 3**0.5, rel=1e-5), key
    assert arm["spread"]["spikes_per_sample"]["std"] > 0
    assert arm["spread"]["energy.memory"]["std"] > 0


def test_one_seed_has_no_spread(measured) -> None:
    _, document = measured("one")
    assert (document["test_accuracy_std"], document["test_accuracy_interval"]) == (None, None)
    assert all(found == {"std": None, "interval": None} for found in document["spread"].values())


def test_what_was_not_measured_of_every_seed_has_no_spread(measured) -> None:
    _, one = measured("one")
    bare = {**one, "robustness": None, "top5_accuracy": None}
    assert set(arm_document("genetic", [one, bare])["spread"]) == set(one["spread"]) - {
        *("noisy_accuracy", "top5_accuracy")
    }


def test_arms_are_compared_seed_by_seed(measured) -> None:
    _, document = measured("arms")
    first, other = document["arms"]
    keys = ["test_accuracy", "spikes_per_sample", "synaptic_operations", "noisy_accuracy"]
    shared = ["energy.45nm", "energy.chip", "energy.memory"]
    assert sorted(other["difference"]) == sorted([*keys, *shared]), "the dense arm has no encoding to price"
    for key, found in other["difference"].items():
        gaps = [value_of(b, key) - value_of(a, key) for a, b in zip(first["seeds"], other["seeds"], strict=True)]
        assert found["mean"] == pytest.approx(mean(gaps))
        assert found["interval"] == pytest.approx(4.30265 * stdev(gaps) / 3**0.5, rel=1e-5)


def value_of(seed: Mapping[str, Any], key: str) -> float:
    section, _, model = key.partition(".")
    return seed["energy"][model] if model else seed[section]


def test_arms_of_one_seed_differ_without_an_interval(measured) -> None:
    _, document = measured("sparse")
    first, other = document["arms"]
    assert first["density"] == pytest.approx(0.3, abs=0.01)
    assert first["connection_sparsity"] > 0.5 > other["connection_sparsity"] == 0.0
    found = other["difference"]["test_accuracy"]
    assert found == {"mean": other["test_accuracy"] - first["test_accuracy"], "interval": None}


def test_the_first_arm_is_measured_when_none_is_named(runs, measured) -> None:
    """And arms are in the order in which they are asked for."""
    run, document = measured("arms")
    alone = quickly(run)
    assert [arm["arm"] for arm in alone["arms"]] == ["genetic"]
    assert alone["seeds"] == [{**seed, "noisy_accuracy": None} for seed in document["seeds"]]
    swapped = quickly(run, arms=["dense", "genetic"])
    assert (swapped["arm"], swapped["layers"]) == ("dense", document["arms"][1]["layers"])
    assert swapped["arms"][1]["difference"]["test_accuracy"]["mean"] == pytest.approx(
        -document["arms"][1]["difference"]["test_accuracy"]["mean"]
    )
    assert "noisy_accuracy" not in swapped["arms"][1]["difference"]


def test_robustness_is_measured_as_asked(measured) -> None:
    _, protocol = measured("one")
    _, full = measured("sparse")
    _, none = measured("events")
    assert none["robustness"] is None
    assert none["seeds"][0]["noisy_accuracy"] is None
    assert (protocol["robustness"]["kind"], full["robustness"]["kind"]) == ("protocol", "full")
    assert len(full["robustness"]["curves"]) > 5
    for document in (protocol, full):
        found = document["robustness"]
        assert (found["samples"], found["noise_seeds"], found["strength"]) == (20, 2, 0.5)
        assert document["seeds"][0]["noisy_accuracy"] == found["noisy"]


def test_robustness_is_on_a_fixed_part_of_the_test_split(copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the split, drawn once: another number of noise seeds, or another arm, meets the same samples."""
    whole = load_task(copy.recipe.data, 0).open_test()
    seen: list[Tensor] = []

    def look(_net: nn.Module, images: Callable[[], Any], **_: Any) -> dict[str, Any]:
        seen.append(torch.cat([labels for _, labels in images()]))
        return {"noisy": 0.5}

    monkeypatch.setattr("evospike.jobs.evaluation.measure_robustness", look)
    monkeypatch.setattr("evospike.data.task.ImageSet.subset", subset_of_rows(kept := []))
    for noise_seeds in (1, 3):
        quickly(copy, robustness="protocol", samples=20, noise_seeds=noise_seeds)
    assert torch.equal(*seen)
    assert len(seen[0]) == 20
    positions = next(rows for rows in kept if len(rows) == 20)
    assert torch.equal(positions, positions.unique())
    assert torch.equal(whole.labels[positions], seen[0])
    quickly(copy, robustness="protocol", samples=60)
    quickly(copy, robustness="protocol", samples=1000)
    assert torch.equal(seen[2], whole.labels)
    assert torch.equal(seen[3], whole.labels)


def test_samples_and_noise_are_the_same_for_runs_of_every_seed(runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two runs would differ by which samples were drawn, and no number of trainings would show that."""
    met: list[tuple[Tensor, int]] = []

    def look(_net: nn.Module, images: Callable[[], Any], *, seed: int, **_: Any) -> dict[str, Any]:
        met.append((torch.cat([labels for _, labels in images()]), seed))
        return {"noisy": 0.5}

    monkeypatch.setattr("evospike.jobs.evaluation.measure_robustness", look)
    asked = {"robustness": "protocol", "samples": 20}
    one, other = (quickly(runs(*ONE, f"run.seed={seed}"), **asked)["robustness"] for seed in (0, 5))
    assert torch.equal(met[0][0], met[1][0])
    assert met[0][1] == met[1][1]
    assert one["samples_digest"] == other["samples_digest"]
    fewer = quickly(runs(*ONE, "run.seed=0"), robustness="protocol", samples=10)["robustness"]
    assert fewer["samples_digest"] != one["samples_digest"]


def subset_of_rows(kept: list[Tensor]) -> Callable[..., Any]:
    from evospike.data.task import ImageSet

    original = ImageSet.subset

    def subset(images: ImageSet, positions: Tensor) -> ImageSet:
        kept.append(positions)
        return original(images, positions)

    return subset


def test_evaluating_twice_gives_the_same(copy) -> None:
    asked = {"robustness": "full", "samples": 10, "noise_seeds": 1}
    once, again = quickly(copy, **asked), quickly(copy, **asked)
    for document in (once, again):
        assert document.pop("wall_seconds") >= 0
    assert once == again


def test_the_document_is_kept_in_place_of_an_earlier_one(copy) -> None:
    assert stored_evaluation(copy) is None
    wide = quickly(copy, robustness="protocol", samples=10, noise_seeds=1)
    assert stored_evaluation(copy) == wide
    narrow = quickly(copy)
    assert stored_evaluation(copy) == narrow
    assert narrow["robustness"] is None
    wider = quickly(copy, robustness="protocol", samples=10, noise_seeds=2, force=False)
    assert stored_evaluation(copy) == wider


def two_arms(kind: str, samples: int = 10) -> dict[str, Any]:
    """As much of a document as says how much it says."""
    found = (
        None if kind == "none" else {"kind": kind, "samples": samples, "noise_seeds": 2, "noise_space": "normalised"}
    )
    return {"arms": [{"arm": "genetic"}, {"arm": "dense"}], "robustness": found}


@pytest.mark.parametrize(
    ("earlier", "asked", "lost"),
    [
        (two_arms("full"), (["genetic", "dense"], "full", 10, 2), []),
        (two_arms("full"), (["dense", "static", "genetic"], "full", 11, 3), []),
        (two_arms("none"), (["genetic", "dense"], "none", 1, 1), []),
        (two_arms("none"), (["dense"], "full", 10, 2), ["the numbers of genetic"]),
        (two_arms("full"), (["dense", "genetic"], "protocol", 99, 9), ["its robustness (full)"]),
        (two_arms("protocol"), (["dense", "genetic"], "none", 99, 9), ["its robustness (protocol)"]),
        (two_arms("protocol"), (["dense", "genetic"], "full", 10, 2), []),
        (
            two_arms("protocol", 2000),
            (["dense", "genetic"], "full", 1999, 2),
            ["robustness over 2,000 samples and 2 noise seeds"],
        ),
        (two_arms("full"), (["dense"], "full", 10, 1), ["the numbers of genetic", "robustness over 10 samples and 2"]),
    ],
)
def test_what_a_new_document_would_not_say(
    earlier: dict[str, Any], asked: tuple[list[str], str, int, int], lost: list[str]
) -> None:
    found = lost_by(earlier, *asked, "normalised")
    assert len(found) == len(lost)
    assert all(said.startswith(expected) for said, expected in zip(found, lost, strict=True))


def test_noise_in_another_space_is_not_replaced() -> None:
    assert lost_by(two_arms("full"), ["genetic", "dense"], "full", 10, 2, "raw") == ["its noise in normalised space"]


def test_an_earlier_document_is_not_replaced_by_one_that_says_less(runs, tmp_path: Path) -> None:
    run = runs(*ARMS)
    shutil.copytree(run.path, tmp_path / "copy")
    run = RunFolder(tmp_path / "copy", run.record)
    quickly(run, arms=["genetic", "dense"], robustness="protocol", samples=60, noise_seeds=1)
    before = (run.path / "evaluation.json").read_bytes()
    message = (
        r"evaluation.json says more, this would lose the numbers of dense and its robustness \(protocol\); ask for as "
        r"much, keep a copy of the file elsewhere, or replace it with --force$"
    )
    refused(RunError, message, lambda: quickly(run, force=False))
    assert (run.path / "evaluation.json").read_bytes() == before
    (run.path / "evaluation.json").write_bytes(before.replace(b"genetic", b"Genetic", 1))
    assert quickly(run, force=False)["robustness"] is None, "what was altered is no loss"


def test_an_evaluation_of_other_weights_is_none(copy) -> None:
    quickly(copy)
    result = copy.read("result.json")
    copy.write("result.json", {**result, "digest": "0" * 32})
    assert stored_evaluation(copy) is None
    (copy.path / "result.json").unlink()
    assert stored_evaluation(copy) is None


def test_an_altered_evaluation_is_refused(copy) -> None:
    quickly(copy)
    path = copy.path / "evaluation.json"
    whole = path.read_text()
    unsealed = {key: value for key, value in json.loads(whole).items() if key != "checksum"}
    spoilt = {
        "checksum of .*evaluation.json does not match": whole.replace('"samples": 60', '"samples": 61', 1),
        "evaluation.json has no checksum": json.dumps({**unsealed, "samples": 61}),
        "cannot read .*evaluation.json": whole[:100],
    }
    for said, text in spoilt.items():
        path.write_text(text)
        with pytest.raises(RunError, match=rf"{said}.*; the file was altered, evaluate again: evospike evaluate "):
            stored_evaluation(copy)
    path.write_text("{}")
    with pytest.raises(RunError, match="has no checksum"):
        stored_evaluation(copy)


def test_a_folder_that_cannot_be_written_still_gives_the_document(copy, capsys: pytest.CaptureFixture[str]) -> None:
    (copy.path / "evaluation.json").mkdir()
    document = quickly(copy)
    assert document["test_accuracy"] == copy.read("result.json")["test_accuracy"]
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("notice: cannot write ")
    assert line.endswith("; the evaluation is printed but not kept")


def test_progress_is_shown_unless_quiet(copy, capsys: pytest.CaptureFixture[str]) -> None:
    quickly(copy)
    assert capsys.readouterr().err == ""
    quickly(copy, robustness="protocol", samples=5, noise_seeds=1, quiet=False)
    shown = capsys.readouterr().err
    assert "evaluate" in shown
    assert re.search(r"2(\.0)?/2 .* passes", shown)


def test_a_run_of_evolve_is_evaluated_too(tiny, tmp_path: Path) -> None:
    run = finished(tiny(*LEARNING, *ONE, "evolution.mode=random"), tmp_path / "run", "evolve")
    document, result = quickly(run), run.read("result.json")
    assert (document["verb"], document["digest"]) == ("evolve", result["digest"])
    assert document["test_accuracy"] == result["test_accuracy"]


# What is refused, each in one line.


def refused(error: type[Exception], message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_search_has_nothing_to_evaluate(tiny, tmp_path: Path) -> None:
    run = create_run("search", tiny(), str(tmp_path / "searched"))
    message = r"\(search\) has no trained network; train what it found: evospike train RECIPE --model"
    refused(RunError, message, lambda: evaluate_run(run.path))


def test_a_ranking_has_nothing_to_evaluate(tiny, tmp_path: Path) -> None:
    run = create_run("rank", tiny(), str(tmp_path / "ranked"))
    message = r"\(rank\) has no trained network; give a run of train or evolve"
    refused(RunError, message, lambda: evaluate_run(run.path))


def test_what_is_no_run(tmp_path: Path) -> None:
    refused(RunError, "does not exist; give a folder", lambda: evaluate_run(tmp_path / "nothing"))


def test_an_unfinished_run(copy) -> None:
    (copy.path / "result.json").unlink()
    refused(RunError, "is not finished; continue it with: evospike resume", lambda: quickly(copy))
    with RunLock(copy.path):
        here = rf"\(process {os.getpid()} on {re.escape(socket.gethostname())}\)"
        message = rf"is still running {here}; watch it with: evospike watch {re.escape(str(copy.path))}$"
        refused(RunError, message, lambda: quickly(copy))


def test_a_result_that_says_nothing(copy) -> None:
    copy.write("result.json", {"test_accuracy": 1.0})
    refused(RunError, r"result.json holds no result; the file was altered, delete it and resume", lambda: quickly(copy))


def test_weights_that_are_gone(copy) -> None:
    (copy.final_path("genetic", 0) / "weights.safetensors").unlink()
    message = r"the weights of 'genetic' \(seed 0\) are gone; make them again with: evospike resume"
    refused(RunError, message, lambda: quickly(copy))


def test_a_training_without_a_result(copy) -> None:
    (copy.final_path("genetic", 0) / "result.json").unlink()
    message = r"training of 'genetic' \(seed 0\) is not finished; continue with: evospike resume"
    refused(RunError, message, lambda: quickly(copy))


def test_weights_that_are_damaged(copy) -> None:
    weights = copy.final_path("genetic", 0) / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    refused(CheckpointError, r"checksum of .*weights.safetensors does not match", lambda: quickly(copy))


def test_weights_of_another_training(runs, copy) -> None:
    other = runs(*ARMS).final_path("genetic", 1) / "weights.safetensors"
    shutil.copy(other, copy.final_path("genetic", 0) / "weights.safetensors")
    refused(RunError, r"are not those of its result; train it again: evospike resume", lambda: quickly(copy))


def test_unknown_arms(copy) -> None:
    refused(RunError, r"has no arm 'dense'; known: genetic$", lambda: quickly(copy, arms=["genetic", "dense"]))


def test_an_arm_named_twice(runs) -> None:
    run = runs(*ARMS)
    message = "arm 'dense' is asked for twice; name each once"
    refused(SettingsError, message, lambda: quickly(run, arms=["dense", "genetic", "dense"]))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"robustness": "full", "noise_seeds": 0}, "at least 1 noise seed is needed, given 0"),
        ({"robustness": "full", "samples": 0}, "on at least 1 test sample, given 0"),
        ({"robustness": "full", "samples": -5}, "on at least 1 test sample, given -5"),
        ({"samples": 5}, "say how robustness is measured, but robustness is 'none'; leave them out, or ask for"),
        ({"noise_seeds": 100_000}, "say how robustness is measured, but robustness is 'none'; leave them out"),
        ({"noise_space": "raw"}, "say how robustness is measured, but robustness is 'none'; leave them out"),
        ({"robustness": "complete"}, "'robustness' cannot be 'complete'; known: full, none, protocol"),
        ({"robustness": "ful"}, r"'robustness' cannot be 'ful'; did you mean 'full'\?"),
        ({"robustness": "full", "noise_space": "pixels"}, "'noise space' cannot be 'pixels'; known: normalised, raw"),
    ],
)
def test_values_that_cannot_work(copy, asked: dict[str, Any], message: str) -> None:
    refused(SettingsError, message, lambda: quickly(copy, **asked))


def test_more_samples_than_there_are_is_a_notice(copy, capsys: pytest.CaptureFixture[str]) -> None:
    document = quickly(copy, robustness="protocol", samples=99_999, noise_seeds=1)
    assert document["robustness"]["samples"] == 60
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "notice: the test split has 60 samples, 99,999 were asked for; robustness is measured on all"


def with_spec(run: RunFolder, change: Callable[[NetworkSpec], NetworkSpec]) -> None:
    """Alter the network that the run's plan records."""
    plan = run.read("plan.json")
    run.write("plan.json", {**plan, "spec": change(NetworkSpec.from_json(plan["spec"])).to_json()})


def without_neurons(spec: NetworkSpec) -> NetworkSpec:
    source = {node.name: node.inputs[0].source for node in spec.nodes if node.op == "neuron"}
    nodes = [
        replace(node, inputs=tuple(Edge(source.get(edge.source, edge.source)) for edge in node.inputs))
        for node in spec.nodes
        if node.op != "neuron"
    ]
    return replace(spec, nodes=tuple(nodes))


def test_a_network_without_neurons(copy) -> None:
    with_spec(copy, without_neurons)
    refused(ShapeError, "has no layer of neurons, so there is nothing to count as spikes", lambda: quickly(copy))


def test_data_of_another_size(copy) -> None:
    with_spec(copy, lambda spec: replace(spec, input_shape=(1, 16, 16)))
    message = r"'digits' has samples of 1x8x8 in 10 classes, the network reads 1x16x16 and tells 10 apart; restore"
    refused(DataError, message, lambda: quickly(copy))


def test_data_of_other_classes(copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "load_task", lambda *of: replace(load_task(*of), classes=tuple("01234567")))
    refused(DataError, r"1x8x8 in 8 classes, the network reads 1x8x8 and tells 10 apart", lambda: quickly(copy))


def test_data_that_changed(copy) -> None:
    plan = copy.read("plan.json")
    copy.write("plan.json", {**plan, "data": {**plan["data"], "train": "0" * 32}})
    message = r"'digits' changed since the run began \(train: \"0+\" -> \"[0-9a-f]{32}\"\); restore it"
    refused(DataError, message, lambda: quickly(copy))


def test_a_test_split_that_lost_samples(copy) -> None:
    record = {**copy.record["recipe"], "data": {**copy.record["recipe"]["data"], "test_limit": 50}}
    copy.write("run.json", {**copy.record, "recipe": record})
    refused(DataError, r"changed since the run began \(test samples: 60 -> 50\)", lambda: quickly(copy))


# The text.


@pytest.mark.parametrize("case", CASES)
def test_the_text_fits_a_terminal_and_says_the_numbers(measured, case: str) -> None:
    run, document = measured(case)
    text = describe_evaluation(document)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 110
    assert not any(line != line.rstrip() for line in lines)
    assert f"{document['arm']} network of" in text
    assert f"{document['parameters']:,}" in text
    assert f"{100 * document['test_accuracy']:.2f}" in text
    flat = " ".join(text.split())
    for name, model in document["energy"].items():
        assert model["assumptions"].split(";")[0] in flat, name
    for layer in (*document["layers"], *document["neurons"]):
        assert sum(line.startswith(f"{layer['name']} ") for line in lines) == 1
    found = document["robustness"]
    assert ("robustness (" in text) == (found is not None)
    if found is not None:
        assert f"clean {found['clean']:.2%}" in text
    assert str(run.path) in flat


@pytest.mark.parametrize("case", CASES)
def test_no_energy_stands_without_the_name_of_its_model(measured, case: str) -> None:
    _, document = measured(case)
    rows = [line for line in describe_evaluation(document).splitlines() if re.search(r"\d [pnµm]J\b", line)]
    named = [row for row in rows if row.split()[0] in document["energy"]]
    assert [row.split()[0] for row in named] == list(document["energy"])
    for row in set(rows) - set(named):
        in_the_assumptions = row.startswith("  ") and "pJ p" in row
        assert row.startswith("  energy.") or in_the_assumptions, row


def test_the_text_compares_arms_and_says_what_is_not_significant(measured) -> None:
    _, document = measured("arms")
    lines = describe_evaluation(document).splitlines()
    assert "dense minus genetic, paired over 3 seeds" in lines
    below = lines[lines.index("dense minus genetic, paired over 3 seeds") + 1 :]
    difference = document["arms"][1]["difference"]
    assert len(below) == len(difference)
    for line, found in zip(below, difference.values(), strict=True):
        assert line.endswith("(not significant)") == (abs(found["mean"]) <= found["interval"])
        assert significant(found["mean"], found["interval"], 3) == (not line.endswith("(not significant)"))
        assert "±" in line
    accuracy = difference["test_accuracy"]
    assert f"{100 * accuracy['mean']:+.2f} ± {100 * accuracy['interval']:.2f} points" in below[0]
    _, alone = measured("one")
    assert "minus" not in describe_evaluation(alone)


def test_the_text_says_always_and_shows_no_mean_of_real_inputs(measured) -> None:
    _, document = measured("one")
    first, *others = document["layers"]
    assert first["input_kind"] == "real"
    rates = {"45nm": 1.0, "memory": 1.001}
    even = {model: {**one, "firing_rate": rates[model], "scale": 2.0} for model, one in document["break_even"].items()}
    layers = [{**first, "input_rate": -0.0155, "input_activity": 0.75}, *others]
    lines = describe_evaluation({**document, "break_even": even, "layers": layers}).splitlines()
    energies = {line.split()[0]: line for line in lines if line.split()[:1] and line.split()[0] in document["energy"]}
    assert energies["45nm"].endswith(" 1.0000 (2 x its own)")
    assert energies["memory"].endswith(" always")
    (row,) = (line for line in lines if line.startswith(f"{first['name']} "))
    assert row.split()[1:3] == ["real", "0.7500"]


def test_reading_and_describing_need_no_torch() -> None:
    modules = "evospike.jobs.evaluation_document, evospike.jobs.evaluation_text"
    subprocess.run([sys.executable, "-c", f"import sys, {modules}; assert 'torch' not in sys.modules"], check=True)


def test_long_names_do_not_break_the_text(measured) -> None:
    _, document = measured("arms")
    rename = {"name": "stage" * 30}
    stretched = {
        **document,
        "run": "deep/" * 60,
        "recipe": "r" * 300,
        "layers": [{**layer, **rename, "dense_macs": 10**11} for layer in document["layers"]],
        "neurons": [{**layer, **rename} for layer in document["neurons"]],
        "data": {**document["data"], "split": "so " * 100},
    }
    assert max(map(len, describe_evaluation(stretched).splitlines())) <= 110


# Means.


def test_trainings_that_differ_in_kind(measured) -> None:
    """What enters a layer is of the least special kind that any training saw; confusions add up."""
    _, one = measured("one")
    kinds = [layer["input_kind"] for layer in one["layers"]]
    assert {"binary", "real"} <= set(kinds)

    def seen(kind: str, **changes: Any) -> dict[str, Any]:
        return {**one, "layers": [{**layer, "input_kind": kind} for layer in one["layers"]], **changes}

    for others, found in (("binary", "binary"), ("counts", "counts"), ("real", "real")):
        document = arm_document("genetic", [seen("binary"), seen(others), seen("binary")])
        assert {layer["input_kind"] for layer in document["layers"]} == {found}
        assert document["confusion"] == [[3 * cell for cell in row] for row in one["confusion"]]
    partly = arm_document("genetic", [seen("real"), seen("counts", robustness=None, top5_accuracy=None)])
    assert {layer["input_kind"] for layer in partly["layers"]} == {"real"}
    assert (partly["robustness"], partly["top5_accuracy"]) == (None, None)


def test_the_curves_of_several_trainings_have_one_entry_each(measured) -> None:
    _, sparse = measured("sparse")
    other = json.loads(json.dumps(sparse))
    for curve in other["robustness"]["curves"]:
        curve["mean"] = [value / 2 for value in curve["mean"]]
    found = arm_document("sparse", [sparse, other])["robustness"]["curves"]
    for curve, single in zip(found, sparse["robustness"]["curves"], strict=True):
        assert (curve["name"], curve["strengths"]) == (single["name"], single["strengths"])
        assert curve["accuracies"] == [[value, value / 2] for value in single["mean"]]
        assert curve["mean"] == pytest.approx([0.75 * value for value in single["mean"]])
        assert curve["std"] == pytest.approx([value / 2 / 2**0.5 for value in single["mean"]])


plain = st.recursive(
    st.none() | st.integers(-1000, 1000) | st.floats(-1e6, 1e6) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(plain, st.integers(1, 4))
def test_the_mean_of_equal_documents_is_the_document(value: Any, count: int) -> None:
    assert averaged([value] * count) == value


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 1000), st.none() | st.floats(0, 1)), min_size=1))
def test_means_are_taken_number_by_number(rows: list[tuple[float, int, float | None]]) -> None:
    found = averaged([{"a": [a, {"b": b}], "c": c, "text": "first"} for a, b, c in rows])
    assert found["a"][0] == pytest.approx(math.fsum(a for a, _, _ in rows) / len(rows), abs=1e-6)
    assert found["a"][1]["b"] == pytest.approx(sum(b for _, b, _ in rows) / len(rows))
    chances = [c for _, _, c in rows]
    if None in chances:
        assert found["c"] is None, "a mean over some of the seeds would be of another set"
    else:
        assert found["c"] == pytest.approx(math.fsum(chances) / len(rows))
    assert found["text"] == "first"
