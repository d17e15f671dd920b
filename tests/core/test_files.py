"""Files: whole or absent, and never trusted when altered."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path

import pytest
import torch

from evospike.core import files
from evospike.core.errors import CheckpointError, RunError
from evospike.core.files import (
    canonical_json,
    digest_bytes,
    digest_json,
    digest_tensors,
    load_tensors,
    make_folder,
    read_json,
    read_text,
    save_tensors,
    sync_folder,
    write_atomic,
    write_json,
)


def test_canonical_json_has_one_text_per_value() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "x"}) == '{"a":"x","b":[1,2.5]}'
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})
    assert digest_json([]) == digest_bytes(b"[]")
    with pytest.raises(ValueError, match="Out of range float values"):
        canonical_json(math.nan)


def test_digests_are_pinned() -> None:
    assert digest_bytes(b"") == "cae66941d9efbd404e4d88758ea67670"


def test_tensor_digest_sees_names_types_shapes_and_values_but_not_layout() -> None:
    x = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4)
    base = digest_tensors({"a": x})
    assert digest_tensors({"a": x.contiguous(memory_format=torch.channels_last)}) == base
    assert digest_tensors({"a": x.clone().requires_grad_()}) == base
    changed = x.clone()
    changed[0, 0, 0, 0] = -0.0  # equal to 0.0 as a number, but other bytes
    others = [
        {"b": x},
        {"a": x.double()},
        {"a": x.reshape(2, 3, 4)},
        {"a": x + 1},
        {"a": changed},
        {"a": x, "b": x},
    ]
    assert len({base, *map(digest_tensors, others)}) == len(others) + 1
    assert digest_tensors({"a": x, "b": x + 1}) == digest_tensors({"b": x + 1, "a": x})


def test_atomic_write_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    write_atomic(path, b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="disk full"):
                write_atomic(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    for name in ("file.bin", f".file.bin.{os.getpid()}.tmp"):
        (tmp_path / name).symlink_to(tmp_path / "thesis.txt")
    write_atomic(tmp_path / "file.bin", b"ours", durable=False)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"
    assert (tmp_path / "file.bin").read_bytes() == b"ours"
    assert not (tmp_path / "file.bin").is_symlink()


def test_folders_are_made_durably(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced == [tmp_path, tmp_path / "a"]
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_folder(tmp_path / "file" / "a")


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EDQUOT", "EINVAL", "EBADF"])
def test_a_folder_that_was_not_synced_is_told_where_that_means_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(getattr(errno, name), name)

    monkeypatch.setattr(os, "fsync", fail)
    if name in ("EINVAL", "EBADF"):  # this file system has nothing to sync
        sync_folder(tmp_path)
    else:
        with pytest.raises(OSError, match=name):
            sync_folder(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_only_plain_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="it is no plain file"):
            read_json(path)
        with pytest.raises(RunError, match=r"cannot read recipe .*: it is no plain file; give a text file"):
            read_text(path, "recipe", 100, RunError)


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs a file whose size is 0 and that holds more")
def test_no_more_is_read_than_a_file_may_have() -> None:
    with pytest.raises(RunError, match="has more than 10 bytes; a recipe has at most 10"):
        read_text(Path("/proc/self/limits"), "recipe", 10, RunError)


def test_write_json_reads_back_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, None]}
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "b.json", {"x": math.inf})
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
def test_tensors_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "matrix": torch.arange(6).reshape(2, 3).to(dtype),
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.zeros(0, 3, dtype=dtype),
        "transposed": torch.arange(6).reshape(2, 3).to(dtype).T,
    }
    checksum = save_tensors(tmp_path / "x.safetensors", tensors, {"epoch": "3"})
    loaded, metadata = load_tensors(tmp_path / "x.safetensors")
    assert metadata == {"epoch": "3", "checksum": checksum}
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == dtype
        assert torch.equal(loaded[name], tensor)


def test_tied_tensors_are_saved_twice(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    save_tensors(tmp_path / "x.safetensors", {"a": shared, "b": shared, "c": shared[1:]})
    loaded, _ = load_tensors(tmp_path / "x.safetensors")
    assert torch.equal(loaded["a"], shared)
    assert torch.equal(loaded["b"], shared)
    assert torch.equal(loaded["c"], shared[1:])


def test_the_checksum_depends_on_tensors_and_metadata_only(tmp_path: Path) -> None:
    a = save_tensors(tmp_path / "a", {"x": torch.ones(2)}, {"k": "v"})
    assert save_tensors(tmp_path / "b", {"x": torch.ones(2)}, {"k": "v"}) == a
    assert save_tensors(tmp_path / "c", {"x": torch.ones(2)}, {"k": "w"}) != a
    assert save_tensors(tmp_path / "d", {"x": torch.zeros(2)}, {"k": "v"}) != a


def test_missing_cut_and_altered_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match=r"no tensor file at .*x\.safetensors; expected a \.safetensors file"):
        load_tensors(path)
    save_tensors(path, {"x": torch.ones(8)}, {"epoch": "3"})
    whole = path.read_bytes()
    for kept in (0, 4, 30, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(
            CheckpointError, match=r"cannot read .*the file is cut short or altered, use an earlier one"
        ):
            load_tensors(path)
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    for altered in (bytes(flipped), whole.replace(b'"epoch":"3"', b'"epoch":"4"')):
        assert altered != whole
        path.write_bytes(altered)
        with pytest.raises(CheckpointError, match=r"checksum of .* does not match its contents; the file was altered"):
            load_tensors(path)
    path.write_bytes(whole)
    assert torch.equal(load_tensors(path)[0]["x"], torch.ones(8))


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, str(tmp_path / "foreign.safetensors"))
    with pytest.raises(CheckpointError, match=r"checksum of .* does not match"):
        load_tensors(tmp_path / "foreign.safetensors")
