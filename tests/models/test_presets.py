"""The presets: every one runs at odd sizes, and their choices mean what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evospike.core.errors import SettingsError, SpecError
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.presets import PRESETS, make_spec
from evospike.models.settings import ModelSettings
from evospike.models.shapes import infer_shapes
from evospike.models.spec import INPUT, NetworkSpec

ODD: dict[str, tuple[tuple[int, int, int], int, dict[str, Any]]] = {
    "small8": ((3, 7, 9), 3, {}),
    "small32": ((1, 13, 11), 5, {"channels": (8, 8, 8, 12, 12)}),
    "cifarnet": ((2, 9, 8), 4, {}),
    "vgg16": ((1, 33, 35), 2, {"hidden": 24}),
    "vggsnn": ((2, 17, 19), 11, {}),
    "resnet18": ((1, 5, 7), 3, {}),
    "resnet18h": ((2, 5, 5), 2, {"hidden": 20}),
    "resnet19": ((4, 3, 5), 6, {}),
    "resnet19w": ((1, 5, 3), 2, {}),
    "resnet34": ((3, 21, 17), 7, {}),
}


def finite_gradients(network: Network, x: torch.Tensor, classes: int, steps: int) -> None:
    scores = network(x)
    assert scores.shape == (steps, 2, classes)
    scores.mean(0).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    stem = next(network.parameters()).grad
    assert stem is not None
    assert stem.abs().sum() > 0  # the gradient reaches the first layer


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns_at_odd_sizes(preset: str) -> None:
    torch.manual_seed(0)
    shape, classes, options = ODD[preset]
    events = preset == "vggsnn"
    network = build(PRESETS[preset](shape, classes, events=events, **options), steps=2)
    x = torch.rand((2, 2, *shape) if events else (2, *shape))
    finite_gradients(network, x, classes, 2)


@pytest.mark.parametrize("block", ["post", "sew", "ms"])
def test_every_block_style_learns(block: str) -> None:
    torch.manual_seed(0)
    network = build(PRESETS["resnet18"]((1, 5, 5), 3, block=block), steps=2)
    finite_gradients(network, torch.rand(2, 1, 5, 5), 3, 2)


def sources(spec: NetworkSpec, name: str) -> list[str]:
    return [edge.source for edge in spec[name].inputs]


def test_post_blocks_sum_currents_before_the_neuron() -> None:
    spec = PRESETS["resnet18"]((3, 32, 32), 10)
    assert sources(spec, "stage1.0.1.conv") == ["stem.neuron"]
    assert sources(spec, "stage1.0.sum") == ["stage1.0.2.norm", "stem.neuron"]
    assert sources(spec, "stage1.0.2.neuron") == ["stage1.0.sum"]
    assert sources(spec, "stage2.0.sum") == ["stage2.0.2.norm", "stage2.0.shortcut.norm"]
    assert sources(spec, "stage2.0.shortcut.conv") == ["stage1.1.2.neuron"]
    assert spec["stage2.0.shortcut.conv"].args["stride"] == 2
    assert sources(spec, "pool") == ["stage4.1.2.neuron"]


def test_sew_blocks_sum_spikes() -> None:
    spec = PRESETS["resnet18"]((3, 32, 32), 10, block="sew")
    assert sources(spec, "stage1.0.sum") == ["stage1.0.2.neuron", "stem.neuron"]
    assert sources(spec, "stage2.0.sum") == ["stage2.0.2.neuron", "stage2.0.shortcut.neuron"]
    assert sources(spec, "pool") == ["stage4.1.sum"]
    torch.manual_seed(0)
    network = build(PRESETS["resnet18"]((1, 6, 6), 3, block="sew"), steps=2)
    sums: list[torch.Tensor] = []
    network.get_submodule("pool").register_forward_pre_hook(lambda module, args: sums.append(args[0]))
    network(torch.rand(4, 1, 6, 6))
    assert set(sums[0].unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}  # a projected block's 2, and one more spike


def test_ms_blocks_keep_the_residual_path_free_of_neurons() -> None:
    spec = PRESETS["resnet18"]((3, 32, 32), 10, block="ms")
    assert sources(spec, "stage1.0.1.neuron") == ["stem.norm"]
    assert sources(spec, "stage1.0.sum") == ["stage1.0.2.norm", "stem.norm"]
    assert sources(spec, "stage2.0.shortcut.pool") == ["stage1.1.sum"]
    assert sources(spec, "stage2.0.shortcut.conv") == ["stage2.0.shortcut.pool"]
    assert spec["stage2.0.shortcut.conv"].args["stride"] == 1
    assert sources(spec, "last.neuron") == ["stage4.1.sum"]
    assert sources(spec, "pool") == ["last.neuron"]


def test_resnet34_is_ms_by_default_and_starts_with_a_large_stem() -> None:
    spec = PRESETS["resnet34"]((3, 224, 224), 1000)
    assert sources(spec, "stage1.0.1.neuron") == ["stem.pool"]
    assert [spec["stem.conv"].args[k] for k in ("kernel", "stride", "padding")] == [7, 2, 3]
    assert spec["stem.pool"].op == "maxpool"
    assert spec != PRESETS["resnet34"]((3, 224, 224), 1000, block="post")


@pytest.mark.parametrize("preset", PRESETS)
def test_roles(preset: str) -> None:
    """One stem that reads the input, one classifier at the end, 1x1 shortcuts, hidden layers only where named."""
    spec = PRESETS[preset]((3, 64, 64), 10)
    roles = [(node.name, node.args["role"]) for node in spec.weighted()]
    assert roles[0][1] == "stem"
    assert sources(spec, roles[0][0]) == [INPUT]
    assert roles[-1] == ("classifier", "classifier")
    inner = roles[1:-1]
    assert {role for _, role in inner} <= {"body", "shortcut", "hidden"}
    for name, role in inner:
        assert (role == "shortcut") == (".shortcut." in name)
        assert (role == "hidden") == (name == "hidden.linear")
    hidden = [name for name, role in inner if role == "hidden"]
    assert len(hidden) == (preset in ("resnet18h", "resnet19", "resnet19w"))


def test_small32_works_at_full_size_only_before_time_begins() -> None:
    spec = PRESETS["small32"]((3, 32, 32), 10)
    shapes = infer_shapes(spec)
    (pool,) = [node for node in spec.nodes if node.op == "avgpool"]
    assert spec[pool.inputs[0].source].op == "norm"
    assert [reader.op for reader in spec.readers(pool.name)] == ["neuron"]
    body = [node for node in spec.nodes if node.op == "conv" and node.args["role"] == "body"]
    assert [node.args["stride"] for node in body] == [1, 2, 1, 2, 1]
    assert [shapes[node.name][1] for node in body] == [16, 8, 8, 4, 4]
    assert all(spec[node.inputs[0].source].op == "neuron" for node in body)


def test_make_spec_hands_the_choices_on() -> None:
    shape = (3, 32, 32)
    assert make_spec(ModelSettings(), (1, 8, 8), 10) == PRESETS["small8"]((1, 8, 8), 10)
    assert make_spec(ModelSettings("vgg16", hidden=64), shape, 5) == PRESETS["vgg16"](shape, 5, hidden=64)
    assert make_spec(ModelSettings("resnet19", block="sew"), shape, 5) == PRESETS["resnet19"](shape, 5, block="sew")
    assert make_spec(ModelSettings("small32", channels=(4, 5)), shape, 5) == PRESETS["small32"](
        shape, 5, channels=(4, 5)
    )
    voted = make_spec(ModelSettings("vggsnn", readout="vote"), (2, 48, 48), 10, events=True)
    assert voted == PRESETS["vggsnn"]((2, 48, 48), 10, events=True, readout="vote")
    assert voted.events
    assert voted["classifier"].args["features"] == 100


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelSettings("resnet20"), "unknown preset 'resnet20'; did you mean 'resnet"),
        (ModelSettings("smal8"), "unknown preset 'smal8'; did you mean 'small8'?"),
        (ModelSettings("zzz"), "unknown preset 'zzz'; known: cifarnet, resnet18, resnet18h, resnet19, resnet19w"),
        (ModelSettings("vgg16", block="ms"), "preset 'vgg16' does not take model.block"),
        (ModelSettings("resnet18", channels=(8, 8)), "preset 'resnet18' does not take model.channels"),
        (ModelSettings("small8", channels=(8,)), "'channels' of preset 'small8' wants at least 2 widths, given [8]"),
    ],
)
def test_choices_a_preset_does_not_have(model: ModelSettings, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_spec(model, (3, 32, 32), 10)
    assert str(caught.value).startswith(message)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(SpecError, match=r"'small8' has 1 class\(es\); at least 2 are needed"):
        make_spec(ModelSettings(), (1, 8, 8), 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "'steps' must be at least 1, given 0"),
        ({"hidden": -1}, "'hidden' must not be negative, given -1"),
        ({"channels": (4, 0)}, r"'channels' must be positive, given \[4, 0\]"),
    ],
)
def test_model_settings_refuse(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ModelSettings(**values)
