"""The architectures of the literature as specifications (methods, section 2).

Every preset takes any number of input channels, any image size its reductions leave something of, and any number of
classes. Convolutions carry no bias and are followed by batch norm; neurons are written explicitly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from evospike.core.errors import SettingsError
from evospike.core.settings import choose
from evospike.models.settings import ModelSettings
from evospike.models.spec import INPUT, NetworkSpec, SpecBuilder

Block = Literal["post", "sew", "ms"]
Readout = Literal["mean", "vote"]
InputShape = tuple[int, int, int]

POOL = 0
"""Marks a 2x2 average pool of spikes in a list of widths."""

HALF = 1 / math.sqrt(2)
"""Norm gain of the two branches that enter a residual sum (tdBN)."""


def make_spec(model: ModelSettings, input_shape: InputShape, classes: int, *, events: bool = False) -> NetworkSpec:
    """The specification a recipe's model section names.

    Raises: SettingsError for an unknown preset or a choice the preset does not have; SpecError when it does not fit.
    """
    preset = choose("preset", model.preset, PRESETS)
    options: dict[str, Any] = {}
    for name in ("block", "hidden", "channels"):
        if getattr(model, name):
            options[name] = getattr(model, name)
    try:
        return preset(input_shape, classes, events=events, readout=model.readout, **options)
    except TypeError:
        raise SettingsError(
            f"preset '{model.preset}' does not take {', '.join(f'model.{name}' for name in options)}"
        ) from None


def small8(
    input_shape: InputShape,
    classes: int,
    *,
    channels: Sequence[int] = (32, 32, 64, 64),
    events: bool = False,
    readout: Readout = "mean",
) -> NetworkSpec:
    """Four 3x3 convolutions for images of about 8x8: two, a pool, two, global pool, classifier."""
    if len(channels) < 2:
        raise SettingsError(f"'channels' of preset 'small8' wants at least 2 widths, given {list(channels)}")
    first, second, *rest = channels
    return _plain_convs("small8", input_shape, classes, [first, second, POOL, *rest], events, readout)


def small32(
    input_shape: InputShape,
    classes: int,
    *,
    channels: Sequence[int] = (64, 64, 128, 128, 256, 256),
    events: bool = False,
    readout: Readout = "mean",
) -> NetworkSpec:
    """A stem and 3x3 convolutions for images of about 32x32, sized for two CPU cores.

    The stem pools its *current*, before the neuron, and every second later convolution halves the size by its stride:
    all convolutions but the stem read binary spikes, and none works at full size over time. Widths: the stem, then
    one convolution each; the second, fourth, ... of these reduce, the last never does.
    """
    b = SpecBuilder("small32", input_shape, classes, events=events)
    norm = b.conv_norm("stem.", INPUT, channels[0], role="stem")
    x = b.node("stem.neuron", "neuron", b.node("stem.pool", "avgpool", norm))
    body = list(channels[1:])
    for i, width in enumerate(body):
        reduces = i % 2 == 1 and i + 1 < len(body)
        x = b.conv_norm_neuron(f"body.{i}.", x, width, stride=2 if reduces else 1)
    return _classify(b, b.node("pool", "global_pool", x), classes, readout)


def cifarnet(input_shape: InputShape, classes: int, *, events: bool = False, readout: Readout = "mean") -> NetworkSpec:
    """CIFARNet, the convnet family of BrainCog: the reading that fits GEE's two reported sizes (methods 2.1)."""
    widths = [256, 256, POOL, 256, 256, POOL, 512, 512, POOL, 1024, 1024]
    return _plain_convs("cifarnet", input_shape, classes, widths, events, readout)


def vgg16(
    input_shape: InputShape,
    classes: int,
    *,
    hidden: int = 4096,
    events: bool = False,
    readout: Readout = "mean",
) -> NetworkSpec:
    """VGG-16 with two hidden layers of 4096 or 2048, which the genetic encoding takes too (methods 2.2)."""
    b = SpecBuilder("vgg16", input_shape, classes, events=events)
    widths = [64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL]
    x = b.node("flatten", "flatten", _convs(b, widths))
    for i in range(2):
        x = b.node(f"hidden.{i}.neuron", "neuron", b.node(f"hidden.{i}.linear", "linear", x, features=hidden))
    return _classify(b, x, classes, readout)


def vggsnn(input_shape: InputShape, classes: int, *, events: bool = False, readout: Readout = "mean") -> NetworkSpec:
    """VGGSNN of TET for 48x48 event frames, convolutions without bias (methods 2.3)."""
    b = SpecBuilder("vggsnn", input_shape, classes, events=events)
    widths = [64, 128, POOL, 256, 256, POOL, 512, 512, POOL, 512, 512, POOL]
    x = b.node("flatten", "flatten", _convs(b, widths))
    return _classify(b, x, classes, readout, bias=False)


def resnet18(input_shape: InputShape, classes: int, **options: Any) -> NetworkSpec:
    """Spiking ResNet-18 for small images (methods 2.4)."""
    return _resnet("resnet18", input_shape, classes, 64, [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)], **options)


def resnet18h(input_shape: InputShape, classes: int, **options: Any) -> NetworkSpec:
    """ResNet-18 with a hidden layer of 256 before the classifier."""
    stages = [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)]
    return _resnet("resnet18h", input_shape, classes, 64, stages, **{"hidden": 256, **options})


def resnet19(input_shape: InputShape, classes: int, **options: Any) -> NetworkSpec:
    """ResNet-19 of the literature (TET): stem 64 (methods 2.4)."""
    stages = [(128, 3, 1), (256, 3, 2), (512, 2, 2)]
    return _resnet("resnet19", input_shape, classes, 64, stages, **{"hidden": 256, **options})


def resnet19w(input_shape: InputShape, classes: int, **options: Any) -> NetworkSpec:
    """ResNet-19 of BrainCog: stem 128, the reading that fits GEE's counts best (methods 2.4)."""
    stages = [(128, 3, 1), (256, 3, 2), (512, 2, 2)]
    return _resnet("resnet19w", input_shape, classes, 128, stages, **{"hidden": 256, **options})


def resnet34(input_shape: InputShape, classes: int, **options: Any) -> NetworkSpec:
    """ImageNet ResNet-34: 7x7 stem at stride 2, max pool; block style `ms` by default, for depth (methods 2.4, 7.5)."""
    stages = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]
    return _resnet("resnet34", input_shape, classes, 64, stages, large=True, **{"block": "ms", **options})


def _plain_convs(
    name: str, input_shape: InputShape, classes: int, widths: Sequence[int], events: bool, readout: Readout
) -> NetworkSpec:
    b = SpecBuilder(name, input_shape, classes, events=events)
    x = b.node("pool", "global_pool", _convs(b, widths))
    return _classify(b, x, classes, readout)


def _convs(b: SpecBuilder, widths: Sequence[int]) -> str:
    """Convolution, norm and neuron for every width; the first is the stem; `POOL` halves the spikes' resolution."""
    x, count = INPUT, 0
    for width in widths:
        if width == POOL:
            x = b.node(f"conv{count}.pool", "avgpool", x)
        else:
            count += 1
            x = b.conv_norm_neuron(f"conv{count}.", x, width, role="stem" if count == 1 else "body")
    return x


def _classify(b: SpecBuilder, x: str, classes: int, readout: Readout, *, bias: bool = True) -> NetworkSpec:
    """Linear class scores, or ten spiking outputs a class whose votes are averaged."""
    if readout == "mean":
        b.node("classifier", "linear", x, features=classes, bias=bias, role="classifier")
    else:
        votes = b.node("classifier", "linear", x, features=10 * classes, bias=bias, role="classifier")
        b.node("vote", "vote", b.node("voters", "neuron", votes), voters=10)
    return b.finish()


def _resnet(
    name: str,
    input_shape: InputShape,
    classes: int,
    stem: int,
    stages: Sequence[tuple[int, int, int]],
    *,
    large: bool = False,
    block: Block = "post",
    hidden: int = 0,
    events: bool = False,
    readout: Readout = "mean",
) -> NetworkSpec:
    """Basic blocks of two 3x3 convolutions; stages are (width, blocks, stride of the first block)."""
    b = SpecBuilder(name, input_shape, classes, events=events)
    x = _stem(b, stem, block, large)
    width_in = stem
    for s, (width, blocks, stride) in enumerate(stages, 1):
        for i in range(blocks):
            first = stride if i == 0 else 1
            x = _BLOCKS[block](b, f"stage{s}.{i}.", x, width, first, first != 1 or width != width_in)
            width_in = width
    if block == "ms":
        x = b.node("last.neuron", "neuron", x)
    x = b.node("pool", "global_pool", x)
    if hidden:
        linear = b.node("hidden.linear", "linear", x, features=hidden, role="hidden")
        x = b.node("hidden.neuron", "neuron", linear)
    return _classify(b, x, classes, readout)


def _stem(b: SpecBuilder, width: int, block: Block, large: bool) -> str:
    x = b.conv_norm("stem.", INPUT, width, kernel=7 if large else 3, stride=2 if large else 1, role="stem")
    if block != "ms":
        x = b.node("stem.neuron", "neuron", x)
    return b.node("stem.pool", "maxpool", x, kernel=3, stride=2, padding=1) if large else x


def _post_block(b: SpecBuilder, prefix: str, x: str, width: int, stride: int, project: bool) -> str:
    """conv-BN-LIF-conv-BN, plus the shortcut's current, then LIF (STBP-tdBN, TET)."""
    h = b.conv_norm_neuron(f"{prefix}1.", x, width, stride=stride)
    h = b.conv_norm(f"{prefix}2.", h, width, gain=HALF)
    if project:
        x = b.conv_norm(f"{prefix}shortcut.", x, width, kernel=1, stride=stride, role="shortcut", gain=HALF)
    return b.node(f"{prefix}2.neuron", "neuron", b.node(f"{prefix}sum", "add", h, x))


def _sew_block(b: SpecBuilder, prefix: str, x: str, width: int, stride: int, project: bool) -> str:
    """conv-BN-LIF-conv-BN-LIF, plus the shortcut's spikes (SEW-ResNet, ADD).

    The sum lies in {0, 1, 2} where the shortcut is projected; each block without projection can add one more.
    """
    h = b.conv_norm_neuron(f"{prefix}1.", x, width, stride=stride)
    h = b.conv_norm_neuron(f"{prefix}2.", h, width)
    if project:
        x = b.conv_norm_neuron(f"{prefix}shortcut.", x, width, kernel=1, stride=stride, role="shortcut")
    return b.node(f"{prefix}sum", "add", h, x)


def _ms_block(b: SpecBuilder, prefix: str, x: str, width: int, stride: int, project: bool) -> str:
    """LIF-conv-BN-LIF-conv-BN, plus the shortcut's current, no LIF on the sum (MS-ResNet)."""
    h = b.conv_norm(f"{prefix}1.", b.node(f"{prefix}1.neuron", "neuron", x), width, stride=stride)
    h = b.conv_norm(f"{prefix}2.", b.node(f"{prefix}2.neuron", "neuron", h), width, gain=HALF)
    if project:
        if stride > 1:
            x = b.node(f"{prefix}shortcut.pool", "avgpool", x, kernel=stride, stride=stride, ceil=True)
        x = b.conv_norm(f"{prefix}shortcut.", x, width, kernel=1, role="shortcut", gain=HALF)
    return b.node(f"{prefix}sum", "add", h, x)


_BLOCKS: dict[str, Callable[[SpecBuilder, str, str, int, int, bool], str]] = {
    "post": _post_block,
    "sew": _sew_block,
    "ms": _ms_block,
}

PRESETS: dict[str, Callable[..., NetworkSpec]] = {
    "small8": small8,
    "small32": small32,
    "cifarnet": cifarnet,
    "vgg16": vgg16,
    "vggsnn": vggsnn,
    "resnet18": resnet18,
    "resnet18h": resnet18h,
    "resnet19": resnet19,
    "resnet19w": resnet19w,
    "resnet34": resnet34,
}
