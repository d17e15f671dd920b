from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evospike.core.units import energy_number, energy_text, energy_unit


@pytest.mark.parametrize(
    ("picojoules", "name"), [([], "pJ"), ([0.0, None], "pJ"), ([999.0], "pJ"), ([5.0, 1000.0], "nJ"), ([3.1e9], "mJ")]
)
def test_energies_have_the_largest_unit_of_which_there_is_one(picojoules, name):
    assert energy_unit(picojoules).name == name


def test_reference_energies_are_in_millijoules():
    unit = energy_unit([3.10e9, 13.31e9])
    assert [unit.of(3.10e9), unit.of(13.31e9), unit.name] == [3.10, 13.31, "mJ"]


@given(st.floats(0.001, 1e14))
def test_a_text_says_the_energy_again_with_one_to_three_digits_before_the_point(picojoules):
    number, name = energy_text(picojoules).split()
    unit = energy_unit([picojoules])
    assert name == unit.name
    assert float(number) * unit.size == pytest.approx(picojoules, abs=0.00051 * unit.size)
    assert 1 <= float(number) < 1000 or name == "pJ"
    assert number == energy_number(picojoules, unit)
    assert energy_text(-picojoules) == f"-{energy_text(picojoules)}"


def test_what_is_rounded_up_to_a_thousand_has_the_next_unit():
    assert (energy_text(999.9994), energy_text(999.9996)) == ("999.999 pJ", "1.000 nJ")
    assert energy_text(0.0) == "0.000 pJ"
    assert energy_text(5e15) == "5,000.000 J"
