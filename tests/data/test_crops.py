from __future__ import annotations

import torch

from evospike.data.crops import centre_crop, random_crop, resized_crop
from evospike.data.keyed import Draws


def _numbered(count: int, size: int) -> torch.Tensor:
    return torch.arange(1, size * size + 1, dtype=torch.uint8).view(1, 1, size, size).repeat(count, 2, 1, 1)


def test_centre_crop() -> None:
    assert centre_crop(_numbered(1, 4), 2, 2)[0, 0].tolist() == [[6, 7], [10, 11]]


def test_random_crop_is_a_window_of_the_padded_image() -> None:
    images = _numbered(200, 6)
    cropped = random_crop(images, Draws(0, 0, torch.arange(200)), (6, 6), 2, 0.5)
    padded = torch.nn.functional.pad(images[0], [2] * 4)
    windows = padded.unfold(1, 6, 1).unfold(2, 6, 1).reshape(2, 25, 6, 6).transpose(0, 1)
    known = torch.cat([windows, windows.flip(3)])
    found = (cropped[:, None] == known[None]).flatten(2).all(2)
    assert (found.sum(1) == 1).all()
    assert found.any(0).sum() > 45  # nearly all of the 25 places and both directions occur
    assert 70 < found[:, 25:].sum() < 130


def test_no_padding_and_no_flip_changes_nothing() -> None:
    images = _numbered(5, 6)
    assert torch.equal(random_crop(images, Draws(0, 0, torch.arange(5)), (6, 6), 0, 0.0), images)


def test_certain_flip() -> None:
    images = _numbered(5, 6)
    assert torch.equal(random_crop(images, Draws(0, 0, torch.arange(5)), (6, 6), 0, 1.0), images.flip(3))


def test_resized_crop_of_a_slope_stays_a_slope() -> None:
    slope = (torch.arange(64) * 4).to(torch.uint8).expand(300, 1, 64, 64)
    out = resized_crop(slope, Draws(0, 0, torch.arange(300)), (32, 32), 0.0).float()
    assert torch.equal(out, out[:, :, :1].expand_as(out))
    steps = out[:, 0, 0].diff(dim=1)
    assert (steps >= 0).all()
    width = (out[:, 0, 0, -1] - out[:, 0, 0, 0]) / 4 * 32 / 31
    assert width.min() > 14
    assert width.max() <= 65
    assert width.std() > 5


def test_resized_crop_alone_and_in_a_batch() -> None:
    images = torch.randint(0, 256, (9, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = Draws(4, 1, torch.arange(9))
    together = resized_crop(images, draws, (16, 16), 0.5)
    assert torch.equal(resized_crop(images[4:5], draws.at(torch.tensor([4])), (16, 16), 0.5)[0], together[4])
