"""Crops of image batches: padded random crop with flip, random resized crop, centre crop."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evospike.data.keyed import Draws

AREA = (0.08, 1.0)
RATIO = (3.0 / 4.0, 4.0 / 3.0)
_TRIES = 10


def centre_crop(images: Tensor, height: int, width: int) -> Tensor:
    """The middle (height, width) of (B, C, H, W) images."""
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]


def random_crop(images: Tensor, draws: Draws, size: tuple[int, int], padding: int, flip: float) -> Tensor:
    """Crop (B, C, H, W) images padded with zeros at a random place, and flip left to right with chance `flip`.

    One gather does both. Returns (B, C, *size) of the same type.
    """
    if padding:
        images = F.pad(images, [padding] * 4)
    height, width = images.shape[2:]
    rows = draws.whole("crop top", height - size[0] + 1) + torch.arange(size[0], device=images.device)
    columns = torch.arange(size[1], device=images.device).expand(len(images), -1)
    if flip > 0:
        flipped = draws.chance("flip", flip)[:, None]
        columns = torch.where(flipped, size[1] - 1 - columns, columns)
    columns = columns + draws.whole("crop left", width - size[1] + 1)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    # Indexed with the channels last, so that each index moves a whole pixel.
    picked = images.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).contiguous()


def resized_crop(images: Tensor, draws: Draws, size: tuple[int, int], flip: float) -> Tensor:
    """A random part of each uint8 image scaled to `size` (bilinear), flipped with chance `flip`.

    Area 8 to 100 %, aspect ratio 3/4 to 4/3 (log-uniform), the first of ten draws that fits, else the centre
    square. Source: Szegedy et al. 2015 (arXiv 1409.4842), as in torchvision's RandomResizedCrop; without its
    antialiasing.
    """
    full = images.shape[2], images.shape[3]
    high, wide = _part(draws, *full)
    place = draws.uniform("resized crop place", 2)
    top = (place[:, 0] * (full[0] - high + 1)).floor()
    left = (place[:, 1] * (full[1] - wide + 1)).floor()
    down = _sampled(top, high, size[0], full[0])
    across = _sampled(left, wide, size[1], full[1])
    across = torch.where(draws.chance("flip", flip)[:, None], across.flip(1), across)
    grid = torch.stack(torch.broadcast_tensors(across[:, None, :], down[:, :, None]), dim=-1)
    resized = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return (resized + 0.5).clamp_(0, 255).to(torch.uint8)


def _part(draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Height and width, in whole pixels, of the part to keep; float32 (B,)."""
    u = draws.uniform("resized crop area", 2 * _TRIES)
    area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * u[:, :_TRIES])
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    ratio = (low + (high - low) * u[:, _TRIES:]).exp()
    wide, tall = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)
    first = fits.byte().argmax(1, keepdim=True)
    side = float(min(height, width))
    found = fits.any(1)
    return (
        torch.where(found, tall.gather(1, first)[:, 0], side),
        torch.where(found, wide.gather(1, first)[:, 0], side),
    )


def _sampled(start: Tensor, length: Tensor, count: int, full: int) -> Tensor:
    """Where `count` pixels sample the span, in grid_sample's -1..1: (B, count)."""
    steps = (torch.arange(count, device=start.device) + 0.5) / count
    return (start[:, None] + steps * length[:, None]) * (2.0 / full) - 1.0
