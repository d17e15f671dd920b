"""Intervals and paired differences by hand; the digest is of the work, not of its circumstances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evospike.jobs.folder import RunFolder
from evospike.jobs.results import describe, half_interval, summarise, table


def final(arm: str, repeat: int, accuracy: float, **changes: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "repeat": repeat,
        "test_accuracy": accuracy,
        "firing_rate": 0.1 * (repeat + 1),
        "parameters": 50 if arm == "genetic" else 100,
        "dense_parameters": 100,
        "density": 1.0,
        "synapse_density": 1.0,
        "connection_density": 1.0,
        "active_parameters": 50 if arm == "genetic" else 100,
        "seconds": 2.0 + repeat,
        "history": [{"epoch": 0.0, "loss": 1.5, "seconds": 9.0}],
        "weights": f"{arm}{repeat}",
        **changes,
    }


FINALS = [
    final(arm, repeat, accuracy)
    for arm, accuracies in {"genetic": (0.8, 0.9, 0.7), "dense": (0.85, 0.95, 0.9)}.items()
    for repeat, accuracy in enumerate(accuracies)
]
STUDY = {"winner": {"spreads": {"genes": 1.0}}, "history_digest": "ab"}


@pytest.fixture
def document(tiny):
    def make(finals=FINALS, study=STUDY, path="/somewhere") -> dict[str, Any]:
        return summarise(RunFolder(Path(path), {}), tiny("final.seeds=3"), finals, study)

    return make


def test_half_intervals_by_hand() -> None:
    assert half_interval([1.0]) is None
    assert half_interval([1.0, 3.0]) == pytest.approx(12.706 * 2**0.5 / 2**0.5)
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5)
    assert half_interval([0.5] * 4) == 0.0
    alternating = [0.0, 1.0] * 10  # sample variance 5/19, degrees of freedom beyond the list
    assert half_interval(alternating) == pytest.approx(1.96 * (5 / 19 / 20) ** 0.5)


def test_arms_their_means_and_their_paired_differences(document) -> None:
    genetic, dense = document()["arms"]
    assert genetic["test_accuracy"] == pytest.approx(0.8)
    assert genetic["interval"] == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert genetic["seeds"] == [0.8, 0.9, 0.7]
    assert (genetic["firing_rate"], genetic["seconds"]) == (pytest.approx(0.2), 3.0)
    assert "difference" not in genetic
    # differences 0.05, 0.05, 0.2: mean 0.1, sample deviation 0.0866
    assert dense["difference"] == pytest.approx(0.1)
    assert dense["difference_interval"] == pytest.approx(4.303 * 0.0075**0.5 / 3**0.5)


def test_the_document_is_about_the_first_arm(document) -> None:
    found = document()
    assert {key: found[key] for key in ("run", "parameters", "dense_parameters", "density")} == {
        "run": "/somewhere",
        "parameters": 50,
        "dense_parameters": 100,
        "density": 1.0,
    }
    assert found["test_accuracy"] == found["arms"][0]["test_accuracy"]
    assert found["winner"] == STUDY["winner"]
    assert "winner" not in document(study=None)


def test_the_digest_depends_on_history_and_weights_only(document) -> None:
    base = document()["digest"]
    later = [{**item, "seconds": 99.0, "history": [{**item["history"][0], "seconds": 1.0}]} for item in FINALS]
    assert document(later, path="/elsewhere")["digest"] == base
    other_weights = [*FINALS[:-1], {**FINALS[-1], "weights": "x"}]
    other_history = [*FINALS[:-1], {**FINALS[-1], "history": [{"epoch": 0.0, "loss": 1.5000001}]}]
    others = [document(other_weights), document(other_history), document(study={**STUDY, "history_digest": "ac"})]
    assert len({base, document(study=None)["digest"], *(found["digest"] for found in others)}) == 5


def test_the_table_says_what_is_not_significant(document, tiny) -> None:
    text = table(document())
    assert "80.00 ± 24.84 %" in text
    assert "dense minus genetic, paired: +10.00 ± 21.52 points (not significant)" in text
    single = summarise(RunFolder(Path("/x"), {}), tiny(), [FINALS[0], FINALS[3]], None)
    assert "dense minus genetic, paired: +5.00 points (one seed)" in table(single)


def test_what_is_missing_is_shown_where_something_is(document) -> None:
    assert "density" not in table(document())
    sparse = [{**one, "density": 0.1, "active_parameters": 17} if one["arm"] == "genetic" else one for one in FINALS]
    found = document(sparse)
    assert found["density"] == 0.1
    head, genetic, dense, *_ = table(found).splitlines()
    assert head.split()[-5:] == ["density", "present", "firing", "rate", "seconds"]
    assert genetic.split()[-4:-2] == ["10.0%", "17"]
    assert dense.split()[-4:-2] == ["100.0%", "100"]


@pytest.mark.parametrize(
    ("simulated", "words"),
    [(True, "digits-events (simulated recordings), split: fixed"), (False, "digits-events, split: fixed")],
)
def test_every_result_says_what_it_was_measured_on(document, simulated: bool, words: str) -> None:
    facts = {"name": "digits-events", "split": "fixed", "simulated": simulated, "notes": []}
    assert describe({**document(), "data": facts}).splitlines()[0] == f"data: {words}"
