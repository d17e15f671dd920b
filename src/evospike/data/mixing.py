"""Mixup and cutmix: two images and their labels blended.

Source: Zhang et al. 2018 (arXiv 1710.09412), Yun et al. 2019 (arXiv 1905.04899). Different here: the partner is
drawn per sample from the whole training set, not from the batch, so a sample does not depend on its batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from evospike.data.keyed import Draws

_TRIES = 8  # each fails with chance below 5 %


def beta(draws: Draws, purpose: str, alpha: float) -> Tensor:
    """Beta(alpha, alpha) numbers, float32 (B,), on the device of the draws."""
    cpu = draws.on("cpu")
    first = _log_gamma(cpu, f"{purpose} first", alpha)
    second = _log_gamma(cpu, f"{purpose} second", alpha)
    return torch.sigmoid(first - second).float().to(draws.rows.device)


def _log_gamma(draws: Draws, purpose: str, alpha: float) -> Tensor:
    """Logarithm of Gamma(alpha) numbers, float64 (B,). Source: Marsaglia and Tsang 2000, with their boost."""
    d = alpha + 1.0 - 1.0 / 3.0
    x = draws.normal(f"{purpose} normal", _TRIES, torch.float64)
    v: Tensor = (1.0 + x / math.sqrt(9.0 * d)) ** 3
    u = 1.0 - draws.uniform(f"{purpose} accept", _TRIES).double()
    accepted = (v > 0) & (u.log() < 0.5 * x**2 + d - d * v + d * v.clamp(min=1e-12).log())
    first = accepted.byte().argmax(1, keepdim=True)
    boost = 1.0 - draws.uniform(f"{purpose} boost").double()
    return ((d * v.gather(1, first)).clamp(min=1e-300).log() + boost.log() / alpha)[:, 0]


def shares(draws: Draws, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """The share of each sample's own image in [0, 1], and whether it is cut (cutmix) rather than blended."""
    if mixup <= 0 or cutmix <= 0:
        cut = torch.full_like(draws.rows, cutmix > 0, dtype=torch.bool)
        return beta(draws, "share", max(mixup, cutmix)), cut
    cut = draws.chance("mix or cut", 0.5)
    return torch.where(cut, beta(draws, "share cut", cutmix), beta(draws, "share mix", mixup)), cut


def boxes(draws: Draws, share: Tensor, height: int, width: int) -> Tensor:
    """Cutmix masks, bool (B, 1, H, W): a box of area (1 - share) about a random centre, clipped at the border."""
    side = (1.0 - share).clamp(min=0).sqrt()
    place = draws.uniform("cut place", 2)
    across = _span(place[:, 0], side, width)[:, None, None, :]
    down = _span(place[:, 1], side, height)[:, None, :, None]
    return across & down


def _span(place: Tensor, side: Tensor, size: int) -> Tensor:
    """Pixels of one axis inside the box: bool (B, size)."""
    pixels = torch.arange(size, device=place.device)
    centre, half = (place * size).long(), (side * size).long() // 2
    return (pixels >= (centre - half)[:, None]) & (pixels < (centre + half)[:, None])


def mix(images: Tensor, labels: Tensor, partner: tuple[Tensor, Tensor], draws: Draws, alphas: tuple[float, float],
        classes: int) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Blend (B, C, H, W) images with their partners; returns images and soft labels (B, classes).

    alphas: of mixup and of cutmix. After cutmix the share is the area that is really left.
    """
    others, other_labels = partner
    share, cut = shares(draws, *alphas)
    mask = boxes(draws, share, images.shape[2], images.shape[3]) & cut[:, None, None, None]
    left = 1.0 - mask.flatten(1).sum(1) / mask[0].numel()
    share = torch.where(cut, left, share)
    weight = torch.where(cut[:, None, None, None], (~mask).float(), share[:, None, None, None])
    own, other = F.one_hot(labels, classes).float(), F.one_hot(other_labels, classes).float()
    return others + weight * (images - others), other + share[:, None] * (own - other)
