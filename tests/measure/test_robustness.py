"""The robustness document: recomputed sample by sample, the same for every batch size, and no trace on the network."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from evospike.core.errors import SettingsError, ShapeError
from evospike.core.rng import torch_stream
from evospike.core.statistics import half_interval
from evospike.genetic.encode import encode, materialise
from evospike.layers.weights import weight_of, weighted_layers
from evospike.measure import perturb, robustness
from evospike.measure.robustness import Curve, Sweep, Trial, measure_robustness
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import INPUT, SpecBuilder

SAMPLES, CLASSES, STEPS = 20, 5, 3
MEAN, STD = (0.4, 0.6), (0.25, 0.2)
COUNTS = {"mean": (0.0, 0.0), "std": (1 / 255, 1 / 255)}

Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


def make_net(*, events: bool = False, genetic: bool = False) -> Network:
    """A stem, one layer that is encoded when `genetic`, and a classifier; norms know the data, so its answers vary."""
    b = SpecBuilder("net", (2, 6, 6), CLASSES, events=events)
    x = b.conv_norm_neuron("stem.", INPUT, 6, role="stem")
    x = b.conv_norm_neuron("a.", x, 8, stride=2)
    b.node("scores", "linear", b.node("flat", "flatten", x), features=CLASSES, role="classifier")
    torch.manual_seed(0)
    net = build(b.finish(), steps=STEPS)
    if genetic:
        encode(net, genes=3, skip_growing=False)
    with torch.no_grad():
        net.get_parameter("scores.bias").zero_()
        for _ in range(30):
            net(samples(events))
    return net.eval()


def samples(events: bool) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if events:
        return torch.poisson(torch.full((STEPS, SAMPLES, 2, 6, 6), 0.6), generator)
    pixels = torch.rand(SAMPLES, 2, 6, 6, generator=generator)
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def labels_of(net: Network, x: Tensor) -> Tensor:
    """What the network says, except for every fifth sample: then every change of accuracy shows."""
    labels = net.predict(x)
    labels[::5] = (labels[::5] + 1) % CLASSES
    return labels.detach()


def batches(x: Tensor, labels: Tensor, size: int = 7) -> Batches:
    events = x.dim() == 5

    def give() -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(labels), size):
            some = slice(first, first + size)
            yield (x[:, some] if events else x[some]), labels[some]

    return give


@pytest.fixture(scope="module")
def image_net() -> Network:
    return make_net(genetic=True)


@pytest.fixture(scope="module")
def event_net() -> Network:
    return make_net(events=True)


@pytest.fixture(scope="module")
def image_full(image_net: Network) -> dict[str, Any]:
    return measured(image_net, kind="full")


@pytest.fixture(scope="module")
def event_full(event_net: Network) -> dict[str, Any]:
    return measured(event_net, kind="full")


def measured(net: Network, *, size: int = 7, **changes: Any) -> dict[str, Any]:
    events = net.spec.events
    x = samples(events)
    normalisation: dict[str, Any] = COUNTS if events else {"mean": MEAN, "std": STD}
    options = {"kind": "protocol", **normalisation, "events": events, "space": "normalised", "seeds": 3, "seed": 8}
    return measure_robustness(net, batches(x, labels_of(net, x), size), **{**options, **changes})


def trial_of(net: Network, **changes: Any) -> Trial:
    events = net.spec.events
    x = samples(events)
    normalisation: dict[str, Any] = COUNTS if events else {"mean": MEAN, "std": STD}
    options = {**normalisation, "events": events, "seeds": 3, "seed": 8}
    return Trial(net, batches(x, labels_of(net, x)), **{**options, **changes})


def curve(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = (curve for curve in document["curves"] if curve["name"] == name)
    return found


def accuracy(net: Network, x: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((net(x).mean(0).argmax(-1) == labels).double().mean())


def noisy(sample: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The protocol for one sample, in plain words: methods 1.9."""
    n = torch.randn(sample.shape, generator=generator, dtype=torch.float64)
    norm = math.sqrt(float((sample.double() ** 2).sum())) / math.sqrt(float((n**2).sum()))
    return sample.double() + strength * norm * n


class TestProtocol:
    @pytest.mark.parametrize("events", [False, True])
    @pytest.mark.parametrize("space", ["normalised", "raw"])
    def test_it_is_what_a_loop_over_seeds_and_samples_gives(
        self, image_net: Network, event_net: Network, events: bool, space: str
    ) -> None:
        net = event_net if events else image_net
        x = samples(events)
        labels = labels_of(net, x)
        mean, std = (torch.tensor(v)[:, None, None] for v in (COUNTS.values() if events else (MEAN, STD)))
        rows = []
        for repeat in range(3):
            moved = []
            for i, sample in enumerate(x.unbind(1 if events else 0)):
                generator = torch_stream(8, "robustness", "noise", repeat, i)
                if space == "normalised":
                    moved.append(noisy(sample, 0.5, generator).float())
                else:
                    moved.append(((noisy(sample.double() * std + mean, 0.5, generator) - mean) / std).float())
            rows.append(accuracy(net, torch.stack(moved, 1 if events else 0), labels))
        found = measured(net, space=space)
        assert found == {
            "kind": "protocol",
            "samples": SAMPLES,
            "noise_seeds": 3,
            "strength": 0.5,
            "noise_space": space,
            "clean": 0.8,
            "noisy": statistics.mean(rows),
            "drop": 0.8 - statistics.mean(rows),
            "noisy_std": statistics.stdev(rows),
            "noisy_interval": half_interval(rows),
            "notes": found["notes"],
            "curves": [],
        }
        assert found["noisy"] < 0.8
        assert len(set(rows)) > 1
        (note,) = found["notes"]
        assert note.startswith("noise: Gaussian")
        assert ("before normalisation" in note) == (space == "raw")

    def test_one_seed_has_no_interval(self, image_net: Network) -> None:
        found = measured(image_net, seeds=1)
        assert (found["noisy_std"], found["noisy_interval"]) == (0.0, None)
        assert isinstance(found["noisy"], float)

    def test_more_seeds_begin_with_the_same(self, image_net: Network) -> None:
        few, more = (trial_of(image_net, seeds=n).noise("normalised").run(0.8).accuracies for n in (2, 3))
        assert few == tuple(row[:2] for row in more)

    def test_another_root_seed_is_other_noise(self, image_net: Network) -> None:
        first, second = (trial_of(image_net, seed=seed).noise("normalised").run(0.8).accuracies for seed in (8, 9))
        assert first != second


class TestFull:
    def test_the_curves_of_images(self, image_full: dict[str, Any]) -> None:
        names = ["noise", "brightness", "contrast", "blur", "shift", "occlusion", "weight bits", "encoding bits"]
        names.append("threshold jitter")
        assert [one["name"] for one in image_full["curves"]] == names
        assert [note.split(":")[0] for note in image_full["notes"]] == names
        stored = trial_of(make_net()).sweeps("normalised")
        assert [sweep.name for sweep in stored] == [name for name in names if name != "encoding bits"]

    def test_the_curves_of_events(self, event_full: dict[str, Any]) -> None:
        assert [one["name"] for one in event_full["curves"]] == [
            "noise",
            "event drop",
            "hot pixels",
            "shift",
            "occlusion",
            "weight bits",
            "threshold jitter",
        ]

    @pytest.mark.parametrize("data", ["image_full", "event_full"])
    def test_every_curve_is_whole_and_starts_from_clean(self, data: str, request: pytest.FixtureRequest) -> None:
        found = request.getfixturevalue(data)
        entries = dict.fromkeys(("brightness", "contrast", "blur", "weight bits", "encoding bits"), 1) | {"shift": 4}
        for one in found["curves"]:
            neutral = 32 if one["unit"] == "bits" else 0
            assert one["accuracies"][one["strengths"].index(neutral)] == [found["clean"]] * entries.get(one["name"], 3)
            assert {len(row) for row in one["accuracies"]} == {entries.get(one["name"], 3)}
            assert len(one["strengths"]) == len(one["accuracies"]) == len(set(one["strengths"]))
            assert one["mean"] == [statistics.mean(row) for row in one["accuracies"]]
            assert one["std"] == [statistics.stdev(row) if len(row) > 1 else 0.0 for row in one["accuracies"]]
            assert any(row != one["accuracies"][0] for row in one["accuracies"]), one["name"]
        assert json.loads(json.dumps(found)) == found

    def test_the_protocol_is_a_point_of_the_noise_curve(self, image_net: Network, image_full: dict[str, Any]) -> None:
        full, protocol = image_full, measured(image_net)
        noise = curve(full, "noise")
        at = noise["strengths"].index(0.5)
        keys = ("clean", "noisy", "drop", "noisy_std", "noisy_interval")
        assert {key: full[key] for key in keys} == {key: protocol[key] for key in keys}
        assert (noise["mean"][at], noise["std"][at]) == (protocol["noisy"], protocol["noisy_std"])

    def test_pixel_changes_are_made_before_normalisation(self, image_net: Network, image_full: dict[str, Any]) -> None:
        x = samples(False)
        labels = labels_of(image_net, x)
        mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
        pixels = x * std + mean
        changes = {
            "brightness": lambda strength: (pixels + strength).clamp(0, 1),
            "contrast": lambda strength: pixels.mean((2, 3), True) * strength + pixels * (1 - strength),
        }
        for name, change in changes.items():
            one = curve(image_full, name)
            expected = [accuracy(image_net, (change(strength) - mean) / std, labels) for strength in one["strengths"]]
            assert one["mean"] == expected

    def test_shifts_fill_images_with_their_edge_and_frames_with_nothing(
        self, image_net: Network, event_net: Network
    ) -> None:
        for net in (image_net, event_net):
            x = samples(net.spec.events)
            labels, rolled = labels_of(net, x), []
            for step, dim in ((-1, -1), (1, -1), (-1, -2), (1, -2)):
                moved = x.roll(2 * step, dim)
                edge = moved.narrow(dim, 0 if step > 0 else 4, 2)
                edge.copy_(x.narrow(dim, 0 if step > 0 else 5, 1)) if net is image_net else edge.zero_()
                rolled.append(accuracy(net, moved, labels))
            assert trial_of(net).shift((2,)).run(0.8).accuracies == (tuple(rolled),)

    def test_rounded_weights_are_those_that_are_computed_with(self, image_net: Network) -> None:
        x = samples(False)
        plain = materialise(image_net)
        assert isinstance(plain, Network)
        with torch.no_grad():
            for _, layer in weighted_layers(plain):
                weight = weight_of(layer)
                scale = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.dim() - 1)) / 3
                weight.copy_((weight / scale).round() * scale)
        found = trial_of(image_net).weight_bits((3,)).run(0.8)
        assert found.accuracies == ((accuracy(plain, x, labels_of(image_net, x)),),)

    def test_jitter_scales_thresholds_alike_for_all_samples(self, image_net: Network) -> None:
        x = samples(False)
        labels, expected = labels_of(image_net, x), []
        for repeat in range(3):
            factors = perturb.threshold_factors(image_net, 0.3, 8, repeat)
            with perturb.scaled_thresholds(image_net, factors):
                expected.append(accuracy(image_net, x, labels))
        assert trial_of(image_net).threshold_jitter((0.3,)).run(0.8).accuracies == (tuple(expected),)


class TestExtremes:
    def test_whoever_sees_nothing_says_one_thing(self, image_net: Network, event_net: Network) -> None:
        for net, sweep in (
            (image_net, trial_of(image_net).occlusion((1.0,))),
            (event_net, trial_of(event_net).occlusion((1.0,))),
            (event_net, trial_of(event_net).event_drop((1.0,))),
        ):
            x = samples(net.spec.events)
            (one,) = net.predict(torch.zeros_like(x)).unique().tolist()
            share = float((labels_of(net, x) == one).double().mean())
            assert sweep.run(0.8).accuracies == ((share,) * 3,)

    def test_all_pixels_white(self, image_net: Network) -> None:
        x = samples(False)
        white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
        (one,) = image_net.predict(white[:, None, None].expand_as(x)).unique().tolist()
        share = float((labels_of(image_net, x) == one).double().mean())
        assert trial_of(image_net).brightness((1.0,)).run(0.8).accuracies == ((share,),)


class TestSweep:
    def test_neutral_strengths_are_not_run(self) -> None:
        calls: list[tuple[float, int]] = []

        def measure(strength: float, repeat: int) -> float:
            calls.append((strength, repeat))
            return strength + repeat / 10

        sweep = Sweep("name", "unit", (-1, 0, 2), measure, "", repeats=2)
        passed: list[int] = []
        found = sweep.run(0.5, lambda: passed.append(len(calls)))
        assert found == Curve("name", "unit", (-1, 0, 2), ((-1.0, -0.9), (0.5, 0.5), (2.0, 2.1)))
        assert calls == [(-1, 0), (-1, 1), (2, 0), (2, 1)]
        assert passed == [1, 2, 3, 4]
        assert sweep.passes == 4

    def test_a_curve_in_plain_values(self) -> None:
        assert Curve("blur", "pixels", (0.0, 1.0), ((0.5, 0.5), (0.25, 0.75))).to_plain() == {
            "name": "blur",
            "unit": "pixels",
            "strengths": [0.0, 1.0],
            "accuracies": [[0.5, 0.5], [0.25, 0.75]],
            "mean": [0.5, 0.5],
            "std": [0.0, pytest.approx(math.sqrt(0.125))],
        }


class TestRepeatable:
    @pytest.mark.parametrize("events", [False, True])
    def test_batches_do_not_matter(self, events: bool, request: pytest.FixtureRequest) -> None:
        net = request.getfixturevalue("event_net" if events else "image_net")
        first = request.getfixturevalue("event_full" if events else "image_full")
        assert measured(net, kind="full") == first
        assert measured(net, kind="full", size=SAMPLES) == first
        assert measured(net, size=1)["noisy"] == first["noisy"]

    @pytest.mark.parametrize(
        ("kind", "total"), [("protocol", 1 + 3), ("full", 1 + 15 + 4 + 4 + 4 + 12 + 9 + 5 + 5 + 12)]
    )
    def test_progress_counts_to_its_total(self, image_net: Network, kind: str, total: int) -> None:
        seen: list[tuple[int, int]] = []
        measured(image_net, kind=kind, shown=lambda *at: seen.append(at))
        assert seen == [(done, total) for done in range(1, total + 1)]


class TestNoTrace:
    @pytest.mark.parametrize("broken", [False, True])
    def test_the_network_is_left_alone(self, broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        net = make_net(genetic=True)
        x = samples(False)
        labels = labels_of(net, x)
        net.train()
        net.get_submodule("a.norm").eval()
        net.observer = observer = lambda name, spikes, potential: seen.append(name)
        seen: list[str] = []
        net.register_forward_hook(hook := lambda *_: None)
        for module in net.modules():
            if hasattr(module, "contraction"):
                module.contraction = "auto"
        modes = [module.training for module in net.modules()]
        state = {name: tensor.clone() for name, tensor in net.state_dict().items()}

        def measure() -> None:
            options: dict[str, Any] = {"mean": MEAN, "std": STD, "space": "normalised", "seeds": 2, "seed": 0}
            measure_robustness(net, batches(x, labels), kind="full", events=False, **options)

        if broken:
            monkeypatch.setattr(robustness.Trial, "evaluate", fails_in_the_end(robustness.Trial.evaluate))
            with pytest.raises(RuntimeError, match="broken"):
                measure()
        else:
            measure()
        assert [module.training for module in net.modules()] == modes
        assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
        assert list(net.state_dict()) == list(state)
        assert net.observer is observer
        assert seen == []
        assert list(net._forward_hooks.values()) == [hook]
        assert all(not module._forward_pre_hooks for module in net.modules())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
        assert {getattr(module, "contraction", "auto") for module in net.modules()} == {"auto"}


def fails_in_the_end(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    """`Trial.evaluate` that raises while thresholds are scaled."""

    def failing(self: Trial, *args: Any, **options: Any) -> Any:
        found = evaluate(self, *args, **options)
        if any(module._forward_pre_hooks for module in self.net.modules()):
            raise RuntimeError("broken")
        return found

    return failing


class TestRefusals:
    def test_no_samples(self, image_net: Network) -> None:
        with pytest.raises(SettingsError, match="at least 1 sample, given 0"):
            measure_robustness(
                image_net,
                lambda: iter(()),
                kind="protocol",
                mean=MEAN,
                std=STD,
                events=False,
                space="normalised",
                seeds=1,
                seed=0,
            )

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"seeds": 0}, "at least 1 noise seed, given 0"),
            ({"kind": "most"}, "'kind' cannot be 'most'; known: full, protocol"),
            ({"space": "pixels"}, "'space' cannot be 'pixels'; known: normalised, raw"),
        ],
    )
    def test_settings(self, image_net: Network, change: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            measured(image_net, **change)

    def test_a_normalisation_of_other_channels(self, image_net: Network) -> None:
        with pytest.raises(ShapeError, match="mean has 3 values and std 2, 'net' reads 2 channels"):
            measured(image_net, mean=(0.5, 0.5, 0.5))
