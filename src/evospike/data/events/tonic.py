"""Data sets of the tonic package: `tonic:NAME`, downloads included."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import DataError, MissingExtra
from evospike.core.files import digest_json
from evospike.core.settings import nearest
from evospike.data.events.folders import divided
from evospike.data.events.recording import Recording, Sensor, Whole, checked
from evospike.data.events.source import EventSource, EventSplit, FoundEvents, split_of_items
from evospike.data.source import TEST, TRAIN, checked_classes

_FIELDS = ("x", "y", "t", "p")


def find_tonic(name: str, folder: Path) -> FoundEvents:
    """Locate (and, the first time, download) `tonic.datasets.NAME`; its files lie in FOLDER/NAME.

    A class with an argument `train` has an official split; of others, 10 % of each class become the test split.
    Raises: MissingExtra without the package; DataError when the set cannot be loaded or is no set of labelled events.
    """
    loaded = {split: _Ordered(data) for split, data in _load(name, folder).items()}
    labels = {split: _labels(name, data) for split, data in loaded.items()}
    samples = digest_json({split: [labels[split].tolist(), data.prints(folder)] for split, data in loaded.items()})
    return FoundEvents(name, f"tonic:{name}", ["tonic", name, samples], partial(_open, name, loaded, labels))


def _load(name: str, folder: Path) -> dict[str, Any]:
    kind = _class(name)
    options: dict[str, dict[str, bool]] = {TRAIN: {}}
    if "train" in inspect.signature(kind).parameters:
        options = {TRAIN: {"train": True}, TEST: {"train": False}}
    try:
        return {split: kind(save_to=str(folder), **chosen) for split, chosen in options.items()}
    except Exception as error:  # the package raises errors of many libraries: network, file, parse
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot load 'tonic:{name}' ({reason}); check the name and the connection") from None


def _class(name: str) -> Any:
    try:
        datasets = importlib.import_module("tonic.datasets")
    except ImportError:
        raise MissingExtra("tonic", "events", f"loading 'tonic:{name}'") from None
    classes = dict(inspect.getmembers(datasets, inspect.isclass))
    if name not in classes:
        raise DataError(f"tonic has no data set '{name}'; {nearest(name, list(classes))}")
    return classes[name]


class _Ordered:
    """A data set of tonic in the order of its files' names: some list them as the file system does, which is not the
    same on every machine, and neither would our split nor the order of the batches be."""

    def __init__(self, data: Any) -> None:
        self.data = data
        listed = getattr(data, "data", None)
        self._files: list[str] = listed if _are_names(listed) and len(listed) == len(data) else []
        rows = range(len(data))
        self.rows = sorted(rows, key=self._files.__getitem__) if self._files else list(rows)

    def prints(self, folder: Path) -> list[tuple[str, int, int]]:
        """The files of the samples in their order, or all files of a set that has no such, with bytes and modification
        times (ns)."""
        files = [self._files[row] for row in self.rows if self._files] or _files_in(self.data)
        stats = [(file, os.stat(file)) for file in files]
        return [(os.path.relpath(file, folder), stat.st_size, stat.st_mtime_ns) for file, stat in stats]

    def __getitem__(self, row: int) -> Any:
        return self.data[self.rows[row]]

    def labels(self) -> list[Any]:
        """From `targets` where that is kept, else from the samples."""
        given = getattr(self.data, "targets", None)
        if given is not None and len(given) == len(self.rows):
            return [given[row] for row in self.rows]
        return [self[row][1] for row in range(len(self.rows))]


def _files_in(data: Any) -> list[str]:
    """All files of a data set of tonic, where it says in which folder they are."""
    place = getattr(data, "location_on_system", None)
    return sorted(str(file) for file in Path(place).rglob("*") if file.is_file()) if isinstance(place, str) else []


def _labels(name: str, data: _Ordered) -> NDArray[np.int64]:
    labels = np.asarray(data.labels())
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(f"'tonic:{name}' has no whole numbers as labels; evospike takes sets of labelled recordings")
    return labels.astype(np.int64)


def _open(name: str, loaded: dict[str, _Ordered], labels: dict[str, NDArray[np.int64]]) -> EventSource:
    data = loaded[TRAIN]
    sensor = _sensor(name, data.data)
    if TEST in loaded:
        rows, split = {part: np.arange(len(values)) for part, values in labels.items()}, "official train/test"
    else:
        rows, split = divided(labels[TRAIN])
        loaded, labels = dict.fromkeys(rows, data), {part: labels[TRAIN][chosen] for part, chosen in rows.items()}
    parts = {part: _split(name, loaded[part], chosen, labels[part], sensor) for part, chosen in rows.items()}
    classes = checked_classes(name, labels, _names(data.data))
    return EventSource(classes, {part: opened for part, opened in parts.items() if len(opened.labels)}, sensor, split)


def _split(name: str, data: _Ordered, rows: NDArray[np.int64], labels: NDArray[np.int64], sensor: Sensor) -> EventSplit:
    return split_of_items(labels, rows.tolist(), partial(_read, name, data, sensor))


def _sensor(name: str, data: Any) -> Sensor:
    """tonic gives width, height and polarities."""
    size = getattr(data, "sensor_size", None)
    if not isinstance(size, Sequence) or len(size) < 2 or not all(isinstance(side, int) for side in size[:2]):
        raise DataError(
            f"'tonic:{name}' has no fixed sensor (sensor_size {size}); evospike needs one of width x height"
        )
    return size[1], size[0]


def _names(data: Any) -> tuple[str, ...] | None:
    """The class names, where the set gives them in the order of the labels or with their labels."""
    names = getattr(data, "classes", None)
    if isinstance(names, Mapping) and set(names.values()) == set(range(len(names))):
        names = sorted(names, key=names.__getitem__)
    return tuple(names) if _are_names(names) else None


def _are_names(values: Any) -> TypeGuard[list[str]]:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _read(name: str, data: _Ordered, sensor: Sensor, row: int) -> Recording:
    where = f"tonic:{name}, sample {row}"
    try:
        events = data[row][0]
    except ImportError as error:  # a reader that the package does not install by itself
        raise DataError(f"cannot read {where}: tonic needs '{error.name}' for it; pip install {error.name}") from None
    except Exception as error:  # as above
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot read {where} ({reason}); remove its files and load it again") from None
    x, y, t, p = (_column(events, column, where) for column in _FIELDS)
    return checked(Recording(x, y, t.astype(np.int64), p), sensor, where)


def _column(events: Any, column: str, where: str) -> Whole:
    fields = getattr(getattr(events, "dtype", None), "names", None) or ()
    if column not in fields or events[column].dtype.kind not in "iub":
        raise DataError(f"{where} has fields {', '.join(fields) or 'none'}; expected whole numbers x, y, t and p")
    values: Whole = events[column]
    return values.astype(np.uint8) if values.dtype.kind == "b" else values
