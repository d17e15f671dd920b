from __future__ import annotations

import pytest

from evospike.report.formats import count, energy, interval, signed, times
from evospike.report.rank.facts import Difference


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [
        (None, "–"),
        (0.0, "0.000 pJ"),
        (12.34, "12.340 pJ"),
        (999.9, "999.900 pJ"),
        (999.9996, "1.000 nJ"),
        (326_200.0, "326.200 nJ"),
        (4.5e6, "4.500 µJ"),
        (7.0e9, "7.000 mJ"),
        (2.0e12, "2.000 J"),
    ],
)
def test_energy_has_the_unit_that_suits_it(picojoules, text):
    assert energy(picojoules) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "+0.123"), (-0.1236, "−0.124"), (-0.0004, "0.000"), (0.0, "0.000"), (0.0006, "+0.001")]
)
def test_signed_numbers_have_no_negative_zero(value, text):
    assert signed(value) == text


def test_intervals_counts_and_plurals():
    assert interval(Difference(0.0, -0.25, 0.5)) == "−0.250 to +0.500"
    assert (count(1234567.0), count(None)) == ("1,234,567", "–")
    assert (times(1, "draw"), times(1200, "draw"), times(0, "draw")) == ("1 draw", "1,200 draws", "0 draws")
