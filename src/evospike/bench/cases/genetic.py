"""Generated weights against stored ones: training steps of whole networks, and single layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from evospike.bench.case import OURS, Absent, Case, Circumstances, Contestant, Setting
from evospike.bench.cases import networks
from evospike.bench.cases.networks import Entrant, Workload
from evospike.bench.timing import timed
from evospike.models.presets import cifarnet, resnet19w
from evospike.models.spec import NetworkSpec
from evospike.neurons.settings import Path

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evospike.models.counts import LayerCount
    from evospike.models.network import Network

GROUP = "Genetic encoding"

STORED = 0
"""Genes of a network with stored weights."""

CIFARNET_GENES = (50, 100, 200, 400)
RESNET_GENES = (100,)

LAYERS: tuple[tuple[int, int], ...] = ((64, 32), (128, 32), (128, 16), (256, 16), (256, 8), (512, 8), (512, 4))
"""Channels and side of the image of 3x3 convolutions, as ResNet-19 and VGG have them on 32x32 images."""

LAYER_GENES = (25, 50, 100, 200, 400)
QUICK_LAYERS: tuple[tuple[int, int, int], ...] = ((64, 32, 50), (128, 16, 100), (256, 8, 100), (512, 4, 200))
"""Channels, side and genes of the layers of a quick run."""

BATCH_TIMES_STEPS = 128
FIRING_RATE = 0.2
"""Of the random spikes that a single layer is given."""


def cifarnet_steps(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Training steps of CIFARNet, stored and at several numbers of genes."""
    workload = Workload(cifarnet(networks.IMAGE, networks.CLASSES), 16, device=circumstances.device)
    return our_contestants(workload, CIFARNET_GENES, best_path(circumstances))


def resnet19w_steps(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Training steps of ResNet-19w, stored and genetic, and peers' neurons in the stored one."""
    from evospike.bench.cases.running import training_step

    workload = Workload(resnet19w(networks.IMAGE, networks.CLASSES), 8, device=circumstances.device)

    def prepare(entrant: Entrant) -> Callable[[], float]:
        return timed(training_step(workload, entrant), workload.device)

    yield from our_contestants(workload, RESNET_GENES, best_path(circumstances))
    peers = networks.peer_entrants(circumstances.peers, circumstances.device, ("channels-last",))
    yield from networks.as_contestants(peers, prepare)


def our_contestants(workload: Workload, genes: tuple[int, ...], path: Path) -> Iterator[Contestant]:
    """`dense`, and `genetic, N genes` for every N that saves parameters: training steps in milliseconds."""
    yield _ours("dense", workload, STORED, path, {"parameters": parameters(workload.spec, STORED)})
    for count in genes:
        own = parameters(workload.spec, count)
        if own < parameters(workload.spec, STORED):
            saved = round(mac_ratio(workload.spec, count, workload.batch * workload.steps), 2)
            facts = {"genes": count, "parameters": own, "mac_ratio": saved}
            yield _ours(f"genetic, {count} genes", workload, count, path, facts)


def _ours(name: str, workload: Workload, genes: int, path: Path, facts: Mapping[str, Setting]) -> Contestant:
    def prepare() -> Callable[[], float]:
        from evospike.bench.cases.running import training_step_of

        return timed(training_step_of(make_network(workload, genes, path), workload), workload.device)

    settings = {"layout": "channels-last", "path": path, **facts}
    return Contestant(name, OURS, networks.when_asked(prepare), settings)


def parameters(spec: NetworkSpec, genes: int) -> int:
    """Trainable numbers of a network; layers that an encoding would not make smaller are stored."""
    from evospike.genetic.encode import encoded_parameters
    from evospike.genetic.settings import EncodingSettings

    if genes == STORED:
        return encoded_parameters(spec, EncodingSettings(kind="dense")).total
    return encoded_parameters(spec, EncodingSettings(genes=genes)).total


def mac_ratio(spec: NetworkSpec, genes: int, samples: int) -> float:
    """Multiply-accumulates of a forward with stored weights over those of the genetic network (methods 3.6).

    Every encoded layer is counted in the order that takes fewer, the building of its factors included.
    samples: batch x steps.
    """
    from evospike.genetic.encode import encoded_parameters
    from evospike.genetic.settings import EncodingSettings
    from evospike.models.counts import count_layers

    layers = encoded_parameters(spec, EncodingSettings(genes=genes)).layers
    encoded = {layer.name for layer in layers if layer.kind == "encoded"}
    stored = {layer.name: samples * layer.macs for layer in count_layers(spec)}
    genetic = {layer.name: _fewest_macs(layer, genes, samples) for layer in count_layers(spec) if layer.name in encoded}
    return sum(stored.values()) / sum({**stored, **genetic}.values())


def _fewest_macs(layer: LayerCount, genes: int, samples: int) -> int:
    from evospike.genetic.contraction import Order, macs

    width, positions = layer.output_shape[0], samples * math.prod(layer.output_shape[1:])
    orders: tuple[Order, ...] = ("materialise", "two_stage")
    return min(macs(order, width, layer.weights // width, genes, positions) for order in orders)


def make_network(workload: Workload, genes: int, path: Path) -> Network:
    """The workload's network, channels last, its weights stored or generated."""
    from evospike.bench.cases import running
    from evospike.genetic.encode import encode

    net = running.make_network(workload, Entrant(OURS, OURS, path=path))
    if genes == STORED:
        return net
    encode(net, genes=genes, seed=running.SEED)
    placed: Network = net.to(memory_format=running.memory_format("channels-last"))  # type: ignore[call-overload]
    return placed


def best_path(circumstances: Circumstances) -> Path:
    """The fused path where something can compile it; not in a quick run, which that could make long."""
    from evospike.neurons.fused import compiler_available

    return "fused" if compiler_available(circumstances.device) and not circumstances.quick else "eager"


def single_layers(circumstances: Circumstances) -> Iterator[Contestant]:
    """How many times faster than a stored one each single genetic convolution is, forward and backward."""
    sizes = QUICK_LAYERS if circumstances.quick else layer_sizes()
    for channels, side, genes in sizes:
        prepare = functools.partial(speed_up, channels, side, genes, BATCH_TIMES_STEPS, circumstances.device)
        name = f"{channels} channels, side {side}, {genes} genes"
        facts = {"channels": channels, "side": side, "genes": genes}
        yield Contestant(name, OURS, networks.when_asked(prepare), facts)


def layer_sizes() -> Iterator[tuple[int, int, int]]:
    """Channels, side and genes of every layer of `LAYERS` that those genes make smaller."""
    for channels, side in LAYERS:
        taps = 9 * channels
        yield from ((channels, side, genes) for genes in LAYER_GENES if genes * (taps + channels) < taps * channels)


def speed_up(channels: int, side: int, genes: int, batch: int, device: str) -> Callable[[], float]:
    """Time of a stored 3x3 convolution over that of a genetic one, which runs right after it, forward and backward.

    Both read and give (batch, channels, side, side), channels last; the gradient of the input is computed, too.
    """
    dense, genetic = single_layer(channels), single_layer(channels, genes)
    spikes = random_spikes(channels, side, batch, device).requires_grad_()
    slow, fast = (timed(there_and_back(layer.to(device), spikes), device) for layer in (dense, genetic))
    return lambda: slow() / fast()


def single_layer(channels: int, genes: int = STORED) -> nn.Module:
    """A 3x3 convolution from `channels` to `channels`, its weight stored or generated; `auto` settles its order."""
    import torch
    from torch import nn

    from evospike.genetic.encode import encode

    layer: nn.Module = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
    if genes != STORED:
        layer = encode(layer, genes=genes, layers=lambda name, module: True)
    placed: nn.Module = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def random_spikes(channels: int, side: int, batch: int, device: str) -> Tensor:
    """Spikes (batch, channels, side, side), channels last."""
    import torch

    from evospike.core.rng import torch_stream

    chances = torch.rand(batch, channels, side, side, generator=torch_stream(0, "bench", "spikes"))
    fired = (chances < FIRING_RATE).float().contiguous(memory_format=torch.channels_last)
    return fired.to(device)


def there_and_back(layer: nn.Module, spikes: Tensor) -> Callable[[], None]:
    """The layer's forward, and its backward from a gradient of ones, to the input and the weights."""
    import torch

    from evospike.bench.cases.running import precision

    def forward() -> Tensor:
        with precision(str(spikes.device)):
            current: Tensor = layer(spikes)
        return current

    gradient = torch.ones_like(forward())

    def run() -> None:
        forward().backward(gradient)
        layer.zero_grad(set_to_none=True)
        spikes.grad = None

    return run


CASES: tuple[Case, ...] = (
    Case(
        "genetic-cifarnet",
        GROUP,
        "CIFARNet, T=4, 32x32, batch 16, channels last, our best path: forward, backward and optimiser step; a "
        "forward with 100 genes takes 2.86 times fewer multiply-accumulates than with stored weights",
        "ms",
        "dense",
        cifarnet_steps,
        repeats=7,
        warmup=1,
        quick=False,
    ),
    Case(
        "genetic-resnet19w",
        GROUP,
        "ResNet-19w, T=4, 32x32, batch 8, channels last, our best path: forward, backward and optimiser step; a "
        "forward with 100 genes takes 1.77 times fewer multiply-accumulates than with stored weights",
        "ms",
        "dense",
        resnet19w_steps,
        repeats=4,
        warmup=1,
        quick=False,
    ),
    Case(
        "genetic-layers",
        GROUP,
        "times faster than a stored one: 3x3 convolutions, forward and backward, at genes that save parameters; "
        f"{BATCH_TIMES_STEPS} images of spikes at a rate of {FIRING_RATE:g}, batch and steps together",
        "x",
        "",
        single_layers,
        repeats=7,
        quick_repeats=3,
        warmup=1,
        higher=True,
    ),
)
