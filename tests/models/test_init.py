"""Initial values of stored weights."""

from __future__ import annotations

import math

import torch

from evospike.models.build import build
from evospike.models.init import draw_stored
from evospike.models.presets import small8


def drawn(seed: int, *key: str, channels: tuple[int, ...] = (16, 16, 32, 32)) -> dict[str, torch.Tensor]:
    network = build(small8((3, 8, 8), 10, channels=channels))
    draw_stored(network, seed, key)
    return network.state_dict()


def test_variance_bounds_and_biases() -> None:
    weights = drawn(0)
    for name, fan_in in (("conv2", 16 * 9), ("conv3", 16 * 9), ("conv4", 32 * 9)):
        values = weights[f"{name}.conv.weight"]
        n = values.numel()
        assert abs(values.mean()) < 4 * math.sqrt(2 / fan_in / n)
        assert abs(values.var() * fan_in / 2 - 1) < 4 * math.sqrt(2 / n)
    classifier = weights["classifier.weight"] * math.sqrt(32)
    assert 0.95 < classifier.abs().max() <= 1
    assert abs(classifier.var() - 1 / 3) < 0.06
    assert weights["classifier.bias"].abs().sum() == 0


def test_each_layer_has_its_own_stream() -> None:
    first, again, other = drawn(1), drawn(1), drawn(2)
    keyed, deeper = drawn(1, "candidate"), drawn(1, channels=(16, 16, 32, 32, 32))
    for name in ("conv1.conv.weight", "conv4.conv.weight", "classifier.weight"):
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        assert not torch.equal(first[name], keyed[name])
        assert torch.equal(first[name], deeper[name])  # another layer takes no draws from this one
    assert not torch.equal(first["conv3.conv.weight"][:, :16], first["conv2.conv.weight"].repeat(2, 1, 1, 1))


def test_the_global_generator_is_left_alone() -> None:
    network = build(small8((1, 8, 8), 10))
    before = torch.get_rng_state()
    draw_stored(network, 0)
    assert torch.equal(torch.get_rng_state(), before)
