"""DVS128 Gesture as distributed: one long recording per user and light, cut by its label file.

Source: Amir et al. 2017, "A Low Power, Fully Event-Based Gesture Recognition System", and the files themselves.
trials_to_train.txt and trials_to_test.txt list recordings, `userNN_LIGHT.aedat` (AEDAT 3.1); of each,
`userNN_LIGHT_labels.csv` has one line per gesture: class (1 to 11), start and end in microseconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from evospike.core.errors import DataError
from evospike.core.text import shown
from evospike.data.events.aedat import DVS128, polarity_events
from evospike.data.events.recording import Recording, checked, read_bytes
from evospike.data.events.source import EventSource, EventSplit, FoundEvents, files_digest
from evospike.data.known import KNOWN
from evospike.data.source import TEST, TRAIN, checked_classes

NAME = "dvsgesture"
CLASSES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
_LISTS = {TRAIN: "trials_to_train.txt", TEST: "trials_to_test.txt"}
_LATEST = 1 << 62


@dataclass(frozen=True)
class Interval:
    """A gesture within a recording: its class, 0..10, and start <= t < stop in microseconds."""

    label: int
    start: int
    stop: int


@dataclass(frozen=True)
class Trial:
    """A recording file and its label file."""

    events: Path
    labels: Path


def find_gesture(folder: Path) -> FoundEvents:
    """Locate DVS128 Gesture in a folder or in its subfolder DvsGesture.

    Raises: DataError for a list that is missing or empty, or that names a file that is missing.
    """
    inner = folder / "DvsGesture"
    home = inner if inner.is_dir() else folder
    trials = {split: _trials(home, name) for split, name in _LISTS.items()}
    files = [file for listed in trials.values() for trial in listed for file in (trial.events, trial.labels)]
    return FoundEvents(NAME, str(home), [NAME, files_digest(files, home)], partial(_open, trials))


def _trials(folder: Path, name: str) -> list[Trial]:
    path = folder / name
    if not path.is_file():
        raise DataError(f"no {name} in {folder}; unpack DvsGesture.tar.gz there")
    names = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not names:
        raise DataError(f"{path} lists no recordings; unpack DvsGesture.tar.gz again")
    return [_trial(folder, entry, path) for entry in names]


def _trial(folder: Path, entry: str, path: Path) -> Trial:
    if "/" in entry or "\\" in entry or not entry.endswith(".aedat"):
        raise DataError(
            f"{path} lists {entry[:80]!r}, expected names as in user01_lab.aedat; unpack DvsGesture.tar.gz again"
        )
    trial = Trial(folder / entry, folder / f"{entry.removesuffix('.aedat')}_labels.csv")
    for file in (trial.events, trial.labels):
        if not os.path.isfile(file):  # never raises, whatever the name holds
            raise DataError(f"{path} lists {entry[:80]}, but there is no {file!s:.300}; unpack DvsGesture.tar.gz again")
    return trial


def _open(trials: dict[str, list[Trial]]) -> EventSource:
    splits = {split: _split(listed) for split, listed in trials.items()}
    checked_classes(NAME, {split: opened.labels for split, opened in splits.items()}, CLASSES)
    return EventSource(CLASSES, splits, DVS128, KNOWN[NAME].split)


def _split(trials: list[Trial]) -> EventSplit:
    intervals = [parse_intervals(read_bytes(trial.labels), str(trial.labels)) for trial in trials]
    labels = np.array([interval.label for each in intervals for interval in each], dtype=np.int64)
    return EventSplit(labels, tuple(map(len, intervals)), partial(_read, trials, intervals))


def _read(trials: list[Trial], intervals: list[list[Interval]], part: int) -> list[Recording]:
    path = trials[part].events
    return cut(polarity_events(read_bytes(path), str(path)), intervals[part], str(path))


def cut(recording: Recording, intervals: list[Interval], where: str) -> list[Recording]:
    """The part of a recording in each interval; intervals may overlap, as some of the label files have them.

    Raises: DataError as `checked`, for a part.
    """
    parts = []
    for i, interval in enumerate(intervals, start=1):
        inside = (recording.t >= interval.start) & (recording.t < interval.stop)
        parts.append(checked(recording.of(inside), DVS128, f"{where}, gesture {i}"))
    return parts


def parse_intervals(data: bytes, where: str) -> list[Interval]:
    """The lines of a label file: a header, then class, start and end.

    Raises: DataError naming the line that cannot be used.
    """
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) < 2:
        raise DataError(f"{where} has no gestures; expected lines of class, start and end")
    return [_interval(line, f"{where}, line {number}") for number, line in enumerate(lines[1:], start=2)]


def _interval(line: str, where: str) -> Interval:
    try:
        name, start, stop = (int(value) for value in line.split(","))
    except ValueError:
        raise DataError(f"{where} is {line[:80]!r}, expected class, start and end as whole numbers") from None
    if not 1 <= name <= len(CLASSES):
        raise DataError(f"{where} has class {shown(name)}, expected 1 to {len(CLASSES)}")
    if not 0 <= start < stop < _LATEST:
        raise DataError(f"{where} goes from {shown(start)} to {shown(stop)} us, expected an end after the start")
    return Interval(name - 1, start, stop)


def _text(path: Path) -> str:
    return read_bytes(path).decode("utf-8", "replace")
