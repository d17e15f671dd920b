"""What back-propagation keeps of a forward pass, made smaller.

Spikes are ones and zeros in 32 bits each. Kept as bits they take a thirty-second of that, and come back as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evospike.training.settings import Activations

SMALL = 1 << 14
"""Tensors with fewer values are kept as they are."""


@contextmanager
def saving(activations: Activations) -> Iterator[None]:
    """A forward pass inside keeps what `activations` says for its backward pass; gradients are the same to the bit.

    bits, recomputed: tensors that hold nothing but zeros and ones are kept as bits. Whether blocks are recomputed is
    for the network to say (`Network.recompute_blocks`).
    """
    if activations == "kept":
        yield
        return
    with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
        yield


@dataclass(frozen=True)
class _Bits:
    """A tensor of zeros and ones, eight in a byte, in the order of memory."""

    packed: Tensor
    like: Tensor  # on "meta": type, shape and strides
    device: torch.device


def _pack(tensor: Tensor) -> Tensor | _Bits:
    if tensor.numel() < SMALL or not tensor.is_floating_point() or isinstance(tensor, torch.nn.Parameter):
        return tensor
    flat = _in_memory_order(tensor)
    if flat is None or not bool(((flat == 0) | (flat == 1)).all()):
        return tensor
    like = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return _Bits(_to_bits(flat), like, tensor.device)


def _unpack(kept: Tensor | _Bits) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    tensor = torch.empty_strided(kept.like.shape, kept.like.stride(), dtype=kept.like.dtype, device=kept.device)
    flat = _in_memory_order(tensor)
    assert flat is not None
    flat.copy_(_from_bits(kept.packed, tensor.numel()))
    return tensor


def _in_memory_order(tensor: Tensor) -> Tensor | None:
    """The values as one row, a view; None when they do not lie in memory without gaps."""
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda d: (-strides[d], d))
    arranged = tensor.permute(order)
    return arranged.view(-1) if arranged.is_contiguous() else None


def _to_bits(flat: Tensor) -> Tensor:
    if flat.device.type != "cpu":
        return _to_bits_by_shifts(flat)
    return torch.from_numpy(np.packbits(flat.detach().to(torch.bool).numpy()))


def _from_bits(packed: Tensor, count: int) -> Tensor:
    if packed.device.type != "cpu":
        return _from_bits_by_shifts(packed, count)
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=count))


def _to_bits_by_shifts(flat: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(flat.detach().to(torch.uint8), (0, -flat.numel() % 8))
    return (padded.view(-1, 8) << _places(flat)).sum(1, dtype=torch.uint8)


def _from_bits_by_shifts(packed: Tensor, count: int) -> Tensor:
    return ((packed[:, None] >> _places(packed)) & 1).view(-1)[:count]


def _places(like: Tensor) -> Tensor:
    """Of the eight values in a byte, the first in the highest bit."""
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=like.device)
