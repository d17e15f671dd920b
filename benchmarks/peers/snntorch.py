"""snnTorch's `Leaky`, stepped through time with its state handed over, as its documentation shows.

`reset_mechanism="zero"` with the reset of a spike before the next step's decay gives the spikes of an immediate reset.
"""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor, nn

from evospike.bench.case import Absent, Peer, PeerNeuron

NAME = "snntorch"


class Stepped(nn.Module):
    """`Leaky` over all steps from a potential of zero."""

    def __init__(self) -> None:
        super().__init__()
        self.node = snn.Leaky(beta=0.5, threshold=1.0, reset_mechanism="zero")

    def forward(self, current: Tensor) -> Tensor:
        spikes, potential = [], torch.zeros_like(current[0])
        for row in current:
            fired, potential = self.node(row, potential)
            spikes.append(fired)
        return torch.stack(spikes)


def _compiled(layer: nn.Module) -> nn.Module:
    # A layer of every shape is compiled for itself; beyond the limit PyTorch would silently stop compiling.
    return torch.compile(layer, dynamic=False, recompile_limit=64)


def _peer() -> Peer:
    return Peer(
        NAME,
        version("snntorch"),
        (
            PeerNeuron("stepped", lambda steps: Stepped()),
            PeerNeuron("stepped, compiled", lambda steps: _compiled(Stepped()), quick=False),
        ),
    )


try:
    import snntorch as snn
except ImportError as error:
    PEER: Peer | Absent = Absent(NAME, NAME, f"not installed: {error}")
else:
    PEER = _peer()
