"""Energy of a network from its specification and firing rates alone, before anything is counted (methods 1.8).

    E = E_MAC * (multiply-accumulates) + E_AC * (accumulates)

A layer that reads spikes accumulates: per step, its input's firing rate times its dense multiply-accumulates. A layer
that reads real values multiplies: once where its input is the same at every step, else at every step. What a trained
network costs is counted by `measure.cost` and priced by `measure.energy`; a search prices thousands of candidates so.
"""

from __future__ import annotations

from collections.abc import Mapping

from evospike.measure.energy import PICOJOULES_PER_AC, PICOJOULES_PER_MAC
from evospike.models.counts import count_layers
from evospike.models.spec import INPUT, NetworkSpec

_KEEPS_SPIKES = ("crop", "concat", "maxpool", "flatten", "upsample", "global_pool")
"""Operations that give spikes when they read spikes; a global pool is taken into the weights of the classifier."""


def energy_45nm(spec: NetworkSpec, rates: Mapping[str, float], steps: int) -> float:
    """Picojoules of one sample over `steps` steps, every weight stored.

    rates: firing rate of every neuron layer by name, in spikes per unit and step (`SpikeCount.layer_rates`).
    Source: methods 1.8 (GEE eq. 17, reconstructed).
    """
    arriving = _rates_of_outputs(spec, rates)
    moving = _moving(spec)
    total = 0.0
    for layer in count_layers(spec):
        if layer.macs:
            source = spec[layer.name].inputs[0].source
            rate = arriving[source]
            if rate is None:
                total += PICOJOULES_PER_MAC * layer.macs * (steps if source in moving else 1)
            else:
                total += PICOJOULES_PER_AC * layer.macs * steps * rate
    return total


def _rates_of_outputs(spec: NetworkSpec, rates: Mapping[str, float]) -> dict[str, float | None]:
    """Rate of what every node gives, None where it is real-valued."""
    units = {layer.name: layer.outputs for layer in count_layers(spec)}
    found: dict[str, float | None] = {INPUT: None}
    for node in spec.nodes:
        sources = [edge.source for edge in node.inputs]
        own = [found.get(source) for source in sources]
        if node.op == "neuron":
            found[node.name] = rates[node.name]
        elif node.op in _KEEPS_SPIKES and all(rate is not None for rate in own):
            weights = [units[source] for source in sources]
            mixed = sum(rate * weight for rate, weight in zip(own, weights, strict=True) if rate is not None)
            found[node.name] = mixed / sum(weights)
        else:
            found[node.name] = None
    return found


def _moving(spec: NetworkSpec) -> set[str]:
    """Nodes whose output differs from step to step: event input, everything after a neuron, delayed edges."""
    moving = {INPUT} if spec.events else set()
    for node in spec.nodes:
        if node.op == "neuron" or any(edge.delay or edge.source in moving for edge in node.inputs):
            moving.add(node.name)
    return moving
