from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.data.events.framing import to_frames
from evospike.data.events.recording import Recording
from evospike.data.settings import EventSettings

SENSOR = (5, 7)


def _frame_of(i: int, recording: Recording, framing: EventSettings) -> int:
    """The frame of event i by the rules in words, -1 for none."""
    T, N = framing.frames, len(recording)
    after = int(recording.t[i] - recording.t[0])
    if framing.split == "number":
        return T - 1 if N < T else min(i // (N // T), T - 1)
    if framing.split == "time":
        length = max(1, int(recording.t[-1] - recording.t[0]) // T)
        return min(after // length, T - 1)
    frame = after // round(framing.duration_ms * 1000)
    return frame if frame < T else -1


def _naive(recording: Recording, framing: EventSettings) -> np.ndarray:
    frames = np.zeros((framing.frames, 2, *SENSOR), dtype=np.int64)
    for i in range(len(recording)):
        frame = _frame_of(i, recording, framing)
        if frame >= 0:
            frames[frame, recording.p[i], recording.y[i], recording.x[i]] += 1
    return np.minimum(frames, 255)


@given(
    count=st.integers(1, 300),
    seed=st.integers(0, 2**32),
    latest=st.integers(1, 500),
    frames=st.integers(1, 12),
    split=st.sampled_from(["number", "time", "duration"]),
    duration=st.floats(0.001, 0.2),
)
@settings(max_examples=150, deadline=None)
def test_equals_a_loop_over_events(
    formats: Any, count: int, seed: int, latest: int, frames: int, split: Any, duration: float
) -> None:
    recording = formats.events(count, SENSOR, seed, latest)
    framing = EventSettings(frames=frames, split=split, duration_ms=duration)
    made = to_frames(recording, SENSOR, framing)
    assert made.dtype == np.uint8
    assert (made == _naive(recording, framing)).all()
    if split != "duration" and made.max() < 255:
        assert made.sum() == count


def test_the_last_frame_of_equal_number_takes_the_rest(formats: Any) -> None:
    made = to_frames(formats.events(23, SENSOR), SENSOR, EventSettings(frames=5))
    assert made.sum((1, 2, 3)).tolist() == [4, 4, 4, 4, 7]


def test_short_recordings_end_in_empty_frames(formats: Any) -> None:
    recording = formats.events(40, SENSOR, latest=2500)
    made = to_frames(recording, SENSOR, EventSettings(frames=6, split="duration", duration_ms=1.0))
    assert made[:3].sum() == 40
    assert not made[3:].any()


def test_counts_above_a_byte_are_cut_off() -> None:
    recording = Recording(np.zeros(300, np.int16), np.zeros(300, np.int16), np.arange(300), np.ones(300, np.uint8))
    made = to_frames(recording, SENSOR, EventSettings(frames=1))
    assert made[0, 1, 0, 0] == 255
    assert made.sum() == 255


@pytest.mark.parametrize("split", ["number", "time"])
def test_fewer_events_than_frames(formats: Any, split: Any) -> None:
    made = to_frames(formats.events(2, SENSOR), SENSOR, EventSettings(frames=10, split=split))
    assert made.shape == (10, 2, *SENSOR)
    assert made.sum() == 2
