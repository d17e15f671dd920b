"""Energy models against sums made by hand, and against the figures of the methods reference."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest

from evospike.measure.cost import Costs, LayerCost, NeuronCost
from evospike.measure.encoding_work import EncodingWork
from evospike.measure.energy import MODELS, Prices, at_rates, break_even, energy_models, with_all_synapses
from evospike.measure.expected_energy import energy_45nm
from evospike.models.counts import count_layers
from evospike.models.presets import resnet34

FLAT = Prices(mac=10.0, ac=2.0, flop=3.0, sop=7.0, sram=((0, 1.0),))
"""Prices that are easy to add up; every access to a memory costs 1."""


def layer(name: str, kind: str = "binary", **changes: object) -> LayerCost:
    """100 multiply-accumulates a pass, 80 without padding, from 3 inputs through 20 weights to 5 outputs; half of the
    weights are present. Real values come from outside, everything else from neurons."""
    told = {
        "name": name,
        "op": "linear",
        "reads": "input" if kind == "real" else "neurons",
        "input_kind": kind,
        "input_rate": 0.25,
        "input_activity": 0.25,
        "passes": 1 if kind == "real" else 4,
        "inputs": 3,
        "outputs": 5,
        "weights": 20,
        "present": 10,
        "dense_macs": 100,
        "unpadded_macs": 41,
        "effective": 48.0,
        "synaptic_operations": 48.0,
        "dense_unpadded_macs": 80,
        "dense_effective": 85.0,
        "dense_synaptic_operations": 90.0,
    }
    return LayerCost(**(told | changes))


SMALL = Costs(
    samples=8,
    steps=4,
    layers=(layer("stem", "real"), layer("body")),
    neurons=(NeuronCost("spikes", 6, (1.0, 2.0, 0.0, 3.0), 0.0, 0.0),),
)


def parts(costs: Costs, model: str, prices: Prices = FLAT) -> dict[str, float]:
    return energy_models(costs, prices)[model]["parts"]


def test_equation_17_on_paper() -> None:
    # the stem's 50 present connections multiply once, the body's accumulate 4 steps x rate 0.25 x 50
    assert parts(SMALL, "45nm") == {"spikes": 2.0 * 50, "real inputs": 10.0 * 50}
    assert "45nm_with_encoding" not in energy_models(SMALL, FLAT), "nothing is generated"


def test_counts_are_accumulated_for_each_unit_of_them() -> None:
    counts = replace(SMALL, layers=(layer("sum", "counts", input_rate=1.5),))
    assert parts(counts, "45nm")["spikes"] == pytest.approx(2.0 * 4 * 1.5 * 50)


def test_the_chip_prices_two_flops_for_a_multiply_accumulate() -> None:
    assert parts(SMALL, "chip") == {"spikes": 7.0 * 48, "real inputs": 3.0 * 2 * 50}


def test_memory_traffic_on_paper() -> None:
    assert parts(SMALL, "memory") == {
        "arithmetic": 10.0 * 41 + 2.0 * 48 + 10.0 * 6 * 4,  # and every potential is updated at every step
        "weights": 41 + 48,
        "inputs": 41,
        "potentials": 2 * 5 + 2 * 48 + 2 * 6 * 4,
        "spikes": 2 * 6,
    }


def test_events_of_the_input_are_queued_as_spikes_are() -> None:
    filmed = replace(SMALL, layers=(layer("stem", "counts", reads="input", input_rate=1.5), layer("body")))
    assert parts(filmed, "memory")["spikes"] == 2 * 6 + 2 * (4 * 3 * 1.5)
    assert parts(filmed, "memory")["inputs"] == 0


def test_what_generating_weights_adds_on_paper() -> None:
    """The first of two stages is priced as a layer is: every product of real values, passes x rate of spikes."""
    formed = layer("formed", encoding=EncodingWork("materialise", 300, 0.0, 0, 0))
    staged = layer("staged", encoding=EncodingWork("two_stage", 40, 12.0, first_stage_macs=60, second_stage=30))
    real = layer("real", "real", encoding=EncodingWork("two_stage", 1, 5.0, first_stage_macs=20, second_stage=2))
    costs = replace(SMALL, layers=(formed, staged, real))
    assert parts(costs, "45nm") == {"spikes": 2.0 * 100, "real inputs": 10.0 * 50}
    assert parts(costs, "45nm_with_encoding") == {
        "spikes": 2.0 * 4 * 0.25 * (50 + 60),
        "real inputs": 10.0 * 20,
        "second stage": 10.0 * 32,
        "forming weights": 10.0 * 341,
    }


@pytest.mark.parametrize("model", MODELS)
def test_the_dense_twin_has_all_synapses_stored_and_the_same_rates(model: str) -> None:
    work = EncodingWork("two_stage", 40, 12.0, 60, 30)
    costs = replace(SMALL, layers=(layer("stem", "real"), layer("body", encoding=work)))
    whole = {"present": 20, "unpadded_macs": 80, "effective": 85.0, "synaptic_operations": 90.0}
    twin = replace(SMALL, layers=(layer("stem", "real", **whole), layer("body", **whole)))
    priced = energy_models(costs, FLAT)[model]
    expected = sum(MODELS[model].parts(twin, FLAT).values())
    assert priced["dense_picojoules"] == pytest.approx(expected)
    assert priced["picojoules"] == sum(priced["parts"].values())
    assert with_all_synapses(twin) == twin


def test_a_layer_that_lost_all_synapses_has_them_back_in_the_twin() -> None:
    nothing = {"present": 0, "unpadded_macs": 0, "effective": 0.0, "synaptic_operations": 0.0}
    bare = replace(SMALL, layers=(layer("bare", **nothing),))
    assert sum(parts(bare, "45nm").values()) == 0
    assert with_all_synapses(bare).layers[0].synaptic_operations == 90.0


def test_only_what_neurons_feed_changes_with_their_rates() -> None:
    """Frames of events stay as they are; pooled spikes, which are real values, do not."""
    frames, pooled = layer("frames", "counts", reads="input"), layer("pooled", "real", reads="neurons")
    costs = replace(SMALL, layers=(frames, layer("current", "real", reads="currents"), layer("body"), pooled))
    found = at_rates(costs, 0.5)
    half = {"input_rate": 0.125, "input_activity": 0.125, "effective": 24.0, "synaptic_operations": 24.0}
    half |= {"dense_effective": 42.5, "dense_synaptic_operations": 45.0}
    halved = (replace(layer("body"), **half), replace(pooled, **half))
    assert found.layers == (*costs.layers[:2], *halved)
    assert found.firing_rate == costs.firing_rate / 2


@pytest.mark.parametrize("model", ["45nm", "memory"])
def test_at_the_break_even_rate_both_networks_cost_the_same(model: str) -> None:
    body = layer("body", dense_macs=1000, unpadded_macs=410, effective=480.0, synaptic_operations=480.0)
    busy = replace(SMALL, layers=(layer("stem", "real"), body))
    found = break_even(busy, FLAT)[model]
    assert found["bits"] == 3, "4 steps count to 4"
    there = at_rates(busy, found["scale"])
    assert sum(MODELS[model].parts(there, FLAT).values()) == pytest.approx(found["quantised_picojoules"])
    assert found["firing_rate"] == pytest.approx(there.firing_rate)


def test_the_quantised_network_runs_once_with_narrow_multipliers() -> None:
    narrow = 2.0 + 8.0 * 3 / 32
    assert break_even(SMALL, FLAT)["45nm"]["quantised_picojoules"] == pytest.approx(10.0 * 50 + narrow * 50)
    moved = 41 * (1 + 1) + 41 * (1 + 3 / 32) + 2 * (2 * 5 * 3 / 32)  # both layers hand on 3 bits
    found = break_even(SMALL, FLAT)["memory"]["quantised_picojoules"]
    assert found == pytest.approx(10.0 * 41 + narrow * 41 + moved)


@pytest.mark.parametrize(("reads", "bits"), [("input", 32), ("currents", 3), ("neurons", 3)])
@pytest.mark.parametrize("kind", ["binary", "counts", "real"])
def test_the_quantised_network_reads_few_bits_but_from_its_input(reads: str, bits: int, kind: str) -> None:
    """Whatever the spiking network reads there: events of the input, or spikes that were pooled."""
    alone = replace(SMALL, layers=(layer("alone", kind, reads=reads),))
    product = 2.0 + 8.0 * bits / 32
    assert break_even(alone, FLAT)["45nm"]["quantised_picojoules"] == pytest.approx(product * 50)
    moved = 41 * (1 + bits / 32) + 2 * 5 * 3 / 32
    assert break_even(alone, FLAT)["memory"]["quantised_picojoules"] == pytest.approx(product * 41 + moved)


def test_there_is_no_break_even_rate_for_silence_or_for_a_rival_cheaper_than_it() -> None:
    silent = at_rates(SMALL, 0.0)
    assert silent.firing_rate == 0
    assert break_even(silent, FLAT)["45nm"]["firing_rate"] is None
    many = replace(SMALL, neurons=(NeuronCost("spikes", 10**6, (1.0, 2.0, 0.0, 3.0), 0.0, 0.0),))
    assert break_even(many, FLAT)["memory"]["scale"] is None


def test_a_word_costs_more_from_a_larger_memory() -> None:
    prices = Prices()
    known = [(0, 5.0), (8 << 10, 5.0), (20 << 10, 7.5), (32 << 10, 10.0), (528 << 10, 30.0), (1 << 20, 50.0)]
    assert [prices.access(size) for size, _ in known] == [energy for _, energy in known]
    assert prices.access(1 << 30) == 50.0


@pytest.mark.parametrize(("rate", "millijoules"), [(0.2, 3.10), (1.0, 13.31)])
def test_dense_resnet34_at_four_steps(rate: float, millijoules: float) -> None:
    """Methods section 8: a network that fires at one rate everywhere, counted without being run."""
    spec = resnet34((3, 224, 224), 1000, block="post")
    counts = [count for count in count_layers(spec) if count.macs]
    layers = [
        layer(
            count.name,
            "real" if number == 0 else "binary",
            input_rate=rate,
            dense_macs=count.macs,
            weights=count.weights,
            present=count.weights,
            outputs=prod(count.output_shape),
        )
        for number, count in enumerate(counts)
    ]
    priced = energy_models(replace(SMALL, layers=tuple(layers)))["45nm"]["picojoules"]
    assert priced * 1e-9 == pytest.approx(millijoules, abs=0.01)
    neurons = {node.name: rate for node in spec.nodes if node.op == "neuron"}
    assert priced == pytest.approx(energy_45nm(spec, neurons, 4)), "and what a search expects is the same"
