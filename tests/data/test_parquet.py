from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evospike.core.errors import DataError, MissingExtra, SettingsError
from evospike.data.settings import DataSettings
from evospike.data.task import Task, load_task


def _load(folder: Path, **settings: Any) -> Task:
    return load_task(DataSettings(source=f"parquet:{folder}", validation=0.0, **settings), 0)


def test_pixels_labels_and_order(small_parquet: Path, pictures: Any) -> None:
    task = _load(small_parquet)
    expected = torch.from_numpy(pictures(20)).permute(0, 3, 1, 2)
    assert torch.equal(task.train.take(torch.arange(20))[0], expected)
    assert task.train.labels.tolist() == [*([0, 1] * 6), *([0, 1] * 4)]
    test = task.open_test()
    assert torch.equal(test.images, torch.from_numpy(pictures(6, seed=1)).permute(0, 3, 1, 2))
    assert (task.name, task.classes, task.shape) == ("small", ("0", "1"), (3, 6, 6))


def test_validation_split_serves_as_test_and_says_so(
    tmp_path: Path, pictures: Any, png: Any, write_parquet: Any
) -> None:
    images = [png(p) for p in pictures(4)]
    write_parquet(tmp_path / "data" / "train" / "0.parquet", images, [0, 1, 0, 1], image="image", label="fine_label")
    write_parquet(tmp_path / "data" / "validation-0.parquet", images[:2], [0, 1], image="image", label="fine_label")
    write_parquet(tmp_path / "data" / "test-0.parquet", images[:3], [-1, -1, -1], image="image", label="fine_label")
    task = _load(tmp_path / "data")
    assert task.notes == ("the source has no labelled test split; its validation split is used as test",)
    assert len(task.open_test()) == 2


def test_a_share_of_a_source_without_a_test_split_becomes_one(
    tmp_path: Path, pictures: Any, png: Any, write_parquet: Any
) -> None:
    write_parquet(tmp_path / "d" / "train.parquet", [png(p) for p in pictures(20)], [0, 1] * 10)
    source = f"parquet:{tmp_path / 'd'}"
    tasks = [load_task(DataSettings(source=source, validation=0.25), seed) for seed in range(3)]
    tests = [task.open_test() for task in tasks]
    assert tests[0].class_counts(2) == [2, 2]
    assert {test.digest() for test in tests} == {tests[0].digest()}
    for task, test in zip(tasks, tests, strict=True):
        rows = [set(images.rows.tolist()) for images in (task.train, task.validation, test)]
        assert [len(one) for one in rows] == [12, 4, 4]
        assert set.union(*rows) == set(range(20))
    assert tasks[0].train.digest() != tasks[1].train.digest()
    assert tasks[0].split == "stratified 80/20 of a source without a test split, fixed"
    assert tasks[0].notes == ("the source has no test split; data.test_share of its training split becomes one",)
    half = load_task(DataSettings(source=source, validation=0.0, test_share=0.5, test_limit=4), 0)
    assert (len(half.train), len(half.open_test()), half.split[:17]) == (10, 4, "stratified 50/50 ")


def test_a_share_for_testing_that_cannot_be(
    tmp_path: Path, small_parquet: Path, pictures: Any, png: Any, write_parquet: Any
) -> None:
    with pytest.raises(DataError, match=r"data.test_share is 0.3, but 'small' has a test split; leave it out"):
        _load(small_parquet, test_share=0.3)
    write_parquet(tmp_path / "d" / "train.parquet", [png(p) for p in pictures(2)], [0, 1])
    with pytest.raises(DataError, match=r"no test split, and 2 samples are too few to hold out 0.2 of each class"):
        _load(tmp_path / "d")
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(SettingsError, match=r"data.test_share is a fraction above 0 and below 1, given"):
            DataSettings(test_share=share)


def test_class_names_from_metadata(tmp_path: Path, small_parquet: Path) -> None:
    import pyarrow.parquet as pq

    feature = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    for file in small_parquet.glob("*.parquet"):
        pq.write_table(pq.read_table(file).replace_schema_metadata(metadata), file)
    assert _load(small_parquet).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 0, 0], r"has one class only \(label 0\)"),
        ([0, 2, 0, 2], r"no training sample has label 1; labels must be 0..2 without gaps"),
        ([0, 1, -3, 1], r"split 'train': label -3 is outside 0..1"),
        (["a", "b", "a", "b"], r"column 'label' is string; expected whole numbers"),
        ([0, 1, None, 1], r"column 'label' is int64; expected whole numbers in every row"),
    ],
)
def test_bad_labels(
    tmp_path: Path, pictures: Any, png: Any, write_parquet: Any, labels: list[Any], message: str
) -> None:
    write_parquet(tmp_path / "bad" / "train.parquet", [png(p) for p in pictures(4)], labels)
    with pytest.raises(DataError, match=message):
        _load(tmp_path / "bad")


def test_columns_of_other_types_are_refused_unread(
    tmp_path: Path, pictures: Any, png: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of some hundred bytes whose labels are one text of a megabyte, 4,000 times, would take gigabytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.array([png(pictures(1)[0])] * 4000)
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), pa.array(["x" * 1_000_000]))
    lists = pa.array([[1]] * 4000)
    numbers = pa.array([0, 1] * 2000)
    cases = [
        ({"img": image, "label": text}, r"column 'label' is string; expected whole numbers"),
        ({"img": lists, "label": numbers}, r"column 'img' is list<.*>; expected the bytes of an image"),
        ({"img": pa.array([{"bytes": b"", "more": [1]}] * 4000), "label": numbers}, r"column 'img' is struct<"),
    ]
    for name in ("read", "iter_batches"):
        monkeypatch.setattr(pq.ParquetFile, name, _unread(getattr(pq.ParquetFile, name)))
    for number, (columns, message) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        pq.write_table(pa.table(columns), folder / "train.parquet", store_schema=False, compression="zstd")
        with pytest.raises(DataError, match=message):
            _load(folder)


def _unread(read: Any) -> Any:
    """A reader of columns that may read the whole numbers alone."""

    def guarded(self: Any, *arguments: Any, columns: list[str]) -> Any:
        assert columns == ["label"], "the images were read"
        assert "int" in str(self.schema_arrow.field("label").type), "the texts were read"
        return read(self, *arguments, columns=columns)

    return guarded


def test_columns_of_one_name_are_refused(tmp_path: Path, pictures: Any, png: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table([pa.array([png(pictures(1)[0])]), pa.array([0]), pa.array([0])], names=["img", "label", "label"])
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet has 2 columns 'label'"):
        _load(tmp_path)


def test_test_label_out_of_range(small_parquet: Path, pictures: Any, png: Any, write_parquet: Any) -> None:
    write_parquet(small_parquet / "test-0.parquet", [png(p) for p in pictures(2)], [0, 7])
    with pytest.raises(DataError, match=r"split 'test': label 7 is outside 0\.\.1"):
        _load(small_parquet)


def test_wrong_columns(tmp_path: Path, pictures: Any, png: Any, write_parquet: Any) -> None:
    write_parquet(tmp_path / "w" / "train.parquet", [png(p) for p in pictures(2)], [0, 1], image="picture")
    with pytest.raises(DataError, match=r"train.parquet has columns picture, label; expected an image column"):
        _load(tmp_path / "w")
    with pytest.raises(DataError, match=r"a label column \(coarse_label\)"):
        _load(tmp_path / "w", label_column="coarse_label")


@pytest.mark.parametrize("payload", [b"", b"no picture", None])
def test_broken_image_is_named(
    tmp_path: Path, pictures: Any, png: Any, write_parquet: Any, payload: bytes | None
) -> None:
    images = [png(p) for p in pictures(4)]
    write_parquet(tmp_path / "b" / "train.parquet", [*images[:3], payload], [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"train\.parquet, row 3"):
        _load(tmp_path / "b")


def test_truncated_image_is_named(tmp_path: Path, pictures: Any, png: Any, write_parquet: Any) -> None:
    images = [png(p) for p in pictures(4, 40, 40)]
    write_parquet(tmp_path / "t" / "train.parquet", [*images[:2], images[2][:900], images[3]], [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"cannot decode train\.parquet, row 2 \(.+\); replace or remove it"):
        _load(tmp_path / "t")


def test_broken_file_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*nowhere; check data.source"):
        _load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty is empty"):
        _load(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no Parquet files in .*expected train"):
        _load(tmp_path / "empty")
    (tmp_path / "empty" / "train.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match=r"cannot read .*train\.parquet as Parquet"):
        _load(tmp_path / "empty")


def test_missing_extras(small_parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"reading Parquet files needs 'pyarrow'.*evospike\[data\]"):
        _load(small_parquet)
    monkeypatch.undo()


def test_missing_pillow(small_parquet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtra, match="decoding images needs 'pillow'"):
        _load(small_parquet)


def test_cifar10_from_its_files(local_data: Path, tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOSPIKE_DATA", str(local_data))
    task = load_task(DataSettings(source="cifar10"), 0)
    assert task.classes[:3] == ("airplane", "automobile", "bird")
    assert task.shape == (3, 32, 32)
    assert task.train.class_counts(10) == [4500] * 10
    assert task.validation.class_counts(10) == [500] * 10
    assert task.open_test().class_counts(10) == [1000] * 10
    assert task.mean == (0.4914, 0.4822, 0.4465)
    pixels = task.train.images[::50].float().mean((0, 2, 3)) / 255
    assert np.allclose(pixels.numpy(), task.mean, atol=0.01)
    again = load_task(DataSettings(source="cifar10"), 0)
    assert again.train.digest() == task.train.digest()
