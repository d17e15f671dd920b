"""Building: names, constants and what a node may override."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from evospike.core.errors import SettingsError, SpecError
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.models.build import Vote, build
from evospike.models.presets import resnet18, small8
from evospike.models.spec import INPUT, NetworkSpec, SpecBuilder
from evospike.neurons.settings import NeuronSettings


def with_neuron(name: str = "n", **args: Any) -> NetworkSpec:
    b = SpecBuilder("net", (1, 2, 2), 2)
    b.node(name, "neuron", INPUT, **args)
    b.node("flat", "flatten", name)
    b.node("out", "linear", "flat", features=2)
    return b.finish()


def neuron_of(spec: NetworkSpec, neuron: NeuronSettings | None = None, name: str = "n") -> NeuronSettings:
    module = build(spec, neuron).get_submodule(name)
    assert isinstance(module, SpikingNeuron)
    return module.neuron


def test_modules_have_the_names_and_arguments_of_the_nodes() -> None:
    b = SpecBuilder("net", (2, 9, 9), 3)
    b.node("a.conv", "conv", INPUT, channels=4, kernel=3, stride=2, padding=1, dilation=2, groups=2, bias=True)
    b.node("a.pool", "maxpool", "a.conv", kernel=3, stride=2, padding=1, ceil=True)
    b.node("a.mean", "avgpool", "a.pool", kernel=1, stride=1)
    b.node("pool", "global_pool", "a.mean")
    b.node("out", "linear", "pool", features=3, bias=False)
    network = build(b.finish())
    conv, pool, linear = (network.get_submodule(name) for name in ("a.conv", "a.pool", "out"))
    assert isinstance(conv, nn.Conv2d)
    assert (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride) == (2, 4, (3, 3), (2, 2))
    assert (conv.padding, conv.dilation, conv.groups) == ((1, 1), (2, 2), 2)
    assert conv.bias is not None
    assert isinstance(pool, nn.MaxPool2d)
    assert (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode) == (3, 2, 1, True)
    assert isinstance(linear, nn.Linear)
    assert (linear.in_features, linear.out_features, linear.bias) == (4, 3, None)
    assert set(network.state_dict()) == {"a.conv.weight", "a.conv.bias", "out.weight"}
    x = torch.rand(2, 2, 9, 9)
    expected = linear(pool(conv(x)).mean((2, 3)))
    torch.testing.assert_close(network(x), expected.expand(4, 2, 3))  # no neuron: the same at every step


def test_nodes_override_the_networks_neuron() -> None:
    base = NeuronSettings(decay=0.3, threshold=2.0, reset="soft")
    assert neuron_of(with_neuron()) == NeuronSettings()
    assert neuron_of(with_neuron(), base) == base
    assert neuron_of(with_neuron(kind="plif", threshold=0.5, decay=0.9), base) == NeuronSettings(
        kind="plif", decay=0.9, threshold=0.5, reset="soft"
    )
    with pytest.raises(SpecError, match=r"layer 'n' \(neuron\): 'decay' must lie in \(0, 1\], given 0.0"):
        build(with_neuron(decay=0.0))
    with pytest.raises(SpecError, match=r"layer 'n' \(neuron\): 'decay' of a plif neuron must start below 1"):
        build(with_neuron(kind="plif"), NeuronSettings(decay=1.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"path": "eagre"}, "'path' cannot be 'eagre'; did you mean 'eager'"),
        ({"norm_time": "steps"}, "'norm_time' cannot be 'steps'; did you mean 'step'"),
        ({"steps": 2.5}, r"'steps' wants a whole number, given 2\.5"),
        ({"neuron": "plif"}, "neuron is a NeuronSettings, given 'plif'"),
        ({"spec": "small8"}, "a network is built from a NetworkSpec, given 'small8'"),
    ],
)
def test_arguments_that_are_none_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        build(**{"spec": small8((1, 8, 8), 3), **given})


def test_norm_gains_are_in_threshold_units() -> None:
    network = build(resnet18((3, 8, 8), 10), NeuronSettings(threshold=3.0))
    gains = {name: m.weight[0].item() for name, m in network.named_modules() if isinstance(m, TimeBatchNorm2d)}
    half = pytest.approx(3 / math.sqrt(2))
    assert gains["stem.norm"] == 3.0
    assert gains["stage2.0.1.norm"] == 3.0
    assert gains["stage2.0.2.norm"] == half
    assert gains["stage2.0.shortcut.norm"] == half


def test_norm_time_and_path_reach_the_layers() -> None:
    for norm_time, stepwise in (("joint", False), ("step", True)):
        network = build(small8((1, 8, 8), 10), norm_time=norm_time, path="fused")  # type: ignore[arg-type]
        norms = [m for m in network.modules() if isinstance(m, TimeBatchNorm2d)]
        assert [m.stepwise for m in norms] == [stepwise] * 4
        assert [m.path for m in network.modules() if isinstance(m, SpikingNeuron)] == ["fused"] * 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spec", "node name 'spec' clashes with an attribute of the network; rename it"),
        ("forward", "node name 'forward' clashes with an attribute of the network; rename it"),
        ("a..b", "node name 'a..b' has an empty part; name every part between dots"),
        ("", "node name '' has an empty part; name every part between dots"),
        ("a.", "node name 'a.' has an empty part; name every part between dots"),
        ("spec.a", "node name 'spec.a' lies inside 'spec', which is no container; rename one of them"),
    ],
)
def test_names_that_cannot_be_modules(name: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        build(with_neuron(name))
    assert str(caught.value) == message


def test_a_node_inside_another_nodes_module_is_refused() -> None:
    b = SpecBuilder("net", (1, 2, 2), 2)
    b.node("pool", "global_pool", INPUT)
    b.node("pool.neuron", "neuron", "pool")  # would become part of the pool's own sequence
    b.node("out", "linear", "pool.neuron", features=2)
    with pytest.raises(SpecError, match=r"node name 'pool\.neuron' lies inside 'pool', which is no container"):
        build(b.finish())


def test_vote_averages_neighbouring_voters() -> None:
    votes = torch.tensor([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]])
    torch.testing.assert_close(Vote(3)(votes), torch.tensor([[1 / 3, 2 / 3]]))


def test_crop_zeros_and_upsample_by_hand() -> None:
    b = SpecBuilder("net", (2, 4, 3), 24)
    b.node("crop", "crop", INPUT, pixels=1)
    b.node("large", "upsample", "crop", factor=2)
    b.node("none", "zeros", "large", channels=1)
    b.node("all", "concat", "large", "none")
    x = torch.arange(1.0, 25.0).view(1, 2, 4, 3)
    network = build(finish_flat(b, "all"), steps=1)
    found: dict[str, torch.Tensor] = {}
    for name in ("crop", "large", "none"):
        network.get_submodule(name).register_forward_hook(lambda m, i, y, name=name: found.update({name: y}))
    network(x)
    assert found["crop"][0, 0].tolist() == [[5, 6], [8, 9], [11, 12]]  # rows 1, 4, 7, 10 without the first of each
    assert found["crop"][0, 1].tolist() == [[17, 18], [20, 21], [23, 24]]
    for row in range(6):
        for column in range(4):
            assert torch.equal(found["large"][:, :, row, column], found["crop"][:, :, row // 2, column // 2])
    assert torch.equal(found["none"], torch.zeros(1, 1, 6, 4))


def finish_flat(b: SpecBuilder, source: str) -> NetworkSpec:
    b.node("flat", "flatten", source)
    b.node("out", "linear", "flat", features=24)
    return b.finish()


def test_networks_can_be_copied_pickled_and_converted() -> None:
    network = build(small8((1, 6, 6), 3, channels=(2, 2)), steps=2)
    x = torch.rand(2, 1, 6, 6)
    network(x)
    network.eval()
    scores = network(x)
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(again(x), scores)
        assert again.spec == network.spec
    double = copy.deepcopy(network).double()
    assert double(x.double()).dtype == torch.float64
    torch.testing.assert_close(double(x.double()).float(), scores)
