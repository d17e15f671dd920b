"""What counted operations would cost, under models that are named and whose assumptions are written beside them.

No joule here was measured: every model multiplies counts of `measure.cost` by constants from the literature, so it
compares networks under one assumption. The same network with all its synapses, stored weights and the same rates is
priced beside it, because ratios outlast constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from evospike.measure.cost import Costs, LayerCost, NeuronCost

PICOJOULES_PER_MAC = 4.6
PICOJOULES_PER_AC = 0.9


@dataclass(frozen=True)
class Prices:
    """Picojoules of single operations.

    mac, ac: a 32-bit floating-point multiply-accumulate and accumulate at 45 nm, 0.9 V. sram: one 32-bit word to or
    from an on-chip memory, by the memory's bytes; half of what the source gives for 64 bits. flop: a GPU's (V100,
    14 TFLOP/s at 250 W). sop: a synaptic event of TrueNorth. word: bytes of a weight, a potential, a value read.
    Sources: Horowitz, ISSCC 2014 (mac, ac, sram); vendor figures, reconstructed (flop, sop; methods 1.8).
    """

    mac: float = PICOJOULES_PER_MAC
    ac: float = PICOJOULES_PER_AC
    flop: float = 17.9
    sop: float = 26.0
    word: int = 4
    sram: tuple[tuple[int, float], ...] = ((8 << 10, 5.0), (32 << 10, 10.0), (1 << 20, 50.0))

    def access(self, memory_bytes: float) -> float:
        """One word to or from a memory of that size: linear between the known sizes, constant outside them."""
        sizes = self.sram
        if memory_bytes <= sizes[0][0]:
            return sizes[0][1]
        for (small, low), (large, high) in pairwise(sizes):
            if memory_bytes <= large:
                return low + (high - low) * (memory_bytes - small) / (large - small)
        return sizes[-1][1]


Parts = Mapping[str, float]
"""Picojoules of one sample, by what they are spent on."""


@dataclass(frozen=True)
class Model:
    """A way to price counts. assumptions, source: what a reader has to know beside the number."""

    parts: Callable[[Costs, Prices], Parts]
    assumptions: str
    source: str


def energy_models(costs: Costs, prices: Prices | None = None) -> dict[str, dict[str, Any]]:
    """Picojoules of one sample under every model: of the network, by part, and of its dense twin at the same rates.

    `45nm_with_encoding` is there when a layer generates its weights.
    """
    prices = prices or Prices()
    twin = with_all_synapses(costs)
    return {
        name: {
            "picojoules": sum(parts.values()),
            "dense_picojoules": sum(model.parts(twin, prices).values()),
            "parts": dict(parts),
            "assumptions": model.assumptions,
            "source": model.source,
        }
        for name, model in MODELS.items()
        if (parts := model.parts(costs, prices)) and (name != "45nm_with_encoding" or generates(costs))
    }


def break_even(costs: Costs, prices: Prices | None = None) -> dict[str, dict[str, Any]]:
    """How much the network may fire before a quantised network that does the same work is cheaper.

    The quantised network has the same layers and synapses, reads the same input, runs once, and hands on activations
    of ceil(log2(T + 1)) bits, as many as T binary steps can count. firing_rate: the mean rate at which both cost the
    same when all neurons' rates are scaled alike; None when the quantised one is cheaper even than silence, or the
    network is silent; above 1, which no rate can be, when the network is always the cheaper one. scale: that rate in
    units of the network's own.
    Source: equivalence of Yan et al., arXiv 2409.08290; methods 1.8 for the prices.
    """
    prices = prices or Prices()
    bits = math.ceil(math.log2(costs.steps + 1))
    found = {}
    for name, quantised in _QUANTISED.items():
        rival = quantised(costs, prices, bits)
        price = MODELS[name].parts
        silent = sum(price(at_rates(costs, 0.0), prices).values())
        spiking = sum(price(costs, prices).values()) - silent
        scale = (rival - silent) / spiking if spiking > 0 and rival > silent else None
        found[name] = {
            "firing_rate": None if scale is None else scale * costs.firing_rate,
            "scale": scale,
            "quantised_picojoules": rival,
            "bits": bits,
            "assumptions": _QUANTISED_ASSUMPTIONS[name],
        }
    return found


def generates(costs: Costs) -> bool:
    """Whether any layer's weights are generated."""
    return any(layer.encoding is not None for layer in costs.layers)


def with_all_synapses(costs: Costs) -> Costs:
    """The counts of the same network with every synapse present and stored, firing as it does."""

    def fill(layer: LayerCost) -> LayerCost:
        return replace(
            layer,
            present=layer.weights,
            unpadded_macs=layer.dense_unpadded_macs,
            effective=layer.dense_effective,
            synaptic_operations=layer.dense_synaptic_operations,
            encoding=None,
        )

    return replace(costs, layers=tuple(map(fill, costs.layers)))


def at_rates(costs: Costs, scale: float) -> Costs:
    """The counts of the same network if every layer of neurons fired `scale` times as often; its input stays."""

    def quieten(layer: LayerCost) -> LayerCost:
        if layer.reads != "neurons":
            return layer
        encoding = layer.encoding and replace(layer.encoding, first_stage=layer.encoding.first_stage * scale)
        return replace(
            layer,
            input_rate=layer.input_rate * scale,
            input_activity=layer.input_activity * scale,
            effective=layer.effective * scale,
            synaptic_operations=layer.synaptic_operations * scale,
            dense_effective=layer.dense_effective * scale,
            dense_synaptic_operations=layer.dense_synaptic_operations * scale,
            encoding=encoding,
        )

    def quieten_neurons(neurons: NeuronCost) -> NeuronCost:
        return replace(neurons, spikes_by_step=tuple(scale * spikes for spikes in neurons.spikes_by_step))

    return replace(costs, layers=tuple(map(quieten, costs.layers)), neurons=tuple(map(quieten_neurons, costs.neurons)))


def _weights_formed(costs: Costs, prices: Prices) -> Parts:
    """Equation 17 of GEE with every weight formed beforehand."""
    return _equation_17([(layer, layer.present_macs) for layer in costs.layers], prices)


def _weights_generated(costs: Costs, prices: Prices) -> Parts:
    """The same with weights formed for every sample, or contracted in two stages, of which the first reads the input
    in the layer's place."""
    works = [layer.encoding for layer in costs.layers if layer.encoding is not None]
    return {
        **_equation_17([(layer, _macs_at_input(layer)) for layer in costs.layers], prices),
        "second stage": prices.mac * sum(work.second_stage for work in works),
        "forming weights": prices.mac * sum(work.forming for work in works),
    }


def _macs_at_input(layer: LayerCost) -> float:
    """Multiply-accumulates of one pass of what the input of a layer meets: its weight, or the first of two stages."""
    if layer.encoding is not None and layer.encoding.order == "two_stage":
        return layer.encoding.first_stage_macs
    return layer.present_macs


def _equation_17(layers: Iterable[tuple[LayerCost, float]], prices: Prices) -> dict[str, float]:
    """Of layers with the multiply-accumulates of one of their passes."""
    spikes = real = 0.0
    for layer, macs in layers:
        if layer.input_kind == "real":
            real += prices.mac * layer.passes * macs
        else:
            spikes += prices.ac * layer.passes * layer.input_rate * macs
    return {"spikes": spikes, "real inputs": real}


def _chip(costs: Costs, prices: Prices) -> Parts:
    """ESL's: floating-point work on a GPU, synaptic events on a neuromorphic chip."""
    real = [layer for layer in costs.layers if layer.input_kind == "real"]
    events = sum(layer.synaptic_operations for layer in costs.layers if layer.input_kind != "real")
    flops = 2 * sum(layer.passes * layer.present_macs for layer in real)
    return {"spikes": prices.sop * events, "real inputs": prices.flop * flops}


def _with_memory(costs: Costs, prices: Prices) -> Parts:
    """Arithmetic at 45 nm, and every word that is moved for it."""
    traffic = [_of_neurons(costs, prices), *(_of_layer(layer, prices) for layer in costs.layers)]
    names = ("arithmetic", "weights", "inputs", "potentials", "spikes")
    return {name: sum(own.get(name, 0.0) for own in traffic) for name in names}


def _of_neurons(costs: Costs, prices: Prices) -> Parts:
    """Every potential read, updated and written at every step, every spike written to a queue and read once."""
    return {
        "arithmetic": prices.mac * costs.membrane_updates,
        "potentials": sum(2 * _access(layer.units, prices) * layer.units * costs.steps for layer in costs.neurons),
        "spikes": 2 * prices.access(0) * costs.spikes_per_sample,
    }


def _of_layer(layer: LayerCost, prices: Prices) -> Parts:
    """Of real values every product; else every event, and those that come from outside are queued like spikes."""
    weight, potential = _access(layer.present, prices), _access(layer.outputs, prices)
    if layer.input_kind == "real":
        macs = layer.passes * layer.unpadded_macs
        return {
            "arithmetic": prices.mac * macs,
            "weights": weight * macs,
            "inputs": _access(layer.inputs, prices) * macs,
            "potentials": 2 * potential * layer.passes * layer.outputs,
        }
    events = layer.synaptic_operations
    from_outside = layer.passes * layer.inputs * layer.input_rate if layer.reads == "input" else 0.0
    return {
        "arithmetic": prices.ac * events,
        "weights": weight * events,
        "potentials": 2 * potential * events,
        "spikes": 2 * prices.access(0) * from_outside,
    }


def _access(numbers: int, prices: Prices) -> float:
    """One word to or from a memory that holds so many."""
    return prices.access(numbers * prices.word)


def _quantised_arithmetic(costs: Costs, prices: Prices, bits: int) -> float:
    """One run, padding counted as equation 17 does."""
    return sum(_quantised_mac(layer, prices, bits) * layer.present_macs for layer in costs.layers)


def _quantised_with_memory(costs: Costs, prices: Prices, bits: int) -> float:
    """One run; a weight and an activation are read for every product, every output is written and read once."""
    total = 0.0
    for layer in costs.layers:
        activation = _access(layer.inputs, prices) * _bits_read(layer, bits) / 32
        product = _quantised_mac(layer, prices, bits) + _access(layer.present, prices) + activation
        total += product * layer.unpadded_macs + 2 * _access(layer.outputs, prices) * layer.outputs * bits / 32
    return total


def _quantised_mac(layer: LayerCost, prices: Prices, bits: int) -> float:
    """A multiply-accumulate whose multiplier is as wide as the activation it reads."""
    return prices.ac + (prices.mac - prices.ac) * _bits_read(layer, bits) / 32


def _bits_read(layer: LayerCost, bits: int) -> int:
    """Of an activation that a layer of the quantised network reads: the network's input is not quantised."""
    return 32 if layer.reads == "input" else bits


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "45nm": Model(
            _weights_formed,
            "4.6 pJ per multiply-accumulate where a layer reads real values, once if they are the same at every step; "
            "0.9 pJ per accumulate where it reads spikes or whole numbers: passes x mean input x present connections, "
            "so a 2 is two accumulates; padding included; weights formed before; memory, neurons and leakage not "
            "counted",
            "GEE, arXiv 2411.06792, equation 17 (reconstructed); Horowitz, ISSCC 2014",
        ),
        "45nm_with_encoding": Model(
            _weights_generated,
            "as 45nm, with what generating the weights adds for each sample: forming them once; or two stages, of "
            "which the first, as wide as there are genes, takes the layer's place and price, and the second multiplies "
            "real values in every pass",
            "GEE, arXiv 2411.06792, equation 17 (reconstructed); Horowitz, ISSCC 2014",
        ),
        "chip": Model(
            _chip,
            "26 pJ per synaptic operation (TrueNorth) where a layer reads spikes or whole numbers, a 2 being two of "
            "them; 17.9 pJ per floating-point operation where it reads real values (V100, two per multiply-accumulate, "
            "padding included); weights formed before; use its ratios",
            "ESL-SNNs, arXiv 2306.03693; constants reconstructed from vendor figures",
        ),
        "memory": Model(
            _with_memory,
            "45 nm arithmetic, a membrane update as one multiply-accumulate, and 32-bit words from on-chip memories of "
            "the layer's size; per synaptic operation (of whole numbers a 2 is two) a weight, and a potential read and "
            "written; per multiplication of real values a weight and the value, and the sums read and written once a "
            "pass; every potential read and written once per step; every spike, and every event of the input, queued "
            "once; padding left out; weights formed before; no reuse in registers, no network on chip, no DRAM",
            "Horowitz, ISSCC 2014 (half of 10, 20, 100 pJ per 64 bits at 8 KiB, 32 KiB, 1 MiB)",
        ),
    }
)

_QUANTISED: Mapping[str, Callable[[Costs, Prices, int], float]] = MappingProxyType(
    {"45nm": _quantised_arithmetic, "memory": _quantised_with_memory}
)

_QUANTISED_ASSUMPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "45nm": "the quantised network runs once with the same synapses; a multiply-accumulate costs an accumulate and "
        "its multiplier in proportion to the bits of the activation, 32 for the network's input; padding included",
        "memory": "the same, padding left out; a weight and an activation are read for every multiplication, outputs "
        "written and read once, activations in proportion to their bits; no reuse in registers and no zeros skipped",
    }
)
