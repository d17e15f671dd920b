"""A trained network, changed so that it only runs, and runs faster: the same scores up to rounding.

A batch norm is folded into the convolution in front of it where nothing else reads that convolution and the edge has
neither sign nor delay; its node passes its input on. Behind a sum, a pool or a convolution with other readers it stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from evospike.core.settings import convert
from evospike.layers.inference import InferenceNeuron, fold_norm
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.models.network import Network
from evospike.models.spec import INPUT
from evospike.neurons.fused import compiler_available
from evospike.neurons.settings import Path


class InferenceNetwork(Network):
    """A copy of a network for inference: norms folded, neurons that keep nothing, weights channels last, no gradients.

    forward, predict and observer: as in `Network`. It is always in eval mode, whatever mode is asked for. Layers that
    generate their weights are taken as they are; `jobs.inference.for_inference` stores these first.
    path: of the neurons. compiled: the whole forward pass is one compiled program for each kind of input (on a CUDA
    device replayed as a CUDA graph); not while an observer or a hook watches. Where there is no compiler, neurons run
    eagerly and `compiled` is False.
    """

    def __init__(self, net: Network, *, path: Path = "eager", compiled: bool = False) -> None:
        convert(path, Path, "path")
        super().__init__(net.spec, net.steps)
        for name, module in list(copy.deepcopy(net).named_children()):
            self.add_module(name, module)
        for name, convolution, norm in list(self._foldable()):
            fold_norm(convolution, norm)
            self.set_submodule(name, nn.Identity())
        compiles = compiler_available(str(next(net.parameters()).device))
        for name, module in list(self.named_modules()):
            if type(module) in (SpikingNeuron, InferenceNeuron):
                self.set_submodule(name, InferenceNeuron(module, path if compiles else "eager"))
        self.compiled = compiled and compiles
        self._program: Callable[[Network, Tensor], Tensor] | None = None
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if not self.compiled or self._is_watched():
            return super().forward(x)
        if self._program is None:
            self._program = _compile(f"{id(self):x}", graphs=x.is_cuda)
        scores = self._program(self, x)
        return scores.clone() if x.is_cuda else scores  # the next replay of a CUDA graph writes where this one did

    def train(self, mode: bool = True) -> InferenceNetwork:
        """Stays in eval mode."""
        super().train(False)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}  # a copy compiles its own

    def _is_watched(self) -> bool:
        inner = (module for module in self.modules() if module is not self)
        return self.observer is not None or any(part._forward_hooks or part._forward_pre_hooks for part in inner)

    def _foldable(self) -> Iterator[tuple[str, nn.Conv2d, TimeBatchNorm2d]]:
        """Norms that can be folded, by name, each with the convolution that takes it in."""
        for node in self.spec.nodes:
            edge, norm = node.inputs[0], self.get_submodule(node.name)
            alone = edge.source != INPUT and len(self.spec.readers(edge.source)) == 1
            if isinstance(norm, TimeBatchNorm2d) and alone and not (edge.sign or edge.delay):
                source = self.get_submodule(edge.source)
                if isinstance(source, nn.Conv2d):
                    yield node.name, source, norm


def _compile(label: str, *, graphs: bool) -> Callable[[Network, Tensor], Tensor]:
    """The forward pass of one network as a compiled function. graphs: replay it as a CUDA graph.

    PyTorch counts recompilations per code object and gives up after eight: each network has one of its own.
    """

    def forward(net: Network, x: Tensor) -> Tensor:
        return Network.forward(net, x)

    own = FunctionType(forward.__code__.replace(co_name=f"forward_{label}"), globals())
    return torch.compile(own, mode="reduce-overhead" if graphs else None)
