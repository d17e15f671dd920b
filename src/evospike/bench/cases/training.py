"""Training steps: our network, ReLU and bare convolutions in its place, and peers' neurons in our graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from evospike.bench.case import Absent, Case, Circumstances, Contestant
from evospike.bench.cases import networks
from evospike.bench.cases.networks import Entrant, Workload
from evospike.bench.timing import timed

GROUP = "Training step"


def vgg_small(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Training steps of VGG-small."""
    batch = networks.batch_of(circumstances, 32)
    return contestants(Workload(networks.vgg_small(), batch, device=circumstances.device), circumstances)


def resnet19(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Training steps of ResNet-19."""
    batch = 128 if circumstances.device.startswith("cuda") else 8
    return contestants(Workload(networks.resnet19(), batch, device=circumstances.device), circumstances, large=True)


def contestants(
    workload: Workload, circumstances: Circumstances, *, large: bool = False
) -> Iterator[Contestant | Absent]:
    """Everyone's training step of one workload, in milliseconds."""
    from evospike.bench.cases.running import training_step

    def prepare(entrant: Entrant) -> Callable[[], float]:
        return timed(training_step(workload, entrant), workload.device)

    return networks.as_contestants(entrants(circumstances, large=large), prepare)


def entrants(circumstances: Circumstances, *, large: bool = False) -> Iterator[Entrant | Absent]:
    """Who takes part in a training step. large: peers run in one layout."""
    yield networks.ours("evospike eager", "eager", circumstances.device)
    yield networks.ours("evospike fused", "fused", circumstances.device)
    yield networks.ours("evospike fused, contiguous", "fused", circumstances.device, "contiguous")
    yield networks.relu_entrant()
    yield networks.relu_entrant("relu, contiguous", "contiguous")
    yield networks.convolutions_entrant()
    yield from networks.peer_entrants(
        circumstances.peers,
        circumstances.device,
        networks.peer_layouts(circumstances, large=large),
        quick=circumstances.quick,
    )


CASES: tuple[Case, ...] = (
    Case(
        "train-vgg-small",
        GROUP,
        "VGG-small (64-64-128-128-256-256), T=4, 32x32, batch 32 (quick: 8): forward, backward and optimiser step",
        "ms",
        "relu",
        vgg_small,
        repeats=9,
        quick_repeats=3,
    ),
    Case(
        "train-resnet19",
        GROUP,
        "ResNet-19, T=4, 32x32, batch 8 (128 on CUDA): forward, backward and optimiser step",
        "ms",
        "relu",
        resnet19,
        repeats=4,
        warmup=1,
        quick=False,
    ),
)
