"""RandAugment in the form of timm's `rand-m9-mstd0.5-inc1`, batched.

Each image gets a number of operations drawn with replacement from fifteen; each drawn operation is applied with
chance one half, at a magnitude drawn from a normal distribution (deviation 0.5) and clipped to 0..10.
Source: Cubuk et al. 2019 (arXiv 1909.13719); level ranges and the `inc1` set as in timm's `auto_augment.py`.
Different here: interpolation is always bilinear (timm draws bilinear or bicubic).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from evospike.data import image_ops
from evospike.data.keyed import Draws

APPLY_CHANCE = 0.5
MAGNITUDE_DEVIATION = 0.5
HIGHEST = 10.0

# (level in 0..1, sign +1 or -1) -> argument, per image
Scale = Callable[[Tensor, Tensor], Tensor]
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


def _nothing(level: Tensor, sign: Tensor) -> Tensor:
    return level


def _signed(reach: float) -> Scale:
    return lambda level, sign: level * reach * sign


def _enhance(level: Tensor, sign: Tensor) -> Tensor:
    return (1.0 + 0.9 * level * sign).clamp(min=0.1)


def _bits(level: Tensor, sign: Tensor) -> Tensor:
    return 4 - (level * 4).long()


def _threshold(level: Tensor, sign: Tensor) -> Tensor:
    return 256 - (level * 256).long()


def _added(level: Tensor, sign: Tensor) -> Tensor:
    return (level * 110).long()


# In timm's order: the drawn number picks the operation by its place.
OPERATIONS: dict[str, tuple[Scale, Operation]] = {
    "AutoContrast": (_nothing, lambda x, argument, fill: image_ops.autocontrast(x)),
    "Equalize": (_nothing, lambda x, argument, fill: image_ops.equalize(x)),
    "Invert": (_nothing, lambda x, argument, fill: image_ops.invert(x)),
    "Rotate": (_signed(30.0), image_ops.rotate),
    "PosterizeIncreasing": (_bits, lambda x, argument, fill: image_ops.posterize(x, argument)),
    "SolarizeIncreasing": (_threshold, lambda x, argument, fill: image_ops.solarize(x, argument)),
    "SolarizeAdd": (_added, lambda x, argument, fill: image_ops.solarize_add(x, argument)),
    "ColorIncreasing": (_enhance, lambda x, argument, fill: image_ops.color(x, argument)),
    "ContrastIncreasing": (_enhance, lambda x, argument, fill: image_ops.contrast(x, argument)),
    "BrightnessIncreasing": (_enhance, lambda x, argument, fill: image_ops.brightness(x, argument)),
    "SharpnessIncreasing": (_enhance, lambda x, argument, fill: image_ops.sharpness(x, argument)),
    "ShearX": (_signed(0.3), image_ops.shear_x),
    "ShearY": (_signed(0.3), image_ops.shear_y),
    "TranslateXRel": (_signed(0.45), image_ops.translate_x),
    "TranslateYRel": (_signed(0.45), image_ops.translate_y),
}


@dataclass(frozen=True)
class Plan:
    """What one layer of RandAugment does to each image; -1: nothing. Shapes: all (B,), on the CPU."""

    operation: Tensor
    level: Tensor
    sign: Tensor


def plan(draws: Draws, layer: int, magnitude: float) -> Plan:
    """Draw one layer's operation, level (0..1) and sign for each image."""
    cpu = draws.on("cpu")
    chosen = cpu.whole(f"operation {layer}", len(OPERATIONS))[:, 0]
    applied = cpu.chance(f"apply {layer}", APPLY_CHANCE)
    # float64, so that whole-numbered levels cannot flip with the last bit of a vectorised logarithm
    noise = cpu.normal(f"magnitude {layer}", dtype=torch.float64)[:, 0]
    level = (magnitude + MAGNITUDE_DEVIATION * noise).clamp(0.0, HIGHEST) / HIGHEST
    sign = torch.where(cpu.chance(f"sign {layer}", 0.5), -1.0, 1.0)
    return Plan(torch.where(applied, chosen, -1), level, sign)


def randaugment(images: Tensor, draws: Draws, operations: int, magnitude: float, fill: Tensor) -> Tensor:
    """Apply `operations` layers of RandAugment.

    Shapes: images uint8 (B, C, H, W); fill uint8 (C,), shown where a warp looks outside the image.
    """
    images = images.clone()
    for layer in range(operations):
        _apply_layer(images, plan(draws, layer, magnitude), fill)
    return images


def _apply_layer(images: Tensor, layer: Plan, fill: Tensor) -> None:
    for number, (scale, operation) in enumerate(OPERATIONS.values()):
        members = (layer.operation == number).nonzero()[:, 0]
        if len(members) == 0:
            continue
        argument = scale(layer.level[members], layer.sign[members].double())
        argument = argument.float() if argument.is_floating_point() else argument
        where = members.to(images.device)
        images[where] = operation(images[where], argument.to(images.device), fill)
