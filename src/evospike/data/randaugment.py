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
from evospike.data.keyed import Draws, as_normal, as_uniform, as_whole

APPLY_CHANCE = 0.5
MAGNITUDE_DEVIATION = 0.5
HIGHEST = 10.0

# (level in 0..1, sign +1 or -1) -> argument, per image
Scale = Callable[[Tensor, Tensor], Tensor]


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


@dataclass(frozen=True)
class Change:
    """An operation on values. apply: images (B, C, H, W) and their arguments (B,) to images."""

    scale: Scale
    apply: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Warp:
    """An operation on places. matrix: arguments (B,), height and width to what `image_ops.affine` wants."""

    scale: Scale
    matrix: Callable[[Tensor, int, int], Tensor]


# In timm's order: the drawn number picks the operation by its place.
OPERATIONS: dict[str, Change | Warp] = {
    "AutoContrast": Change(_nothing, lambda x, argument: image_ops.autocontrast(x)),
    "Equalize": Change(_nothing, lambda x, argument: image_ops.equalize(x)),
    "Invert": Change(_nothing, lambda x, argument: image_ops.invert(x)),
    "Rotate": Warp(_signed(30.0), image_ops.rotate),
    "PosterizeIncreasing": Change(_bits, image_ops.posterize),
    "SolarizeIncreasing": Change(_threshold, image_ops.solarize),
    "SolarizeAdd": Change(_added, image_ops.solarize_add),
    "ColorIncreasing": Change(_enhance, image_ops.color),
    "ContrastIncreasing": Change(_enhance, image_ops.contrast),
    "BrightnessIncreasing": Change(_enhance, image_ops.brightness),
    "SharpnessIncreasing": Change(_enhance, image_ops.sharpness),
    "ShearX": Warp(_signed(0.3), image_ops.shear_x),
    "ShearY": Warp(_signed(0.3), image_ops.shear_y),
    "TranslateXRel": Warp(_signed(0.45), image_ops.translate_x),
    "TranslateYRel": Warp(_signed(0.45), image_ops.translate_y),
}


_ORDER = sorted(OPERATIONS.values(), key=lambda operation: isinstance(operation, Warp))
"""In which order they are applied: warps last."""

_PLACES = torch.tensor([0, *(1 + _ORDER.index(operation) for operation in OPERATIONS.values())])
"""Place of an operation in that order, counted from 1, by one more than its number; of nothing, 0."""


@dataclass(frozen=True)
class Plan:
    """What one layer of RandAugment does to each image; -1: nothing. Shapes: all (B,), on the CPU."""

    operation: Tensor
    level: Tensor
    sign: Tensor


def plan(draws: Draws, layer: int, magnitude: float) -> Plan:
    """Draw one layer's operation, level (0..1) and sign for each image."""
    purposes = [f"{what} {layer}" for what in ("operation", "apply", "magnitude", "sign")]
    chosen, applied, noise, sign = draws.on("cpu").bits_of(purposes, 2)
    # float64, so that whole-numbered levels cannot flip with the last bit of a vectorised logarithm
    deviation = MAGNITUDE_DEVIATION * as_normal(noise, torch.float64)[:, 0]
    level = (magnitude + deviation).clamp(0.0, HIGHEST) / HIGHEST
    operation = torch.where(as_uniform(applied[:, 0]) < APPLY_CHANCE, as_whole(chosen[:, 0], len(OPERATIONS)), -1)
    return Plan(operation, level, torch.where(as_uniform(sign[:, 0]) < 0.5, -1.0, 1.0))


def randaugment(images: Tensor, draws: Draws, operations: int, magnitude: float, fill: Tensor) -> Tensor:
    """Apply `operations` layers of RandAugment.

    Shapes: images uint8 (B, C, H, W); fill uint8 (C,), shown where a warp looks outside the image.
    """
    images = images.clone()
    for layer in range(operations):
        _apply_layer(images, plan(draws, layer, magnitude), fill)
    return images


def _apply_layer(images: Tensor, layer: Plan, fill: Tensor) -> None:
    """Operation by operation, the images of each next to each other; all warps are one, since all are bilinear."""
    place = _PLACES[layer.operation + 1]
    order = place.argsort(stable=True)
    ends = torch.bincount(place, minlength=len(OPERATIONS) + 1).cumsum(0).tolist()
    level, sign, where = layer.level[order], layer.sign[order].double(), order.to(images.device)
    some, matrices = images[where], []
    for operation, first, last in zip(_ORDER, ends[:-1], ends[1:], strict=True):
        if first == last:
            continue
        argument = operation.scale(level[first:last], sign[first:last])
        argument = (argument.float() if argument.is_floating_point() else argument).to(images.device)
        if isinstance(operation, Warp):
            matrices.append(operation.matrix(argument, *images.shape[2:]))
        else:
            some[first:last] = operation.apply(some[first:last], argument)
    if matrices:
        matrix = torch.cat(matrices)
        some[-len(matrix) :] = image_ops.affine(some[-len(matrix) :], matrix, fill)
    images[where] = some
