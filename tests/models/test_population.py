"""Networks computed as one give what each gives by itself: scores, gradients, running statistics."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evospike.core.errors import SpecError
from evospike.genetic.encode import encode
from evospike.genetic.groups import parameter_roles
from evospike.models.build import build
from evospike.models.init import draw_stored
from evospike.models.network import Network
from evospike.models.population import PopulationNetwork, why_not, widened
from evospike.models.presets import small8
from evospike.models.shapes import infer_shapes
from evospike.models.spec import INPUT, Edge, NetworkSpec, SpecBuilder
from evospike.neurons.fused import compiler_available
from evospike.neurons.settings import NeuronSettings
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings
from evospike.training.memory import saving

# torch's own compiler imports parts of torch that it calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")

compiled = pytest.mark.skipif(not compiler_available(), reason="no C++ compiler for torch.compile")

MEMBERS, BATCH, STEPS = 3, 2, 3
KINDS = ("stored", "edge", "frozen", "low_rank", "shared_tapG", "shared_tapE")


@dataclass(frozen=True)
class Made:
    """What a generated network is made of."""

    events: bool
    groups: int
    join: str
    sign: int
    delay: int
    pool: str
    head: str
    readout: str
    neuron: NeuronSettings
    norm_time: Any
    kind: str
    channels_last: bool


def spec_of(made: Made) -> NetworkSpec:
    """Every operation a specification knows, two branches and a delayed or signed edge."""
    b = SpecBuilder("made", (2, 6, 5), 2, events=made.events)
    b.conv_norm_neuron("stem.", INPUT, 4, role="stem")
    b.node("deep", "conv", "stem.neuron", channels=8, kernel=3, padding=1, groups=made.groups, bias=True, role="stem")
    b.node("thin", "conv", "deep", channels=4, kernel=1, role="body")
    if not made.delay:
        b.conv_norm_neuron("right.", "stem.neuron", 4)
    b.node("left.sum", "add", "thin", Edge("right.neuron", sign=made.sign, delay=made.delay))
    b.node("left.norm", "norm", "left.sum")
    b.node("left.neuron", "neuron", "left.norm", threshold=0.7)
    if made.delay:
        b.conv_norm_neuron("right.", "stem.neuron", 4)
    b.node("none", "zeros", "stem.neuron", channels=4)
    b.node("signed", "add", "right.neuron", Edge("thin", sign=-1), "none")
    b.node("joined", made.join, "left.neuron", "signed")
    b.node("halved", made.pool, "joined")
    b.node("grown", "upsample", "halved", factor=2)
    b.node("cut", "crop", "grown", pixels=1)
    b.node("flat", made.head, "cut")
    b.node("hidden", "linear", "flat", features=6, bias=False)
    b.node("voters", "neuron", "hidden")
    if made.readout == "vote":
        b.node("classes", "linear", "voters", features=4, role="classifier")
        b.node("vote", "vote", "classes", voters=2)
    else:
        b.node("classes", "linear", "voters", features=2, role="classifier")
    return b.finish()


def population(made: Made, count: int = MEMBERS) -> list[Network]:
    """Networks of one specification, whose values differ in every parameter, in double precision."""
    spec = spec_of(made)
    return [varied(network(spec, made), seed) for seed in range(count)]


def network(spec: NetworkSpec, made: Made) -> Network:
    net = build(spec, made.neuron, steps=STEPS, norm_time=made.norm_time).double()
    if made.kind != "stored":
        frozen = made.kind == "frozen"
        kind: Any = "edge" if frozen else made.kind
        encode(net, genes=2, kind=kind, skip_growing=False, train_output_encoding=not frozen)
    layout = torch.channels_last if made.channels_last else torch.contiguous_format
    return net.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def varied(net: Network, seed: int) -> Network:
    draw_stored(net, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.1 * noise if "norm" in name else noise)
    return net


def inputs(nets: Sequence[Network], seed: int = 0) -> list[Tensor]:
    """A batch of each member."""
    first, generator = nets[0], torch.Generator().manual_seed(seed)
    frames = (STEPS,) if first.spec.events else ()
    shape = (*frames, BATCH, *first.spec.input_shape)
    kind = next(first.parameters()).dtype
    return [torch.randn(shape, generator=generator, dtype=kind) for _ in nets]


def compare(nets: Sequence[Network], tolerance: float = 1e-10) -> None:
    """Two training steps' forward and backward passes, then one in eval mode, together and one by one."""
    alone = [copy.deepcopy(net) for net in nets]
    together = PopulationNetwork(nets)
    for step in range(2):
        xs = inputs(nets, step)
        scores, expected = together(torch.cat(xs, -3)), scores_of(alone, xs)
        same(scores, expected, tolerance, "scores")
        weights = torch.randn(scores.shape, dtype=scores.dtype, generator=torch.Generator().manual_seed(9))
        together.zero_grad(), [net.zero_grad() for net in alone]
        (scores * weights).sum().backward()
        (expected * weights).sum().backward()
        compare_gradients(together, alone, tolerance)
    together.scatter()
    for net, own in zip(nets, alone, strict=True):
        for name, tensor in own.state_dict().items():
            same(net.state_dict()[name], tensor, tolerance, name)
    together.eval(), [net.eval() for net in alone]
    same(together(torch.cat(xs, -3)), scores_of(alone, xs), tolerance, "scores in eval mode")


def scores_of(nets: Sequence[Network], xs: Sequence[Tensor]) -> Tensor:
    """(T, B, P, classes), network by network."""
    return torch.stack([net(x) for net, x in zip(nets, xs, strict=True)], 2)


def compare_gradients(together: PopulationNetwork, alone: Sequence[Network], tolerance: float) -> None:
    for name, parameter in together.named_parameters():
        for place, net in enumerate(alone):
            own = net.get_parameter(name.removeprefix("stacked.net."))
            assert parameter.requires_grad == own.requires_grad
            assert (parameter.grad is None) == (own.grad is None), name
            if parameter.grad is not None:
                same(parameter.grad[place], own.grad, 10 * tolerance, name)


def same(one: Tensor, other: Tensor | None, tolerance: float, name: str) -> None:
    """Up to rounding, which sums of many terms have in the size of these."""
    assert other is not None
    atol = tolerance * max(1.0, float(other.detach().abs().max()))
    torch.testing.assert_close(one, other, rtol=tolerance, atol=atol, msg=lambda message: f"{name}: {message}")


NEURONS = st.builds(
    NeuronSettings,
    kind=st.sampled_from(["lif", "if"]),
    decay=st.sampled_from([0.5, 0.9]),
    reset=st.sampled_from(["hard", "soft"]),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(["triangle", "arctan"]),
)

NETWORKS = st.builds(
    Made,
    events=st.booleans(),
    groups=st.sampled_from([1, 2, 4]),
    join=st.sampled_from(["add", "concat"]),
    sign=st.sampled_from([-1, 0, 1]),
    delay=st.integers(0, 2),
    pool=st.sampled_from(["avgpool", "maxpool"]),
    head=st.sampled_from(["flatten", "global_pool"]),
    readout=st.sampled_from(["linear", "vote"]),
    neuron=NEURONS,
    norm_time=st.sampled_from(["joint", "step"]),
    kind=st.sampled_from(KINDS),
    channels_last=st.booleans(),
)

PLAIN = Made(
    False, 2, "concat", 1, 0, "avgpool", "flatten", "linear", NeuronSettings(), "joint", "edge", channels_last=True
)


@given(NETWORKS)
@settings(max_examples=15, deadline=None)
def test_together_and_alone_are_the_same(made: Made) -> None:
    compare(population(made))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delay", [0, 1])
def test_every_encoding_in_single_precision(kind: str, delay: int) -> None:
    compare([net.float() for net in population(replace(PLAIN, kind=kind, delay=delay))], tolerance=2e-5)


@pytest.mark.parametrize("stance", ["force_eager", pytest.param("default", marks=[compiled, pytest.mark.slow])])
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_together_and_alone_are_the_same_on_the_fused_path(reset: Any, stance: str) -> None:
    """Norm and neuron as one function keep tensors for the backward pass, not a module that has others by then."""
    spec, neuron = small8((1, 6, 6), 3, channels=(4, 4)), NeuronSettings(reset=reset)
    nets = [varied(build(spec, neuron, steps=2, path="fused").double(), seed) for seed in range(MEMBERS)]
    with torch.compiler.set_stance(stance):
        compare(nets)


def test_what_is_kept_for_the_backward_pass_can_be_bits() -> None:
    """Spikes as bits give the same gradients to the bit."""
    nets = [varied(build(small8((1, 16, 16), 3, channels=(16, 4)), steps=4).double(), seed) for seed in range(4)]
    x = torch.cat([torch.randn(2, 1, 16, 16, dtype=torch.float64) for _ in nets], 1)
    found = []
    for activations in ("kept", "bits"):
        together = PopulationNetwork(nets)
        with saving(activations):  # type: ignore[arg-type]
            scores = together(x)
        scores.square().sum().backward()
        found.append([p.grad for p in together.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_widened_specification_has_every_shape_times_the_members() -> None:
    spec = spec_of(PLAIN)
    shapes, wide = infer_shapes(spec), infer_shapes(widened(spec, 5))
    assert wide == {name: (5 * shape[0], *shape[1:]) for name, shape in shapes.items()}
    assert widened(spec, 5)["deep"].args["groups"] == 10
    assert widened(spec, 1) == spec


def test_parameters_are_those_of_the_members_and_the_members_first() -> None:
    nets = population(PLAIN)
    together = PopulationNetwork(nets)
    own = dict(nets[0].named_parameters())
    stacked = {name.removeprefix("stacked.net."): p for name, p in together.named_parameters()}
    assert {name: p.shape for name, p in stacked.items()} == {name: (MEMBERS, *p.shape) for name, p in own.items()}
    assert all(p[0].stride() == own[name].stride() for name, p in stacked.items()), "and lie in memory as theirs"
    roles = parameter_roles(together)
    assert {name.removeprefix("stacked.net."): role for name, role in roles.items()} == parameter_roles(nets[0])


def test_members_do_not_see_each_other() -> None:
    """Whatever happens in a member, others have the same bits."""
    nets = population(PLAIN)
    xs = inputs(nets)
    before = PopulationNetwork(nets)
    scores = before(torch.cat(xs, -3))
    scores.square().sum().backward()
    with torch.no_grad():
        for parameter in nets[1].parameters():
            parameter.fill_(torch.nan)
    after = PopulationNetwork(nets)
    spoilt = after(torch.cat(xs, -3))
    spoilt.square().sum().backward()
    assert not spoilt[:, :, 1].isfinite().any()
    others = [0, 2]
    assert torch.equal(spoilt[:, :, others], scores[:, :, others])
    for one, other in zip(before.parameters(), after.parameters(), strict=True):
        assert torch.equal(one.grad[others], other.grad[others])  # type: ignore[index]
    for one, other in zip(before.wide.buffers(), after.wide.buffers(), strict=True):
        if one.dim():
            assert all(torch.equal(one.chunk(MEMBERS)[k], other.chunk(MEMBERS)[k]) for k in others)


def test_what_cannot_be_computed_as_one_is_refused_with_the_reason() -> None:
    def nets(**changes: Any) -> list[Network]:
        return population(replace(PLAIN, **changes), 2)

    assert why_not(nets()) is None
    assert why_not(nets()[:1]) == "there is only one"
    learned = nets(neuron=NeuronSettings(kind="plif"))
    assert why_not(learned) == "the neurons of 'stem.neuron' learn their decay"
    recomputed = nets()
    recomputed[1].recompute_blocks = True
    assert why_not(recomputed) == "their blocks are computed again for the backward pass"
    masked = nets(kind="stored")
    for net in masked:
        attach(net, SparseSettings(density=0.5), 0, ("mask",))
    assert (why_not(masked) or "").endswith("lacks synapses")
    watched = nets()
    watched[0].observer = lambda name, spikes, last: None
    assert why_not(watched) == "one of them is observed"
    replaced = nets()
    replaced[0].set_submodule("left.norm", nn.Identity())
    assert why_not(replaced) == "layer 'left.norm' is a Identity"
    assert why_not([*nets(), *nets(join="add")]) == "their specifications differ"
    differ = "their layers differ in settings, sizes or types"
    assert why_not([*nets(), *nets(kind="stored")]) == differ
    assert why_not([*nets(), *nets(norm_time="step")]) == differ
    assert why_not([*nets(), *nets(neuron=NeuronSettings(decay=0.25))]) == differ
    with pytest.raises(
        SpecError, match=r"cannot be computed as one: there is only one; compute them one after the other"
    ):
        PopulationNetwork(nets()[:1])
