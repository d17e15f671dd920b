"""Parameter counts: methods 3.3, 3.12 and section 8."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from evospike.core.errors import EncodingError
from evospike.genetic.encode import encode_with, encoded_parameters
from evospike.genetic.settings import EncodingSettings as EncodingWhereSmaller
from evospike.models.build import build
from evospike.models.presets import cifarnet, resnet18h, resnet19w, resnet34, small8, vgg16
from evospike.models.spec import NetworkSpec

EncodingSettings = partial(EncodingWhereSmaller, skip_growing=False)
"""As the recipes of the paper, which encode every layer of the body."""

CIFAR = (3, 32, 32)
IMAGENET = (3, 224, 224)


def million(spec: NetworkSpec, genes: int, kind: str = "edge") -> float:
    return encoded_parameters(spec, EncodingSettings(kind=kind, genes=genes)).total / 1e6  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "genes", "total"),
    [
        (resnet19w(CIFAR, 10), 100, 4_328_090),
        (resnet19w(CIFAR, 10), 200, 8_364_490),
        (resnet34(IMAGENET, 1000, block="post"), 140, 10_739_384),
    ],
)
def test_exact_counts(spec: NetworkSpec, genes: int, total: int) -> None:
    assert encoded_parameters(spec, EncodingSettings(genes=genes)).total == total


@pytest.mark.parametrize(
    ("make", "genes", "reported"),
    [
        (lambda n: resnet19w(CIFAR, n), 100, (4.35, 4.38)),
        (lambda n: resnet19w(CIFAR, n), 200, (8.41, 8.44)),
        (lambda n: resnet18h(CIFAR, n), 97, (3.66, 3.68)),
        (lambda n: resnet18h(CIFAR, n), 243, (8.72, 8.75)),
        (lambda n: cifarnet(CIFAR, n), 117, (3.72, 3.81)),
        (lambda n: cifarnet(CIFAR, n), 234, (7.44, 7.53)),
        (lambda n: vgg16(CIFAR, n, hidden=2048), 56, (2.51, 2.70)),
        (lambda n: vgg16(CIFAR, n, hidden=4096), 135, (6.89, 7.26)),
    ],
)
def test_reported_rows(make: Callable[[int], NetworkSpec], genes: int, reported: tuple[float, float]) -> None:
    assert million(make(10), genes) == pytest.approx(reported[0], rel=0.01)
    assert million(make(100), genes) == pytest.approx(reported[1], rel=0.01)


def test_reported_imagenet_row() -> None:
    assert million(resnet34(IMAGENET, 1000), 140) == pytest.approx(10.75, rel=0.01)


@pytest.mark.parametrize(
    ("spec", "genes", "expected"),
    [
        (resnet19w(CIFAR, 10), 100, (4.33, 0.85, 3.94)),
        (resnet19w(CIFAR, 10), 200, (8.36, 1.57, 7.60)),
        (resnet19w(CIFAR, 10, block="sew"), 100, (4.33, 0.85, 3.94)),
        (resnet18h(CIFAR, 10), 100, (3.76, 0.80, 3.43)),
        (resnet18h(CIFAR, 10), 200, (7.23, 1.46, 6.57)),
        (resnet34(IMAGENET, 1000), 140, (10.74, 1.95, 9.75)),
        (resnet34(IMAGENET, 1000, block="post"), 140, (10.74, 1.95, 9.75)),
        (cifarnet(CIFAR, 10), 100, (3.18, 0.53, 2.90)),
        (cifarnet(CIFAR, 10), 200, (6.36, 1.21, 5.80)),
    ],
)
def test_table_of_variants(spec: NetworkSpec, genes: int, expected: tuple[float, float, float]) -> None:
    kinds = ("edge", "shared_tapG", "shared_tapE")
    assert [million(spec, genes, kind) for kind in kinds] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("kind", ["dense", "edge", "low_rank", "shared_tapG", "shared_tapE"])
@pytest.mark.parametrize("spec", [small8((1, 8, 8), 4), vgg16(CIFAR, 3, hidden=20), resnet19w(CIFAR, 10)])
def test_static_count_is_the_built_count(kind: str, spec: NetworkSpec) -> None:
    settings = EncodingSettings(kind=kind, genes=3)  # type: ignore[arg-type]
    net = encode_with(build(spec), settings)
    count = encoded_parameters(spec, settings)
    assert count.total == sum(parameter.numel() for parameter in net.parameters())
    assert count.total == count.encodings + count.genes + count.dense
    if kind in ("edge", "low_rank"):
        assert sum(layer.parameters for layer in count.layers) + count.genes == count.total


def test_frozen_output_encodings_are_not_counted() -> None:
    spec = small8((1, 8, 8), 4)
    settings = EncodingSettings(genes=3, train_output_encoding=False)
    count = encoded_parameters(spec, settings)
    assert count.frozen == 3 * (32 + 64 + 64)
    net = encode_with(build(spec), settings)
    assert count.total == sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)


def test_skipping_growing_layers_and_nothing_left() -> None:
    spec = resnet19w(CIFAR, 10)
    count = encoded_parameters(spec, EncodingSettings(genes=200, skip_growing=True))
    encoded = [layer for layer in count.layers if layer.kind == "encoded"]
    assert len(encoded) == 10  # the 128 -> 128 layers stay dense
    assert all(layer.parameters < layer.dense_parameters for layer in encoded)
    with pytest.raises(EncodingError, match="no layer of 'resnet19w' is to be encoded"):
        encoded_parameters(spec, EncodingSettings(genes=2000, skip_growing=True))
