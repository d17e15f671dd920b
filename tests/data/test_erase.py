from __future__ import annotations

import torch

from evospike.data.erase import cutout, random_erasing
from evospike.data.keyed import Draws


def test_erasing_fills_a_rectangle_with_noise() -> None:
    images = torch.full((400, 3, 20, 20), 9.0)
    out = random_erasing(images, Draws(0, 0, torch.arange(400)), 0.25)
    changed = (out != 9.0).any(1)
    hit = changed.flatten(1).any(1)
    assert 70 < hit.sum() < 130
    for mask in changed[hit]:
        area = int(mask.sum())
        assert area == int(mask.any(0).sum()) * int(mask.any(1).sum())
        assert 0.01 * 400 <= area <= 0.4 * 400
    noise = out[out != 9.0]
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


def test_erasing_never_or_always() -> None:
    images = torch.full((20, 1, 10, 10), 9.0)
    draws = Draws(0, 0, torch.arange(20))
    assert torch.equal(random_erasing(images, draws, 0.0), images)
    assert (random_erasing(images, draws, 1.0) != 9.0).flatten(1).any(1).all()


def test_cutout_is_a_clipped_square() -> None:
    out = cutout(torch.ones(300, 2, 8, 8), Draws(0, 0, torch.arange(300)), 4)
    area = (out[:, 0] == 0).flatten(1).sum(1)
    assert torch.equal(out[:, 0], out[:, 1])
    assert area.max() == 16
    assert area.min() >= 4
