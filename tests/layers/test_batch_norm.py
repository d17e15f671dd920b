"""Batch norm over time against PyTorch's own on the tensor that it stands for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evospike.layers.spiking import TimeBatchNorm2d

T = 4


def pair(channels: int, *, stepwise: bool = False, dtype: torch.dtype = torch.float64) -> tuple[TimeBatchNorm2d, Any]:
    """Ours and PyTorch's with equal, uncommon weights and running statistics."""
    ours, reference = TimeBatchNorm2d(channels, stepwise=stepwise).to(dtype), nn.BatchNorm2d(channels).to(dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -1.0), ("running_var", 0.3)):
            values = torch.rand(channels, generator=generator, dtype=torch.float64).to(dtype) + low
            getattr(ours, name).copy_(values)
            getattr(reference, name).copy_(values)
    return ours, reference


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * 2 + 0.7).to(dtype)


def gradients(y: Tensor, weights: Tensor, x: Tensor, norm: nn.BatchNorm2d) -> list[Tensor]:
    return list(torch.autograd.grad((y * weights).sum(), [x, norm.weight, norm.bias]))


def same_statistics(ours: nn.BatchNorm2d, reference: nn.BatchNorm2d, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(ours.running_mean, reference.running_mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.running_var, reference.running_var, rtol=tolerance, atol=tolerance)
    assert ours.num_batches_tracked == reference.num_batches_tracked


@pytest.mark.parametrize("training", [True, False])
def test_joint_statistics_are_those_of_the_merged_tensor(training: bool) -> None:
    ours, reference = pair(3)
    ours.train(training), reference.train(training)
    x = draw(T * 2, 3, 4, 5)
    torch.testing.assert_close(ours(x, steps=T), reference(x), rtol=1e-12, atol=1e-12)
    same_statistics(ours, reference)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 2), (3, 3, 1, 1), (1, 3, 1, 1)])
def test_repeats_equal_repeating_the_tensor(shape: tuple[int, ...]) -> None:
    ours, reference = pair(3)
    for round_ in range(3):  # the running statistics move each time
        once = draw(*shape, seed=round_).requires_grad_()
        shown = once.detach().repeat(T, 1, 1, 1).requires_grad_()
        y, expected = ours(once, repeats=T), reference(shown)
        torch.testing.assert_close(y.repeat(T, 1, 1, 1), expected, rtol=1e-10, atol=1e-10)
        same_statistics(ours, reference, 1e-10)
        weights = draw(*shown.shape, seed=9)
        by_x, by_weight, by_bias = gradients(y.repeat(T, 1, 1, 1), weights, once, ours)
        e_x, e_weight, e_bias = gradients(expected, weights, shown, reference)
        torch.testing.assert_close(by_x, e_x.unflatten(0, (T, -1)).sum(0), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(by_weight, e_weight, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(by_bias, e_bias, rtol=1e-9, atol=1e-9)
    assert ours.num_batches_tracked == 3


def test_repeats_in_single_precision() -> None:
    ours, reference = pair(3, dtype=torch.float32)
    x = draw(2, 3, 4, 5, dtype=torch.float32)
    torch.testing.assert_close(
        ours(x, repeats=T).repeat(T, 1, 1, 1), reference(x.repeat(T, 1, 1, 1)), rtol=1e-6, atol=1e-6
    )
    same_statistics(ours, reference, 1e-6)


def test_the_correction_for_repeats_matters() -> None:
    """A guard: without it the running variance would be off by far more than the tolerance above."""
    x = draw(1, 3, 1, 2)
    corrected, reference = pair(3)
    corrected(x, repeats=T)
    reference(x)
    assert (corrected.running_var - reference.running_var).abs().max() > 0.01


@pytest.mark.parametrize("stepwise", [False, True])
def test_evaluation_uses_running_statistics_and_leaves_them(stepwise: bool) -> None:
    ours, reference = pair(3, stepwise=stepwise)
    ours.eval(), reference.eval()
    x = draw(2, 3, 4, 5)
    torch.testing.assert_close(ours(x, repeats=T), reference(x), rtol=1e-12, atol=1e-12)
    same_statistics(ours, reference, 0)


def test_stepwise_statistics_are_those_of_each_step() -> None:
    ours, reference = pair(3, stepwise=True)
    x = draw(T * 2, 3, 4, 5).requires_grad_()
    copy = x.detach().clone().requires_grad_()
    y = ours(x, steps=T)
    expected = torch.cat([reference(part) for part in copy.split(2)])  # called once per step
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    same_statistics(ours, reference)
    assert ours.num_batches_tracked == T
    weights = draw(*x.shape, seed=5)
    for one, other in zip(gradients(y, weights, x, ours), gradients(expected, weights, copy, reference), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    joint = pair(3)[0](x, steps=T)
    assert (joint - y).abs().max() > 0.05


def test_stepwise_repeats_equal_one_call_per_step() -> None:
    ours, reference = pair(3, stepwise=True)
    x = draw(2, 3, 4, 5)
    y = ours(x, repeats=T)
    expected = [reference(x) for _ in range(T)]
    torch.testing.assert_close(y, expected[0], rtol=1e-12, atol=1e-12)
    same_statistics(ours, reference)


def test_gain_is_the_initial_weight() -> None:
    norm = TimeBatchNorm2d(2, 0.25)
    assert norm.weight.tolist() == [0.25, 0.25]
    assert norm.bias.tolist() == [0.0, 0.0]
    torch.testing.assert_close(norm(draw(8, 2, 9, 9).float()).std(unbiased=False).item(), 0.25, rtol=1e-3, atol=0)
