"""Data sets that the simulated camera makes of images: their labels and splits are those of the images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from evospike.core.errors import DataError
from evospike.core.limits import require_memory
from evospike.core.settings import plain
from evospike.data.cache import StoredSet, StoredSplit
from evospike.data.events.recording import Recording, checked
from evospike.data.events.source import PART, EventSource, EventSplit, FoundEvents, part_sizes
from evospike.data.known import KNOWN
from evospike.data.settings import SIMULATED, SimulatorSettings
from evospike.data.source import TEST, TRAIN

SEED = 0
"""Of the simulator; the recordings are part of the data set and do not change with a run's seed."""

IN_HAND = 5 * PART
"""Recordings that wait to be framed, at most: a part, and those that are made ahead of it."""

_BYTES_PER_EVENT = 25
"""Of a recording: row, column and time of 64 bits, polarity."""

_BYTES_WHILE_FILMED = 85
"""Of an event of the images that are filmed together."""

_VERSION = 1  # of what the simulator makes; a change makes caches anew


def find_simulated(
    name: str, images: Callable[[], StoredSet], fingerprint: Any, where: str, settings: SimulatorSettings
) -> FoundEvents:
    """A simulated data set: recordings of the images of a still one.

    fingerprint, where: of the images. images: opens them.
    """
    prints = ["simulated", _VERSION, SEED, plain(settings), fingerprint]
    return FoundEvents(name, f"simulated from {where}", prints, partial(_open, name, images, settings))


def _open(name: str, images: Callable[[], StoredSet], settings: SimulatorSettings) -> EventSource:
    stored = images()
    training = stored.splits[TRAIN]()
    _require_memory(training, name, settings)
    splits = {TRAIN: _filmed(training, 0, name, settings)}
    if TEST in stored.splits:
        splits[TEST] = _filmed(stored.splits[TEST](), len(training.labels), name, settings)
    still = SIMULATED[name]
    note = f"the recordings are simulated: made from the images of {still}, not by a camera"
    sensor = (settings.sensor, settings.sensor)
    return EventSource(stored.classes, splits, sensor, KNOWN[still].split, (*stored.notes, note))


def _require_memory(training: StoredSplit, name: str, settings: SimulatorSettings) -> None:
    """Refuse recordings that would not fit, judged by the first images."""
    from evospike.data.events.simulate import expected_events, images_at_once

    together = images_at_once(settings)
    first = training.images[:together]
    events = expected_events(first, torch.arange(len(first)), settings, SEED)
    needed = events * (IN_HAND * _BYTES_PER_EVENT + together * _BYTES_WHILE_FILMED)
    remedy = "raise simulator.threshold, or lower its noise_hz, loops or sensor"
    require_memory(round(needed), f"simulating '{name}', {events:,.0f} events a recording,", remedy, DataError)


def _filmed(split: StoredSplit, first_row: int, name: str, settings: SimulatorSettings) -> EventSplit:
    labels = split.labels.numpy()
    return EventSplit(labels, part_sizes(len(labels)), partial(_read, split, first_row, name, settings))


def _read(split: StoredSplit, first_row: int, name: str, settings: SimulatorSettings, part: int) -> list[Recording]:
    from evospike.data.events.simulate import simulate

    images = split.images[part * PART : (part + 1) * PART]
    rows = first_row + part * PART + torch.arange(len(images))
    sensor = (settings.sensor, settings.sensor)
    recordings = simulate(images, rows, settings, SEED)
    for recording, row in zip(recordings, rows.tolist(), strict=True):
        if not len(recording.t):
            raise DataError(
                f"the simulated camera sees nothing move in image {row} of '{SIMULATED[name]}'; "
                "lower simulator.threshold or raise simulator.shift"
            )
    return [
        checked(recording, sensor, f"{name}, recording {row}")
        for recording, row in zip(recordings, rows.tolist(), strict=True)
    ]
