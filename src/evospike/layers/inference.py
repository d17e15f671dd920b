"""What layers become in a network that is only run: a convolution with its batch norm in it, neurons that keep nothing.

Between training and inference the norm's statistics are constants, so that it is a scale and a shift of the channels
that the convolution can do itself: ``g (w * x + b - mean) / sqrt(var + eps) + c = (a w) * x + (a (b - mean) + c)`` with
``a = g / sqrt(var + eps)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from evospike.layers.spiking import SpikingNeuron
from evospike.neurons.fused import call, charged_and_fired, compile_alone
from evospike.neurons.settings import NeuronSettings, Path


@torch.no_grad()
def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Change a convolution, in place, so that it gives what it and the batch norm behind it gave in eval mode.

    Computed in double precision, kept in the weight's own. A weight that is zero stays zero, so a mask stays valid.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    before = 0.0 if conv.bias is None else conv.bias.double()
    shift = (before - norm.running_mean.double()) * scale + norm.bias.double()
    weight = conv.weight.double() * scale[:, None, None, None]
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)


class InferenceNeuron(SpikingNeuron):
    """The same neurons, which give spikes and last state and keep no potential for a backward pass.

    On the fused path they are one pass over memory, and traced by a compiler plain tensor operations, which it can join
    with their neighbours; on the eager path they are `SpikingNeuron`.
    """

    def __init__(self, like: SpikingNeuron, path: Path) -> None:
        super().__init__(like.neuron, path)
        self.decay_logit = like.decay_logit

    def forward(self, current: Tensor, state: Tensor | None = None, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """Current (T, B, ...), or (1, B, ...) with `steps=T` -> spikes (T, B, ...) and the last state (B, ...)."""
        total = current.shape[0] if steps is None else steps
        if torch.compiler.is_compiling():
            return _fired(current, state, self.decay(current), self.neuron, total)
        if self.path == "eager":
            return super().forward(current, state, steps)
        return self._in_one_pass(current, state, total)

    def _in_one_pass(self, current: Tensor, state: Tensor | None, steps: int) -> tuple[Tensor, Tensor]:
        moves = _channels_last(current)
        moved = current.movedim(2, -1) if moves else current
        start = state.movedim(1, -1) if moves and state is not None else state
        rows = moved.reshape(len(moved), -1).contiguous()
        run = _compiled(self.neuron, steps, len(rows))
        spikes, last = call(run, rows, None if start is None else start.reshape(-1), self.decay(current))
        spikes, last = spikes.view(steps, *moved.shape[1:]), last.view(moved.shape[1:])
        return (spikes.movedim(-1, 2), last.movedim(-1, 1)) if moves else (spikes, last)


def _channels_last(current: Tensor) -> bool:
    return current.dim() == 5 and current.stride(2) == 1 and current.shape[2] > 1


@functools.cache
def _compiled(neuron: NeuronSettings, steps: int, shown: int) -> Callable[..., Any]:
    def fire(rows: Tensor, v: Tensor | None, decay: Tensor) -> tuple[Tensor, Tensor]:
        return _fired(rows, v, decay, neuron, steps)

    assert isinstance(fire, FunctionType)
    return compile_alone(fire, f"{steps}_{shown}")


def _fired(
    current: Tensor, v: Tensor | None, decay: Tensor, neuron: NeuronSettings, steps: int
) -> tuple[Tensor, Tensor]:
    """Spikes of all steps and the last state. To be compiled."""
    shown = list(current.unbind(0)) * (steps // current.shape[0])
    _, spikes, last = charged_and_fired(shown, v, decay, neuron)
    return torch.stack(spikes), last
