"""Inference by sparse kernels on a CPU, layer by layer where they are really faster.

A masked layer becomes one product of PyTorch's CSR matrix with its input; a convolution unfolds its input first. Which
layers gain depends on density, shape, batch and machine (`benchmarks/sparse_inference.py`): large linear layers and
convolutions of many channels on small images do at 10 %, convolutions on large images do not. So every layer is timed
on an input of the kind it will see, and stays as it is unless the sparse kernel wins.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evospike.layers.weights import weighted_layers

Net = TypeVar("Net", bound=nn.Module)

LEAST_GAIN = 1.1
"""A layer is replaced when the sparse kernel takes at most 1 / 1.1 of the dense one's time."""

REPETITIONS = 9


class CsrLinear(nn.Module):
    """A linear layer, (..., C_i) to (..., C_o), with a CSR weight; for inference only."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", _csr(like.weight))
        self.register_buffer("bias", None if like.bias is None else like.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = (self.weight @ x.flatten(0, -2).T).T.unflatten(0, x.shape[:-1])
        return y if self.bias is None else y + self.bias


class CsrConv2d(nn.Module):
    """A convolution, (B, C_i, H, W) to (B, C_o, H', W'), as CSR weight times unfolded input; for inference only."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, like: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", _csr(like.weight.flatten(1)))
        self.register_buffer("bias", None if like.bias is None else like.bias.detach().clone())
        self.kernel, self.stride, self.dilation = like.kernel_size, like.stride, like.dilation
        self.padding = tuple(int(side) for side in like.padding)

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(x, self.kernel, self.dilation, self.padding, self.stride)
        y = self.weight @ columns.permute(1, 0, 2).flatten(1)
        height, width = (self._length(x.shape[2 + axis], axis) for axis in (0, 1))
        y = y.view(-1, x.shape[0], height, width).transpose(0, 1)
        return y if self.bias is None else y + self.bias[:, None, None]

    def _length(self, size: int, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (size + 2 * self.padding[axis] - reach) // self.stride[axis] + 1


@dataclass(frozen=True)
class Choice:
    """What was measured of a masked layer: milliseconds of one call by its dense and by a sparse kernel."""

    name: str
    dense_ms: float
    sparse_ms: float

    @property
    def sparse(self) -> bool:
        """Whether the sparse kernel was taken."""
        return self.dense_ms >= LEAST_GAIN * self.sparse_ms


@torch.no_grad()
def with_sparse_kernels(net: Net, x: Tensor) -> tuple[Net, list[Choice]]:
    """A copy of a masked network in eval mode that runs by sparse kernels where these are faster here, and the times.

    x: an input as it will be given, on the CPU; latencies are those of its batch size and of the threads in use.
    Outputs are those of the network up to rounding. Layers that generate their weights stay; materialise a genetic
    network first.
    """
    fast = copy.deepcopy(net).eval()
    inputs = _inputs_of_layers(fast, x)
    choices = []
    for name, layer in list(weighted_layers(fast)):
        twin = _csr_twin(layer)
        if twin is None or name not in inputs:
            continue
        choice = Choice(name, *_milliseconds(_run(layer, inputs[name]), _run(twin, inputs[name])))
        choices.append(choice)
        if choice.sparse:
            fast.set_submodule(name, twin)
    return fast, choices


def _inputs_of_layers(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What every layer reads last when the network runs once."""
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            seen[name] = arguments[0]

        return look

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in weighted_layers(net)]
    try:
        net(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _csr_twin(layer: nn.Module) -> nn.Module | None:
    """The layer by a sparse kernel; None for one without a mask or of a form that has none."""
    if getattr(layer, "mask", None) is None:
        return None
    if isinstance(layer, nn.Linear):
        return CsrLinear(layer)
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        return None if isinstance(layer.padding, str) else CsrConv2d(layer)
    return None


def _csr(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return weight.detach().float().to_sparse_csr()


def _run(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    return lambda: layer(x)


def _milliseconds(*runs: Callable[[], Tensor]) -> list[float]:
    """Median time of each run, measured in turns."""
    for run in runs:
        run()
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPETITIONS):
        for run, own in zip(runs, times, strict=True):
            started = time.perf_counter()
            run()
            own.append(1e3 * (time.perf_counter() - started))
    return [median(own) for own in times]
