"""The rule that chooses an order, and the record of what was chosen."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from evospike.core.errors import EncodingError
from evospike.genetic.contraction import (
    apply_contractions,
    choose_contraction,
    contracted_layers,
    macs,
    plan_contractions,
)
from evospike.genetic.encode import encode as encode_where_smaller
from evospike.models.counts import count_layers
from evospike.models.presets import cifarnet, resnet19w, resnet34
from evospike.models.spec import NetworkSpec

encode = partial(encode_where_smaller, skip_growing=False)
"""These layers are so small that most would grow; `test_skip_growing_...` asks for the default."""


def cnn() -> nn.Module:
    layers = [nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 2)]
    return encode(nn.Sequential(*layers), genes=4)


def test_counts_of_methods_3_6() -> None:
    # C_o = 256, C_i k^2 = 2304, g = 100, 1024 positions.
    assert macs("materialise", 256, 2304, 100, 1024) == 256 * 100**2 + 256 * 100 * 2304 + 1024 * 256 * 2304
    assert macs("two_stage", 256, 2304, 100, 1024) == 256 * 100**2 + 1024 * 100 * (2304 + 256)


@pytest.mark.parametrize(
    ("channels", "genes", "order"),
    [
        (64, 40, "two_stage"),
        (64, 50, "materialise"),
        (128, 64, "two_stage"),
        (128, 110, "materialise"),
        (128, 200, "materialise"),
        (256, 200, "two_stage"),
        (512, 400, "two_stage"),
    ],
)
def test_rule_with_many_positions_follows_the_measured_speeds(channels: int, genes: int, order: str) -> None:
    assert choose_contraction(channels, 9 * channels, genes, 10**6) == order


@pytest.mark.parametrize(
    ("spec", "genes", "two_stage", "build"),
    [
        (resnet19w((3, 32, 32), 10), 100, 1.287, 1.28),
        (resnet19w((3, 32, 32), 10), 150, 1.920, 1.96),
        (resnet19w((3, 32, 32), 10), 200, 2.553, 2.65),
        (cifarnet((3, 32, 32), 10), 200, 0.946, 4.05),
        (resnet34((3, 224, 224), 1000, block="post"), 140, 3.891, 3.10),
    ],
)
def test_totals_of_methods_3_6(spec: NetworkSpec, genes: int, two_stage: float, build: float) -> None:
    staged = built = 0
    for layer in count_layers(spec):
        if layer.role != "body":
            staged += layer.macs
            continue
        channels, height, width = layer.output_shape
        taps = layer.weights // channels
        built += macs("materialise", channels, taps, genes, 0)
        staged += macs("two_stage", channels, taps, genes, height * width) - macs("two_stage", channels, taps, genes, 0)
    assert staged / 1e9 == pytest.approx(two_stage, abs=0.002)
    assert built / 1e9 == pytest.approx(build, abs=0.01)


def test_few_positions_favour_two_stages() -> None:
    assert choose_contraction(128, 1152, 200, 10**6) == "materialise"
    assert choose_contraction(128, 1152, 200, 16) == "two_stage"


def test_plan_sets_and_records_every_layer() -> None:
    net = cnn()
    record = plan_contractions(net, {"1": 1000, "2": 1000})
    assert record == {"1": "two_stage", "2": "two_stage"}
    assert plan_contractions(net, {}, "materialise") == {"1": "materialise", "2": "materialise"}
    apply_contractions(net, record)
    assert {layer.contraction for _, layer in contracted_layers(net)} == {"two_stage"}
    assert net(torch.zeros(2, 3, 8, 8)).shape == (2, 2)


def test_errors_name_the_layer() -> None:
    net = cnn()
    with pytest.raises(EncodingError, match="no output positions for layer '2'"):
        plan_contractions(net, {"1": 5})
    with pytest.raises(EncodingError, match="differ in layer '2'"):
        apply_contractions(net, {"1": "two_stage"})
    with pytest.raises(EncodingError, match="layer '1' has contraction 'auto'"):
        apply_contractions(net, {"1": "auto", "2": "two_stage"})


def test_a_masked_layer_is_materialised_whatever_the_plan_says() -> None:
    net, x = cnn(), torch.randn(2, 3, 8, 8)
    plan_contractions(net, {}, "two_stage")
    staged = net(x)
    for _, layer in contracted_layers(net):
        layer.mask = torch.ones(layer.weight_shape, dtype=torch.bool)
        assert layer.settled == layer.settle(10**9) == "materialise"
    torch.testing.assert_close(net(x), staged)
    first = net.get_submodule("1")
    first.mask[:] = False
    assert net.get_submodule("1")(torch.ones(1, 64, 6, 6)).eq(first.bias[:, None, None]).all()
    assert plan_contractions(net, {"1": 1000, "2": 1000}) == {"1": "materialise", "2": "materialise"}
    for _, layer in contracted_layers(net):
        layer.mask = None
    assert {layer.settled for _, layer in contracted_layers(net)} == {None}, "the plan was left alone"
