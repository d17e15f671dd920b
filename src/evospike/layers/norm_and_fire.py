"""Batch norm over time and the neurons behind it as one function, compiled: normalise, charge and fire in one pass.

Kept for the backward pass are the norm's input and a few numbers per channel; the potentials are computed again, from
the same numbers by the same operations. Beside a norm and a neuron that are run one after the other that saves two of
six passes over memory forward, one of five backward, and one of the two tensors that are kept.

Tensors are seen as (T, A, C, S): T steps, C channels, and what lies outside and inside the channels in memory, (B, H*W)
when channels come first and (B*H*W, 1) when they come last. One compilation serves every layer of either layout.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.neurons.fused import call, charged_and_fired, compile_alone, gradients
from evospike.neurons.settings import NeuronSettings

_ALL_BUT_CHANNELS = (0, 1, 3)


def can_join(norm: nn.Module, neuron: nn.Module) -> bool:
    """Whether `normalise_and_fire` computes what the two modules do now: in training, on the fused path, unwatched."""
    return (
        type(norm) is TimeBatchNorm2d
        and type(neuron) is SpikingNeuron
        and neuron.path == "fused"
        and norm.training
        and not norm.stepwise
        and not (_is_watched(norm) or _is_watched(neuron))
    )


def _is_watched(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def normalise_and_fire(x: Tensor, norm: TimeBatchNorm2d, neuron: SpikingNeuron, steps: int, *, timed: bool) -> Tensor:
    """Spikes (T*B, C, H, W) of neurons that start at zero, behind a batch norm with statistics of this batch.

    x: (T*B, C, H, W) when `timed`, else (B, C, H, W), shown at every step: the statistics are then those of the
    repeated tensor, as in `TimeBatchNorm2d`. The norm's running statistics move. Same layout out as in.
    Raises: ValueError, as a batch norm does, for a single value per channel.
    """
    rows = _as_rows(x, steps if timed else 1)
    mean, variance = call(_statistics(rows.shape[3] == 1), rows)
    _track(norm, mean, variance, x.numel() // x.shape[1], repeats=1 if timed else steps)
    decay = neuron.decay(mean)
    constants = _Constants(neuron.neuron, steps, neuron.decay_logit is not None)
    spikes: Tensor = _NormaliseAndFire.apply(  # type: ignore[no-untyped-call]
        rows, norm.weight, norm.bias, decay, mean, variance + norm.eps, constants
    )
    return _as_images(spikes, x)


class _Constants(NamedTuple):
    """What a compilation is for, beside shapes and types. learns_decay: the gradient by the decay is wanted."""

    neuron: NeuronSettings
    steps: int
    learns_decay: bool


def _as_rows(x: Tensor, steps: int) -> Tensor:
    """(steps*B, C, H, W) -> (steps, A, C, S), a view unless memory is in neither order."""
    channels = x.shape[1]
    if _channels_last(x):
        return x.permute(0, 2, 3, 1).reshape(steps, -1, channels, 1)
    return x.reshape(steps, x.shape[0] // steps, channels, -1)


def _as_images(rows: Tensor, like: Tensor) -> Tensor:
    """(T, A, C, S) -> (T*B, C, H, W), in the layout of `like`."""
    _, channels, height, width = like.shape
    if _channels_last(like):
        return rows.view(-1, height, width, channels).permute(0, 3, 1, 2)
    return rows.view(-1, channels, height, width)


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


@torch.no_grad()
def _track(norm: TimeBatchNorm2d, mean: Tensor, variance: Tensor, values: int, *, repeats: int) -> None:
    """Move the running statistics. values: in each channel, of a tensor that is seen `repeats` times."""
    values *= repeats
    if values == 1:
        raise ValueError("a batch norm in training needs more than 1 value per channel; give a larger batch")
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_((variance * (values / (values - 1))).to(norm.running_var.dtype), share)


class _NormaliseAndFire(torch.autograd.Function):
    """Rows (T|1, A, C, S) -> spikes (T, A, C, S).

    mean, variance: those of the rows, (C,); the variance has its epsilon.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        gain: Tensor,
        bias: Tensor,
        decay: Tensor,
        mean: Tensor,
        variance: Tensor,
        constants: _Constants,
    ) -> Tensor:
        inverse = variance.rsqrt()
        scale = gain * inverse
        shift = bias - mean * scale
        ctx.save_for_backward(rows, scale, shift, decay, mean, inverse)
        ctx.constants = constants
        spikes: Tensor = call(_forward(constants, rows.shape[0], rows.shape[3] == 1), rows, scale, shift, decay)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        rows, scale, shift, decay, mean, inverse = ctx.saved_tensors
        inner = rows.shape[3] == 1
        grad, total, along, by_decay = call(
            _backward(ctx.constants, rows.shape[0], inner), rows, scale, shift, mean, decay, grad_spikes.contiguous()
        )
        values = rows.numel() // rows.shape[2]
        grad_rows = call(
            _through_statistics(inner), grad, rows, scale, mean, total / values, along * inverse.square() / values
        )
        grad_decay = by_decay.sum() if ctx.constants.learns_decay else None
        return grad_rows, along * inverse, total, grad_decay, None, None, None


@functools.cache
def _statistics(channels_last: bool) -> Callable[..., Any]:
    def statistics(rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each channel."""
        rows = _wide(rows)
        values = rows.numel() // rows.shape[2]
        mean = rows.sum(_ALL_BUT_CHANNELS) / values
        return mean, (rows - mean[:, None]).square().sum(_ALL_BUT_CHANNELS) / values

    return _compile(statistics, channels_last)


@functools.cache
def _forward(constants: _Constants, shown: int, channels_last: bool) -> Callable[..., Any]:
    def forward(rows: Tensor, scale: Tensor, shift: Tensor, decay: Tensor) -> Tensor:
        _, spikes, _ = _fired(rows, scale, shift, decay, constants)
        return torch.stack(spikes).to(rows.dtype)

    return _compile(forward, channels_last, constants.steps, shown)


@functools.cache
def _backward(constants: _Constants, shown: int, channels_last: bool) -> Callable[..., Any]:
    def backward(
        rows: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, decay: Tensor, grad_spikes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Gradient by the normalised rows; by channel its sum, its sum along the centred rows, that by the decay."""
        charged, spikes, _ = _fired(rows, scale, shift, decay, constants)
        grads, _ = gradients(charged, decay, _wide(grad_spikes).unbind(0), None, constants.neuron)
        by_decay = _by_decay(charged, spikes, grads, constants.neuron) if constants.learns_decay else None
        grad = torch.stack(grads)
        if rows.shape[0] == 1:
            grad = grad.sum(0, keepdim=True)
        centred = _wide(rows) - mean[:, None]
        return grad, grad.sum(_ALL_BUT_CHANNELS), (grad * centred).sum(_ALL_BUT_CHANNELS), by_decay

    return _compile(backward, channels_last, constants.steps, shown)


@functools.cache
def _through_statistics(channels_last: bool) -> Callable[..., Any]:
    def through_statistics(
        grad: Tensor, rows: Tensor, scale: Tensor, mean: Tensor, offset: Tensor, along: Tensor
    ) -> Tensor:
        """Gradient by the rows: less what mean and variance take of it."""
        centred = _wide(rows) - mean[:, None]
        return ((grad - offset[:, None] - centred * along[:, None]) * scale[:, None]).to(rows.dtype)

    return _compile(through_statistics, channels_last)


def _fired(
    rows: Tensor, scale: Tensor, shift: Tensor, decay: Tensor, constants: _Constants
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    currents = [row * scale[:, None] + shift[:, None] for row in _wide(rows).unbind(0)]
    shown = currents * constants.steps if len(currents) == 1 else currents
    return charged_and_fired(shown, None, decay, constants.neuron)


def _by_decay(charged: list[Tensor], spikes: list[Tensor], grads: list[Tensor], neuron: NeuronSettings) -> Tensor:
    """Gradient by a learned decay, by channel: that of each step times the potential that the one before left."""
    total = torch.zeros_like(charged[0])
    for u, s, grad in zip(charged, spikes, grads[1:], strict=False):
        total = total + grad * (u - u * s if neuron.reset == "hard" else u - neuron.threshold * s)
    return total.sum((0, 2))


def _wide(x: Tensor) -> Tensor:
    """In single precision at least."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _compile(function: Callable[..., Any], *labels: bool | int) -> Callable[..., Any]:
    assert isinstance(function, FunctionType)
    return compile_alone(function, "_".join(str(int(label)) for label in labels))
