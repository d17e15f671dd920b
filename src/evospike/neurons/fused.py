"""The dynamics over rows (T, N), compiled: one pass over memory each way.

The forward and the backward are two plain tensor functions; one compilation of each serves every layer and network of
the process with the same constants and number of steps. Cold, they take about 20 s to compile; PyTorch caches the
result on disk.
"""

from __future__ import annotations

import functools
import shutil
import sysconfig
from collections.abc import Callable
from types import FunctionType
from typing import Any, Literal

import torch
from torch import Tensor

from evospike.neurons.settings import NeuronSettings
from evospike.neurons.surrogate import slope


def charge_and_fire(
    current: Tensor, v: Tensor | None, decay: Tensor, neuron: NeuronSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Current (T, N) and state (N,), None for zero -> potentials before reset (T, N), spikes (T, N), last state."""
    return _run(_compiled("forward", neuron, len(current)), current.contiguous(), v, decay)  # type: ignore[no-any-return]


def back_through_time(
    charged: Tensor, decay: Tensor, grad_spikes: Tensor, grad_last: Tensor | None, neuron: NeuronSettings
) -> tuple[Tensor, Tensor]:
    """Gradients by current (T, N) and by the initial state (N,); `grad_last` None: the last state is not used."""
    run = _compiled("backward", neuron, len(charged))
    return _run(run, charged, decay, grad_spikes.contiguous(), grad_last)  # type: ignore[no-any-return]


def compiler_available() -> bool:
    """Whether torch.compile can find a C++ compiler for CPU code."""
    named = (sysconfig.get_config_var("CXX") or "").split(" ")[0]
    return any(shutil.which(name) for name in ("g++", "clang++", "c++", "cl", named) if name)


def _run(compiled: Callable[..., Any], *tensors: Tensor | None) -> Any:
    # detached, so that training and evaluation share one compilation
    plain = [None if tensor is None else tensor.detach() for tensor in tensors]
    for tensor in plain:
        if tensor is not None and tensor.dim():
            torch._dynamo.maybe_mark_dynamic(tensor, tensor.dim() - 1)
    return compiled(*plain)


@functools.cache
def _compiled(direction: Literal["forward", "backward"], neuron: NeuronSettings, steps: int) -> Callable[..., Any]:
    def forward(current: Tensor, v: Tensor | None, decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _charge_and_fire(current, v, decay, neuron)

    def backward(
        charged: Tensor, decay: Tensor, grad_spikes: Tensor, grad_last: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return _back_through_time(charged, decay, grad_spikes, grad_last, neuron)

    function = forward if direction == "forward" else backward
    # PyTorch counts recompilations per code object and gives up after eight. Each set of constants and steps has a
    # code object of its own, so that a process may use any number of them.
    own = function.__code__.replace(co_name=f"{direction}_{steps}")
    return torch.compile(FunctionType(own, globals(), None, None, function.__closure__), fullgraph=True)


def _charge_and_fire(
    current: Tensor, v: Tensor | None, decay: Tensor, neuron: NeuronSettings
) -> tuple[Tensor, Tensor, Tensor]:
    charged, spikes = [], []
    for row in current.unbind(0):
        u = row.clone() if v is None else v * decay + row
        s = (u > neuron.threshold).to(u.dtype)
        v = u - u * s if neuron.reset == "hard" else u - neuron.threshold * s
        charged.append(u)
        spikes.append(s)
    assert v is not None
    return torch.stack(charged), torch.stack(spikes), v


def _back_through_time(
    charged: Tensor, decay: Tensor, grad_spikes: Tensor, grad_last: Tensor | None, neuron: NeuronSettings
) -> tuple[Tensor, Tensor]:
    slopes = slope(charged, neuron)
    spikes = (charged > neuron.threshold).to(charged.dtype)
    hard = neuron.reset == "hard"
    keep = 1 - spikes if hard else torch.ones_like(spikes)
    if not neuron.detach_reset:
        keep = keep - slopes * (charged if hard else neuron.threshold)
    grad_v, grads = grad_last, []
    for direct, k in zip(reversed((grad_spikes * slopes).unbind(0)), reversed(keep.unbind(0)), strict=True):
        grads.append(direct if grad_v is None else direct + k * grad_v)
        grad_v = grads[-1] * decay
    assert grad_v is not None
    return torch.stack(grads[::-1]), grad_v
