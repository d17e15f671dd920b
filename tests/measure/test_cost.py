"""The counting pass against networks counted on paper and against a second count, pair by pair in plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evospike.core.errors import ShapeError
from evospike.genetic.contraction import macs
from evospike.genetic.encode import encode, materialise
from evospike.genetic.encoding import GeneticLayer
from evospike.layers.spiking import SpikingNeuron
from evospike.measure.accuracy import evaluate
from evospike.measure.cost import Costs, EncodingWork, LayerCost, NeuronCost, count_costs, counting_costs
from evospike.measure.energy import energy_models
from evospike.measure.spikes import counting
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import INPUT, Edge, NetworkSpec, SpecBuilder
from evospike.neurons.settings import NeuronSettings
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings

Batches = list[tuple[Tensor, Tensor]]

# --- on paper ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def grid() -> Network:
    """Pixels of a 2x2 image fire, pass a 1x1 and a 3x3 convolution, and are averaged for the classifier; IF, T = 2.

    A pixel of 2 fires at both steps, one of 0.6 at the second. Every spike makes the units it reaches fire. Channel 1
    after the 1x1 convolution is silent. The 3x3 convolution lacks the tap from the upper left of channel 0.
    """
    b = SpecBuilder("grid", (1, 2, 2), 2)
    point = b.conv("point", b.node("pixels", "neuron", INPUT), 2, kernel=1)
    wide = b.conv("wide", b.node("points", "neuron", point), 1)
    pooled = b.node("pool", "global_pool", b.node("last", "neuron", wide))
    b.node("scores", "linear", pooled, features=2)
    net = build(b.finish(), NeuronSettings(kind="if"), steps=2)
    with torch.no_grad():
        net.get_parameter("point.weight").copy_(torch.tensor([1.5, 0.0]).view(2, 1, 1, 1))
        net.get_parameter("wide.weight").fill_(1.5)[0, 0, 0, 0] = 0.0
        net.get_parameter("scores.weight").copy_(torch.tensor([[1.0], [0.0]]))
    return net


IMAGES = torch.tensor([[[[2.0, 0.0], [0.6, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
LABELS = torch.tensor([0, 1])


def cost_of(
    name: str,
    kind: str,
    entered: tuple[float, float],
    *,
    sizes: tuple[int, int, int, int],
    macs: tuple[int, int, int],
    met: tuple[float, float],
    **changes: Any,
) -> LayerCost:
    """A layer that reads neurons in 2 passes.

    entered: rate and activity. sizes: inputs, outputs, weights, present ones. macs: of a pass, dense with padding,
    without padding, and dense without. met: pairs with present and with all weights.
    """
    told = {
        "op": "linear" if name == "scores" else "conv",
        "reads": "neurons",
        "passes": 2,
        **dict(zip(("input_rate", "input_activity"), entered, strict=True)),
        **dict(zip(("inputs", "outputs", "weights", "present"), sizes, strict=True)),
        **dict(zip(("dense_macs", "unpadded_macs", "dense_unpadded_macs"), macs, strict=True)),
        **dict(zip(("effective", "dense_effective"), met, strict=True)),
        **dict(zip(("synaptic_operations", "dense_synaptic_operations"), met, strict=True)),
    }
    return LayerCost(name=name, input_kind=kind, **(told | changes))


def test_a_network_counted_on_paper(grid: Network) -> None:
    costs, predictions = count_costs(grid, [(IMAGES, LABELS)])
    # Over both samples the pixels fire 3 times: at (0, 0) twice, at (1, 0) once. All four outputs of the 3x3
    # convolution see both places, but (0, 0) reaches (1, 1) only through the tap that is missing: 2 * 3 + 1 * 4 pairs,
    # of 3 * 4. Without padding every output sees 4 places of 2 channels, 32 in all, and misses one through that tap.
    assert costs == Costs(
        samples=2,
        steps=2,
        layers=(
            cost_of("point", "binary", (3 / 16, 3 / 16), sizes=(4, 8, 2, 1), macs=(8, 4, 8), met=(1.5, 3.0)),
            cost_of("wide", "binary", (3 / 32, 3 / 32), sizes=(8, 4, 18, 17), macs=(72, 31, 32), met=(5.0, 6.0)),
            cost_of("scores", "real", (1.75 / 4, 2 / 4), sizes=(1, 2, 2, 1), macs=(2, 1, 2), met=(1.0, 2.0)),
        ),
        neurons=(
            NeuronCost("pixels", 4, (0.5, 1.0), 2 / 4, 0.0),
            NeuronCost("points", 8, (0.5, 1.0), 6 / 8, 0.0),
            NeuronCost("last", 4, (1.5, 2.0), 0.0, 0.0),
        ),
    )
    assert predictions.samples == 2


def test_sums_over_the_network_counted_on_paper(grid: Network) -> None:
    costs, _ = count_costs(grid, [(IMAGES, LABELS)])
    assert costs.spikes_per_sample == 1.5 + 1.5 + 3.5
    assert costs.membrane_updates == 2 * 16
    assert costs.firing_rate == 6.5 / 32
    assert costs.activation_sparsity == 1 - 6.5 / 32
    assert (costs.accumulates, costs.multiply_accumulates, costs.synaptic_operations) == (6.5, 1.0, 7.5)
    assert costs.connection_sparsity == 3 / 22
    assert costs.dead == (2 + 6 + 0) / 16
    assert costs.saturated == 0
    point, wide, _ = costs.layers
    assert (point.density, point.present_macs) == (0.5, 4.0)
    assert (wide.density, wide.present_macs) == (17 / 18, 72 * 17 / 18)
    assert [layer.spikes for layer in costs.neurons] == [1.5, 1.5, 3.5]
    assert [layer.rate for layer in costs.neurons] == [1.5 / 8, 1.5 / 16, 3.5 / 8]


def test_units_that_always_fire_are_saturated(grid: Network) -> None:
    alone, _ = count_costs(grid, [(IMAGES[:1], LABELS[:1])])
    assert [layer.saturated for layer in alone.neurons] == [1 / 4, 1 / 8, 3 / 4]
    assert alone.saturated == (1 + 1 + 3) / 16
    silent, _ = count_costs(grid, [(IMAGES[1:], LABELS[1:])])
    assert (silent.dead, silent.saturated, silent.spikes_per_sample) == (1.0, 0.0, 0.0)
    assert [layer.input_kind for layer in silent.layers] == ["binary"] * 3


def test_a_static_input_is_counted_once() -> None:
    b = SpecBuilder("static", (1, 2, 2), 2)
    stem = b.conv("stem", INPUT, 1, role="stem")
    flat = b.node("flat", "flatten", b.node("fired", "neuron", stem))
    b.node("scores", "linear", flat, features=2)
    net = build(b.finish(), steps=3)
    with torch.no_grad():
        net.get_parameter("stem.weight").zero_()[0, 0, 1, 1] = 4.0
    image = torch.tensor([[[[0.5, -1.0], [0.0, 2.0]]]])
    costs, _ = count_costs(net, [(image, LABELS[:1])])
    stem_cost, scores = costs.layers
    sizes, once = (4, 4, 9, 1), {"reads": "input", "passes": 1}
    # three pixels are not zero; each reaches all four outputs, one of them through the only weight
    assert stem_cost == cost_of(
        "stem", "real", (1.5 / 4, 3 / 4), sizes=sizes, macs=(36, 4, 16), met=(3.0, 12.0), **once
    )
    # 2 and 8 fire at every step; each spike meets two weights
    assert (scores.input_kind, scores.passes, scores.effective) == ("binary", 3, 3 * 2 * 2)


def test_a_static_layer_of_a_network_that_is_stepped_through_time_is_counted_once() -> None:
    b = SpecBuilder("again", (1, 1, 2), 2)
    stem = b.conv("stem", INPUT, 1, kernel=1, role="stem")
    fired = b.node("fired", "neuron", b.node("sum", "add", stem, Edge("fired", delay=1)))
    b.node("scores", "linear", b.node("flat", "flatten", fired), features=2)
    net = build(b.finish(), NeuronSettings(kind="if"), steps=3)
    nn.init.ones_(net.get_parameter("stem.weight"))
    nn.init.ones_(net.get_parameter("scores.weight"))
    x = torch.tensor([[[[0.5, 2.0]]], [[[0.0, 2.0]]]])
    costs, _ = count_costs(net, [(x, LABELS)])
    # 2 fires at every step, 0.5 at the third; the pixels 0.5, 2 and 2 meet the stem's only weight
    assert costs.layers == (
        cost_of(
            "stem",
            "real",
            (4.5 / 4, 3 / 4),
            sizes=(2, 2, 1, 1),
            macs=(2, 2, 2),
            met=(1.5, 1.5),
            reads="input",
            passes=1,
        ),
        cost_of("scores", "binary", (7 / 12, 7 / 12), sizes=(2, 2, 4, 4), macs=(4, 4, 4), met=(7.0, 7.0), passes=3),
    )
    assert costs.neurons[0].spikes_by_step == (1.0, 1.0, 1.5)
    priced = energy_models(costs)["45nm"]["parts"]
    assert priced == pytest.approx({"real inputs": 4.6 * 2, "spikes": 0.9 * 3 * 7 / 12 * 4})


@pytest.mark.parametrize(
    ("frames", "kind", "effective", "operations"),
    [
        ([[0.0, 1.0], [1.0, 0.0]], "binary", 4, 4),
        ([[0.0, 1.0], [3.0, 2.0]], "counts", 6, 12),
        ([[0.0, 1.0], [0.5, 2.0]], "real", 6, 6),
        ([[0.0, 1.0], [-1.0, 0.0]], "real", 4, 4),
        ([[0.0, 1.0], [1.0 - 2**-24, 0.0]], "real", 4, 4),
        ([[0.0, 1.0], [1e-30, 0.0]], "real", 4, 4),
        ([[0.0, 1.0], [math.inf, 0.0]], "real", 4, 4),
        ([[-0.0, 0.0], [0.0, 0.0]], "binary", 0, 0),
    ],
)
def test_the_kind_of_input(frames: list[list[float]], kind: str, effective: int, operations: int) -> None:
    net = linear_events(2)
    costs, _ = count_costs(net, [(torch.tensor(frames).view(2, 1, 1, 1, 2), LABELS[:1])])
    first = costs.layers[0]
    assert (first.input_kind, first.passes, first.effective, first.synaptic_operations) == (
        kind,
        2,
        effective,
        operations,
    )


def test_the_kind_is_that_of_everything_that_entered() -> None:
    net = linear_events(1)
    spikes, counts, real = (torch.tensor(values).view(1, 1, 1, 1, 2) for values in ([0.0, 1.0], [2.0, 0.0], [0.5, 3.0]))
    seen = []
    for frames in ([spikes], [spikes, counts], [counts, spikes], [spikes, counts, real], [real, spikes]):
        costs, _ = count_costs(net, [(x, LABELS[:1]) for x in frames])
        seen.append((costs.layers[0].input_kind, costs.layers[0].synaptic_operations * costs.samples))
    assert seen == [("binary", 2), ("counts", 6), ("counts", 6), ("real", 8), ("real", 6)]


def linear_events(steps: int) -> Network:
    """Two numbers at every step, read by a linear layer of two outputs without zeros."""
    b = SpecBuilder("linear", (1, 1, 2), 2, events=True)
    linear = b.node("linear", "linear", b.node("flat", "flatten", INPUT), features=2)
    b.node("scores", "linear", b.node("fired", "neuron", linear), features=2)
    net = build(b.finish(), steps=steps)
    nn.init.ones_(net.get_parameter("linear.weight"))
    return net


# --- pair by pair -----------------------------------------------------------------------------------------------------


Calls = dict[str, list[Tensor]]


@torch.no_grad()
def recorded(net: Network, batches: Batches) -> tuple[Calls, Calls]:
    """Inputs of every convolution and linear layer, and spikes of every neuron layer, call by call, in eval mode."""
    inputs: Calls = {node.name: [] for node in net.spec.weighted()}
    spikes: Calls = {node.name: [] for node in net.spec.nodes if node.op == "neuron"}
    handles = [
        net.get_submodule(name).register_forward_pre_hook(lambda m, arguments, own=own: own.append(arguments[0]))
        for name, own in inputs.items()
    ]
    handles += [
        net.get_submodule(name).register_forward_hook(lambda m, arguments, out, own=own: own.append(out[0]))
        for name, own in spikes.items()
    ]
    net.eval()
    for x, _ in batches:
        net(x)
    for handle in handles:
        handle.remove()
    return inputs, spikes


def pairs(spec: NetworkSpec, name: str, weight: Tensor, row: Tensor) -> Iterator[float]:
    """The input of every pair (input not zero, weight not zero) that meets when the layer reads one row."""
    args, x, w = spec[name].args, row.tolist(), weight.tolist()
    if spec[name].op == "linear":
        yield from (x[i] for o, i in product(range(len(w)), range(len(x))) if x[i] != 0 and w[o][i] != 0)
        return
    kernel, stride, padding, dilation, groups = (
        int(args[key]) for key in ("kernel", "stride", "padding", "dilation", "groups")
    )
    height, width = row.shape[1:]
    out_height, out_width = (
        (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for side in (height, width)
    )
    for o, i, u, v in product(range(len(w)), range(len(w[0])), range(kernel), range(kernel)):
        if w[o][i][u][v] == 0:
            continue
        channel = o // (len(w) // groups) * len(w[0]) + i
        for out_y, out_x in product(range(out_height), range(out_width)):
            y, at = out_y * stride - padding + u * dilation, out_x * stride - padding + v * dilation
            if 0 <= y < height and 0 <= at < width and x[channel][y][at] != 0:
                yield x[channel][y][at]


def pairs_of_calls(spec: NetworkSpec, name: str, weight: Tensor, calls: list[Tensor]) -> list[float]:
    return [value for call in calls for row in call for value in pairs(spec, name, weight, row)]


def naive_kind(values: Iterable[float]) -> str:
    values = list(values)
    if all(v in (0, 1) for v in values):
        return "binary"
    return "counts" if all(v >= 0 and v == int(v) for v in values) else "real"


def assert_layer(cost: LayerCost, spec: NetworkSpec, weight: Tensor, calls: list[Tensor], passes: int) -> None:
    """One layer's cost is what Python loops over every pair of input and weight count."""
    rows = [row for call in calls for row in call]
    values = [v for row in rows for v in row.flatten().tolist()]
    kind, samples = naive_kind(values), len(rows) / passes
    assert (cost.input_kind, cost.passes, cost.inputs) == (kind, passes, rows[0].numel())
    ones, whole = torch.ones_like(rows[0]), torch.ones_like(weight)
    met, all_met = (pairs_of_calls(spec, cost.name, w, calls) for w in (weight, whole))
    assert (cost.effective, cost.dense_effective) == (len(met) / samples, len(all_met) / samples)
    spikes = sum if kind == "counts" else len
    assert cost.synaptic_operations == spikes(met) / samples
    assert cost.dense_synaptic_operations == spikes(all_met) / samples
    assert cost.unpadded_macs == len(list(pairs(spec, cost.name, weight, ones)))
    assert cost.dense_unpadded_macs == len(list(pairs(spec, cost.name, whole, ones)))
    assert cost.input_activity == sum(v != 0 for v in values) / len(values)
    assert cost.input_rate == pytest.approx(math.fsum(values) / len(values), rel=1e-12, abs=1e-12)
    assert cost.weights == weight.numel()
    assert cost.present == sum(v != 0 for v in weight.flatten().tolist())


def assert_neurons(cost: NeuronCost, calls: list[Tensor], steps: int) -> None:
    """One layer of neurons: every unit's train of spikes, sample by sample."""
    if len(calls[0]) < steps:  # stepped through time: T calls a batch
        calls = [torch.cat(calls[i : i + steps]) for i in range(0, len(calls), steps)]
    trains = torch.cat([call.flatten(2) for call in calls], 1).permute(2, 1, 0).tolist()  # unit, sample, step
    samples = len(trains[0])
    assert cost.units == len(trains)
    assert cost.spikes_by_step == tuple(sum(s[t] for u in trains for s in u) / samples for t in range(steps))
    assert cost.dead == sum(not any(v for s in u for v in s) for u in trains) / len(trains)
    assert cost.saturated == sum(all(v for s in u for v in s) for u in trains) / len(trains)


def assert_counted(net: Network, batches: Batches, once: tuple[str, ...] = ()) -> Costs:
    """Everything that is counted of a network is what the loops count; gives the costs.

    once: layers that run at every step without a need, as their input is always the same.
    """
    inputs, spikes = recorded(net, batches)
    costs, _ = count_costs(net, batches)
    stored = materialise(net)
    nodes = {node.name: node.op for node in net.spec.nodes}
    assert [layer.name for layer in costs.layers] == [name for name, op in nodes.items() if op in ("conv", "linear")]
    assert [layer.name for layer in costs.neurons] == [name for name, op in nodes.items() if op == "neuron"]
    assert costs.samples == sum(len(labels) for _, labels in batches)
    for layer in costs.layers:
        assert layer.op == nodes[layer.name]
        calls = inputs[layer.name]
        passes = 1 if layer.name in once else sum(map(len, calls)) // costs.samples
        assert_layer(layer, net.spec, stored.get_parameter(f"{layer.name}.weight"), calls, passes)
    for layer in costs.neurons:
        assert_neurons(layer, spikes[layer.name], costs.steps)
    return costs


def drawn(shape: tuple[int, ...], kind: str, seed: int) -> Tensor:
    """Numbers of a kind, about half of them zero."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(shape, generator=generator) < 0.5
    if kind == "real":
        return torch.where(there, torch.randn(shape, generator=generator), 0.0)
    high = {"binary": 2, "counts": 5}[kind]
    return torch.where(there, torch.randint(1, high, shape, generator=generator), 0).float()


def randomise(net: nn.Module, seed: int, scale: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


def labelled(x: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    return x, torch.arange(samples) % 2


def with_channels_last(x: Tensor) -> Tensor:
    """The same (..., C, H, W) with its channels last in memory."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    found = {
        "channels": groups * draw(st.integers(1, 2)),
        "kernel": draw(st.integers(1, 3)),
        "stride": draw(st.integers(1, 3)),
        "padding": draw(st.integers(0, 3)),
        "dilation": draw(st.integers(1, 2)),
        "groups": groups,
    }
    reach = found["dilation"] * (found["kernel"] - 1) + 1
    least = max(1, reach - 2 * found["padding"])
    sides = st.integers(least, max(least, 5))
    return {"input": (groups * draw(st.integers(1, 2)), draw(sides), draw(sides)), "args": found}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    conv=convolutions(),
    kind=st.sampled_from(["binary", "counts", "real"]),
    events=st.booleans(),
    density=st.sampled_from([1.0, 0.4]),
    channels_last=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_any_convolution(
    conv: dict[str, Any], kind: str, events: bool, density: float, channels_last: bool, seed: int
) -> None:
    b = SpecBuilder("any", conv["input"], 2, events=events)
    fired = b.node("fired", "neuron", b.node("conv", "conv", INPUT, **conv["args"]))
    b.node("scores", "linear", b.node("flat", "flatten", fired), features=2)
    net = build(b.finish(), steps=2)
    randomise(net, seed)
    weight = net.get_parameter("conv.weight")
    with torch.no_grad():
        weight.mul_(torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < density)
    shape = (2, 3, *conv["input"]) if events else (3, *conv["input"])
    x = drawn(shape, kind, seed)
    if channels_last:
        x = with_channels_last(x)
    parts = x.split([2, 1], dim=1 if events else 0)
    costs = assert_counted(net, [labelled(part, samples) for part, samples in zip(parts, (2, 1), strict=True)])
    assert costs.layers[0].passes == (2 if events else 1)
    out = net.get_submodule("conv")(x.flatten(0, 1) if events else x)
    per_output = conv["input"][0] // conv["args"]["groups"] * conv["args"]["kernel"] ** 2
    assert costs.layers[0].outputs == out[0].numel()
    assert costs.layers[0].dense_macs == per_output * out[0].numel()


def body(block: str = "plain", *, events: bool = False, width: int = 4) -> NetworkSpec:
    """(2, 4, 4) images: a stem, two convolutions in a block, a classifier; batch norms between."""
    b = SpecBuilder("body", (2, 4, 4), 3, events=events)
    stem = b.conv_norm_neuron("stem.", INPUT, width, role="stem")
    one = b.conv_norm_neuron("one.", stem, width)
    two = b.conv_norm_neuron("two.", one, width)
    x = b.node("sum", "add", two, one, stem) if block == "sew" else two
    x = b.conv_norm_neuron("three.", x, width, stride=2)
    b.node("classifier", "linear", b.node("pool", "global_pool", x), features=3, role="classifier")
    return b.finish()


def restless(net: Network, seed: int) -> Network:
    """Random weights and norms, so that the layers fire."""
    randomise(net, seed, scale=0.7)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1.5)
            nn.init.constant_(module.bias, 0.3)
    return net


def images(seed: int, samples: int = 3) -> Batches:
    x = drawn((samples, 2, 4, 4), "real", seed)
    return [labelled(part, len(part)) for part in x.split(2)]


@pytest.mark.parametrize("seed", range(3))
def test_a_residual_sum_of_spikes_is_counts(seed: int) -> None:
    costs = assert_counted(restless(build(body("sew"), steps=2), seed), images(seed))
    kinds = {layer.name: layer.input_kind for layer in costs.layers}
    assert kinds == {
        "stem.conv": "real",
        "one.conv": "binary",
        "two.conv": "binary",
        "three.conv": "counts",
        "classifier": "real",
    }
    three = costs.layers[3]
    assert three.synaptic_operations > three.effective > 0
    assert costs.multiply_accumulates == sum(costs.layers[i].effective for i in (0, 3, 4))
    assert costs.accumulates == sum(costs.layers[i].effective for i in (1, 2))


def test_a_network_on_events() -> None:
    x = drawn((3, 4, 2, 4, 4), "counts", 0)
    net = restless(build(body(events=True)), 0)
    costs = assert_counted(net, [labelled(x[:, :3], 3), labelled(x[:, 3:], 1)])
    assert (costs.steps, costs.samples) == (3, 4)
    assert costs.layers[0].input_kind == "counts"
    assert {layer.passes for layer in costs.layers} == {3}


@pytest.mark.parametrize("events", [False, True])
def test_a_network_stepped_through_time(events: bool) -> None:
    b = SpecBuilder("loop", (2, 4, 4), 2, events=events)
    stem = b.conv_norm("stem.", INPUT, 3, role="stem")
    back = Edge("back.neuron", delay=1)
    fired = b.node("fired", "neuron", b.node("total", "add", stem, back))
    b.conv_norm_neuron("back.", fired, 3)
    b.node("scores", "linear", b.node("flat", "flatten", fired), features=2)
    net = restless(build(b.finish(), steps=3), 1)
    assert net.spec.has_delays
    x = drawn((3, 3, 2, 4, 4), "binary", 1) if events else drawn((3, 2, 4, 4), "real", 1)
    batches = [labelled(part, part.shape[-4]) for part in x.split(2, dim=-4)]
    costs = assert_counted(net, batches, () if events else ("stem.conv",))
    assert [layer.passes for layer in costs.layers] == [3 if events else 1, 3, 3]
    assert [layer.reads for layer in costs.layers] == ["input", "neurons", "neurons"]
    assert len(set(costs.neurons[0].spikes_by_step)) > 1


# --- generated weights ------------------------------------------------------------------------------------------------

KINDS = ("edge", "low_rank", "shared_tapG", "shared_tapE")
ORDERS = ("materialise", "two_stage")


def genetic(kind: str, order: str, *, events: bool = False, hidden: bool = False, seed: int = 0) -> Network:
    spec = body(events=events)
    if hidden:
        b = SpecBuilder("hidden", (2, 4, 4), 3)
        fired = b.conv_norm_neuron("stem.", INPUT, 3, role="stem")
        flat = b.node("flat", "flatten", fired)
        narrow = b.node("narrow.neuron", "neuron", b.node("narrow.linear", "linear", flat, features=5))
        neurons = b.node("wide.neuron", "neuron", b.node("wide.linear", "linear", narrow, features=7))
        b.node("classifier", "linear", neurons, features=3, role="classifier")
        spec = b.finish()
    net = build(spec, steps=2)
    encode(net, genes=3, kind=kind, contraction=order, skip_growing=False, seed=seed)
    return restless(net, seed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
def test_generated_weights_are_counted_as_if_formed(kind: str, order: str) -> None:
    costs = assert_counted(genetic(kind, order), images(2))
    works = {layer.name: layer.encoding for layer in costs.layers}
    assert [name for name, work in works.items() if work is None] == ["stem.conv", "classifier"]
    assert {work.order for work in works.values() if work is not None} == {order}


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_work_of_an_encoding_is_what_the_layer_multiplies(kind: str, order: str, hidden: bool) -> None:
    """Against PyTorch's own count of every product that one forward of the layer makes."""
    net = genetic(kind, order, hidden=hidden)
    batches = images(3)
    inputs, _ = recorded(net, batches)
    costs, _ = count_costs(net, batches)
    for cost in costs.layers:
        if cost.encoding is None:
            continue
        layer = net.get_submodule(cost.name)
        with FlopCounterMode(display=False) as forming, torch.no_grad():
            layer.form_weight() if order == "materialise" else layer.two_factors()
        assert cost.encoding.forming == forming.get_total_flops() / 2
        multiplied = 0
        for x in inputs[cost.name]:
            with FlopCounterMode(display=False) as running, torch.no_grad():
                layer(x)
            multiplied += running.get_total_flops() / 2 - cost.encoding.forming
        assert_stages(cost, layer, net.spec, inputs[cost.name], multiplied, costs.samples)


def assert_stages(
    cost: LayerCost, layer: GeneticLayer, spec: NetworkSpec, calls: list[Tensor], multiplied: float, samples: int
) -> None:
    assert cost.encoding is not None
    rows = [row for call in calls for row in call]
    out_channels, taps, genes = layer.factor_shape
    positions = cost.outputs // out_channels
    if cost.encoding.order == "materialise":
        assert cost.encoding == EncodingWork("materialise", cost.encoding.forming, 0.0, 0, 0)
        assert multiplied == len(rows) * cost.dense_macs
        return
    dense_first_stage = len(rows) * positions * genes * taps
    assert cost.encoding.first_stage_macs * len(rows) == dense_first_stage
    assert cost.encoding.second_stage * samples == multiplied - dense_first_stage
    assert cost.encoding.second_stage == genes * out_channels * positions * cost.passes
    right = torch.ones(genes, *layer.weight_shape[1:])
    met = pairs_of_calls(spec, cost.name, right, calls)
    assert cost.encoding.first_stage == len(met) / samples


@pytest.mark.parametrize("kind", ["edge", "shared_tapE"])
@pytest.mark.parametrize("order", ORDERS)
def test_forming_is_the_cost_by_which_the_order_is_chosen(kind: str, order: str) -> None:
    net = genetic(kind, order)
    costs, _ = count_costs(net, images(4))
    for cost in costs.layers:
        if cost.encoding is not None:
            layer = net.get_submodule(cost.name)
            assert cost.encoding.forming == macs(order, *layer.factor_shape, positions=0)


def test_two_stages_on_counts_weigh_by_the_value() -> None:
    net = build(body("sew"), steps=2)
    encode(net, genes=3, contraction="two_stage", skip_growing=False)
    batches = images(5)
    inputs, _ = recorded(restless(net, 5), batches)
    three = assert_counted(net, batches).layers[3]
    met = pairs_of_calls(net.spec, three.name, torch.ones(3, 4, 3, 3), inputs[three.name])
    assert three.input_kind == "counts"
    assert three.encoding is not None
    assert three.encoding.first_stage == sum(met) / 3 > len(met) / 3


def test_a_masked_generated_weight_is_materialised_and_its_zeros_are_absent() -> None:
    net = genetic("edge", "two_stage")
    attach(net, SparseSettings(density=0.3), 0)
    costs = assert_counted(net, images(6))
    assert all(layer.density < 1 for layer in costs.layers[1:3])
    assert {layer.encoding.order for layer in costs.layers if layer.encoding} == {"materialise"}


def test_missing_synapses_are_absent() -> None:
    net = restless(build(body("sew"), steps=2), 6)
    attach(net, SparseSettings(density=0.3), 0)
    costs = assert_counted(net, images(6))
    assert costs.connection_sparsity == pytest.approx(0.7, abs=0.01)


def test_missing_entries_of_encodings_do_no_work_in_two_stages() -> None:
    net = genetic("low_rank", "two_stage")
    attach(net, SparseSettings(density=0.4, on="encodings", allocation="uniform"), 0)
    batches = images(7)
    inputs, _ = recorded(net, batches)
    costs = assert_counted(net, batches)
    for cost in costs.layers[1:4]:
        layer = net.get_submodule(cost.name)
        met = pairs_of_calls(net.spec, cost.name, layer.input_encoding, inputs[cost.name])
        read, kept = (int((encoding != 0).sum()) for encoding in (layer.input_encoding, layer.output_encoding))
        assert kept < layer.output_encoding.numel()
        positions = cost.outputs // layer.out_channels
        first, second = (len(met) / costs.samples, read * positions), kept * positions * cost.passes
        assert cost.encoding == EncodingWork("two_stage", 0, *first, second)


def test_the_order_is_the_one_the_layer_settled_on() -> None:
    net = build(body(width=16), steps=2)
    encode(net, genes=2, skip_growing=False)
    costs, _ = count_costs(net, images(8))
    assert {layer.encoding.order for layer in costs.layers if layer.encoding} == {"two_stage"}
    assert net.get_submodule("one.conv").contraction == "two_stage"


# --- no trace, and what is refused -----------------------------------------------------------------------------------


def test_batches_do_not_matter() -> None:
    net = restless(build(body("sew"), steps=2), 9)
    x = drawn((5, 2, 4, 4), "real", 9)
    whole, _ = count_costs(net, [labelled(x, 5)])
    parts, _ = count_costs(net, [labelled(part, len(part)) for part in x.split(2)])
    assert whole == parts


@pytest.mark.parametrize("events", [False, True])
def test_the_order_of_memory_does_not_matter(events: bool) -> None:
    net = restless(build(body("sew", events=events), steps=2), 10)
    x = drawn((2, 3, 2, 4, 4) if events else (3, 2, 4, 4), "counts", 10)
    plain, _ = count_costs(net, [labelled(x, 3)])
    other, _ = count_costs(net.to(memory_format=torch.channels_last), [labelled(with_channels_last(x), 3)])
    assert plain == other


def test_many_numbers_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    net = restless(build(body("sew"), steps=2), 10)
    whole, _ = count_costs(net, images(10))
    monkeypatch.setattr("evospike.measure.tally._CHUNK", 70)
    parts, _ = count_costs(net, images(10))
    assert whole == parts


def test_scores_and_rates_are_those_of_a_plain_evaluation() -> None:
    net = restless(build(body("sew"), steps=2), 11)
    batches = images(11)
    plain = evaluate(net, batches)
    costs, predictions = count_costs(net, batches)
    assert (predictions.accuracy, predictions.loss, predictions.samples) == (plain.accuracy, plain.loss, plain.samples)
    assert costs.firing_rate == pytest.approx(plain.firing_rate, rel=1e-14)
    net.eval()
    with counting(net) as count, torch.no_grad():
        for x, _ in batches:
            net(x)
    assert {layer.name: layer.spikes * 3 for layer in costs.neurons} == pytest.approx(count.spikes)


def traces(net: Network) -> tuple[Any, ...]:
    """Everything a counting pass could leave behind."""
    modules = list(net.modules())
    hooks = [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in modules]
    values = [tensor.clone() for tensor in (*net.parameters(), *net.buffers())]
    return [m.training for m in modules], hooks, net.observer, [v.tolist() for v in values], torch.is_grad_enabled()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("where", ["nowhere", "batches", "forward", "labels"])
def test_nothing_is_left_behind(training: bool, where: str) -> None:
    net = restless(build(body(), steps=2), 12).train(training)
    net.get_submodule("one.norm").eval()
    net.observer = lambda *_: None
    net.register_forward_hook(lambda *_: None)
    before = traces(net)
    x, labels = images(12)[0]

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield x, labels
        if where == "batches":
            raise ValueError("broken")
        if where == "forward":
            yield x[0], labels
        if where == "labels":
            yield x, labels[:1]

    if where == "nowhere":
        count_costs(net, batches())
    else:
        with pytest.raises(ValueError, match=r"broken|reads \(B, C, H, W\)|expected \(T, B, classes\)"):
            count_costs(net, batches())
    assert traces(net) == before


def test_forwards_inside_the_context_are_counted_with_gradients_and_in_any_mode() -> None:
    net = restless(build(body(), steps=2), 13).train()
    x, _ = images(13)[0]
    with counting_costs(net) as counter:
        net(x).sum().backward()
        first = counter.costs()
        net(x)
    net(x)
    assert (first.samples, counter.costs().samples) == (2, 4)
    assert all(p.grad is not None for p in net.get_submodule("stem.conv").parameters())
    assert counter.costs().spikes_per_sample == pytest.approx(first.spikes_per_sample)


def test_a_network_without_neurons_is_refused() -> None:
    b = SpecBuilder("silent", (1, 2, 2), 2)
    b.node("scores", "linear", b.node("flat", "flatten", INPUT), features=2)
    with pytest.raises(ShapeError, match="'silent' has no layer of neurons, so there is nothing to count as spikes"):
        count_costs(build(b.finish()), [(IMAGES, LABELS)])


def test_no_samples_are_refused(grid: Network) -> None:
    with pytest.raises(ShapeError, match="no sample was counted; run the network on at least one batch"):
        count_costs(grid, [])


def test_recordings_of_different_lengths_are_refused() -> None:
    net = linear_events(2)
    batches = [(torch.zeros(steps, 1, 1, 1, 2), LABELS[:1]) for steps in (2, 3)]
    with pytest.raises(ShapeError, match="a batch has 3 steps after batches of 2; count them apart"):
        count_costs(net, batches)


def test_neurons_that_are_modules_are_all_seen() -> None:
    net = restless(build(body("sew"), steps=2), 14)
    costs, _ = count_costs(net, images(14))
    assert len(costs.neurons) == sum(isinstance(module, SpikingNeuron) for module in net.modules())
    assert {len(layer.spikes_by_step) for layer in costs.neurons} == {2}
