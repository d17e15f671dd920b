from __future__ import annotations

import pytest

from evospike.core.errors import SettingsError
from evospike.neurons.settings import NeuronSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decay": 0.0}, r"'decay' must lie in \(0, 1\], given 0.0"),
        ({"decay": 1.1}, r"'decay' must lie in \(0, 1\], given 1.1"),
        ({"kind": "plif", "decay": 1.0}, "'decay' of a plif neuron must start below 1"),
        ({"threshold": 0.0}, "'threshold' must be positive, given 0.0"),
        ({"threshold": float("inf")}, "'threshold' wants a finite number, given inf"),
        ({"decay": "0.5"}, "'decay' wants a number, given '0.5'"),
        ({"reset": "none"}, "'reset' cannot be 'none'; known: "),
        ({"surrogate_width": -0.5}, "'surrogate_width' must not be negative, given -0.5"),
    ],
)
def test_impossible_constants_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        NeuronSettings(**values)


def test_width_is_the_surrogates_own_unless_given() -> None:
    own = {name: NeuronSettings(surrogate=name).width for name in ("triangle", "rectangle", "arctan", "sigmoid")}
    assert own == {"triangle": 1.0, "rectangle": 0.5, "arctan": 0.5, "sigmoid": 0.25}
    assert NeuronSettings(surrogate="sigmoid", surrogate_width=2.0).width == 2.0


def test_an_if_neuron_does_not_leak() -> None:
    assert NeuronSettings(kind="if", decay=0.3).step_decay == 1.0
    assert NeuronSettings(kind="lif", decay=0.3).step_decay == 0.3
