"""Parts of an image removed: random erasing and cutout, on normalised images."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from evospike.data.keyed import Draws

AREA = (0.02, 1.0 / 3.0)
RATIO = (0.3, 1.0 / 0.3)
_TRIES = 10


def span(start: Tensor, length: Tensor, size: int) -> Tensor:
    """bool (B, size): the pixels start..start+length-1."""
    pixels = torch.arange(size, device=start.device)
    return (pixels >= start[:, None]) & (pixels < (start + length)[:, None])


def random_erasing(images: Tensor, draws: Draws, chance: float) -> Tensor:
    """Replace a rectangle by standard normal noise, a fresh number per pixel and channel.

    Area 2 to 33 %, aspect ratio 0.3 to 3.3, the first of ten draws that fits, else nothing.
    Source: Zhong et al. 2017 (arXiv 1708.04896), as timm's RandomErasing in mode `pixel`.
    """
    members = draws.chance("erase", chance).nonzero()[:, 0]
    if len(members) == 0:
        return images
    some, drawn = images[members], draws.at(members)
    tall, wide = _rectangle(drawn, *images.shape[2:])
    corner = drawn.uniform("erase place", 2)
    top = (corner[:, 0] * (images.shape[2] - tall + 1)).floor()
    left = (corner[:, 1] * (images.shape[3] - wide + 1)).floor()
    mask = span(top, tall, images.shape[2])[:, None, :, None] & span(left, wide, images.shape[3])[:, None, None]
    image, place = mask.expand_as(some).flatten(1).nonzero(as_tuple=True)
    some.view(len(some), -1)[image, place] = drawn.normal_at("erase noise", image, place, some[0].numel())
    return images.index_copy(0, members, some)


def _rectangle(draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Height and width in pixels, float32 (B,); zero where no draw fits."""
    u = draws.uniform("erase area", 2 * _TRIES)
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * u[:, :_TRIES])
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    ratio = (low + (high - low) * u[:, _TRIES:]).exp()
    tall, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.byte().argmax(1, keepdim=True)
    found = fits.any(1)
    return tall.gather(1, first)[:, 0] * found, wide.gather(1, first)[:, 0] * found


def cutout(images: Tensor, draws: Draws, side: int) -> Tensor:
    """Zero (the mean) in a square of `side` pixels about a random centre, clipped at the border.

    Source: DeVries and Taylor 2017 (arXiv 1708.04552).
    """
    height, width = images.shape[2:]
    top = draws.whole("cutout top", height)[:, 0] - side // 2
    left = draws.whole("cutout left", width)[:, 0] - side // 2
    length = torch.full_like(top, side)
    mask = span(top, length, height)[:, None, :, None] & span(left, length, width)[:, None, None, :]
    return images.masked_fill(mask, 0.0)
