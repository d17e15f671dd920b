"""Data sets as class folders of files, one file per sample: recordings or ready-made frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import DataError
from evospike.core.rng import stream
from evospike.data.events.aedat import DVS128, parse_aedat2
from evospike.data.events.framefile import frames_of_file, sensor_of_file
from evospike.data.events.nmnist import SENSOR, parse_nmnist
from evospike.data.events.recording import Recording, Sensor, read_bytes
from evospike.data.events.source import EventSource, EventSplit, FoundEvents, Sample, files_digest, split_of_items
from evospike.data.known import KNOWN
from evospike.data.settings import EventSettings
from evospike.data.source import TEST, TRAIN, checked_classes
from evospike.data.split import held_out

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS = tuple("0123456789")
HELD_OUT = 0.1

# class -> files
Members = dict[str, list[Path]]


def find_cifar10dvs(folder: Path) -> FoundEvents:
    """Locate CIFAR10-DVS as distributed: FOLDER/CLASS/*.aedat; 10 % of each class become the test split.

    Raises: DataError for a class folder that is missing or empty.
    """
    members = _members(folder, CIFAR10, ".aedat")
    files = [file for names in members.values() for file in names]
    return _found("cifar10dvs", folder, files, partial(_open_unsplit, "cifar10dvs", members, DVS128, _read_aedat2))


def find_nmnist(folder: Path) -> FoundEvents:
    """Locate N-MNIST as distributed: FOLDER/Train/DIGIT/*.bin and FOLDER/Test/DIGIT/*.bin.

    Raises: DataError for a folder that is missing or empty.
    """
    parts = _split_folders(folder)
    for split in (TRAIN, TEST):
        if split not in parts:
            raise DataError(
                f"no folder {split.capitalize()} in {folder}; unpack N-MNIST's Train.zip and Test.zip there"
            )
    tree = {split: _members(parts[split], DIGITS, ".bin") for split in (TRAIN, TEST)}
    files = [file for members in tree.values() for names in members.values() for file in names]
    return _found(
        "nmnist", folder, files, partial(_open_split, "nmnist", tree, SENSOR, _read_nmnist, KNOWN["nmnist"].split)
    )


def holds_frames(folder: Path) -> bool:
    """Whether a folder looks like a data set of ready-made frames."""
    places = (folder, *_split_folders(folder).values())
    return any(next(place.glob("*/*.npz"), None) is not None for place in places)


def find_frames(name: str, folder: Path, settings: EventSettings) -> FoundEvents:
    """Locate ready-made frames: FOLDER/train/CLASS/*.npz and FOLDER/test/CLASS/*.npz, or FOLDER/CLASS/*.npz.

    Without a test folder, 10 % of each class become the test split.
    Raises: DataError for a class folder that is missing, empty, or in test only.
    """
    parts = _split_folders(folder)
    if parts and TRAIN not in parts:
        raise DataError(f"no train folder in {folder}; expected {folder.name}/train/CLASS/*.npz")
    parts = parts or {TRAIN: folder}
    classes = _class_names(parts[TRAIN])
    if TEST in parts:
        _require_no_others(parts[TEST], classes)
    tree = {split: _members(part, classes, ".npz") for split, part in parts.items()}
    files = [file for members in tree.values() for names in members.values() for file in names]
    return _found(name, folder, files, partial(_open_frames, name, tree, settings))


@dataclass(frozen=True)
class _Labelled:
    """Files in the order of their classes, and the number of each one's class."""

    files: list[Path]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, members: Members) -> _Labelled:
        files = [file for names in members.values() for file in names]
        return cls(files, np.repeat(np.arange(len(members)), [len(names) for names in members.values()]))

    def take(self, positions: NDArray[np.int64]) -> _Labelled:
        return _Labelled([self.files[position] for position in positions], self.labels[positions])

    def split(self, read: Callable[[Path], Sample]) -> EventSplit:
        return split_of_items(self.labels, self.files, read)


def divided(labels: NDArray[np.int64]) -> tuple[dict[str, NDArray[np.int64]], str]:
    """Positions of our training and test samples where there is no official split, and the split's name.

    The same under every seed of a run.
    """
    kept, held = held_out(labels, HELD_OUT, stream(0, "event test split"))
    sizes = {(int((labels[kept] == c).sum()), int((labels[held] == c).sum())) for c in np.unique(labels)}
    share = "{}/{}".format(*next(iter(sizes))) if len(sizes) == 1 else f"{1 - HELD_OUT:.0%}/{HELD_OUT:.0%}"
    return {TRAIN: kept, TEST: held}, f"evospike {share} per class, seed 0"


def _open_unsplit(name: str, members: Members, sensor: Sensor, read: Callable[[Path], Sample]) -> EventSource:
    everything = _Labelled.of(members)
    positions, split = divided(everything.labels)
    parts = {part: everything.take(chosen) for part, chosen in positions.items() if len(chosen)}
    return _source(name, tuple(members), parts, sensor, read, split)


def _open_split(
    name: str, tree: Mapping[str, Members], sensor: Sensor, read: Callable[[Path], Sample], split: str
) -> EventSource:
    parts = {part: _Labelled.of(members) for part, members in tree.items()}
    return _source(name, tuple(tree[TRAIN]), parts, sensor, read, split)


def _open_frames(name: str, tree: Mapping[str, Members], settings: EventSettings) -> EventSource:
    first = next(iter(tree[TRAIN].values()))[0]
    sensor = sensor_of_file(first)
    read = partial(frames_of_file, sensor=sensor, settings=settings)
    if TEST in tree:
        return _open_split(name, tree, sensor, read, "train/test as in the folders")
    return _open_unsplit(name, tree[TRAIN], sensor, read)


def _source(
    name: str,
    classes: tuple[str, ...],
    parts: Mapping[str, _Labelled],
    sensor: Sensor,
    read: Callable[[Path], Sample],
    split: str,
) -> EventSource:
    checked_classes(name, {part: labelled.labels for part, labelled in parts.items()}, classes)
    return EventSource(classes, {part: labelled.split(read) for part, labelled in parts.items()}, sensor, split)


def _found(name: str, folder: Path, files: list[Path], opener: Callable[[], EventSource]) -> FoundEvents:
    return FoundEvents(name, str(folder), [name, files_digest(files, folder)], opener)


def _split_folders(folder: Path) -> dict[str, Path]:
    """The folders called train and test, in any case."""
    return {name: part for part in folder.iterdir() if part.is_dir() and (name := part.name.lower()) in (TRAIN, TEST)}


def _class_names(folder: Path) -> tuple[str, ...]:
    """Class folders in the order of their names, of numbers in the order of the numbers."""
    names = sorted(part.name for part in folder.iterdir() if part.is_dir() and not part.name.startswith("."))
    if not names:
        raise DataError(f"no class folders in {folder}; expected {folder.name}/CLASS/*.npz")
    return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else names)


def _require_no_others(folder: Path, classes: tuple[str, ...]) -> None:
    if unknown := [name for name in _class_names(folder) if name not in classes]:
        raise DataError(
            f"{folder} has class folders that {TRAIN} has not: {', '.join(unknown)}; name both alike or move them out"
        )


def _members(folder: Path, classes: tuple[str, ...], suffix: str) -> Members:
    members = {name: sorted((folder / name).glob(f"*{suffix}")) for name in classes}
    for name, files in members.items():
        if not (folder / name).is_dir():
            raise DataError(f"no class folder {name} in {folder}; expected {folder.name}/{name}/*{suffix}")
        if not files:
            raise DataError(f"class folder {folder / name} has no *{suffix} files; add them or remove the folder")
    return members


def _read_aedat2(path: Path) -> Recording:
    return parse_aedat2(read_bytes(path), str(path))


def _read_nmnist(path: Path) -> Recording:
    return parse_nmnist(read_bytes(path), str(path))
