"""Surrogate derivatives of the spike function, in threshold units.

With x = (u - threshold) / threshold, the derivative of a spike by the potential u is g(x) / threshold. Every g has unit
area, so a surrogate changes how far a gradient reaches, not how much of it there is. (Methods 1.3.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from evospike.neurons.settings import NeuronSettings, SurrogateName

Derivative = Callable[[Tensor, float], Tensor]


def triangle(x: Tensor, width: float) -> Tensor:
    """max(0, w - |x|) / w²; the primitive is a smoothed step on [-w, w]. Source: TET; BrainCog's QGate at w = 1."""
    return _scaled((width - x.abs()).clamp_min(0.0), 1 / (width * width))


def rectangle(x: Tensor, width: float) -> Tensor:
    """1 / (2w) for |x| < w, else 0. Source: STBP, with half-width w = 0.5."""
    return (x.abs() < width).to(x.dtype) / (2 * width)


def arctan(x: Tensor, width: float) -> Tensor:
    """(1 / 2w) / (1 + (pi x / 2w)²). Source: SpikingJelly's ATan with alpha = 1/w = 2."""
    return (0.5 / width) / (1 + (0.5 * math.pi / width * x).square())


def sigmoid(x: Tensor, width: float) -> Tensor:
    """s(1 - s) / w with s the logistic function of x/w. Source: SpikingJelly's Sigmoid with alpha = 1/w = 4."""
    s = torch.sigmoid(x / width)
    return s * (1 - s) / width


DERIVATIVES: dict[SurrogateName, Derivative] = {
    "triangle": triangle,
    "rectangle": rectangle,
    "arctan": arctan,
    "sigmoid": sigmoid,
}


def slope(u: Tensor, neuron: NeuronSettings) -> Tensor:
    """Surrogate derivative of the spike by the potential u."""
    x = _scaled(u - neuron.threshold, 1 / neuron.threshold)
    return _scaled(DERIVATIVES[neuron.surrogate](x, neuron.width), 1 / neuron.threshold)


def _scaled(x: Tensor, factor: float) -> Tensor:
    # With the default constants the factors are 1, and a pass over memory less counts.
    return x if factor == 1 else x * factor
