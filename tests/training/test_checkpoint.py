"""Checkpoint pairs: the newest whole one counts, and no failure takes the last good one along."""

from __future__ import annotations

import builtins
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import evospike.core.files
from evospike.core.errors import CheckpointError
from evospike.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, saved_steps


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint({"w": torch.full((3,), float(step))}, {"m": torch.full((2,), float(-step))}, {"step": step})


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, step, checkpoint(step))


def loaded_step(folder: Path) -> int:
    found = load_checkpoint(folder)
    assert found is not None
    whole, _ = found
    step = int(whole.record["step"])
    assert torch.equal(whole.weights["w"], torch.full((3,), float(step)))
    assert torch.equal(whole.state["m"], torch.full((2,), float(-step)))
    return step


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_an_empty_or_missing_folder_has_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "nothing") is None
    assert saved_steps(tmp_path / "nothing") == []


def test_the_two_newest_pairs_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 9, 10, 100)
    assert saved_steps(tmp_path) == [10, 100]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{step:09d}.{kind}.safetensors" for step in (10, 100) for kind in ("state", "weights")
    ]
    assert loaded_step(tmp_path) == 100


def test_a_damaged_pair_goes_when_training_has_gone_on_from_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 800, 900)
    flip_last_byte(tmp_path / "step-000000900.weights.safetensors")
    assert loaded_step(tmp_path) == 800
    save(tmp_path, 850)
    assert saved_steps(tmp_path) == [800, 850]
    flip_last_byte(tmp_path / "step-000000850.state.safetensors")
    assert loaded_step(tmp_path) == 800


@pytest.mark.parametrize("kind", ["weights", "state"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "empty"])
def test_a_damaged_newest_pair_falls_back_with_a_line(tmp_path: Path, kind: str, damage: str) -> None:
    save(tmp_path, 1, 2)
    path = tmp_path / f"step-000000002.{kind}.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        flip_last_byte(path)
    else:
        path.write_bytes(path.read_bytes()[: 20 if damage == "cut" else 0])
    assert loaded_step(tmp_path) == 1
    found = load_checkpoint(tmp_path)
    assert found is not None
    if (kind, damage) == ("state", "missing"):  # as a kill between the two files leaves it
        assert found[1] == []
    else:
        (line,) = found[1]
        assert line.startswith("checkpoint of step 2 passed over: ")
        assert path.name in line
        assert "\n" not in line


def test_two_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "run", 1, 2)
    save_checkpoint(tmp_path / "other", 2, checkpoint(7))
    name = "step-000000002.weights.safetensors"
    shutil.copy(tmp_path / "other" / name, tmp_path / "run" / name)
    found = load_checkpoint(tmp_path / "run")
    assert found is not None
    assert found[0].record["step"] == 1
    assert "are not a pair; use an earlier checkpoint" in found[1][0]


def test_a_state_without_a_record_is_refused(tmp_path: Path) -> None:
    checksum = evospike.core.files.save_tensors(tmp_path / "step-000000001.weights.safetensors", {"w": torch.ones(1)})
    for metadata in ({"weights": checksum}, {"weights": checksum, "record": "{"}):
        evospike.core.files.save_tensors(tmp_path / "step-000000001.state.safetensors", {}, metadata)
        with pytest.raises(CheckpointError, match=r"is not a training state; use an earlier checkpoint"):
            load_checkpoint(tmp_path)


def test_when_all_are_damaged_the_error_says_what_to_do(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        flip_last_byte(path)
    with pytest.raises(CheckpointError, match=r"no whole checkpoint in .*; delete its files to train from the start"):
        load_checkpoint(tmp_path)


class FullDisk:
    """Stands for os.fsync, os.replace or open: fails at one call, counted from 0."""

    def __init__(self, original: Any, at: int) -> None:
        self.original, self.left = original, at

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left == -1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.original(*args, **kwargs)


class FullFile:
    """An open file whose write runs out of space half way."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> None:
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("at", [0, 1, 2, 3])
@pytest.mark.parametrize("where", ["fsync", "replace", "open", "write", "unlink"])
def test_a_full_disk_at_any_call_leaves_a_whole_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, at: int
) -> None:
    save(tmp_path, 1, 2)
    with monkeypatch.context() as patch:
        if where == "open":
            patch.setattr(evospike.core.files, "open", FullDisk(builtins.open, at), raising=False)
        elif where == "write":
            opened = iter(range(100))
            files = evospike.core.files

            def full(path: Path, mode: str) -> Any:
                file = builtins.open(path, mode)  # noqa: SIM115 - handed on
                return FullFile(file) if next(opened) == at else file

            patch.setattr(files, "open", full, raising=False)
        elif where == "unlink":
            disk = FullDisk(Path.unlink, at)
            patch.setattr(Path, "unlink", lambda path, *args: disk(path, *args))
        else:
            patch.setattr(os, where, FullDisk(getattr(os, where), at))
        try:
            save(tmp_path, 3)
            failed = False
        except OSError:
            failed = True
    # A write, and the sync and rename of one, must be reported; failing to tidy up need not.
    assert failed == (where == "fsync" or (where in ("open", "write", "replace") and at < 2))
    named = (where, at) == ("fsync", 3)  # only the sync of the folder went wrong, after the last rename
    assert loaded_step(tmp_path) == (2 if failed and not named else 3)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    save(tmp_path, 3)
    assert loaded_step(tmp_path) == 3


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    """Safetensors writes metadata in an order that changes from call to call; ours must not."""
    metadata = {name: name for name in "abcdefgh"}
    files = set()
    for number in range(8):
        path = tmp_path / str(number)
        evospike.core.files.save_tensors(path, {"w": torch.arange(3.0), "v": torch.ones(2, 2)}, metadata)
        evospike.core.files.load_tensors(path)
        files.add(path.read_bytes())
    assert len(files) == 1
