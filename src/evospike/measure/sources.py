"""What the nodes of a network read, told from its graph: whether it differs from step to step, and where it is from."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

from evospike.models.spec import INPUT, NetworkSpec

Origin = Literal["input", "currents", "neurons"]


def moving_nodes(spec: NetworkSpec) -> set[str]:
    """Nodes whose output differs from step to step, `INPUT` among them: event frames, and whatever follows neurons or
    reads a delayed edge. All others need to be computed once for a sample."""
    moving = {INPUT} if spec.events else set()
    for node in spec.nodes:
        if node.op == "neuron" or any(edge.delay or edge.source in moving for edge in node.inputs):
            moving.add(node.name)
    return moving


def origins(spec: NetworkSpec) -> dict[str, Origin]:
    """Where what every node reads comes from, by the node's name.

    `neurons`: it depends on spikes, of this step or an earlier one. `currents`: it depends on weights, but on no
    neuron. `input`: it is the network's input, at most pooled, cropped or joined.
    """
    after_neurons, after_weights = _depending_on(spec, "neuron"), _depending_on(spec, "conv", "linear")
    found: dict[str, Origin] = {}
    for node in spec.nodes:
        sources = {edge.source for edge in node.inputs}
        if sources & after_neurons:
            found[node.name] = "neurons"
        else:
            found[node.name] = "currents" if sources & after_weights else "input"
    return found


def _depending_on(spec: NetworkSpec, *ops: str) -> set[str]:
    """Nodes of these operations, and all that read them, directly or through others."""
    readers = defaultdict(set)
    for node in spec.nodes:
        for edge in node.inputs:
            readers[edge.source].add(node.name)
    found = {node.name for node in spec.nodes if node.op in ops}
    ahead = list(found)
    while ahead:
        more = readers[ahead.pop()] - found
        found |= more
        ahead += more
    return found
