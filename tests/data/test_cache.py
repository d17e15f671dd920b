from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evospike.core.errors import DataError
from evospike.data import cache as cache_module
from evospike.data.cache import load_cached
from evospike.data.decode import decode_split
from evospike.data.settings import DataSettings
from evospike.data.task import Task, load_task


def _load(folder: Path) -> Task:
    return load_task(DataSettings(source=f"parquet:{folder}", validation=0.0), 0)


def _no_decoding(*arguments: Any) -> Any:
    raise AssertionError("decoded although cached")


def test_second_load_reads_the_cache(small_parquet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _load(small_parquet)
    assert first.cache is not None
    assert first.cache.parent == cache
    monkeypatch.setattr(cache_module, "decode_split", _no_decoding)
    again = _load(small_parquet)
    assert torch.equal(first.train.images, again.train.images)
    assert first.train.digest() == again.train.digest()
    assert first.open_test().digest() == again.open_test().digest()
    assert sorted(path.name for path in first.cache.iterdir()) == [
        "manifest.json",
        "test.labels.npy",
        "test.npy",
        "train.labels.npy",
        "train.npy",
    ]


def test_changed_files_are_decoded_again(small_parquet: Path) -> None:
    first = _load(small_parquet)
    os.utime(small_parquet / "train-0.parquet", ns=(1, 1))
    assert _load(small_parquet).cache != first.cache


def test_large_sets_are_mapped_and_never_written(small_parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = _load(small_parquet)
    monkeypatch.setattr(cache_module, "IN_MEMORY_BYTES", 10)
    mapped = _load(small_parquet)
    assert torch.equal(small.train.images, mapped.train.images)
    mapped.train.images.zero_()
    assert torch.equal(_load(small_parquet).train.images, small.train.images)


def test_interrupted_build_leaves_nothing(small_parquet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any) -> Any:
        yield next(decode_split(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(cache_module, "decode_split", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _load(small_parquet)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut images", "no manifest", "broken manifest"])
def test_damaged_cache_is_built_again(small_parquet: Path, damage: str) -> None:
    task = _load(small_parquet)
    assert task.cache is not None
    images, manifest = task.cache / "train.npy", task.cache / "manifest.json"
    if damage == "cut images":
        images.write_bytes(images.read_bytes()[:-50])
    elif damage == "no manifest":
        manifest.unlink()
    else:
        manifest.write_text("{")
    assert load_cached(task.cache) is None
    assert torch.equal(_load(small_parquet).train.images, task.train.images)
    assert load_cached(task.cache) is not None


def test_half_built_folder_of_a_killed_process_is_not_taken(small_parquet: Path, cache: Path) -> None:
    task = _load(small_parquet)
    assert task.cache is not None
    leftover = cache / f".building-{task.cache.name}-1"
    leftover.mkdir()
    os.utime(leftover, (1, 1))
    (task.cache / "manifest.json").unlink()
    _load(small_parquet)
    assert not leftover.exists()


def test_unwritable_cache_falls_back_to_memory(
    small_parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cached = _load(small_parquet)
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    monkeypatch.setenv("EVOSPIKE_CACHE", str(blocker / "cache"))
    task = _load(small_parquet)
    captured = capsys.readouterr().err
    assert captured.startswith("evospike: no cache: cannot write")
    assert captured.count("\n") == 1
    assert task.cache is None
    assert task.notes[-1] in captured
    assert torch.equal(task.train.images, cached.train.images)
    assert task.train.digest() == cached.train.digest()


def test_full_disk_is_one_line(small_parquet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "write_header", full)
    with pytest.raises(DataError, match=r"cannot write the cache at .*No space left.*set EVOSPIKE_CACHE"):
        _load(small_parquet)
    assert list(cache.iterdir()) == []


def test_late_colour_image_turns_the_set_to_colour(tmp_path: Path, pictures: Any, png: Any, write_parquet: Any) -> None:
    grey = [png(np.full((6, 6), i, dtype=np.uint8)) for i in range(150)]
    write_parquet(tmp_path / "late" / "train.parquet", [*grey, png(pictures(1)[0])], [*([0, 1] * 75), 1])
    task = _load(tmp_path / "late")
    assert task.shape == (3, 6, 6)
    assert (task.train.images[149] == 149).all()
    assert task.cache is not None
    manifest = json.loads((task.cache / "manifest.json").read_text())
    assert manifest["splits"]["train"]["shape"] == [151, 3, 6, 6]
