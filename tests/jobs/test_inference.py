"""Genetic, sparse, searched and event networks for inference: the same spikes and scores in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import evospike
from evospike.core.errors import SpecError
from evospike.genetic.encode import encode
from evospike.genetic.encoding import GeneticLayer
from evospike.jobs.inference import for_inference
from evospike.layers.spiking import TimeBatchNorm2d
from evospike.measure.cost import count_costs
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.presets import PRESETS, small8
from evospike.models.spec import NetworkSpec
from evospike.search.decode import decode
from evospike.search.settings import SpaceSettings
from evospike.search.space import Space
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings

SPACE: dict[str, Any] = {
    "cells": 6,
    "fewest_cells": 4,
    "widths": (2, 4),
    "operations": ("conv3", "conv5", "sep3", "sep5", "dil3", "dil5", "avgpool3", "maxpool3", "skip"),
    "motifs": ("FE", "FI", "FBI", "LI", "MI"),
    "signs": "free",
    "inputs": (2, 3, 4),
    "reductions": "searched",
    "neurons": ("lif:0.5:1.0", "plif:0.5:1.0", "if:0.7:0.5"),
}
"""Nearly everything is a gene: separable convolutions, signs, sums, delays where feedback says so."""


def sample(spec: NetworkSpec, steps: int, *, seed: int = 9) -> Tensor:
    shape = (*((steps,) if spec.events else ()), 3, *spec.input_shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lively(network: Network) -> Network:
    """In double precision and eval mode, with gains and statistics under which neurons fire."""
    network.double()
    for norm in network.modules():
        if isinstance(norm, TimeBatchNorm2d):
            nn.init.constant_(norm.weight, 2.5)
            norm.momentum = 0.7
    with torch.no_grad():
        network(sample(network.spec, network.steps, seed=1))
    return network.eval()


def spikes_of(network: Network, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores, and the spikes of all steps by layer of neurons."""
    seen: dict[str, list[Tensor]] = {}
    network.observer = lambda name, spikes, last: seen.setdefault(name, []).append(spikes)
    try:
        with torch.no_grad():
            return network(x), {name: torch.cat(parts) for name, parts in seen.items()}
    finally:
        network.observer = None


def same(network: Network, fast: Network) -> None:
    x = sample(network.spec, network.steps)
    scores, spikes = spikes_of(network, x)
    found, others = spikes_of(fast, x)
    assert spikes.keys() == others.keys()
    assert sum(float(layer.sum()) for layer in spikes.values()) > 0
    for name in spikes:
        assert torch.equal(spikes[name], others[name]), name
    torch.testing.assert_close(found, scores, rtol=1e-9, atol=1e-9)


def norms(network: Network) -> int:
    return sum(isinstance(module, TimeBatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("kind", ["edge", "low_rank", "shared_tapG", "shared_tapE"])
@pytest.mark.parametrize("masked", [False, True])
def test_genetic_networks_have_stored_weights_and_no_norms(kind: Any, masked: bool) -> None:
    torch.manual_seed(0)
    network = build(small8((2, 8, 8), 4, channels=(4, 6, 6, 8)), steps=3)
    encode(network, genes=5, kind=kind, skip_growing=False)
    if masked:
        attach(network, SparseSettings(density=0.3), seed=0)
    lively(network)
    fast = for_inference(network)
    assert not any(isinstance(module, GeneticLayer) for module in fast.modules())
    assert not hasattr(fast, "gene_pool")
    assert norms(fast) == 0
    same(network, fast)
    for name, mask in network.named_buffers():
        if name.endswith(".mask"):
            weight = fast.get_parameter(name.removesuffix("mask") + "weight")
            assert torch.equal(weight != 0, mask)


@pytest.mark.parametrize("feedback", ["same_step", "delayed"])
@pytest.mark.parametrize("events", [False, True])
def test_random_architectures_of_the_search_space(feedback: Any, events: bool) -> None:
    rng = np.random.default_rng(7)
    space = Space(SpaceSettings(**SPACE, feedback=feedback))
    for _ in range(5):
        genes = rng.integers(0, np.array(space.upper) + 1)
        spec = decode(space.genome(tuple(int(gene) for gene in genes)), (2, 8, 8), 4, events=events)
        torch.manual_seed(0)
        network = lively(build(spec, steps=3))
        fast = for_inference(network)
        assert norms(fast) < norms(network)
        same(network, fast)


def test_counting_what_it_does_gives_what_the_trained_network_does() -> None:
    torch.manual_seed(0)
    network = build(PRESETS["resnet18"]((2, 6, 6), 3, block="sew"), steps=2)
    attach(network, SparseSettings(density=0.2), seed=0)
    lively(network)
    batches = [(sample(network.spec, 2, seed=seed), torch.tensor([0, 1, 2])) for seed in (3, 4)]
    counted, _ = count_costs(network, batches)
    found, _ = count_costs(for_inference(network), batches)
    assert found.layers == counted.layers
    assert found.neurons == counted.neurons


def test_other_modules_are_refused() -> None:
    with pytest.raises(SpecError, match=r"for_inference takes a network made by evospike.build, given Sequential"):
        evospike.for_inference(nn.Sequential())
