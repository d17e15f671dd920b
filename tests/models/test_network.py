"""What a network computes: coding once, steps, delays, signs, observers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evospike.core.errors import ShapeError
from evospike.layers.weights import GeneratedWeight
from evospike.models.build import build
from evospike.models.counts import neuron_units
from evospike.models.network import Network
from evospike.models.presets import PRESETS, small8
from evospike.models.spec import INPUT, Edge, NetworkSpec, SpecBuilder
from evospike.neurons.dynamics import step
from evospike.neurons.settings import NeuronSettings

T = 3


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gradients(network: Network, scores: Tensor, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    names, parameters = zip(*network.named_parameters(), strict=True)
    grads = torch.autograd.grad((scores * draw(*scores.shape, seed=8)).sum(), [*parameters, x])
    return zip([*names, "x"], grads, strict=True)


def sibling(network: Network, spec: NetworkSpec, **options: Any) -> Network:
    """Another network with the same weights and statistics."""
    other = build(spec, **options).double()
    other.load_state_dict(network.state_dict())
    return other


@pytest.mark.parametrize("norm_time", ["joint", "step"])
@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("small8", {"channels": (4, 4, 6, 6)}),
        ("small32", {"channels": (4, 4, 6)}),
        ("resnet18", {"block": "ms"}),
        ("resnet18", {"block": "sew"}),
    ],
)
def test_a_static_image_equals_the_same_frame_at_every_step(preset: str, options: Any, norm_time: Any) -> None:
    torch.manual_seed(1)
    shape = (2, 8, 7)
    static = build(PRESETS[preset](shape, 3, **options), steps=T, norm_time=norm_time).double()
    events = sibling(static, PRESETS[preset](shape, 3, events=True, **options), norm_time=norm_time)
    x = draw(2, *shape).requires_grad_()
    frames = x.detach().repeat(T, 1, 1, 1, 1).requires_grad_()
    first, second = static(x), events(frames)
    same(first, second)
    assert first.shape == (T, 2, 3)
    for (name, one), (_, other) in zip(gradients(static, first, x), gradients(events, second, frames), strict=True):
        torch.testing.assert_close(
            one, other.sum(0) if name == "x" else other, rtol=1e-7, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )
    moved = 0
    for name, buffer in static.named_buffers():
        same(buffer.double(), events.get_buffer(name).double())
        moved += name.endswith("running_var") and not torch.equal(buffer, torch.ones_like(buffer))
    assert moved >= 3
    static.eval(), events.eval()
    same(static(x), events(frames))


def test_the_image_is_coded_once() -> None:
    network = build(small8((1, 6, 6), 3, channels=(2, 2)), steps=4)
    batches: dict[str, int] = {}
    for name in ("conv1.conv", "conv1.norm", "conv2.conv"):
        network.get_submodule(name).register_forward_hook(
            lambda module, args, out, name=name: batches.__setitem__(name, len(out))
        )
    network(torch.rand(3, 1, 6, 6))
    assert batches == {"conv1.conv": 3, "conv1.norm": 3, "conv2.conv": 12}


def test_scores_of_small8_by_hand() -> None:
    """The graph of the smallest preset, written out with PyTorch's own modules and the `step` function."""
    torch.manual_seed(2)
    network = build(small8((1, 6, 6), 3, channels=(3, 4)), steps=T).double()
    parts = dict(network.named_modules())
    x = draw(2, 1, 6, 6)

    def norm(name: str, y: Tensor) -> Tensor:
        mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
        weight, bias = parts[name].weight, parts[name].bias
        return (y - mean) / (var + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]

    def fire(current: Tensor) -> Tensor:
        v, spikes = torch.zeros_like(current[0]), []
        for row in current:
            s, v = step(row, v, NeuronSettings())
            spikes.append(s)
        return torch.stack(spikes)

    first = fire(norm("conv1.norm", parts["conv1.conv"](x)).expand(T, -1, -1, -1, -1))
    second = fire(norm("conv2.norm", parts["conv2.conv"](first.flatten(0, 1))).unflatten(0, (T, 2)))
    pooled = nn.functional.avg_pool2d(second.flatten(0, 1), 2).mean((2, 3))
    assert 0.02 < second.mean() < 0.9
    same(network(x), parts["classifier"](pooled).unflatten(0, (T, 2)))


@pytest.mark.parametrize("block", ["post", "sew", "ms"])
@pytest.mark.parametrize("training", [False, True])
def test_stepping_through_time_gives_what_running_layer_by_layer_gives(block: str, training: bool) -> None:
    torch.manual_seed(0)
    spec = PRESETS["resnet18"]((2, 6, 6), 3, block=block)
    network = build(spec, steps=T, norm_time="step").double()
    x = draw(2, 2, 6, 6)
    network(x)  # running statistics away from their defaults
    network.train(training)
    other = sibling(network, spec, steps=T, norm_time="step").train(training)
    same(network(x), other._step_through(x, T))
    for name, buffer in network.named_buffers():
        same(buffer.double(), other.get_buffer(name).double())


def recurrent(*, events: bool = True) -> NetworkSpec:
    """Delayed and signed edges: an inhibitory loop, an excitatory skip and an input of two steps ago."""
    b = SpecBuilder("recurrent", (1, 2, 2), 2, events=events)
    b.node("echo", "add", INPUT, Edge(INPUT, delay=2))
    b.node("flat", "flatten", "echo")
    b.node("a", "linear", "flat", features=3)
    b.node("sum", "add", "a", Edge("b", sign=-1, delay=1), Edge("a", sign=1, delay=3))
    b.node("n", "neuron", "sum")
    b.node("b", "linear", "n", features=3)
    b.node("both", "concat", "n", Edge("a", sign=-1))
    b.node("out", "linear", "both", features=2)
    return b.finish()


def by_hand(network: Network, frames: Tensor) -> Tensor:
    parts = dict(network.named_modules())
    zero = torch.zeros(frames.shape[1], 3, dtype=frames.dtype)
    v, a_past, b_past, scores = zero, [zero] * 3, zero, []
    for t, frame in enumerate(frames):
        echo = frame + (frames[t - 2] if t >= 2 else 0)
        a = parts["a"](echo.flatten(1))
        total = a + b_past.clamp(max=0) + a_past[-3].clamp(min=0)
        s, v = step(total, v, NeuronSettings())
        b_past = parts["b"](s)
        a_past = [*a_past, a]
        scores.append(parts["out"](torch.cat([s, a.clamp(max=0)], 1)))
    return torch.stack(scores)


@pytest.mark.parametrize("events", [True, False])
def test_delayed_and_signed_edges_against_a_loop_by_hand(events: bool) -> None:
    torch.manual_seed(4)
    network = build(recurrent(events=events), steps=6).double()
    with torch.no_grad():
        for name in ("a", "b"):
            network.get_submodule(name).weight.mul_(4)
    x = (draw(6, 5, 1, 2, 2) if events else draw(5, 1, 2, 2)).requires_grad_()
    scores = network(x)
    expected = by_hand(network, x if events else x.expand(6, -1, -1, -1, -1))
    same(scores, expected)
    for (name, one), (_, other) in zip(gradients(network, scores, x), gradients(network, expected, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("change", [{"sign": 0}, {"sign": 1}, {"delay": 2}])
def test_sign_and_delay_matter(change: dict[str, int]) -> None:
    """A guard: the loop above would notice an edge whose sign or delay is ignored."""
    torch.manual_seed(4)
    spec = recurrent()
    network = build(spec).double()
    with torch.no_grad():
        for name in ("a", "b"):
            network.get_submodule(name).weight.mul_(4)
    edge = Edge("b", **{"sign": -1, "delay": 1, **change})
    nodes = tuple(
        type(n)(n.name, n.op, (n.inputs[0], edge, n.inputs[2]), dict(n.args)) if n.name == "sum" else n
        for n in spec.nodes
    )
    other = sibling(network, NetworkSpec(spec.name, spec.input_shape, spec.classes, nodes, True))
    x = draw(6, 5, 1, 2, 2)
    assert (network(x) - other(x)).abs().max() > 0.05


class Scaled(GeneratedWeight):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.base, self.bias = nn.Parameter(linear.weight.detach().clone()), linear.bias
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.formed = 0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return tuple(self.base.shape)

    def form_weight(self) -> Tensor:
        self.formed += 1
        return self.base * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.current_weight(), self.bias)


def test_generated_weights_are_formed_once_per_forward_in_step_mode() -> None:
    torch.manual_seed(5)
    stored = build(recurrent()).double()
    generated = sibling(stored, recurrent())
    generated.a = Scaled(stored.get_submodule("a"))  # type: ignore[arg-type]
    x = draw(6, 5, 1, 2, 2)
    scores, expected = generated(x), stored(x)
    same(scores, expected)
    assert generated.a.formed == 1
    (by_base,) = torch.autograd.grad(scores.square().sum(), generated.a.base)
    (by_weight,) = torch.autograd.grad(expected.square().sum(), stored.get_submodule("a").weight)
    same(by_base, by_weight)
    generated(x)
    assert generated.a.formed == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_the_observer_sees_every_neuron_layer(preset: str) -> None:
    options = {"vgg16": {"hidden": 16}, "small8": {"channels": (4, 4)}, "small32": {"channels": (4, 4)}}
    size = 32 if preset == "vgg16" else 16 if preset == "vggsnn" else 8
    spec = PRESETS[preset]((1, size, size), 2, **options.get(preset, {}))
    network = build(spec, steps=2)
    seen: list[tuple[str, Tensor, Tensor]] = []
    network.observer = lambda name, spikes, last: seen.append((name, spikes, last))
    with torch.no_grad():
        network(torch.rand(2, 1, size, size))
    assert [name for name, _, _ in seen] == [node.name for node in spec.nodes if node.op == "neuron"]
    assert sum(spikes[0, 0].numel() for _, spikes, _ in seen) == neuron_units(spec)
    for _, spikes, last in seen:
        assert spikes.shape == (2, 2, *last.shape[1:])
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
        assert (last[spikes[-1] == 1] == 0).all()  # hard reset
        assert (last <= 1).all()
    assert sum(spikes.sum() for _, spikes, _ in seen) > 0


def test_the_observer_sees_each_step_of_a_stepped_network() -> None:
    network = build(recurrent())
    seen: list[tuple[str, tuple[int, ...]]] = []
    network.observer = lambda name, spikes, last: seen.append((name, tuple(spikes.shape)))
    network(torch.rand(3, 5, 1, 2, 2))
    assert seen == [("n", (1, 5, 3))] * 3


def test_votes_are_the_mean_of_ten_spiking_outputs_a_class() -> None:
    torch.manual_seed(0)
    network = build(small8((1, 6, 6), 3, channels=(8, 8), readout="vote"), steps=5)
    with torch.no_grad():
        network.get_submodule("classifier").weight.mul_(20)
    seen: dict[str, Tensor] = {}
    network.observer = lambda name, spikes, last: seen.__setitem__(name, spikes)
    scores = network(torch.rand(4, 1, 6, 6))
    votes = seen["voters"]
    assert votes.shape == (5, 4, 30)
    torch.testing.assert_close(scores, torch.stack([votes[..., 10 * c : 10 * c + 10].mean(-1) for c in range(3)], -1))
    assert 0.01 < scores.mean() < 0.99


def test_predict_takes_the_largest_mean_score() -> None:
    network = build(small8((1, 6, 6), 3, channels=(2, 2)), steps=3).eval()
    x = torch.rand(8, 1, 6, 6)
    scores = network(x)
    assert torch.equal(network.predict(x), (scores[0] + scores[1] + scores[2]).argmax(1))


def test_no_state_is_kept_between_forwards() -> None:
    network = build(small8((1, 6, 6), 3, channels=(4, 4)), steps=3).eval()
    x, other = torch.rand(2, 1, 6, 6), torch.rand(2, 1, 6, 6) * 5
    first = network(x)
    network(other)
    assert torch.equal(network(x), first)


def test_channels_last_gives_the_same_scores() -> None:
    torch.manual_seed(0)
    network = build(small8((2, 6, 6), 3, channels=(4, 4, 6)), steps=3).double()
    x = draw(2, 2, 6, 6)
    scores = network(x)
    other = sibling(network, network.spec, steps=3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layouts: list[bool] = []
    other.observer = lambda name, spikes, last: layouts.append(last.is_contiguous(memory_format=torch.channels_last))
    same(other(x.contiguous(memory_format=torch.channels_last)), scores)
    assert layouts == [True] * 3


@pytest.mark.parametrize(
    ("events", "shape", "form"),
    [
        (False, (2, 1, 6, 5), "(B, C, H, W)"),
        (False, (1, 6, 6), "(B, C, H, W)"),
        (False, (3, 2, 1, 6, 6), "(B, C, H, W)"),
        (True, (2, 1, 6, 6), "(T, B, C, H, W)"),
        (True, (3, 2, 2, 6, 6), "(T, B, C, H, W)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(events: bool, shape: tuple[int, ...], form: str) -> None:
    network = build(small8((1, 6, 6), 3, channels=(2, 2), events=events))
    with pytest.raises(ShapeError) as caught:
        network(torch.zeros(shape))
    assert str(caught.value) == f"'small8' reads {form} with (C, H, W) = (1, 6, 6), given {shape}"
