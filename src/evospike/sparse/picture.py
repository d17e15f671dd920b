"""A coarse picture of which synapses exist, small enough for a page."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from evospike.sparse.masks import prunable_tensors
from evospike.sparse.settings import SparseSettings

LARGEST_SIDE = 32
"""Rows and columns of a layer's picture at most."""


def connectivity(net: nn.Module, settings: SparseSettings) -> list[dict[str, Any]]:
    """For every masked tensor: its name, its numbers of outputs and inputs, and `share`, rows from the first output to
    the last, columns from the first input to the last: how much of what lies there exists, in 0..1."""
    return [
        {"name": tensor.name, "outputs": tensor.shape[0], "inputs": tensor.shape[1], "share": coarse(mask)}
        for tensor in prunable_tensors(net, settings)
        if (mask := tensor.mask_as_weight) is not None
    ]


def coarse(mask: Tensor, side: int = LARGEST_SIDE) -> list[list[float]]:
    """Of a mask (out, in, *kernel): mean over taps, then over blocks of outputs and inputs; no side exceeds `side`."""
    taps = mask.double().flatten(2).mean(-1) if mask.dim() > 2 else mask.double()
    rows, columns = (min(size, side) for size in taps.shape)
    blocks = F.adaptive_avg_pool2d(taps[None], (rows, columns))[0]
    return [[round(value, 3) for value in row] for row in blocks.tolist()]
