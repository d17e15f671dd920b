from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evospike.core.errors import DataError, ShapeError
from evospike.data.settings import DataSettings
from evospike.data.task import ImageSet, load_task, measured_normalisation, proxy_subset


def _set(count: int = 100, classes: int = 5) -> ImageSet:
    images = torch.randint(0, 256, (count, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet.of(images, torch.arange(count) % classes)


def test_subset_keeps_rows_and_shares_images() -> None:
    everything = _set()
    part = everything.subset(torch.tensor([7, 3])).subset(torch.tensor([1]))
    assert part.rows.tolist() == [3]
    assert part.images.data_ptr() == everything.images.data_ptr()
    images, labels = part.take(torch.tensor([0, 0]))
    assert torch.equal(images[1], everything.images[3])
    assert labels.tolist() == [3, 3]


def test_digest_depends_on_members_labels_and_content() -> None:
    first, second = _set(), _set()
    assert first.digest() == second.digest()
    digests = {
        first.digest(),
        first.subset(torch.arange(99)).digest(),
        first.subset(torch.arange(100).flip(0)).digest(),
        ImageSet.of(first.images, (first.labels + 1) % 5).digest(),
        ImageSet.of(255 - first.images, first.labels).digest(),
    }
    assert len(digests) == 5


def test_wrong_shapes() -> None:
    with pytest.raises(
        ShapeError, match=r"images must be uint8 \(N, C, H, W\) or \(N, T, 2, H, W\), given torch.float32 \(2, 3\)"
    ):
        ImageSet.of(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ShapeError, match="one label per row is needed, given 1 labels and 2 rows"):
        ImageSet.of(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))


def test_splits_are_disjoint_and_stratified() -> None:
    task = load_task(DataSettings(validation=0.2), 3)
    rows = torch.cat([task.train.rows, task.validation.rows])
    assert sorted(rows.tolist()) == list(range(1438))
    counts = torch.tensor(task.validation.class_counts(10))
    assert (counts - 28.8).abs().max() <= 1
    same = load_task(DataSettings(validation=0.2), 3)
    assert torch.equal(same.validation.rows, task.validation.rows)


def test_no_validation() -> None:
    task = load_task(DataSettings(validation=0.0), 0)
    assert len(task.validation) == 0
    assert len(task.train) == 1438


def test_limits() -> None:
    settings = DataSettings(train_limit=100, test_limit=20, validation=0.1)
    task, other = load_task(settings, 0), load_task(settings, 9)
    assert (len(task.train), len(task.validation), len(task.open_test())) == (90, 10, 20)
    pools = [set(torch.cat([t.train.rows, t.validation.rows]).tolist()) for t in (task, other)]
    assert pools[0] == pools[1]
    with pytest.raises(DataError, match=r"data.train_limit is 5, below the 10 classes of 'digits'"):
        load_task(DataSettings(train_limit=5), 0)


def test_measured_normalisation() -> None:
    images = torch.zeros(2, 2, 1, 2, dtype=torch.uint8)
    images[:, 0] = torch.tensor([[[0, 255]], [[255, 255]]])
    images[:, 1] = 51
    mean, std = measured_normalisation(ImageSet.of(images, torch.tensor([0, 1])))
    assert mean == pytest.approx((0.75, 0.2))
    assert std == pytest.approx((0.1875**0.5, 1.0))


def test_normalisation_ignores_validation() -> None:
    task = load_task(DataSettings(validation=0.5), 0)
    pixels = task.train.take(torch.arange(len(task.train)))[0].double() / 255
    assert task.mean[0] == pytest.approx(pixels.mean().item())
    assert task.std[0] == pytest.approx(pixels.std(unbiased=False).item())


def test_proxy_subset() -> None:
    everything = _set()
    proxy = proxy_subset(everything, 10, 0)
    assert proxy.class_counts(5) == [2] * 5
    assert proxy.digest() == proxy_subset(_set(), 10, 0).digest()
    assert proxy.digest() != proxy_subset(everything, 10, 1).digest()
    for count in (0, 101):
        with pytest.raises(DataError, match=f"a proxy subset of {count} images cannot be drawn from 100"):
            proxy_subset(everything, count, 0)


def test_no_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVOSPIKE_DATA", raising=False)
    with pytest.raises(DataError, match=r"set data.folder or the environment variable EVOSPIKE_DATA"):
        load_task(DataSettings(source="cifar10"), 0)
    with pytest.raises(DataError, match=r"data.folder is .*gone, which is not a folder"):
        load_task(DataSettings(source="cifar10", folder=str(tmp_path / "gone")), 0)
    monkeypatch.setenv("EVOSPIKE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"no folder .*cifar100"):
        load_task(DataSettings(source="cifar100"), 0)


def test_wrong_class_count_of_a_named_set(small_parquet: Path) -> None:
    small_parquet.rename(small_parquet.parent / "cifar100")
    with pytest.raises(DataError, match=r"'cifar100': no training sample has label 2"):
        load_task(DataSettings(source="cifar100", folder=str(small_parquet.parent)), 0)
