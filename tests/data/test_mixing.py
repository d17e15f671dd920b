from __future__ import annotations

import pytest
import torch

from evospike.data.keyed import Draws
from evospike.data.mixing import beta, boxes, mix


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_moments(alpha: float) -> None:
    x = beta(Draws(0, 0, torch.arange(20_000)), "share", alpha).double()
    assert torch.isfinite(x).all()
    assert abs(x.mean() - 0.5) < 0.015
    assert x.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_mixup_blends_images_and_labels_by_one_share() -> None:
    draws = Draws(0, 0, torch.arange(8))
    ones, zeros = torch.ones(8, 1, 4, 4), torch.zeros(8, 1, 4, 4)
    labels, others = torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.int64)
    images, soft = mix(ones, labels, (zeros, others), draws, (1.0, 0.0), 3)
    assert torch.allclose(images[:, 0, 0, 0], soft[:, 0])
    assert torch.equal(images, images[:, :, :1, :1].expand_as(images))
    assert torch.allclose(soft.sum(1), torch.ones(8))
    assert soft[:, 2].abs().max() == 0


def test_cutmix_share_is_the_area_left() -> None:
    draws = Draws(0, 0, torch.arange(200))
    ones, zeros = torch.ones(200, 1, 64, 64), torch.zeros(200, 1, 64, 64)
    labels, others = torch.zeros(200, dtype=torch.int64), torch.ones(200, dtype=torch.int64)
    images, soft = mix(ones, labels, (zeros, others), draws, (0.0, 1.0), 2)
    assert set(images.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(images.mean((1, 2, 3)), soft[:, 0])
    # A side s about a uniform centre covers s - s^2/4 of an axis; with s^2 uniform the mean area is 1/2 - 1/5 + 1/48.
    assert abs(soft[:, 1].mean() - 0.32) < 0.05


def test_both_on_takes_each_half_the_time() -> None:
    draws = Draws(0, 0, torch.arange(400))
    ones, zeros = torch.ones(400, 1, 8, 8), torch.zeros(400, 1, 8, 8)
    labels = torch.zeros(400, dtype=torch.int64)
    images, _ = mix(ones, labels, (zeros, labels + 1), draws, (1.0, 1.0), 2)
    binary = ((images == 0) | (images == 1)).flatten(1).all(1)
    assert 160 < int(binary.sum()) < 240


def test_box_of_share_zero_covers_at_most_everything() -> None:
    masks = boxes(Draws(0, 0, torch.arange(50)), torch.zeros(50), 8, 8)
    assert masks.shape == (50, 1, 8, 8)
    assert masks.flatten(1).sum(1).min() >= 16
    assert boxes(Draws(0, 0, torch.arange(5)), torch.ones(5), 8, 8).sum() == 0
