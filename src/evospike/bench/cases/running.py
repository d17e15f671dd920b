"""A workload's network as an entrant runs it: one training step, or one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from evospike.bench.cases.networks import Entrant, Layout, Workload
from evospike.core.rng import torch_stream
from evospike.jobs.inference import for_inference
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.models.build import build
from evospike.models.init import draw_stored
from evospike.models.network import Network
from evospike.neurons.settings import NeuronSettings, Path
from evospike.training.losses import mean_cross_entropy
from evospike.training.memory import saving
from evospike.training.settings import Activations

Form = Literal["training", "eval", "folded", "compiled"]
"""How a network is run forward: in training mode, in eval mode, for inference, and that compiled as a whole."""

SEED = 0


class StandIn(SpikingNeuron):
    """Any module over time in the place of a neuron layer; it starts anew at every call.

    The module treats every element alike, so channels-last images reach it as (T, B, H, W, C), which is contiguous:
    neither layout costs it a copy. A current of one step is shown to it T times.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__(NeuronSettings())
        self.inner = inner

    def forward(self, current: Tensor, state: Tensor | None = None, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """(T, B, ...) of current -> (T, B, ...) of output, and an empty state."""
        last = current.dim() == 5 and current[0].is_contiguous(memory_format=torch.channels_last)
        ordered = current.movedim(2, -1) if last else current
        output = self.inner(ordered.expand(steps or len(ordered), *ordered.shape[1:]))
        return (output.movedim(-1, 2) if last else output), current.new_empty(0)


def make_network(workload: Workload, entrant: Entrant) -> Network:
    """The workload's network as an entrant runs it; every entrant has the same weights."""
    net = build(workload.spec, steps=workload.steps, path=entrant.path)
    draw_stored(net, SEED)
    if not entrant.norms:
        _replace(net, TimeBatchNorm2d, nn.Identity)
    if entrant.inner is not None:
        _replace(net, SpikingNeuron, lambda: neuron_layer(entrant, workload.steps))
    placed: Network = net.to(device=workload.device, memory_format=memory_format(entrant.layout))  # type: ignore[call-overload]
    return placed


def neuron_layer(entrant: Entrant, steps: int) -> SpikingNeuron:
    """One layer of an entrant's neurons, or of what it has in their place."""
    if entrant.inner is None:
        return SpikingNeuron(NeuronSettings(), entrant.path)
    return StandIn(entrant.inner(steps))


def _replace(net: nn.Module, kind: type[nn.Module], make: Callable[[], nn.Module]) -> None:
    for name, module in list(net.named_modules()):
        if isinstance(module, kind):
            net.set_submodule(name, make())


def images(workload: Workload, layout: Layout) -> Tensor:
    """The batch (B, C, H, W) of normal values, the same for every entrant."""
    x = torch.randn(workload.batch, *workload.spec.input_shape, generator=torch_stream(SEED, "bench", "images"))
    return x.to(workload.device).contiguous(memory_format=memory_format(layout))


def labels(workload: Workload) -> Tensor:
    """Classes of the batch, (B,)."""
    generator = torch_stream(SEED, "bench", "labels")
    return torch.randint(workload.spec.classes, (workload.batch,), generator=generator).to(workload.device)


def memory_format(layout: Layout) -> torch.memory_format:
    """PyTorch's name of a layout."""
    return torch.channels_last if layout == "channels-last" else torch.contiguous_format


def precision(device: str) -> AbstractContextManager[None]:
    """Float32 on a CPU; on a CUDA device convolutions in bfloat16."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")


def training_step(workload: Workload, entrant: Entrant) -> Callable[[], Tensor]:
    """One training step of an entrant; see `training_step_of`."""
    net = make_network(workload, entrant)
    net.recompute_blocks = entrant.activations == "recomputed"
    return training_step_of(net, workload, entrant.layout, entrant.activations)


def training_step_of(
    net: nn.Module, workload: Workload, layout: Layout = "channels-last", activations: Activations = "kept"
) -> Callable[[], Tensor]:
    """One training step of any network on a workload's batch, as a function that gives the loss.

    Forward, cross-entropy of the scores averaged over time, backward, and SGD with momentum at rate 0: all the
    arithmetic of a step, and the same weights for the next. Gradients are released before it returns.
    """
    x, targets = images(workload, layout), labels(workload)
    optimiser = torch.optim.SGD(net.train().parameters(), lr=0.0, momentum=0.9, fused=True)

    def step() -> Tensor:
        with precision(workload.device), saving(activations):
            scores = net(x)
        loss = mean_cross_entropy(scores.float(), targets)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def forward_pass(workload: Workload, entrant: Entrant, form: Form) -> Callable[[], Tensor]:
    """The class scores (T, B, classes) of an entrant's network in one of its forms, without gradients.

    In eval mode the norms' statistics are those of the batch.
    """
    net, x = make_network(workload, entrant), images(workload, entrant.layout)
    if form != "training":
        _settle_statistics(net, x)
        net.eval()
    if form in ("folded", "compiled"):
        net = folded(net, entrant.path, compiled=form == "compiled")

    @torch.no_grad()
    def run() -> Tensor:
        with precision(workload.device):
            scores: Tensor = net(x)
        return scores

    return run


def folded(net: Network, path: Path, *, compiled: bool) -> Network:
    """The network for inference, with what stood in the place of its neurons there again."""
    result = for_inference(net, path=path, compiled=compiled)
    for name, module in net.named_modules():
        if isinstance(module, StandIn):
            result.set_submodule(name, module)
    return result


@torch.no_grad()
def _settle_statistics(net: Network, x: Tensor) -> None:
    for module in net.train().modules():
        if isinstance(module, TimeBatchNorm2d):
            module.momentum = None  # the plain average, which a single batch settles
    net(x)
