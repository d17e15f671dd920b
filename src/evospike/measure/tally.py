"""Counting what passes through a network: what enters a layer, what neurons fire, and how far each input reaches.

Totals are exact: whole numbers are summed as whole numbers, at most 2^24 of them in float32 before they are added up.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Literal

import torch
from torch import Tensor

from evospike.models.spec import Node, Shape

InputKind = Literal["binary", "counts", "real"]

KINDS: tuple[InputKind, ...] = ("binary", "counts", "real")
"""From the most special to the least."""

_CHUNK = 2**18
"""Numbers that are looked at together: temporary tensors that leave the cache cost several times the counting."""


class InputTally:
    """What entered one layer, added up over samples and passes.

    rows: samples times passes. kind: the least special of everything so far.
    nonzero, values: for every position of the input, (C, H, W) or (features,), how many entries were not zero (int64)
    and the sum of all entries (float64).
    """

    nonzero: Tensor
    values: Tensor

    def __init__(self) -> None:
        self.rows = 0
        self.kind: InputKind = "binary"

    def add(self, x: Tensor) -> None:
        """Count an input (rows, C, H, W) or (rows, features)."""
        if not self.rows:
            self.nonzero = torch.zeros(x.shape[1:], dtype=torch.int64, device=x.device)
            self.values = torch.zeros(x.shape[1:], dtype=torch.float64, device=x.device)
        self.rows += x.shape[0]
        flat, in_shape = _in_order_of_memory(x.detach(), 1)
        for part in flat.split(max(1, _CHUNK // flat.shape[1])):
            self._add_part(part, in_shape)

    def pairs(self, met: Tensor) -> int:
        """Pairs of an entry that is not zero and a weight, when every position meets so many weights.

        met: in the shape of the input, as `fan_out` gives it.
        """
        return int((self.nonzero * met).sum())

    def operations(self, met: Tensor) -> float:
        """Synaptic operations: the same pairs, but whole numbers are as many spikes."""
        return float(((self.values if self.kind == "counts" else self.nonzero) * met).sum())

    def _add_part(self, part: Tensor, in_shape: Callable[[Tensor], Tensor]) -> None:
        active = torch.ne(part, 0, out=torch.empty_like(part))
        kind = _kind(part, active)
        nonzero = in_shape(active.sum(0, dtype=torch.float32))
        self.kind = max(self.kind, kind, key=KINDS.index)
        self.nonzero += nonzero.long()
        self.values += nonzero if kind == "binary" else in_shape(part.sum(0, dtype=torch.float64))


def _kind(x: Tensor, active: Tensor) -> InputKind:
    """active: 1 where x is not zero, else 0."""
    if torch.equal(x, active):
        return "binary"
    low, high = x.aminmax()
    return "counts" if low >= 0 and high < inf and torch.equal(x, x.round()) else "real"


class SpikeTally:
    """What one layer of neurons fired: spikes of every step, and of every unit over all samples and steps (int64)."""

    by_unit: Tensor

    def __init__(self) -> None:
        self.by_step: list[int] = []
        self._step = 0

    def add(self, spikes: Tensor) -> None:
        """Count (T, B, ...): the next T steps of a forward that began with the last `rewind`."""
        if not self.by_step:
            self.by_unit = torch.zeros(spikes.shape[2:], dtype=torch.int64, device=spikes.device)
        flat, in_shape = _in_order_of_memory(spikes.detach(), 2)
        fired = flat.sum(1, dtype=torch.float32).long()  # (T, units)
        for count in fired.sum(1).tolist():
            if self._step == len(self.by_step):
                self.by_step.append(0)
            self.by_step[self._step] += count
            self._step += 1
        self.by_unit += in_shape(fired.sum(0))

    def rewind(self) -> None:
        """The next spikes are those of a first step."""
        self._step = 0


def _in_order_of_memory(x: Tensor, leading: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """x with all but its leading dimensions flattened as they lie in memory, and what gives (N,) their shape back.

    A view wherever memory allows. Sums over the leading dimensions of the view are several times as fast as over
    those of an image whose channels come last.
    """
    order = sorted(range(leading, x.dim()), key=x.stride, reverse=True)
    sizes = [x.shape[d] for d in order]
    back = [order.index(d) for d in range(leading, x.dim())]
    return x.permute(*range(leading), *order).flatten(leading), lambda flat: flat.view(sizes).permute(back)


def fan_out(node: Node, present: Tensor, input_shape: Shape, output_shape: Shape) -> Tensor:
    """How many present weights every input position meets in one pass, int64 in the input's shape.

    node: a convolution or linear node. present: its weight's shape, (out, in / groups, *kernel), True where a weight
    exists. Positions outside the image meet nothing: padding is not counted.
    """
    if node.op == "linear":
        return present.sum(0)
    _, height, width = input_shape
    reads = present.unflatten(0, (node.integer("groups"), -1)).sum(1).flatten(0, 1)  # (C_i, k, k)
    rows = _reaches(node, height, output_shape[1]).to(present.device)
    columns = _reaches(node, width, output_shape[2]).to(present.device)
    return torch.einsum("iuv,uy,vx->iyx", reads.double(), rows, columns).long()


def _reaches(node: Node, size: int, outputs: int) -> Tensor:
    """(kernel, size), 1.0 where a tap of the kernel falls on a place of the input for one of the outputs on an axis."""
    kernel, stride, padding, dilation = map(node.integer, ("kernel", "stride", "padding", "dilation"))
    first = stride * torch.arange(outputs) - padding
    places = first + dilation * torch.arange(kernel)[:, None]
    return (places[:, :, None] == torch.arange(size)).any(1).double()
