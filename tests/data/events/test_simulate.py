"""The simulated event camera, against a naive pixel that is stepped through time on its own."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.core.errors import ShapeError
from evospike.core.files import digest_tensors
from evospike.data.events import simulate as module
from evospike.data.events.recording import Recording, checked
from evospike.data.events.simulate import DARK, expected_events, log_intensity, path, simulate, thresholds
from evospike.data.settings import SimulatorSettings

QUIET = SimulatorSettings(sensor=6, shift=1.5, loops=2, loop_ms=40.0, samples=8, noise_hz=0.0)
CAMERA = SimulatorSettings()
BUSY = SimulatorSettings(sensor=9, shift=2.0, loops=2, loop_ms=30.0, samples=8, noise_hz=50.0)


def images_of(count: int, channels: int = 1, side: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def filmed(images: torch.Tensor, camera: SimulatorSettings, seed: int = 0) -> list[Recording]:
    return simulate(images, torch.arange(len(images)), camera, seed)


def same(one: Recording, other: Recording) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in "xytp")


def naive_light(image: np.ndarray, across: float, down: float) -> float:
    """Luminance at a point, in pixels from the centre of the first: bilinear inside, as at the border outside."""
    height, width = image.shape[1:]
    across, down = min(max(across, 0.0), width - 1.0), min(max(down, 0.0), height - 1.0)
    left, top = min(int(across), max(width - 2, 0)), min(int(down), max(height - 2, 0))
    total = 0.0
    for y in (top, top + 1):
        for x in (left, left + 1):
            weight = max(0.0, 1.0 - abs(across - x)) * max(0.0, 1.0 - abs(down - y))
            if weight > 0:
                value = image[:, y, x].astype(float)
                total += weight * (value[0] if len(value) == 1 else value @ [0.299, 0.587, 0.114]) / 255.0
    return total


def naive_pixel(
    image: np.ndarray, x: int, y: int, threshold: float, camera: SimulatorSettings
) -> list[tuple[int, float]]:
    """Polarity and time in microseconds of every event of one pixel."""

    def level(sample: int) -> float:
        phase = sample % camera.samples / camera.samples * 4
        leg, part = int(phase), phase % 1
        corners = [(0, -1), (1, 0), (0, 1), (-1, 0), (0, -1)]
        moved = [camera.shift * (a + part * (b - a)) for a, b in zip(corners[leg], corners[leg + 1], strict=True)]
        across = (x + 0.5 - moved[0]) * image.shape[2] / camera.sensor - 0.5
        down = (y + 0.5 - moved[1]) * image.shape[1] / camera.sensor - 0.5
        return math.log(naive_light(image, across, down) + DARK) / threshold

    start = level(0)
    reference, events = 0, []
    for sample in range(camera.loops * camera.samples):
        before, after = level(sample) - start, level(sample + 1) - start
        while abs(after - reference) >= 1:
            reference += 1 if after > reference else -1
            share = (reference - before) / (after - before)
            polarity = int(after > before)
            events.append((polarity, (sample + share) * 1000.0 * camera.loop_ms / camera.samples))
    return events


@pytest.mark.parametrize(
    ("channels", "side", "camera"),
    [
        (1, 6, QUIET),
        (3, 6, QUIET),
        (1, 4, replace(QUIET, shift=2.0, threshold_spread=0.1)),
        (3, 9, replace(QUIET, shift=0.3, samples=7, threshold=0.05, threshold_spread=0.0)),
        (1, 1, QUIET),
        (1, 5, replace(QUIET, shift=20.0, loops=3, loop_ms=1.7, samples=4)),
    ],
)
def test_events_are_those_of_naive_pixels(channels: int, side: int, camera: SimulatorSettings) -> None:
    images = images_of(2, channels, side)
    recordings = filmed(images, camera)
    for row, (image, recording) in enumerate(zip(images.numpy(), recordings, strict=True)):
        each = thresholds(camera, 0, row).astype(float).reshape(camera.sensor, camera.sensor)
        for y in range(camera.sensor):
            for x in range(camera.sensor):
                expected = naive_pixel(image, x, y, each[y, x], camera)
                here = (recording.x == x) & (recording.y == y)
                assert recording.p[here].tolist() == [polarity for polarity, _ in expected]
                np.testing.assert_allclose(recording.t[here], [t for _, t in expected], rtol=0, atol=1.1)
    assert side == 1 or min(len(recording) for recording in recordings) > 100


def test_events_are_sound_and_in_order() -> None:
    for recording in filmed(images_of(20, 3), BUSY):
        assert checked(recording, (9, 9), "simulated") is recording
        assert recording.t[-1] <= 60_000
        assert recording.t.dtype == np.int64
        assert recording.p.dtype == np.uint8
        assert set(np.unique(recording.p)) == {0, 1}


def test_a_constant_image_gives_only_noise() -> None:
    camera = replace(BUSY, sensor=32, loop_ms=500.0)
    dark, bright = (torch.full((30, 1, 5, 5), value, dtype=torch.uint8) for value in (3, 200))
    noise = filmed(dark, camera)
    assert all(same(one, other) for one, other in zip(noise, filmed(bright, camera), strict=True))
    counts = np.array([len(recording) for recording in noise])
    expected = 50.0 * 1.0 * 32 * 32
    assert abs(counts.mean() - expected) < 4 * math.sqrt(expected / 30)
    assert 0.5 < counts.var() / expected < 2.0  # Poisson: the variance is the mean
    for values, bound in ((noise[0].x, 32), (noise[0].y, 32), (noise[0].p, 2), (noise[0].t, 1_000_000)):
        share = np.bincount(values * 2 // bound, minlength=2) / counts[0]
        assert np.abs(share - 0.5).max() < 4 * 0.5 / math.sqrt(counts[0])
    assert not any(len(recording) for recording in filmed(dark, replace(camera, noise_hz=0.0)))


def test_noise_adds_events_and_changes_none() -> None:
    images = images_of(3, side=9)
    for quiet, noisy in zip(filmed(images, replace(BUSY, noise_hz=0.0)), filmed(images, BUSY), strict=True):
        events = [set(zip(r.t.tolist(), r.x.tolist(), r.y.tolist(), r.p.tolist(), strict=True)) for r in (quiet, noisy)]
        assert events[0] < events[1]


@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.0, 0.05]))
@settings(max_examples=20, deadline=None)
def test_the_negative_swaps_on_and_off(seed: int, spread: float) -> None:
    # two values and moves by whole pixels, so that the logarithm of the negative is the negative of the logarithm
    camera = replace(QUIET, shift=2.0, threshold_spread=spread)
    bright = images_of(2, seed=seed) > 127
    pictures = [torch.where(mask, 230, 15).to(torch.uint8) for mask in (bright, ~bright)]
    for one, other in zip(*(filmed(picture, camera) for picture in pictures), strict=True):
        assert len(one) > 0
        assert same(one, replace(other, p=1 - other.p))


def test_every_loop_is_like_the_first() -> None:
    camera = replace(QUIET, loops=4, loop_ms=33.3)
    for once, often in zip(filmed(images_of(3), replace(camera, loops=1)), filmed(images_of(3), camera), strict=True):
        assert len(once) > 0
        loops = [replace(once, t=once.t + 33_300 * i) for i in range(4)]
        joined = [np.concatenate([getattr(loop, name) for loop in loops]) for name in "xytp"]
        assert same(Recording(*joined), often)
        # the image returns to where it was, and so does every pixel
        assert np.bincount(once.y * 6 + once.x, 2 * once.p - 1.0, minlength=36).tolist() == [0.0] * 36


@pytest.mark.parametrize("camera", [QUIET, BUSY, replace(QUIET, threshold=0.02, threshold_spread=0.0), CAMERA])
def test_the_events_of_a_recording_are_foreseen(camera: SimulatorSettings) -> None:
    images = images_of(5, side=8)
    foreseen = expected_events(images, torch.arange(5), camera, 0)
    assert np.mean([len(recording) for recording in filmed(images, camera)]) <= 1.02 * foreseen
    assert foreseen <= 2 * np.mean([len(recording) for recording in filmed(images, camera)])


def test_lower_thresholds_give_more_events() -> None:
    counts = [
        [len(recording) for recording in filmed(images_of(5), replace(QUIET, threshold=value, threshold_spread=0.0))]
        for value in (1.6, 0.8, 0.4, 0.2, 0.1)
    ]
    assert (np.diff(counts, axis=0) > 0).all()


@pytest.mark.parametrize("block", [1, 200, 1 << 20])
def test_a_recording_does_not_depend_on_its_batch(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, rows = images_of(23, 3), 100 + torch.arange(23)
    together = simulate(images, rows, BUSY, 4)
    monkeypatch.setattr(module, "_BLOCK_PIXELS", block)
    order = torch.tensor([20, 4, 22, 4, 0])
    for position, recording in zip(order, simulate(images[order], rows[order], BUSY, 4), strict=True):
        assert same(recording, together[position])
    assert all(map(same, simulate(images, rows, BUSY, 4), together))


@pytest.mark.parametrize("camera", [QUIET, replace(QUIET, threshold_spread=0.0, noise_hz=500.0)])
def test_seed_and_row_matter(camera: SimulatorSettings) -> None:
    images = images_of(1)
    recordings = [simulate(images, torch.tensor([row]), camera, seed)[0] for row, seed in ((0, 0), (1, 0), (0, 1))]
    assert not same(recordings[0], recordings[1])
    assert not same(recordings[0], recordings[2])
    assert same(recordings[0], simulate(images, torch.tensor([0]), camera, 0)[0])


SCRIPT = """
import torch
from evospike.core.files import digest_tensors
from evospike.data.events.simulate import simulate
from evospike.data.settings import SimulatorSettings
camera = SimulatorSettings(sensor=9, shift=2.0, loops=2, loop_ms=30.0, samples=8, noise_hz=50.0)
images = (torch.arange(3 * 36) * 37 % 256).to(torch.uint8).view(3, 1, 6, 6)
for recording in simulate(images, torch.arange(3), camera, 0):
    print(digest_tensors({name: torch.from_numpy(getattr(recording, name).copy()) for name in "xytp"}))
"""


def test_the_same_in_a_new_process() -> None:
    images = (torch.arange(3 * 36) * 37 % 256).to(torch.uint8).view(3, 1, 6, 6)
    here = [
        digest_tensors({name: torch.from_numpy(getattr(recording, name).copy()) for name in "xytp"})
        for recording in filmed(images, BUSY)
    ]
    there = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert there.stdout.split() == here


@pytest.mark.parametrize("samples", [4, 7, 32])
def test_the_path_is_a_closed_loop_of_diagonals_about_the_centre(samples: int) -> None:
    places = path(3.0, samples)
    np.testing.assert_allclose(np.abs(places).sum(1), 3.0)
    steps = np.diff(places, axis=0, append=places[:1])
    if samples % 4 == 0:
        np.testing.assert_allclose(np.abs(steps), 4 * 3.0 / samples)
        np.testing.assert_allclose(places.mean(0), 0.0, atol=1e-12)


def test_the_image_is_stretched_to_the_sensor() -> None:
    images = images_of(4, side=5)
    camera = SimulatorSettings(sensor=12, shift=1e-9)
    seen = log_intensity(images.numpy(), camera)
    stretched = F.interpolate(images.float() / 255, size=(12, 12), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(seen, np.broadcast_to((stretched + DARK).log(), seen.shape), atol=1e-5)


def test_the_image_moves_right_and_down_over_a_repeated_border() -> None:
    images = images_of(3, side=8)
    seen = np.exp(log_intensity(images.numpy(), SimulatorSettings(sensor=8, shift=2.0, samples=4))) - DARK
    padded = F.pad(images.float() / 255, [2, 2, 2, 2], mode="replicate")[:, 0]
    for frame, (across, down) in zip(seen, [(0, -2), (2, 0), (0, 2), (-2, 0)], strict=True):
        expected = padded[:, 2 - down : 10 - down, 2 - across : 10 - across]
        np.testing.assert_allclose(frame, expected, atol=1e-6)


@given(threshold=st.floats(0.01, 2.0), spread=st.floats(0.0, 5.0), row=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_thresholds_are_normal_and_positive(threshold: float, spread: float, row: int) -> None:
    camera = SimulatorSettings(sensor=64, threshold=threshold, threshold_spread=spread)
    drawn = thresholds(camera, 0, row)
    assert drawn.min() >= 0.1 * threshold * (1 - 1e-6)
    median_error = 1.2533 * spread / 64  # of the median of 64 * 64 normal numbers
    assert abs(np.median(drawn) - threshold) <= 5 * median_error + 1e-5
    if spread < threshold / 10:
        assert abs(drawn.std() - spread) <= 5 * spread / math.sqrt(2 * 64 * 64) + 1e-5


def test_images_that_cannot_be_filmed() -> None:
    with pytest.raises(
        ShapeError, match=r"images must be uint8 \(B, 1 or 3, H, W\), given torch.float32 \(2, 1, 6, 6\)"
    ):
        simulate(images_of(2).float(), torch.arange(2), QUIET, 0)
    with pytest.raises(ShapeError, match=r"given torch.uint8 \(2, 2, 6, 6\)"):
        simulate(images_of(2, 2), torch.arange(2), QUIET, 0)
    with pytest.raises(ShapeError, match=r"one row per image is needed, given 2 images and rows \(3,\)"):
        simulate(images_of(2), torch.arange(3), QUIET, 0)
