"""One evaluation: what a good candidate's score holds, and that a bad one is a status and not a number."""

from __future__ import annotations

import pytest
import torch

from evospike.core.errors import EncodingError
from evospike.data.task import Task
from evospike.evolution.records import Genotype, Request
from evospike.jobs.candidates import dimension_names, proxy_set, score_candidate, spreads_of


def request(shop, value: float = 0.0, generation: int = 0) -> Request:
    names = tuple(dimension_names(shop))
    return Request("candidate", generation, 0, Genotype(names, (value,) * len(names)), ("generation", generation))


def test_the_dimensions_are_logarithms_of_spreads(workshop) -> None:
    assert dimension_names(workshop()) == ["log10 spread of encoding", "log10 spread of genes"]
    stages = dimension_names(workshop("evolution.spreads=stage"))
    assert stages[-1] == "log10 spread of genes"
    assert all(name.startswith("log10 spread of encoding.") for name in stages[:-1])
    assert spreads_of({"log10 spread of genes": -2.0, "log10 spread of encoding": 0.5}) == pytest.approx(
        {"genes": 0.01, "encoding": 10**0.5}
    )


def test_without_genes_there_is_no_spread_of_genes(workshop) -> None:
    shop = workshop("encoding.kind=low_rank")
    assert dimension_names(shop) == ["log10 spread of encoding"]
    assert score_candidate(shop, request(shop, -0.5)).ok
    with pytest.raises(EncodingError, match="unknown spread 'genes'"):
        shop.network("genetic", ("final", 0), {"genes": 0.1})


def test_the_proxy_set_is_fixed_and_as_large_as_asked(workshop) -> None:
    shop = workshop()
    assert len(proxy_set(shop)) == 80
    assert proxy_set(shop).digest() == proxy_set(workshop()).digest()
    for count in (0, 160, 10_000):
        whole = workshop(f"evolution.proxy_samples={count}")
        assert proxy_set(whole) is whole.task.train


def test_a_score_has_every_term_and_repeats_exactly(workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(task: Task) -> None:
        raise AssertionError("a candidate opened the test split")

    monkeypatch.setattr(Task, "open_test", closed)
    one, two = (score_candidate(workshop(), request(workshop())) for _ in range(2))
    assert one.status == "ok", one.reason
    assert set(one.terms) == {"loss", "temporal", "entropy", "firing_rate", "validation_loss", "validation_accuracy"}
    assert one.outcome() == two.outcome()
    assert 0 < one.terms["firing_rate"] < 1
    assert one.outcome() != score_candidate(workshop(), request(workshop(), generation=1)).outcome()


def test_without_validation_the_training_loss_stands_in(workshop) -> None:
    shop = workshop("data.validation=0")
    score = score_candidate(shop, request(shop))
    assert score.terms["validation_loss"] == score.terms["loss"]


def test_a_tiny_spread_is_silent_with_the_layer_named(workshop) -> None:
    shop = workshop("evolution.lower=-9", "training.rate=1e-9")
    score = score_candidate(shop, request(shop, -8.0))
    assert score.status == "silent"
    assert score.reason.startswith("layer 'conv2.neuron' fires at rate 0.0e+00, below 1e-04")
    assert score.terms["firing_rate"] is not None


def test_a_huge_learning_rate_diverges(workshop) -> None:
    shop = workshop("training.rate=1e30", "training.warmup_epochs=0")
    score = score_candidate(shop, request(shop))
    assert score.status == "diverged"
    assert "not finite" in score.reason
    assert "\n" not in score.reason


@pytest.mark.parametrize("form", ["relative", "absolute", "spikes"])
@pytest.mark.parametrize("entropy", ["scaled", "gap", "ratio"])
def test_every_form_of_the_terms_gives_a_number(workshop, form: str, entropy: str) -> None:
    shop = workshop(f"evolution.temporal_form={form}", f"evolution.entropy_form={entropy}")
    score = score_candidate(shop, request(shop))
    assert score.ok, score.reason
    assert score.terms["temporal"] >= 0


def test_the_entropy_can_be_read_before_training(workshop) -> None:
    """Before training it depends on the draw alone, so a rate of almost nothing makes both readings agree."""
    readings = {}
    for when in ("before", "after"):
        for rate in ("1e-12", "1e-2"):
            shop = workshop(f"evolution.entropy_when={when}", f"training.rate={rate}")
            readings[when, rate] = score_candidate(shop, request(shop)).terms["entropy"]
    assert readings["before", "1e-12"] == readings["before", "1e-2"]
    assert readings["after", "1e-12"] == pytest.approx(readings["before", "1e-12"], rel=1e-4)
    assert readings["after", "1e-2"] != readings["before", "1e-2"]


def test_one_steps_networks_have_no_temporal_change(workshop) -> None:
    shop = workshop("model.steps=1", "evolution.temporal_form=spikes")
    score = score_candidate(shop, request(shop))
    assert score.terms["temporal"] == 0.0
    assert torch.isfinite(torch.tensor(score.terms["loss"]))
