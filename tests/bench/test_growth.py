"""The straight line and the power law through medians."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.bench.growth import Fit, fit

few = settings(max_examples=50, deadline=None)
XS = st.lists(st.integers(1, 1000), min_size=3, max_size=8, unique=True)
COEFFICIENTS = st.floats(0.1, 100)


@few
@given(XS, COEFFICIENTS, COEFFICIENTS)
def test_a_line_is_found_again(xs: list[int], intercept: float, slope: float) -> None:
    found = fit([(x, intercept + slope * x) for x in xs])
    assert found is not None
    assert found.intercept == pytest.approx(intercept, rel=1e-6, abs=1e-6 * slope)
    assert found.slope == pytest.approx(slope, rel=1e-9)


@few
@given(XS, COEFFICIENTS, st.floats(-2, 3).filter(lambda exponent: abs(exponent) > 0.01))
def test_a_power_law_is_found_again(xs: list[int], factor: float, exponent: float) -> None:
    found = fit([(x, factor * x**exponent) for x in xs])
    assert found is not None
    assert found.exponent == pytest.approx(exponent, abs=1e-6)
    assert found.r_squared == pytest.approx(1, abs=1e-6)


@few
@given(st.lists(st.tuples(st.integers(1, 50), COEFFICIENTS), min_size=3, max_size=9, unique_by=lambda point: point[0]))
def test_any_fit_is_that_of_least_squares(points: list[tuple[int, float]]) -> None:
    found = fit(points)
    assert found is not None
    xs, ys = np.array(points, dtype=float).T
    assert (found.slope, found.intercept) == pytest.approx(tuple(np.polyfit(xs, ys, 1)), rel=1e-6, abs=1e-6)
    slope, intercept = np.polyfit(np.log(xs), np.log(ys), 1)
    assert found.exponent == pytest.approx(slope, rel=1e-6, abs=1e-6)
    if np.ptp(ys) > 0.01:
        left = np.log(ys) - intercept - slope * np.log(xs)
        assert found.r_squared == pytest.approx(1 - left.var() / np.log(ys).var(), abs=1e-6)


def test_what_cannot_be_fitted_is_left_out() -> None:
    assert fit([]) is None
    assert fit([(1, 2.0), (2, 3.0)]) is None
    assert fit([(1, 5.0), (2, 5.0), (4, 5.0)]) == Fit(5.0, 0.0, 0.0, None)
    negative = fit([(1, -1.0), (2, 0.0), (3, 1.0)])
    assert negative is not None
    assert (negative.intercept, negative.slope) == (-2.0, 1.0)
    assert (negative.exponent, negative.r_squared) == (None, None)
    assert math.isfinite(negative.slope)
