"""Decoded images on disk, so that a data set is decoded once.

A cached set is a folder NAME-KEY with `train.npy`, `train.labels.npy`, the same for `test`, and `manifest.json`. KEY
is the digest of the source's files (names, sizes, times) and of the decoding options. The folder is written
under another name and renamed when whole: a folder named NAME-KEY is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evospike.core.errors import UNEXPECTED_FORM, DataError
from evospike.core.files import digest_json, read_json, sync_folder, write_json
from evospike.core.limits import require_memory
from evospike.core.text import harmless
from evospike.data.decode import Layout, NotGreyError, Pixels, decode_split, in_colour, probe
from evospike.data.npy import declared_in
from evospike.data.source import TEST, TRAIN, Found, RawSplit, Source

FORMAT = 1
IN_MEMORY_BYTES = 1 << 30
_STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class StoredSplit:
    """uint8 images (N, C, H, W) or frames (N, T, 2, H, W), int64 labels (N,) and the digest of both."""

    images: Tensor
    labels: Tensor
    digest: str


@dataclass(frozen=True)
class StoredSet:
    """A decoded data set. folder: its cache folder, None when it only lies in memory.

    split: what its splits are, in words; empty where that is known from the name alone.
    """

    name: str
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    folder: Path | None
    splits: Mapping[str, Callable[[], StoredSplit]]
    split: str = ""


def held(splits: Mapping[str, StoredSplit]) -> dict[str, Callable[[], StoredSplit]]:
    """Splits that lie in memory, in the form of `StoredSet.splits`."""

    def give(split: StoredSplit) -> StoredSplit:
        return split

    return {name: partial(give, split) for name, split in splits.items()}


def cache_root() -> Path:
    """The folder of all cached sets: $EVOSPIKE_CACHE or ~/.cache/evospike."""
    given = os.environ.get("EVOSPIKE_CACHE", "")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "evospike"


def cache_folder(found: Found, size: int) -> Path:
    """Where the decoded form of a located data set lies or would lie."""
    return folder_of(found.name, [FORMAT, found.name, size, found.fingerprint])


def folder_of(name: str, key: Any) -> Path:
    """The cache folder of a data set; key: plain values that differ where its contents do."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "set"
    return cache_root() / f"{safe}-{digest_json(key)[:16]}"


def stored_set(found: Found, size: int) -> StoredSet:
    """The decoded data set: from the cache, else decoded into the cache, else (folder not writable) into memory.

    size: side in pixels to scale to, 0 for the images' own.
    """
    folder = cache_folder(found, size)
    cached = load_cached(folder)
    if cached is not None:
        return cached
    source = found.open()
    try:
        temporary = _temporary(folder)
    except OSError as error:
        return _in_memory(found, source, size, error)
    _build(found, source, size, temporary, folder)
    built = load_cached(folder)
    if built is None:
        raise DataError(f"the cache at {folder} could not be read back; remove it and try again")
    return built


def load_cached(folder: Path) -> StoredSet | None:
    """The cached set in a folder; None when it is absent or its files do not match the manifest."""
    try:
        manifest = read_json(folder / "manifest.json")
        classes, notes, parts = tuple(manifest["classes"]), tuple(manifest["notes"]), manifest["splits"]
        name, split = manifest["name"], manifest.get("split", "")
        texts = (*classes, *notes, name, split, *(part["digest"] for part in parts.values()))
        if manifest["format"] != FORMAT or not all(isinstance(text, str) for text in texts):
            return None
        if TRAIN not in parts or not all(_fits(folder, part, facts, len(classes)) for part, facts in parts.items()):
            return None
        splits = {part: _loader(folder, part, facts["digest"]) for part, facts in parts.items()}
        return StoredSet(name, classes, notes, folder, splits, split)
    except (OSError, EOFError, *UNEXPECTED_FORM):
        return None


def _fits(folder: Path, split: str, part: dict[str, Any], classes: int) -> bool:
    """Whether a split's files are there, of the form and the size that the manifest says."""
    if split not in (TRAIN, TEST):
        return False
    shape, dtype = declared_in(folder / f"{split}.npy")
    of_labels, kind = declared_in(folder / f"{split}.labels.npy")
    if list(shape) != part["shape"] or len(shape) not in (4, 5) or min(shape) < 1 or dtype != np.uint8:
        return False
    if of_labels != shape[:1] or kind != np.int64:
        return False
    labels = np.load(folder / f"{split}.labels.npy", allow_pickle=False)
    return bool(labels.min() >= 0 and labels.max() < classes)


def _loader(folder: Path, split: str, digest: str) -> Callable[[], StoredSplit]:
    def load() -> StoredSplit:
        file = folder / f"{split}.npy"
        # Copy on write: torch warns about read-only memory, and nothing must reach the file.
        mode: Any = None if file.stat().st_size < IN_MEMORY_BYTES else "c"
        images = np.load(file, mmap_mode=mode, allow_pickle=False)
        labels = np.load(folder / f"{split}.labels.npy", allow_pickle=False)
        return StoredSplit(torch.from_numpy(images), torch.from_numpy(labels), digest)

    return load


def _temporary(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(folder.parent, ".building-*", _STALE_SECONDS)
    temporary = folder.parent / f".building-{folder.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return temporary


def remove_stale(root: Path, pattern: str, seconds: float) -> None:
    """Remove the folders of that name in which nothing has changed for so long."""
    for stale in root.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > seconds:
                shutil.rmtree(stale, ignore_errors=True)


def _build(found: Found, source: Source, size: int, temporary: Path, folder: Path) -> None:
    try:
        splits = _for_layout(source, size, lambda layout: _write_splits(source, layout, temporary))
        manifest = {"name": found.name, "classes": source.classes, "notes": source.notes}
        publish(temporary, folder, {**manifest, "splits": splits, "fingerprint": found.fingerprint})
    except OSError as error:
        raise unwritable(folder, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unwritable(folder: Path, error: OSError) -> DataError:
    """What to raise when a cache cannot be written."""
    return DataError(f"cannot write the cache at {folder} ({error}); free space or set EVOSPIKE_CACHE")


def publish(temporary: Path, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Give a finished set its manifest and its final name."""
    write_json(temporary / "manifest.json", {"format": FORMAT, **manifest})
    if folder.exists() and load_cached(folder) is None:
        shutil.rmtree(folder)
    try:
        os.replace(temporary, folder)
    except OSError:
        # A whole folder that is there by now was built by another process from the same files.
        if load_cached(folder) is None:
            raise
    sync_folder(folder.parent)


def _for_layout(source: Source, size: int, work: Callable[[Layout], Any]) -> Any:
    """Do the work with the probed layout, and again in colour if a coloured image turns up late."""
    layout = probe(source.splits[TRAIN], size)
    try:
        return work(layout)
    except NotGreyError:
        return work(in_colour(layout))


def _write_splits(source: Source, layout: Layout, folder: Path) -> dict[str, Any]:
    return {name: _write_split(name, split, layout, folder) for name, split in source.splits.items()}


def _write_split(name: str, split: RawSplit, layout: Layout, folder: Path) -> dict[str, Any]:
    shape = (len(split.labels), *layout.shape)
    with open(folder / f"{name}.npy", "wb") as file:
        # Plain writes, not a memory map: a full disk is then an error and not a killed process.
        write_header(file, shape)
        digest = _decode(name, split, layout, lambda start, pixels: file.write(pixels.data))
        file.flush()
        os.fsync(file.fileno())
    np.save(folder / f"{name}.labels.npy", split.labels)
    return {"shape": list(shape), "digest": digest}


def write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """The header of a .npy file of bytes."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _decode(name: str, split: RawSplit, layout: Layout, sink: Callable[[int, Pixels], Any]) -> str:
    """Decode a split into the sink; returns the digest of its labels and images."""
    hasher = content_hash(split.labels, layout.shape)
    done, total = 0, len(split.labels)
    with decoding_bar(name, total, "image") as bar:
        for pixels in decode_split(split, layout):
            sink(done, pixels)
            hasher.update(pixels.data)
            done += len(pixels)
            bar.update(len(pixels))
    if done != total:
        raise DataError(f"split '{name}' has {total} labels but {done} images; download the data set again")
    return hasher.hexdigest()


def content_hash(labels: NDArray[np.int64], shape: tuple[int, ...]) -> hashlib.blake2b:
    """The hash that is a split's digest once its samples, bytes of `shape` each, have been added in order."""
    hasher = hashlib.blake2b(np.ascontiguousarray(labels).tobytes(), digest_size=16)
    hasher.update(str(shape).encode())
    return hasher


def decoding_bar(name: str, total: int, unit: str, done: int = 0) -> Any:
    """A bar that appears when decoding takes long."""
    from tqdm import tqdm

    return tqdm(total=total, initial=done, desc=f"decoding {name}", unit=unit, delay=2, leave=False, disable=None)


def _in_memory(found: Found, source: Source, size: int, error: OSError) -> StoredSet:
    note = uncached_note(error)

    def decode_all(layout: Layout) -> dict[str, StoredSplit]:
        return {name: _decoded(name, split, layout) for name, split in source.splits.items()}

    splits = _for_layout(source, size, decode_all)
    return StoredSet(found.name, source.classes, (*source.notes, note), None, held(splits))


def uncached_note(error: OSError) -> str:
    """Tell, and give as a note of the data set, that it is decoded into memory."""
    note = f"no cache: cannot write {cache_root()} ({error.strerror or error}); decoded into memory, set EVOSPIKE_CACHE"
    print(f"evospike: {harmless(note)}", file=sys.stderr)
    return note


def _decoded(name: str, split: RawSplit, layout: Layout) -> StoredSplit:
    shape = (len(split.labels), *layout.shape)
    what = f"holding {shape[0]} images of {layout.width}x{layout.height}"
    require_memory(math.prod(shape), what, "set EVOSPIKE_CACHE to a folder that can be written", DataError)
    images: NDArray[np.uint8] = np.empty(shape, dtype=np.uint8)

    def keep(start: int, pixels: Pixels) -> None:
        images[start : start + len(pixels)] = pixels

    digest = _decode(name, split, layout, keep)
    return StoredSplit(torch.from_numpy(images), torch.from_numpy(split.labels.copy()), digest)
