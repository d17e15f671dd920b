from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from evospike.core.errors import DataError
from evospike.data.settings import DataSettings
from evospike.data.task import Task, load_task


def _load(folder: Path, **settings: Any) -> Task:
    return load_task(DataSettings(source=f"imagefolder:{folder}", validation=0.0, **settings), 0)


@pytest.fixture
def folder(tmp_path: Path, pictures: Any, png: Any) -> Path:
    root = tmp_path / "pets"
    for split, count in (("train", 3), ("val", 1)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i, pixels in enumerate(pictures(count, seed=len(name) + count)):
                (root / split / name / f"{i}.png").write_bytes(png(pixels))
    return root


def test_classes_and_pixels(folder: Path, pictures: Any) -> None:
    (folder / "train" / "cat" / ".DS_Store").write_bytes(b"")
    task = _load(folder)
    assert (task.classes, task.shape) == (("cat", "dog"), (3, 6, 6))
    assert task.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(task.train.images[:3], torch.from_numpy(pictures(3, seed=6)).permute(0, 3, 1, 2))
    assert "its validation split is used as test" in task.notes[0]
    assert task.open_test().labels.tolist() == [0, 1]


def test_foreign_file(folder: Path) -> None:
    (folder / "train" / "dog" / "readme.txt").write_text("hello")
    with pytest.raises(DataError, match=r"readme\.txt is not an image file"):
        _load(folder)


def test_corrupt_file_is_named(folder: Path) -> None:
    (folder / "train" / "dog" / "1.png").write_bytes(b"\x89PNG but not really")
    with pytest.raises(DataError, match=r"cannot decode .*dog.1\.png \(not an image\); replace or remove it"):
        _load(folder)


def test_class_missing_from_train(folder: Path) -> None:
    (folder / "val" / "cat").rename(folder / "val" / "cow")
    with pytest.raises(DataError, match="class folder 'cow' is in validation but not in train"):
        _load(folder)


def test_empty_class_and_no_train(folder: Path) -> None:
    (folder / "train" / "eel").mkdir()
    with pytest.raises(DataError, match="eel is empty; add images"):
        _load(folder)
    (folder / "train").rename(folder / "other")
    with pytest.raises(DataError, match=r"no images in .*expected pets/train/CLASS"):
        _load(folder)


def test_mixed_sizes_need_an_image_size(folder: Path, pictures: Any, png: Any) -> None:
    (folder / "train" / "dog" / "1.png").write_bytes(png(pictures(1, 8, 12)[0]))
    with pytest.raises(DataError, match=r"1\.png is 12x8, earlier images are 6x6; set data\.image_size"):
        _load(folder)
    assert _load(folder, image_size=4).shape == (3, 4, 4)


def test_class_folders_alone_are_cut_into_both_splits(tmp_path: Path, pictures: Any, png: Any) -> None:
    for name in ("cat", "testudo"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i, pixels in enumerate(pictures(10, seed=len(name))):
            (tmp_path / "pets" / name / f"{i}.png").write_bytes(png(pixels))
    task = _load(tmp_path / "pets")
    assert task.classes == ("cat", "testudo")
    assert task.train.class_counts(2) == [8, 8]
    assert task.open_test().class_counts(2) == [2, 2]
    assert "without a test split" in task.split


def test_folders_in_class_folders_are_no_images_of_a_class(tmp_path: Path, png: Any, pictures: Any) -> None:
    """A set without the names of splits, and one that is a level too high."""
    for place in ("a/fit/cat", "a/holdout/cat", "b/birds/train/jay", "b/birds/test/jay"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.png").write_bytes(png(pictures(1)[0]))
    for name, inner in (("a", "fit"), ("b", "birds")):
        with pytest.raises(DataError, match=rf"{inner} has folders of its own; expected {name}/CLASS/\*.png, or"):
            _load(tmp_path / name)


def test_a_class_may_be_called_as_a_split_is(tmp_path: Path, pictures: Any, png: Any) -> None:
    for name in ("bus", "train"):
        (tmp_path / "traffic" / name).mkdir(parents=True)
        for i, pixels in enumerate(pictures(5, seed=len(name))):
            (tmp_path / "traffic" / name / f"{i}.png").write_bytes(png(pixels))
    assert _load(tmp_path / "traffic").classes == ("bus", "train")
