"""Which synapses are chosen: against a sort in plain Python, on values with many ties."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evospike.core.rng import torch_stream
from evospike.sparse import rules

tied_floats = st.integers(-3, 3).map(float)
layers = st.lists(st.tuples(tied_floats, tied_floats, st.booleans(), st.booleans()), min_size=1, max_size=40)
"""Weight, gradient, whether it exists, whether it ever did, of every position."""


def columns(layer: list[tuple[float, float, bool, bool]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight, gradient, mask, ever = (list(column) for column in zip(*layer, strict=True))
    mask, ever = torch.tensor(mask), torch.tensor(ever)
    return torch.tensor(weight), torch.tensor(gradient), mask, ever | mask


def first(positions: Iterable[int], count: int, rank: Callable[[int], float]) -> list[int]:
    return sorted(sorted(positions), key=rank)[:count]


@settings(deadline=None, derandomize=True, max_examples=200)
@given(layers, st.floats(0.001, 0.999))
def test_pruning_takes_exactly_the_smallest_active_ones(layer: list, fraction: float) -> None:
    weight, gradient, mask, _ = columns(layer)
    active = mask.nonzero().flatten().tolist()
    count = rules.rewired_count(len(active), len(mask) - len(active), fraction)
    assert count == min(math.ceil(fraction * len(active)), len(active), len(mask) - len(active))
    w, g = weight.tolist(), gradient.tolist()
    assert rules.prune_magnitude(weight, mask, count).tolist() == first(active, count, lambda i: abs(w[i]))
    taylor = rules.prune_taylor(weight, gradient, mask, count)
    assert taylor.tolist() == first(active, count, lambda i: (w[i] * g[i]) ** 2)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(layers, st.integers(0, 40))
def test_pruning_by_sign_takes_half_from_either(layer: list, quota: int) -> None:
    weight, _, mask, _ = columns(layer)
    w = weight.tolist()
    positive = [i for i in range(len(w)) if mask[i] and w[i] >= 0]
    negative = [i for i in range(len(w)) if mask[i] and w[i] < 0]
    count = min(quota, len(positive) + len(negative))
    chosen = rules.prune_sign(weight, mask, count).tolist()
    assert len(set(chosen)) == count
    taken = [i for i in chosen if i in positive], [i for i in chosen if i in negative]
    assert taken == (
        first(positive, len(taken[0]), lambda i: abs(w[i])),
        first(negative, len(taken[1]), lambda i: abs(w[i])),
    )
    if min(len(positive), len(negative)) >= math.ceil(count / 2):
        assert (len(taken[0]), len(taken[1])) == (math.ceil(count / 2), count // 2)
    else:
        assert len(taken[0]) == len(positive) or len(taken[1]) == len(negative)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(layers, st.integers(0, 40), st.integers(0, 5))
def test_growing_takes_exactly_as_many_free_positions(layer: list, quota: int, seed: int) -> None:
    _, gradient, mask, ever = columns(layer)
    free = ~mask
    positions = free.nonzero().flatten().tolist()
    count, g = min(quota, len(positions)), gradient.tolist()
    assert rules.grow_largest(gradient, free, count).tolist() == first(positions, count, lambda i: -abs(g[i]))
    drawn = rules.grow_random(free, count, torch_stream(seed, "x")).tolist()
    assert len(set(drawn)) == count
    assert set(drawn) <= set(positions)
    assert drawn == rules.grow_random(free, count, torch_stream(seed, "x")).tolist()
    unfired = [i for i in positions if not ever[i]]
    chosen = rules.grow_unfired(free, ever, count, torch_stream(seed, "x")).tolist()
    assert len(set(chosen)) == count
    assert set(chosen) <= set(positions)
    assert len(set(chosen) & set(unfired)) == min(count, len(unfired))


def test_random_growth_is_uniform() -> None:
    free = torch.tensor([True, False, True, True, False, True])
    hits = torch.zeros(6)
    for seed in range(2000):
        hits[rules.grow_random(free, 2, torch_stream(seed, "uniform"))] += 1
    assert hits[[1, 4]].tolist() == [0, 0]
    assert (hits[[0, 2, 3, 5]] - 1000).abs().max() < 5 * (2000 * 0.25) ** 0.5  # five standard deviations


def test_zeros_that_have_just_grown_do_not_change_how_many_are_dropped() -> None:
    """Trap 3 of methods 5.7: a threshold at the k-th smallest |w| would drop all 90 zeros, or none."""
    weight = torch.cat([torch.zeros(90), torch.linspace(0.1, 1, 10)])
    mask = torch.ones(100, dtype=torch.bool)
    assert rules.prune_magnitude(weight, mask, 30).tolist() == list(range(30))
    assert sorted(rules.prune_sign(weight, mask, 95).tolist()) == list(range(95))


def test_what_grows_by_adam_is_ranked_by_the_length_of_its_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    slope = torch.linspace(-1, 1.5, 6, dtype=torch.float64)
    optimiser = torch.optim.Adam([weight], lr=1e-7, betas=(0.9, 0.9), eps=1e-8)
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for _ in range(200):
        gradient = torch.randn(6, generator=generator, dtype=torch.float64) + slope
        mean, square = mean.lerp(gradient, 0.1), square.lerp(gradient**2, 0.1)
        weight.grad = gradient
        before = weight.detach().clone()
        optimiser.step()
    torch.testing.assert_close(rules.adam_step(mean, square), (before - weight.detach()).abs() / 1e-7)


def test_a_small_steady_gradient_ranks_above_a_large_one_that_changes_sign() -> None:
    steady, changing = torch.full((100,), 1e-3), torch.tensor([1.0, -1.0]).repeat(50)
    gradients = torch.stack([steady, changing], 1)
    score = rules.adam_step(gradients.mean(0), gradients.square().mean(0))
    assert score[0] > 0.99
    assert score[1] == 0
    assert rules.adam_step(torch.zeros(1), torch.zeros(1)) == 0
