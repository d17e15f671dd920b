from __future__ import annotations

import numpy as np
import pytest
import torch

from evospike.data.digits import stored_digits
from evospike.data.settings import DataSettings
from evospike.data.task import load_task


def test_same_images_as_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    original = datasets.load_digits()
    stored = stored_digits(0)
    train, test = stored.splits["train"](), stored.splits["test"]()
    ours = sorted((int(label), image.flatten().tolist()) for part in (train, test) for image, label in _pairs(part))
    pixels = np.rint(original.images * 255 / 16).astype(int)
    theirs = sorted((int(y), x.flatten().tolist()) for x, y in zip(pixels, original.target, strict=True))
    assert ours == theirs


def _pairs(part: object) -> zip[tuple[torch.Tensor, torch.Tensor]]:
    return zip(part.images, part.labels, strict=True)  # type: ignore[attr-defined]


def test_split_is_fixed_and_stratified() -> None:
    task, other = load_task(DataSettings(), 0), load_task(DataSettings(), 1)
    assert len(task.train) + len(task.validation) == 1438
    test = task.open_test()
    assert test.class_counts(10) == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert test.digest() == other.open_test().digest()
    assert task.validation.digest() != other.validation.digest()
    assert task.shape == (1, 8, 8)
    assert "writers overlap" in task.notes[0]


def test_golden_digests() -> None:
    task = load_task(DataSettings(), 0)
    assert task.open_test().digest() == "7c7a8ea0132f5a0776059b0142505c61"
    assert task.mean == pytest.approx((0.3054,), abs=2e-3)


def test_resized() -> None:
    task = load_task(DataSettings(image_size=16), 0)
    assert task.shape == (1, 16, 16)
    small = load_task(DataSettings(), 0)
    assert torch.equal(small.train.rows, task.train.rows)
    assert task.mean[0] == pytest.approx(small.mean[0], abs=0.01)
