"""The counts of `measure.cost` beside NeuroBench's of the same networks: equal, or apart by a stated relation.

The golden numbers come from NeuroBench itself, with snnTorch's neurons (`make_neurobench_golden.py`). Where definitions
differ, the difference is computed here, and is all there is between the two:

* NeuroBench counts a layer whose input is static at every step; evospike once.
* It calls a single call's operations accumulates when that call saw nothing but -1, 0 and 1; evospike judges a layer
  by everything that entered it, and -1 is no spike.
* Its dense count leaves out products with padding, as `dense_unpadded_macs` does; `dense_macs` has them, as equation 17
  of methods 1.8 does.
* A membrane update is, for NeuroBench, a potential that changed since the last step (all of them at the first step);
  for evospike every unit at every step, which is what a clocked neuron computes.
* Its footprint has the buffers that snnTorch's neurons keep; evospike's neurons keep none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from evospike.measure.cost import Costs, count_costs
from evospike.measure.predictions import Predictions
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import Edge, NetworkSpec, Node
from evospike.neurons.settings import NeuronSettings

DOCUMENT: dict[str, Any] = json.loads(Path(__file__).with_name("neurobench_golden.json").read_text(encoding="utf-8"))
NETWORKS: dict[str, dict[str, Any]] = {network["name"]: network for network in DOCUMENT["networks"]}
NEURON = NeuronSettings(decay=0.5, threshold=1.0, reset="hard")


@pytest.fixture(params=NETWORKS)
def stored(request: pytest.FixtureRequest) -> dict[str, Any]:
    return NETWORKS[request.param]


def network(stored: dict[str, Any]) -> Network:
    """The stored network as evospike builds it."""
    nodes = tuple(
        Node(node["name"], node["op"], tuple(Edge(source) for source in node["inputs"]), node["args"])
        for node in stored["nodes"]
    )
    channels, height, width = stored["input_shape"]
    spec = NetworkSpec(stored["name"], (channels, height, width), 3, nodes, stored["events"])
    net = build(spec, NEURON, steps=stored["steps"]).eval()
    numbers = {name: torch.tensor(values) / DOCUMENT["weights_scale"] for name, values in stored["weights"].items()}
    net.load_state_dict(numbers)
    return net


def batches(stored: dict[str, Any]) -> list[tuple[Tensor, Tensor]]:
    x = torch.tensor(stored["inputs"]) / stored["inputs_scale"]
    labels = torch.tensor(stored["labels"]).split(DOCUMENT["batch"])
    parts = x.split(DOCUMENT["batch"])
    return [(part.transpose(0, 1) if stored["events"] else part, own) for part, own in zip(parts, labels, strict=True)]


def counted(stored: dict[str, Any]) -> tuple[Costs, Predictions]:
    return count_costs(network(stored), batches(stored))


@torch.no_grad()
def entering(stored: dict[str, Any], *ops: str) -> dict[str, list[Tensor]]:
    """What enters the nodes of these operations, batch by batch, (T, B, ...); what is static is shown at every step."""
    net, steps = network(stored), stored["steps"]
    seen: dict[str, list[Tensor]] = {node.name: [] for node in net.spec.nodes if node.op in ops}
    samples = 0

    def look(name: str, x: Tensor) -> None:
        over_time = x if net.spec[name].op == "neuron" else x.unflatten(0, (-1, samples))
        seen[name].append(over_time.expand(steps, *over_time.shape[1:]))

    for name in seen:
        net.get_submodule(name).register_forward_pre_hook(lambda m, arguments, name=name: look(name, arguments[0]))
    for x, labels in batches(stored):
        samples = len(labels)
        net(x)
    return seen


@torch.no_grad()
def counting_twin(stored: dict[str, Any], *, dense: bool = False) -> Network:
    """The network with ones for its weights, all of them or those that are not zero: its layers, which have no bias,
    sum up how many inputs of 1 every output reads."""
    net = network(stored)
    for node in net.spec.weighted():
        layer = net.get_submodule(node.name)
        layer.weight.copy_(torch.ones_like(layer.weight) if dense else (layer.weight != 0).float())
        if layer.bias is not None:
            layer.bias.zero_()
    return net


@torch.no_grad()
def pairs(twin: Network, name: str, x: Tensor) -> int:
    """Pairs (input not zero, weight counted) that meet when a layer of a counting twin reads (B, ...)."""
    return int(twin.get_submodule(name)((x != 0).float()).sum())


def test_where_the_golden_numbers_come_from() -> None:
    assert DOCUMENT["versions"]["neurobench"] == "2.3.0"
    assert len(NETWORKS) == 4


def test_accuracy_and_sparsities_are_the_same(stored: dict[str, Any]) -> None:
    costs, predictions = counted(stored)
    golden = stored["golden"]
    assert predictions.accuracy == pytest.approx(golden["ClassificationAccuracy"], abs=1e-6)
    assert costs.activation_sparsity == pytest.approx(golden["ActivationSparsity"], abs=1e-12)
    assert round(costs.connection_sparsity, 4) == golden["ConnectionSparsity"]  # NeuroBench rounds
    assert 0 < costs.spikes_per_sample < costs.membrane_updates


def test_effective_operations_are_the_same_once_static_layers_count_at_every_step(stored: dict[str, Any]) -> None:
    costs, _ = counted(stored)
    golden = stored["golden"]["SynapticOperations"]
    at_every_step = sum(layer.effective * costs.steps / layer.passes for layer in costs.layers)
    assert at_every_step == pytest.approx(golden["Effective_ACs"] + golden["Effective_MACs"], abs=1e-9)


def in_accumulating_calls(stored: dict[str, Any], name: str) -> float:
    """Pairs of one sample that met in those calls of a layer that saw nothing but -1, 0 and 1."""
    twin, found = counting_twin(stored), 0
    for x in (step for call in entering(stored, "conv", "linear")[name] for step in call):
        if torch.isin(x, torch.tensor([-1.0, 0.0, 1.0])).all():
            found += pairs(twin, name, x)
    return found / len(stored["labels"])


def test_accumulates_differ_by_the_calls_of_other_layers_that_saw_ones_only(stored: dict[str, Any]) -> None:
    """NeuroBench's split follows its rule for single calls; whatever evospike calls accumulates is so for both."""
    costs, _ = counted(stored)
    others = [layer for layer in costs.layers if layer.input_kind != "binary"]
    moved = {layer.name: in_accumulating_calls(stored, layer.name) for layer in others}
    golden = stored["golden"]["SynapticOperations"]
    at_every_step = sum(layer.effective * costs.steps / layer.passes for layer in others)
    assert golden["Effective_ACs"] == pytest.approx(costs.accumulates + sum(moved.values()), abs=1e-9)
    assert golden["Effective_MACs"] == pytest.approx(at_every_step - sum(moved.values()), abs=1e-9)
    assert {name for name in moved if moved[name]} == ({"first"} if stored["name"] == "signed" else set())


def test_what_entered_the_layers_is_told_as_it_was() -> None:
    """Frames of -1 are real, sums and counts of events are whole numbers, and pooled spikes are neither."""
    kinds = {name: {layer.name: layer.input_kind for layer in counted(NETWORKS[name])[0].layers} for name in NETWORKS}
    assert kinds == {
        "images": {"stem": "real", "second": "binary", "classifier": "binary"},
        "pooled": {"stem": "binary", "point": "real", "classifier": "real"},
        "sums": {"stem": "counts", "inner": "binary", "wide": "counts", "classifier": "binary"},
        "signed": {"first": "real", "second": "binary", "classifier": "binary"},
    }


def test_counts_weigh_more_in_synaptic_operations_than_in_pairs() -> None:
    costs, _ = counted(NETWORKS["sums"])
    assert costs.synaptic_operations > costs.accumulates + costs.multiply_accumulates


def test_dense_operations_are_the_same_without_padding(stored: dict[str, Any]) -> None:
    costs, _ = counted(stored)
    golden = stored["golden"]["SynapticOperations"]["Dense"]
    assert stored["steps"] * sum(layer.dense_unpadded_macs for layer in costs.layers) == golden
    with_padding = stored["steps"] * sum(layer.dense_macs for layer in costs.layers)
    padded = any(node.args.get("padding") for node in network(stored).spec.weighted())
    assert (with_padding > golden) if padded else (with_padding == golden)


def test_every_pair_is_one_that_the_dense_network_has_too(stored: dict[str, Any]) -> None:
    """With all weights present the same inputs meet at least as many; with none missing, exactly as many."""
    twin = counting_twin(stored, dense=True)
    costs, _ = counted(stored)
    inputs = entering(stored, "conv", "linear")
    for layer in costs.layers:
        met = sum(pairs(twin, layer.name, x) for call in inputs[layer.name] for x in call)
        assert layer.dense_effective * costs.steps / layer.passes == pytest.approx(met / costs.samples, abs=1e-9)
        assert (layer.dense_effective == layer.effective) == (layer.present == layer.weights)


@torch.no_grad()
def unchanged_potentials(stored: dict[str, Any]) -> int:
    """(unit, step) of all samples, from the second step on, at which the potential before reset stayed as it was."""
    unchanged = 0
    for current in (call for calls in entering(stored, "neuron").values() for call in calls):
        v, last = torch.zeros_like(current[0]), None
        for step in current:
            u = NEURON.decay * v + step
            unchanged += 0 if last is None else int((u == last).sum())
            v, last = torch.where(u > NEURON.threshold, 0.0, u), u
    return unchanged


def test_membrane_updates_differ_by_the_potentials_that_did_not_change(stored: dict[str, Any]) -> None:
    costs, _ = counted(stored)
    unchanged = unchanged_potentials(stored)
    assert costs.membrane_updates - unchanged / costs.samples == pytest.approx(stored["golden"]["MembraneUpdates"])
    assert unchanged > 0


def test_the_footprint_is_that_of_the_parameters_and_of_snntorchs_buffers(stored: dict[str, Any]) -> None:
    net = network(stored)
    parameters = sum(p.numel() * p.element_size() for p in net.parameters())
    assert list(net.buffers()) == []
    assert parameters + stored["golden"]["bytes_of_buffers"] == stored["golden"]["Footprint"]
