"""What the command line shows of data sets: which there are, what one holds, and building its cache."""

from __future__ import annotations

import dataclasses
from typing import Any

from evospike.core.errors import DataError, MissingExtra
from evospike.data.events.find import find_events
from evospike.data.known import KNOWN
from evospike.data.locate import find
from evospike.data.settings import SIMULATED, DataSettings
from evospike.data.task import ImageSet, Task, load_task


def list_sources(folder: str = "") -> list[dict[str, Any]]:
    """The named sources: name, available, where (or why not), classes, train and test counts, shape, split, simulated.

    folder: as `DataSettings.folder`. Never raises for a missing data set.
    """
    return [_listed(name, folder) for name in KNOWN]


def _listed(name: str, folder: str) -> dict[str, Any]:
    available, where = _looked_for(name, folder)
    known = KNOWN[name]
    return {
        "name": name,
        "available": available,
        "where": where,
        "classes": known.classes,
        "train": known.train,
        "test": known.test,
        "shape": list(known.shape),
        "split": known.split,
        "simulated": name in SIMULATED,
    }


def _looked_for(name: str, folder: str) -> tuple[bool, str]:
    if name == "digits":
        return True, "shipped with evospike"
    settings = DataSettings(source=name, folder=folder)
    try:
        found = find_events(settings) if settings.records_events else find(settings)
        return True, found.where
    except (DataError, MissingExtra) as error:
        return False, str(error)


def describe(settings: DataSettings, seed: int = 0) -> dict[str, Any]:
    """Plain facts of a data set, loading it (and building its cache) first.

    Opens the test split to count it.
    Raises: DataError, MissingExtra as `load_task`.
    """
    task = load_task(settings, seed)
    splits = {"train": task.train, "validation": task.validation, "test": task.open_test()}
    return {
        "name": task.name,
        "source": settings.source,
        "shape": list(task.shape),
        **_event_facts(task),
        "split": task.split,
        "classes": list(task.classes),
        "mean": list(task.mean),
        "std": list(task.std),
        "splits": {name: _described(images, len(task.classes)) for name, images in splits.items()},
        **_cache_facts(task),
        "notes": list(task.notes),
    }


def _event_facts(task: Task) -> dict[str, Any]:
    if not task.frames:
        return {}
    return {"frames": task.frames, "sensor": list(task.train.images.shape[-2:]), "simulated": task.simulated}


def _described(images: ImageSet, classes: int) -> dict[str, Any]:
    return {"samples": len(images), "per_class": images.class_counts(classes), "digest": images.digest()}


def _cache_facts(task: Task) -> dict[str, Any]:
    if task.cache is None:
        return {"cache": None, "cache_bytes": 0}
    size = sum(file.stat().st_size for file in task.cache.iterdir())
    return {"cache": str(task.cache), "cache_bytes": size}


def build_cache(settings: DataSettings) -> dict[str, Any]:
    """Decode a data set into the cache unless it is there; gives name, cache, cache_bytes and notes.

    Raises: DataError, MissingExtra as `load_task`.
    """
    task = load_task(dataclasses.replace(settings, train_limit=0, test_limit=0), 0)
    return {"name": task.name, **_cache_facts(task), "notes": list(task.notes)}
