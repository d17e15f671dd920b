"""Cases about neurons and networks: everyone computes the same graph on the same weights, and every figure is what it
says it is. Sizes are tiny; nothing here looks at a clock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from evospike.bench.case import LIMIT, OURS, Absent, Case, Circumstances, Contestant, Peer, PeerNeuron
from evospike.bench.cases import inference, limits, memory, networks, neuron, running, training
from evospike.bench.cases.networks import Entrant, Layout, Workload
from evospike.bench.cases.running import StandIn, forward_pass, images, labels, make_network, training_step
from evospike.bench.timing import in_fresh_process
from evospike.core.errors import RunError
from evospike.core.rng import torch_stream
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.models.counts import count_layers
from evospike.models.network import Network
from evospike.models.presets import PRESETS
from evospike.models.spec import INPUT, SpecBuilder
from evospike.neurons.dynamics import multi_step, step
from evospike.neurons.fused import compiler_available
from evospike.neurons.settings import NeuronSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")

STEPS = 4
TINY = Workload(networks.vgg_small((8, 8, 12, 12), (3, 8, 8)), batch=3, steps=STEPS)
EAGER = Entrant("evospike eager", OURS)
needs_compiler = pytest.mark.skipif(not compiler_available(), reason="needs a C++ compiler")
layouts = pytest.mark.parametrize("layout", networks.LAYOUTS)


class OurDynamics(nn.Module):
    """A peer that computes what we do."""

    def forward(self, current: Tensor) -> Tensor:
        return multi_step(current, None, NeuronSettings())[0]


class Watching(nn.Module):
    """A stand-in that notes what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, current: Tensor) -> Tensor:
        self.seen.append(current)
        return current.cumsum(0)


PEER = Peer(
    "fake",
    "1.0",
    (
        PeerNeuron("plain", lambda steps: OurDynamics()),
        PeerNeuron("slow", lambda steps: OurDynamics(), quick=False),
        PeerNeuron("kernel", lambda steps: OurDynamics(), devices=("cuda",)),
    ),
)
MISSING = Absent("other", "other", "not installed")


def circumstances(tmp_path: Path, **changes: object) -> Circumstances:
    given = Circumstances("cpu", 1, False, str(tmp_path), "", {"fake": PEER, "other": MISSING})
    return replace(given, **changes)  # type: ignore[arg-type]


def residual() -> Workload:
    """A graph with a sum, a projection and a neuron behind a linear layer, as ResNet-19 has them."""
    b = SpecBuilder("residual", (3, 8, 8), networks.CLASSES)
    first = b.conv_norm_neuron("a.", INPUT, 8, role="stem")
    total = b.node("sum", "add", b.conv_norm("b.", first, 12), b.conv_norm("c.", first, 12, kernel=1))
    pooled = b.node("pool", "global_pool", b.node("fire", "neuron", total))
    hidden = b.node("hidden.neuron", "neuron", b.node("hidden.linear", "linear", pooled, features=16))
    b.node("classifier", "linear", hidden, features=networks.CLASSES, role="classifier")
    return Workload(b.finish(), batch=3, steps=STEPS)


def learned(net: Network, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Loss and gradients of a training step."""
    loss = F.cross_entropy(net.train()(x).mean(0), targets)
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad for name, p in net.named_parameters() if p.grad is not None}}


def names(entrants: object) -> list[str]:
    return [entrant.name for entrant in entrants]  # type: ignore[attr-defined]


# Everyone computes the same network.


@layouts
def test_relu_in_our_graph_is_a_plain_relu_network(layout: Layout) -> None:
    entrant = networks.relu_entrant("relu", layout)
    net, x = make_network(TINY, entrant), images(TINY, layout)
    weights = dict(net.named_parameters())
    h = x
    for i in range(1, 5):
        h = F.conv2d(h, weights[f"conv{i}.conv.weight"], padding=1)
        h = torch.relu(F.batch_norm(h, None, None, training=True))
        h = F.avg_pool2d(h, 2) if i == 2 else h
    expected = h.mean((2, 3)) @ weights["classifier.weight"].T
    scores = net.train()(x)
    torch.testing.assert_close(scores, expected.expand(STEPS, -1, -1), rtol=1e-4, atol=1e-5)


@layouts
@pytest.mark.parametrize("workload", [TINY, residual()], ids=["vgg", "residual"])
def test_a_peer_with_our_dynamics_learns_exactly_as_we_do(workload: Workload, layout: Layout) -> None:
    ours = replace(EAGER, layout=layout)
    theirs = replace(ours, inner=lambda steps: OurDynamics())
    x, targets = images(workload, layout), labels(workload)
    expected = learned(make_network(workload, ours), x, targets)
    found = learned(make_network(workload, theirs), x, targets)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert all(grad.abs().sum() > 0 for name, grad in expected.items() if "weight" in name)


def test_the_layouts_agree() -> None:
    losses = [training_step(TINY, replace(EAGER, layout=layout))() for layout in networks.LAYOUTS]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)


@needs_compiler
def test_the_fused_path_agrees() -> None:
    losses = [training_step(TINY, replace(EAGER, path=path))() for path in ("eager", "fused")]  # type: ignore[arg-type]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activations", ["bits", "recomputed"])
def test_keeping_less_changes_nothing(activations: str) -> None:
    saving = replace(EAGER, activations=activations)  # type: ignore[arg-type]
    assert torch.equal(training_step(TINY, saving)(), training_step(TINY, EAGER)())


def test_everyone_starts_from_the_same_weights() -> None:
    entrants = [EAGER, networks.relu_entrant("relu", "contiguous"), networks.convolutions_entrant()]
    first, *others = [dict(make_network(TINY, entrant).named_parameters()) for entrant in entrants]
    for other in others:
        assert all(torch.equal(value, first[name]) for name, value in other.items())
    weighted = {name for name in first if "norm" not in name}
    assert set(others[1]) == weighted


def test_convolutions_alone_compute_the_same_products() -> None:
    inputs = [products_of(make_network(TINY, entrant)) for entrant in (EAGER, networks.convolutions_entrant())]
    assert inputs[0] == inputs[1]
    macs = {layer.name: layer.macs for layer in count_layers(TINY.spec)}
    shown_once = {"conv1.conv": TINY.batch}
    images_seen = {name: shape[0] for name, shape in inputs[1].items()}
    assert images_seen == {name: shown_once.get(name, STEPS * TINY.batch) for name, count in macs.items() if count}
    kinds = {type(module) for module in make_network(TINY, networks.convolutions_entrant()).modules()}
    assert not kinds & {TimeBatchNorm2d, SpikingNeuron}


def products_of(net: Network) -> dict[str, tuple[int, ...]]:
    """Shapes of what every convolution and linear layer reads in a forward pass."""
    seen: dict[str, tuple[int, ...]] = {}
    for name, module in net.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: tuple(given[0].shape)}))
    net(images(TINY, "channels-last"))
    return seen


@layouts
@pytest.mark.parametrize("kind", ["ours", "relu", "peer", "nothing"])
def test_every_convolution_reads_the_layout_that_is_named(kind: str, layout: Layout) -> None:
    entrant = {
        "ours": EAGER,
        "relu": networks.relu_entrant(),
        "peer": replace(EAGER, inner=lambda steps: OurDynamics()),
        "nothing": networks.convolutions_entrant(),
    }[kind]
    net = make_network(TINY, replace(entrant, layout=layout))
    seen: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
            assert module.weight.is_contiguous(memory_format=running.memory_format(layout))
    net(images(TINY, layout))
    assert len(seen) == 4
    assert all(x.is_contiguous(memory_format=running.memory_format(layout)) for x in seen)


@given(
    steps=st.integers(1, 4),
    shape=st.one_of(
        st.tuples(st.integers(1, 3), st.integers(2, 4), st.integers(2, 3), st.integers(2, 3)),
        st.tuples(st.integers(1, 3), st.integers(1, 5)),
    ),
    shown=st.booleans(),
    last=st.booleans(),
)
def test_a_stand_in_gets_dense_memory_and_gives_its_values_in_place(
    steps: int, shape: tuple[int, ...], shown: bool, last: bool
) -> None:
    current = torch.randn((1 if shown else steps) * shape[0], *shape[1:], generator=torch_stream(0, "current"))
    if last and len(shape) == 4:
        current = current.contiguous(memory_format=torch.channels_last)
    current = current.unflatten(0, (-1, shape[0]))
    inner = Watching()
    output, state = StandIn(inner)(current, None, steps)
    expected = current.expand(steps, *shape).cumsum(0)
    assert torch.equal(output, expected)
    assert state.numel() == 0
    (seen,) = inner.seen
    assert all(row.is_contiguous() for row in seen)
    assert seen.shape[:2] == (steps, shape[0])


# What a step and a forward pass are.


def test_a_training_step_leaves_weights_as_they_are_and_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Network] = []

    def keep(workload: Workload, entrant: Entrant) -> Network:
        made.append(make_network(workload, entrant))
        return made[-1]

    monkeypatch.setattr(running, "make_network", keep)
    run = training_step(TINY, EAGER)
    before = {name: p.detach().clone() for name, p in made[0].named_parameters()}
    first, again = run(), run()
    assert torch.equal(first, again)
    assert torch.equal(first, learned(make_network(TINY, EAGER), images(TINY, "channels-last"), labels(TINY))["loss"])
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in made[0].named_parameters())
    assert all(module.num_batches_tracked == 2 for module in made[0].modules() if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize("entrant", [EAGER, networks.relu_entrant()], ids=["ours", "relu"])
@pytest.mark.parametrize("workload", [TINY, residual()], ids=["vgg", "residual"])
def test_a_folded_network_gives_the_scores_of_eval_mode(workload: Workload, entrant: Entrant) -> None:
    plain, folded = (forward_pass(workload, entrant, form)() for form in ("eval", "folded"))
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5)
    assert not plain.requires_grad
    assert plain.std() > 1e-3


def test_folding_leaves_no_norm_and_keeps_what_stands_in() -> None:
    net = running.folded(make_network(TINY, networks.relu_entrant()).eval(), "eager", compiled=False)
    kinds = [type(module) for module in net.modules()]
    assert TimeBatchNorm2d not in kinds
    assert kinds.count(nn.ReLU) == kinds.count(StandIn) == 4


def test_eval_mode_uses_the_statistics_of_the_batch() -> None:
    """Where the batch is seen once, eval mode differs from training mode by the variance's correction only."""
    relu = networks.relu_entrant()
    trained, settled = (forward_pass(TINY, relu, form)() for form in ("training", "eval"))
    torch.testing.assert_close(trained, settled, rtol=0.05, atol=0.05)


def test_neurons_alone_give_spikes_and_gradients_of_the_same_currents() -> None:
    shape = (STEPS, 2, 3, 4, 4)
    draws = torch_stream(neuron.SEED, "bench", "currents")
    current, by_spikes = torch.randn(shape, generator=draws).requires_grad_(), torch.randn(shape, generator=draws)
    v, fired = torch.zeros(shape[1:]), []
    for row in current:
        spikes, v = step(row, v, NeuronSettings())
        fired.append(spikes)
    expected = torch.stack(fired)
    (expected_grad,) = torch.autograd.grad(expected, current, by_spikes)
    for entrant in (EAGER, replace(EAGER, inner=lambda steps: OurDynamics())):
        spikes, grad = neuron.forward_and_backward(entrant, shape, "cpu")()
        assert torch.equal(spikes, expected)
        torch.testing.assert_close(grad, expected_grad)
    output, grad = neuron.forward_and_backward(networks.relu_entrant(), shape, "cpu")()
    assert torch.equal(output, current.detach().clamp_min(0))
    assert torch.equal(grad, by_spikes * (current.detach() > 0))


# Who takes part.

PEER_ROWS = [
    *(f"fake: {setting}, {layout}" for setting in ("plain", "slow") for layout in ("channels-last", "contiguous")),
    "fake: kernel",
    "other",
]


def test_contestants_of_a_training_step(tmp_path: Path) -> None:
    assert names(training.entrants(circumstances(tmp_path))) == [
        "evospike eager",
        "evospike fused",
        "evospike fused, contiguous",
        "relu",
        "relu, contiguous",
        "convolutions alone",
        *PEER_ROWS,
    ]


def test_contestants_of_a_forward_pass(tmp_path: Path) -> None:
    found = {entrant.name: form for entrant, form in inference.entrants(circumstances(tmp_path))}
    assert found == {
        "evospike training-mode forward": "training",
        "evospike eval": "eval",
        "evospike folded": "folded",
        "evospike folded, compiled": "compiled",
        "relu": "folded",
        **dict.fromkeys(PEER_ROWS, "eval"),
        "fake: plain, folded": "folded",
        "fake: slow, folded": "folded",
    }


def test_contestants_of_a_neuron_and_of_memory(tmp_path: Path) -> None:
    ours, peers = ["evospike eager", "evospike fused"], ["fake: plain", "fake: slow", "fake: kernel", "other"]
    alone = list(neuron.entrants(circumstances(tmp_path)))
    assert names(alone) == [*ours, "relu", *peers]
    assert {one.layout for one in alone if isinstance(one, Entrant)} == {"contiguous"}
    less = ["evospike, spikes in bits", "evospike, blocks recomputed"]
    found = list(memory.entrants({"fake": PEER, "other": MISSING}, "cpu"))
    assert names(found) == [*ours, *less, "relu", *peers]
    kept = {one.name: one.activations for one in found if isinstance(one, Entrant)}
    assert (kept.pop(less[0], "bits"), kept.pop(less[1], "recomputed")) == ("bits", "recomputed")
    assert set(kept.values()) == {"kept"}


def test_a_peer_says_why_it_is_absent(tmp_path: Path) -> None:
    absent = [one for one in training.entrants(circumstances(tmp_path)) if isinstance(one, Absent) and one.by != OURS]
    assert absent == [Absent("fake: kernel", "fake", "for cuda only"), MISSING]
    on_cuda = names(networks.peer_entrants({"fake": PEER}, "cuda:1"))
    assert on_cuda == ["fake: plain", "fake: slow", "fake: kernel"]


def test_a_quick_run_leaves_out_what_is_compiled_and_a_layout_of_peers(tmp_path: Path) -> None:
    whole, quick = circumstances(tmp_path), circumstances(tmp_path, quick=True)
    left_out = {"fake: slow, channels-last", "fake: slow, contiguous", "fake: plain, contiguous"}
    assert set(names(training.entrants(whole))) - set(names(training.entrants(quick))) == left_out
    whole_names, quick_names = ({entrant.name for entrant, _ in inference.entrants(c)} for c in (whole, quick))
    assert whole_names - quick_names == {*left_out, "fake: slow, folded", "evospike folded, compiled"}
    assert (networks.batch_of(quick, 32), networks.batch_of(whole, 32)) == (8, 32)


def test_without_a_compiler_the_fused_path_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("evospike.neurons.fused.compiler_available", lambda device: False)
    found = list(training.entrants(circumstances(tmp_path)))
    absent = [one for one in found if isinstance(one, Absent) and one.by == OURS]
    assert [one.name for one in absent] == ["evospike fused", "evospike fused, contiguous"]
    assert all("compiler" in one.reason for one in absent)
    assert found[0] == EAGER


def every_case() -> list[Case]:
    return [case for module in (limits, neuron, training, inference, memory) for case in module.CASES]


@pytest.mark.parametrize("case", every_case(), ids=lambda case: case.name)
def test_a_case_has_its_reference_and_names_of_its_own(case: Case, tmp_path: Path) -> None:
    found = [one.name for one in case.contestants(circumstances(tmp_path))]
    assert len(set(found)) == len(found)
    assert not case.reference or case.reference in found
    assert all(one.by in (LIMIT, OURS, "fake", "other") for one in case.contestants(circumstances(tmp_path)))


def test_the_cases_are_those_that_targets_and_tables_name() -> None:
    assert [case.name for case in every_case()] == [
        "limit-matmul",
        "limit-bandwidth",
        "limit-convolution",
        *(f"neuron-T{steps}" for steps in (2, 4, 8, 16)),
        "train-vgg-small",
        "train-resnet19",
        "infer-vgg-small",
        "infer-resnet19",
        "train-memory",
        "train-memory-resnet19",
    ]


def test_the_networks_are_those_of_the_literature() -> None:
    convolutions = [layer for layer in count_layers(networks.vgg_small()) if layer.op == "conv"]
    assert [layer.output_shape[0] for layer in convolutions] == [64, 64, 128, 128, 256, 256]
    assert [layer.output_shape[1] for layer in convolutions] == [32, 32, 16, 16, 8, 8]
    assert networks.resnet19() == PRESETS["resnet19"]((3, 32, 32), 10)


@pytest.mark.parametrize("case", [neuron.contestants, training.contestants, inference.contestants])
def test_a_contestant_measures_and_one_that_fails_fails_alone(case: Callable[..., object], tmp_path: Path) -> None:
    def refuse(steps: int) -> nn.Module:
        raise RuntimeError("no such kernel")

    peer = Peer("fake", "1.0", (PeerNeuron("plain", lambda steps: OurDynamics()), PeerNeuron("broken", refuse)))
    given = circumstances(tmp_path, peers={"fake": peer})
    asked = (STEPS, 2, 3, 4, 4) if case is neuron.contestants else TINY
    made = {one.name: one for one in case(asked, given) if isinstance(one, Contestant)}  # type: ignore[attr-defined]
    working = [name for name, one in made.items() if one.by in (LIMIT, "fake") and "broken" not in name]
    assert all(made[name].measure() > 0 for name in working)
    broken = [name for name in made if "broken" in name]
    assert broken
    for name in broken:
        with pytest.raises(RuntimeError, match="no such kernel"):
            made[name].measure()


def test_a_repetition_is_prepared_once_and_only_when_asked_for() -> None:
    asked: list[str] = []
    measure = networks.when_asked(lambda: asked.append("prepared") or (lambda: 1.5))  # type: ignore[func-returns-value]
    assert asked == []
    assert [measure(), measure()] == [1.5, 1.5]
    assert asked == ["prepared"]


# Memory.


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of a process")
@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("megabytes", [16, 48])
def test_a_peak_is_what_is_held_at_once(megabytes: int) -> None:
    """Measured as the case does, in a process of its own: its allocator was never told anything else."""
    found = in_fresh_process("bench_fake_cases:peak_of_two_halves", {"megabytes": megabytes}, threads=1)
    assert found == pytest.approx(megabytes, abs=4)


def test_where_no_peak_can_be_reset_its_growth_over_all_calls_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks, calls = iter([100, 350]), []
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "clear_refs")
    monkeypatch.setattr(memory, "_largest_ever", lambda: next(peaks))
    assert memory.peak_above(lambda: calls.append(1), "cpu") == 250
    assert len(calls) == memory.WARM_UP + 1


def test_memory_of_a_larger_batch_is_larger_by_what_it_holds(tmp_path: Path) -> None:
    """Back-propagation keeps at least what every convolution reads, in 4 bytes a number."""
    spec = networks.vgg_small((16, 16), (3, 32, 32))
    sizes = (8, 32)
    found = [eager_peak(Workload(spec, batch=batch, steps=2), tmp_path) for batch in sizes]
    read = sum(
        4 * 2 * layer.input_shape[0] * layer.input_shape[1] * layer.input_shape[2]
        for layer in count_layers(spec)
        if layer.op == "conv" and layer.role == "body"
    )
    assert found[1] - found[0] > (sizes[1] - sizes[0]) * read / 1e6


def eager_peak(workload: Workload, tmp_path: Path) -> float:
    made = memory.contestants(workload, circumstances(tmp_path, peers={}))
    return next(one.measure() for one in made if isinstance(one, Contestant) and one.name == "evospike eager")


def test_a_process_finds_a_peer_by_its_folder_and_refuses_other_names(tmp_path: Path) -> None:
    (tmp_path / "fake.py").write_text(
        "from torch import nn\n"
        "from evospike.bench.case import Peer, PeerNeuron\n"
        "PEER = Peer('fake', '1', (PeerNeuron('relu', lambda steps: nn.ReLU()),))\n",
        encoding="utf-8",
    )
    arguments = {"workload": replace(TINY, batch=64), "name": "fake: relu", "peers_folder": str(tmp_path)}
    assert in_fresh_process("evospike.bench.cases.memory:peak_of", arguments, threads=1) > 0
    with pytest.raises(RunError, match="'fake: other' does not take part"):
        memory.peak_of(TINY, "fake: other", str(tmp_path))


# Limits.


def test_rates_are_amounts_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[object] = []

    def in_two_milliseconds(run: Callable[[], object], device: str) -> Callable[[], float]:
        ran.append(run())
        return lambda: 2.0

    monkeypatch.setattr(limits, "timed", in_two_milliseconds)
    billions = 1 / (2e-3 * 1e9)
    assert limits.product_rate(16, "cpu")() == pytest.approx(2 * 16**3 * billions)
    assert limits.copies(1000, "cpu")() == pytest.approx(2 * 4000 * billions)
    assert limits.triads(1000, "cpu")() == pytest.approx(3 * 4000 * billions)
    layer = next(one for one in count_layers(networks.vgg_small((8, 12), (3, 6, 6))) if one.role == "body")
    assert limits.convolution_rate((5, 8, 6, 6), 12, "contiguous", "cpu")() == pytest.approx(
        2 * 5 * layer.macs * billions
    )
    product, copied, triad, convolved = ran
    assert isinstance(product, Tensor)
    assert torch.equal(product, torch.full((16, 16), 4.0))
    assert isinstance(copied, Tensor)
    assert copied.eq(1).all()
    assert isinstance(triad, Tensor)
    assert triad.eq(4).all()
    assert isinstance(convolved, Tensor)
    assert convolved.shape == (5, 12, 6, 6)


def test_the_convolutions_are_those_behind_the_stem_of_vgg_small() -> None:
    sizes = [(64, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8), (256, 256, 8)]
    assert limits.convolution_sizes() == sizes


def test_no_case_imports_torch_before_it_runs() -> None:
    modules = ", ".join(
        f"evospike.bench.cases.{name}" for name in ("inference", "limits", "memory", "neuron", "training")
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
