"""Writers of the true file formats, independent of the readers: one event at a time, with struct."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evospike.data.events.recording import Recording

AEDAT2_HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n"
AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def events(count: int, sensor: tuple[int, int], seed: int = 0, latest: int = 100_000) -> Recording:
    random = np.random.default_rng(seed)
    height, width = sensor
    return Recording(
        random.integers(0, width, count).astype(np.int16),
        random.integers(0, height, count).astype(np.int16),
        np.sort(random.integers(0, latest, count)),
        random.integers(0, 2, count).astype(np.uint8),
    )


def rows(recording: Recording) -> list[tuple[int, int, int, int]]:
    columns = (recording.x, recording.y, recording.t, recording.p)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def aedat2(recording: Recording, header: bytes = AEDAT2_HEADER) -> bytes:
    """Upright (x, y) at address bits 8..14 and 1..7, both mirrored; bit 0 is 0 for ON."""
    body = b""
    for x, y, t, p in rows(recording):
        body += struct.pack(">II", (127 - x) << 8 | (127 - y) << 1 | (1 - p), t)
    return header + body


def packet(kind: int, body: bytes, count: int, capacity: int, overflow: int = 0, size: int = 8) -> bytes:
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, capacity, count, count) + body


def aedat3(recording: Recording, per_packet: int = 10, spare: int = 0) -> bytes:
    """Polarity packets with room for `spare` more events, a packet of another type after each."""
    data = AEDAT3_HEADER
    everything = rows(recording)
    for start in range(0, len(everything), per_packet):
        part = everything[start : start + per_packet]
        overflow = part[0][2] >> 31
        body = b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t - (overflow << 31)) for x, y, t, p in part)
        data += packet(1, body + bytes(8 * spare), len(part), len(part) + spare, overflow)
        data += packet(0, b"special!" * 2, 2, 2)
    return data


def nmnist(recording: Recording) -> bytes:
    """Times of 2**23 us and more are reached by overflow events of 2**13 us."""
    data, passed = b"", 0
    for x, y, t, p in rows(recording):
        while t - passed >= 1 << 23:
            data += bytes([0, 240, 0, 0, 0])
            passed += 1 << 13
        data += bytes([x, y]) + struct.pack(">I", p << 23 | (t - passed))[1:]
    return data


def same(first: Recording, second: Recording) -> bool:
    return rows(first) == rows(second)


@pytest.fixture(scope="session")
def formats() -> Any:
    """The writers above."""
    return SimpleNamespace(
        events=events, rows=rows, aedat2=aedat2, aedat3=aedat3, nmnist=nmnist, packet=packet, same=same, CIFAR10=CIFAR10
    )


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def cifar10dvs(tmp_path: Path) -> Path:
    """Ten recordings per class in data/cifar10dvs; gives data."""
    for label, name in enumerate(CIFAR10):
        for i in range(10):
            recording = events(30, (128, 128), seed=100 * label + i)
            write(tmp_path / "data" / "cifar10dvs" / name / f"cifar10_{name}_{i}.aedat", aedat2(recording))
    return tmp_path / "data"


@pytest.fixture
def nmnist_folder(tmp_path: Path) -> Path:
    """Two training recordings and one test recording per digit in data/nmnist; gives data."""
    for digit in range(10):
        for i, split in enumerate(("Train", "Train", "Test")):
            recording = events(20, (34, 34), seed=10 * digit + i)
            write(tmp_path / "data" / "nmnist" / split / str(digit) / f"{i:05d}.bin", nmnist(recording))
    return tmp_path / "data"


@pytest.fixture
def gesture(tmp_path: Path) -> Path:
    """Two users, each with every gesture once and the first twice, in data/dvsgesture; gives data."""
    home = tmp_path / "data" / "dvsgesture" / "DvsGesture"
    for i, user in enumerate(("user01_lab", "user24_led")):
        write(home / f"{user}.aedat", aedat3(events(1200, (128, 128), seed=i, latest=12_000)))
        lines = [f"{label},{1000 * i},{1000 * i + 1000}" for i, label in enumerate([*range(1, 12), 1])]
        write(home / f"{user}_labels.csv", "\n".join(["class,startTime_usec,endTime_usec", *lines, ""]).encode())
    write(home / "trials_to_train.txt", b"user01_lab.aedat\n\n")
    write(home / "trials_to_test.txt", b"user24_led.aedat\n")
    return tmp_path / "data"


@pytest.fixture
def frame_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write frames (T, 2, 6, 8) as SpikingJelly does, float64, four per class."""

    def make(
        name: str, parts: tuple[str, ...], classes: tuple[str, ...] = ("a", "b"), count: int = 4, T: int = 3
    ) -> Path:
        home = tmp_path / "data" / name
        random = np.random.default_rng(0)
        for part in parts:
            for label in classes:
                for i in range(count):
                    path = home / part / label / f"{i}.npz"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    np.savez(path, frames=random.integers(0, 5, (T, 2, 6, 8)).astype(np.float64))
        return home

    return make
