"""What the machine can do: matrix products, memory traffic, convolutions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from evospike.bench.case import LIMIT, Absent, Case, Circumstances, Contestant
from evospike.bench.cases import networks
from evospike.bench.timing import timed
from evospike.models.counts import count_layers

GROUP = "Limits of the machine"
SIDES = (1024, 1536, 2048)
VALUES = 2**26
"""Numbers in each array of the bandwidth case: 256 MiB of float32, far more than a cache holds."""


def products(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Products of square float32 matrices, in GFLOP/s."""
    for side in SIDES:
        measure = networks.when_asked(functools.partial(product_rate, side, circumstances.device))
        yield Contestant(f"{side} x {side}", LIMIT, measure, {"side": side})


def product_rate(side: int, device: str) -> Callable[[], float]:
    """GFLOP/s of one product of two square matrices."""
    import torch

    a, b = (torch.full((side, side), 0.5, device=device) for _ in range(2))
    product = torch.empty_like(a)
    return rate(2 * side**3, timed(lambda: torch.mm(a, b, out=product), device))


def traffic(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Passes over float32 arrays in memory, in GB/s read and written."""
    for name, passes in (("copy", copies), ("triad", triads)):
        measure = networks.when_asked(functools.partial(passes, VALUES, circumstances.device))
        yield Contestant(name, LIMIT, measure, {"values": VALUES})


def copies(values: int, device: str) -> Callable[[], float]:
    """GB/s of a = b."""
    import torch

    a, b = torch.zeros(values, device=device), torch.ones(values, device=device)
    return rate(2 * a.nbytes, timed(lambda: a.copy_(b), device))


def triads(values: int, device: str) -> Callable[[], float]:
    """GB/s of a = b + 3 c."""
    import torch

    a = torch.zeros(values, device=device)
    b, c = torch.ones_like(a), torch.ones_like(a)
    return rate(3 * a.nbytes, timed(lambda: torch.add(b, c, alpha=3, out=a), device))


def convolutions(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """The convolutions that VGG-small computes at each of its T=4 steps, forward, in both layouts, in GFLOP/s."""
    images = 4 * networks.batch_of(circumstances, 32)
    for channels, width, side in convolution_sizes():
        for layout in networks.LAYOUTS:
            make = functools.partial(convolution_rate, (images, channels, side, side), width, layout)
            name = f"{channels} to {width} at {side}x{side}, {layout}"
            yield Contestant(
                name, LIMIT, networks.when_asked(functools.partial(make, circumstances.device)), {"layout": layout}
            )


def convolution_sizes() -> list[tuple[int, int, int]]:
    """Channels in and out and the image's side of every different convolution of VGG-small behind the stem."""
    layers = [layer for layer in count_layers(networks.vgg_small()) if layer.op == "conv" and layer.role == "body"]
    return list(dict.fromkeys((one.input_shape[0], one.output_shape[0], one.output_shape[1]) for one in layers))


def convolution_rate(
    shape: tuple[int, int, int, int], width: int, layout: networks.Layout, device: str
) -> Callable[[], float]:
    """GFLOP/s of a 3x3 convolution of images (N, C, H, W) to `width` channels."""
    import torch
    from torch.nn.functional import conv2d

    from evospike.bench.cases.running import memory_format

    x = torch.full(shape, 0.5, device=device).contiguous(memory_format=memory_format(layout))
    weight = torch.full((width, shape[1], 3, 3), 0.5, device=device).contiguous(memory_format=memory_format(layout))
    operations = 2 * x.numel() * weight[:, 0].numel()
    return rate(operations, timed(lambda: conv2d(x, weight, padding=1), device))


def rate(amount: float, milliseconds: Callable[[], float]) -> Callable[[], float]:
    """Billions a second of what a repetition does `amount` of."""
    return lambda: amount / (1e6 * milliseconds())


CASES: tuple[Case, ...] = (
    Case(
        "limit-matmul",
        GROUP,
        "products of square float32 matrices",
        "GFLOP/s",
        "",
        products,
        higher=True,
    ),
    Case(
        "limit-bandwidth",
        GROUP,
        "bytes read and written by a copy and by a triad (a = b + 3c) over arrays of 256 MiB",
        "GB/s",
        "",
        traffic,
        higher=True,
    ),
    Case(
        "limit-convolution",
        GROUP,
        "3x3 convolutions of VGG-small's sizes, forward, float32",
        "GFLOP/s",
        "",
        convolutions,
        higher=True,
    ),
)
