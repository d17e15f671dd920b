"""A simulated event camera: recordings of static images that are moved in front of it.

CIFAR10-DVS was recorded by showing CIFAR-10 images on a screen to a camera at rest, each moved along a closed path of
diagonals that it ran through several times ("repeated closed-loop smooth movement"). Source: Li et al. 2017
(doi 10.3389/fnins.2017.00309). The same here: the image moves, not the camera; the path is four diagonals, closed and
repeated; a pixel answers to changes of log intensity. Ours: the length of the path, its direction, its speed (constant)
and the number of loops; the pixel (ideal: no latency, no refractory period, no bandwidth); and a border that repeats
the image's outermost pixels.

The pixel, source: Lichtsteiner et al. 2008 (doi 10.1109/JSSC.2007.914337). It remembers a reference level, at first the
log intensity that it starts with. When the log intensity is a threshold above or below the reference, it fires ON or
OFF and the reference moves by that threshold; a large change fires several times. Between two samples of intensity its
logarithm is taken to change at constant speed, which gives each event its time.

Every recording has thresholds and noise of its own, as if each image met another camera of the same make: nothing can
be learned about single pixels.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evospike.core.errors import ShapeError
from evospike.core.rng import stream
from evospike.data.events.recording import Recording
from evospike.data.settings import SimulatorSettings

DARK = 0.1
"""Light that reaches a pixel where the image is black, in units of white: log intensity is log(value + DARK)."""

LEAST_THRESHOLD = 0.1
"""A threshold drawn below this share of the nominal one is raised to it."""

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, BT.601
_BLOCK_PIXELS = 1 << 14  # what is filmed at once stays in the processor's cache


class _Events(NamedTuple):
    """Events of several images, in arrays of equal length. pixel: row * sensor + column. t: microseconds."""

    image: NDArray[np.int64]
    pixel: NDArray[np.int64]
    t: NDArray[np.int64]
    p: NDArray[np.bool_]


def simulate(images: Tensor, rows: Tensor, settings: SimulatorSettings, seed: int) -> list[Recording]:
    """Film images, uint8 (B, 1 or 3, H, W), of values proportional to light; stretched to the square sensor.

    rows: int64 (B,), the place of each image in its data set. A recording depends on its image, its row, the settings
    and the seed alone. Events are ordered by time, those of one microsecond by sample, pixel and rank, noise last.
    """
    if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[1] not in (1, 3):
        raise ShapeError(f"images must be uint8 (B, 1 or 3, H, W), given {images.dtype} {tuple(images.shape)}")
    if rows.shape != images.shape[:1]:
        raise ShapeError(f"one row per image is needed, given {len(images)} images and rows {tuple(rows.shape)}")
    together = images_at_once(settings)
    recordings = []
    for start in range(0, len(images), together):
        block = slice(start, start + together)
        recordings += _filmed(images[block].cpu().numpy(), rows[block].tolist(), settings, seed)
    return recordings


def images_at_once(settings: SimulatorSettings) -> int:
    """How many images are filmed together."""
    return max(1, _BLOCK_PIXELS // settings.sensor**2)


def expected_events(images: Tensor, rows: Tensor, settings: SimulatorSettings, seed: int) -> float:
    """About how many events a recording of these images has in the mean, at most `images_at_once`; as `simulate`.

    A pixel fires once for each threshold that its log intensity moves by; turns and remainders make it fewer.
    """
    levels = _levels(images.cpu().numpy(), rows.tolist(), settings, seed)
    moved = np.abs(np.diff(levels, axis=0, append=levels[:1])).sum(dtype=np.float64) / len(images)
    return settings.loops * float(moved) + _expected_noise(settings)


def path(shift: float, samples: int) -> NDArray[np.float64]:
    """Where the image is at each sample of a loop, in pixels right of and below the centre: (samples, 2).

    Four diagonals of `shift` pixels in either direction: from the top to the right, the bottom, the left and back.
    """
    phase, corners = np.arange(samples) / samples, np.arange(5) / 4
    across = np.interp(phase, corners, [0.0, shift, 0.0, -shift, 0.0])
    down = np.interp(phase, corners, [-shift, 0.0, shift, 0.0, -shift])
    return np.stack([across, down], axis=1)


def log_intensity(images: NDArray[np.uint8], settings: SimulatorSettings) -> NDArray[np.float32]:
    """What each pixel sees during one loop: (samples, B, sensor, sensor) of (B, C, H, W) images.

    An image is a surface of light: bilinear between the centres of its pixels, and beyond them as at its border. It is
    stretched to the sensor and moved along the path; a pixel of the sensor sees the point at its centre.
    """
    size, light = settings.sensor, _luminance(images)
    seen = np.empty((settings.samples, len(images), size, size), np.float32)
    for frame, (across, down) in zip(seen, path(settings.shift, settings.samples), strict=True):
        lines = _sampled(light, across, size, axis=2)
        np.log(_sampled(lines, down, size, axis=1) + np.float32(DARK), out=frame)
    return seen


def _luminance(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(B, C, H, W) bytes -> (B, H, W) in 0..1."""
    values = images.astype(np.float32) / np.float32(255.0)
    if images.shape[1] == 1:
        return values[:, 0]
    luma = np.zeros_like(values[:, 0])
    for channel, share in enumerate(_LUMA):
        luma += np.float32(share) * values[:, channel]
    return luma


def _sampled(values: NDArray[np.float32], moved: float, size: int, axis: int) -> NDArray[np.float32]:
    """One axis of (B, H, W) seen by `size` pixels, after it was stretched to them and moved by so many of them."""
    last = values.shape[axis] - 1
    place = (np.arange(size) + 0.5 - moved) * (values.shape[axis] / size) - 0.5
    low = np.floor(place)
    first, second = (values.take(np.clip(at, 0, last).astype(np.int64), axis) for at in (low, low + 1))
    part = np.expand_dims((place - low).astype(np.float32), tuple(range(1, values.ndim - axis)))
    between: NDArray[np.float32] = first + part * (second - first)
    return between


def _filmed(images: NDArray[np.uint8], rows: list[int], settings: SimulatorSettings, seed: int) -> list[Recording]:
    loop = _one_loop(_levels(images, rows, settings, seed), 1000.0 * settings.loop_ms)
    begins = [round(1000.0 * settings.loop_ms * i) for i in range(settings.loops)]
    parts = [part._replace(t=begin + part.t) for begin in begins for part in loop]
    parts += [_noise(settings, seed, row, image) for image, row in enumerate(rows)]
    return _recordings(parts, len(images), settings.sensor)


def _levels(images: NDArray[np.uint8], rows: list[int], settings: SimulatorSettings, seed: int) -> NDArray[np.float32]:
    """Log intensity during one loop above that of the start, in thresholds of the pixel: (samples, B, pixels)."""
    seen = log_intensity(images, settings).reshape(settings.samples, len(images), -1)
    levels: NDArray[np.float32] = (seen - seen[0]) / np.stack([thresholds(settings, seed, row) for row in rows])
    return levels


def thresholds(settings: SimulatorSettings, seed: int, row: int) -> NDArray[np.float32]:
    """The change of log intensity that makes each pixel fire: (sensor * sensor,), normal over pixels, positive."""
    normal = stream(seed, "event camera thresholds", row).standard_normal(settings.sensor**2, dtype=np.float32)
    spread = np.float32(settings.threshold_spread)
    least = np.float32(LEAST_THRESHOLD * settings.threshold)
    drawn: NDArray[np.float32] = np.maximum(np.float32(settings.threshold) + spread * normal, least)
    return drawn


def _noise(settings: SimulatorSettings, seed: int, row: int, image: int) -> _Events:
    """Events without a cause: a Poisson process, alike over pixels, time and polarity; it leaves references alone."""
    draws = stream(seed, "event camera noise", row)
    duration_ms = settings.loops * settings.loop_ms
    count = draws.poisson(_expected_noise(settings))
    return _Events(
        np.full(count, image),
        draws.integers(0, settings.sensor**2, count),
        (draws.uniform(0.0, duration_ms, count) * 1000.0).astype(np.int64),
        draws.random(count) < 0.5,
    )


def _expected_noise(settings: SimulatorSettings) -> float:
    duration_ms = settings.loops * settings.loop_ms
    return settings.noise_hz * duration_ms / 1000.0 * settings.sensor**2


def _one_loop(levels: NDArray[np.float32], duration: float) -> list[_Events]:
    """The events that changes cause during one loop, for each interval between samples; duration: microseconds.

    levels: (samples, B, pixels), log intensity above that of the start, in thresholds of the pixel. So references are
    whole numbers, and a pixel fires once for each whole number that its level reaches. As the loop ends at level 0
    again, it ends with every reference at 0 again: every further loop is like the first.
    """
    samples, images, pixels = levels.shape
    flat = levels.reshape(samples, -1)
    reference = np.zeros(images * pixels, np.float32)
    parts = []
    for sample, (before, after) in enumerate(zip(flat, np.roll(flat, -1, axis=0), strict=True)):
        change = np.trunc(after - reference)
        place, rank = _repeated(np.flatnonzero(change), change)
        rising = change[place] > 0
        passed = reference[place] + np.where(rising, rank, -rank)
        share = np.minimum((passed - before[place]) / (after[place] - before[place]), 1.0)
        t = ((sample + share) * (duration / samples)).astype(np.int64)
        parts.append(_Events(*np.divmod(place, pixels), t, rising))
        reference += change
    return parts


def _repeated(places: NDArray[np.int64], change: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each place as often as its change says, with the ranks 1, 2, ... of its events."""
    count = np.abs(change[places]).astype(np.int64)
    first = np.repeat(np.cumsum(count) - count, count)
    return np.repeat(places, count), np.arange(1, len(first) + 1) - first


def _recordings(parts: list[_Events], count: int, sensor: int) -> list[Recording]:
    """The events of each of `count` images, ordered by time; of equal times the earlier in `parts` comes first."""
    image, pixel, t, p = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((t, image))
    y, x = np.divmod(pixel[order], sensor)
    t, p = t[order], p[order].astype(np.uint8)
    bounds = np.searchsorted(image[order], np.arange(count + 1))
    return [Recording(x[a:b], y[a:b], t[a:b], p[a:b]) for a, b in itertools.pairwise(bounds)]
