"""What holds at every step of a sparse training, whatever its layers, rules and schedule."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import evospike
from evospike.core.errors import RunError, SettingsError
from evospike.core.rng import torch_stream
from evospike.genetic.encode import materialise
from evospike.layers.weights import weight_of
from evospike.sparse import rules
from evospike.sparse.learner import StructureLearner
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings

RULES = ["gradient", "random", "momentum", "adam", "unfired"]
OFTEN: dict[str, Any] = {"density": 0.3, "allocation": "uniform", "period_epochs": 0.6}
"""With five steps an epoch: a rewiring every third step."""

chosen_settings = st.builds(
    SparseSettings,
    density=st.floats(0.1, 0.9),
    method=st.sampled_from(["rewire", "rewire", "static"]),
    on=st.sampled_from(["weights", "encodings"]),
    allocation=st.sampled_from(["erk", "er", "uniform"]),
    exact_count=st.booleans(),
    prune=st.sampled_from(["magnitude", "sign", "taylor"]),
    grow=st.sampled_from(RULES),
    random_share=st.sampled_from([0.0, 0.3, 1.0]),
    gradient_batches=st.integers(1, 4),
    average_decay=st.sampled_from([0.0, 0.9, 0.99]),
    fraction=st.floats(0.05, 0.95),
    period_epochs=st.sampled_from([0.0, 0.2, 0.4, 0.8]),
    freeze=st.sampled_from([0.5, 0.75, 1.0]),
    rewired_step=st.sampled_from(["skip", "masked"]),
)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.sampled_from(["stored", "genetic"]),
    st.tuples(st.integers(2, 6), st.integers(2, 6)),
    chosen_settings,
    st.sampled_from(["adamw", "sgd"]),
)
def test_what_holds_after_every_step(
    tiny, hand, kind: str, widths: tuple[int, int], sparse: SparseSettings, optimiser: str
) -> None:
    training = hand(tiny(kind, widths), sparse, epochs=2, optimiser=optimiser)
    allocated = {tensor.name: int(tensor.mask.sum()) for tensor in training.masks.tensors}
    if sparse.exact_count:
        assert allocated == {t.name: training.masks.quotas[t.name].count for t in training.masks.tensors}
    period, end = _period(sparse, total=10, per_epoch=5), min(math.floor(sparse.freeze * 10), 9)
    for iteration in range(1, 11):
        before = training.graph()
        training.step()
        due = sparse.method == "rewire" and iteration % period == 0 and iteration <= end
        assert training.skipped == (due and sparse.rewired_step == "skip")
        for tensor in training.masks.tensors:
            was, mask = before[tensor.name], tensor.mask.flatten()
            active = allocated[tensor.name]
            assert int(mask.sum()) == active, "the number of synapses never changes"
            dropped, grown = was & ~mask, mask & ~was
            if not due:
                assert torch.equal(was, mask), "the graph changes on schedule only"
            else:
                phase = 0.5 * (1 + math.cos(math.pi * iteration / end))
                alpha = sparse.final_fraction + (sparse.fraction - sparse.final_fraction) * phase
                wanted = min(math.ceil(alpha * active - 1e-9), active, len(mask) - active)
                assert int(dropped.sum()) == int(grown.sum()) == wanted
            if tensor.generated is None:
                _check_stored(tensor.parameter, tensor.mask, (dropped | grown).view_as(tensor.mask), training)
            else:
                assert not weight_of(tensor.owner)[~tensor.mask].any()


def _period(sparse: SparseSettings, total: int, per_epoch: int) -> int:
    steps = round(sparse.period_epochs * per_epoch) or math.floor(total / 20)
    return max(steps, 2 if sparse.rewired_step == "skip" else 1)


def _check_stored(parameter: nn.Parameter, mask: Tensor, changed: Tensor, training) -> None:
    assert torch.equal(parameter, parameter * mask)
    states = [s for s in training.optimiser.state[parameter].values() if s.shape == parameter.shape]
    for state in states:
        assert not state[~mask].any(), "the optimiser knows nothing of what is missing"
        if training.skipped:
            assert not state[changed].any(), "nor what it knew before a synapse was rewired"
    if training.skipped:
        assert not parameter[changed].any()


def test_what_has_grown_is_trained_before_it_can_be_dropped(tiny, hand) -> None:
    """Trap 3 of methods 5.7, at the shortest periods there are: no synapse is dropped for a zero it starts with."""
    for how in ("skip", "masked"):
        sparse = SparseSettings(density=0.5, period_epochs=0.01, freeze=1, rewired_step=how, fraction=0.3)
        training = hand(tiny(), sparse, epochs=4)
        grown: dict[str, Tensor] = {}
        rewirings = 0
        for _ in range(20):
            before = training.graph()
            weights = {t.name: t.parameter.detach().flatten().clone() for t in training.masks.tensors}
            training.step()
            after = training.graph()
            if all(torch.equal(before[name], after[name]) for name in after):
                continue
            rewirings += 1
            for name, mask in after.items():
                if name in grown:
                    assert weights[name][grown[name]].all(), "each of the last grown has moved"
                grown[name] = mask & ~before[name]
        assert rewirings == (9 if how == "skip" else 19)


def _dense_gradient(net: nn.Module, name: str, at: int, batch) -> Tensor:
    """dL/d(M*W) of a layer for the batch of a step, from an explicit W_eff in a copy with stored weights."""
    plain = materialise(net)
    layer = plain.get_submodule(name)
    effective = layer.weight.detach().clone().requires_grad_()
    x, y = batch(at)
    scores = torch.func.functional_call(plain, {f"{name}.weight": effective}, (x,))
    F.cross_entropy(scores.mean(0), y).backward()
    return effective.grad.flatten()


@pytest.mark.parametrize("grow", ["gradient", "momentum", "adam"])
@pytest.mark.parametrize("kind", ["stored", "genetic"])
@pytest.mark.parametrize("batches", [1, 2, 9])
def test_growth_ranks_by_the_dense_gradient(tiny, hand, batch, kind: str, grow: str, batches: int) -> None:
    training = hand(tiny(kind), SparseSettings(**OFTEN, grow=grow, gradient_batches=batches, average_decay=0.8))
    names = [tensor.name for tensor in training.masks.tensors]
    assert names == ["first", "second", "third"]
    scores: dict[str, Tensor] = {name: torch.zeros(1) for name in names}
    squares = dict(scores)
    for iteration in range(1, 10):
        before = training.graph()
        for name in names:
            gradient = _dense_gradient(training.net, name, training.at, batch)
            if grow in ("momentum", "adam"):
                scores[name] = 0.8 * scores[name] + 0.2 * gradient
                squares[name] = 0.8 * squares[name] + 0.2 * gradient**2
            elif (-iteration) % 3 < batches:
                scores[name] = scores[name] + gradient.abs()
        training.step()
        if iteration % 3:
            continue
        for name, mask in training.graph().items():
            free = (~before[name]).nonzero().flatten()
            grown = mask & ~before[name]
            ranked = scores[name].abs() / squares[name].sqrt() if grow == "adam" else scores[name].abs()
            best = ranked[free].sort(descending=True).values[: int(grown.sum())]
            assert best[-1] > 0
            torch.testing.assert_close(ranked[grown].sort(descending=True).values, best, rtol=1e-4, atol=0)
            if grow == "gradient":
                scores[name] = torch.zeros(1)


def test_the_gradient_of_a_generated_weight_is_watched_only_when_it_is_used(tiny, hand) -> None:
    training = hand(tiny("genetic"), SparseSettings(**OFTEN, gradient_batches=2))
    seen = []
    for _ in range(9):
        training.backward()
        seen.append(training.net.second.weight_gradient is not None)
        training.skipped = training.learner.gradients_ready(training.at)
        training.learner.updated(training.at)
        training.at += 1
    assert seen == [False, True, True] * 3


@pytest.mark.parametrize("prune", ["magnitude", "taylor"])
@pytest.mark.parametrize("kind", ["stored", "genetic"])
def test_pruning_ranks_by_what_the_layer_computes_with(tiny, hand, batch, kind: str, prune: str) -> None:
    training = hand(tiny(kind), SparseSettings(**OFTEN, prune=prune, grow="random"))
    training.step()
    training.step()
    before = training.graph()
    rank = {}
    for tensor in training.masks.tensors:
        gradient = _dense_gradient(training.net, tensor.name, training.at, batch) if prune == "taylor" else 1.0
        rank[tensor.name] = (tensor.value().flatten() * gradient).abs()
    training.step()
    for name, mask in training.graph().items():
        dropped = before[name] & ~mask
        assert dropped.any()
        assert rank[name][dropped].max() <= rank[name][mask & before[name]].min()


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_what_grows_at_random_comes_from_a_stream_of_its_layer_and_step(tiny, hand, batch, share: float) -> None:
    training = hand(tiny(), SparseSettings(**OFTEN, random_share=share))
    for step in range(9):
        before = training.graph()
        gradients = {name: _dense_gradient(training.net, name, step, batch) for name in before}
        training.step()
        for name, mask in training.graph().items():
            free, count = ~before[name], int((mask & ~before[name]).sum())
            drawn = round(share * count)
            expected = torch.zeros_like(mask)
            expected[rules.grow_largest(gradients[name], free, count - drawn)] = True
            generator = torch_stream(7, "grow", "test", name, step)
            expected[rules.grow_random(free & ~expected, drawn, generator)] = True
            assert torch.equal(expected, mask & ~before[name])


def test_unfired_growth_explores_every_position_before_any_twice(tiny, hand) -> None:
    sparse = SparseSettings(**OFTEN, grow="unfired", freeze=1, fraction=0.9, final_fraction=0.9)
    training = hand(tiny(), sparse, epochs=6)
    ever = training.graph()
    for _ in range(30):
        before = training.graph()
        training.step()
        for name, mask in training.graph().items():
            grown = mask & ~before[name]
            again = grown & ever[name]
            assert not again.any() or bool((ever[name] | grown).all())
            ever[name] |= mask
    assert all(bool(positions.all()) for positions in ever.values())
    assert training.learner.epoch_record()["exploration"] == 1.0


def test_the_record_counts_density_exploration_births_and_losses(tiny, hand) -> None:
    training = hand(tiny(), SparseSettings(**OFTEN))
    ever, changes = training.graph(), 0
    for iteration in range(1, 16):
        before = training.graph()
        training.step()
        for name, mask in training.graph().items():
            ever[name] |= mask
            changes += int((mask & ~before[name]).sum())
        if iteration % 5 == 0:
            record = training.learner.epoch_record()
            assert record["density"] == round(0.3 * 828) / 828
            assert record["exploration"] == pytest.approx(sum(int(e.sum()) for e in ever.values()) / 828)
            assert record["born"] == record["lost"] == changes
            changes = 0


def test_dense_layers_do_not_rewire(tiny, hand) -> None:
    training = hand(tiny(), SparseSettings(density=0.6, period_epochs=0.6, layers=("third=1",)))
    assert [tensor.name for tensor in training.masks.tensors] == ["first", "second"]
    for _ in range(6):
        training.step()
    assert training.net.third.weight.all()
    record = training.learner.epoch_record()
    assert record["born"] > 0
    assert record["density"] == round(0.6 * 828) / 828
    assert record["exploration"] > record["density"]


def test_averages_are_zero_where_synapses_are_missing(tiny, hand) -> None:
    net = tiny()
    attach(net, SparseSettings(**OFTEN), 7, ("test",))
    averages = {name: p.detach().clone() + 1 for name, p in net.named_parameters()}
    training = hand(tiny(), SparseSettings(**OFTEN), averages=averages)
    before = training.graph()
    for _ in range(3):
        training.step()
    for name, mask in training.graph().items():
        zero = averages[f"{name}.weight"].flatten() == 0
        assert torch.equal(zero, before[name] ^ mask), "reset where rewired, untouched elsewhere"


@pytest.mark.parametrize("kind", ["stored", "genetic"])
@pytest.mark.parametrize(("at", "steps"), [(0.0, 0), (0.33, 4), (1.0, 10)])
def test_one_shot_keeps_the_largest_weights_from_its_step_on(tiny, hand, kind: str, at: float, steps: int) -> None:
    pruned = SparseSettings(density=0.3, method="one_shot", one_shot_at=at, allocation="uniform")
    training = hand(tiny(kind), pruned, epochs=2)
    # the same training with nothing pruned until its end
    dense = hand(tiny(kind), replace(pruned, one_shot_at=1.0), epochs=2)
    for _ in range(steps):
        assert all(bool(mask.all()) for mask in training.graph().values())
        training.step()
        dense.step()
    if at == 1:
        assert training.learner.epoch_record()["density"] == 1
        training.learner.finish()
    for tensor, whole in zip(training.masks.tensors, dense.masks.tensors, strict=True):
        count = training.masks.quotas[tensor.name].count
        weight, mask = whole.value().flatten(), tensor.mask.flatten()
        assert int(mask.sum()) == count
        assert weight[mask].abs().min() >= weight[~mask].abs().max()
        assert torch.equal(tensor.value().flatten(), torch.where(mask, weight, 0.0))
    graph = training.graph()
    record = training.learner.epoch_record()
    assert record["density"] == round(0.3 * 828) / 828
    assert (record["born"], record["lost"]) == (0, 828 - round(0.3 * 828))
    for _ in range(10 - steps):
        training.step()
        for tensor in training.masks.tensors:
            assert torch.equal(tensor.mask.flatten(), graph[tensor.name])
            assert not tensor.value()[~tensor.mask].any()


def test_a_static_graph_stays(tiny, hand) -> None:
    training = hand(tiny("genetic"), SparseSettings(density=0.3, method="static"))
    before = training.graph()
    for _ in range(20):
        training.step()
    assert all(torch.equal(before[name], mask) for name, mask in training.graph().items())
    assert training.learner.epoch_record()["born"] == 0


def test_a_period_longer_than_the_training_is_refused(tiny) -> None:
    net = tiny()
    learner = StructureLearner(attach(net, SparseSettings(density=0.3, period_epochs=5), 0))
    with pytest.raises(SettingsError, match=r"of 5 is longer than the training, 4 epochs"):
        learner.begin(torch.optim.SGD(net.parameters(), lr=0.1), {}, 4, 10)


def test_the_state_is_all_that_is_needed(tiny, hand) -> None:
    """A second learner on a copied network goes on as the first, from the middle of a rewiring period."""
    for grow in RULES:
        sparse = SparseSettings(**OFTEN, grow=grow, gradient_batches=2)
        first = hand(tiny("genetic"), sparse)
        for _ in range(5):
            first.step()
        second = hand(tiny("genetic", seed=9), sparse)
        second.net.load_state_dict(first.net.state_dict())
        second.optimiser.load_state_dict(copy.deepcopy(first.optimiser.state_dict()))
        second.learner.restore(5, {name: tensor.clone() for name, tensor in first.learner.state().items()})
        second.at = 5
        for _ in range(10):
            first.step()
            second.step()
            assert all(torch.equal(a, second.net.state_dict()[name]) for name, a in first.net.state_dict().items())
        assert first.learner.epoch_record() == second.learner.epoch_record()
        with pytest.raises(KeyError):
            second.learner.restore(5, {})


@pytest.mark.parametrize(
    ("method", "at", "first"), [("rewire", 0.75, 0), ("static", 0.75, 0), ("one_shot", 0.5, 5), ("one_shot", 1.0, 11)]
)
def test_a_graph_is_settled_once_it_has_its_final_number_of_synapses(tiny, hand, method, at, first: int) -> None:
    learner = hand(tiny(), SparseSettings(density=0.3, method=method, one_shot_at=at), epochs=2).learner
    assert [learner.settled(step) for step in range(11)] == [step >= first for step in range(11)]


@pytest.mark.parametrize(
    ("method", "at", "expected"),
    [
        ("rewire", 0.75, [0] * 10),
        ("static", 0.75, [0] * 10),
        ("one_shot", 0.0, [0] * 10),
        ("one_shot", 0.5, [0] * 4 + [4] * 6),
        ("one_shot", 1.0, [0] * 10),
    ],
)
def test_averages_begin_anew_where_all_was_pruned_at_once(tiny, hand, method, at, expected: list[int]) -> None:
    learner = hand(tiny(), SparseSettings(density=0.3, method=method, one_shot_at=at), epochs=2).learner
    assert [learner.averages_from(step) for step in range(10)] == expected


def test_any_module_is_sparse_in_a_loop_of_ones_own() -> None:
    """As docs/using.md has it."""
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10))
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.01)
    learner = evospike.sparsify(net, density=0.2, seed=3, grow="random")
    learner.begin(optimiser, {}, 2, 10)

    def existing() -> Tensor:
        return torch.cat([weight_of(layer).flatten() != 0 for layer in (net[0], net[3])])

    first, images, labels = existing(), torch.randn(16, 1, 6, 6), torch.arange(16) % 10
    for step in range(20):
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        if not learner.gradients_ready(step):
            optimiser.step()
        learner.updated(step)
        assert learner.epoch_record()["density"] == pytest.approx(0.2, abs=1 / 1352)
        assert int(existing().sum()) <= round(0.2 * 1352)
    assert not torch.equal(existing(), first)


def test_settings_without_a_density_have_no_effect_and_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"^sparse.grow: without effect, for at density 1"):
        evospike.sparsify(nn.Linear(3, 2), density=1, grow="random")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prune": "magntude"}, "'prune' cannot be 'magntude'; did you mean 'magnitude'"),
        ({"method": "oneshot"}, "'method' cannot be 'oneshot'; did you mean 'one_shot'"),
        ({"grow": "gradent"}, "'grow' cannot be 'gradent'; did you mean 'gradient'"),
        ({"allocation": "erkk"}, "'allocation' cannot be 'erkk'; did you mean 'erk'"),
        ({"periods": 3}, "unknown field 'periods'"),
        ({"density": "0.1"}, "'density' wants a number, given '0.1'"),
    ],
)
def test_what_a_call_cannot_mean_is_refused(given: dict[str, Any], message: str) -> None:
    net = nn.Linear(40, 30)
    with pytest.raises(SettingsError, match=f"^{message}"):
        evospike.sparsify(net, **given)
    assert not hasattr(net, "mask")


def test_a_learner_that_has_not_begun_says_so() -> None:
    with pytest.raises(RunError, match=r"has not begun; call learner.begin\(optimiser"):
        evospike.sparsify(nn.Linear(40, 30)).gradients_ready(0)
