"""Where images come from, before any is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import DataError
from evospike.data.known import KNOWN

BATCH = 128  # images per decoding job
TRAIN, VALIDATION, TEST = "train", "validation", "test"
_SPLIT_STARTS = {"train": TRAIN, "val": VALIDATION, "dev": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class RawImage:
    """An image as stored: its encoded bytes or its file, and how to name it in an error."""

    payload: bytes | Path | None
    where: str


@dataclass(frozen=True)
class RawSplit:
    """Labels, int64 (N,), and the images in the same order, `BATCH` or fewer at a time."""

    labels: NDArray[np.int64]
    batches: Callable[[], Iterator[list[RawImage]]]


@dataclass(frozen=True)
class Source:
    """An opened data set: a training split, a test split where there is one, and the class names."""

    classes: tuple[str, ...]
    splits: Mapping[str, RawSplit]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A data set that was located but not read.

    fingerprint: plain values that change when the files do. open: reads labels and names; may raise DataError.
    """

    name: str
    where: str
    fingerprint: Any
    open: Callable[[], Source]


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of, or None."""
    lower = name.lower()
    return next((split for start, split in _SPLIT_STARTS.items() if lower.startswith(start)), None)


def file_prints(files: list[Path], root: Path) -> list[tuple[str, int, int]]:
    """Name, bytes and modification time (ns) of each file."""
    stats = [(file, file.stat()) for file in files]
    return [(file.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in stats]


def settle(name: str, splits: Mapping[str, RawSplit], names: tuple[str, ...] | None) -> Source:
    """Decide which split is the test split, and check the labels.

    names: the class names where the source gives them; otherwise classes are called by their numbers.
    Raises: DataError for a missing or empty training split and for labels that are not 0..K-1.
    """
    usable = {split: raw for split, raw in splits.items() if len(raw.labels) and not np.all(raw.labels == -1)}
    if TRAIN not in usable:
        given = ", ".join(splits) or "none"
        raise DataError(f"data set '{name}' has no labelled training images (splits: {given}); add a train split")
    chosen, notes = {TRAIN: usable[TRAIN]}, []
    if TEST in usable:
        chosen[TEST] = usable[TEST]
        if VALIDATION in usable:
            notes.append("the source's own validation split is not used; validation is drawn from train")
    elif VALIDATION in usable:
        chosen[TEST] = usable[VALIDATION]
        notes.append("the source has no labelled test split; its validation split is used as test")
    else:
        notes.append("the source has no test split; data.test_share of its training split becomes one")
    classes = checked_classes(name, {split: raw.labels for split, raw in chosen.items()}, names)
    return Source(classes, chosen, tuple(notes))


def checked_classes(
    name: str, labels: Mapping[str, NDArray[np.int64]], names: tuple[str, ...] | None
) -> tuple[str, ...]:
    """The class names: those given, else the numbers of the classes.

    labels: of each split.
    Raises: DataError for labels that are not 0..K-1 or, of a named data set, for another K than is known.
    """
    present = np.unique(labels[TRAIN])
    count = len(names) if names else int(present[-1]) + 1
    if names is None and name in KNOWN:
        count = KNOWN[name].classes
    if name in KNOWN and count != KNOWN[name].classes:
        raise DataError(f"'{name}' has {KNOWN[name].classes} classes, found {count}; check the folder and label_column")
    for split, values in labels.items():
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= count:
            wrong = low if low < 0 else high
            raise DataError(f"data set '{name}', split '{split}': label {wrong} is outside 0..{count - 1}")
    if len(present) == 1:
        raise DataError(f"data set '{name}' has one class only (label {present[0]}); at least two are needed")
    if len(present) < count:
        missing = int(np.append(present != np.arange(len(present)), True).argmax())
        raise DataError(
            f"data set '{name}': no training sample has label {missing}; labels must be 0..{count - 1} without gaps"
        )
    return names or tuple(str(number) for number in range(count))
