"""Data sets of the Hugging Face hub, through the `datasets` package; never runs a data set's own code."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evospike.core.errors import DataError, MissingExtra
from evospike.data.parquet import IMAGE_COLUMNS, LABEL_COLUMNS
from evospike.data.source import BATCH, Found, RawImage, RawSplit, Source, settle, split_of


def find_hub(identifier: str, label_column: str) -> Found:
    """Locate (and, the first time, download) a data set: `OWNER/NAME` or `OWNER/NAME/CONFIG`.

    Raises: MissingExtra without the `datasets` package; DataError when it cannot be loaded.
    """
    loaded = _load(identifier)
    splits = {split: loaded[key] for key in loaded if (split := split_of(key)) is not None}
    if not splits:
        raise DataError(f"hub data set '{identifier}' has splits {', '.join(loaded)}; expected train and test")
    prints = {split: [str(part._fingerprint), len(part)] for split, part in splits.items()}
    return Found(
        identifier, f"hub:{identifier}", ["hub", label_column, prints], partial(_open, identifier, splits, label_column)
    )


def _load(identifier: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "hub", f"loading 'hub:{identifier}'") from None
    path, config = _path_and_config(identifier)
    try:
        return datasets.load_dataset(path, config) if config else datasets.load_dataset(path)
    except Exception as error:  # the package raises errors of many libraries: network, file, parse
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot load 'hub:{identifier}' ({reason}); check the name and the connection") from None


def _path_and_config(identifier: str) -> tuple[str, str]:
    parts = identifier.split("/")
    return "/".join(parts[:2]), "/".join(parts[2:])


def _open(identifier: str, splits: dict[str, Any], label_column: str) -> Source:
    features = next(iter(splits.values())).features
    image = next((name for name in IMAGE_COLUMNS if name in features), None)
    wanted = (label_column,) if label_column else LABEL_COLUMNS
    label = next((name for name in wanted if name in features), None)
    if image is None or label is None:
        raise DataError(
            f"hub data set '{identifier}' has columns {', '.join(features)}; expected an image column "
            f"({' or '.join(IMAGE_COLUMNS)}) and a label column ({' or '.join(wanted)}); set data.label_column"
        )
    names = getattr(features[label], "names", None)
    raw = {split: _raw_split(part, image, label, f"hub:{identifier} {split}") for split, part in splits.items()}
    return settle(identifier, raw, tuple(names) if names else None)


def _raw_split(part: Any, image: str, label: str, where: str) -> RawSplit:
    try:
        labels = np.asarray(part[label][:], dtype=np.int64)
    except (TypeError, ValueError):
        raise DataError(f"{where}: column '{label}' does not hold whole numbers; set data.label_column") from None
    return RawSplit(labels, partial(_batches, part, image, where))


def _batches(part: Any, image: str, where: str) -> Iterator[list[RawImage]]:
    import datasets

    encoded = part.cast_column(image, datasets.Image(decode=False))
    for start in range(0, len(encoded), BATCH):
        values = encoded[start : start + BATCH][image]
        yield [_raw_image(value, f"{where}, row {start + i}") for i, value in enumerate(values)]


def _raw_image(value: dict[str, Any], where: str) -> RawImage:
    payload, path = value.get("bytes"), value.get("path")
    return RawImage(payload if payload is not None or path is None else Path(path), where)
