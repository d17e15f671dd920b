"""Where recordings come from, before any is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evospike.core.files import digest_json
from evospike.data.events.framing import Frames
from evospike.data.events.recording import Recording, Sensor
from evospike.data.source import file_prints

PART = 32
"""Samples that are read, framed and written together, where the files do not say otherwise."""

Sample = Recording | Frames
"""A checked recording; or, of sources that hold such, its frames, uint8 (T, 2, H, W)."""


@dataclass(frozen=True)
class EventSplit:
    """Labelled samples, read in parts.

    labels: int64 (N,). sizes: how many samples each part holds; they add up to N. read: the samples of a part, in the
    order of the labels; called from several threads; may raise DataError.
    """

    labels: NDArray[np.int64]
    sizes: tuple[int, ...]
    read: Callable[[int], Sequence[Sample]]


@dataclass(frozen=True)
class EventSource:
    """An opened data set of events. sensor: of every sample. split: what training and test split are, in words."""

    classes: tuple[str, ...]
    splits: Mapping[str, EventSplit]
    sensor: Sensor
    split: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundEvents:
    """A data set of events that was located but not read.

    fingerprint: plain values that change when the samples do. open: reads labels and names; may raise DataError.
    """

    name: str
    where: str
    fingerprint: Any
    open: Callable[[], EventSource]


def part_sizes(count: int, size: int = PART) -> tuple[int, ...]:
    """`count` samples in parts of `size`, the last one smaller where it must be."""
    return tuple(min(size, count - start) for start in range(0, count, size))


def split_of_items(labels: NDArray[np.int64], items: Sequence[Any], read: Callable[[Any], Sample]) -> EventSplit:
    """A split of samples that are read one by one: sample i is `read(items[i])`."""
    return EventSplit(labels, part_sizes(len(items)), partial(_read_items, items, read))


def _read_items(items: Sequence[Any], read: Callable[[Any], Sample], part: int) -> list[Sample]:
    return [read(item) for item in items[part * PART : (part + 1) * PART]]


def files_digest(files: list[Path], root: Path) -> str:
    """Digest of names, sizes and modification times."""
    return digest_json(file_prints(files, root))
