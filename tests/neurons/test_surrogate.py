"""Surrogate derivatives: closed forms, area, units."""

from __future__ import annotations

import math

import pytest
import torch

from evospike.neurons.dynamics import step
from evospike.neurons.settings import NeuronSettings, SurrogateName
from evospike.neurons.surrogate import DERIVATIVES, slope

NAMES: list[SurrogateName] = ["triangle", "rectangle", "arctan", "sigmoid"]
KINKS = {"triangle": (-1.0, 0.0, 1.0), "rectangle": (-1.0, 1.0), "arctan": (), "sigmoid": ()}
"""Where a derivative is not smooth, in widths."""

every = pytest.mark.parametrize("name", NAMES)
widths = pytest.mark.parametrize("width", [0.25, 0.5, 1.0, 2.0])


def smooth_step(name: SurrogateName, x: torch.Tensor, width: float) -> torch.Tensor:
    """The primitive of a surrogate derivative: the smooth step whose slope it is (0 far left, 1 far right)."""
    if name == "triangle":
        left = (x.clamp(-width, 0) + width).square() / (2 * width**2)
        z = x.clamp(0, width)
        return left + (z * width - z.square() / 2) / width**2
    if name == "rectangle":
        return ((x + width) / (2 * width)).clamp(0, 1)
    if name == "arctan":
        return torch.atan(0.5 * math.pi / width * x) / math.pi + 0.5
    return torch.sigmoid(x / width)


def test_every_surrogate_is_tested() -> None:
    assert set(NAMES) == set(DERIVATIVES) == set(KINKS)


@every
@widths
def test_derivatives_are_the_slopes_of_smooth_steps(name: SurrogateName, width: float) -> None:
    x, h = torch.linspace(-3, 3, 601, dtype=torch.float64), 1e-6
    for kink in KINKS[name]:
        x = x[(x - kink * width).abs() > 10 * h]
    numeric = (smooth_step(name, x + h, width) - smooth_step(name, x - h, width)) / (2 * h)
    torch.testing.assert_close(DERIVATIVES[name](x, width), numeric, rtol=1e-7, atol=1e-9)


@every
@widths
def test_every_surrogate_has_unit_area_and_is_even(name: SurrogateName, width: float) -> None:
    far = torch.tensor([-1e6, 0.0, 1e6], dtype=torch.float64)
    torch.testing.assert_close(
        smooth_step(name, far, width), torch.tensor([0, 0.5, 1], dtype=torch.float64), rtol=0, atol=1e-6
    )
    x = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    g = DERIVATIVES[name](x, width)
    tail = 0.0 if name != "arctan" else 1 - 2 / math.pi * math.atan(math.pi * 400 / (2 * width))
    assert torch.trapezoid(g, x).item() == pytest.approx(1 - tail, abs=2e-3)
    torch.testing.assert_close(g, g.flip(0), rtol=1e-9, atol=1e-12)
    assert (g >= 0).all()


@pytest.mark.parametrize(
    ("name", "at_threshold", "half_way"),
    [
        # at x = 0 and x = 0.4 with the default widths, by hand from methods 1.3
        ("triangle", 1.0, 0.6),
        ("rectangle", 1.0, 1.0),
        ("arctan", 1.0, 1 / (1 + (math.pi * 0.4) ** 2)),
        ("sigmoid", 1.0, 4 * (1 / (1 + math.exp(-1.6))) * (1 - 1 / (1 + math.exp(-1.6)))),
    ],
)
def test_default_widths_are_those_of_the_literature(name: SurrogateName, at_threshold: float, half_way: float) -> None:
    neuron = NeuronSettings(surrogate=name)
    got = slope(torch.tensor([1.0, 1.4, 0.6], dtype=torch.float64), neuron)
    torch.testing.assert_close(
        got, torch.tensor([at_threshold, half_way, half_way], dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_triangle_equals_qgate_in_form_b() -> None:
    # BrainCog: derivative alpha - alpha^2 |x| for |x| <= 1 / alpha, alpha = 2, at potentials half of form A's
    u = torch.linspace(-1, 2, 301, dtype=torch.float64)
    x = u - 0.5
    qgate = torch.where(x.abs() <= 0.5, 2 - 4 * x.abs(), torch.zeros_like(x))
    form_a = slope(2 * u, NeuronSettings()) * 2  # d/du_B = 2 d/du_A
    torch.testing.assert_close(form_a, qgate, rtol=0, atol=1e-14)
    # and the same from our own settings in form B units
    torch.testing.assert_close(slope(u, NeuronSettings(threshold=0.5)), qgate, rtol=0, atol=1e-14)


@every
@pytest.mark.parametrize("threshold", [0.5, 3.0])
def test_slope_is_per_unit_of_potential(name: SurrogateName, threshold: float) -> None:
    neuron = NeuronSettings(surrogate=name, threshold=threshold, surrogate_width=0.7)
    u = torch.linspace(-1, 2, 100, dtype=torch.float64) * threshold
    h = 1e-6
    x = (u - threshold) / threshold
    smooth = [smooth_step(name, (u + e - threshold) / threshold, 0.7) for e in (h, -h)]
    away = torch.stack([(x - k * 0.7).abs() > 1e-4 for k in (*KINKS[name], 99.0)]).all(0)
    torch.testing.assert_close(slope(u, neuron)[away], ((smooth[0] - smooth[1]) / (2 * h))[away], rtol=1e-6, atol=1e-8)


@every
def test_a_spikes_gradient_is_the_slope(name: SurrogateName) -> None:
    neuron = NeuronSettings(surrogate=name)
    current = torch.linspace(-0.3, 2.2, 40, dtype=torch.float64).requires_grad_()
    spikes, _ = step(current, torch.zeros(40, dtype=torch.float64), neuron)
    weights = torch.arange(40, dtype=torch.float64)
    (grad,) = torch.autograd.grad((spikes * weights).sum(), current)
    assert torch.equal(spikes, (current > 1).double())
    torch.testing.assert_close(
        grad, weights * DERIVATIVES[name](current.detach() - 1, neuron.width), rtol=1e-12, atol=0
    )
