"""The shipped data set: 1,797 handwritten digits of 8x8 pixels.

Source: "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
1998, licensed CC BY 4.0; the part that scikit-learn ships as `load_digits`. `digits.npz` holds the images (values
0..16), the labels and a mask of the 20 % of each class that is the test split, drawn once for all seeds.

The file does not say who wrote which digit: the same writers occur in training and test, so accuracies are higher
than for unseen writers.
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from evospike.core.errors import DataError
from evospike.core.files import digest_tensors
from evospike.core.limits import require_memory
from evospike.data.cache import StoredSet, StoredSplit, held
from evospike.data.source import TEST, TRAIN

_BYTES_PER_PIXEL = 12
"""Held at once while the digits are scaled: numbers of 32 bits before and after rounding, and the bytes."""

NOTE = "writers overlap between the splits of the digits, so accuracy is higher than for unseen writers"


def stored_digits(size: int) -> StoredSet:
    """The digits as uint8 0..255, (N, 1, 8, 8), or scaled to `size` pixels (bilinear) when that is not 0."""
    file = resources.files("evospike.data") / "digits.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        images, labels, test = archive["images"], archive["labels"], archive["test"]
    pixels = _scaled(torch.from_numpy(images)[:, None], size)
    splits = {TRAIN: _split(pixels, labels, ~test), TEST: _split(pixels, labels, test)}
    return StoredSet("digits", tuple("0123456789"), (NOTE,), None, held(splits))


def _scaled(images: Tensor, size: int) -> Tensor:
    needed = _BYTES_PER_PIXEL * len(images) * max(size, images.shape[-1]) ** 2
    require_memory(needed, f"the digits at {size}x{size} pixels", "set a smaller data.image_size", DataError)
    values = images.float() * (255.0 / 16.0)
    if size and size != images.shape[-1]:
        values = F.interpolate(values, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return values.round().clamp(0, 255).to(torch.uint8)


def _split(pixels: Tensor, labels: NDArray[np.uint8], members: NDArray[np.bool_]) -> StoredSplit:
    images = pixels[torch.from_numpy(members)]
    kept = torch.from_numpy(labels[members].astype(np.int64))
    return StoredSplit(images, kept, digest_tensors({"images": images, "labels": kept}))
