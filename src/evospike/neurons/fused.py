"""The dynamics over rows (T, N), compiled: one pass over memory each way.

The forward and the backward are two plain tensor functions; one compilation of each serves every layer and network of
the process with the same constants and number of steps. Cold, they take about 20 s to compile; PyTorch caches the
result on disk.
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
import sysconfig
from collections.abc import Callable, Iterable, Sequence
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
    compiled = _compiled("forward", neuron, len(current))
    return call(compiled, current.contiguous(), v, decay)  # type: ignore[no-any-return]


def back_through_time(
    charged: Tensor, decay: Tensor, grad_spikes: Tensor, grad_last: Tensor | None, neuron: NeuronSettings
) -> tuple[Tensor, Tensor]:
    """Gradients by current (T, N) and by the initial state (N,); `grad_last` None: the last state is not used."""
    compiled = _compiled("backward", neuron, len(charged))
    return call(compiled, charged, decay, grad_spikes.contiguous(), grad_last)  # type: ignore[no-any-return]


def compiler_available(device: str = "cpu") -> bool:
    """Whether torch.compile can make code for a device: by a C++ compiler for a CPU, by Triton for a CUDA device."""
    if device.startswith("cuda"):
        return importlib.util.find_spec("triton") is not None
    named = (sysconfig.get_config_var("CXX") or "").split(" ")[0]
    return any(shutil.which(name) for name in ("g++", "clang++", "c++", "cl", named) if name)


def missing_compiler(device: str = "cpu") -> str:
    """What a device wants where `compiler_available` is False, and what to do."""
    return (
        "no Triton found; install triton"
        if device.startswith("cuda")
        else "no C++ compiler found; install g++ or clang++"
    )


def call(compiled: Callable[..., Any], *tensors: Tensor | None) -> Any:
    """Run what `compile_alone` gave. Every axis of a tensor but the first of several may have any length: (T, N), (C,).

    Tensors go in detached, so that training and evaluation share one compilation.
    """
    plain = [None if tensor is None else tensor.detach() for tensor in tensors]
    for tensor in plain:
        if tensor is not None:
            for axis in range(min(1, tensor.dim() - 1), tensor.dim()):
                torch._dynamo.maybe_mark_dynamic(tensor, axis)
    return compiled(*plain)


def compile_alone(function: FunctionType, label: str) -> Callable[..., Any]:
    """A function of plain tensors as one kernel, or an error: no part of it is left to the interpreter.

    PyTorch counts recompilations per code object and gives up after eight. What is compiled here has a code object of
    its own, with `label` in its name, so that a process may use any number of constants and steps.
    """
    own = function.__code__.replace(co_name=f"{function.__name__}_{label}")
    return torch.compile(FunctionType(own, function.__globals__, None, None, function.__closure__), fullgraph=True)


@functools.cache
def _compiled(direction: Literal["forward", "backward"], neuron: NeuronSettings, steps: int) -> Callable[..., Any]:
    def forward(current: Tensor, v: Tensor | None, decay: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        charged, spikes, last = charged_and_fired(current.unbind(0), v, decay, neuron)
        return torch.stack(charged), torch.stack(spikes), last

    def backward(
        charged: Tensor, decay: Tensor, grad_spikes: Tensor, grad_last: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        grads, grad_v = gradients(charged.unbind(0), decay, grad_spikes.unbind(0), grad_last, neuron)
        return torch.stack(grads), grad_v

    function = forward if direction == "forward" else backward
    assert isinstance(function, FunctionType)
    return compile_alone(function, str(steps))


def charged_and_fired(
    current: Iterable[Tensor], v: Tensor | None, decay: Tensor, neuron: NeuronSettings
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Step by step: potentials before reset, spikes, and the last state. To be compiled; `v` None starts at zero."""
    charged, spikes = [], []
    for row in current:
        u = row.clone() if v is None else v * decay + row
        s = (u > neuron.threshold).to(u.dtype)
        v = u - u * s if neuron.reset == "hard" else u - neuron.threshold * s
        charged.append(u)
        spikes.append(s)
    assert v is not None
    return charged, spikes, v


def gradients(
    charged: Sequence[Tensor],
    decay: Tensor,
    grad_spikes: Sequence[Tensor],
    grad_last: Tensor | None,
    neuron: NeuronSettings,
) -> tuple[list[Tensor], Tensor]:
    """Step by step, from the last: gradients by the currents, and by the initial state. To be compiled."""
    grad_v, grads = grad_last, []
    for u, direct in zip(reversed(charged), reversed(grad_spikes), strict=True):
        slopes = slope(u, neuron)
        grad = direct * slopes
        if grad_v is not None:
            grad = grad + _kept(u, slopes, neuron) * grad_v
        grads.append(grad)
        grad_v = grad * decay
    assert grad_v is not None
    return grads[::-1], grad_v


def _kept(u: Tensor, slopes: Tensor, neuron: NeuronSettings) -> Tensor:
    """Derivative of the potential after the reset by that before it."""
    hard = neuron.reset == "hard"
    keep = 1 - (u > neuron.threshold).to(u.dtype) if hard else torch.ones_like(u)
    return keep if neuron.detach_reset else keep - slopes * (u if hard else neuron.threshold)
