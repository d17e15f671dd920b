"""From `data.source` to the files it means."""

from __future__ import annotations

import os
from pathlib import Path

from evospike.core.errors import DataError
from evospike.data.hub import find_hub
from evospike.data.imagefolder import find_imagefolder
from evospike.data.parquet import find_parquet, parquet_files
from evospike.data.settings import DataSettings
from evospike.data.source import Found


def data_folder(folder: str) -> Path:
    """The folder of local copies: the setting, else EVOSPIKE_DATA.

    Raises: DataError naming both when neither is given, or when the folder does not exist.
    """
    given = folder or os.environ.get("EVOSPIKE_DATA", "")
    if not given:
        raise DataError("no data folder is set; set data.folder or the environment variable EVOSPIKE_DATA")
    path = Path(given).expanduser()
    origin = "data.folder" if folder else "EVOSPIKE_DATA"
    if not path.is_dir():
        raise DataError(f"{origin} is {path}, which is not a folder; point it at the folder of your data sets")
    return path


def find(settings: DataSettings) -> Found:
    """Locate the images of the settings; `digits` has no files and is not found here, nor are events.

    Raises: DataError for a missing or empty folder; MissingExtra.
    """
    prefix, _, rest = settings.source.partition(":")
    if prefix == "hub":
        return find_hub(rest, settings.label_column)
    if prefix == "parquet":
        return find_parquet(Path(rest).name, given_folder(settings), settings.label_column)
    if prefix == "imagefolder":
        return find_imagefolder(Path(rest).name, given_folder(settings))
    return find_named(prefix, data_folder(settings.folder) / prefix, settings.label_column)


def given_folder(settings: DataSettings) -> Path:
    """The folder of `parquet:DIR`, `imagefolder:DIR` or `frames:DIR`; a relative one may lie in data.folder.

    Raises: DataError when it is missing or empty.
    """
    assert settings.place is not None
    inside = Path(settings.folder).expanduser() / settings.place
    return filled_folder(inside if settings.folder and inside.is_dir() else settings.place)


def filled_folder(path: Path) -> Path:
    """The path itself, a folder with something in it; else DataError."""
    if not path.is_dir():
        raise DataError(f"no folder {path}; check data.source and data.folder")
    if not any(path.iterdir()):
        raise DataError(f"folder {path} is empty; put the data set's files there")
    return path


def find_named(name: str, folder: Path, label_column: str) -> Found:
    """Locate a named data set, as Parquet files or as an image folder."""
    filled_folder(folder)
    if parquet_files(folder):
        return find_parquet(name, folder, label_column)
    return find_imagefolder(name, folder)
