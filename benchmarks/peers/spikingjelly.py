"""SpikingJelly's `LIFNode` in multi-step mode, the function it calls, and `FlexSN`, which makes a kernel from a step.

On a CUDA device the first two choose their implementation themselves: CUDA where the library was built with it, then
Triton, then torch. The surrogates used here are among those that its kernels know.
"""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor, nn

from evospike.bench.case import Absent, Peer, PeerNeuron

NAME = "spikingjelly"


class MultiStep(nn.Module):
    """`LIFNode` that starts anew at every call."""

    def __init__(self, surrogate: nn.Module) -> None:
        super().__init__()
        self.node = neuron.LIFNode(
            tau=2.0,
            decay_input=False,
            v_threshold=1.0,
            v_reset=0.0,
            surrogate_function=surrogate,
            detach_reset=True,
            step_mode="m",
        )

    def forward(self, current: Tensor) -> Tensor:
        self.node.reset()
        spikes: Tensor = self.node(current)
        return spikes


class Functional(nn.Module):
    """`functional.lif_multi_step`, which has no state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.surrogate = surrogate.Sigmoid()

    def forward(self, current: Tensor) -> Tensor:
        start = torch.zeros_like(current[0], dtype=torch.float32)
        spikes: Tensor
        spikes, _, _ = functional.lif_multi_step(
            current,
            start,
            tau=2.0,
            decay_input=False,
            v_threshold=1.0,
            v_reset=0.0,
            surrogate_function=self.surrogate,
            detach_reset=True,
        )
        return spikes


class Generated(nn.Module):
    """`FlexSN` of the same step that starts anew at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.node = neuron.FlexSN(core=_step, num_states=1, step_mode="m")

    def forward(self, current: Tensor) -> Tensor:
        self.node.reset()
        spikes: Tensor = self.node(current)
        return spikes


def _step(current: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    u = 0.5 * v + current
    spikes = surrogate.sigmoid.apply(u - 1.0, 4.0)
    return spikes, u * (1.0 - spikes.detach())


def _compiled(layer: nn.Module) -> nn.Module:
    # A layer of every shape is compiled for itself; beyond the limit PyTorch would silently stop compiling.
    return torch.compile(layer, dynamic=False, recompile_limit=64)


def _peer() -> Peer:
    return Peer(
        NAME,
        version("spikingjelly"),
        (
            PeerNeuron("multi-step", lambda steps: MultiStep(surrogate.Sigmoid())),
            PeerNeuron("multi-step, triangle", lambda steps: MultiStep(surrogate.PiecewiseQuadratic(alpha=1.0))),
            PeerNeuron("multi-step, compiled", lambda steps: _compiled(MultiStep(surrogate.Sigmoid())), quick=False),
            PeerNeuron("functional, compiled", lambda steps: _compiled(Functional()), quick=False),
            PeerNeuron("FlexSN", lambda steps: Generated(), devices=("cuda",)),
        ),
        dynamics="spikes at the threshold too, not only above it",
    )


try:
    from spikingjelly.activation_based import functional, neuron, surrogate
except ImportError as error:
    PEER: Peer | Absent = Absent(NAME, NAME, f"not installed: {error}")
else:
    PEER = _peer()
