"""Groups by role, rates and decays; the schedule at its corners; state in and out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from evospike.core.errors import SettingsError
from evospike.training.optimiser import make_optimiser, optimiser_tensors, rate_at, restore_optimiser, set_rate
from evospike.training.settings import TrainingSettings


def groups(net, roles, training) -> dict[str, dict]:
    return {group["role"]: group for group in make_optimiser(net, roles, training).param_groups}


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_every_role_has_its_own_rate_and_decay(tiny_net, roles, settings, kind: str) -> None:
    net = tiny_net()
    found = groups(net, roles, settings(optimiser=kind, weight_decay=0.3, encoding_decay=0.02, gene_rate=0.5))
    assert {role: group["weight_decay"] for role, group in found.items()} == {
        "genes": 0.02,
        "encoding": 0.02,
        "weight": 0.3,
        "norm": 0.0,
        "bias": 0.0,
    }
    assert {role: group["scale"] for role, group in found.items() if group["scale"] != 1.0} == {"genes": 0.5}
    held = {role: [id(p) for p in group["params"]] for role, group in found.items()}
    assert held["genes"] == [id(net.genes)]
    assert sorted(i for ids in held.values() for i in ids) == sorted(id(p) for p in net.parameters())


def test_frozen_parameters_are_left_out(tiny_net, roles, settings) -> None:
    net = tiny_net()
    net.genes.requires_grad_(False)
    assert "genes" not in groups(net, roles, settings())


def test_decay_shrinks_the_weights_it_is_meant_for_only(tiny_net, roles, settings) -> None:
    """With zero gradients AdamW multiplies by 1 - rate * decay and does nothing else."""
    net = tiny_net()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = make_optimiser(net, roles, settings(weight_decay=0.5, encoding_decay=0.25, gene_rate=2.0))
    set_rate(optimiser, 0.1)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    factors = {"out.weight": 1 - 0.1 * 0.5, "hidden.weight": 1 - 0.1 * 0.25, "genes": 1 - 0.2 * 0.25}
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] * factors.get(name, 1.0))


def test_the_warm_up_rises_linearly_and_the_cosine_ends_at_the_final_rate() -> None:
    training = TrainingSettings(epochs=10, rate=0.8, warmup_epochs=1.5, final_rate=0.1)
    rates = [rate_at(step, 4, training) for step in range(41)]  # warm-up: steps 0..5; step 40 would be the next
    assert rates[:6] == pytest.approx([0.8 * (i + 1) / 7 for i in range(6)])
    assert rates[6] == 0.8
    assert rates[40] == pytest.approx(0.08)
    middle = 0.8 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 17 / 34)))
    assert rates[23] == pytest.approx(middle)
    assert all(a > b for a, b in itertools.pairwise(rates[6:]))


def test_schedules_at_their_limits() -> None:
    none = TrainingSettings(epochs=2, rate=1.0, warmup_epochs=0.0)
    assert [rate_at(step, 2, none) for step in range(4)] == pytest.approx(
        [1.0, *(0.5 + 0.5**1.5 * s for s in (1, 0, -1))]
    )
    only_warmup = TrainingSettings(epochs=1, rate=1.0, warmup_epochs=5.0)
    assert [rate_at(step, 3, only_warmup) for step in range(3)] == pytest.approx([0.25, 0.5, 0.75])
    assert rate_at(0, 1, TrainingSettings(epochs=1, rate=1.0, warmup_epochs=0.0)) == 1.0
    flat = TrainingSettings(epochs=3, rate=0.3, warmup_epochs=0.0, final_rate=1.0)
    assert {rate_at(step, 2, flat) for step in range(6)} == {0.3}


def test_set_rate_scales_the_genes(tiny_net, roles, settings) -> None:
    optimiser = make_optimiser(tiny_net(), roles, settings(gene_rate=0.1))
    set_rate(optimiser, 0.4)
    assert {group["role"]: group["lr"] for group in optimiser.param_groups} == {
        **dict.fromkeys(["encoding", "weight", "norm", "bias"], 0.4),
        "genes": pytest.approx(0.04),
    }


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_state_goes_out_by_name_and_comes_back(tiny_net, tiny_source, roles, settings, kind: str) -> None:
    def train(net, optimiser, steps: range) -> None:
        for epoch in steps:
            x, y = tiny_source().batch(tiny_source().order(epoch), epoch)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(x).mean(0), y).backward()
            optimiser.step()

    one = tiny_net()
    first = make_optimiser(one, roles, settings(optimiser=kind))
    train(one, first, range(3))
    tensors = {name: tensor.clone() for name, tensor in optimiser_tensors(first, one).items()}
    quantities = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "sgd": {"momentum_buffer"}}[kind]
    assert set(tensors) == {f"{name}/{quantity}" for name in roles for quantity in quantities}

    other = tiny_net(seed=5)
    other.load_state_dict(one.state_dict())
    second = make_optimiser(other, roles, settings(optimiser=kind))
    restore_optimiser(second, other, tensors)
    train(one, first, range(3, 5))
    train(other, second, range(3, 5))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "'epochs' must be at least 1, given 0"),
        ({"batch": 1}, r"'batch' must be at least 2 \(batch norm\), given 1"),
        ({"rate": 0.0}, "'rate' must be positive, given 0.0"),
        ({"final_rate": 1.5}, r"'final_rate' is a fraction of the rate in \[0, 1\], given 1.5"),
        ({"momentum": 1.0}, "'momentum'"),
        ({"ema": 1.0}, "'ema'"),
        ({"label_smoothing": -0.1}, "'label_smoothing'"),
        ({"mmd_weight": 2.0}, "'mmd_weight'"),
        ({"weight_decay": -1.0}, "'weight_decay' must not be negative, given -1.0"),
        ({"checkpoint_minutes": -1.0}, "'checkpoint_minutes'"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        TrainingSettings(**change)


def test_sgd_without_momentum_is_plain() -> None:
    layer = nn.Linear(2, 1, bias=False)
    before = layer.weight.detach().clone()
    training = TrainingSettings(optimiser="sgd", momentum=0.0, rate=0.5, weight_decay=0.0)
    optimiser = make_optimiser(layer, {"weight": "weight"}, training)
    layer(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    torch.testing.assert_close(layer.weight, before - 0.5)
