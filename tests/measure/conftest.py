"""A network whose spikes can be counted on paper."""

from __future__ import annotations

import pytest
import torch

from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import INPUT, SpecBuilder
from evospike.neurons.settings import NeuronSettings


@pytest.fixture
def hand() -> Network:
    """Two IF neurons (threshold 1, hard reset) on two pixels over 4 steps; class k reads neuron k, a layer later.

    A pixel of 0.6 spikes at steps 2 and 4 (0.6, 1.2 -> 0, 0.6, 1.2 -> 0), one of 0.3 at step 4 (0.3, 0.6, 0.9, 1.2),
    one of 0.2 never, one of 2 at every step. The second layer's neurons spike once for two spikes of the first.
    """
    b = SpecBuilder("hand", (1, 1, 2), 2)
    flat = b.node("flat", "flatten", INPUT)
    linear = b.node("between", "linear", b.node("first", "neuron", flat), features=2, bias=False)
    b.node("scores", "linear", b.node("second", "neuron", linear), features=2, bias=False)
    net = build(b.finish(), NeuronSettings(kind="if"), steps=4)
    with torch.no_grad():
        net.get_parameter("between.weight").copy_(0.75 * torch.eye(2))
        net.get_parameter("scores.weight").copy_(torch.eye(2))
    return net
