"""BrainCog's `LIFNode`, layer by layer: all steps of a layer in one call.

Its potential decays towards the current, v += (x - v) / 2, with a threshold of one half by default: in units in which
the threshold is 1 that is our potential. `braincog.base` imports vision and plotting libraries that its neurons do not
need; its modules are found without running that file.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from evospike.bench.case import Absent, Peer, PeerNeuron

NAME = "braincog"


class LayerByLayer(nn.Module):
    """`LIFNode` that starts anew at every call; it reads and gives (T*B, ...)."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.node = LIFNode(threshold=0.5, tau=2.0, step=steps, layer_by_layer=True)

    def forward(self, current: Tensor) -> Tensor:
        self.node.n_reset()
        spikes: Tensor = self.node(current.flatten(0, 1))
        return spikes.unflatten(0, current.shape[:2])


def _compiled(layer: nn.Module) -> nn.Module:
    # A layer of every shape is compiled for itself; beyond the limit PyTorch would silently stop compiling.
    return torch.compile(layer, dynamic=False, recompile_limit=64)


def _skip_package_file() -> None:
    """Make `braincog.base` a package whose modules can be imported, without running its own file."""
    found = find_spec("braincog")
    if "braincog.base" in sys.modules or found is None or found.origin is None:
        return
    package = ModuleType("braincog.base")
    package.__path__ = [str(Path(found.origin).with_name("base"))]
    sys.modules["braincog.base"] = package


def _peer() -> Peer:
    return Peer(
        NAME,
        version("braincog"),
        (
            PeerNeuron("layer by layer", LayerByLayer),
            PeerNeuron("layer by layer, compiled", lambda steps: _compiled(LayerByLayer(steps)), quick=False),
        ),
        dynamics="charges by (x - v) / 2 against a threshold of 0.5: the same spikes",
    )


try:
    _skip_package_file()
    from braincog.base.node.node import LIFNode
except ImportError as error:
    PEER: Peer | Absent = Absent(NAME, NAME, f"not installed: {error}")
else:
    PEER = _peer()
