from __future__ import annotations

import pytest
import torch

from evospike.data import randaugment
from evospike.data.keyed import Draws
from evospike.data.randaugment import OPERATIONS, plan


def _argument(name: str, level: float, sign: float = 1.0) -> float:
    scale = OPERATIONS[name].scale
    return float(scale(torch.tensor([level], dtype=torch.float64), torch.tensor([sign], dtype=torch.float64)))


@pytest.mark.parametrize(
    ("name", "level", "sign", "expected"),
    [
        ("Rotate", 0.9, 1.0, 27.0),
        ("Rotate", 0.9, -1.0, -27.0),
        ("PosterizeIncreasing", 0.9, 1.0, 1),
        ("PosterizeIncreasing", 0.0, 1.0, 4),
        ("SolarizeIncreasing", 0.9, 1.0, 26),
        ("SolarizeAdd", 0.9, 1.0, 99),
        ("ColorIncreasing", 0.9, 1.0, 1.81),
        ("ContrastIncreasing", 0.9, -1.0, 0.19),
        ("SharpnessIncreasing", 1.0, -1.0, 0.1),
        ("ShearX", 0.9, 1.0, 0.27),
        ("TranslateYRel", 0.9, -1.0, -0.405),
    ],
)
def test_level_ranges_of_timm(name: str, level: float, sign: float, expected: float) -> None:
    assert _argument(name, level, sign) == pytest.approx(expected)


def test_fifteen_operations() -> None:
    assert len(OPERATIONS) == 15


def test_plan_statistics() -> None:
    layer = plan(Draws(0, 0, torch.arange(30_000)), 0, 9.0)
    assert abs((layer.operation == -1).float().mean() - 0.5) < 0.015
    counts = torch.bincount(layer.operation[layer.operation >= 0], minlength=15)
    assert (counts - 1000).abs().max() < 150
    # N(9, 0.5) clipped at 10: two deviations
    assert layer.level.max() == 1.0
    assert abs((layer.level == 1.0).double().mean() - 0.0228) < 0.004
    assert abs(layer.level.median() - 0.9) < 0.002
    assert abs((layer.sign > 0).float().mean() - 0.5) < 0.015


def test_images_do_not_depend_on_their_batch() -> None:
    images = torch.randint(0, 256, (64, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws, fill = Draws(1, 2, torch.arange(64)), torch.tensor([128] * 3, dtype=torch.uint8)
    before = images.clone()
    together = randaugment.randaugment(images, draws, 2, 9.0, fill)
    assert torch.equal(images, before)
    for i in range(64):
        alone = randaugment.randaugment(images[i : i + 1], draws.at(torch.tensor([i])), 2, 9.0, fill)
        assert torch.equal(alone[0], together[i])
    # an image stays itself when neither layer applies (1/4), or its operation does nothing
    same = (together == images).flatten(1).all(1).float().mean()
    assert 0.15 < same < 0.5
