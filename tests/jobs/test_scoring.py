"""The score of one architecture: what it measures, what it leaves alone, and who is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evospike.core.errors import SettingsError
from evospike.evolution.records import Genotype, Request
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import create_run
from evospike.jobs.memory import least_scoring_bytes, least_training_bytes
from evospike.jobs.recipe import read_recipe
from evospike.jobs.scoring import (
    architecture,
    images_at_once,
    probe,
    rank_architecture,
    score_architecture,
    static_terms,
)
from evospike.jobs.spaces import genome_variation
from evospike.jobs.workshop import Workshop
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.measure.spikes import SpikeCount
from evospike.models.counts import dense_parameters, macs_per_step
from evospike.models.network import Network


@pytest.fixture
def request_of(workshop):
    """A request for a random architecture of the tiny space."""

    def make(shop, seed: int = 0, draw: tuple[str | int, ...] = ("search",)) -> Request:
        variation = genome_variation(shop.recipe, shop.task.shape, len(shop.task.classes))
        genotype = Genotype(variation.names, variation.sample(np.random.default_rng(seed)))
        return Request("candidate", 0, seed, genotype, draw)

    return make


def naive_hamming(shop, request: Request) -> float:
    """The released score, call by call and pair by pair: one LIF per connection, mean over calls and repeats."""
    spec = architecture(shop, request.genotype.values)
    totals = []
    for repeat, x in enumerate(shop.probe_batches):
        net = shop.stored_network(spec, (*request.draw_key, repeat)).train()
        seen: dict[str, list[torch.Tensor]] = {}
        net.observer = lambda name, spikes, _, seen=seen: seen.setdefault(name, []).extend(spikes.flatten(2).double())
        with torch.no_grad():
            net(x)
        total, calls = 0.0, 0
        for name, steps in seen.items():
            readers = [node.op for node in spec.nodes for edge in node.inputs if edge.source == name]
            count = sum(op in ("conv", "norm", "avgpool", "maxpool", "global_pool") for op in readers)
            for rows in steps:
                total += count * sum(float((a - b).abs().sum()) for a in rows for b in rows)
                calls += count
        totals.append(total / calls)
    return float(np.mean(totals))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_is_the_released_score(workshop, request_of, seed: int) -> None:
    shop = workshop("dissimilarity.batch=6")
    request = request_of(shop, seed)
    assert score_architecture(shop, request).terms["score"] == pytest.approx(naive_hamming(shop, request), rel=1e-9)


def test_every_term_is_there_and_scores_repeat(workshop, request_of) -> None:
    shop = workshop()
    first, second = (score_architecture(shop, request_of(shop)) for _ in range(2))
    assert first.ok
    assert first.outcome() == second.outcome()
    assert set(first.terms) == {"score", "dissimilarity", "parameters", "operations", "firing_rate", "spikes", "energy"}
    spec = architecture(shop, request_of(shop).genotype.values)
    assert first.terms["parameters"] == dense_parameters(spec)
    assert first.terms["operations"] == 2 * macs_per_step(spec)


def test_another_draw_gives_another_score(workshop, request_of) -> None:
    shop = workshop()
    scores = [score_architecture(shop, request_of(shop, 0, ("finalist", k))).terms["score"] for k in range(2)]
    assert scores[0] != scores[1]


def test_spikes_are_those_of_the_scoring_pass(workshop, request_of) -> None:
    shop = workshop("dissimilarity.repeats=1")
    request = request_of(shop)
    spec = architecture(shop, request.genotype.values)
    net = shop.stored_network(spec, ("search", 0)).train()
    net.observer = count = SpikeCount()
    (x,) = shop.probe_batches
    with torch.no_grad():
        net(x)
    assert score_architecture(shop, request).terms["spikes"] == pytest.approx(sum(count.spikes.values()) / len(x))


def test_the_batches_are_fixed_and_distinct(workshop) -> None:
    first, second = workshop().probe_batches, workshop().probe_batches
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("score", ["parameters", "operations", "random"])
def test_controls_look_at_no_spike(workshop, request_of, score: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop(f"scoring.score={score}")
    monkeypatch.setattr("evospike.jobs.scoring.probe", lambda *_: pytest.fail("a control ran a network"))
    terms = score_architecture(shop, request_of(shop)).terms
    if score == "random":
        assert 0 <= terms["score"] < 1
        assert terms["score"] != score_architecture(shop, request_of(shop, 1)).terms["score"]
    else:
        assert terms["score"] == terms[score]


def test_similarity_and_firing_rate_are_scores(workshop, request_of) -> None:
    usual = score_architecture(workshop(), request_of(workshop())).terms
    similar = score_architecture(workshop("scoring.score=similarity"), request_of(workshop())).terms
    active = score_architecture(workshop("scoring.score=firing_rate"), request_of(workshop())).terms
    assert similar["score"] == -usual["score"] == -usual["dissimilarity"]
    assert active["score"] == usual["firing_rate"] > 0


def test_a_training_is_not_judged_without_validation_images() -> None:
    with pytest.raises(SettingsError, match=r"set data\.validation above 0"):
        read_recipe("digits-search", ["scoring.score=training", "data.validation=0"])


def test_a_short_training_is_a_score(workshop, request_of) -> None:
    shop = workshop("scoring.score=training", "scoring.epochs=10", "scoring.samples=0")
    terms = score_architecture(shop, request_of(shop)).terms
    assert terms["score"] == terms["accuracy"]
    assert terms["accuracy"] > 0.2  # twice chance


def test_too_many_spikes_are_refused(workshop, request_of) -> None:
    free = score_architecture(workshop(), request_of(workshop()))
    bound = int(free.terms["spikes"]) - 1
    refused = score_architecture(workshop(f"scoring.max_spikes={bound}"), request_of(workshop()))
    assert refused.status == "refused"
    assert f"exceed max_spikes = {bound:,}" in refused.reason


def test_a_silent_network_says_so(workshop, request_of, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop()
    make = Workshop.stored_network

    def faint(*arguments) -> Network:
        net = make(*arguments)
        for module in net.modules():
            if isinstance(module, TimeBatchNorm2d):
                torch.nn.init.constant_(module.weight, 1e-3)
        return net

    monkeypatch.setattr(Workshop, "stored_network", faint)
    score = score_architecture(shop, request_of(shop))
    assert score.status == "silent"
    assert "before the classifier" in score.reason
    assert score.terms["score"] == 0


def test_several_forms_share_one_pass(workshop, request_of) -> None:
    shop = workshop()
    request = request_of(shop)
    spec = architecture(shop, request.genotype.values)
    normalised = workshop("dissimilarity.distance=hamming_normalised").recipe.dissimilarity
    both = probe(shop, spec, request.draw_key, [shop.recipe.dissimilarity, normalised])
    alone = probe(shop, spec, request.draw_key, [normalised])
    assert both.scores[normalised] == alone.scores[normalised]
    assert static_terms(shop, spec)["parameters"] == dense_parameters(spec)


@pytest.mark.parametrize("changes", [(), ("space.feedback=delayed",), ("space.operations=['sep3','maxpool3']",)])
def test_the_least_memory_of_a_scoring_pass_is_what_its_modules_hold(workshop, request_of, changes) -> None:
    """Of images that all modules hand on, told from the modules themselves."""
    shop = workshop("model.steps=3", *changes)
    for seed in range(4):
        spec = architecture(shop, request_of(shop, seed).genotype.values)
        net = shop.stored_network(spec, ("a",)).train()
        seen: list[tuple[int, int]] = []

        def look(module, given, got, seen=seen) -> None:
            got = got[0] if isinstance(got, tuple) else got
            seen.append((given[0].numel(), got.numel()))

        for module in net.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear, TimeBatchNorm2d, SpikingNeuron)):
                module.register_forward_hook(look)
        net.observer = lambda name, spikes, potential: None
        x = shop.probe_batches[0]
        with torch.no_grad():
            net(x)
        calls = len(seen) // (3 if spec.has_delays else 1)
        held = sum(got for _, got in seen[:calls]) if spec.has_delays else max(sum(pair) for pair in seen)
        assert spec.has_delays == (bool(changes) and "delayed" in changes[0])
        assert least_scoring_bytes(shop.recipe, spec, len(x), 0) == 4 * (dense_parameters(spec) + held)


def test_what_does_not_fit_is_refused_before_it_is_built(workshop, request_of, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop()
    fits = score_architecture(shop, request_of(shop))
    spec = architecture(shop, request_of(shop).genotype.values)
    images = images_at_once(shop.recipe, len(shop.task.train), ranking=False)
    assert images == (20, 0)
    needed = least_scoring_bytes(shop.recipe, spec, *images)
    monkeypatch.setattr("evospike.core.limits.ALWAYS_FREE", 0)
    monkeypatch.setenv("EVOSPIKE_MEMORY", str(needed))
    assert score_architecture(shop, request_of(shop)).outcome() == fits.outcome()
    monkeypatch.setenv("EVOSPIKE_MEMORY", str(needed - 1))
    monkeypatch.setattr(Workshop, "stored_network", lambda *_: pytest.fail("it was built"))
    for judge in (score_architecture, rank_architecture):
        refused = judge(shop, request_of(shop))
        assert refused.status == "refused"
        assert "scoring the architecture (dissimilarity.batch 20, 2 steps) would take about" in refused.reason
        assert refused.terms == static_terms(shop, spec)


def test_a_training_counts_with_its_own_batch(workshop, request_of) -> None:
    shop = workshop("scoring.score=training", "dissimilarity.batch=1000")
    assert images_at_once(shop.recipe, 160, ranking=False) == (0, 20)
    assert images_at_once(shop.recipe, 160, ranking=True) == (160, 20)
    spec = architecture(shop, request_of(shop).genotype.values)
    alone = least_training_bytes(shop.recipe, spec, encoded=False)
    assert least_scoring_bytes(shop.recipe, spec, 0, 20) == alone
    assert least_scoring_bytes(shop.recipe, spec, 0, 10) < alone


@pytest.mark.parametrize("verb", ["search", "rank"])
def test_a_space_of_which_nothing_fits_is_refused_at_the_start(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    recipe = tiny("space.channels=1000", "dissimilarity.batch=100")
    run = create_run(verb, recipe, str(tmp_path / "run"))
    monkeypatch.setenv("EVOSPIKE_MEMORY", "20MB")
    with pytest.raises(SettingsError, match=r"scoring any architecture of the space .* would take about 76\.8 MB"):
        conduct(run, recipe, quiet=True)
    assert not (run.path / "plan.json").exists()


def test_an_architecture_that_cannot_have_its_density_is_refused(workshop, tiny, request_of) -> None:
    sparse = tiny("scoring.score=training", "sparse.density=0.0001", "sparse.starved=refuse")
    shop = replace(workshop("scoring.score=training"), recipe=sparse)
    score = score_architecture(shop, request_of(shop))
    assert (score.status, "without any synapse" in score.reason) == ("refused", True)
    assert score.terms["parameters"] > 0
