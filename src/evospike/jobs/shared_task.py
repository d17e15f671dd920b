"""A task as arrays that lie in memory once for all worker processes of a machine."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray

from evospike.data.task import ImageSet, Task

SHARED = "task"
"""Key of a worker's context under which the `SharedTask` lies, if it was sent."""

MOST_BYTES = 4 << 30
"""Images above this size are not sent: every machine opens its own copy of the data set."""


@dataclass(frozen=True, eq=False)
class SharedSet:
    """An `ImageSet` as arrays."""

    images: NDArray[Any]
    labels: NDArray[Any]
    rows: NDArray[Any]
    content: str


@dataclass(frozen=True, eq=False)
class SharedTask:
    """A task without images and without its test split, and the arrays of its training and validation images."""

    bare: Task
    train: SharedSet
    validation: SharedSet


def share(task: Task) -> SharedTask | None:
    """What workers on other machines need of a task, without its test split; None when it is too large to be sent."""
    if task.train.images.nbytes > MOST_BYTES:
        return None
    images = task.train.images.numpy()
    validation = images if task.validation.images is task.train.images else task.validation.images.numpy()
    nothing = ImageSet(torch.empty((0, 1, 1, 1), dtype=torch.uint8), torch.arange(0), torch.arange(0), "")
    bare = replace(task, train=nothing, validation=nothing, cache=None, test_opener=None)
    return SharedTask(bare, _as_arrays(task.train, images), _as_arrays(task.validation, validation))


def unshare(shared: SharedTask) -> Task:
    """The task again, on the same memory; its arrays may be read-only."""
    return replace(shared.bare, train=_as_set(shared.train), validation=_as_set(shared.validation))


def _as_arrays(images: ImageSet, pixels: NDArray[Any]) -> SharedSet:
    return SharedSet(pixels, images.labels.numpy(), images.rows.numpy(), images.content)


def _as_set(arrays: SharedSet) -> ImageSet:
    with warnings.catch_warnings():  # nothing writes into a data set
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        images, labels, rows = map(torch.from_numpy, (arrays.images, arrays.labels, arrays.rows))
    return ImageSet(images, labels, rows, arrays.content)
