"""Every change does what it says: norms, distributions, naive loops; and none depends on the batch a sample is in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evospike.core.errors import SettingsError
from evospike.core.rng import torch_stream
from evospike.genetic.encode import encode
from evospike.layers.spiking import SpikingNeuron
from evospike.layers.weights import weight_of, weighted_layers
from evospike.measure import perturb
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import INPUT, Edge, SpecBuilder
from evospike.neurons.settings import NeuronSettings

IMAGES, FRAMES = (6, 3, 7, 5), (6, 4, 2, 7, 5)

RANDOM: dict[str, Callable[[Tensor, float, perturb.Generators], Tensor]] = {
    "noise": perturb.add_noise,
    "occlusion": perturb.occlude,
    "event drop": perturb.drop_events,
    "hot pixels": perturb.add_hot_pixels,
}


def streams(count: int, *, first: int = 0, name: str = "test", repeat: int = 0, seed: int = 1) -> perturb.Generators:
    return perturb.sample_streams(seed, name, repeat, first, count)


def counts(shape: tuple[int, ...], mean: float = 1.5) -> Tensor:
    return torch.poisson(torch.full(shape, mean), torch.Generator().manual_seed(0))


def values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class TestStreams:
    @pytest.mark.parametrize("shape", [IMAGES, FRAMES])
    @pytest.mark.parametrize("name", RANDOM)
    def test_a_sample_changes_alike_in_every_batch(self, name: str, shape: tuple[int, ...]) -> None:
        x = counts(shape)
        x[3] += 0.25  # a sample that is thinned by entries
        whole = RANDOM[name](x, 0.4, streams(6))
        assert not torch.equal(whole, x)
        for parts in ([1] * 6, [4, 2], [1, 5]):
            found, first = [], 0
            for size in parts:
                found.append(RANDOM[name](x[first : first + size], 0.4, streams(size, first=first)))
                first += size
            assert torch.equal(torch.cat(found), whole)

    @pytest.mark.parametrize("name", RANDOM)
    @pytest.mark.parametrize("other", [{"name": "other"}, {"repeat": 1}, {"seed": 2}, {"first": 1}])
    def test_another_purpose_repeat_seed_or_position_is_another_draw(self, name: str, other: dict[str, Any]) -> None:
        x = counts((1, 2, 9, 9)).expand(3, 2, 9, 9)  # equal samples differ by their draws alone
        change = RANDOM[name]
        here = change(x, 0.4, streams(3))
        assert torch.equal(change(x, 0.4, streams(3)), here)
        assert not torch.equal(change(x, 0.4, streams(3, **other)), here)
        assert len(set(map(bytes, here.numpy()))) == 3


@pytest.mark.parametrize("shape", [IMAGES, FRAMES])
@pytest.mark.parametrize(
    "change",
    [
        *(lambda x, random=random: random(x, 0.0, streams(6)) for random in RANDOM.values()),
        lambda x: perturb.brighten(x, 0.0),
        lambda x: perturb.flatten_contrast(x, 0.0),
        lambda x: perturb.blur(x, 0.0),
        lambda x: perturb.shift(x, 0, 0, edge=True),
        lambda x: perturb.shift(x, 0, 0, edge=False),
    ],
)
def test_strength_zero_changes_no_bit(change: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    for x in (values(shape), counts(shape).clamp(max=1)):
        kept = x.clone()
        assert torch.equal(change(x), kept)
        assert torch.equal(x, kept)


class TestNoise:
    @given(
        st.lists(st.integers(1, 6), min_size=3, max_size=4),
        st.floats(-6, 6),
        st.sampled_from([0.1, 0.5, 1.0]),
        st.integers(0, 10**6),
    )
    @settings(max_examples=60, deadline=None)
    def test_its_norm_is_exact_for_every_sample(
        self, sides: list[int], magnitude: float, strength: float, seed: int
    ) -> None:
        x = (values((5, *sides), seed) - 0.3) * 10**magnitude
        moved = perturb.add_noise(x, strength, streams(5, seed=seed))
        for before, after in zip(x.double(), moved.double(), strict=True):
            ratio = float((after - before).square().sum().sqrt() / before.square().sum().sqrt())
            assert ratio == pytest.approx(strength, rel=1e-6)

    def test_it_is_the_formula_with_the_draw_of_the_stream(self) -> None:
        x = values(FRAMES).double() - 0.5
        moved = perturb.add_noise(x, 0.5, streams(6, name="noise", repeat=3, seed=9, first=10))
        for i, (before, after) in enumerate(zip(x.numpy(), moved.numpy(), strict=True)):
            generator = torch_stream(9, "robustness", "noise", 3, 10 + i)
            n = torch.randn(before.shape, generator=generator, dtype=torch.float64).numpy()
            expected = before + 0.5 * math.sqrt((before**2).sum()) / math.sqrt((n**2).sum()) * n
            np.testing.assert_allclose(after, expected, rtol=1e-14, atol=1e-14)

    def test_its_direction_is_that_of_standard_normal_numbers(self) -> None:
        x = torch.ones(2, 3, 200, 200, dtype=torch.float64)
        n = ((perturb.add_noise(x, 0.5, streams(2)) - x) / 0.5).numpy().reshape(2, -1)
        assert abs(n.mean()) < 0.01
        assert n.var() == pytest.approx(1, abs=0.01)
        assert (n**4).mean() == pytest.approx(3, abs=0.1)  # not uniform (1.8), not of two points (1)
        assert abs(np.corrcoef(n)[0, 1]) < 0.01

    def test_a_sample_of_norm_zero_stays_and_the_others_do_not(self) -> None:
        x = values(IMAGES)
        x[2] = 0
        moved = perturb.add_noise(x, 0.5, streams(6))
        assert [torch.equal(a, b) for a, b in zip(moved, x, strict=True)] == [i == 2 for i in range(6)]

    def test_nothing_is_clipped(self) -> None:
        moved = perturb.add_noise(values(IMAGES), 1.0, streams(6))
        assert moved.min() < 0
        assert moved.max() > 1

    def test_a_stronger_noise_goes_further_the_same_way(self) -> None:
        x = values(IMAGES).double()
        weak, strong = (perturb.add_noise(x, s, streams(6)) - x for s in (0.25, 1.0))
        torch.testing.assert_close(4 * weak, strong, rtol=1e-12, atol=1e-12)


class TestPixels:
    def test_brightness_by_hand(self) -> None:
        x = torch.tensor([0.0, 0.5, 0.9, 1.0])
        assert perturb.brighten(x, 0.25).tolist() == [0.25, 0.75, 1.0, 1.0]
        assert perturb.brighten(x, -0.5).tolist() == [0.0, 0.0, pytest.approx(0.4), 0.5]

    def test_contrast_moves_to_the_mean_of_the_channel_in_its_image(self) -> None:
        x = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.2]]], [[[0.5, 1.0]], [[0.0, 0.4]]]])
        half = perturb.flatten_contrast(x, 0.5)
        expected = torch.tensor([[[[0.25, 0.75]], [[0.2, 0.2]]], [[[0.625, 0.875]], [[0.1, 0.3]]]])
        torch.testing.assert_close(half, expected)
        gone = perturb.flatten_contrast(values(IMAGES), 1.0)
        assert (gone.amax((-2, -1)) - gone.amin((-2, -1))).max() < 1e-6

    @pytest.mark.parametrize("sigma", [0.4, 1.0, 2.3])
    def test_blur_is_the_double_sum_with_repeated_edges(self, sigma: float) -> None:
        x = values((2, 2, 5, 6)).double()
        reach = math.ceil(3 * sigma)
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        taps /= taps.sum()
        padded = np.pad(x.numpy(), [(0, 0), (0, 0), (reach, reach), (reach, reach)], mode="edge")
        expected = np.zeros(x.shape)
        for i, j in np.ndindex(5, 6):
            window = padded[..., i : i + 2 * reach + 1, j : j + 2 * reach + 1]
            expected[..., i, j] = (window * taps[:, None] * taps[None, :]).sum((-2, -1))
        np.testing.assert_allclose(perturb.blur(x, sigma).numpy(), expected, rtol=1e-12)

    def test_blur_keeps_a_constant(self) -> None:
        torch.testing.assert_close(perturb.blur(torch.full(IMAGES, 0.3), 1.5), torch.full(IMAGES, 0.3))


class TestShift:
    @given(st.integers(1, 5), st.integers(1, 5), st.integers(-6, 6), st.integers(-6, 6), st.booleans())
    @settings(max_examples=80, deadline=None)
    def test_against_a_loop(self, height: int, width: int, down: int, right: int, edge: bool) -> None:
        x = values((2, 3, height, width)) + 0.1
        moved = perturb.shift(x, down, right, edge=edge)
        for i, j in np.ndindex(height, width):
            row, column = i - down, j - right
            inside = 0 <= row < height and 0 <= column < width
            source = x[..., min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
            expected = source if inside or edge else torch.zeros_like(source)
            assert torch.equal(moved[..., i, j], expected)

    def test_directions_are_left_right_up_down(self) -> None:
        x = torch.zeros(1, 1, 3, 3)
        x[0, 0, 1, 1] = 1
        places = [perturb.shift(x, *step, edge=True).nonzero()[0, -2:].tolist() for step in perturb.DIRECTIONS]
        assert places == [[1, 0], [1, 2], [0, 1], [2, 1]]


class TestOcclusion:
    @pytest.mark.parametrize("shape", [IMAGES, FRAMES])
    @pytest.mark.parametrize(("share", "tall", "wide"), [(0.3, 2, 2), (0.6, 4, 3), (1.0, 7, 5)])
    def test_one_rectangle_in_all_channels_and_steps(
        self, shape: tuple[int, ...], share: float, tall: int, wide: int
    ) -> None:
        x = values(shape) + 0.1
        hidden = perturb.occlude(x, share, streams(6))
        for before, after in zip(x, hidden, strict=True):
            gone = after == 0
            first = gone.reshape(-1, 7, 5)[0]
            assert torch.equal(gone, first.expand_as(gone))
            rows, columns = first.any(1), first.any(0)
            assert torch.equal(first, rows[:, None] & columns)
            assert (rows.nonzero()[:, 0].diff() == 1).all()
            assert (columns.nonzero()[:, 0].diff() == 1).all()
            assert (int(rows.sum()), int(columns.sum())) == (tall, wide)
            assert torch.equal(after[~gone], before[~gone])

    def test_its_place_is_uniform(self) -> None:
        hidden = perturb.occlude(torch.ones(4000, 1, 4, 4), 0.5, streams(4000))
        corners = [tuple((image[0] == 0).nonzero()[0].tolist()) for image in hidden]
        share = 4000 / 9
        for place in np.ndindex(3, 3):
            assert abs(corners.count(place) - share) < 5 * math.sqrt(share)


class TestEventDrop:
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize("n", [1, 3, 40])
    def test_whole_counts_are_thinned_binomially(self, n: int, share: float) -> None:
        frames = torch.full((3, 4, 2, 50, 50), float(n))
        left = perturb.drop_events(frames, share, streams(3))
        assert torch.equal(left, left.round())
        assert left.min() >= 0
        assert left.max() <= n
        size, kept = left.numel(), 1 - share
        variance = n * kept * share
        assert float(left.mean()) == pytest.approx(n * kept, abs=5 * math.sqrt(variance / size))
        assert float(left.var()) == pytest.approx(variance, rel=0.05)

    def test_other_values_stay_or_go_as_one(self) -> None:
        frames = values((2, 4, 2, 40, 40)) + 0.1
        left = perturb.drop_events(frames, 0.3, streams(2))
        kept = left != 0
        assert torch.equal(left[kept], frames[kept])
        assert float(kept.float().mean()) == pytest.approx(0.7, abs=5 * math.sqrt(0.21 / kept.numel()))

    @pytest.mark.parametrize("frames", [counts(FRAMES), values(FRAMES)])
    def test_all_events_can_be_lost(self, frames: Tensor) -> None:
        assert perturb.drop_events(frames, 1.0, streams(6)).count_nonzero() == 0


class TestHotPixels:
    @pytest.mark.parametrize(("share", "number"), [(0.001, 1), (0.1, 4), (0.5, 18), (1.0, 35)])
    def test_they_gain_the_largest_entry_of_their_sample_everywhere(self, share: float, number: int) -> None:
        frames = counts(FRAMES)
        gained = perturb.add_hot_pixels(frames, share, streams(6)) - frames
        for before, more in zip(frames, gained, strict=True):
            assert set(more.unique().tolist()) <= {0.0, float(before.max())}
            hot = more[0, 0] > 0
            assert int(hot.sum()) == number
            assert torch.equal(more > 0, hot.expand_as(more))

    def test_a_larger_share_has_the_pixels_of_a_smaller(self) -> None:
        few, more = (perturb.add_hot_pixels(torch.ones(FRAMES), share, streams(6)) > 1 for share in (0.1, 0.4))
        assert (few <= more).all()
        assert few.sum() < more.sum()


def naive_rounding(weight: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Row by row, value by value: the nearest level; Python rounds a half to the even side."""
    rounded = np.zeros_like(weight)
    for row in range(len(weight)):
        largest = max(abs(float(value)) for value in weight[row].flat)
        if largest:
            step = largest / (2 ** (bits - 1) - 1)
            for place in np.ndindex(weight[row].shape):
                rounded[row][place] = round(float(weight[row][place]) / step) * step
    return rounded


class TestRounding:
    @given(
        st.integers(2, 9),
        st.lists(st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6), min_size=1, max_size=5),
    )
    @settings(max_examples=60, deadline=None)
    def test_it_is_that_of_a_loop_with_few_values_and_the_same_zeros(self, bits: int, rows: list[list[float]]) -> None:
        weight = torch.tensor(rows, dtype=torch.float32).view(-1, 2, 3)
        rounded = perturb.round_rows(weight, bits)
        assert np.array_equal(rounded.numpy(), naive_rounding(weight.numpy(), bits))
        assert (rounded[weight == 0] == 0).all()
        for before, after in zip(weight, rounded, strict=True):
            assert len(set(after.flatten().tolist())) <= 2**bits - 1
            assert after.abs().max() == before.abs().max()

    def test_every_level_is_reached(self) -> None:
        weight = torch.linspace(-3, 3, 1001)[None]
        assert [len(perturb.round_rows(weight, bits).unique()) for bits in (2, 3, 4, 8)] == [3, 7, 15, 255]

    def test_each_row_has_its_own_scale(self) -> None:
        weight = values((4, 3, 3, 3)) - 0.5
        scale = torch.tensor([1.0, 1024.0, 2.0**-20, 0.0]).view(4, 1, 1, 1)
        assert torch.equal(perturb.round_rows(weight * scale, 4), perturb.round_rows(weight, 4) * scale)

    def test_more_bits_are_nearer(self) -> None:
        weight = values((8, 50)).double() - 0.5
        errors = [float((perturb.round_rows(weight, bits) - weight).abs().max()) for bits in (2, 4, 8, 16)]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] <= 0.5 * 0.5 / (2**15 - 1)

    @pytest.mark.parametrize("bits", [1, 17])
    def test_other_bits_are_refused(self, bits: int) -> None:
        with pytest.raises(SettingsError, match=f"rounded to 2 to 16 bits, given {bits}"):
            perturb.round_rows(torch.ones(1, 1), bits)


def conv_net(kind: str = "dense") -> Network:
    """Three layers that could be encoded, behind a stem that is not."""
    b = SpecBuilder("net", (2, 6, 6), 4)
    x = b.conv_norm_neuron("stem.", INPUT, 5, role="stem")
    x = b.conv_norm_neuron("a.", x, 6)
    x = b.conv_norm_neuron("b.", x, 6)
    b.node("scores", "linear", b.node("pool", "global_pool", x), features=4, role="classifier")
    torch.manual_seed(0)
    net = build(b.finish(), steps=3)
    if kind != "dense":
        encode(net, genes=3, kind=kind, skip_growing=False, contraction="two_stage")  # type: ignore[arg-type]
    return net


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: weight_of(layer).detach().clone() for name, layer in weighted_layers(net)}


GENETIC = ["edge", "shared_tapG", "shared_tapE", "low_rank"]


class TestRoundedNetworks:
    @pytest.mark.parametrize("kind", ["dense", *GENETIC])
    def test_all_weights_are_rounded_as_they_are_computed_with(self, kind: str) -> None:
        net = conv_net(kind)
        before, kept = weights(net), {name: t.clone() for name, t in net.state_dict().items()}
        rounded = perturb.with_rounded_weights(net, 4)
        for name, weight in weights(rounded).items():
            torch.testing.assert_close(weight, torch.from_numpy(naive_rounding(before[name].numpy(), 4)))
        assert all(torch.equal(t, kept[name]) for name, t in net.state_dict().items())
        assert torch.equal(rounded.get_parameter("scores.bias"), net.get_parameter("scores.bias"))

    def test_what_is_masked_stays_missing(self) -> None:
        net = conv_net("edge")
        mask = values((6, 5, 3, 3)) < 0.3
        net.get_submodule("a.conv").register_buffer("mask", mask)
        for rounded in (perturb.with_rounded_weights(net, 3), perturb.with_rounded_encodings(net, 3)):
            weight = weights(rounded)["a.conv"]
            assert weight[~mask].count_nonzero() == 0
            assert weight[mask].count_nonzero() > 0

    @pytest.mark.parametrize("kind", GENETIC)
    def test_everything_stored_is_rounded_once(self, kind: str) -> None:
        net = conv_net(kind)
        rounded = dict(perturb.with_rounded_encodings(net, 3).named_parameters())
        for name, parameter in net.named_parameters():
            value = parameter.detach().numpy()
            if name.startswith("gene_pool."):
                vectors = value.reshape(-1, value.shape[-1])
                expected = naive_rounding(vectors, 3).reshape(value.shape)
            elif value.ndim > 1:
                expected = naive_rounding(value, 3)
            else:
                expected = value
            assert np.array_equal(rounded[name].detach().numpy(), expected), name
        assert {"stem.conv.weight", "scores.weight"} < set(rounded)

    def test_weights_are_made_of_what_was_rounded(self) -> None:
        net = conv_net("edge")
        output = naive_rounding(net.get_parameter("a.conv.output_encoding").detach().double().numpy(), 4)
        taps = naive_rounding(net.get_parameter("a.conv.input_encoding").detach().double().numpy(), 4)
        genes = naive_rounding(net.get_parameter("gene_pool.interaction").detach().double().numpy(), 4)
        expected = np.einsum("oa,ab,biuv->oiuv", output, genes, taps)
        found = weights(perturb.with_rounded_encodings(net, 4))["a.conv"]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)
        assert not np.allclose(weights(net)["a.conv"].numpy(), expected, rtol=1e-2)

    def test_the_copy_computes_with_its_own_weights(self) -> None:
        net, x = conv_net("edge").eval(), values((4, 2, 6, 6))
        rounded = perturb.with_rounded_weights(net, 2)
        twin = conv_net().eval()
        twin.load_state_dict({name: t for name, t in rounded.state_dict().items() if not name.startswith("gene_pool")})
        assert torch.equal(rounded(x), twin(x))


def naive_lif(
    current: np.ndarray[Any, Any], thresholds: np.ndarray[Any, Any], decay: float, theta: float, reset: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Unit by unit and step by step, with a threshold of its own for every unit: (T, B, N) -> spikes and potential."""
    spikes, potential = np.zeros_like(current), np.zeros_like(current[0])
    for sample, unit in np.ndindex(*current.shape[1:]):
        v, own = 0.0, theta * thresholds[unit]
        for t in range(len(current)):
            v = decay * v + current[t, sample, unit]
            if v > own:
                spikes[t, sample, unit] = 1
                v = 0.0 if reset == "hard" else v - own
        potential[sample, unit] = v
    return spikes, potential


class TestThresholds:
    @given(
        st.sampled_from(["hard", "soft"]),
        st.sampled_from(["if", "lif", "plif"]),
        st.sampled_from([0.5, 1.0, 2.0]),
        st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]), min_size=3, max_size=3),
        st.lists(st.integers(-128, 256), min_size=30, max_size=30),
    )
    @settings(max_examples=80, deadline=None)
    def test_spikes_and_potentials_are_those_of_own_thresholds_to_the_bit(
        self, reset: Any, kind: Any, theta: float, factors: list[float], currents: list[int]
    ) -> None:
        """Powers of two and halves of sixty-fourths: every number is exact, ties with the threshold included."""
        current = torch.tensor(currents).view(5, 2, 3) / 64
        layer = SpikingNeuron(NeuronSettings(kind=kind, threshold=theta, reset=reset))
        factor = torch.tensor(factors)
        with torch.no_grad(), perturb.scaled_thresholds(nn.ModuleDict({"n": layer}), {"n": factor}):
            spikes, potential = layer(current)
        decay = 1.0 if kind == "if" else 0.5
        expected, left = naive_lif(current.double().numpy(), factor.double().numpy(), decay, theta, reset)
        assert np.array_equal(spikes.double().numpy(), expected)
        assert np.array_equal((potential * factor).double().numpy(), left)

    @pytest.mark.parametrize("reset", ["hard", "soft"])
    def test_drawn_thresholds_and_currents(self, reset: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        current = 1.5 * torch.randn(20, 3, 40, generator=generator, dtype=torch.float64) + 0.3
        factor = 0.2 + torch.rand(40, generator=generator, dtype=torch.float64) * 2
        layer = SpikingNeuron(NeuronSettings(decay=0.7, threshold=0.8, reset=reset))
        with perturb.scaled_thresholds(nn.ModuleDict({"n": layer}), {"n": factor}):
            spikes, _ = layer(current)
        expected, _ = naive_lif(current.numpy(), factor.numpy(), 0.7, 0.8, reset)
        assert np.array_equal(spikes.numpy(), expected)
        assert not np.array_equal(spikes.numpy(), layer(current)[0].numpy())
        assert 0.05 < spikes.mean() < 0.9

    def test_a_static_current_meets_the_thresholds_of_its_units_at_every_step(self) -> None:
        net = static_net()
        x = torch.tensor([[0.75, 0.75, 0.75], [1.5, 0.25, 3.0]]).view(2, 1, 1, 3)
        factor = torch.tensor([0.5, 1.0, 2.0])
        seen = spikes_of(net, x, {"first": factor})["first"]
        current = np.repeat(x.view(1, 2, 3).double().numpy(), 4, axis=0)
        assert np.array_equal(seen.double().numpy(), naive_lif(current, factor.double().numpy(), 0.5, 1.0, "hard")[0])

    def test_a_network_stepped_through_time_keeps_them(self) -> None:
        """A delayed edge makes every step a call of its own, with the state handed from one to the next."""
        x = torch.tensor([[0.75, 0.75, 0.75], [1.5, 0.25, 3.0]]).view(2, 1, 1, 3)
        factor = {"first": torch.tensor([0.5, 1.0, 2.0])}
        stepped, at_once = spikes_of(static_net(delayed=True), x, factor), spikes_of(static_net(), x, factor)
        assert torch.equal(stepped["first"], at_once["first"])

    def test_factors_are_normal_floored_and_named(self) -> None:
        net = conv_net()
        weak, strong = (perturb.threshold_factors(net, spread, 3, 0) for spread in (0.1, 0.2))
        assert {name: tuple(f.shape) for name, f in strong.items()} == {
            "stem.neuron": (5, 6, 6),
            "a.neuron": (6, 6, 6),
            "b.neuron": (6, 6, 6),
        }
        for name in weak:
            torch.testing.assert_close(2 * (weak[name] - 1), strong[name] - 1)
        every = torch.cat([factor.flatten() for factor in strong.values()])
        assert float(every.mean()) == pytest.approx(1, abs=5 * 0.2 / math.sqrt(len(every)))
        assert float(every.std()) == pytest.approx(0.2, rel=0.1)
        assert not torch.equal(strong["a.neuron"], strong["b.neuron"])
        for other in ((4, 0), (3, 1)):
            assert not torch.equal(perturb.threshold_factors(net, 0.2, *other)["a.neuron"], strong["a.neuron"])
        wild = torch.cat([f.flatten() for f in perturb.threshold_factors(net, 5.0, 3, 0).values()])
        assert float(wild.min()) == pytest.approx(perturb.LEAST_THRESHOLD)

    def test_no_spread_changes_no_bit(self) -> None:
        net, x = conv_net().eval(), values((4, 2, 6, 6))
        plain = net(x)
        with perturb.scaled_thresholds(net, perturb.threshold_factors(net, 0.0, 1, 0)):
            assert torch.equal(net(x), plain)

    def test_hooks_go_also_when_something_fails(self) -> None:
        net = conv_net()
        factors = perturb.threshold_factors(net, 0.1, 1, 0)
        with perturb.scaled_thresholds(net, factors):
            assert hooks(net) == 3
        assert hooks(net) == 0
        with pytest.raises(ZeroDivisionError), perturb.scaled_thresholds(net, factors):
            _ = 1 / 0
        assert hooks(net) == 0
        with pytest.raises(AttributeError), perturb.scaled_thresholds(net, {**factors, "nowhere": torch.ones(1)}):
            raise AssertionError("never inside")
        assert hooks(net) == 0


def hooks(net: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in net.modules())


def static_net(*, delayed: bool = False) -> Network:
    b = SpecBuilder("static", (1, 1, 3), 3)
    neuron = b.node("first", "neuron", b.node("flat", "flatten", INPUT))
    b.node("scores", "add", neuron, Edge(neuron, delay=1)) if delayed else b.node("scores", "add", neuron)
    return build(b.finish(), steps=4)


def spikes_of(net: Network, x: Tensor, factors: dict[str, Tensor]) -> dict[str, Tensor]:
    """(T, B, ...) of every neuron layer under scaled thresholds."""
    seen: dict[str, list[Tensor]] = {}
    net.observer = lambda name, spikes, potential: seen.setdefault(name, []).append(spikes)
    with perturb.scaled_thresholds(net, factors):
        net(x)
    return {name: torch.cat(spikes) for name, spikes in seen.items()}
