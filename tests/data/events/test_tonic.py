"""`tonic:NAME`: the package itself on files in its own layout, and stand-ins for sets that it does not have."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from evospike.core.errors import DataError, MissingExtra
from evospike.data.events.framing import to_frames
from evospike.data.settings import DataSettings, EventSettings
from evospike.data.task import Task, load_task

DVS128 = (128, 128)


def _task(source: str, folder: Path, **events: Any) -> Task:
    framing = EventSettings(**{"frames": 3, **events})
    return load_task(DataSettings(source=source, folder=str(folder), validation=0.0, events=framing), 0)


def _fill(folder: Path, count: int, suffix: str) -> None:
    """tonic downloads where it counts fewer names of a kind; empty folders count, and hold no data."""
    for i in range(count):
        (folder / f"spare{i}{suffix}").mkdir(parents=True)


def test_tonic_reads_nmnist_as_we_do(nmnist_folder: Path) -> None:
    pytest.importorskip("tonic", reason="tonic is not installed: pip install 'evospike[events]'")
    for split in ("Train", "Test"):
        shutil.copytree(nmnist_folder / "nmnist" / split, nmnist_folder / "NMNIST" / split)
        (nmnist_folder / "NMNIST" / f"{split.lower()}.zip").touch()
        _fill(nmnist_folder / "NMNIST" / split / "spare", 10_000, ".bin")
    ours, theirs = (_task(source, nmnist_folder) for source in ("nmnist", "tonic:NMNIST"))
    assert (theirs.shape, theirs.split, len(theirs.train)) == (ours.shape, "official train/test", 20)
    assert theirs.classes[3] == "3 - three"
    for mine, other in ((ours.train, theirs.train), (ours.open_test(), theirs.open_test())):
        assert torch.equal(mine.images, other.images)
        assert torch.equal(mine.labels, other.labels)
        assert mine.images.any()


def test_gestures_of_tonic_are_framed_whatever_the_file_system_lists_first(tmp_path: Path, formats: Any) -> None:
    pytest.importorskip("tonic", reason="tonic is not installed: pip install 'evospike[events]'")
    home = tmp_path / "DVSGesture"
    expected: dict[str, list[np.ndarray]] = {}
    for split, users in (("Train", ("user09_lab", "user02_led", "user05_lab")), ("Test", ("user24_led",))):
        frames = {}
        _fill(home / f"ibmGesture{split}" / users[0], 100, ".npy")
        (home / f"ibmGesture{split}.tar.gz").touch()
        for user in users:
            for label in range(11):
                events = formats.events(50, DVS128, seed=100 * int(user[4:6]) + label, latest=90)
                table = np.stack([events.x, events.y, events.p, events.t], 1).astype(np.float64)  # t in ms
                path = home / f"ibmGesture{split}" / user / f"{label}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, table)
                frames[str(path)] = to_frames(
                    dataclasses.replace(events, t=events.t * 1000), DVS128, EventSettings(frames=3)
                )
        expected[split] = [frames[path] for path in sorted(frames)]
    task = _task("tonic:DVSGesture", tmp_path)
    assert (task.shape, task.split, task.classes[0]) == ((2, 128, 128), "official train/test", "Hand clapping")
    for images, split in ((task.train, "Train"), (task.open_test(), "Test")):
        assert np.array_equal(images.images.numpy(), np.stack(expected[split]))
    assert task.train.labels[:3].tolist() == [0, 1, 10]  # by name: 0.npy, 1.npy, 10.npy


def test_a_reader_that_tonic_does_not_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, formats: Any
) -> None:
    pytest.importorskip("tonic", reason="tonic is not installed: pip install 'evospike[events]'")
    home = tmp_path / "CIFAR10DVS"
    for name in formats.CIFAR10:
        (home / name).mkdir(parents=True)
        for i in range(100):
            (home / name / f"cifar10_{name}_{i}.aedat4").touch()
    (home / "CIFAR10DVS.zip").touch()
    monkeypatch.setitem(sys.modules, "aedat", None)
    with pytest.raises(DataError, match=r"cannot read tonic:CIFAR10DVS, sample \d+: .*pip install aedat"):
        _task("tonic:CIFAR10DVS", tmp_path)


class _Events:
    """The few things of a tonic data set that evospike uses."""

    sensor_size = (8, 6, 2)
    classes: Any = ["no", "yes"]  # noqa: RUF012 - as tonic has it
    kind = np.dtype([("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])

    def __init__(self, save_to: str, count: int = 20) -> None:
        self.save_to = save_to
        self.targets = [i % 2 for i in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        events = np.zeros(12, dtype=self.kind)
        events["t"] = np.arange(12)
        events["x"], events["y"], events["p"] = i % 8, i % 6, i % 2
        return events, self.targets[i]


class Official(_Events):
    def __init__(self, save_to: str, train: bool = True) -> None:
        super().__init__(save_to, 20 if train else 6)


class NoTargets(_Events):
    def __init__(self, save_to: str) -> None:
        super().__init__(save_to)
        self._labels = self.targets
        del self.targets

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        self.targets = self._labels
        try:
            return super().__getitem__(i)
        finally:
            del self.targets


class Shuffled(_Events):
    """Its files are listed as the file system likes, and its classes are given with their labels."""

    classes: Any = {"yes": 1, "no": 0}  # noqa: RUF012 - as tonic has it

    def __init__(self, save_to: str) -> None:
        super().__init__(save_to)
        self._order = np.random.default_rng(int(save_to[-1])).permutation(20).tolist()
        self.data = [str(Path(save_to, f"{row:02d}.aedat4")) for row in self._order]
        for file in self.data:
            open(file, "ab").close()  # touch() would make it newer
        self.targets = [row % 2 for row in self._order]

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return super().__getitem__(self._order[i])[0], self.targets[i]


class OneFile(_Events):
    """All its samples are in one file, as of sets in HDF5."""

    def __init__(self, save_to: str) -> None:
        super().__init__(save_to)
        self.location_on_system = str(Path(save_to, "OneFile"))
        Path(self.location_on_system).mkdir(exist_ok=True)
        open(Path(self.location_on_system, "train.h5"), "ab").close()


class Words(_Events):
    def __init__(self, save_to: str) -> None:
        super().__init__(save_to)
        self.targets: Any = ["no", "yes"]

    def __getitem__(self, i: int) -> Any:
        return super().__getitem__(i)[0], "no"


class Unfixed(_Events):
    sensor_size: Any = None


class Sound(_Events):
    kind = np.dtype([("t", "<i8"), ("x", "<i2"), ("p", "<i2")])

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return np.zeros(5, dtype=self.kind), self.targets[i]


class Outside(_Events):
    sensor_size = (4, 6, 2)


class Offline(_Events):
    def __init__(self, save_to: str) -> None:
        raise RuntimeError("no route to host\nlong trace")


class Unreadable(_Events):
    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        raise ValueError("too many values to unpack")


@pytest.fixture
def tonic(monkeypatch: pytest.MonkeyPatch) -> None:
    package, datasets = ModuleType("tonic"), ModuleType("tonic.datasets")
    for kind in (_Events, Official, NoTargets, Shuffled, OneFile, Words, Unfixed, Sound, Outside, Offline, Unreadable):
        setattr(datasets, kind.__name__, kind)
    package.datasets = datasets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tonic", package)
    monkeypatch.setitem(sys.modules, "tonic.datasets", datasets)


@pytest.mark.usefixtures("tonic")
def test_tonic_with_an_official_split(tmp_path: Path) -> None:
    task = _task("tonic:Official", tmp_path)
    assert (task.shape, task.split, task.classes) == ((2, 6, 8), "official train/test", ("no", "yes"))
    assert (len(task.train), len(task.open_test())) == (20, 6)
    expected = torch.zeros(20, 3, 2, 6, 8, dtype=torch.uint8)
    for i in range(20):
        expected[i, :, i % 2, i % 6, i % 8] = 4
    assert torch.equal(task.train.images, expected)


@pytest.mark.usefixtures("tonic")
@pytest.mark.parametrize("name", ["_Events", "NoTargets"])
def test_tonic_without_a_split(tmp_path: Path, name: str) -> None:
    task = _task(f"tonic:{name}", tmp_path)
    assert task.split == "evospike 9/1 per class, seed 0"
    assert (task.train.class_counts(2), task.open_test().class_counts(2)) == ([9, 9], [1, 1])
    for images in (task.train, task.open_test()):
        # ON events were written for odd samples, whose label is 1
        assert ((images.images[:, :, 1].sum((1, 2, 3)) > 0) == (images.labels == 1)).all()


@pytest.mark.usefixtures("tonic")
def test_our_split_of_a_set_of_tonic_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    folders = [tmp_path / number for number in "01"]
    for folder in folders:
        folder.mkdir()
    tasks = [_task("tonic:Shuffled", folder) for folder in folders]
    assert tasks[0].classes == ("no", "yes")
    assert torch.equal(tasks[0].train.images, tasks[1].train.images)
    assert torch.equal(tasks[0].train.labels, tasks[1].train.labels)
    assert tasks[0].open_test().digest() == tasks[1].open_test().digest()


@pytest.mark.usefixtures("tonic")
@pytest.mark.parametrize("name", ["Shuffled", "OneFile"])
def test_recordings_that_were_replaced_are_read_again(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "0"
    folder.mkdir()
    first = _task(f"tonic:{name}", folder)
    assert _task(f"tonic:{name}", folder).cache == first.cache
    next(file for file in sorted(folder.rglob("*")) if file.is_file()).write_bytes(b"other events")
    assert _task(f"tonic:{name}", folder).cache != first.cache


@pytest.mark.usefixtures("tonic")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Officiel", "tonic has no data set 'Officiel'; did you mean 'Official'"),
        ("Words", "'tonic:Words' has no whole numbers as labels"),
        ("Unfixed", r"'tonic:Unfixed' has no fixed sensor \(sensor_size None\)"),
        ("Sound", "tonic:Sound, sample 0 has fields t, x, p; expected whole numbers x, y, t and p"),
        ("Outside", r"tonic:Outside, sample \d+: event 0 has x \d, outside 0..3 of a sensor of 4x6 pixels"),
        ("Offline", r"^cannot load 'tonic:Offline' \(no route to host\); check the name"),
        ("Unreadable", r"cannot read tonic:Unreadable, sample 0 \(too many values to unpack\)"),
    ],
)
def test_tonic_sets_that_cannot_be_used(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _task(f"tonic:{name}", tmp_path)


def test_missing_tonic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("tonic", "tonic.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"loading 'tonic:NMNIST' needs 'tonic'.*evospike\[events\]"):
        _task("tonic:NMNIST", tmp_path)
