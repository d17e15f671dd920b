"""Kendall's tau and its intervals, against scipy and by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kendalltau

from evospike.measure.agreement import compare_scores

CONTROLS = ("parameters", "random")

NUMBERS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=25)


def tau(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    (row,) = compare_scores(list(x), {"one": list(y)}, ["one"], resamples=1, rng=np.random.default_rng(0))
    return float(row["tau"])


@given(NUMBERS)
def test_tau_is_that_of_scipy_with_ties(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, float).T
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert tau(x, y) == pytest.approx(kendalltau(x, y).statistic)
    else:
        assert tau(x, y) == 0


def test_scores_are_compared_best_first_with_paired_differences() -> None:
    rng = np.random.default_rng(0)
    accuracy = rng.normal(size=60)
    scores = {
        "good": accuracy + rng.normal(size=60) * 0.5,
        "bad": -accuracy,
        "parameters": rng.normal(size=60),
        "random": rng.normal(size=60),
    }
    rows = compare_scores(accuracy, scores, CONTROLS, resamples=1000, rng=np.random.default_rng(1))
    assert rows[0]["score"] == "good"
    assert rows[-1] == {"score": "bad", "tau": pytest.approx(-1), "interval": [pytest.approx(-1)] * 2} | {
        "against": rows[-1]["against"]
    }
    good = rows[0]
    assert good["interval"][0] < good["tau"] < good["interval"][1]
    against = good["against"]["parameters"]
    assert against["difference"] == pytest.approx(good["tau"] - tau(accuracy, scores["parameters"]))
    assert against["interval"][0] > 0
    assert all("against" not in row for row in rows if row["score"] in CONTROLS)
    assert rows == compare_scores(accuracy, scores, CONTROLS, resamples=1000, rng=np.random.default_rng(1))


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Correlated normals: tau = 2/pi asin(rho)."""
    rho, covered = 0.6, 0
    truth = 2 / np.pi * np.arcsin(rho)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=50)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=50)
        (row,) = compare_scores(x, {"y": y}, (), resamples=200, rng=rng)
        covered += row["interval"][0] <= truth <= row["interval"][1]
    assert 51 <= covered <= 60
