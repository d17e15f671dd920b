"""Bounds are met exactly at their values."""

from __future__ import annotations

from typing import Any

import pytest

from evospike.core.errors import SettingsError
from evospike.models.counts import dense_parameters, macs_per_step
from evospike.models.presets import small8
from evospike.search.bounds import Bounds

SPEC = small8((1, 8, 8), 10)
PARAMETERS, OPERATIONS = dense_parameters(SPEC), macs_per_step(SPEC)


def test_at_the_bound_and_one_beyond() -> None:
    assert Bounds().refusals(SPEC) == []
    assert Bounds(PARAMETERS, PARAMETERS, 3 * OPERATIONS, steps=3).refusals(SPEC) == []
    assert Bounds(max_parameters=PARAMETERS - 1).refusals(SPEC) == [
        f"more parameters than max_parameters = {PARAMETERS - 1:,}"
    ]
    assert Bounds(min_parameters=PARAMETERS + 1).refusals(SPEC) == [
        f"fewer parameters than min_parameters = {PARAMETERS + 1:,}"
    ]
    assert Bounds(max_operations=3 * OPERATIONS - 1, steps=3).refusals(SPEC) == [
        f"more operations than max_operations = {3 * OPERATIONS - 1:,}"
    ]


def test_every_broken_bound_is_named() -> None:
    assert len(Bounds(max_parameters=1, max_operations=1).refusals(SPEC)) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_parameters": -1}, "'max_parameters' must not be negative, given -1"),
        ({"max_operations": -5}, "'max_operations' must not be negative, given -5"),
        (
            {"min_parameters": 9, "max_parameters": 8},
            "'min_parameters' (9) exceeds 'max_parameters' (8); swap them",
        ),
    ],
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Bounds(**values)
    assert str(caught.value) == message
