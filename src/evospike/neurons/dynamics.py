"""Integrate-and-fire dynamics: tensors in, tensors out, no hidden state.

`step` is one time step, written for reading; `multi_step` runs T steps at once through one autograd function whose
forward and backward are plain tensor functions, run as they are (`eager`) or compiled (`fused`). All three compute

    u[t] = decay * v[t-1] + I[t]                              charge
    s[t] = 1 if u[t] > threshold else 0                       fire, strictly above
    v[t] = u[t] * (1 - s[t])   or   u[t] - threshold * s[t]   hard or soft reset

which is methods 1.2, form A. With tau = 2 and threshold 0.5 BrainCog's form B gives the same spikes.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from evospike.core.errors import ShapeError
from evospike.neurons import eager, fused
from evospike.neurons.settings import NeuronSettings, Path
from evospike.neurons.surrogate import slope


class _Spike(torch.autograd.Function):
    """Heaviside step with a surrogate derivative; the readable twin of the backward below."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, neuron: NeuronSettings) -> Tensor:
        ctx.save_for_backward(u)
        ctx.neuron = neuron
        return (u > neuron.threshold).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grad * slope(u, ctx.neuron), None


def step(current: Tensor, v: Tensor, neuron: NeuronSettings, decay: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One step of an integrate-and-fire layer: spikes in {0, 1} and the potential after reset.

    Shapes: current and v (batch, *features), both results the same. decay: a scalar tensor that overrides the
    settings' decay (plif). Units: current, v and threshold share one unit.
    Raises: ShapeError when current and v differ in shape. Source: methods 1.2 form A.
    """
    if current.shape != v.shape:
        raise ShapeError(
            f"current has shape {tuple(current.shape)} but the state has {tuple(v.shape)}; they must be equal"
        )
    u = v * (neuron.step_decay if decay is None else decay) + current
    s: Tensor = _Spike.apply(u, neuron)  # type: ignore[no-untyped-call]
    reset = s.detach() if neuron.detach_reset else s
    return s, (u * (1 - reset) if neuron.reset == "hard" else u - neuron.threshold * reset)


def multi_step(
    current: Tensor,
    v: Tensor | None,
    neuron: NeuronSettings,
    *,
    steps: int | None = None,
    decay: Tensor | None = None,
    path: Path = "eager",
) -> tuple[Tensor, Tensor]:
    """T steps at once: spikes (T, *shape) and the potential after the last reset (*shape).

    current: (T, *shape), or (1, *shape) with `steps=T` for a current that is the same at every step.
    v: potential before the first step, (*shape), or None for zero. decay: scalar tensor for a learned decay.
    path: `eager`, or `fused` for the compiled twin; both differentiate by back-propagation through time with the
    settings' surrogate. Not twice differentiable. Raises: ShapeError when state or steps do not fit, or for whole
    numbers, which no factor can decay.
    """
    if not current.is_floating_point():
        raise ShapeError(f"a current is of floating-point numbers, given {current.dtype}; convert it with .float()")
    total = current.shape[0] if steps is None else steps
    if current.shape[0] not in (1, total):
        raise ShapeError(f"current has {current.shape[0]} steps, expected {total} or 1")
    if total < 1:
        raise ShapeError(f"neurons run for at least 1 step, given {total}")
    if v is not None and v.shape != current.shape[1:]:
        raise ShapeError(
            f"current has shape {tuple(current.shape[1:])} a step but the state has {tuple(v.shape)}; "
            "they must be equal"
        )
    order = _memory_order(current)
    rows = current.permute(0, *order).reshape(current.shape[0], -1).expand(total, -1)
    start = None if v is None else v.permute([d - 1 for d in order]).reshape(-1)
    factor = torch.full((), neuron.step_decay, dtype=current.dtype, device=current.device) if decay is None else decay
    spikes, last = _MultiStep.apply(rows, start, factor, neuron, path)  # type: ignore[no-untyped-call]
    sizes = [current.shape[d] for d in order]
    back = [order.index(d) for d in range(1, current.dim())]
    return (
        spikes.view(total, *sizes).permute(0, *(b + 1 for b in back)),
        last.view(sizes).permute(back),
    )


def _memory_order(current: Tensor) -> list[int]:
    """Dimensions after time from the outermost in memory to the innermost, so that flattening them is a view."""
    strides = current.stride()
    return sorted(range(1, current.dim()), key=lambda d: (-strides[d], d))


class _MultiStep(torch.autograd.Function):
    """T steps over rows (T, N) in one node of the autograd graph; keeps only the potentials before reset."""

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v: Tensor | None, decay: Tensor, neuron: NeuronSettings, path: Path
    ) -> tuple[Tensor, Tensor]:
        charged, spikes, last = _ROWS[path].charge_and_fire(current, v, decay, neuron)
        ctx.save_for_backward(charged, v, decay)
        ctx.set_materialize_grads(False)
        ctx.neuron, ctx.path = neuron, path
        return spikes, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
        charged, v, decay = ctx.saved_tensors
        if grad_spikes is None:
            grad_spikes = torch.zeros_like(charged)
        rows = _ROWS[ctx.path]
        grad_current, grad_v = rows.back_through_time(charged, decay, grad_spikes, grad_last, ctx.neuron)
        grad_decay = _decay_gradient(charged, v, grad_current, ctx.neuron) if ctx.needs_input_grad[2] else None
        return grad_current, grad_v if v is not None else None, grad_decay, None, None


def _decay_gradient(charged: Tensor, v: Tensor | None, grad_current: Tensor, neuron: NeuronSettings) -> Tensor:
    """du[t]/d decay = v[t-1]: the gradient by a learned decay, summed over steps and units."""
    spikes = (charged > neuron.threshold).to(charged.dtype)
    after = charged - charged * spikes if neuron.reset == "hard" else charged - neuron.threshold * spikes
    first = torch.zeros_like(after[0]) if v is None else v
    return (grad_current * torch.cat([first.unsqueeze(0), after[:-1]])).sum()


_ROWS: dict[Path, ModuleType] = {"eager": eager, "fused": fused}
