"""Folders of Parquet files in the Hugging Face layout: an encoded image and a label per row."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import UNEXPECTED_FORM, DataError, MissingExtra
from evospike.core.files import parse_json
from evospike.core.limits import require_memory
from evospike.data.source import BATCH, Found, RawImage, RawSplit, Source, file_prints, settle, split_of

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label", "labels")

_LABEL_BYTES = 24
"""Held at once for a label while it is read."""


def parquet_files(folder: Path) -> dict[str, list[Path]]:
    """The Parquet files of each split, by the start of the file's name, else of its folder's name."""
    splits: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        split = split_of(file.name) or split_of(file.parent.name)
        if split is not None and not file.name.startswith("."):
            splits.setdefault(split, []).append(file)
    return splits


def find_parquet(name: str, folder: Path, label_column: str) -> Found:
    """Locate a data set of Parquet files.

    Raises: DataError when the folder has no file that is named after a split.
    """
    splits = parquet_files(folder)
    if not splits:
        raise DataError(
            f"no Parquet files in {folder}; expected train*.parquet and test*.parquet or validation*.parquet"
        )
    files = [file for names in splits.values() for file in names]
    fingerprint = ["parquet", label_column, file_prints(files, folder)]
    return Found(name, str(folder), fingerprint, partial(_open, name, splits, label_column))


def _open(name: str, splits: dict[str, list[Path]], label_column: str) -> Source:
    columns = _columns(next(iter(splits.values()))[0], label_column)
    raw = {split: _raw_split(files, *columns) for split, files in splits.items()}
    return settle(name, raw, _class_names(next(iter(splits.values()))[0], columns[1]))


def _parquet_file(file: Path) -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "data", "reading Parquet files") from None
    try:
        opened = pq.ParquetFile(file)
        _ = opened.schema_arrow.names  # read when it is asked for
        return opened
    except Exception as error:  # the reader raises whatever the damaged bytes lead it to
        raise DataError(f"cannot read {file} as Parquet ({_line(error)}); download it again") from None


def _columns(file: Path, label_column: str) -> tuple[str, str]:
    """The names of the image and the label column."""
    names = _parquet_file(file).schema_arrow.names
    image = next((name for name in IMAGE_COLUMNS if name in names), None)
    wanted = (label_column,) if label_column else LABEL_COLUMNS
    label = next((name for name in wanted if name in names), None)
    if image is None or label is None:
        expected = f"an image column ({' or '.join(IMAGE_COLUMNS)}) and a label column ({' or '.join(wanted)})"
        raise DataError(f"{file.name} has columns {', '.join(names)}; expected {expected}; set data.label_column")
    return image, label


def _class_names(file: Path, label: str) -> tuple[str, ...] | None:
    """Class names from the Hugging Face metadata in the file's schema, where there are any."""
    metadata = _parquet_file(file).schema_arrow.metadata or {}
    try:
        names = parse_json(metadata.get(b"huggingface", b"{}"))["info"]["features"][label].get("names")
    except UNEXPECTED_FORM:
        return None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _raw_split(files: list[Path], image: str, label: str) -> RawSplit:
    labels = [_labels(file, label) for file in files]
    return RawSplit(np.concatenate(labels), partial(_batches, files, image))


def _labels(file: Path, label: str) -> NDArray[np.int64]:
    import pyarrow as pa

    parquet = _parquet_file(file)
    if label not in parquet.schema_arrow.names:
        raise DataError(f"{file.name} has no column '{label}', but other files of the data set do")
    kind = _type_of(parquet, label, file)
    if not pa.types.is_integer(kind):  # told from the schema: values of other types may take any memory
        raise DataError(f"{file.name}: column '{label}' is {_named(kind)}; expected whole numbers in every row")
    rows = parquet.metadata.num_rows
    require_memory(_LABEL_BYTES * rows, f"reading {rows} labels of {file}", "split the file", DataError)
    try:
        column = parquet.read(columns=[label]).column(label)
    except Exception as error:  # as above
        raise DataError(f"cannot read labels of {file} ({_line(error)}); download it again") from None
    if column.null_count:
        raise DataError(f"{file.name}: column '{label}' is {column.type}; expected whole numbers in every row")
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _type_of(parquet: Any, name: str, file: Path) -> Any:
    """The type of a column, from the schema."""
    found = parquet.schema_arrow.get_all_field_indices(name)
    if len(found) != 1:
        raise DataError(f"{file.name} has {len(found)} columns '{name}'; expected one in every file of the data set")
    return parquet.schema_arrow.field(found[0]).type


def _check_images(parquet: Any, name: str, file: Path) -> None:
    """Refuse a column of anything but bytes, or records of bytes, texts and numbers, before it is read."""
    import pyarrow as pa

    kind = _type_of(parquet, name, file)
    parts = [kind.field(i).type for i in range(kind.num_fields)] if pa.types.is_struct(kind) else [kind]
    plain = ("primitive", "null", "binary", "large_binary", "string", "large_string")
    if not all(any(getattr(pa.types, f"is_{one}")(part) for one in plain) for part in parts):
        raise DataError(f"{file.name}: column '{name}' is {_named(kind)}; expected the bytes of an image in every row")


def _named(kind: Any) -> str:
    """A type as a short line, whatever the names of its parts."""
    return ascii(str(kind))[1:-1][:100]


def _batches(files: list[Path], image: str) -> Iterator[list[RawImage]]:
    for file in files:
        row, opened = 0, _parquet_file(file)
        _check_images(opened, image, file)
        try:
            for batch in opened.iter_batches(BATCH, columns=[image]):
                yield [_raw_image(value, file, row + i) for i, value in enumerate(batch.column(0).to_pylist())]
                row += len(batch)
        except Exception as error:  # as above
            raise DataError(f"cannot read {file} after row {row} ({_line(error)}); download it again") from None


def _raw_image(value: Any, file: Path, row: int) -> RawImage:
    payload = value.get("bytes") if isinstance(value, dict) else value
    return RawImage(payload if isinstance(payload, bytes) else None, f"{file.name}, row {row}")


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
