"""Inferred shapes against what PyTorch makes, and the names of layers that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.core.errors import SpecError
from evospike.models.build import build
from evospike.models.presets import PRESETS
from evospike.models.shapes import infer_shapes
from evospike.models.spec import INPUT, Edge, NetworkSpec, Shape, SpecBuilder


def spec_of(*nodes: tuple[str, str, list[str | Edge], dict[str, Any]], shape: Any = (2, 6, 5)) -> NetworkSpec:
    b = SpecBuilder("net", shape, 3)
    for name, op, sources, args in nodes:
        b.node(name, op, *sources, **args)
    return b.finish()


END: list[tuple[str, str, list[str | Edge], dict[str, Any]]] = [
    ("pool", "global_pool", ["x"], {}),
    ("out", "linear", ["pool"], {"features": 3}),
]


def shape_of(op: str, size: tuple[int, int], args: dict[str, Any]) -> Shape | None:
    try:
        return infer_shapes(spec_of(("x", op, [INPUT], args), *END, shape=(2, *size)))["x"]
    except SpecError:
        return None


def run(module: torch.nn.Module, size: tuple[int, int]) -> Shape | None:
    try:
        return tuple(module(torch.zeros(1, 2, *size)).shape[1:])
    except RuntimeError:
        return None


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(size=sizes, kernel=st.integers(1, 4), stride=st.integers(1, 4), padding=st.integers(0, 3), ceil=st.booleans())
def test_pools_have_pytorchs_shapes(size: tuple[int, int], kernel: int, stride: int, padding: int, ceil: bool) -> None:
    args = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil}
    for op, make in (("avgpool", torch.nn.AvgPool2d), ("maxpool", torch.nn.MaxPool2d)):
        assert shape_of(op, size, args) == run(make(kernel, stride, padding, ceil_mode=ceil), size)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    size=sizes,
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    groups=st.integers(1, 2),
)
def test_convolutions_have_pytorchs_shapes(
    size: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int, groups: int
) -> None:
    args = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    conv = torch.nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups)
    assert shape_of("conv", size, {"channels": 4, **args}) == run(conv, size)


def test_shapes_by_hand() -> None:
    spec = spec_of(
        ("a", "conv", [INPUT], {"channels": 4, "kernel": 3, "stride": 2}),  # (6-3)//2+1, (5-3)//2+1
        ("b", "norm", ["a"], {}),
        ("c", "neuron", ["b"], {}),
        ("d", "concat", ["c", "a"], {}),
        ("e", "add", ["d", "d"], {}),
        ("f", "flatten", ["e"], {}),
        ("g", "linear", ["f"], {"features": 12}),
        ("h", "vote", ["g"], {"voters": 4}),
    )
    shapes = infer_shapes(spec)
    assert shapes == {
        INPUT: (2, 6, 5),
        "a": (4, 2, 2),
        "b": (4, 2, 2),
        "c": (4, 2, 2),
        "d": (8, 2, 2),
        "e": (8, 2, 2),
        "f": (32,),
        "g": (12,),
        "h": (3,),
    }


def test_shapes_of_crop_zeros_and_upsample() -> None:
    spec = spec_of(
        ("a", "crop", [INPUT], {"pixels": 2}),
        ("b", "zeros", ["a"], {"channels": 7}),
        ("x", "upsample", ["b"], {"factor": 3}),
        *END,
    )
    shapes = infer_shapes(spec)
    assert [shapes[name] for name in ("a", "b", "x")] == [(2, 4, 3), (7, 4, 3), (7, 12, 9)]


FLAT = ("f", "flatten", [INPUT], {})


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [("x", "conv", [INPUT], {"channels": 2, "kernel": 6}), *END],
            "layer 'x' (conv, window 6) cannot take a 5-pixel side; "
            "use larger images (data.image_size) or a network with fewer reductions",
        ),
        (
            [("x", "conv", [INPUT], {"channels": 2, "kernel": 3, "dilation": 3}), *END],
            "layer 'x' (conv, window 7) cannot take a 6-pixel side; "
            "use larger images (data.image_size) or a network with fewer reductions",
        ),
        (
            [("x", "conv", [INPUT], {"channels": 4, "kernel": 1, "groups": 4}), *END],
            "layer 'x' has 4 groups, which do not divide 2 -> 4 channels",
        ),
        (
            [("x", "maxpool", [INPUT], {"padding": 2}), *END],
            "layer 'x' (maxpool) pads by 2, more than half its window of 2; use less padding",
        ),
        (
            [FLAT, ("x", "conv", ["f"], {"channels": 2, "kernel": 1}), *END],
            "layer 'x' (conv) wants an image (C, H, W), given (60,); put it before flatten",
        ),
        (
            [FLAT, ("x", "norm", ["f"], {}), *END],
            "layer 'x' (norm) wants an image (C, H, W), given (60,); put it before flatten",
        ),
        (
            [FLAT, ("x", "global_pool", ["f"], {})],
            "layer 'x' (global_pool) wants an image (C, H, W), given (60,); put it before flatten",
        ),
        (
            [("x", "linear", [INPUT], {"features": 3})],
            "layer 'x' (linear) wants flat features, given (2, 6, 5); flatten or pool first",
        ),
        (
            [("x", "neuron", [INPUT, INPUT], {})],
            "layer 'x' (neuron) reads 2 inputs, expected 1; add or concat them first",
        ),
        (
            [FLAT, ("l", "linear", ["f"], {"features": 7}), ("x", "vote", ["l"], {"voters": 2})],
            "layer 'x' averages groups of 2, which do not divide 7 features",
        ),
        (
            [("p", "avgpool", [INPUT], {}), ("x", "concat", [INPUT, "p"], {}), *END],
            "layer 'x' joins unequal sizes: (2, 6, 5), (2, 3, 2); resize them first",
        ),
        (
            [("p", "avgpool", [INPUT], {}), ("x", "add", [INPUT, "p"], {}), *END],
            "layer 'x' adds unequal shapes: 'input' (2, 6, 5), 'p' (2, 3, 2); project one of them first",
        ),
        (
            [("s", "add", [INPUT, Edge("x", delay=1)], {}), ("x", "avgpool", ["s"], {}), *END],
            "layer 's' adds unequal shapes: 'input' (2, 6, 5), 'x' (2, 3, 2); project one of them first",
        ),
        (
            [("n", "neuron", [Edge("x", delay=1)], {}), ("x", "neuron", ["n"], {}), *END],
            "layer 'n' only reads delayed sources; its shape cannot be told, add an undelayed one",
        ),
        (
            [("c", "concat", [INPUT, Edge("x", delay=1)], {}), ("x", "neuron", ["c"], {}), *END],
            "layer 'c' joins a source that comes after it, whose size is not known yet; use 'add'",
        ),
        (
            [("x", "crop", [INPUT], {"pixels": 5}), *END],
            "layer 'x' crops 5 pixel(s) of a 5-pixel side and leaves none; "
            "use larger images (data.image_size) or a network with fewer reductions",
        ),
        (
            [FLAT, ("x", "zeros", ["f"], {"channels": 2}), *END],
            "layer 'x' (zeros) wants an image (C, H, W), given (60,); put it before flatten",
        ),
        ([FLAT], "last layer 'f' gives shape (60,), expected (3,) class scores"),
    ],
)
def test_refusals_name_the_layer(nodes: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        infer_shapes(spec_of(*nodes))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("preset", "size", "layer"),
    [
        ("small8", 1, "conv2.pool"),
        ("small32", 1, "stem.pool"),
        ("cifarnet", 7, "conv6.pool"),
        ("vgg16", 31, "conv13.pool"),
        ("vggsnn", 15, "conv8.pool"),
    ],
)
def test_the_smallest_size_of_a_preset(preset: str, size: int, layer: str) -> None:
    for shape in ((1, size, 64), (1, 64, size)):
        with pytest.raises(SpecError, match=rf"layer '{layer}' \(avgpool, window 2\) cannot take a 1-pixel side"):
            infer_shapes(PRESETS[preset](shape, 10))
    assert infer_shapes(PRESETS[preset]((1, size + 1, size + 1), 10))["classifier"] == (10,)


@pytest.mark.parametrize("block", ["post", "sew", "ms"])
@pytest.mark.parametrize("preset", ["resnet18", "resnet19", "resnet34"])
def test_residual_networks_take_a_single_pixel(preset: str, block: str) -> None:
    assert infer_shapes(PRESETS[preset]((1, 1, 1), 10, block=block))["classifier"] == (10,)


def test_build_needs_a_step() -> None:
    with pytest.raises(SpecError, match="a network runs at least 1 step, given 0"):
        build(PRESETS["small8"]((1, 8, 8), 10), steps=0)
