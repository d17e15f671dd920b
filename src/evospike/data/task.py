"""A task: classified images or recordings in three splits, the test split behind an explicit call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evospike.core.errors import DataError, ShapeError
from evospike.core.files import digest_json, digest_tensors
from evospike.core.rng import stream
from evospike.data.cache import StoredSet, StoredSplit, stored_set
from evospike.data.digits import stored_digits
from evospike.data.events.cache import stored_events
from evospike.data.events.find import find_events
from evospike.data.known import KNOWN, cached_size, seen_size
from evospike.data.locate import find
from evospike.data.settings import SIMULATED, DataSettings
from evospike.data.source import TEST, TRAIN
from evospike.data.split import held_out, stratified

MEASURED_IMAGES = 50_000  # at most this many images are read to measure mean and deviation


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Some images of a data set, with their labels; or recordings, each as T frames.

    images: uint8 (M, C, H, W) or (M, T, 2, H, W), all of the source split, shared between sets, in memory or on disk.
    labels: int64 (N,), of the members. rows: int64 (N,), where each member lies in `images`; augmentation is
    keyed by it, so a sample is augmented alike in every subset. content: digest of the whole source split.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    content: str

    def __post_init__(self) -> None:
        if self.images.ndim not in (4, 5) or self.images.dtype != torch.uint8:
            given = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise ShapeError(f"images must be uint8 (N, C, H, W) or (N, T, 2, H, W), given {given}")
        if self.labels.shape != self.rows.shape:
            raise ShapeError(f"one label per row is needed, given {len(self.labels)} labels and {len(self.rows)} rows")

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> ImageSet:
        """A set of all the given images: uint8 (N, C, H, W) or (N, T, 2, H, W) with int64 labels (N,)."""
        content = digest_tensors({"images": images, "labels": labels})
        return cls(images, labels, torch.arange(len(images)), content)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def frames(self) -> int:
        """Frames of each recording, 0 of images."""
        return self.images.shape[1] if self.images.ndim == 5 else 0

    def digest(self) -> str:
        """32 hex digits of the content: the source split, which of its rows, and their labels, in order."""
        return digest_json([self.content, digest_tensors({"rows": self.rows, "labels": self.labels})])

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels (B,) of the members at `positions`, int64 (B,) in 0..len-1.

        The images are uint8 (B, C, H, W) or (B, T, 2, H, W).
        """
        positions = positions.to(self.rows.device)
        return self.images[self.rows[positions].to(self.images.device)], self.labels[positions]

    def subset(self, positions: Tensor) -> ImageSet:
        """The members at `positions`; shares the images."""
        return ImageSet(self.images, self.labels[positions], self.rows[positions], self.content)

    def class_counts(self, classes: int) -> list[int]:
        """How many members each class has."""
        return [int(count) for count in torch.bincount(self.labels, minlength=classes)]


@dataclass(frozen=True, eq=False)
class Task:
    """What a network is trained on and judged by.

    shape: (C, H, W) that the network sees at each step; stored images may be larger and are then cropped, stored frames
    are scaled. mean, std: per channel, of values in 0..1, the same for every split. cache: folder of the decoded
    images, None when they lie in memory only. test_opener: gives the test split; call `open_test` instead.
    frames: T of recordings, 0 of images. split: what training and test split are, in words; shown with every result.
    simulated: whether the recordings were made from images.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: ImageSet
    validation: ImageSet
    notes: tuple[str, ...] = ()
    cache: Path | None = None
    test_opener: Callable[[], ImageSet] | None = field(default=None, repr=False)
    frames: int = 0
    split: str = ""
    simulated: bool = False

    def digests(self) -> dict[str, str]:
        """Digests of the splits a run may read before its end."""
        return {"train": self.train.digest(), "validation": self.validation.digest()}

    def open_test(self) -> ImageSet:
        """The test split, for the one final measurement; nothing is ever chosen by it.

        Raises: DataError for a task that was made without one.
        """
        if self.test_opener is None:
            raise DataError(f"this task of '{self.name}' has no test split; load it, or give it a test_opener")
        return self.test_opener()


def load_task(settings: DataSettings, seed: int) -> Task:
    """The task of the settings: found, decoded (recordings: framed) or read from the cache, and split.

    The validation split is drawn per class from the training images under `seed`; the test split never depends
    on it. Where the source has none, a share of each class is, and is no training image.
    Raises: DataError for data that is missing, broken or unsuitable; MissingExtra.
    """
    stored = _stored(settings)
    learnt, open_test = _train_and_test(stored, settings)
    pool = _limited(learnt, settings.train_limit, "data.train_limit", stored)
    train, validation = _split_validation(pool, settings.validation, seed)
    mean, std = _normalisation(stored.name, train)
    return Task(
        stored.name,
        stored.classes,
        _seen_shape(settings, stored.name, pool),
        mean,
        std,
        train,
        validation,
        notes=stored.notes,
        cache=stored.folder,
        test_opener=lambda: _limited(open_test(), settings.test_limit, "data.test_limit", stored),
        frames=pool.frames,
        split=_split_name(settings, stored),
        simulated=settings.source in SIMULATED,
    )


def _seen_shape(settings: DataSettings, name: str, pool: ImageSet) -> tuple[int, int, int]:
    channels, height, width = pool.images.shape[-3:]
    side = settings.image_size
    if pool.frames:
        return channels, side or height, side or width
    return channels, *seen_size(name, side, (height, width))


def _split_name(settings: DataSettings, stored: StoredSet) -> str:
    if TEST not in stored.splits:
        share = 100 * settings.test_share
        return f"stratified {100 - share:g}/{share:g} of a source without a test split, fixed"
    if stored.split or settings.source not in KNOWN:
        return stored.split or "train/test as the source has them"
    return KNOWN[settings.source].split


def _train_and_test(stored: StoredSet, settings: DataSettings) -> tuple[ImageSet, Callable[[], ImageSet]]:
    """What is learnt from, validation included, and what opens the test split. Raises: DataError."""
    whole = _image_set(stored.splits[TRAIN]())
    if TEST in stored.splits:
        if settings.test_share != DataSettings().test_share:
            raise DataError(
                f"data.test_share is {settings.test_share:g}, but '{stored.name}' has a test split; leave it out"
            )
        return whole, lambda: _image_set(stored.splits[TEST]())
    kept, held = held_out(whole.labels.numpy(), settings.test_share, stream(0, "test split"))
    if len(held) == 0:
        raise DataError(
            f"data set '{stored.name}' has no test split, and {len(whole)} samples are too few to hold out "
            f"{settings.test_share:g} of each class; add a test split or samples, or raise data.test_share"
        )
    test = whole.subset(torch.from_numpy(held))
    return whole.subset(torch.from_numpy(kept)), lambda: test


def _stored(settings: DataSettings) -> StoredSet:
    if settings.records_events:
        return stored_events(find_events(settings), settings.events)
    if settings.source == "digits":
        return stored_digits(settings.image_size)
    return stored_set(find(settings), cached_size(settings.source, settings.image_size))


def _image_set(split: StoredSplit) -> ImageSet:
    return ImageSet(split.images, split.labels, torch.arange(len(split.labels)), split.digest)


def _limited(images: ImageSet, limit: int, field_name: str, stored: StoredSet) -> ImageSet:
    """At most `limit` images, the same ones under every seed."""
    if limit == 0 or limit >= len(images):
        return images
    if limit < len(stored.classes):
        raise DataError(
            f"{field_name} is {limit}, below the {len(stored.classes)} classes of '{stored.name}'; raise it"
        )
    return images.subset(torch.from_numpy(stratified(images.labels.numpy(), limit, stream(0, field_name))))


def _split_validation(pool: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    kept, held = held_out(pool.labels.numpy(), fraction, stream(seed, "validation split"))
    return pool.subset(torch.from_numpy(kept)), pool.subset(torch.from_numpy(held))


def _normalisation(name: str, train: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Known constants, or those of the training images; of recordings 0 and 1 count."""
    if train.frames:
        return (0.0, 0.0), (1 / 255, 1 / 255)
    known = KNOWN.get(name)
    if known is not None and len(known.mean) == train.images.shape[1]:
        return known.mean, known.std
    return measured_normalisation(train)


def measured_normalisation(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, of values in 0..1; a constant channel gets deviation 1.

    Exact up to 50,000 images; above that, of so many at even distances.
    """
    count = min(len(images), MEASURED_IMAGES)
    positions = torch.linspace(0, len(images) - 1, count, dtype=torch.float64).round().long()
    channels = images.images.shape[-3]
    total = torch.zeros(2, channels, dtype=torch.int64)
    for part in positions.split(1024):
        pixels = images.take(part)[0].movedim(-3, 0).flatten(1).int()
        total += torch.stack([pixels.sum(1), pixels.square().sum(1)])
    values = count * images.images[0].numel() // channels
    first, second = (total.double() / values / torch.tensor([[255.0], [255.0**2]])).unbind()
    std = (second - first.square()).clamp(min=0).sqrt()
    return tuple(first.tolist()), tuple(value if value > 1e-6 else 1.0 for value in std.tolist())


def proxy_subset(images: ImageSet, count: int, seed: int) -> ImageSet:
    """A fixed subset of `count` images with the classes in proportion, for cheap scores.

    The same for equal sets, counts and seeds. Store its `digest()` with what was measured on it.
    Raises: DataError when count is not in 1..len(images).
    """
    if not 1 <= count <= len(images):
        raise DataError(
            f"a proxy subset of {count} images cannot be drawn from {len(images)}; choose 1 to {len(images)}"
        )
    labels: NDArray[np.int64] = images.labels.numpy()
    return images.subset(torch.from_numpy(stratified(labels, count, stream(seed, "proxy subset"))))
