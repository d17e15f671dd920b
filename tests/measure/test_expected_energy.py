"""The 45 nm model against the figures of the methods reference and against counting by hand."""

from __future__ import annotations

import pytest
import torch

from evospike.measure.cost import count_costs
from evospike.measure.energy import PICOJOULES_PER_AC, PICOJOULES_PER_MAC, energy_models
from evospike.measure.expected_energy import energy_45nm
from evospike.models.build import build
from evospike.models.presets import resnet34
from evospike.models.spec import INPUT, Edge, NetworkSpec, SpecBuilder


def rates(spec: NetworkSpec, rate: float) -> dict[str, float]:
    return {node.name: rate for node in spec.nodes if node.op == "neuron"}


@pytest.mark.parametrize(("rate", "millijoules"), [(0.2, 3.10), (1.0, 13.31)])
def test_dense_resnet34_at_four_steps(rate: float, millijoules: float) -> None:
    spec = resnet34((3, 224, 224), 1000, block="post")
    assert energy_45nm(spec, rates(spec, rate), 4) * 1e-9 == pytest.approx(millijoules, abs=0.01)


def small(*, events: bool = False) -> NetworkSpec:
    b = SpecBuilder("small", (2, 4, 4), 3, events=events)
    stem = b.node("stem.neuron", "neuron", b.conv("stem", INPUT, 4, role="stem"))  # 4*2*9*16 = 1152 MACs
    halves = [stem, b.node("other.neuron", "neuron", "stem")]
    both = b.node("both", "concat", *halves)
    wide = b.conv("wide", both, 2, kernel=1)  # 2*8*16 = 256
    real = b.conv("real", wide, 2, kernel=1)  # 2*2*16 = 64, of a current
    pooled = b.node("pool", "global_pool", b.node("last", "neuron", real))
    b.node("classifier", "linear", pooled, features=3, role="classifier")  # 6
    return b.finish()


def test_spikes_accumulate_and_real_values_multiply() -> None:
    seen = {"stem.neuron": 0.5, "other.neuron": 0.1, "last": 0.25}
    accumulates = 5 * (256 * 0.3 + 6 * 0.25)  # a concatenation fires at the mean of its parts
    multiplies = 1152 + 5 * 64  # the stem sees one image, the second convolution a current of every step
    expected = PICOJOULES_PER_AC * accumulates + PICOJOULES_PER_MAC * multiplies
    assert energy_45nm(small(), seen, 5) == pytest.approx(expected)


def test_event_frames_are_multiplied_at_every_step() -> None:
    spec = small(events=True)
    quiet = rates(spec, 0.0)
    assert energy_45nm(spec, quiet, 5) == pytest.approx(PICOJOULES_PER_MAC * 5 * (1152 + 64))


def test_a_current_with_delayed_feedback_moves() -> None:
    b = SpecBuilder("loop", (1, 2, 2), 2)
    stem = b.conv("stem", INPUT, 1, kernel=1, role="stem")  # 4 MACs, static
    total = b.node("total", "add", stem, Edge("back", delay=1))
    after = b.conv("after", total, 1, kernel=1)  # 4 MACs at every step, through the feedback
    fired = b.node("fired", "neuron", after)
    b.conv("back", fired, 1, kernel=1)  # 4 accumulates a step at rate 1
    pooled = b.node("pool", "global_pool", fired)
    b.node("classifier", "linear", pooled, features=2)  # 2
    spec = b.finish()
    expected = PICOJOULES_PER_MAC * (4 + 3 * 4) + PICOJOULES_PER_AC * 3 * (4 + 2)
    assert energy_45nm(spec, {"fired": 1.0}, 3) == pytest.approx(expected)


def test_sums_of_spikes_accumulate_as_often_as_they_say() -> None:
    b = SpecBuilder("sums", (1, 2, 2), 2)
    stem = b.node("stem.neuron", "neuron", b.conv("stem", INPUT, 2, kernel=1, role="stem"))  # 8 MACs
    late = b.node("late", "add", stem, Edge(stem, delay=1), Edge("last", delay=2))  # 0.5 + 3/4 0.5 + 2/4 0.3
    fired = b.node("fired", "neuron", b.conv("wide", late, 2, kernel=1))  # 2*2*4 = 16
    both = b.node("both", "add", late, fired)
    last = b.node("last", "neuron", b.conv("real", b.node("mixed", "add", both, "stem"), 2, kernel=1))  # 16 real
    flat = b.node("flat", "flatten", b.node("joined", "concat", both, last))
    b.node("classifier", "linear", flat, features=2)  # 2*16 = 32
    before = 0.5 + 0.375 + 0.15
    accumulates = 4 * (16 * before + 32 * ((before + 0.1) + 0.3) / 2)
    expected = PICOJOULES_PER_AC * accumulates + PICOJOULES_PER_MAC * (8 + 4 * 16)
    seen = {"stem.neuron": 0.5, "fired": 0.1, "last": 0.3}
    assert energy_45nm(b.finish(), seen, 4) == pytest.approx(expected)


@pytest.mark.parametrize("block", ["post", "sew", "ms"])
@pytest.mark.parametrize("feedback", [False, True])
def test_a_search_expects_what_an_evaluation_counts(block: str, feedback: bool) -> None:
    """At the rates that were counted, where nothing is pooled: strides, sums of spikes, currents, projections."""
    b = SpecBuilder("agreed", (2, 4, 4), 3)
    current = b.conv_norm("stem.", INPUT, 3, role="stem")
    if feedback:
        current = b.node("fed", "add", current, Edge("two.neuron", delay=1))
    x = current if block == "ms" else b.node("stem.neuron", "neuron", current)
    one = b.conv_norm_neuron("one.", b.node("first", "neuron", x) if block == "ms" else x, 3)
    if block == "sew":
        x = b.node("sum", "add", b.conv_norm_neuron("two.", one, 3), x)
    else:
        total = b.node("sum", "add", b.conv_norm("two.", one, 3), b.conv_norm("project.", x, 3, kernel=1))
        x = b.node("two.neuron", "neuron", total)
    x = b.conv_norm_neuron("three.", x, 4, stride=2)
    b.node("classifier", "linear", b.node("flat", "flatten", x), features=3, role="classifier")
    net = build(b.finish(), steps=4)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if "norm" in name:
                parameter.fill_(1.5 if name.endswith("weight") else 0.4)
    x = torch.randn(3, 2, 4, 4, generator=generator)
    costs, _ = count_costs(net, [(x, torch.zeros(3, dtype=torch.long))])
    assert min(layer.rate for layer in costs.neurons) > 0
    assert {"post": "binary", "sew": "counts", "ms": "binary"}[block] in {layer.input_kind for layer in costs.layers}
    rates = {layer.name: layer.rate for layer in costs.neurons}
    assert energy_models(costs)["45nm"]["picojoules"] == pytest.approx(energy_45nm(net.spec, rates, 4), rel=1e-9)
