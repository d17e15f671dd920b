"""Batch norm and neurons in one function against the two modules one after the other."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from evospike.layers.norm_and_fire import can_join, normalise_and_fire
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d, merge_time, split_time
from evospike.models.build import build
from evospike.models.spec import SpecBuilder
from evospike.neurons import fused
from evospike.neurons.settings import NeuronSettings

# torch's own compiler imports parts of torch that it calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")

compiled = pytest.mark.skipif(not fused.compiler_available(), reason="no C++ compiler for torch.compile")

NEURONS = [
    NeuronSettings(),
    NeuronSettings(kind="if", surrogate="rectangle"),
    NeuronSettings(detach_reset=False, surrogate="sigmoid"),
    NeuronSettings(reset="soft", threshold=0.7, surrogate="arctan"),
    NeuronSettings(reset="soft", detach_reset=False, decay=0.8),
    NeuronSettings(kind="plif", decay=0.6),
    NeuronSettings(kind="plif", decay=0.3, reset="soft", detach_reset=False),
]


@pytest.fixture
def interpreted() -> Iterator[None]:
    """Run what is to be compiled as it is written: the mathematics without the compiler."""
    with torch.compiler.set_stance("force_eager"):
        yield


def modules(neuron: NeuronSettings, channels: int, dtype: torch.dtype) -> tuple[TimeBatchNorm2d, SpikingNeuron]:
    generator = torch.Generator().manual_seed(7)
    norm = TimeBatchNorm2d(channels).to(dtype)
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        assert tensor is not None
        tensor.data = torch.randn(channels, generator=generator).to(dtype)
    norm.weight.data.abs_().add_(0.5)
    return norm, SpikingNeuron(neuron, "fused").to(dtype)


def apart(x: Tensor, norm: TimeBatchNorm2d, neuron: SpikingNeuron, steps: int, *, timed: bool) -> Tensor:
    """The two modules, one after the other, eagerly."""
    neuron.path = "eager"
    y = norm(x, repeats=1 if timed else steps)
    spikes, _ = neuron(split_time(y, steps) if timed else y.unsqueeze(0), None, steps)
    return merge_time(spikes)


def outcome(joined: bool, x: Tensor, norm: TimeBatchNorm2d, neuron: SpikingNeuron, **how: Any) -> dict[str, Tensor]:
    """Spikes, gradients of a random linear loss by input and parameters, and the norm's buffers."""
    norm, neuron = copy.deepcopy(norm), copy.deepcopy(neuron)
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    spikes = normalise_and_fire(x, norm, neuron, **how) if joined else apart(x, norm, neuron, **how)
    weights = torch.randn(spikes.shape, generator=torch.Generator().manual_seed(3)).to(spikes.dtype)
    leaves = {"x": x, **dict(norm.named_parameters()), **dict(neuron.named_parameters())}
    gradients = torch.autograd.grad((spikes * weights).sum(), list(leaves.values()))
    return {"spikes": spikes.detach(), **dict(zip(leaves, gradients, strict=True)), **dict(norm.named_buffers())}


def same(one: dict[str, Tensor], other: dict[str, Tensor], **tolerance: float) -> None:
    assert one.keys() == other.keys()
    assert torch.equal(one["spikes"], other["spikes"])
    assert one["spikes"].mean() not in (0, 1)
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def images(batch: int, channels: int, side: int, dtype: torch.dtype, *, last: bool, seed: int = 0) -> Tensor:
    x = torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize(("timed", "last"), list(itertools.product([True, False], repeat=2)))
def test_the_mathematics_is_that_of_norm_and_neuron(neuron: NeuronSettings, timed: bool, last: bool) -> None:
    steps = 3
    x = images(2 * steps if timed else 2, 5, 4, torch.float64, last=last)
    parts = modules(neuron, 5, torch.float64)
    one, other = (outcome(joined, x, *parts, steps=steps, timed=timed) for joined in (True, False))
    same(one, other, rtol=1e-10, atol=1e-12)
    assert one["spikes"].is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


@pytest.mark.usefixtures("interpreted")
def test_running_statistics_are_those_of_a_batch_norm_over_every_step() -> None:
    norm, neuron = modules(NeuronSettings(), 4, torch.float64)
    x = images(3, 4, 2, torch.float64, last=False)
    plain = torch.nn.BatchNorm2d(4).double()
    plain.load_state_dict(norm.state_dict())
    for momentum in (0.1, None):
        norm.momentum = plain.momentum = momentum
        normalise_and_fire(x, norm, neuron, 5, timed=False)
        plain(x.repeat(5, 1, 1, 1))
    torch.testing.assert_close(norm.running_mean, plain.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm.running_var, plain.running_var, rtol=1e-12, atol=1e-12)
    assert norm.num_batches_tracked == plain.num_batches_tracked


@pytest.mark.usefixtures("interpreted")
def test_half_precision_goes_in_and_out_and_is_computed_in_single() -> None:
    norm, neuron = modules(NeuronSettings(), 4, torch.float32)
    x = images(6, 4, 4, torch.bfloat16, last=True)
    half = outcome(True, x, norm, neuron, steps=3, timed=True)
    single = outcome(True, x.float(), norm, neuron, steps=3, timed=True)
    assert half["spikes"].dtype == half["x"].dtype == torch.bfloat16
    assert torch.equal(half["spikes"].float(), single["spikes"])
    torch.testing.assert_close(half["weight"], single["weight"], rtol=2e-2, atol=2e-2)  # the loss has 8 bits


@pytest.mark.usefixtures("interpreted")
def test_a_single_value_per_channel_is_refused_and_shown_twice_is_not() -> None:
    norm, neuron = modules(NeuronSettings(), 4, torch.float32)
    x = images(1, 4, 1, torch.float32, last=False)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        normalise_and_fire(x, norm, neuron, 1, timed=True)
    same(*(outcome(joined, x, norm, neuron, steps=2, timed=False) for joined in (True, False)), rtol=1e-4, atol=1e-5)


def test_only_what_it_computes_is_joined() -> None:
    norm, neuron = TimeBatchNorm2d(4), SpikingNeuron(NeuronSettings(), "fused")
    assert can_join(norm, neuron)
    assert not can_join(TimeBatchNorm2d(4, stepwise=True), neuron)
    assert not can_join(TimeBatchNorm2d(4).eval(), neuron)
    assert not can_join(norm, SpikingNeuron(NeuronSettings(), "eager"))
    assert not can_join(norm, type("Own", (SpikingNeuron,), {})(NeuronSettings(), "fused"))
    assert not can_join(torch.nn.BatchNorm2d(4), neuron)
    handle = neuron.register_forward_pre_hook(lambda *_: None)
    assert not can_join(norm, neuron)
    handle.remove()
    assert can_join(norm, neuron)


def small_network() -> Any:
    spec = SpecBuilder("small", (3, 8, 8), 4)
    first = spec.conv_norm_neuron("a.", "input", 8, role="stem")
    second = spec.conv_norm_neuron("b.", first, 8)
    third = spec.conv_norm("c.", second, 8)
    total = spec.node("add", "add", third, second)
    fired = spec.node("fire", "neuron", total)
    spec.node("classifier", "linear", spec.node("pool", "global_pool", fired), features=4, role="classifier")
    torch.manual_seed(0)
    return build(spec.finish(), steps=4, path="fused")


@compiled
def test_a_network_learns_the_same_joined_and_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(6, 3, 8, torch.float32, last=True)
    one, other = small_network(), small_network()
    seen: list[str] = []
    import evospike.models.network as room

    def spy(x: Tensor, norm: TimeBatchNorm2d, *rest: Any, **how: Any) -> Tensor:
        seen.append(next(name for name, module in one.named_modules() if module is norm))
        return normalise_and_fire(x, norm, *rest, **how)

    monkeypatch.setattr(room, "normalise_and_fire", spy)
    one(x).square().mean().backward()
    assert seen == ["a.norm", "b.norm"]  # c.norm is read by an addition
    other.observer = lambda *_: None  # who watches spikes sees norm and neuron apart
    other(x).square().mean().backward()
    assert seen == ["a.norm", "b.norm"]
    for name, parameter in one.named_parameters():
        twin = other.get_parameter(name)
        torch.testing.assert_close(parameter.grad, twin.grad, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
    for name, buffer in one.named_buffers():
        torch.testing.assert_close(buffer, other.get_buffer(name), rtol=1e-5, atol=1e-6)


@compiled
def test_one_compilation_serves_every_size() -> None:
    parts = {channels: modules(NeuronSettings(), channels, torch.float32) for channels in (5, 8, 33)}
    counters = torch._dynamo.utils.counters["stats"]

    def compare(seed: int, batch: int, channels: int, side: int) -> None:
        x = images(4 * batch, channels, side, torch.float32, last=True, seed=seed)
        one, other = (outcome(joined, x, *parts[channels], steps=4, timed=True) for joined in (True, False))
        same(one, other, rtol=1e-4, atol=1e-5)

    compare(0, 3, 8, 6)
    before = counters["unique_graphs"]
    for seed, sizes in enumerate([(2, 5, 3), (7, 33, 4), (18, 33, 11)], 1):
        compare(seed, *sizes)
    assert counters["unique_graphs"] == before


@compiled
def test_only_the_norms_input_is_kept() -> None:
    """What the graph holds of a layer's size: the input of the norm, and nothing else."""
    norm, neuron = modules(NeuronSettings(), 8, torch.float32)
    x = images(4 * 3, 8, 6, torch.float32, last=True).requires_grad_()
    kept: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        normalise_and_fire(x * 1.0, norm, neuron, 4, timed=True)
    assert [size for size in kept if size >= x.numel()] == [x.numel()]
