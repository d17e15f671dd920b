"""Norse's `LIFBox` step, the neuron without a synaptic current, over time by its `SNN` module.

Its potential decays towards the current, v += (x - v) / 2; in units in which the threshold is one half, that is our
potential. The state that it would make by itself takes part in the gradient, at the cost of a sum over the layer; one
that does not is handed to it. Its reset is given without the spikes' gradient.
"""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor, nn

from evospike.bench.case import Absent, Peer, PeerNeuron

NAME = "norse"


class OverTime(nn.Module):
    """`lif_box_feed_forward_step` over all steps from a potential of zero."""

    def __init__(self) -> None:
        super().__init__()
        constants = LIFBoxParameters(
            tau_mem_inv=torch.as_tensor(0.5), v_th=torch.as_tensor(0.5), reset_method=_reset_without_gradient
        )
        self.node = SNN(lif_box_feed_forward_step, _start, constants, dt=1.0)

    def forward(self, current: Tensor) -> Tensor:
        spikes: Tensor = self.node(current, _start(current))[0]
        return spikes


def _start(current: Tensor) -> LIFBoxFeedForwardState:
    return LIFBoxFeedForwardState(v=torch.zeros((), dtype=current.dtype, device=current.device))


def _reset_without_gradient(spikes: Tensor, v: Tensor, reset: Tensor, threshold: Tensor) -> Tensor:
    after: Tensor = reset_value(spikes.detach(), v, reset, threshold)
    return after


def _compiled(layer: nn.Module) -> nn.Module:
    # A layer of every shape is compiled for itself; beyond the limit PyTorch would silently stop compiling.
    return torch.compile(layer, dynamic=False, recompile_limit=64)


def _peer() -> Peer:
    return Peer(
        NAME,
        version("norse"),
        (
            PeerNeuron("LIFBox", lambda steps: OverTime()),
            PeerNeuron("LIFBox, compiled", lambda steps: _compiled(OverTime()), quick=False),
        ),
        dynamics="charges by (x - v) / 2 against a threshold of 0.5: the same spikes",
    )


try:
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters, lif_box_feed_forward_step
    from norse.torch.functional.reset import reset_value
    from norse.torch.module.snn import SNN
except ImportError as error:
    PEER: Peer | Absent = Absent(NAME, NAME, f"not installed: {error}")
else:
    PEER = _peer()
