"""Traces that can be checked by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from evospike.core.errors import ShapeError
from evospike.neurons.dynamics import multi_step, step
from evospike.neurons.settings import NeuronSettings

Run = Callable[[Tensor, NeuronSettings], tuple[Tensor, Tensor]]


def by_steps(current: Tensor, neuron: NeuronSettings) -> tuple[Tensor, Tensor]:
    """Spikes and potentials after reset of every step, by the readable function."""
    v, spikes, potentials = torch.zeros_like(current[0]), [], []
    for row in current:
        s, v = step(row, v, neuron)
        spikes.append(s)
        potentials.append(v)
    return torch.stack(spikes), torch.stack(potentials)


def at_once(current: Tensor, neuron: NeuronSettings) -> tuple[Tensor, Tensor]:
    """The same by `multi_step`; the potential after step t is the last one of the first t steps."""
    spikes = multi_step(current, None, neuron)[0]
    return spikes, torch.stack([multi_step(current[: t + 1], None, neuron)[1] for t in range(len(current))])


both = pytest.mark.parametrize("run", [by_steps, at_once])


def constant(value: float, steps: int) -> Tensor:
    return torch.full((steps, 1), value, dtype=torch.float64)


def close(actual: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


@both
def test_current_of_0_8_fires_at_every_second_step(run: Run) -> None:
    # u = 0.8; 0.4 + 0.8 = 1.2 > 1: spike, back to 0; and again
    spikes, v = run(constant(0.8, 6), NeuronSettings())
    close(spikes, [0, 1, 0, 1, 0, 1])
    close(v, [0.8, 0, 0.8, 0, 0.8, 0])


@both
def test_current_of_half_the_threshold_never_fires(run: Run) -> None:
    # u = 1 - 0.5^t approaches 1 from below; in floating point it reaches 1 exactly, which is not above 1
    spikes, v = run(constant(0.5, 200), NeuronSettings())
    assert spikes.sum() == 0
    close(v[:4], [0.5, 0.75, 0.875, 0.9375])
    assert v[-1].item() == 1.0


@both
def test_a_slow_neuron_fires_first_at_step_11(run: Run) -> None:
    # input 1.5, tau 10: u after n steps is 1.5 (1 - 0.9^n); 0.977 at n = 10, 1.029 at n = 11
    spikes, v = run(constant(0.15, 12), NeuronSettings(decay=0.9))
    assert spikes.flatten().nonzero().flatten().tolist() == [10]
    close(v[:10], [1.5 * (1 - 0.9**n) for n in range(1, 11)])
    close(v[10:], [0.0, 0.15])


@both
def test_soft_reset_keeps_what_is_above_the_threshold(run: Run) -> None:
    # u = .8; 1.2 -> .2; .9; 1.25 -> .25; .925; 1.2625 -> .2625
    spikes, v = run(constant(0.8, 6), NeuronSettings(reset="soft"))
    close(spikes, [0, 1, 0, 1, 0, 1])
    close(v, [0.8, 0.2, 0.9, 0.25, 0.925, 0.2625])


@both
def test_an_if_neuron_counts(run: Run) -> None:
    # no leak: u = .375, .75, 1.125 -> 0
    spikes, v = run(constant(0.375, 6), NeuronSettings(kind="if"))
    close(spikes, [0, 0, 1, 0, 0, 1])
    close(v, [0.375, 0.75, 0, 0.375, 0.75, 0])
    # soft reset: .375, .75, 1.125 -> .125, .5, .875, 1.25 -> .25, .625, 1.0; the third spike needs strictly more
    spikes, v = run(constant(0.375, 8), NeuronSettings(kind="if", reset="soft"))
    close(spikes, [0, 0, 1, 0, 0, 1, 0, 0])
    close(v[-1], [1.0])


@both
def test_negative_current_charges_downwards_and_never_fires(run: Run) -> None:
    spikes, v = run(constant(-1.0, 3), NeuronSettings())
    close(spikes, [0, 0, 0])
    close(v, [-1, -1.5, -1.75])


@both
def test_firing_is_strictly_above_the_threshold(run: Run) -> None:
    above = torch.nextafter(torch.tensor(2.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)).item()
    for value, fires in ((2.0, 0.0), (above, 1.0)):
        spikes, _ = run(constant(value, 1), NeuronSettings(threshold=2.0))
        assert spikes.item() == fires


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_form_b_gives_the_same_spikes(scale: float) -> None:
    # BrainCog: u = v + (I - v) / tau with tau = 2 and threshold 0.5 (methods 1.2): all potentials halved
    current = torch.randn(50, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * scale + 0.3
    v, spikes = torch.zeros(400, dtype=torch.float64), []
    for row in current:
        u = v + (row - v) / 2.0
        spikes.append((u > 0.5).double())
        v = u * (1 - spikes[-1])
    ours, last = multi_step(current, None, NeuronSettings())
    assert torch.equal(ours, torch.stack(spikes))
    assert 0.01 < ours.mean() < 0.9
    torch.testing.assert_close(last, 2 * v, rtol=0, atol=1e-14)


def test_step_takes_a_learned_decay() -> None:
    one = torch.ones(1, dtype=torch.float64)
    _, v = step(one * 0.1, one, NeuronSettings(), decay=torch.tensor(0.25, dtype=torch.float64))
    close(v, [0.35])


def test_shapes_that_do_not_fit_are_refused() -> None:
    neuron = NeuronSettings()
    with pytest.raises(ShapeError) as caught:
        step(torch.ones(2, 3), torch.ones(3, 2), neuron)
    assert str(caught.value) == "current has shape (2, 3) but the state has (3, 2); they must be equal"
    with pytest.raises(ShapeError) as caught:
        multi_step(torch.ones(4, 2, 3), torch.ones(2), neuron)
    assert str(caught.value) == "current has shape (2, 3) a step but the state has (2,); they must be equal"
    with pytest.raises(ShapeError) as caught:
        multi_step(torch.ones(4, 2), None, neuron, steps=3)
    assert str(caught.value) == "current has 4 steps, expected 3 or 1"
    for current, steps in ((torch.ones(0, 2), None), (torch.ones(1, 2), 0)):
        with pytest.raises(ShapeError, match="neurons run for at least 1 step, given 0"):
            multi_step(current, None, neuron, steps=steps)
