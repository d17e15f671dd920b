"""Dissimilarity of spike patterns against definitions written pair by pair."""

from __future__ import annotations

import math
from itertools import permutations
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evospike.core.errors import SettingsError, ShapeError
from evospike.measure import dissimilarity
from evospike.measure.dissimilarity import MOST_UNITS, Dissimilarity, batch_statistics, matrices
from evospike.measure.settings import DissimilaritySettings, Distance
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import INPUT, Edge, SpecBuilder

DISTANCES: tuple[Distance, ...] = get_args(Distance)
TRUE_DISTANCES = tuple(name for name in DISTANCES if name != "sahd_logdet")
EXACT = ("hamming", "hamming_normalised")


def constant(x: np.ndarray) -> bool:
    return bool(x.all() or not x.any())


def naive_pair(x: np.ndarray, y: np.ndarray, distance: Distance) -> float:
    """Of two rows of zeros and ones, by the textbook."""
    n = len(x)
    differ = int(np.sum(x != y))
    if distance == "hamming":
        return differ
    if distance == "hamming_normalised":
        return differ / n
    if distance == "euclidean":
        return float(np.linalg.norm(x - y))
    if distance == "sahd_logdet":
        p, q = x.mean(), y.mean()
        return n - 0.5 * differ / (n * (p * (1 - q) + (1 - p) * q) + 1e-3)
    if np.array_equal(x, y):
        return 0.0
    if distance == "cosine":
        return 1.0 if not x.any() or not y.any() else 1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
    return 2.0 if constant(x) or constant(y) else 1 - np.corrcoef(x, y)[0, 1]


def naive(spikes: Tensor, distance: Distance) -> np.ndarray:
    fired = (spikes.flatten(2) > 0).double().numpy()
    return np.array([[[naive_pair(x, y, distance) for y in rows] for x in rows] for rows in fired])


def same(given: Tensor, expected: np.ndarray, distance: Distance) -> None:
    if distance in EXACT:
        np.testing.assert_array_equal(given.numpy(), expected)
    else:
        np.testing.assert_allclose(given.numpy(), expected, rtol=1e-12, atol=1e-12)


def bernoulli(*shape: int, rate: float = 0.3, seed: int = 0) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def awkward(units: int) -> Tensor:
    """One step of random rows, one of them twice, two silent, two saturated, and one a complement: (1, 8, units)."""
    rows = bernoulli(8, units, rate=0.5, seed=units)
    rows[1], rows[2], rows[3:5], rows[5:7] = rows[0], 1 - rows[0], 0, 1
    return rows.unsqueeze(0)


# Distances


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("units", [1, 2, 7, 63, 64, 65, 1000])
def test_every_distance_is_its_definition(distance: Distance, units: int) -> None:
    same(matrices(awkward(units), distance), naive(awkward(units), distance), distance)
    spikes = bernoulli(3, 5, units)
    same(matrices(spikes, distance), naive(spikes, distance), distance)


@given(
    steps=st.integers(1, 3),
    batch=st.integers(2, 6),
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    rate=st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
    distance=st.sampled_from(DISTANCES),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=40, deadline=None)
def test_every_distance_of_any_spikes(steps, batch, shape, rate, distance, seed) -> None:
    spikes = bernoulli(steps, batch, *shape, rate=rate, seed=seed)
    found = matrices(spikes, distance)
    assert found.dtype == torch.float64
    assert found.isfinite().all()
    assert torch.equal(found, found.mT)
    same(found, naive(spikes, distance), distance)
    if distance != "sahd_logdet":
        assert (found >= 0).all()
        assert not found.diagonal(dim1=-2, dim2=-1).any()


@pytest.mark.parametrize(
    ("distance", "silent_active", "silent_saturated", "saturated_active"),
    [
        ("hamming", 3, 8, 5),
        ("hamming_normalised", 3 / 8, 1, 5 / 8),
        ("euclidean", 3**0.5, 8**0.5, 5**0.5),
        ("cosine", 1, 1, 1 - (3 / 8) ** 0.5),
        ("pearson", 2, 2, 2),
    ],
)
def test_constant_rows(distance, silent_active, silent_saturated, saturated_active) -> None:
    silent, full, active = torch.zeros(8), torch.ones(8), torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 0])
    (found,) = matrices(torch.stack([silent, silent, full, full, active])[None], distance)
    assert found[0, 1] == found[2, 3] == 0
    assert found[0, 4].item() == pytest.approx(silent_active, rel=1e-15)
    assert found[0, 2].item() == pytest.approx(silent_saturated, rel=1e-15)
    assert found[2, 4].item() == pytest.approx(saturated_active, rel=1e-15)


@pytest.mark.parametrize("distance", TRUE_DISTANCES)
def test_equal_rows_are_at_exactly_zero(distance: Distance) -> None:
    row = bernoulli(1, 1, 3001, rate=0.37)
    assert not matrices(row.expand(2, 6, -1), distance).any()


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
def test_independent_rows_differ_in_2p_1_minus_p_n_units(rate: float) -> None:
    batch, units = 64, 4096
    (found,) = matrices(bernoulli(1, batch, units, rate=rate), "hamming")
    pairs = batch * (batch - 1)
    expected = 2 * rate * (1 - rate) * units
    # Hamming distances of rows that share a sample are dependent: bound the mean by that of batch / 2 independent ones
    deviation = math.sqrt(2 * rate * (1 - rate) * units / (batch / 2))
    assert abs(float(found.sum()) / pairs - expected) < 4 * deviation


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_layout_in_memory_is_no_matter(distance: Distance) -> None:
    spikes = bernoulli(2, 6, 5, 3, 4)
    expected = matrices(spikes, distance)
    channels_last = spikes.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    batch_inside = spikes.permute(2, 0, 1, 3, 4).contiguous().permute(1, 2, 0, 3, 4)
    assert not channels_last.is_contiguous()
    assert torch.equal(matrices(channels_last, distance), expected)
    assert torch.equal(matrices(batch_inside, distance), expected)
    assert torch.equal(
        matrices(bernoulli(2, 12, 60)[:, ::2], distance), matrices(bernoulli(2, 12, 60), distance)[:, ::2, ::2]
    )


@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.float64])
def test_only_the_sign_of_an_output_counts(dtype: torch.dtype) -> None:
    spikes = bernoulli(2, 4, 100)
    expected = matrices(spikes, "hamming")
    assert torch.equal(matrices(spikes.to(dtype), "hamming"), expected)
    assert torch.equal(matrices(spikes * 0.25 - (1 - spikes), "hamming"), expected)


@pytest.mark.parametrize("int8", [True, False])
def test_both_products_count_exactly(int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The int8 product is also right where it is slow, and neither is rounded under autocast."""
    monkeypatch.setattr(dissimilarity, "_int8_is_fast", lambda: int8)
    for batch, units in [(2, 64), (3, 65), (17, 127), (33, 4099), (2, 2**20)]:
        spikes = bernoulli(1, batch, units, rate=0.7)
        rows = spikes[0].numpy() > 0
        expected = [[int(np.count_nonzero(x != y)) for y in rows] for x in rows]
        with torch.autocast("cpu", torch.bfloat16):
            assert matrices(spikes, "hamming").tolist() == [expected]


def test_no_step_gives_no_matrix() -> None:
    assert matrices(torch.zeros(0, 3, 4), "pearson").shape == (0, 3, 3)


@pytest.mark.parametrize("shape", [(4, 1, 3), (4, 3), (1, 1, 2, 2, 2)])
def test_nothing_to_compare_with_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="at least 2 samples") as refused:
        matrices(torch.zeros(shape), "hamming")
    assert str(shape) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_more_units_than_are_counted_exactly_are_refused() -> None:
    with pytest.raises(ShapeError, match=f"{MOST_UNITS + 1} units"):
        matrices(torch.zeros(1).expand(1, 2, MOST_UNITS + 1), "hamming")
    with pytest.raises(ShapeError, match="0 units"):
        matrices(torch.zeros(1, 2, 0), "hamming")


def test_an_unknown_distance_is_refused_with_the_nearest() -> None:
    for make in (lambda: matrices(torch.zeros(1, 2, 3), "haming"), lambda: Dissimilarity("haming")):
        with pytest.raises(SettingsError, match="did you mean 'hamming'"):
            make()


# The observer


def show(seen: Dissimilarity, layers: dict[str, Tensor]) -> Dissimilarity:
    for name, spikes in layers.items():
        seen(name, spikes, torch.zeros(spikes.shape[1:]))
    return seen


@given(order=st.permutations(range(6)), seed=st.integers(0, 2**20), distance=st.sampled_from(DISTANCES))
@settings(max_examples=25, deadline=None)
def test_shuffled_samples_shuffle_the_matrix_and_keep_the_score(order, seed, distance) -> None:
    layers = {"a": bernoulli(2, 6, 40, seed=seed), "b": bernoulli(2, 6, 3, 5, rate=0.1, seed=seed + 1)}
    weights = {"a": 2.0, "b": 0.5}
    seen = show(Dissimilarity(distance, weights), layers)
    shuffled = show(Dissimilarity(distance, weights), {name: s[:, order] for name, s in layers.items()})
    assert torch.equal(shuffled.matrix(), seen.matrix()[order][:, order])
    assert shuffled.score() == pytest.approx(seen.score(), rel=1e-9, abs=1e-9)
    assert (shuffled.rates(), shuffled.silent()) == (seen.rates(), seen.silent())


@pytest.mark.parametrize("distance", TRUE_DISTANCES)
def test_the_score_is_the_sum_over_both_halves(distance: Distance) -> None:
    spikes = bernoulli(1, 5, 30)
    twice = sum(naive_pair(x, y, distance) for x, y in permutations(spikes[0].double().numpy(), 2))
    assert show(Dissimilarity(distance), {"a": spikes}).score() == pytest.approx(twice, rel=1e-12)


def test_the_kernel_is_scored_by_its_determinant() -> None:
    layers = {"a": bernoulli(3, 6, 50), "b": bernoulli(3, 6, 20, seed=1)}
    seen = show(Dissimilarity("sahd_logdet"), layers)
    mean = np.concatenate([naive(spikes, "sahd_logdet") for spikes in layers.values()]).mean(0)
    np.testing.assert_allclose(seen.matrix().numpy(), mean, rtol=1e-13)
    assert seen.score() == pytest.approx(float(np.linalg.slogdet(mean)[1]), rel=1e-9)


@pytest.mark.parametrize("rows", [torch.zeros(1, 5, 40), torch.ones(1, 5, 40), bernoulli(1, 1, 40).expand(1, 5, 40)])
def test_a_singular_kernel_has_the_documented_score(rows: Tensor) -> None:
    """All equal rows: K = N everywhere, its eigenvalues 5 N and four times 0."""
    score = show(Dissimilarity("sahd_logdet"), {"a": rows}).score()
    assert score == pytest.approx(math.log(200) + 4 * math.log(200 * 5 * 2**-52), rel=1e-12)
    different = show(Dissimilarity("sahd_logdet"), {"a": bernoulli(1, 5, 40)}).score()
    assert different > score + 50


def test_weights_are_per_layer_and_step() -> None:
    layers = {"a": bernoulli(3, 4, 50), "b": bernoulli(1, 4, 20, seed=1), "out": bernoulli(2, 4, 9, seed=2)}
    seen = show(Dissimilarity("hamming", {"a": 2, "b": 5, "out": 0}), layers)
    total = 2 * naive(layers["a"], "hamming").sum(0) + 5 * naive(layers["b"], "hamming").sum(0)
    np.testing.assert_allclose(seen.matrix().numpy(), total / (2 * 3 + 5 * 1), rtol=1e-15)
    once = show(Dissimilarity(), layers)
    np.testing.assert_allclose(
        once.matrix().numpy(), sum(naive(s, "hamming").sum(0) for s in layers.values()) / 6, rtol=1e-15
    )


def test_rates_and_silent_shares_by_hand() -> None:
    spikes = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 0]], [[1, 1, 1, 1], [0, 0, 0, 0]]])
    seen = show(Dissimilarity("hamming", {"a": 0, "b": 1}), {"a": spikes, "b": torch.ones(2, 2, 3)})
    assert seen.rates() == {"a": 5 / 16, "b": 1}
    assert seen.silent() == {"a": 1 / 2, "b": 0}
    assert seen.firing_rate() == 17 / 28
    assert seen.spikes_per_sample() == 17 / 2


def test_a_potential_that_is_not_finite_is_seen() -> None:
    seen = Dissimilarity()
    seen("a", torch.zeros(1, 2, 3), torch.zeros(2, 3))
    assert seen.count.finite
    seen("b", torch.zeros(1, 2, 3), torch.tensor([[0, math.inf, 0], [0, 0, 0]]))
    seen("c", torch.zeros(1, 2, 3), torch.zeros(2, 3))
    assert not seen.count.finite


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_bad_weights_are_refused(weight: float) -> None:
    with pytest.raises(SettingsError, match="'b'"):
        Dissimilarity("hamming", {"a": 1.0, "b": weight})


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(ShapeError, match="no layer of neurons"):
        Dissimilarity().score()
    with pytest.raises(ShapeError, match="no layer of neurons"):
        Dissimilarity().spikes_per_sample()
    with pytest.raises(ShapeError, match="weight 0"):
        show(Dissimilarity("hamming", {"a": 0}), {"a": torch.zeros(1, 2, 3)}).matrix()
    with pytest.raises(SettingsError, match="no weight for neuron layer 'b'"):
        show(Dissimilarity("hamming", {"a": 1}), {"b": torch.zeros(1, 2, 3)})
    with pytest.raises(ShapeError, match="3 samples after 2"):
        show(Dissimilarity(), {"a": torch.zeros(1, 2, 3), "b": torch.zeros(1, 3, 3)})


# Real networks


def convolutional(*, delayed: bool) -> Network:
    """Two convolutions; delayed: the second layer's spikes reach the first layer a step later, so it is stepped."""
    b = SpecBuilder("small", (2, 8, 8), 3)
    stem = b.conv_norm("stem.", INPUT, 6)
    back = [Edge("second.neuron", sign=-1, delay=1)] if delayed else []
    first = b.node("first", "neuron", b.node("sum", "add", stem, *back))
    second = b.conv_norm_neuron("second.", first, 6, kernel=5)
    b.node("scores", "linear", b.node("pool", "global_pool", second), features=3)
    torch.manual_seed(1)
    return build(b.finish(), steps=4).to(memory_format=torch.channels_last)


def images(batch: int = 7) -> Tensor:
    x = torch.randn(batch, 2, 8, 8, generator=torch.Generator().manual_seed(5))
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_network_gives_the_weighted_mean_of_its_calls(delayed: bool, distance: Distance) -> None:
    net, weights = convolutional(delayed=delayed), {"first": 3.0, "second.neuron": 1.0}
    seen, calls = Dissimilarity(distance, weights), []

    def observe(name: str, spikes: Tensor, potential: Tensor) -> None:
        seen(name, spikes, potential)
        calls.append((name, spikes.clone()))

    net.observer = observe
    with batch_statistics(net):
        net(images())
    assert len(calls) == (8 if delayed else 2)
    total = sum(weights[name] * naive(spikes, distance).sum(0) for name, spikes in calls)
    np.testing.assert_allclose(seen.matrix().numpy(), total / (4 * 3 + 4 * 1), rtol=1e-12, atol=1e-12)
    assert 0.01 < seen.firing_rate() < 0.9
    for name in weights:
        rows = torch.cat([spikes for layer, spikes in calls if layer == name]).flatten(2)
        assert rows.shape[:2] == (4, 7)
        assert seen.rates()[name] == pytest.approx(float(rows.double().mean()), rel=1e-12)
        assert seen.silent()[name] == pytest.approx(float((rows.sum(-1) == 0).double().mean()), rel=1e-12)
    assert seen.spikes_per_sample() == sum(float(spikes.sum()) for _, spikes in calls) / 7


def test_one_sample_is_refused() -> None:
    net = convolutional(delayed=False)
    net.observer = Dissimilarity()
    with pytest.raises(ShapeError, match="at least 2 samples"), batch_statistics(net):
        net(images(1))


def remember(net: Network) -> dict[str, bytes]:
    tensors = dict(net.named_parameters()) | dict(net.named_buffers())
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}


def modes(net: Network) -> list[bool]:
    return [module.training for module in net.modules()]


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_batch_statistics_leave_no_trace(delayed: bool, training: bool) -> None:
    net = convolutional(delayed=delayed)
    net(images())  # running statistics away from their defaults
    net.train(training)
    net.get_submodule("second.norm").eval()
    before, were = remember(net), modes(net)
    with batch_statistics(net):
        scores = net(images())
        assert all(modes(net))
        assert not scores.requires_grad
        assert remember(net) != before  # the forward did move the running statistics
    assert (remember(net), modes(net)) == (before, were)
    assert torch.is_grad_enabled()
    net.train()
    assert torch.equal(net(images()), scores)


def fail_within(net: Network) -> None:
    with batch_statistics(net):
        net(images())
        net.get_parameter("scores.weight").fill_(7)
        raise RuntimeError("broken")


def test_batch_statistics_leave_no_trace_of_a_failure() -> None:
    net = convolutional(delayed=False).eval()
    before, were = remember(net), modes(net)
    with pytest.raises(RuntimeError, match="broken"):
        fail_within(net)
    assert (remember(net), modes(net)) == (before, were)
    assert torch.is_grad_enabled()


def test_batch_statistics_differ_from_those_of_evaluation() -> None:
    net = convolutional(delayed=False).eval()
    with torch.no_grad():
        plain = net(images() * 3)
    with batch_statistics(net):
        assert not torch.allclose(net(images() * 3), plain)


# Settings


@pytest.mark.parametrize(("field", "value"), [("repeats", 0), ("batch", 1)])
def test_settings_that_compare_nothing_are_refused(field: str, value: int) -> None:
    with pytest.raises(SettingsError, match=f"'{field}'.*given {value}"):
        DissimilaritySettings(**{field: value})


def test_defaults_are_those_of_the_released_code() -> None:
    chosen = DissimilaritySettings()
    assert (chosen.distance, chosen.weighting, chosen.repeats, chosen.batch) == ("hamming", "edges", 2, 128)
