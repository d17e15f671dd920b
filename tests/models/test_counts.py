"""Static counts: against the literature's numbers and against the built modules."""

from __future__ import annotations

import pytest
import torch

from evospike.models.build import build
from evospike.models.counts import count_layers, dense_parameters, macs_per_step, neuron_units
from evospike.models.presets import PRESETS, vggsnn
from evospike.models.spec import INPUT, SpecBuilder


@pytest.mark.parametrize(
    ("preset", "shape", "classes", "expected"),
    [
        # methods, section 8
        ("vgg16", (3, 32, 32), 10, 33_642_442),
        ("resnet19", (3, 32, 32), 10, 12_630_858),
        ("resnet19", (3, 32, 32), 100, 12_653_988),
    ],
)
def test_dense_parameters_of_section_8(preset: str, shape: tuple[int, int, int], classes: int, expected: int) -> None:
    assert dense_parameters(PRESETS[preset](shape, classes)) == expected


@pytest.mark.parametrize(
    ("preset", "shape", "classes", "millions", "giga_macs"),
    [
        # methods, sections 2.1 and 2.4, to the digits given there
        ("cifarnet", (3, 32, 32), 10, 19.49, None),
        ("resnet18", (3, 32, 32), 10, 11.17, 0.56),
        ("resnet18h", (3, 32, 32), 10, 11.30, 0.56),
        ("resnet19", (3, 32, 32), 10, 12.63, 2.22),
        ("resnet19w", (3, 32, 32), 10, 12.70, 2.29),
        ("resnet34", (3, 224, 224), 1000, 21.80, 3.66),
        ("vggsnn", (2, 48, 48), 10, None, 1.36),
    ],
)
def test_tables_of_section_2(
    preset: str, shape: tuple[int, int, int], classes: int, millions: float | None, giga_macs: float | None
) -> None:
    spec = PRESETS[preset](shape, classes)
    if millions is not None:
        assert round(dense_parameters(spec) / 1e6, 2) == millions
    if giga_macs is not None:
        assert round(macs_per_step(spec) / 1e9, 2) == giga_macs


def test_vggsnn_layer_by_layer() -> None:
    spec = vggsnn((2, 48, 48), 10, events=True)
    weights = [layer.weights for layer in count_layers(spec) if layer.weights]
    assert weights == [1152, 73_728, 294_912, 589_824, 1_179_648, 2_359_296, 2_359_296, 2_359_296, 46_080]
    assert sum(weights) == 9_263_232
    assert neuron_units(spec) == 921_600
    outputs = {layer.name: layer.output_shape for layer in count_layers(spec)}
    assert [outputs[f"conv{i}.pool"] for i in (2, 4, 6, 8)] == [(128, 24, 24), (256, 12, 12), (512, 6, 6), (512, 3, 3)]


def test_units_of_resnet19w() -> None:
    assert neuron_units(PRESETS["resnet19w"]((3, 32, 32), 10)) == 1_442_048


@pytest.mark.parametrize("block", ["post", "sew", "ms"])
def test_block_styles_have_the_same_weights(block: str) -> None:
    spec = PRESETS["resnet19"]((3, 32, 32), 10, block=block)
    assert dense_parameters(spec) == 12_630_858  # a style moves neurons, and pools the shortcut instead of striding
    assert macs_per_step(spec) == macs_per_step(PRESETS["resnet19"]((3, 32, 32), 10))


@pytest.mark.parametrize("readout", ["mean", "vote"])
@pytest.mark.parametrize("preset", PRESETS)
def test_counts_equal_the_built_module(preset: str, readout: str) -> None:
    spec = PRESETS[preset]((3, 40, 36), 7, readout=readout)
    with torch.device("meta"):
        network = build(spec)
    assert dense_parameters(spec) == sum(parameter.numel() for parameter in network.parameters())
    for layer in count_layers(spec):
        own = list(network.get_submodule(layer.name).parameters(recurse=False))
        assert layer.parameters == sum(parameter.numel() for parameter in own), layer.name
        if layer.weights:
            assert layer.weights == own[0].numel()


def test_one_record_by_hand() -> None:
    b = SpecBuilder("net", (4, 6, 5), 3)
    b.node("conv", "conv", INPUT, channels=6, kernel=3, stride=2, groups=2, bias=True, role="stem")
    b.node("norm", "norm", "conv")
    b.node("neuron", "neuron", "norm", kind="plif")
    b.node("flat", "flatten", "neuron")
    b.node("out", "linear", "flat", features=3, role="classifier")
    conv, norm, neuron, flat, out = count_layers(b.finish())
    assert (conv.name, conv.op, conv.role) == ("conv", "conv", "stem")
    assert (conv.input_shape, conv.output_shape, conv.outputs) == ((4, 6, 5), (6, 2, 2), 24)
    assert (conv.weights, conv.parameters, conv.macs) == (6 * 2 * 9, 6 * 2 * 9 + 6, 6 * 2 * 9 * 4)
    assert (norm.weights, norm.parameters, norm.macs) == (0, 12, 0)
    assert (neuron.parameters, neuron.outputs, neuron.role) == (1, 24, "")
    assert (flat.parameters, flat.output_shape) == (0, (24,))
    assert (out.weights, out.parameters, out.macs, out.role) == (72, 75, 72, "classifier")
    assert macs_per_step(b.finish()) == 432 + 72


def test_crop_zeros_and_upsample_cost_nothing() -> None:
    b = SpecBuilder("net", (4, 6, 5), 3)
    b.node("crop", "crop", INPUT, pixels=1)
    b.node("zeros", "zeros", "crop", channels=2)
    b.node("join", "concat", "crop", "zeros")
    b.node("large", "upsample", "join", factor=2)
    b.node("conv", "conv", "large", channels=3, kernel=1)
    b.node("pool", "global_pool", "conv")
    b.node("out", "linear", "pool", features=3)
    spec = b.finish()
    assert [layer.parameters for layer in count_layers(spec)] == [0, 0, 0, 0, 18, 0, 12]
    assert macs_per_step(spec) == 18 * 10 * 8 + 9
    assert dense_parameters(spec) == sum(parameter.numel() for parameter in build(spec).parameters())
