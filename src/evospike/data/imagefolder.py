"""Folders of image files: DIR/train/CLASS/*.png and DIR/test/CLASS/*.png (or DIR/val), or all in DIR/CLASS/*.png."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from evospike.core.errors import DataError
from evospike.data.source import BATCH, TRAIN, Found, RawImage, RawSplit, Source, file_prints, settle, split_of

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"})
_IGNORED = frozenset({"thumbs.db", "desktop.ini"})
_SPLIT_NAMES = frozenset({"val", "valid", "validation", "dev", "test", "testing"})
"""What is no class's name where there is no training split; `testudo` is."""

# split -> class -> files
Tree = dict[str, dict[str, list[Path]]]


def find_imagefolder(name: str, folder: Path) -> Found:
    """Locate a data set of image files.

    Raises: DataError when there are no class folders, or for a file that is no image.
    """
    tree = _tree(folder)
    if not tree.get(TRAIN):
        raise DataError(
            f"no images in {folder}; expected {folder.name}/train/CLASS/*.png and {folder.name}/test/CLASS/*.png, or "
            f"{folder.name}/CLASS/*.png"
        )
    classes = tuple(tree[TRAIN])
    for split, members in tree.items():
        unknown = next((member for member in members if member not in classes), None)
        if unknown is not None:
            raise DataError(f"class folder '{unknown}' is in {split} but not in train ({folder}); name both alike")
    files = [file for members in tree.values() for names in members.values() for file in names]
    fingerprint = ["imagefolder", file_prints(files, folder)]
    return Found(name, str(folder), fingerprint, partial(_open, name, tree, classes))


def _tree(folder: Path) -> Tree:
    parts = _folders(folder)
    splits = {part: split_of(part.name) if _folders(part) else None for part in parts}
    if TRAIN not in splits.values() and not any(part.name.lower() in _SPLIT_NAMES for part in parts):
        for part in parts:
            if _folders(part):
                raise DataError(
                    f"{part} has folders of its own; expected {folder.name}/CLASS/*.png, or "
                    f"{folder.name}/train/CLASS/*.png"
                )
        return {TRAIN: {part.name: _images(part) for part in parts}}
    named = {split: part for part, split in splits.items() if split}
    return {split: {member.name: _images(member) for member in _folders(part)} for split, part in named.items()}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [file for file in files if not file.name.startswith(".") and file.name.lower() not in _IGNORED]
    for file in files:
        if file.suffix.lower() not in SUFFIXES:
            raise DataError(f"{file} is not an image file; move it out or convert it to PNG or JPEG")
    if not files:
        raise DataError(f"class folder {folder} is empty; add images or remove the folder")
    return files


def _open(name: str, tree: Tree, classes: tuple[str, ...]) -> Source:
    return settle(name, {split: _raw_split(members, classes) for split, members in tree.items()}, classes)


def _raw_split(members: dict[str, list[Path]], classes: tuple[str, ...]) -> RawSplit:
    files = [file for names in members.values() for file in names]
    labels = [classes.index(member) for member, names in members.items() for _ in names]
    return RawSplit(np.array(labels, dtype=np.int64), partial(_batches, files))


def _batches(files: list[Path]) -> Iterator[list[RawImage]]:
    for start in range(0, len(files), BATCH):
        yield [RawImage(file, str(file)) for file in files[start : start + BATCH]]
