"""From a recording to count frames, one per time step of the network.

Source of the equal splits: SpikingJelly, so that frames made elsewhere can be compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evospike.data.events.recording import Recording, Sensor
from evospike.data.settings import EventSettings

Frames = NDArray[np.uint8]
MOST = 255
"""Counts above it are cut off."""


def to_frames(recording: Recording, sensor: Sensor, settings: EventSettings) -> Frames:
    """How often each pixel fired in each frame: uint8 (T, 2, H, W), channel 0 OFF, channel 1 ON.

    recording: checked, on a sensor of (H, W).
    Of N events, frames of equal `number` hold N // T each and the last one the rest too; frames of equal `time` last
    (last - first) // T microseconds, the last one to the end; frames of one `duration` start with the first event, and
    what comes after the T-th is left out. An event at the border of two frames belongs to the later one.
    """
    height, width = sensor
    edges = _edges(recording.t, settings)
    place = (recording.p.astype(np.int64) * height + recording.y) * width + recording.x
    frames = np.empty((settings.frames, 2 * height * width), dtype=np.uint8)
    for frame, start, stop in zip(frames, edges[:-1], edges[1:], strict=True):
        frame[:] = np.minimum(np.bincount(place[start:stop], minlength=len(frame)), MOST)
    return frames.reshape(settings.frames, 2, height, width)


def _edges(t: NDArray[np.int64], settings: EventSettings) -> NDArray[np.intp]:
    """Where each frame starts among the events, and where the last one ends: (T + 1,)."""
    frames = np.arange(settings.frames + 1)
    if settings.split == "number":
        edges = len(t) // settings.frames * frames
    elif settings.split == "time":
        edges = np.searchsorted(t, t[0] + max(1, int(t[-1] - t[0]) // settings.frames) * frames)
    else:
        edges = np.searchsorted(t, t[0] + round(1000 * settings.duration_ms) * frames)
    if settings.split != "duration":
        edges[-1] = len(t)
    return edges
