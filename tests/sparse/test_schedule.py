"""When synapses are rewired."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.core.errors import SettingsError
from evospike.sparse.schedule import check_rewires, make_schedule, one_shot_step
from evospike.sparse.settings import SparseSettings


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 1),
    st.sampled_from(["gradient", "random", "momentum", "adam", "unfired"]),
    st.sampled_from(["skip", "masked"]),
)
def test_rewiring_happens_at_multiples_of_the_period_until_the_freeze(
    epochs: int, per_epoch: int, freeze: float, grow: str, how: str
) -> None:
    given_settings = SparseSettings(density=0.1, freeze=freeze, grow=grow, rewired_step=how)
    schedule, total = make_schedule(given_settings, epochs, per_epoch), epochs * per_epoch
    between = 4 if grow in ("random", "unfired") else 10
    shortest = 2 if how == "skip" else 1
    end = min(math.floor(freeze * total), total - 1)
    assert schedule.period == max(shortest, min(between * per_epoch, math.floor(total / 20), end))
    expected = [s for s in range(total - 1) if (s + 1) % schedule.period == 0 and s + 1 <= freeze * total]
    assert [s for s in range(total) if schedule.wait(s) == 0] == expected
    for step in range(total):
        later = [s for s in expected if s >= step]
        assert schedule.wait(step) == (later[0] - step if later else None)


def test_the_default_period_in_epochs() -> None:
    for grow, epochs in (("gradient", 10), ("momentum", 10), ("adam", 10), ("random", 4), ("unfired", 4)):
        assert make_schedule(SparseSettings(density=0.1, grow=grow), 300, 391).period == epochs * 391
        assert make_schedule(SparseSettings(density=0.1, grow=grow), 40, 100).period == 200
    assert make_schedule(SparseSettings(density=0.1, period_epochs=2.5), 40, 100).period == 250


def test_the_fraction_falls_by_a_cosine() -> None:
    schedule = make_schedule(SparseSettings(density=0.1, fraction=0.4, final_fraction=0.1, freeze=0.8), 10, 100)
    assert schedule.end == 800
    assert schedule.fraction_at(-1) == pytest.approx(0.4)
    assert schedule.fraction_at(399) == pytest.approx(0.25)
    assert schedule.fraction_at(799) == pytest.approx(0.1)


@pytest.mark.parametrize("changes", [{"method": "static"}, {"method": "one_shot"}, {"density": 1.0}, {"freeze": 0.0}])
def test_nothing_is_rewired_where_it_should_not_be(changes: dict) -> None:
    schedule = make_schedule(SparseSettings(**{"density": 0.1, **changes}), 10, 100)
    assert all(schedule.wait(step) is None for step in range(1000))


def test_a_period_that_is_longer_than_the_training_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"'sparse.period_epochs' of 11 is longer than the training, 10 epochs"):
        make_schedule(SparseSettings(density=0.1, period_epochs=11), 10, 7)
    with pytest.raises(
        SettingsError,
        match=r"of 8 is longer than the part of the training that rewires, the first 0.75 of its 10 epochs",
    ):
        make_schedule(SparseSettings(density=0.1, period_epochs=8), 10, 7)
    assert make_schedule(SparseSettings(density=0.1, period_epochs=11, method="static"), 10, 7).end == 0


def test_a_training_that_is_to_rewire_does() -> None:
    early = SparseSettings(density=0.1, freeze=0.04)
    assert [step for step in range(1000) if make_schedule(early, 100, 10).wait(step) == 0] == [39]
    check_rewires(early, 100, 10)
    for freeze in (0.0, 0.001):  # before the second step
        with pytest.raises(SettingsError, match=rf"^'sparse.freeze' of {freeze:g} leaves no step that rewires; raise"):
            check_rewires(replace(early, freeze=freeze), 100, 10)
        check_rewires(replace(early, freeze=freeze, method="static"), 100, 10)
        check_rewires(replace(early, freeze=freeze, density=1.0), 100, 10)
        check_rewires(replace(early, freeze=freeze), 1, 2)  # too short in any case


def test_the_step_of_one_shot_pruning() -> None:
    assert one_shot_step(SparseSettings(density=0.1), 100) is None
    for at, steps in ((0.0, 0), (0.503, 51), (1.0, 100)):
        assert one_shot_step(SparseSettings(density=0.1, method="one_shot", one_shot_at=at), 100) == steps
