from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evospike.core.errors import DataError, RunError
from evospike.core.lock import RunLock
from evospike.data.cache import StoredSet, load_cached
from evospike.data.events import cache as cache_module
from evospike.data.events.cache import stored_events
from evospike.data.events.framing import to_frames
from evospike.data.events.recording import Recording
from evospike.data.events.source import PART, EventSource, FoundEvents, split_of_items
from evospike.data.settings import EventSettings

SENSOR = (6, 8)
FRAMING = EventSettings(frames=3)
COUNTS = {"train": 5 * PART + 3, "test": PART + 1}


class Camera:
    """A data set whose readings are counted; reading `broken` fails."""

    def __init__(self, make: Any, broken: tuple[str, int] | None = None, fingerprint: str = "one") -> None:
        self.make, self.broken = make, broken
        self.read: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        self.found = FoundEvents("camera", "nowhere", fingerprint, self.open)

    def open(self) -> EventSource:
        splits = {
            name: split_of_items(np.arange(count) % 2, [(name, i) for i in range(count)], self.sample)
            for name, count in COUNTS.items()
        }
        return EventSource(("no", "yes"), splits, SENSOR, "made up", ("a note",))

    def sample(self, item: tuple[str, int]) -> Recording:
        if item == self.broken:
            raise DataError(f"{item} is damaged")
        with self._lock:
            self.read.append(item)
        recording: Recording = self.make(50, SENSOR, seed=hash_of(item))
        return recording


def hash_of(item: tuple[str, int]) -> int:
    return item[1] + 1000 * (item[0] == "test")


def _digests(stored: StoredSet) -> dict[str, str]:
    return {name: load().digest for name, load in stored.splits.items()}


def _part_of(item: tuple[str, int]) -> tuple[str, int]:
    return item[0], item[1] // PART


def test_frames_labels_and_words(formats: Any, cache: Path) -> None:
    camera = Camera(formats.events)
    stored = stored_events(camera.found, FRAMING)
    assert (stored.name, stored.classes, stored.split, stored.notes) == (
        "camera",
        ("no", "yes"),
        "made up",
        ("a note",),
    )
    for name, count in COUNTS.items():
        split = stored.splits[name]()
        assert split.images.shape == (count, 3, 2, *SENSOR)
        assert split.labels.tolist() == [i % 2 for i in range(count)]
        for i in (0, PART - 1, PART, count - 1):
            expected = to_frames(camera.make(50, SENSOR, seed=hash_of((name, i))), SENSOR, FRAMING)
            assert torch.equal(split.images[i], torch.from_numpy(expected))
    assert [path.name for path in cache.iterdir()] == [stored.folder.name if stored.folder else ""]
    assert sorted(path.name for path in cache.glob("*/*")) == [
        *("manifest.json", "test.labels.npy", "test.npy", "train.labels.npy", "train.npy")
    ]


def test_second_time_nothing_is_read(formats: Any) -> None:
    stored_events(Camera(formats.events).found, FRAMING)
    again = Camera(formats.events)
    stored_events(again.found, FRAMING)
    assert not again.read


def test_key_is_of_files_and_framing(formats: Any) -> None:
    made = [
        stored_events(Camera(formats.events, fingerprint=print_).found, framing).folder
        for print_, framing in [("one", FRAMING), ("two", FRAMING), ("one", EventSettings(frames=3, split="time"))]
    ]
    assert len(set(made)) == 3


@pytest.mark.parametrize("broken", [("train", 0), ("train", 3 * PART + 1), ("test", PART)])
def test_an_interrupted_build_goes_on(
    formats: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: tuple[str, int]
) -> None:
    whole = stored_events(Camera(formats.events).found, FRAMING)
    monkeypatch.setenv("EVOSPIKE_CACHE", str(tmp_path / "other"))
    with pytest.raises(DataError, match="is damaged"):
        stored_events(Camera(formats.events, broken).found, FRAMING)
    assert [path.name for path in (tmp_path / "other").iterdir() if not path.name.startswith(".")] == []
    second = Camera(formats.events)
    resumed = stored_events(second.found, FRAMING)
    everything = {(name, i) for name, count in COUNTS.items() for i in range(count)}
    before = {item for item in everything if item[0] == "train" or broken[0] == "test"}
    before = {item for item in before if item[0] != broken[0] or _part_of(item) < _part_of(broken)}
    assert sorted(second.read) == sorted(everything - before)
    assert _digests(resumed) == _digests(whole)
    for name, load in resumed.splits.items():
        assert torch.equal(load().images, whole.splits[name]().images)
    assert [path.name for path in (tmp_path / "other").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "grown", "no record", "broken record", "record of more", "foreign"]
)
def test_a_damaged_partial_build_gives_the_same_set(
    formats: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    whole = stored_events(Camera(formats.events).found, FRAMING)
    monkeypatch.setenv("EVOSPIKE_CACHE", str(tmp_path / "other"))
    with pytest.raises(DataError, match="is damaged"):
        stored_events(Camera(formats.events, ("train", 3 * PART)).found, FRAMING)
    (building,) = (tmp_path / "other").iterdir()
    array, record = building / "set" / "train.npy", building / "train.progress.json"
    data = array.read_bytes()
    spoilt = {
        "cut": data[:-7],
        "flipped": data[:500] + bytes([data[500] ^ 1]) + data[501:],
        "grown": data + b"more",
        "foreign": data.replace(b"(163,", b"(164,"),
    }
    array.write_bytes(spoilt.get(damage, data))
    if damage == "no record":
        record.unlink()
    elif damage == "broken record":
        record.write_text("[1, 2")
    elif damage == "record of more":
        record.write_text(json.dumps({**json.loads(record.read_text()), "parts": 99}))
    second = Camera(formats.events)
    assert _digests(stored_events(second.found, FRAMING)) == _digests(whole)
    assert (("train", 0) in second.read) == (damage != "grown")


KILLED = """
    import os, sys
    import numpy as np
    from evospike.data.events import cache
    from evospike.data.events.recording import Recording
    from evospike.data.events.source import PART, EventSource, FoundEvents, split_of_items
    from evospike.data.settings import EventSettings

    cache.CHECKPOINT_SECONDS = 0.0
    kill_at = int(sys.argv[1])

    def read(i):
        if i == kill_at:
            while not list(cache.Path(os.environ["EVOSPIKE_CACHE"]).glob(".*/train.progress.json")):
                pass
            os._exit(9)
        os.write(1, f"{i}\\n".encode())  # threads read: the line in one call, or two of them run together
        t = np.arange(4)
        return Recording(t % 8, (t + i) % 6, t, t % 2)

    def source():
        return EventSource(("a", "b"), {"train": split_of_items(np.arange(200) % 2, range(200), read)}, (6, 8), "s")

    stored = cache.stored_events(FoundEvents("killed", "", 1, source), EventSettings(frames=2))
    print(stored.splits["train"]().digest)
"""


def _run_killed(cache: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EVOSPIKE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(kill_at)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(tmp_path: Path) -> None:
    killed = _run_killed(tmp_path / "one", 190)
    assert killed.returncode == 9
    assert all(load_cached(path) is None for path in (tmp_path / "one").iterdir())
    resumed = _run_killed(tmp_path / "one", -1)
    whole = _run_killed(tmp_path / "two", -1)
    assert (resumed.returncode, whole.returncode) == (0, 0), resumed.stderr + whole.stderr
    *read, digest = resumed.stdout.split()
    assert digest == whole.stdout.split()[-1]
    assert "0" not in read
    assert "199" in read


def test_two_processes_make_one_set(formats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(cache_module, "tell", told.append)
    monkeypatch.setattr(cache_module, "_WAIT_SECONDS", 0.01)
    cameras = [Camera(formats.events), Camera(formats.events)]
    entered, go_on = threading.Event(), threading.Event()

    def slow() -> EventSource:
        entered.set()
        assert go_on.wait(20)
        return cameras[0].open()

    first = FoundEvents("camera", "nowhere", "one", slow)
    results: list[StoredSet] = []
    builders = [
        threading.Thread(target=lambda found=found: results.append(stored_events(found, FRAMING)))
        for found in (first, cameras[1].found)
    ]
    builders[0].start()
    assert entered.wait(20)
    builders[1].start()
    while not told:
        assert builders[1].is_alive()
        time.sleep(0.01)
    go_on.set()
    for builder in builders:
        builder.join(20)
    assert len(results) == 2
    assert _digests(results[0]) == _digests(results[1])
    assert not cameras[1].read
    assert len(told) == 1
    assert told[0].startswith("waiting for another process that builds this cache")


def test_only_a_live_process_of_this_host_is_waited_for(formats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_lock: RunLock) -> None:
        raise RunError("cannot read the lock")

    monkeypatch.setattr(RunLock, "acquire", refuse)
    with pytest.raises(RunError, match="cannot read the lock"):
        stored_events(Camera(formats.events).found, FRAMING)


def test_unwritable_cache_falls_back_to_memory(
    formats: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cached = stored_events(Camera(formats.events).found, FRAMING)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EVOSPIKE_CACHE", str(tmp_path / "file" / "cache"))
    held = stored_events(Camera(formats.events).found, FRAMING)
    assert held.folder is None
    assert held.split == "made up"
    assert held.notes[-1] in capsys.readouterr().err
    assert _digests(held) == _digests(cached)
    assert torch.equal(held.splits["train"]().images, cached.splits["train"]().images)


def test_full_disk_is_one_line_and_nothing_is_lost(formats: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    append = cache_module._SplitFile.append

    def full(file: Any, frames: Any) -> None:
        if file.parts == 2:
            raise OSError(28, "No space left on device")
        append(file, frames)

    with monkeypatch.context() as patch:
        patch.setattr(cache_module._SplitFile, "append", full)
        with pytest.raises(DataError, match=r"cannot write the cache at .*No space left.*set EVOSPIKE_CACHE"):
            stored_events(Camera(formats.events).found, FRAMING)
    second = Camera(formats.events)
    stored_events(second.found, FRAMING)
    assert min(i for name, i in second.read if name == "train") == 2 * PART


def test_abandoned_partial_builds_are_removed(formats: Any, cache: Path) -> None:
    old, young = cache / ".events-old", cache / ".events-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    stored_events(Camera(formats.events).found, FRAMING)
    assert (old.exists(), young.exists()) == (False, True)
