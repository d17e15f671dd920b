"""Energies of small networks that ran, against a price list applied in plain loops to what was seen entering them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from evospike.genetic.encode import encode, materialise
from evospike.measure.cost import count_costs
from evospike.measure.energy import MODELS, Prices, at_rates, break_even, energy_models
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import INPUT, NetworkSpec, SpecBuilder
from evospike.neurons.settings import NeuronSettings

FLAT = Prices(mac=10.0, ac=2.0, flop=3.0, sop=7.0, sram=((0, 1.0),))
"""Prices that are easy to add up; every access to a memory costs 1."""


@dataclass
class Seen:
    """What Python saw of one layer for one sample: mean of the input, events and products that met, of all passes.

    padded, unpadded: products of one pass, whatever the input. values: sum of what entered.
    """

    kind: str
    passes: int
    values: float
    rate: float
    events: float
    padded: int
    unpadded: int
    outputs: int


def watch(net: Network, x: Tensor, weights: dict[str, Tensor]) -> dict[str, Seen]:
    """Run images or frames through a network, and look at every row that enters a convolution or linear layer.

    weights: by layer; other than the layer's own for what another layer would have done on the same input.
    """
    rows: dict[str, list[NDArray[Any]]] = {name: [] for name in weights}
    handles = [
        net.get_submodule(name).register_forward_pre_hook(lambda m, given, own=own: own.extend(given[0].numpy()))
        for name, own in rows.items()
    ]
    with torch.no_grad():
        samples = net.eval()(x).shape[1]
    for handle in handles:
        handle.remove()
    return {name: look(net.spec, name, rows[name], weights[name].numpy(), samples) for name in rows}


def look(spec: NetworkSpec, name: str, rows: list[NDArray[Any]], weight: NDArray[Any], samples: int) -> Seen:
    whole = all((row == row.round()).all() and (row >= 0).all() for row in rows)
    kind = "real" if not whole else "spikes"
    events = sum(sum(value for value in meet(spec, name, row, weight) if value is not None) for row in rows)
    one = list(meet(spec, name, np.ones_like(rows[0]), weight))
    outputs = len(weight) * (1 if spec[name].op == "linear" else side(spec, name, rows[0]) ** 2)
    return Seen(
        kind=kind,
        passes=len(rows) // samples,
        values=sum(float(row.sum()) for row in rows) / samples,
        rate=float(np.mean(rows)),
        events=events / samples,
        padded=len(one),
        unpadded=sum(value is not None for value in one),
        outputs=outputs,
    )


def side(spec: NetworkSpec, name: str, row: NDArray[Any]) -> int:
    kernel, stride, padding = (spec[name].integer(key) for key in ("kernel", "stride", "padding"))
    return (row.shape[1] + 2 * padding - kernel) // stride + 1


def meet(spec: NetworkSpec, name: str, row: NDArray[Any], weight: NDArray[Any]) -> list[float | None]:
    """What every present weight of a square image's layer multiplies in one pass, None where that is padding."""
    if spec[name].op == "linear":
        return [float(row[i]) for o, i in product(*map(range, weight.shape)) if weight[o, i] != 0]
    stride, padding = spec[name].integer("stride"), spec[name].integer("padding")
    found: list[float | None] = []
    for o, i, u, v in product(*map(range, weight.shape)):
        for out_y, out_x in product(range(side(spec, name, row)), repeat=2):
            y, x = out_y * stride - padding + u, out_x * stride - padding + v
            if weight[o, i, u, v] != 0:
                inside = 0 <= y < row.shape[1] and 0 <= x < row.shape[2]
                found.append(float(row[i, y, x]) if inside else None)
    return found


def weights_of(net: Network) -> dict[str, Tensor]:
    stored = materialise(net)
    return {node.name: stored.get_parameter(f"{node.name}.weight").detach() for node in net.spec.weighted()}


def equation_17(seen: dict[str, Seen], prices: Prices = FLAT) -> float:
    return sum(
        prices.mac * one.passes * one.padded if one.kind == "real" else prices.ac * one.passes * one.rate * one.padded
        for one in seen.values()
    )


def randomise(net: Network, seed: int = 0) -> Network:
    """Random weights; norms that let about half of the neurons fire."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if "norm" in name:
                parameter.fill_(1.5 if name.endswith("weight") else 0.4)
    return net


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def counts(*shape: int, seed: int = 0) -> Tensor:
    return torch.poisson(torch.full(shape, 0.4), generator=torch.Generator().manual_seed(seed))


def counted(net: Network, x: Tensor) -> Any:
    samples = x.shape[1] if net.spec.events else x.shape[0]
    return count_costs(net, [(x, torch.zeros(samples, dtype=torch.long))])[0]


# --- generated weights ------------------------------------------------------------------------------------------------


def generated(genes: int, order: str, *, pooled: bool = False) -> Network:
    """Stem, a layer of 6 channels from 4 in two stages (which may read averages of spikes), classifier; 3 steps."""
    b = SpecBuilder("generated", (2, 4, 4), 2)
    x = b.conv_norm_neuron("stem.", INPUT, 4, role="stem")
    x = b.node("pool", "avgpool", x) if pooled else x
    x = b.conv_norm_neuron("body.", x, 6)
    b.node("scores", "linear", b.node("flat", "flatten", x), features=2, role="classifier")
    net = build(b.finish(), steps=3)
    encode(net, genes=genes, contraction=order, skip_growing=False)
    return randomise(net)


@pytest.mark.parametrize("pooled", [False, True])
def test_two_stages_whose_first_is_as_wide_as_the_layer_only_add_what_they_do_besides(pooled: bool) -> None:
    net = generated(6, "two_stage", pooled=pooled)
    costs = counted(net, images(3, 2, 4, 4))
    priced = energy_models(costs, FLAT)
    positions = 4 if pooled else 16
    assert costs.layers[1].input_kind == ("real" if pooled else "binary")
    forming, second = 6 * 6**2, 3 * 6 * 6 * positions
    added = {"second stage": 10.0 * second, "forming weights": 10.0 * forming}
    assert priced["45nm_with_encoding"]["parts"] == pytest.approx(priced["45nm"]["parts"] | added)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("genes", [2, 9])
def test_the_first_stage_is_priced_as_a_layer_of_as_many_channels_as_genes(genes: int, pooled: bool) -> None:
    net, x = generated(genes, "two_stage", pooled=pooled), images(3, 2, 4, 4)
    own = weights_of(net)
    narrow = own | {"body.conv": torch.ones(genes, 4, 3, 3)}
    second = 3 * genes * 6 * (4 if pooled else 16)
    priced = {name: model["picojoules"] for name, model in energy_models(counted(net, x), FLAT).items()}
    assert priced["45nm"] == pytest.approx(equation_17(watch(net, x, own)))
    work = 10.0 * (second + 6 * genes**2)
    assert priced["45nm_with_encoding"] == pytest.approx(equation_17(watch(net, x, narrow)) + work)


def test_weights_that_are_formed_add_their_forming() -> None:
    net, x = generated(2, "materialise"), images(3, 2, 4, 4)
    priced = energy_models(counted(net, x), FLAT)
    forming = 6 * 2**2 + 6 * 2 * 36
    expected = equation_17(watch(net, x, weights_of(net))) + 10.0 * forming
    assert priced["45nm_with_encoding"]["picojoules"] == pytest.approx(expected)


# --- break-even -------------------------------------------------------------------------------------------------------


def restless(kernel: int) -> Network:
    """Every unit of three padded layers fires at the one step there is, whatever enters."""
    b = SpecBuilder("restless", (1, 2, 2), 2)
    x = b.node("stem.neuron", "neuron", b.node("stem.norm", "norm", b.conv("stem.conv", INPUT, 3, kernel=kernel)))
    x = b.conv_norm_neuron("one.", x, 3)
    x = b.conv_norm_neuron("two.", x, 3)
    b.node("scores", "linear", b.node("flat", "flatten", x), features=2, role="classifier")
    net = build(b.finish(), NeuronSettings(kind="if"), steps=1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.fill_(9.0 if name.endswith("norm.bias") else 0.01)
    return net


def memory_by_loops(seen: dict[str, Seen], stem: str, units: list[int], spikes: float, steps: int) -> float:
    """The network's own traffic when every price of a memory is 1; the stem reads real values or events."""
    total = FLAT.mac * steps * sum(units) + 2 * steps * sum(units) + 2 * spikes
    for name, one in seen.items():
        if one.kind == "real":
            products = one.passes * one.unpadded
            total += (FLAT.mac + 1 + 1) * products + 2 * one.passes * one.outputs
        else:
            total += (FLAT.ac + 1 + 2) * one.events + (2 * one.values if name == stem else 0)
    return total


def rival_by_loops(seen: dict[str, Seen], stem: str, bits: int) -> float:
    """The quantised network's arithmetic and traffic when every price of a memory is 1."""
    total = 0.0
    for name, one in seen.items():
        width = (32 if name == stem else bits) / 32
        mac = FLAT.ac + (FLAT.mac - FLAT.ac) * width
        total += (mac + 1 + width) * one.unpadded + 2 * one.outputs * bits / 32
    return total


def test_both_networks_pay_the_same_for_what_they_both_do() -> None:
    """A stem with nine times the weights costs either the same more: four times the products are not padding."""
    x, gaps = images(4, 1, 2, 2), []
    for kernel in (1, 3):
        net = restless(kernel)
        costs = counted(net, x)
        assert costs.firing_rate == 1.0
        seen = watch(net, x, weights_of(net))
        assert seen["stem.conv"].unpadded == {1: 3 * 4, 3: 3 * 16}[kernel]
        assert (seen["one.conv"].events, seen["one.conv"].unpadded) == (9 * 16, 9 * 16)
        own = energy_models(costs, FLAT)["memory"]["picojoules"]
        rival = break_even(costs, FLAT)["memory"]["quantised_picojoules"]
        assert own == pytest.approx(memory_by_loops(seen, "stem.conv", [12, 12, 12], 36, steps=1))
        assert rival == pytest.approx(rival_by_loops(seen, "stem.conv", bits=1))
        gaps.append(own - rival)
    assert gaps[0] == pytest.approx(gaps[1])


def test_a_layer_that_reads_spikes_does_the_products_of_the_quantised_one_when_all_fire() -> None:
    """So at equal prices of all operations and no traffic, the break-even is the network's own rate."""
    prices = Prices(mac=1.0, ac=1.0, sram=((0, 0.0),))
    costs = counted(restless(3), images(4, 1, 2, 2))
    neurons = 36  # membrane updates, which the quantised network has not
    found = break_even(costs, prices)["memory"]
    spiking = sum(layer.synaptic_operations for layer in costs.layers[1:])
    assert found["scale"] == pytest.approx((spiking - neurons) / spiking)
    assert break_even(costs, prices)["45nm"]["scale"] == pytest.approx(1.0)


def filmed(*, pooled: bool) -> Network:
    """Frames of events enter a stem; the body reads spikes, or averages of them; 3 steps."""
    b = SpecBuilder("filmed", (2, 4, 4), 2, events=True)
    x = b.conv_norm_neuron("stem.", INPUT, 3, role="stem")
    x = b.node("pool", "avgpool", x) if pooled else x
    x = b.conv_norm_neuron("body.", x, 4)
    b.node("scores", "linear", b.node("flat", "flatten", x), features=2, role="classifier")
    return randomise(build(b.finish(), steps=3))


@pytest.mark.parametrize("pooled", [False, True])
def test_events_enter_however_often_neurons_fire(pooled: bool) -> None:
    """The break-even scales what neurons feed, and by hand: E(scale) = silent + scale (E - silent) = rival."""
    net, x = filmed(pooled=pooled), counts(3, 4, 2, 4, 4)
    costs = counted(net, x)
    assert [layer.input_kind for layer in costs.layers] == ["counts", "real" if pooled else "binary", "binary"]
    seen = watch(net, x, weights_of(net))
    stem, body, scores = (seen[name] for name in ("stem.conv", "body.conv", "scores"))
    silent = {"stem.conv": stem, "scores": Seen(**{**vars(scores), "rate": 0.0, "events": 0.0})}
    silent["body.conv"] = body if pooled else Seen(**{**vars(body), "rate": 0.0, "events": 0.0})
    resting = at_rates(costs, 0.0)
    assert (resting.layers[0], resting.firing_rate) == (costs.layers[0], 0.0)
    assert resting.layers[1].input_rate == resting.layers[2].synaptic_operations == 0.0
    units = [48, 16 if pooled else 64]
    own = {
        "45nm": (equation_17(seen), equation_17(silent)),
        "memory": (
            memory_by_loops(seen, "stem.conv", units, costs.spikes_per_sample, steps=3),
            memory_by_loops(silent, "stem.conv", units, 0.0, steps=3),
        ),
    }
    narrow = FLAT.ac + (FLAT.mac - FLAT.ac) * 2 / 32
    rivals = {
        "45nm": FLAT.mac * stem.padded + narrow * (body.padded + scores.padded),
        "memory": rival_by_loops(seen, "stem.conv", bits=2),
    }
    for model, found in break_even(costs, FLAT).items():
        whole, rest = own[model]
        assert energy_models(costs, FLAT)[model]["picojoules"] == pytest.approx(whole)
        assert sum(MODELS[model].parts(resting, FLAT).values()) == pytest.approx(rest)
        assert found["quantised_picojoules"] == pytest.approx(rivals[model])
        expected = (rivals[model] - rest) / (whole - rest)
        assert found["scale"] == (pytest.approx(expected) if expected > 0 else None)


# --- the twin with all synapses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prices", [FLAT, Prices()])
def test_the_dense_twin_is_the_dense_network_when_only_synapses_of_dead_units_are_missing(prices: Prices) -> None:
    """Half of the stem's channels never fire: pruning what reads them changes no spike, and the twin has it back."""
    b = SpecBuilder("pruned", (2, 4, 4), 2)
    x = b.conv_norm_neuron("body.", b.conv_norm_neuron("stem.", INPUT, 4, role="stem"), 3)
    b.node("scores", "linear", b.node("flat", "flatten", x), features=2, role="classifier")
    net, x = randomise(build(b.finish(), steps=3)), images(3, 2, 4, 4)
    with torch.no_grad():
        net.get_parameter("stem.norm.bias")[:2] = -99.0
    whole = counted(net, x)
    with torch.no_grad():
        net.get_parameter("body.conv.weight")[:, :2] = 0.0
    pruned = counted(net, x)
    assert pruned.neurons == whole.neurons
    assert pruned.layers[1].density == 0.5
    assert pruned.layers[1].synaptic_operations == whole.layers[1].synaptic_operations > 0
    for model, priced in energy_models(pruned, prices).items():
        dense = energy_models(whole, prices)[model]
        assert priced["dense_picojoules"] == dense["picojoules"] == dense["dense_picojoules"]
        assert priced["picojoules"] <= dense["picojoules"]
