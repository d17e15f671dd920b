"""Which synapses to prune and which to grow: positions chosen by rank, exactly as many as asked for.

Every function works on flat tensors of one layer and gives positions. Equal ranks go by position, so a choice depends
on nothing but the values (a threshold would take all of the many zeros that have just grown, methods 5.7).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def rewired_count(active: int, absent: int, fraction: float) -> int:
    """How many synapses a layer exchanges: ceil(fraction * active), at most as many as exist and as are absent."""
    return min(math.ceil(fraction * active), active, absent)


def prune_magnitude(weight: Tensor, mask: Tensor, count: int) -> Tensor:
    """The `count` active positions with the smallest |w|."""
    return _lowest(weight.abs(), mask, count)


def prune_sign(weight: Tensor, mask: Tensor, count: int) -> Tensor:
    """The smallest positive and the smallest negative weights, half of `count` each (positive ones on an odd count).

    Zeros count as positive; where one sign has too few, the other gives the rest. Source: SET, arXiv 1707.04780.
    """
    positive, negative = mask & (weight >= 0), mask & ~(weight >= 0)
    from_negative = min(count // 2, int(negative.sum()))
    from_positive = min(count - from_negative, int(positive.sum()))
    from_negative = count - from_positive
    magnitude = weight.abs()
    return torch.cat([_lowest(magnitude, positive, from_positive), _lowest(magnitude, negative, from_negative)])


def prune_taylor(weight: Tensor, gradient: Tensor, mask: Tensor, count: int) -> Tensor:
    """The `count` active positions with the smallest (w dL/dw)^2, the first-order change of the loss."""
    return _lowest((weight * gradient).square(), mask, count)


def grow_largest(score: Tensor, free: Tensor, count: int) -> Tensor:
    """The `count` positions of `free` with the largest |score|."""
    return _lowest(-score.abs(), free, count)


def adam_step(average: Tensor, square: Tensor) -> Tensor:
    """|m| / (sqrt(v) + 1e-8): how far Adam would move a weight, in learning rates (methods 5.3).

    average, square: running averages m of the gradient and v of its square. A gradient that changes its sign from batch
    to batch gives little, however large it is.
    """
    return average.abs() / (square.sqrt() + 1e-8)


def grow_random(free: Tensor, count: int, generator: Generator) -> Tensor:
    """`count` positions of `free`, drawn uniformly. generator: on the CPU, whatever the device of `free`."""
    return _lowest(_noise(free, generator), free, count)


def grow_unfired(free: Tensor, ever: Tensor, count: int, generator: Generator) -> Tensor:
    """`count` positions of `free`, drawn uniformly from those not in `ever`, and from the others when these run out."""
    return _lowest(_noise(free, generator) + ever, free, count)


def _noise(like: Tensor, generator: Generator) -> Tensor:
    return torch.rand(len(like), generator=generator, dtype=torch.float64).to(like.device)


def _lowest(rank: Tensor, allowed: Tensor, count: int) -> Tensor:
    positions = allowed.nonzero().squeeze(1)
    return positions[torch.sort(rank[positions], stable=True).indices[:count]]
