"""Energy of a network from its specification and firing rates alone, before anything is counted (methods 1.8).

    E = E_MAC * (multiply-accumulates) + E_AC * (accumulates)

A layer that reads spikes, or sums of them, accumulates: per step, its input's mean times its dense
multiply-accumulates. A layer that reads real values multiplies: once where its input is the same at every step, else at
every step. What a trained network costs is counted by `measure.cost` and priced by `measure.energy`; a search prices
thousands of candidates so. What only a count can tell, this formula does not see: images and event frames are real
values to it, and so is what a later node other than neurons hands back; spikes have the same rate after a crop, a
maximum or a delay as before; a global pool is taken into the weights of the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping

from evospike.measure.energy import PICOJOULES_PER_AC, PICOJOULES_PER_MAC
from evospike.measure.sources import moving_nodes
from evospike.models.counts import count_layers
from evospike.models.spec import INPUT, Edge, NetworkSpec

_KEEPS_RATE = ("crop", "concat", "maxpool", "flatten", "upsample", "global_pool")
"""Operations whose output has the mean of their inputs; of spikes they give spikes."""


def energy_45nm(spec: NetworkSpec, rates: Mapping[str, float], steps: int) -> float:
    """Picojoules of one sample over `steps` steps, every weight stored.

    rates: firing rate of every neuron layer by name, in spikes per unit and step (`SpikeCount.layer_rates`).
    Source: methods 1.8 (GEE eq. 17, reconstructed).
    """
    given = _rates_of_outputs(spec, rates, steps)
    moving = moving_nodes(spec)
    total = 0.0
    for layer in count_layers(spec):
        if layer.macs:
            rate = _arriving(spec[layer.name].inputs[0], given, steps)
            if rate is None:
                total += PICOJOULES_PER_MAC * layer.macs * (steps if layer.name in moving else 1)
            else:
                total += PICOJOULES_PER_AC * layer.macs * steps * rate
    return total


def _rates_of_outputs(spec: NetworkSpec, rates: Mapping[str, float], steps: int) -> dict[str, float | None]:
    """Mean of what every node gives per step, None where it is real-valued."""
    units = {layer.name: layer.outputs for layer in count_layers(spec)}
    found: dict[str, float | None] = {node.name: rates[node.name] for node in spec.nodes if node.op == "neuron"}
    found[INPUT] = None
    for node in spec.nodes:
        if node.op == "neuron":
            continue
        own = [_arriving(edge, found, steps) for edge in node.inputs]
        known = [rate for rate in own if rate is not None]
        if len(known) < len(own) or node.op not in (*_KEEPS_RATE, "add"):
            found[node.name] = None
        elif node.op == "add":
            found[node.name] = sum(known)
        else:
            weights = [units[edge.source] for edge in node.inputs]
            found[node.name] = sum(rate * weight for rate, weight in zip(known, weights, strict=True)) / sum(weights)
    return found


def _arriving(edge: Edge, given: Mapping[str, float | None], steps: int) -> float | None:
    """Mean per step of what an edge carries, nothing before its delay is over; None where it is real-valued."""
    rate = given.get(edge.source)
    return None if rate is None else rate * (max(steps - edge.delay, 0) / steps)
