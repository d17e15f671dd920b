from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from evospike.core.errors import SettingsError
from evospike.core.statistics import deviation, half_interval, significant, student_quantile, welch_interval

VALUES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8)


@pytest.mark.parametrize("freedom", [1, 1.0001, 1.5, 2, 2.7, 3, 4.999, 10, 31.4, 200, 1e4, 1e6])
def test_quantiles_are_those_of_scipy(freedom):
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-8)


@given(st.floats(1, 1000), st.floats(1, 1000))
@settings(max_examples=60, deadline=None)
def test_quantiles_fall_with_the_degrees_of_freedom_towards_the_normal_one(one, other):
    few, many = sorted((one, other))
    assume(many > 1.01 * few)
    assert student_quantile(few) > student_quantile(many) > stats.norm.ppf(0.975)


def test_too_few_degrees_of_freedom_are_refused():
    with pytest.raises(SettingsError, match=r"at least 1, given 0\.5"):
        student_quantile(0.5)


@given(VALUES, VALUES)
@settings(max_examples=60, deadline=None)
def test_welch_intervals_are_those_of_scipy(first, second):
    assume(np.std(first) > 1e-6 and np.std(second) > 1e-6)
    half, freedom = welch_interval(first, second)
    found = stats.ttest_ind(first, second, equal_var=False)
    interval = found.confidence_interval(0.95)
    assert freedom == pytest.approx(found.df, rel=1e-6)
    assert half == pytest.approx((interval.high - interval.low) / 2, rel=1e-6)
    assert min(len(first), len(second)) - 1 <= freedom * (1 + 1e-12)
    assert freedom <= (len(first) + len(second) - 2) * (1 + 1e-12)


def test_the_order_of_the_two_sides_does_not_matter():
    first, second = [0.9, 0.92, 0.91], [0.95, 0.99]
    assert welch_interval(first, second) == pytest.approx(welch_interval(second, first), rel=1e-12)


def test_one_value_has_no_interval():
    assert welch_interval([1.0], [1.0, 2.0, 3.0]) is None
    assert welch_interval([1.0, 2.0], []) is None
    assert half_interval([1.0]) is None


def test_values_that_do_not_vary_have_an_interval_of_nothing():
    assert welch_interval([0.5, 0.5, 0.5], [0.25, 0.25]) == (0.0, 3.0)


def test_only_the_side_that_varies_counts():
    first = [1.0, 2.0, 4.0]
    half, freedom = welch_interval(first, [7.0, 7.0, 7.0, 7.0])
    assert freedom == pytest.approx(2.0)
    assert half == pytest.approx(stats.t.ppf(0.975, 2) * np.std(first, ddof=1) / math.sqrt(3))
    assert half == pytest.approx(half_interval(first), rel=1e-3)


def test_half_intervals_by_hand() -> None:
    assert half_interval([1.0]) is None
    assert half_interval([1.0, 3.0]) == pytest.approx(12.706, rel=1e-4)
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5, rel=1e-4)
    assert half_interval([0.5] * 4) == 0.0
    alternating = [0.0, 1.0] * 10  # sample variance 5/19
    assert half_interval(alternating) == pytest.approx(2.093 * (5 / 19 / 20) ** 0.5, rel=1e-3)


def test_deviations_by_hand() -> None:
    assert deviation([1.0]) is None
    assert deviation([1.0, 3.0]) == pytest.approx(2**0.5)
    assert deviation([1.0, 2.0, 3.0]) == 1.0


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_a_difference_is_significant_where_a_test_of_the_same_level_says_so(differences):
    assume(np.std(differences) > 1e-6)
    chance = stats.ttest_1samp(differences, 0.0).pvalue
    assume(abs(chance - 0.05) > 1e-6)
    found = significant(float(np.mean(differences)), half_interval(differences), len(differences))
    assert found == (chance < 0.05)


@pytest.mark.parametrize(("differences", "verdict"), [([0.1, 0.1], False), ([0.1, 0.1, 0.1], True), ([0.0] * 5, False)])
def test_two_equal_differences_are_no_evidence(differences, verdict):
    assert significant(float(np.mean(differences)), half_interval(differences), len(differences)) is verdict


def test_differences_that_are_equal_but_for_rounding_are_equal():
    differences = [0.3 - 0.2, 0.2 - 0.1]
    assert differences[0] != differences[1]
    assert significant(sum(differences) / 2, half_interval(differences), 2) is False


def test_one_difference_is_neither_significant_nor_not():
    assert significant(0.5, half_interval([0.5]), 1) is None
