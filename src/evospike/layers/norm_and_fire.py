"""Batch norm over time and the neurons behind it as one function, compiled: normalise, charge and fire in one pass.

Kept for the backward pass are the norm's input and a few numbers per channel; the potentials are computed again, from
the same numbers by the same operations. A norm and a neuron one after the other keep the potentials, too, and write
them. Statistics and what the backward pass makes of them are PyTorch's own.

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

from evospike.layers import synchronised
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.layers.synchronised import Statistics
from evospike.neurons.fused import call, charged_and_fired, compile_alone, gradients
from evospike.neurons.settings import NeuronSettings


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
    repeats = 1 if timed else steps
    found = None
    if norm.group is None:
        mean, inverse = _statistics(x, norm, x.numel() // x.shape[1] * repeats)
    else:
        found = norm.statistics_over(norm.group, x, repeats)
        mean, inverse = found.mean, (found.variance + norm.eps).rsqrt()
    constants = _Constants(neuron.neuron, steps, steps // repeats, neuron.decay_logit is not None, norm.eps)
    spikes: Tensor = _NormaliseAndFire.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, norm.bias, neuron.decay(mean), mean, inverse, found, constants
    )
    return spikes


class _Constants(NamedTuple):
    """What a compilation is for. shown: steps that the input has, T or 1. learns_decay: its gradient is wanted."""

    neuron: NeuronSettings
    steps: int
    shown: int
    learns_decay: bool
    eps: float


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
def _statistics(x: Tensor, norm: TimeBatchNorm2d, values: int) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation of each channel; the running statistics move.

    values: in each channel, of the tensor as it is shown.
    """
    if values == 1:
        raise ValueError("a batch norm in training needs more than 1 value per channel; give a larger batch")
    _, mean, inverse = torch.native_batch_norm(x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    unbiased = (inverse.square().reciprocal() - norm.eps).clamp_min(0) * (values / (values - 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), share)
    return mean, inverse


class _NormaliseAndFire(torch.autograd.Function):
    """Images -> spikes; mean and inverse standard deviation (C,) are those of the images, over all processes if `found`
    says what was found over them."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gain: Tensor,
        bias: Tensor,
        decay: Tensor,
        mean: Tensor,
        inverse: Tensor,
        found: Statistics | None,
        constants: _Constants,
    ) -> Tensor:
        scale = gain * inverse
        shift = bias - mean * scale
        ctx.save_for_backward(x, gain, scale, shift, decay, mean, inverse)
        ctx.found, ctx.constants = found, constants
        rows = _as_rows(x, constants.shown)
        spikes: Tensor = call(_forward(constants, rows.shape[3] == 1), rows, scale, shift, decay)
        return _as_images(spikes, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, scale, shift, decay, mean, inverse = ctx.saved_tensors
        constants: _Constants = ctx.constants
        rows = _as_rows(x, constants.shown)
        layout = torch.channels_last if _channels_last(x) else torch.contiguous_format
        grad_rows = _as_rows(grad_spikes.contiguous(memory_format=layout), constants.steps)
        grad, by_decay = call(_backward(constants, rows.shape[3] == 1), rows, scale, shift, decay, grad_rows)
        images = _as_images(grad, x)
        if ctx.found is None:
            by_norm = torch.ops.aten.native_batch_norm_backward(
                images, x, gain, None, None, mean, inverse, True, constants.eps, [True, True, True]
            )
        else:
            by_norm = synchronised.gradients(images, x, gain, ctx.found, constants.eps)
        return *by_norm, None if by_decay is None else by_decay.sum(), None, None, None, None


@functools.cache
def _forward(constants: _Constants, channels_last: bool) -> Callable[..., Any]:
    def forward(rows: Tensor, scale: Tensor, shift: Tensor, decay: Tensor) -> Tensor:
        _, spikes, _ = _fired(rows, scale, shift, decay, constants)
        return torch.stack(spikes).to(rows.dtype)

    return _compile(forward, constants, channels_last)


@functools.cache
def _backward(constants: _Constants, channels_last: bool) -> Callable[..., Any]:
    def backward(
        rows: Tensor, scale: Tensor, shift: Tensor, decay: Tensor, grad_spikes: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Gradient by the normalised rows, and by channel that by the decay."""
        charged, spikes, _ = _fired(rows, scale, shift, decay, constants)
        grads, _ = gradients(charged, decay, _wide(grad_spikes).unbind(0), None, constants.neuron)
        by_decay = _by_decay(charged, spikes, grads, constants.neuron) if constants.learns_decay else None
        grad = torch.stack(grads) if constants.shown > 1 else sum(grads[1:], grads[0]).unsqueeze(0)
        return grad.to(rows.dtype), by_decay

    return _compile(backward, constants, channels_last)


def _fired(
    rows: Tensor, scale: Tensor, shift: Tensor, decay: Tensor, constants: _Constants
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    currents = [row * scale[:, None] + shift[:, None] for row in _wide(rows).unbind(0)]
    shown = currents * (constants.steps // constants.shown)
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


def _compile(function: Callable[..., Any], constants: _Constants, channels_last: bool) -> Callable[..., Any]:
    assert isinstance(function, FunctionType)
    return compile_alone(function, f"{constants.steps}_{constants.shown}_{'inner' if channels_last else 'outer'}")
