"""Shapes of every node of a specification, for one sample and one step; impossible sizes are named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from evospike.core.errors import SpecError
from evospike.core.limits import LARGEST_SIZE
from evospike.models.spec import INPUT, NetworkSpec, Node, Shape


def infer_shapes(spec: NetworkSpec) -> dict[str, Shape]:
    """Output shape of the input and of every node: (C, H, W), or (features,) after flattening.

    Raises: SpecError naming the layer that cannot take its input, or an output that is not (classes,).
    """
    shapes: dict[str, Shape] = {INPUT: spec.input_shape}
    for node in spec.nodes:
        sources = [shapes[edge.source] for edge in node.inputs if edge.source in shapes]
        if not sources:
            raise SpecError(
                f"layer '{node.name}' only reads delayed sources; its shape cannot be told, add an undelayed one"
            )
        shapes[node.name] = _RULES[node.op](node, sources)
        if prod(shapes[node.name]) > LARGEST_SIZE:
            raise SpecError(
                f"layer '{node.name}' gives {' x '.join(map(str, shapes[node.name]))} numbers for one sample; at most "
                f"{LARGEST_SIZE} can be computed with"
            )
    for node in spec.nodes:
        _check_sum(node, shapes)
    if shapes[spec.output] != (spec.classes,):
        raise SpecError(
            f"last layer '{spec.output}' gives shape {shapes[spec.output]}, expected ({spec.classes},) class scores"
        )
    return shapes


def _check_sum(node: Node, shapes: Mapping[str, Shape]) -> None:
    if node.op == "add" and len({shapes[edge.source] for edge in node.inputs}) > 1:
        given = ", ".join(f"'{edge.source}' {shapes[edge.source]}" for edge in node.inputs)
        raise SpecError(f"layer '{node.name}' adds unequal shapes: {given}; project one of them first")


def _one(node: Node, sources: list[Shape]) -> Shape:
    if len(node.inputs) != 1:
        raise SpecError(
            f"layer '{node.name}' ({node.op}) reads {len(node.inputs)} inputs, expected 1; add or concat them first"
        )
    return sources[0]


def _image(node: Node, sources: list[Shape]) -> tuple[int, int, int]:
    shape = _one(node, sources)
    if len(shape) != 3:
        raise SpecError(
            f"layer '{node.name}' ({node.op}) wants an image (C, H, W), given {shape}; put it before flatten"
        )
    return shape[0], shape[1], shape[2]


def _window(node: Node, size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    reach = dilation * (kernel - 1) + 1
    room = size + 2 * padding - reach
    out = room // stride + 1
    if node.args.get("ceil") and out * stride < size + padding:
        out = -(-room // stride) + 1  # one more, cut-off window, unless it would start in the padding
    if out < 1:
        raise SpecError(
            f"layer '{node.name}' ({node.op}, window {reach}) cannot take a {size}-pixel side; "
            "use larger images (data.image_size) or a network with fewer reductions"
        )
    return out


def _conv(node: Node, sources: list[Shape]) -> Shape:
    channels, *sides = _image(node, sources)
    groups = node.integer("groups")
    if channels % groups or node.integer("channels") % groups:
        raise SpecError(
            f"layer '{node.name}' has {groups} groups, "
            f"which do not divide {channels} -> {node.args['channels']} channels"
        )
    arguments = [node.integer(name) for name in ("kernel", "stride", "padding", "dilation")]
    return node.integer("channels"), *(_window(node, side, *arguments) for side in sides)


def _pool(node: Node, sources: list[Shape]) -> Shape:
    channels, *sides = _image(node, sources)
    arguments = [node.integer(name) for name in ("kernel", "stride", "padding")]
    if 2 * node.integer("padding") > node.integer("kernel"):
        raise SpecError(
            f"layer '{node.name}' ({node.op}) pads by {node.args['padding']}, more than half its window "
            f"of {node.args['kernel']}; use less padding"
        )
    return channels, *(_window(node, side, *arguments) for side in sides)


def _upsample(node: Node, sources: list[Shape]) -> Shape:
    channels, *sides = _image(node, sources)
    return channels, *(side * node.integer("factor") for side in sides)


def _crop(node: Node, sources: list[Shape]) -> Shape:
    channels, *sides = _image(node, sources)
    pixels = node.integer("pixels")
    if min(sides) <= pixels:
        raise SpecError(
            f"layer '{node.name}' crops {pixels} pixel(s) of a {min(sides)}-pixel side and leaves none; "
            "use larger images (data.image_size) or a network with fewer reductions"
        )
    return channels, *(side - pixels for side in sides)


def _zeros(node: Node, sources: list[Shape]) -> Shape:
    return node.integer("channels"), *_image(node, sources)[1:]


def _flatten(node: Node, sources: list[Shape]) -> Shape:
    total = 1
    for side in _one(node, sources):
        total *= side
    return (total,)


def _flat(node: Node, sources: list[Shape]) -> int:
    shape = _one(node, sources)
    if len(shape) != 1:
        raise SpecError(f"layer '{node.name}' ({node.op}) wants flat features, given {shape}; flatten or pool first")
    return shape[0]


def _linear(node: Node, sources: list[Shape]) -> Shape:
    _flat(node, sources)
    return (node.integer("features"),)


def _concat(node: Node, sources: list[Shape]) -> Shape:
    if len(sources) < len(node.inputs):
        raise SpecError(
            f"layer '{node.name}' joins a source that comes after it, whose size is not known yet; use 'add'"
        )
    if len({shape[1:] for shape in sources}) != 1:
        raise SpecError(f"layer '{node.name}' joins unequal sizes: {', '.join(map(str, sources))}; resize them first")
    return sum(shape[0] for shape in sources), *sources[0][1:]


def _vote(node: Node, sources: list[Shape]) -> Shape:
    features = _flat(node, sources)
    voters = node.integer("voters")
    if features % voters:
        raise SpecError(f"layer '{node.name}' averages groups of {voters}, which do not divide {features} features")
    return (features // voters,)


_RULES: dict[str, Callable[[Node, list[Shape]], Shape]] = {
    "conv": _conv,
    "linear": _linear,
    "norm": _image,
    "neuron": _one,
    "avgpool": _pool,
    "maxpool": _pool,
    "global_pool": lambda node, sources: (_image(node, sources)[0],),
    "flatten": _flatten,
    "upsample": _upsample,
    "crop": _crop,
    "zeros": _zeros,
    "add": lambda _node, sources: sources[0],
    "concat": _concat,
    "vote": _vote,
}
