"""Networks for inference against the trained ones that they are made from."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evospike.layers.inference import InferenceNeuron, fold_norm
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.models.build import build
from evospike.models.inference import InferenceNetwork
from evospike.models.network import Network
from evospike.models.presets import PRESETS, small8
from evospike.models.spec import INPUT, Edge, NetworkSpec, SpecBuilder
from evospike.neurons.dynamics import multi_step
from evospike.neurons.fused import compiler_available
from evospike.neurons.settings import NeuronSettings

# torch's own compiler imports parts of torch that it calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")

compiles = pytest.mark.skipif(not compiler_available(), reason="no C++ compiler for torch.compile")

TURNED = 1e-5
"""Share of a layer's spikes that rounding may turn in single precision, before any earlier layer differs."""

SMALL = {"vgg16": {"hidden": 16}, "small8": {"channels": (4, 4, 6)}, "small32": {"channels": (4, 4, 6)}}
SIZES = {"vgg16": 32, "vggsnn": 16}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(spec: NetworkSpec, **options: Any) -> Network:
    """A network whose norms have gains, shifts and statistics of their own, so that it fires."""
    torch.manual_seed(3)
    network = build(spec, **options)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for norm in network.modules():
            if isinstance(norm, TimeBatchNorm2d):
                norm.weight.copy_(torch.rand(norm.weight.shape, generator=generator) * 2 + 1)
                norm.bias.copy_(torch.rand(norm.bias.shape, generator=generator) - 0.3)
                norm.momentum = 0.7
        for seed in range(2):
            network(sample(spec, network.steps, 4, seed=seed))
    return network.eval()


def sample(spec: NetworkSpec, steps: int, batch: int = 3, *, seed: int = 9) -> Tensor:
    return draw(*((steps,) if spec.events else ()), batch, *spec.input_shape, seed=seed)


def spikes_of(network: Network, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores, and the spikes of all steps by layer of neurons."""
    seen: dict[str, list[Tensor]] = {}
    network.observer = lambda name, spikes, last: seen.setdefault(name, []).append(spikes)
    try:
        with torch.no_grad():
            return network(x), {name: torch.cat(parts) for name, parts in seen.items()}
    finally:
        network.observer = None


def folded_norms(network: Network) -> list[str]:
    return [
        n.name for n in network.spec.nodes if isinstance(network.get_submodule(n.name), nn.Identity) and n.op == "norm"
    ]


def left_norms(network: Network) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, TimeBatchNorm2d)]


def equal_in_double(network: Network, x: Tensor) -> None:
    """Where rounding is far below the distance of any potential to its threshold, spikes are equal and scores close."""
    network = copy.deepcopy(network).double()
    scores, spikes = spikes_of(network, x.double())
    found, others = spikes_of(InferenceNetwork(network), x.double())
    assert spikes.keys() == others.keys()
    for name in spikes:
        assert torch.equal(spikes[name], others[name]), name
    torch.testing.assert_close(found, scores, rtol=1e-10, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 3]),
    st.integers(1, 2),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 10_000),
)
def test_a_folded_convolution_is_convolution_and_norm(
    outputs: int, groups: int, kernel: int, stride: int, padding: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(4, 4 * outputs, kernel, stride, padding, groups=groups, bias=bias).double()
    norm = TimeBatchNorm2d(4 * outputs).double().eval()
    with torch.no_grad():
        norm.weight.normal_(), norm.bias.normal_(), norm.running_mean.normal_(), norm.running_var.uniform_(0, 2)
        conv.weight[torch.rand_like(conv.weight) < 0.5] = 0
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    expected, absent = norm(conv(x)), conv.weight == 0
    fold_norm(conv, norm)
    torch.testing.assert_close(conv(x), expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(conv.weight == 0, absent)


def test_folding_in_single_precision_rounds_once() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 5, 3), TimeBatchNorm2d(5)
    norm.running_var.uniform_(1e-4, 3), norm.running_mean.normal_()
    precise, norm_twin = copy.deepcopy(conv).double(), copy.deepcopy(norm).double()
    fold_norm(conv, norm), fold_norm(precise, norm_twin)
    assert torch.equal(conv.weight, precise.weight.float())
    assert conv.bias is not None
    assert torch.equal(conv.bias, precise.bias.float())


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_give_the_same_scores(preset: str, events: bool) -> None:
    size = SIZES.get(preset, 8)
    spec = PRESETS[preset]((2, size, size), 3, events=events, **SMALL.get(preset, {}))
    network, x = trained(spec, steps=2), sample(spec, 2)
    fast = InferenceNetwork(network)
    assert left_norms(fast) == []  # every norm of the literature follows a convolution of its own
    assert len(folded_norms(fast)) == len(left_norms(network)) > 0
    scores, spikes = spikes_of(network, x)
    found, others = spikes_of(fast, x)
    assert torch.cat([layer.flatten() for layer in spikes.values()]).mean() > 0.1
    for name in spikes:
        turned = int((spikes[name] != others[name]).sum())
        if turned:  # what follows from it in later layers is no rounding
            assert turned <= max(1, TURNED * spikes[name].numel())
            return
    torch.testing.assert_close(found, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("small8", {}),
        ("small8", {"readout": "vote"}),
        ("resnet18", {"block": "post"}),
        ("resnet18", {"block": "sew"}),
        ("resnet18", {"block": "ms"}),
    ],
)
@pytest.mark.parametrize("kind", ["lif", "if", "plif"])
@pytest.mark.parametrize("norm_time", ["joint", "step"])
def test_every_kind_of_block_neuron_and_norm_is_exact_in_double(
    preset: str, options: dict[str, Any], kind: Any, norm_time: Any
) -> None:
    spec = PRESETS[preset]((2, 7, 8), 3, **SMALL.get(preset, {}), **options)
    neuron = NeuronSettings(kind=kind, reset="soft" if kind == "if" else "hard", threshold=0.8)
    network = trained(spec, neuron=neuron, steps=3, norm_time=norm_time)
    equal_in_double(network, sample(spec, 3))


def hard_to_fold(delay: int) -> NetworkSpec:
    """Norms of the input and behind a convolution with two readers, a sum, a pool, a signed and a delayed edge."""
    b = SpecBuilder("hard", (2, 6, 6), 3)
    b.node("of_input", "norm", INPUT)
    b.conv("shared", "of_input", 4)
    b.node("of_shared", "norm", "shared")
    b.node("of_sum", "norm", b.node("sum", "add", "of_shared", "shared"))
    b.node("of_pool", "norm", b.node("pool", "avgpool", b.conv("pooled", "of_sum", 4)))
    b.node("of_signed", "norm", Edge(b.conv("signed", "of_pool", 4), sign=1))
    b.conv_norm_neuron("plain.", "of_signed", 4)
    b.node("of_late", "norm", Edge(b.conv("late", "plain.neuron", 4), delay=delay))
    b.node("neuron", "neuron", "of_late")
    b.node("scores", "linear", b.node("flat", "flatten", "neuron"), features=3)
    return b.finish()


@pytest.mark.parametrize(("delay", "folded"), [(0, ["plain.norm", "of_late"]), (1, ["plain.norm"])])
def test_norms_that_cannot_be_folded_stay(delay: int, folded: list[str]) -> None:
    network = trained(hard_to_fold(delay), steps=4)
    fast = InferenceNetwork(network)
    assert folded_norms(fast) == folded
    assert set(left_norms(fast)) == set(left_norms(network)) - set(folded)
    equal_in_double(network, sample(network.spec, 4))


def test_the_original_is_untouched_and_shares_nothing() -> None:
    network = trained(small8((1, 8, 8), 3, channels=(4, 4)), steps=2).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fast = InferenceNetwork(network)
    fast(draw(2, 1, 8, 8))
    for parameter in fast.parameters():
        parameter.zero_()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_it_only_runs() -> None:
    """No gradients, always in eval mode, weights of images channels last, and it can be made from itself."""
    network = trained(small8((2, 8, 8), 3, channels=(4, 4, 6)), steps=2)
    fast = InferenceNetwork(network)
    fast.train()
    assert not any(module.training for module in fast.modules())
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    x = sample(network.spec, 2).requires_grad_()
    assert not fast(x).requires_grad
    weights = [layer.weight for layer in fast.modules() if isinstance(layer, nn.Conv2d)]
    assert len(weights) == 3
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    again = InferenceNetwork(fast)
    assert torch.equal(again(x), fast(x))
    assert torch.equal(fast.predict(x), fast(x).mean(0).argmax(1))
    assert torch.equal(pickle.loads(pickle.dumps(fast))(x), fast(x))


def test_a_mask_stays_valid() -> None:
    network = trained(small8((1, 8, 8), 3, channels=(4, 8)), steps=2)
    layer = network.get_submodule("conv2.conv")
    assert isinstance(layer, nn.Conv2d)
    mask = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    layer.register_buffer("mask", mask)
    with torch.no_grad():
        layer.weight.mul_(mask)
    twin = InferenceNetwork(network).get_submodule("conv2.conv")
    assert isinstance(twin, nn.Conv2d)
    assert torch.equal(twin.get_buffer("mask"), mask)
    assert torch.equal(twin.weight != 0, mask)
    equal_in_double(network, sample(network.spec, 2))


@compiles
@pytest.mark.parametrize("layout", ["flat", "images", "channels last"])
@pytest.mark.parametrize(("shown", "held"), [(4, True), (4, False), (1, False)])
def test_neurons_in_one_pass_are_those_of_the_eager_path(layout: str, shown: int, held: bool) -> None:
    neuron = NeuronSettings(kind="plif", decay=0.6, reset="soft")
    eager = SpikingNeuron(neuron)
    shape = (3, 7) if layout == "flat" else (2, 3, 4, 5)
    current, state = draw(shown, *shape) + 0.5, draw(*shape, seed=1) if held else None
    if layout == "channels last":
        current = current.movedim(2, -1).contiguous().movedim(-1, 2)
    with torch.no_grad():
        spikes, last = InferenceNeuron(eager, "fused")(current, state, 4)
        expected, expected_last = multi_step(current, state, neuron, steps=4)
    assert torch.equal(spikes, expected)
    assert 0.1 < spikes.mean() < 0.9
    torch.testing.assert_close(last, expected_last)
    assert spikes.stride() == expected.stride()


@pytest.mark.parametrize("kind", ["images", "events", "delays"])
def test_the_whole_forward_pass_can_be_one_program(kind: str) -> None:
    """Traced without a break, and run without a compiler."""
    delays = kind == "delays"
    spec = hard_to_fold(1) if delays else small8((2, 6, 6), 3, channels=(4, 6), events=kind == "events")
    fast = InferenceNetwork(trained(spec, steps=2))
    traced = torch.compile(Network.forward, backend="eager", fullgraph=True)
    x = sample(spec, 2)
    with torch.no_grad():
        assert torch.equal(traced(fast, x), fast(x))


@compiles
def test_a_compiled_network_with_any_batch_watched_and_copied() -> None:
    network = trained(small8((2, 6, 6), 3, channels=(4, 6)), steps=2)
    fast, plain = InferenceNetwork(network, compiled=True), InferenceNetwork(network)
    assert fast.compiled
    for batch in (3, 5, 4):
        x = sample(network.spec, 2, batch)
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(one, other) for one, other in zip(*map(layers_of, (fast, plain)), strict=True))
    seen: list[Tensor] = []
    handle = fast.get_submodule("classifier").register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    fast(x)
    handle.remove()
    fast(x)
    assert len(seen) == 1
    other = copy.deepcopy(fast)
    with torch.no_grad():
        other.get_parameter("classifier.bias").add_(1)
    torch.testing.assert_close(other(x), plain(x) + 1, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)


def layers_of(network: Network) -> list[Tensor]:
    return list(spikes_of(network, sample(network.spec, 2))[1].values())


def test_without_a_compiler_it_runs_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evospike.models.inference.compiler_available", lambda device: False)
    network = trained(small8((1, 8, 8), 3, channels=(4, 4)), steps=2)
    fast, x = InferenceNetwork(network, path="fused", compiled=True), draw(2, 1, 8, 8)
    assert not fast.compiled
    assert {module.path for module in fast.modules() if isinstance(module, SpikingNeuron)} == {"eager"}
    assert torch.equal(fast(x), InferenceNetwork(network)(x))
