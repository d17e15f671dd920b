"""How accuracy holds up when input, weights or thresholds change after training.

The protocol (methods 1.9) adds Gaussian noise of half the input's norm, over several noise seeds. `full` sweeps the
strength of this and other changes (`measure.perturb`). Every random number belongs to a change, a noise seed and the
position of a sample in the set, or the name of a layer; so results are paired between networks and do not depend on
the batch size.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from evospike.core.errors import ShapeError
from evospike.core.settings import convert, require
from evospike.core.statistics import deviation, half_interval
from evospike.genetic.encoding import GeneticLayer
from evospike.layers.weights import holding_weights
from evospike.measure import perturb
from evospike.measure.accuracy import Evaluation, evaluate
from evospike.measure.perturb import Generators
from evospike.measure.settings import Measured, NoiseSpace
from evospike.models.network import Network

Images = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Gives the batches of one pass over the set: normalised images (B, C, H, W) or frames (T, B, 2, H, W), and classes
(B,); the same samples in the same order at every call."""

STRENGTH = 0.5
"""Of the protocol's noise, in units of the input's norm."""

NOISE = (0.0, 0.1, 0.25, STRENGTH, 0.75, 1.0)
BRIGHTNESS = (-0.4, -0.2, 0.0, 0.2, 0.4)
CONTRAST = (0.0, 0.25, 0.5, 0.75, 0.9)
BLUR = (0.0, 0.5, 1.0, 1.5, 2.0)
SHIFT = (0, 1, 2, 4)
OCCLUSION = (0.0, 0.25, 0.5, 0.75)
EVENT_DROP = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
HOT_PIXELS = (0.0, 0.001, 0.005, 0.01, 0.05)
BITS = (32, 8, 6, 4, 3, 2)
JITTER = (0.0, 0.05, 0.1, 0.2, 0.3)


@dataclass(frozen=True)
class Curve:
    """Accuracy of one network under one kind of change, by its strength.

    unit: what the strengths are, for an axis. accuracies: in 0..1, [strength][noise seed]; of a shift the four
    directions stand in the place of seeds; one entry where nothing varies.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    accuracies: tuple[tuple[float, ...], ...]

    def to_plain(self) -> dict[str, Any]:
        """The curve as plain JSON values, with mean and standard deviation (0 for one entry) at every strength."""
        return {
            "name": self.name,
            "unit": self.unit,
            "strengths": list(self.strengths),
            "accuracies": [list(row) for row in self.accuracies],
            "mean": [statistics.mean(row) for row in self.accuracies],
            "std": [_deviation(row) for row in self.accuracies],
        }


@dataclass(frozen=True)
class Sweep:
    """A curve to be measured: `accuracy(strength, repeat)` at every strength, `repeats` times.

    neutral: the strength that changes nothing; it is not run again. note: what the change is, for a reader.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    accuracy: Callable[[float, int], float]
    note: str
    repeats: int = 1
    neutral: float = 0.0

    @property
    def passes(self) -> int:
        """How often the set is gone through."""
        return self.repeats * sum(strength != self.neutral for strength in self.strengths)

    def run(self, clean: float, passed: Callable[[], None] = lambda: None) -> Curve:
        """Measure it. clean: accuracy without a change. passed: called after every pass."""
        rows = tuple(self._row(strength, clean, passed) for strength in self.strengths)
        return Curve(self.name, self.unit, self.strengths, rows)

    def _row(self, strength: float, clean: float, passed: Callable[[], None]) -> tuple[float, ...]:
        if strength == self.neutral:
            return (clean,) * self.repeats
        row = []
        for repeat in range(self.repeats):
            row.append(self.accuracy(strength, repeat))
            passed()
        return tuple(row)


class Trial:
    """One network and one set of samples, and the sweeps that can be measured on them.

    The network is copied, and the one handed in is never run. mean, std: of the normalisation, one per channel.
    seed: root of the named streams; equal seeds pair networks. Raises: ShapeError when mean and std do not fit.
    """

    def __init__(
        self,
        net: Network,
        images: Images,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        events: bool,
        seeds: int,
        seed: int,
    ) -> None:
        channels = net.spec.input_shape[0]
        if not len(mean) == len(std) == channels:
            raise ShapeError(
                f"mean has {len(mean)} values and std {len(std)}, '{net.spec.name}' reads {channels} channels; "
                "give one of each per channel"
            )
        self.net = copy.deepcopy(net)
        self.net.observer = None
        self.images, self.events, self.seeds, self.seed = images, events, seeds, seed
        self._mean, self._std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (mean, std))

    def evaluate(
        self, change: Callable[[Tensor, int], Tensor] | None = None, net: nn.Module | None = None
    ) -> Evaluation:
        """One pass. change: of a batch, samples first, and the position of its first sample; None: as they are."""
        net = self.net if net is None else net
        batches = self.images() if change is None else self._changed(change)
        with holding_weights(net):
            return evaluate(net, batches, count_spikes=False)

    def noise(self, space: NoiseSpace, strengths: tuple[float, ...] = NOISE) -> Sweep:
        """Gaussian noise, on the normalised values or on pixels before normalisation."""
        where = "normalised values" if space == "normalised" else "values before normalisation"
        note = (
            f"Gaussian, of that share of each sample's norm, over all its {where}, one draw for all steps of an image, "
            "not clipped; a sample of norm 0 stays as it is"
        )

        def change(x: Tensor, strength: float, generators: Generators) -> Tensor:
            add = partial(perturb.add_noise, strength=strength, generators=generators)
            return add(x) if space == "normalised" else self._on_pixels(x, add)

        return self._random("noise", "of the input's norm", strengths, change, note)

    def brightness(self, strengths: tuple[float, ...] = BRIGHTNESS) -> Sweep:
        """A constant added to all pixels."""
        note = "added to pixels of 0..1, which are clipped to that range"
        return self._pixels("brightness", "of the pixel range", strengths, perturb.brighten, note)

    def contrast(self, strengths: tuple[float, ...] = CONTRAST) -> Sweep:
        """Pixels pulled to their mean."""
        note = "each pixel moves that share of the way to the mean of its channel in its image"
        return self._pixels("contrast", "of the contrast removed", strengths, perturb.flatten_contrast, note)

    def blur(self, strengths: tuple[float, ...] = BLUR) -> Sweep:
        """Gaussian blur."""
        note = "Gaussian of that standard deviation, cut at 3 of them, with repeated edges"
        return self._pixels("blur", "pixels", strengths, perturb.blur, note)

    def shift(self, strengths: tuple[float, ...] = SHIFT) -> Sweep:
        """Whole pixels left, right, up and down."""

        def accuracy(strength: float, repeat: int) -> float:
            down, right = (int(strength) * step for step in perturb.DIRECTIONS[repeat])
            return self.evaluate(lambda x, _: perturb.shift(x, down, right, edge=not self.events)).accuracy

        note = f"left, right, up and down; {'no events' if self.events else 'the edge repeated'} where nothing was"
        return Sweep("shift", "pixels", strengths, accuracy, note, repeats=len(perturb.DIRECTIONS))

    def occlusion(self, strengths: tuple[float, ...] = OCCLUSION) -> Sweep:
        """A rectangle of nothing."""
        fill = "no events" if self.events else "the mean of the data set"
        note = f"{fill} in a rectangle with that share of the image's sides, at a random place"
        return self._random("occlusion", "of the image's side", strengths, perturb.occlude, note)

    def event_drop(self, strengths: tuple[float, ...] = EVENT_DROP) -> Sweep:
        """Lost events."""
        note = "every event lost with that probability; whole entries where counts are not whole numbers"
        return self._random("event drop", "of the events", strengths, perturb.drop_events, note)

    def hot_pixels(self, strengths: tuple[float, ...] = HOT_PIXELS) -> Sweep:
        """Pixels that fire all the time."""
        note = "each gains, at every step and polarity, as many events as the largest entry of its sample has"
        return self._random("hot pixels", "of the pixels", strengths, perturb.add_hot_pixels, note)

    def weight_bits(self, strengths: tuple[float, ...] = BITS) -> Sweep:
        """Fewer bits for the weights that the network computes with."""
        note = "weights as computed with, rounded to symmetric levels per output channel; biases and norms stay"
        return self._rounding("weight bits", strengths, perturb.with_rounded_weights, note)

    def encoding_bits(self, strengths: tuple[float, ...] = BITS) -> Sweep:
        """Fewer bits for what generated weights are stored as."""
        note = "encodings, gene interactions and stored weights rounded to symmetric levels; biases and norms stay"
        return self._rounding("encoding bits", strengths, perturb.with_rounded_encodings, note)

    def threshold_jitter(self, strengths: tuple[float, ...] = JITTER) -> Sweep:
        """Another threshold for every unit."""

        def accuracy(strength: float, repeat: int) -> float:
            factors = perturb.threshold_factors(self.net, strength, self.seed, repeat)
            with perturb.scaled_thresholds(self.net, factors):
                return self.evaluate().accuracy

        note = (
            "each unit's threshold times 1 + s N(0, 1) with that s, the same for all samples, and at least "
            f"{perturb.LEAST_THRESHOLD} times"
        )
        return Sweep("threshold jitter", "of the threshold", strengths, accuracy, note, self.seeds)

    def sweeps(self, space: NoiseSpace) -> list[Sweep]:
        """Every sweep that makes sense for this network and this kind of data, noise first."""
        of_images = (self.brightness(), self.contrast(), self.blur())
        of_events = (self.event_drop(), self.hot_pixels())
        genetic = any(isinstance(module, GeneticLayer) for module in self.net.modules())
        return [
            self.noise(space),
            *(of_events if self.events else of_images),
            self.shift(),
            self.occlusion(),
            self.weight_bits(),
            *([self.encoding_bits()] if genetic else []),
            self.threshold_jitter(),
        ]

    def _random(
        self,
        name: str,
        unit: str,
        strengths: tuple[float, ...],
        change: Callable[[Tensor, float, Generators], Tensor],
        note: str,
    ) -> Sweep:
        def accuracy(strength: float, repeat: int) -> float:
            def changed(x: Tensor, first: int) -> Tensor:
                return change(x, strength, perturb.sample_streams(self.seed, name, repeat, first, len(x)))

            return self.evaluate(changed).accuracy

        return Sweep(name, unit, strengths, accuracy, note, self.seeds)

    def _pixels(
        self, name: str, unit: str, strengths: tuple[float, ...], change: Callable[[Tensor, float], Tensor], note: str
    ) -> Sweep:
        def accuracy(strength: float, _: int) -> float:
            return self.evaluate(lambda x, _: self._on_pixels(x, lambda pixels: change(pixels, strength))).accuracy

        return Sweep(name, unit, strengths, accuracy, note)

    def _rounding(
        self, name: str, strengths: tuple[float, ...], rounded: Callable[[Network, int], nn.Module], note: str
    ) -> Sweep:
        def accuracy(bits: float, _: int) -> float:
            return self.evaluate(net=rounded(self.net, int(bits))).accuracy

        return Sweep(name, "bits", strengths, accuracy, note, neutral=32)

    def _changed(self, change: Callable[[Tensor, int], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        first = 0
        for x, labels in self.images():
            if self.events:
                yield change(x.transpose(0, 1), first).transpose(0, 1), labels
            else:
                yield change(x, first), labels
            first += len(labels)

    def _on_pixels(self, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Change values before normalisation, in float64."""
        mean, std = self._mean.to(x.device), self._std.to(x.device)
        return ((change(x.double() * std + mean) - mean) / std).to(x.dtype)


def measure_robustness(
    net: Network,
    images: Images,
    *,
    kind: Measured,
    mean: Sequence[float],
    std: Sequence[float],
    events: bool,
    space: NoiseSpace,
    seeds: int,
    seed: int,
    shown: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Accuracy with and without the protocol's noise, and with `full` the curves of all changes, as JSON values.

    kind: `protocol` gives no curves. mean, std: of the normalisation, one per channel. events: the images are frames.
    space: where noise is added. seeds: noise seeds, and repeats of every other random change. seed: root of the named
    streams. shown: called with the passes done and in total. The network is not changed. Accuracies are in 0..1, of
    scores averaged over all steps. Raises: SettingsError for less than one sample or seed, ShapeError as `Trial` does.
    """
    convert(kind, Measured, "kind")
    convert(space, NoiseSpace, "space")
    require(seeds >= 1, f"robustness needs at least 1 noise seed, given {seeds}")
    trial = Trial(net, images, mean=mean, std=std, events=events, seeds=seeds, seed=seed)
    sweeps = trial.sweeps(space) if kind == "full" else [trial.noise(space, (STRENGTH,))]
    total, done = 1 + sum(sweep.passes for sweep in sweeps), count(1)
    clean = trial.evaluate()
    require(clean.samples >= 1, "robustness needs at least 1 sample, given 0; raise the number of samples")
    shown(next(done), total)
    curves = [sweep.run(clean.accuracy, lambda: shown(next(done), total)) for sweep in sweeps]
    return {
        "kind": kind,
        "samples": clean.samples,
        "noise_seeds": seeds,
        "strength": STRENGTH,
        "noise_space": space,
        **_under_noise(clean.accuracy, curves[0]),
        "notes": [f"{sweep.name}: {sweep.note}" for sweep in sweeps],
        "curves": [curve.to_plain() for curve in curves] if kind == "full" else [],
    }


def _under_noise(clean: float, noise: Curve) -> dict[str, float | None]:
    """The protocol's numbers: at its strength, over noise seeds."""
    noisy = noise.accuracies[noise.strengths.index(STRENGTH)]
    return {
        "clean": clean,
        "noisy": statistics.mean(noisy),
        "drop": clean - statistics.mean(noisy),
        "noisy_std": _deviation(noisy),
        "noisy_interval": half_interval(noisy),
    }


def _deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 for one value."""
    return deviation(values) or 0.0
