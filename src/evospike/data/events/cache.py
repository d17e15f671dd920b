"""Frames of recordings on disk, so that a data set is read once; an interrupted build goes on where it stopped.

A finished set lies and looks as one of images (`data.cache`), with arrays (N, T, 2, H, W). It is built in a folder
`.events-NAME-KEY`, one process at a time: `set` is what will be renamed, SPLIT.progress.json says how many parts of a
split are safely on disk and the digest of what they hold. Parts whose digest does not fit are made again.
"""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from evospike.core.errors import UNEXPECTED_FORM, DataError
from evospike.core.files import read_json, write_json
from evospike.core.limits import require_memory
from evospike.core.lock import HeldByOther, RunLock
from evospike.core.progress import tell
from evospike.core.settings import plain
from evospike.data.ahead import ahead
from evospike.data.cache import (
    StoredSet,
    StoredSplit,
    content_hash,
    decoding_bar,
    folder_of,
    held,
    load_cached,
    publish,
    remove_stale,
    uncached_note,
    unwritable,
    write_header,
)
from evospike.data.events.framing import Frames, to_frames
from evospike.data.events.recording import Recording, Sensor
from evospike.data.events.source import EventSource, EventSplit, FoundEvents
from evospike.data.settings import EventSettings

FORMAT = 1
CHECKPOINT_SECONDS = 2.0
_STALE_SECONDS = 7 * 24 * 3600.0
_WAIT_SECONDS = 0.5
_AHEAD = 4
_PIECE = 1 << 24

Shape = tuple[int, int, int, int]
"""Of a sample: (T, 2, H, W)."""


def stored_events(found: FoundEvents, settings: EventSettings) -> StoredSet:
    """The frames of a data set: from the cache, else made in the cache, else (folder not writable) in memory.

    While another process of this machine builds the same set, this one waits for it.
    """
    folder = folder_of(found.name, ["events", FORMAT, found.name, plain(settings), found.fingerprint])
    cached = load_cached(folder)
    if cached is not None:
        return cached
    building = folder.parent / f".events-{folder.name}"
    try:
        remove_stale(folder.parent, ".events-*", _STALE_SECONDS)
        (building / "set").mkdir(parents=True, exist_ok=True)
        if not os.access(building, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(building))
    except OSError as error:
        return _in_memory(found, settings, error)
    with _alone(building):
        if load_cached(folder) is None:
            _build(found, settings, building, folder)
        shutil.rmtree(building, ignore_errors=True)
    built = load_cached(folder)
    if built is None:
        raise DataError(f"the cache at {folder} could not be read back; remove it and try again")
    return built


@contextmanager
def _alone(building: Path) -> Iterator[None]:
    """Hold the folder, once no other process does."""
    lock, told = RunLock(building), False
    while True:
        try:
            lock.acquire()
            break
        except HeldByOther as error:
            if not told:
                tell(f"waiting for another process that builds this cache ({error})")
            told = True
            time.sleep(_WAIT_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _build(found: FoundEvents, settings: EventSettings, building: Path, folder: Path) -> None:
    source = found.open()
    ready = building / "set"
    try:
        ready.mkdir(exist_ok=True)
        splits = {
            name: _write_split(name, split, source.sensor, settings, building) for name, split in source.splits.items()
        }
        manifest = {"name": found.name, "classes": source.classes, "notes": source.notes, "split": source.split}
        publish(ready, folder, {**manifest, "splits": splits, "fingerprint": found.fingerprint})
    except OSError as error:
        raise unwritable(folder, error) from None


def _write_split(
    name: str, split: EventSplit, sensor: Sensor, settings: EventSettings, building: Path
) -> dict[str, Any]:
    with _SplitFile(building, name, split, (settings.frames, 2, *sensor)) as file:
        for frames in _framed(name, split, file.parts, sensor, settings):
            file.append(frames)
    np.save(building / "set" / f"{name}.labels.npy", split.labels)
    return {"shape": list(file.shape), "digest": file.hasher.hexdigest()}


def _framed(name: str, split: EventSplit, first: int, sensor: Sensor, settings: EventSettings) -> Iterator[Frames]:
    """The frames of each part from the first one on, (n, T, 2, H, W), under a bar."""
    sample = settings.frames * 2 * math.prod(sensor)
    _require_memory((_AHEAD + 2) * max(split.sizes, default=0) * sample, sensor, settings)
    jobs = (partial(_frames_of, split, part, sensor, settings) for part in range(first, len(split.sizes)))
    with decoding_bar(name, len(split.labels), "recording", sum(split.sizes[:first])) as bar:
        for frames in ahead(jobs, waiting=_AHEAD):
            yield frames
            bar.update(len(frames))


def _require_memory(needed: int, sensor: Sensor, settings: EventSettings) -> None:
    what = f"framing {settings.frames} frames of {sensor[1]}x{sensor[0]} pixels"
    require_memory(needed, what, "lower events.frames, or leave out recordings", DataError)


def _frames_of(split: EventSplit, part: int, sensor: Sensor, settings: EventSettings) -> Frames:
    samples = split.read(part)
    frames = np.empty((split.sizes[part], settings.frames, 2, *sensor), dtype=np.uint8)
    for target, sample in zip(frames, samples, strict=True):
        target[:] = to_frames(sample, sensor, settings) if isinstance(sample, Recording) else sample
    return frames


class _SplitFile:
    """The array file of a split, written part by part; used as a context manager.

    parts: how many parts it holds; on entry those of an earlier, interrupted build that are whole.
    shape: of the array. hasher: of labels, shape and all parts.
    """

    def __init__(self, building: Path, name: str, split: EventSplit, sample: Shape) -> None:
        self.shape = (len(split.labels), *sample)
        self._split = split
        self._path = building / "set" / f"{name}.npy"
        self._record = building / f"{name}.progress.json"
        self._start = self._header()
        self.parts, self.hasher = self._resumed()

    def __enter__(self) -> _SplitFile:
        # Plain writes, not a memory map: a full disk is then an error and not a killed process.
        self._file = open(self._path, "r+b" if self.parts else "wb")
        if not self.parts:
            self._file.write(self._start)
        self._file.seek(len(self._start) + self._bytes_of(self.parts))
        self._file.truncate()
        self._recorded = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._checkpoint()

    def append(self, frames: Frames) -> None:
        """Write the next part, (n, T, 2, H, W)."""
        self._file.write(frames.data)
        self.hasher.update(frames.data)
        self.parts += 1
        if time.monotonic() - self._recorded >= CHECKPOINT_SECONDS:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        write_json(self._record, {"parts": self.parts, "digest": self.hasher.hexdigest()})
        self._recorded = time.monotonic()

    def _header(self) -> bytes:
        header = io.BytesIO()
        write_header(header, self.shape)
        return header.getvalue()

    def _bytes_of(self, parts: int) -> int:
        return sum(self._split.sizes[:parts]) * math.prod(self.shape[1:])

    def _resumed(self) -> tuple[int, hashlib.blake2b]:
        """The parts that the record speaks of and their hash, where the file holds just those; else none."""
        try:
            record = read_json(self._record)
            parts = record["parts"]
            if type(parts) is int and 0 <= parts <= len(self._split.sizes):
                hasher = self._hash_of(parts)
                if hasher.hexdigest() == record["digest"]:
                    return parts, hasher
        except (OSError, *UNEXPECTED_FORM):
            pass  # no record, or not ours
        return 0, content_hash(self._split.labels, self.shape[1:])

    def _hash_of(self, parts: int) -> hashlib.blake2b:
        """The hash of the first parts of the file. Raises: ValueError when the file does not hold them."""
        hasher = content_hash(self._split.labels, self.shape[1:])
        left = self._bytes_of(parts)
        with open(self._path, "rb") as file:
            if file.read(len(self._start)) != self._start:
                raise ValueError("another array")
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    raise ValueError("cut short")
                hasher.update(piece)
                left -= len(piece)
        return hasher


def _in_memory(found: FoundEvents, settings: EventSettings, error: OSError) -> StoredSet:
    source = found.open()
    note = uncached_note(error)
    splits = {name: _held(name, split, source, settings) for name, split in source.splits.items()}
    return StoredSet(found.name, source.classes, (*source.notes, note), None, held(splits), source.split)


def _held(name: str, split: EventSplit, source: EventSource, settings: EventSettings) -> StoredSplit:
    sample: Shape = (settings.frames, 2, *source.sensor)
    _require_memory(len(split.labels) * math.prod(sample), source.sensor, settings)
    images = np.empty((len(split.labels), *sample), dtype=np.uint8)
    hasher, done = content_hash(split.labels, sample), 0
    for frames in _framed(name, split, 0, source.sensor, settings):
        images[done : done + len(frames)] = frames
        hasher.update(frames.data)
        done += len(frames)
    return StoredSplit(torch.from_numpy(images), torch.from_numpy(split.labels.copy()), hasher.hexdigest())
