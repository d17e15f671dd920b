"""The neuron alone: forward and backward over currents (T, B, 64, 32, 32), the largest of VGG-small."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from evospike.bench.case import Absent, Case, Circumstances, Contestant
from evospike.bench.cases import networks
from evospike.bench.cases.networks import Entrant
from evospike.bench.timing import timed

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = (64, 32, 32)
SEED = 0


def of_steps(steps: int, circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Neurons over so many steps."""
    return contestants((steps, networks.batch_of(circumstances, 32), *FEATURES), circumstances)


def contestants(shape: tuple[int, ...], circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Everyone's neurons over currents of one shape (T, B, ...), in milliseconds."""

    def prepare(entrant: Entrant) -> Callable[[], float]:
        return timed(forward_and_backward(entrant, shape, circumstances.device), circumstances.device)

    return networks.as_contestants(entrants(circumstances), prepare)


def entrants(circumstances: Circumstances) -> Iterator[Entrant | Absent]:
    """Whose neurons take part."""
    yield networks.ours("evospike eager", "eager", circumstances.device, "contiguous")
    yield networks.ours("evospike fused", "fused", circumstances.device, "contiguous")
    yield networks.relu_entrant("relu", "contiguous")
    for entrant in networks.peer_entrants(circumstances.peers, circumstances.device, quick=circumstances.quick):
        yield replace(entrant, layout="contiguous") if isinstance(entrant, Entrant) else entrant


def forward_and_backward(entrant: Entrant, shape: tuple[int, ...], device: str) -> Callable[[], tuple[Tensor, Tensor]]:
    """Spikes of normal currents (T, B, ...), and the gradient by the currents for a normal gradient by the spikes."""
    import torch

    from evospike.bench.cases.running import neuron_layer
    from evospike.core.rng import torch_stream

    layer = neuron_layer(entrant, shape[0]).to(device)
    draws = torch_stream(SEED, "bench", "currents")
    current = torch.randn(shape, generator=draws).to(device).requires_grad_()
    by_spikes = torch.randn(shape, generator=draws).to(device)

    def run() -> tuple[Tensor, Tensor]:
        spikes, _ = layer(current)
        (gradient,) = torch.autograd.grad(spikes, current, by_spikes)
        return spikes.detach(), gradient

    return run


CASES: tuple[Case, ...] = tuple(
    Case(
        f"neuron-T{steps}",
        "Neuron alone",
        f"forward and backward of one neuron layer, T={steps}, batch 32 (quick: 8), 64x32x32",
        "ms",
        "relu",
        functools.partial(of_steps, steps),
        quick=steps == 4,
    )
    for steps in (2, 4, 8, 16)
)
