"""Batch norm over the samples of all processes that train one network together, each on its part of the batch.

Each process gives a row of numbers per channel and gets all rows; so all compute the same statistics, to the bit. Their
gradient is that of the loss that the processes' losses add up to: what a normalised value does to the statistics, it
does to the values of every process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from evospike.core.errors import RunError


class PeerLost(RunError):
    """Another process of a training ended, or does not answer any more. reason: how that was noticed."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"another process of this training ended or does not answer ({reason}); start them again, with: resume RUN"
        )


@contextmanager
def answered() -> Iterator[None]:
    """Around an exchange between processes. Raises: PeerLost where it fails."""
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).partition(". ")[0]) from None


def add_up(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum over all processes, in place. Raises: PeerLost."""
    with answered():
        dist.all_reduce(tensor, group=group)
    return tensor


def of_every(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The tensors of all processes, (processes, ...). Raises: PeerLost."""
    found = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
    with answered():
        dist.all_gather(found, tensor, group=group)
    return torch.stack(found)


class Statistics(NamedTuple):
    """Of each channel, over all processes: mean and biased variance (C,). values: of a channel in all, a scalar tensor,
    at least as many as there are processes."""

    mean: Tensor
    variance: Tensor
    values: Tensor
    group: dist.ProcessGroup


@torch.no_grad()
def statistics(x: Tensor, group: dist.ProcessGroup) -> Statistics:
    """Mean and variance of each channel of (N, C, H, W) over all processes, float32 at least. Raises: PeerLost."""
    wide = x if x.dtype == torch.float64 else x.float()
    mean, variance = _own_statistics(wide)
    count = torch.full((1,), x.numel() // x.shape[1], dtype=torch.float64, device=x.device)
    rows = of_every(torch.cat([count, mean.double(), variance.double()]), group)
    counts, means, variances = rows[:, :1], *rows[:, 1:].chunk(2, dim=1)
    total = counts.sum()
    centre = (counts * means).sum(0) / total
    spread = (counts * (variances + (means - centre).square())).sum(0) / total
    return Statistics(centre.to(wide.dtype), spread.to(wide.dtype), total, group)


def _own_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    if x.device.type == "cpu":  # several times as fast there, channels last
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        return mean, variance
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    return mean, variance


def normalised(x: Tensor, gain: Tensor, bias: Tensor, found: Statistics, eps: float) -> Tensor:
    """gain (x - mean) / sqrt(variance + eps) + bias, differentiable through the statistics found of x."""
    y: Tensor = _Normalised.apply(x, gain, bias, found, eps)  # type: ignore[no-untyped-call]
    return y


def gradients(grad: Tensor, x: Tensor, gain: Tensor, found: Statistics, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by x, gain and bias, from the one by what `normalised` gave. Raises: PeerLost.

    Those by gain and bias are of this process's values; as every parameter's, they are still to be added up.
    """
    grad_x, grad_gain, grad_bias = torch.ops.aten.native_batch_norm_backward(
        grad, x, gain, found.mean, found.variance, None, None, False, eps, [True, True, True]
    )
    by_gain, by_bias = add_up(torch.stack([grad_gain, grad_bias]), found.group)
    inverse = (found.variance + eps).rsqrt()
    slope = gain * inverse.square() * by_gain / found.values
    offset = gain * inverse * by_bias / found.values - slope * found.mean
    grad_x.sub_(_per_channel(offset)).sub_(x * _per_channel(slope))
    return grad_x, grad_gain, grad_bias


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, found: Statistics, eps: float) -> Tensor:
        ctx.save_for_backward(x, gain)
        ctx.found, ctx.eps = found, eps
        return torch.nn.functional.batch_norm(x, found.mean, found.variance, gain, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gain = ctx.saved_tensors
        return *gradients(grad, x, gain, ctx.found, ctx.eps), None, None


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
