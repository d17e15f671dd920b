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
    from an on-chip memory, by the memory's bytes; half of the figure for 64 bits. flop: a GPU's (V100, 14 TFLOP/s at
    250 W). sop: a synaptic event of TrueNorth. word: bytes of a weight and of a potential.
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

    The quantised network has the same layers and synapses, runs once, and hands on activations of ceil(log2(T + 1))
    bits, as many as T binary steps can count. firing_rate: the mean rate at which both cost the same when all rates
    are scaled alike; None when the quantised one is cheaper even than silence, or the network is silent. scale: that
    rate in units of the network's own.
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
        more = layer.weights / layer.present if layer.present else 0.0
        events = layer.input_rate * layer.passes * layer.dense_macs
        return replace(
            layer,
            present=layer.weights,
            effective=layer.effective * more,
            synaptic_operations=layer.synaptic_operations * more if layer.present else events,
            encoding=None,
        )

    return replace(costs, layers=tuple(map(fill, costs.layers)))


def at_rates(costs: Costs, scale: float) -> Costs:
    """The counts of the same network if every layer of neurons fired `scale` times as often."""

    def quieten(layer: LayerCost) -> LayerCost:
        if layer.input_kind == "real":
            return layer
        encoding = layer.encoding and replace(layer.encoding, first_stage=layer.encoding.first_stage * scale)
        return replace(
            layer,
            input_rate=layer.input_rate * scale,
            input_activity=layer.input_activity * scale,
            effective=layer.effective * scale,
            synaptic_operations=layer.synaptic_operations * scale,
            encoding=encoding,
        )

    def quieten_neurons(neurons: NeuronCost) -> NeuronCost:
        return replace(neurons, spikes_by_step=tuple(scale * spikes for spikes in neurons.spikes_by_step))

    return replace(costs, layers=tuple(map(quieten, costs.layers)), neurons=tuple(map(quieten_neurons, costs.neurons)))


def _weights_formed(costs: Costs, prices: Prices) -> Parts:
    """Equation 17 of GEE with every weight formed beforehand."""
    return _equation_17(costs.layers, prices)


def _weights_generated(costs: Costs, prices: Prices) -> Parts:
    """The same as the layers run: weights formed for every sample, or contracted in two stages."""
    staged = [layer for layer in costs.layers if layer.encoding is not None and layer.encoding.order == "two_stage"]
    plain = [layer for layer in costs.layers if layer not in staged]
    parts = dict(_equation_17(plain, prices))
    for layer in staged:
        assert layer.encoding is not None
        real = layer.input_kind == "real"
        parts["real inputs" if real else "spikes"] += layer.encoding.first_stage * (prices.mac if real else prices.ac)
    works = [layer.encoding for layer in costs.layers if layer.encoding is not None]
    parts["second stage"] = prices.mac * sum(work.second_stage for work in works)
    parts["forming weights"] = prices.mac * sum(work.forming for work in works)
    return parts


def _equation_17(layers: Iterable[LayerCost], prices: Prices) -> dict[str, float]:
    spikes = real = 0.0
    for layer in layers:
        if layer.input_kind == "real":
            real += prices.mac * layer.passes * layer.present_macs
        else:
            spikes += prices.ac * layer.passes * layer.input_rate * layer.present_macs
    return {"spikes": spikes, "real inputs": real}


def _chip(costs: Costs, prices: Prices) -> Parts:
    """ESL's: floating-point work on a GPU, synaptic events on a neuromorphic chip."""
    real = [layer for layer in costs.layers if layer.input_kind == "real"]
    events = sum(layer.synaptic_operations for layer in costs.layers if layer.input_kind != "real")
    flops = 2 * sum(layer.passes * layer.present_macs for layer in real)
    return {"spikes": prices.sop * events, "real inputs": prices.flop * flops}


def _with_memory(costs: Costs, prices: Prices) -> Parts:
    """Arithmetic at 45 nm, and every word that is moved for it."""
    arithmetic = weights = potentials = 0.0
    for layer in costs.layers:
        from_weights, from_potentials = _accesses(layer, prices)
        if layer.input_kind == "real":
            macs = layer.passes * layer.present_macs
            arithmetic += prices.mac * macs
            weights += from_weights * macs
            potentials += 2 * from_potentials * layer.passes * layer.outputs
        else:
            events = layer.synaptic_operations
            arithmetic += prices.ac * events
            weights += from_weights * events
            potentials += 2 * from_potentials * events
    updates = prices.mac * costs.membrane_updates
    moved = sum(2 * prices.access(n.units * prices.word) * n.units * costs.steps for n in costs.neurons)
    spikes = 2 * prices.access(0) * costs.spikes_per_sample
    return {
        "arithmetic": arithmetic + updates,
        "weights": weights,
        "potentials": potentials + moved,
        "spikes": spikes,
    }


def _accesses(layer: LayerCost, prices: Prices) -> tuple[float, float]:
    """One access to the layer's weights and one to the potentials of the units it feeds."""
    return prices.access(layer.present * prices.word), prices.access(layer.outputs * prices.word)


def _quantised_arithmetic(costs: Costs, prices: Prices, bits: int) -> float:
    """One run; the multiplier of a layer that read spikes is as wide as the activations that replace them."""
    narrow = prices.ac + (prices.mac - prices.ac) * bits / 32
    return sum((prices.mac if layer.input_kind == "real" else narrow) * layer.present_macs for layer in costs.layers)


def _quantised_with_memory(costs: Costs, prices: Prices, bits: int) -> float:
    """One run; a weight and an activation are read for every multiplication, every output is written and read once."""
    moved = 0.0
    for layer in costs.layers:
        from_weights, from_outputs = _accesses(layer, prices)
        activation = from_outputs if layer.input_kind == "real" else from_outputs * bits / 32
        moved += (from_weights + activation) * layer.present_macs + 2 * activation * layer.outputs
    return _quantised_arithmetic(costs, prices, bits) + moved


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "45nm": Model(
            _weights_formed,
            "4.6 pJ per multiply-accumulate where a layer reads real values, once if they are the same at every step; "
            "0.9 pJ per accumulate where it reads spikes, steps x rate x present connections; weights formed before; "
            "memory, neurons and leakage not counted",
            "GEE, arXiv 2411.06792, equation 17 (reconstructed); Horowitz, ISSCC 2014",
        ),
        "45nm_with_encoding": Model(
            _weights_generated,
            "as 45nm, with what generating the weights adds for each sample: forming them once, or two stages whose "
            "second multiplies real values at every step",
            "GEE, arXiv 2411.06792, equation 17 (reconstructed); Horowitz, ISSCC 2014",
        ),
        "chip": Model(
            _chip,
            "26 pJ per synaptic operation (TrueNorth), 17.9 pJ per floating-point operation where a layer reads real "
            "values (V100, two per multiply-accumulate); use its ratios",
            "ESL-SNNs, arXiv 2306.03693; constants reconstructed from vendor figures",
        ),
        "memory": Model(
            _with_memory,
            "45 nm arithmetic, a membrane update as one multiply-accumulate, and 32-bit words from on-chip memories of "
            "the layer's size: a weight and a potential read and written per synaptic operation, every potential once "
            "per step, every spike queued once; no reuse in registers, no network on chip, no DRAM",
            "Horowitz, ISSCC 2014 (5, 10, 50 pJ per 32 bits at 8 KiB, 32 KiB, 1 MiB)",
        ),
    }
)

_QUANTISED: Mapping[str, Callable[[Costs, Prices, int], float]] = MappingProxyType(
    {"45nm": _quantised_arithmetic, "memory": _quantised_with_memory}
)

_QUANTISED_ASSUMPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "45nm": "the quantised network runs once with the same synapses; a multiply-accumulate costs an accumulate and "
        "its multiplier in proportion to the bits of the activation",
        "memory": "the same, and a weight and an activation are read for every multiplication, outputs written and "
        "read once; no reuse in registers and no zeros skipped",
    }
)
