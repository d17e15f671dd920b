"""Masked weights in a file: the values that exist, and one bit for every position.

`pack_state` turns the `state_dict` of a masked network into plain tensors for safetensors, `unpack_state` turns them
back. For every mask called NAME the packed tensors are

    packed/bits/NAME:OxIxHxW  uint8, the flat mask of that shape, eight positions a byte, the first in the highest bit
    packed/values/TENSOR      the entries of the masked tensor under the mask, in order (a generated weight has none)

Everything else passes through. A tensor is taken to be zero outside its mask: at 10 % density it takes 0.1 + 1/32 of
its float32 size.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from evospike.core.errors import CheckpointError
from evospike.core.limits import require_memory
from evospike.core.text import shortened
from evospike.sparse.masks import masked_name

_BYTES_PER_POSITION = 10
"""Held at once for a position of a mask: bits as bytes, twice, and a value of up to 64 bits."""

BITS, VALUES = "packed/bits/", "packed/values/"


def pack_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The packed tensors of a state dict; of one without masks, its own.

    Raises: CheckpointError when a tensor has values outside its mask, which would be lost.
    """
    packed = dict(state)
    for name, mask in state.items():
        target = masked_name(name)
        if mask.dtype != torch.bool or target is None:
            continue
        del packed[name]
        shape = "x".join(map(str, mask.shape))
        packed[f"{BITS}{name}:{shape}"] = torch.from_numpy(np.packbits(mask.cpu().numpy().reshape(-1)))
        if target in state:
            packed[VALUES + target] = _present(target, packed.pop(target), mask)
    return packed


def unpack_state(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict that was packed, with the same names, dtypes, shapes and values; on the CPU.

    Raises: CheckpointError for packed tensors that do not fit together.
    """
    state = {name: tensor for name, tensor in packed.items() if not name.startswith((BITS, VALUES))}
    used: set[str] = set()
    for entry in _names(packed, BITS):
        name, _, shape = entry.rpartition(":")
        target = masked_name(name)
        if target is None:
            raise _damaged(entry, "is not the name and shape of a mask")
        mask = _mask(name, _shape(name, shape), packed[BITS + entry])
        _add(state, name, mask)
        if VALUES + target in packed:
            used.add(target)
            _add(state, target, _scattered(target, packed[VALUES + target], mask))
    for name in _names(packed, VALUES):
        if name not in used:
            raise _damaged(name, "has no mask")
    return state


def _names(packed: Mapping[str, Tensor], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in packed if name.startswith(prefix)]


def _add(state: dict[str, Tensor], name: str, tensor: Tensor) -> None:
    if name in state:
        raise _damaged(name, "is there twice")
    state[name] = tensor


def _present(name: str, tensor: Tensor, mask: Tensor) -> Tensor:
    if tensor.shape != mask.shape:
        raise CheckpointError(
            f"'{name}' has shape {tuple(tensor.shape)}, its mask {tuple(mask.shape)}; a mask fits its tensor"
        )
    if tensor[~mask].count_nonzero():
        raise CheckpointError(f"'{name}' has values outside its mask; they would be lost, set them to zero first")
    return tensor[mask]


def _scattered(name: str, values: Tensor, mask: Tensor) -> Tensor:
    if values.dim() != 1 or len(values) != int(mask.sum()):
        raise _damaged(name, f"has values of shape {tuple(values.shape)} for {int(mask.sum())} positions")
    tensor = values.new_zeros(mask.shape)
    tensor[mask] = values
    return tensor


def _shape(name: str, text: str) -> list[int]:
    sides = text.split("x")
    if not all(side.isascii() and side.isdecimal() and len(side) < 12 and int(side) for side in sides):
        raise _damaged(name, f"has no usable shape ('{text[:40]}')")
    return [int(side) for side in sides]


def _mask(name: str, shape: list[int], bits: Tensor) -> Tensor:
    size = prod(shape)
    if bits.dtype != torch.uint8 or bits.dim() != 1 or len(bits) != (size + 7) // 8:
        raise _damaged(name, f"has {bits.numel()} bytes of {bits.dtype} for {size} positions")
    require_memory(_BYTES_PER_POSITION * size, f"packed weights: '{name}'", "use an earlier file", CheckpointError)
    flat = np.unpackbits(bits.cpu().numpy())
    if flat[size:].any():
        raise _damaged(name, f"has positions beyond its {size}")
    return torch.from_numpy(flat[:size].astype(bool)).view(shape)


def _damaged(name: str, what: str) -> CheckpointError:
    return CheckpointError(f"packed weights: '{shortened(name)}' {what}; the file is damaged, use an earlier one")
