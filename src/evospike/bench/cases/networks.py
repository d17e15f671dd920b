"""What the cases about networks share: workloads, and who takes part in them. Imports no torch.

Everyone computes the same graph, built from one specification with the same weights (`running`). What differs stands in
the place of our neuron layers: a ReLU, a peer's neuron, or nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from evospike.bench.case import LIMIT, OURS, Absent, Circumstances, Contestant, Peer, PeerNeuron, Setting
from evospike.models import presets
from evospike.models.spec import INPUT, NetworkSpec, SpecBuilder
from evospike.neurons.settings import Path
from evospike.training.settings import Activations

if TYPE_CHECKING:
    from torch import nn

Layout = Literal["channels-last", "contiguous"]
LAYOUTS: tuple[Layout, ...] = ("channels-last", "contiguous")

CLASSES = 10
IMAGE = (3, 32, 32)


@dataclass(frozen=True)
class Workload:
    """A network and the batch it is given. batch: images; each is shown for `steps` steps. device: `cpu`, `cuda:N`."""

    spec: NetworkSpec
    batch: int
    steps: int = 4
    device: str = "cpu"


@dataclass(frozen=True)
class Entrant:
    """One way to run a workload's network.

    path: of our own neurons. inner: makes, from the number of steps, what maps currents (T, B, ...) to outputs of that
    shape in the place of every neuron layer; None for our own neurons. norms: whether the network has its batch norms.
    activations: what back-propagation keeps, as in `training.settings`.
    """

    name: str
    by: str
    layout: Layout = "channels-last"
    path: Path = "eager"
    inner: Callable[[int], nn.Module] | None = None
    norms: bool = True
    activations: Activations = "kept"

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What tells it from the same tool's others."""
        common = {"layout": self.layout}
        return {**common, "path": self.path, "activations": self.activations} if self.by == OURS else common


def vgg_small(
    widths: tuple[int, ...] = (64, 64, 128, 128, 256, 256), image: tuple[int, int, int] = IMAGE
) -> NetworkSpec:
    """3x3 convolutions in pairs with an average pool between the pairs, a global pool and a classifier."""
    b = SpecBuilder("vgg-small", image, CLASSES)
    x = INPUT
    for i, width in enumerate(widths):
        if i and i % 2 == 0:
            x = b.node(f"conv{i}.pool", "avgpool", x)
        x = b.conv_norm_neuron(f"conv{i + 1}.", x, width, role="body" if i else "stem")
    b.node("classifier", "linear", b.node("pool", "global_pool", x), features=CLASSES, role="classifier")
    return b.finish()


def resnet19() -> NetworkSpec:
    """ResNet-19 of the literature for 32x32 images."""
    return presets.resnet19(IMAGE, CLASSES)


def ours(
    name: str, path: Path, device: str, layout: Layout = "channels-last", activations: Activations = "kept"
) -> Entrant | Absent:
    """Our network; on the fused path it is absent where nothing can compile it."""
    from evospike.neurons.fused import compiler_available, missing_compiler

    if path == "fused" and not compiler_available(device):
        return Absent(name, OURS, missing_compiler(device))
    return Entrant(name, OURS, layout, path, activations=activations)


def relu_entrant(name: str = "relu", layout: Layout = "channels-last") -> Entrant:
    """The network with ReLU in the place of its neurons, T times over."""
    return Entrant(name, LIMIT, layout, inner=_relu)


def convolutions_entrant(name: str = "convolutions alone") -> Entrant:
    """The network without norms and neurons: convolutions, pools, sums and the classifier, T times over."""
    return Entrant(name, LIMIT, inner=_nothing, norms=False)


def _relu(steps: int) -> nn.Module:
    from torch import nn

    return nn.ReLU()


def _nothing(steps: int) -> nn.Module:
    from torch import nn

    return nn.Identity()


def peer_entrants(
    peers: Mapping[str, Peer | Absent], device: str, layouts: tuple[Layout, ...] = (), *, quick: bool = False
) -> Iterator[Entrant | Absent]:
    """Every peer's neuron in each of its settings, and in each of the layouts if some are given.

    A peer that is not installed is absent, so is a setting for another device. quick: only what a quick run includes.
    """
    for name, peer in peers.items():
        if isinstance(peer, Absent):
            yield peer
            continue
        for neuron in peer.neurons:
            if neuron.quick or not quick:
                yield from _in_layouts(name, neuron, device.split(":")[0], layouts)


def _in_layouts(peer: str, neuron: PeerNeuron, kind: str, layouts: tuple[Layout, ...]) -> Iterator[Entrant | Absent]:
    name = f"{peer}: {neuron.setting}"
    if kind not in neuron.devices:
        yield Absent(name, peer, f"for {', '.join(neuron.devices)} only")
    elif not layouts:
        yield Entrant(name, peer, inner=neuron.make)
    else:
        yield from (Entrant(f"{name}, {layout}", peer, layout, inner=neuron.make) for layout in layouts)


def peer_layouts(circumstances: Circumstances, *, large: bool = False) -> tuple[Layout, ...]:
    """The layouts that peers run in; for a large network or in a quick run the one that is faster on most machines."""
    return LAYOUTS[:1] if circumstances.quick or large else LAYOUTS


def as_contestants(
    entrants: Iterable[Entrant | Absent], prepare: Callable[[Entrant], Callable[[], float]]
) -> Iterator[Contestant | Absent]:
    """Entrants as contestants. prepare: from an entrant to one repetition."""
    for entrant in entrants:
        if isinstance(entrant, Absent):
            yield entrant
        else:
            measure = when_asked(functools.partial(prepare, entrant))
            yield Contestant(entrant.name, entrant.by, measure, entrant.settings)


def when_asked(prepare: Callable[[], Callable[[], float]]) -> Callable[[], float]:
    """A repetition that is prepared when the first is asked for: a failure is then that of this contestant alone."""
    prepared = functools.cache(prepare)
    return lambda: prepared()()


def batch_of(circumstances: Circumstances, usual: int) -> int:
    """Images of a step: few in a quick run."""
    return 8 if circumstances.quick else usual
