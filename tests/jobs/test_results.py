"""Intervals and paired differences by hand; the digest is of the work, not of its circumstances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evospike.core.statistics import half_interval
from evospike.jobs.folder import RunFolder
from evospike.jobs.results import describe, summarise, table


def final(arm: str, repeat: int, accuracy: float, **changes: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "repeat": repeat,
        "test_accuracy": accuracy,
        "test_loss": 1.0 - accuracy,
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
STUDY = {"winner": {"spreads": {"genes": 1.0}}, "failures": {"silent": 1}, "history_digest": "ab"}


@pytest.fixture
def document(tiny):
    def make(finals=FINALS, study=STUDY, path="/somewhere") -> dict[str, Any]:
        return summarise(RunFolder(Path(path), {}), tiny("final.seeds=3"), finals, study)

    return make


def test_arms_their_means_and_their_paired_differences(document) -> None:
    genetic, dense = document()["arms"]
    assert genetic["test_accuracy"] == pytest.approx(0.8)
    assert genetic["interval"] == pytest.approx(4.30265 * 0.1 / 3**0.5, rel=1e-5)
    assert genetic["seeds"] == [0.8, 0.9, 0.7]
    assert genetic["std"] == pytest.approx(0.1)
    assert (genetic["firing_rate"], genetic["seconds"]) == (pytest.approx(0.2), 3.0)
    assert "difference" not in genetic
    # differences 0.05, 0.05, 0.2: mean 0.1, sample deviation 0.0866
    assert dense["difference"] == pytest.approx(0.1)
    assert dense["difference_interval"] == pytest.approx(4.30265 * 0.0075**0.5 / 3**0.5, rel=1e-5)


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


def test_spread_and_seeds_of_the_first_arm_are_at_the_top(document) -> None:
    found = document()
    assert found["test_accuracy_std"] == pytest.approx(0.1)
    assert found["interval"] == pytest.approx(4.30265 * 0.1 / 3**0.5, rel=1e-5)
    assert found["seeds"][1] == {
        "seed": 1,
        "test_accuracy": 0.9,
        "test_loss": pytest.approx(0.1),
        "firing_rate": pytest.approx(0.2),
        "connection_density": 1.0,
        "seconds": 3.0,
        "weights": "genetic1",
    }
    assert [seed["seed"] for seed in found["seeds"]] == [0, 1, 2]
    assert [seed["test_accuracy"] for seed in found["seeds"]] == found["arms"][0]["seeds"]


def test_one_seed_has_no_spread(tiny) -> None:
    found = summarise(RunFolder(Path("/x"), {}), tiny(), [FINALS[0], FINALS[3]], None)
    assert (found["test_accuracy"], found["test_accuracy_std"], found["interval"]) == (0.8, None, None)
    assert [seed["weights"] for seed in found["seeds"]] == ["genetic0"]
    assert [arm["std"] for arm in found["arms"]] == [None, None]


def test_scores_that_are_not_usable_are_counted(document) -> None:
    found = document(study={**STUDY, "failures": {"diverged": 1, "timeout": 2}})
    assert found["failures"] == {"diverged": 1, "timeout": 2}
    assert describe(found).splitlines()[-1] == "scores that are not usable: 1 diverged, 2 timeout"
    assert "not usable" not in describe(document(study={**STUDY, "failures": {}}))
    assert "failures" not in document(study=None)


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
    assert "dense minus genetic, paired: +10.00 ± 21.51 points (not significant)" in text
    single = summarise(RunFolder(Path("/x"), {}), tiny(), [FINALS[0], FINALS[3]], None)
    assert "dense minus genetic, paired: +5.00 points (one seed)" in table(single)


def test_two_equal_differences_are_not_significant_and_three_are(document, tiny) -> None:
    equal = [final(arm, seed, 0.5 + (arm == "dense") / 4) for arm in ("genetic", "dense") for seed in range(3)]
    assert table(document(equal)).splitlines()[-1].partition("genetic, ")[2] == "paired: +25.00 ± 0.00 points"
    two = summarise(RunFolder(Path("/x"), {}), tiny("final.seeds=2"), [one for one in equal if one["repeat"] < 2], None)
    assert table(two).endswith("+25.00 ± 0.00 points (not significant)")


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


def searched_document(scores: list[float]) -> dict[str, Any]:
    seeds = [
        {"seed": k, "score": score, "parameters": 1000 + k, "operations": 20000 + k, "candidates": 8, "draws": 4}
        for k, score in enumerate(scores)
    ]
    return {
        "run": "/somewhere",
        "score": sum(scores) / len(scores),
        "interval": half_interval(scores),
        "parameters": 1000 if len(scores) == 1 else 1000.5,
        "operations": 20000 if len(scores) == 1 else 20000.5,
        "candidates": 8,
        "draws": 4,
        "candidates_per_second": 3.25,
        "winner_seed": scores.index(max(scores)),
        "winner": {"genome": {"cells": [{"motif": "FE", "links": [{"operation": "conv3"}]}]}},
        "seeds": seeds,
        "digest": "ab",
    }


def test_one_search_is_told_in_one_line_also_of_an_older_document() -> None:
    found = searched_document([812.5])
    line = "score 812.5, 1,000 parameters, 20,000 operations, 8 candidates{}, 3.25 scores a second"
    again = ", further draws of the best: 4"
    assert describe(found).splitlines()[:2] == ["cell 0: FE         conv3", line.format(again)]
    for name in ("seeds", "winner_seed", "interval", "draws"):
        del found[name]
    assert describe(found).splitlines()[1] == line.format("")


def test_several_searches_are_a_table_with_their_mean_and_the_one_that_is_shown() -> None:
    lines = describe(searched_document([800.0, 840.0])).splitlines()
    rows = [line.split() for line in lines[2:6]]
    scored = ["8", "candidates,", "further", "draws", "of", "the", "best:"]
    assert rows == [
        ["seed", "score", "parameters", "operations", "scored"],
        ["0", "800", "1,000", "20,000", *scored, "4"],
        ["1", "840", "1,001", "20,001", *scored, "4;", "the", "cells", "above"],
        ["mean", "820", "±", "254", "1,000", "20,000"],  # 12.706 * 20
    ]
    assert lines[-1] == "train it: evospike train RECIPE --model /somewhere"
