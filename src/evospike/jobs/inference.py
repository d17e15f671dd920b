"""A trained network for inference: generated weights stored, norms folded."""

from __future__ import annotations

import torch
from torch import nn

from evospike.core.errors import SpecError
from evospike.genetic.encode import materialise
from evospike.models.inference import InferenceNetwork
from evospike.models.network import Network
from evospike.neurons.settings import Path


def for_inference(
    net: nn.Module, *, path: Path = "eager", compiled: bool = False, device: str | torch.device | None = None
) -> InferenceNetwork:
    """A copy of a trained network that only runs: the scores of the network in eval mode up to rounding, sooner.

    Generated weights are formed once, batch norms are folded into the convolutions in front of them, and nothing is
    kept for a backward pass. Masks stay valid: what is zero stays zero. Give it images with channels last.
    path: `fused` compiles the neurons, once for all layers. compiled: the whole forward pass is compiled when it first
    sees an input of a kind (type, batch of one, a fixed or a varying batch), which takes seconds; on a CUDA device it
    is replayed as a CUDA graph. It pays most for small batches, where Python takes as long as the arithmetic (half the
    time for one digit); a large one is bound by its convolutions (1.1 to 1.2 times faster than a forward in training
    mode, `evospike bench infer-vgg-small`). Both run uncompiled where there is no compiler.
    device: to copy to; the network's own by default. Raises: SpecError for anything but a network of `build`.
    """
    if not isinstance(net, Network):
        raise SpecError(f"for_inference takes a network made by evospike.build, given {type(net).__name__}")
    stored = materialise(net)
    assert isinstance(stored, Network)
    return InferenceNetwork(stored, path=path, compiled=compiled).to(device)
