"""Decoded networks at work: they run, learn, and feed back when they should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evospike.layers.spiking import TimeBatchNorm2d
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import NetworkSpec
from evospike.search.decode import decode
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import REDUCTION, choose_motif, shipped
from evospike.search.settings import Feedback, MotifSet
from evospike.search.space import Space, Vector

MOTIFS = ("empty", "FE", "FI", "FBI", "LI", "MI")


def cell(motif: str, reach: int, motif_set: MotifSet) -> Cell:
    slots = choose_motif(motif, reach, shipped(motif_set)).slots(reach)
    return Cell(motif, tuple(Link(("conv3", "conv5")[i % 2]) for i in range(len(slots))))  # type: ignore[arg-type]


def genome(motif: str, reach: int, motif_set: MotifSet, feedback: Feedback) -> Genome:
    cells = (cell(motif, reach, motif_set), Cell(REDUCTION), cell("FE", reach, motif_set))
    return Genome(cells, reach, 2, motif_set, feedback)


@pytest.mark.parametrize("feedback", ["same_step", "delayed"])
@pytest.mark.parametrize("motif_set", ["canonical", "as_coded"])
@pytest.mark.parametrize("reach", [2, 3, 4])
@pytest.mark.parametrize("motif", MOTIFS)
def test_every_motif_runs_and_learns(motif: str, reach: int, motif_set: MotifSet, feedback: Feedback) -> None:
    torch.manual_seed(0)
    network = build(decode(genome(motif, reach, motif_set, feedback), (1, 8, 8), 3), steps=2)
    scores = network(torch.randn(4, 1, 8, 8))
    assert scores.shape == (2, 4, 3)
    scores.square().sum().backward()
    if motif == "empty":
        return  # what only feeds zeros learns nothing
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert network.get_parameter("stem.conv.weight").grad.abs().sum() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(("shape", "events"), [((3, 32, 32), False), ((2, 16, 16), True)])
def test_random_networks_run_on_images_and_events(
    shape: tuple[int, int, int],
    events: bool,
    wide: Callable[..., Space],
    draw: Callable[[Space, np.random.Generator], Vector],
) -> None:
    rng = np.random.default_rng(5)
    space = wide(motifs=("FE", "FI", "FBI", "LI", "MI"), feedback="delayed")
    for _ in range(4):
        spec = decode(space.genome(draw(space, rng)), shape, 4, events=events)
        assert spec["stem.conv"].inputs[0].source == "input"
        network = build(spec, steps=2)
        scores = network(torch.randn(2, 2, *shape) if events else torch.randn(2, *shape))
        assert scores.shape == (2, 2, 4)
        scores.sum().backward()
        assert torch.isfinite(scores).all()


def lively(spec: NetworkSpec, steps: int) -> Network:
    """A network in evaluation mode whose norms are set so that its neurons fire."""
    torch.manual_seed(1)
    network = build(spec, steps=steps).eval()
    for module in network.modules():
        if isinstance(module, TimeBatchNorm2d):
            torch.nn.init.constant_(module.weight, 6.0)
    return network


def without_delays(spec: NetworkSpec) -> NetworkSpec:
    nodes = [replace(n, inputs=tuple(edge for edge in n.inputs if not edge.delay)) for n in spec.nodes]
    needed = {edge.source for node in nodes for edge in node.inputs} | {spec.output}
    while len(nodes) > len(kept := [node for node in nodes if node.name in needed]):
        nodes = kept
        needed = {edge.source for node in nodes for edge in node.inputs} | {spec.output}
    return replace(spec, nodes=tuple(nodes))


def like(network: Network, spec: NetworkSpec) -> Network:
    """A network of another specification with the same weights, where it has them."""
    other = build(spec, steps=network.steps).eval()
    found = other.load_state_dict(network.state_dict(), strict=False)
    assert not found.missing_keys
    return other


def delayed_networks() -> list[Any]:
    modules = replace(
        genome("FE", 2, "canonical", "same_step"), module_cells=1, adjacency=((1, 0, 1), (0, 1, 0), (1, 1, 0))
    )
    return [
        pytest.param(genome("FBI", 2, "canonical", "delayed"), id="FBI"),
        pytest.param(genome("MI", 3, "canonical", "delayed"), id="MI"),
        pytest.param(genome("FBI", 2, "as_coded", "delayed"), id="identity"),
        pytest.param(modules, id="modules"),
    ]


@pytest.mark.parametrize("given", delayed_networks())
def test_what_is_delayed_arrives_one_step_later(given: Genome) -> None:
    """The first step is that of the network without the delayed edges; a later one is not."""
    spec = decode(given, (2, 8, 8), 3, events=True)
    network = lively(spec, 4)
    x = torch.randn(4, 3, 2, 8, 8)
    scores, plain = network(x), like(network, without_delays(spec))(x)
    torch.testing.assert_close(scores[0], plain[0], rtol=1e-5, atol=1e-6)
    assert (scores[1:] - plain[1:]).abs().max() > 1e-3


@pytest.mark.parametrize("given", delayed_networks())
@pytest.mark.parametrize("changed", [1, 3])
def test_no_step_sees_a_later_one(given: Genome, changed: int) -> None:
    network = lively(decode(given, (2, 8, 8), 3, events=True), 4).train()
    x = torch.randn(4, 3, 2, 8, 8)
    other = x.clone()
    other[changed] += torch.randn(3, 2, 8, 8)
    before: Tensor = network(x)
    after = network(other)
    assert torch.equal(before[:changed], after[:changed])
    assert not torch.equal(before[changed], after[changed])


@pytest.mark.parametrize("motif", ["FBI", "MI"])
def test_same_step_feedback_is_not_stepped_and_acts_at_once(motif: str) -> None:
    spec = decode(genome(motif, 2, "canonical", "same_step"), (2, 8, 8), 3, events=True)
    assert not spec.has_delays
    network = lively(spec, 1)
    plain = tuple(
        replace(node, inputs=node.inputs[:1]) if "_fed" in node.name and node.op == "add" else node
        for node in spec.nodes
    )
    x = torch.randn(1, 3, 2, 8, 8)
    unfed = like(network, replace(spec, nodes=plain))
    assert (network(x) - unfed(x)).abs().max() > 1e-3
