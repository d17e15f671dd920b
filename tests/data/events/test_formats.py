from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.core.errors import DataError
from evospike.data.events.aedat import parse_aedat2, parse_aedat3
from evospike.data.events.framefile import parse_frames
from evospike.data.events.gesture import Interval, cut, parse_intervals
from evospike.data.events.nmnist import parse_nmnist
from evospike.data.events.recording import Recording

DVS128 = (128, 128)


def _archive(frames: np.ndarray, compressed: bool = True) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, frames=frames)
    return stream.getvalue()


@given(st.integers(1, 60), st.integers(0, 2**32), st.integers(1, 2**32))
@settings(max_examples=30, deadline=None)
def test_aedat2_round_trip(formats: Any, count: int, seed: int, latest: int) -> None:
    recording = formats.events(count, DVS128, seed, latest)
    assert formats.same(parse_aedat2(formats.aedat2(recording), "file"), recording)


def test_aedat2_address_bits() -> None:
    """One event by hand: bits 8..14 are 27, bits 1..7 are 5, bit 0 is 0."""
    read = parse_aedat2(b"#!AER-DAT2.0\r\n" + struct.pack(">II", 27 << 8 | 5 << 1, 77), "file")
    assert (read.x.tolist(), read.y.tolist(), read.t.tolist(), read.p.tolist()) == ([100], [122], [77], [1])


def test_aedat2_passes_over_external_events(formats: Any) -> None:
    recording = formats.events(3, DVS128)
    data = formats.aedat2(recording) + struct.pack(">IIII", 0x8000, 0, 0x80000001, 0)
    assert formats.same(parse_aedat2(data, "file"), recording)


@given(st.integers(1, 60), st.integers(0, 2**32), st.integers(1, 2**40), st.integers(1, 20), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_aedat3_round_trip(formats: Any, count: int, seed: int, latest: int, per_packet: int, spare: int) -> None:
    recording = formats.events(count, DVS128, seed, latest)
    # a packet has one overflow, so that its times lie within 2**31 us of each other
    per_packet = per_packet if latest < 1 << 31 else 1
    assert formats.same(parse_aedat3(formats.aedat3(recording, per_packet, spare), DVS128, "file"), recording)


def test_aedat3_leaves_out_what_is_marked_invalid(formats: Any) -> None:
    recording = formats.events(10, DVS128)
    data = bytearray(formats.aedat3(recording))
    first = data.index(b"#!END-HEADER\r\n") + 14 + 28
    data[first + 8 * 4] &= 0xFE
    kept = np.arange(10) != 4
    assert formats.same(parse_aedat3(bytes(data), DVS128, "file"), recording.of(kept))


@given(st.integers(1, 60), st.integers(0, 2**32), st.integers(1, 2**24))
@settings(max_examples=30, deadline=None)
def test_nmnist_round_trip(formats: Any, count: int, seed: int, latest: int) -> None:
    recording = formats.events(count, (34, 34), seed, latest)
    assert formats.same(parse_nmnist(formats.nmnist(recording), "file"), recording)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("compressed", [False, True])
def test_frames_round_trip(dtype: Any, compressed: bool) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 2, 3, 5)).astype(dtype)
    assert (parse_frames(_archive(frames, compressed), "file") == frames).all()
    assert (parse_frames(_archive(np.asfortranarray(frames), compressed), "file") == frames).all()


def test_frames_above_a_byte_are_cut_off() -> None:
    assert parse_frames(_archive(np.full((1, 2, 1, 1), 70_000.0)), "file").tolist() == [[[[255]], [[255]]]]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((3, 6, 8)), "file holds float64 (3, 6, 8), expected numbers of shape (T, 2, H, W)"),
        (np.zeros((3, 1, 6, 8)), "file holds float64 (3, 1, 6, 8)"),
        (np.zeros((0, 2, 6, 8)), "file holds float64 (0, 2, 6, 8)"),
        (np.full((1, 2, 1, 1), "a"), "file holds <U1 (1, 2, 1, 1)"),
        (np.full((1, 2, 1, 1), 0.5), "file holds values that are no counts"),
        (np.full((1, 2, 1, 1), np.nan), "file holds values that are no counts"),
        (np.full((1, 2, 1, 1), -1), "file holds values that are no counts"),
    ],
)
def test_frames_that_are_no_counts(frames: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        parse_frames(_archive(frames), "file")


def test_frames_of_objects_are_not_unpickled() -> None:
    with pytest.raises(DataError, match="cannot read the frames in file"):
        parse_frames(_archive(np.full((1, 2, 1, 1), None)), "file")


def test_a_length_that_is_not_there_allocates_nothing() -> None:
    """A header that claims 10**13 values, and a zip entry that claims 3 GB."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 2, 1, 5)})
    claims = io.BytesIO()
    with zipfile.ZipFile(claims, "w") as archive:
        archive.writestr("frames.npy", stream.getvalue())
    with pytest.raises(DataError, match="claims float64"):
        parse_frames(claims.getvalue(), "file")
    data = bytearray(_archive(np.zeros((1, 2, 1, 1))))
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 3_000_000_000)
    with pytest.raises(DataError, match="claims 3000000000 bytes"):
        parse_frames(bytes(data), "file")


def _aedat3(formats: Any, *packets: bytes) -> bytes:
    return b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + b"".join(packets)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: b"", "starts with '', expected '#!AER-DAT3.1'"),
        (lambda f: f.aedat2(f.events(3, DVS128)), "starts with '#!AER-DAT2.0', expected '#!AER-DAT3.1'"),
        (lambda f: b"#!AER-DAT3.1\r\n#Format: RAW\r\n", "has no header line '#!END-HEADER'"),
        (lambda f: b"#!AER-DAT3.1\r\n#For", "is cut short in its header"),
        (lambda f: _aedat3(f), "holds no events"),
        (lambda f: _aedat3(f, bytes(20)), "is cut short in the packet header at byte 28"),
        (lambda f: f.aedat3(f.events(20, DVS128))[:-1], "ends at byte 365, the file at 364"),
        (lambda f: _aedat3(f, f.packet(1, bytes(8), 1, 1, size=9)), "byte 28 ends at byte 65, the file at 64"),
        (lambda f: _aedat3(f, f.packet(1, bytes(9), 1, 1, size=9)), "has events of 9 bytes, expected 8"),
        (lambda f: _aedat3(f, f.packet(1, bytes(8), 2, 1)), "is of type 1, 2 of 1 events of 8 bytes"),
        (lambda f: _aedat3(f, f.packet(1, bytes(8), -1, 1)), "is of type 1, -1 of 1 events"),
        (lambda f: _aedat3(f, f.packet(1, b"", 0, 2**31 - 1, size=2**31 - 1)), "is cut short"),
        (lambda f: _aedat3(f, f.packet(1, bytes(8), 1, 1, overflow=-1)), "overflow -1"),
        (lambda f: f.aedat3(f.events(5, (200, 200), seed=1)), "of a sensor of 128x128 pixels"),
        (
            lambda f: _aedat3(f, f.packet(1, struct.pack("<IIII", 1, 9, 1, 8), 2, 2)),
            "time runs backwards at event 1, from 9 to 8 us",
        ),
    ],
)
def test_malformed_aedat3(formats: Any, make: Callable[[Any], bytes], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        parse_aedat3(make(formats), DVS128, "file")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#!AER-DAT1.0\r\n", "file starts with '#!AER-DAT1.0', expected '#!AER-DAT2.'"),
        (b"#!AER-DAT2.0", "file is cut short in its header"),
        (b"#!AER-DAT2.0\r\n# nothing more\r\n", "file holds no events"),
        (b"#!AER-DAT2.0\r\n" + bytes(13), "file is cut short: it ends after 5 of an event's 8 bytes"),
        (b"#!AER-DAT2.0\r\n" + struct.pack(">II", 1 << 16, 0), "address 0x00010000 is no pixel of a DVS128"),
        (b"#!AER-DAT2.0\r\n" + struct.pack(">IIII", 0, 9, 0, 8), "time runs backwards at event 1, from 9 to 8 us"),
    ],
)
def test_malformed_aedat2(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        parse_aedat2(data, "file")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file holds no events"),
        (bytes([0, 240, 0, 0, 0]), "file holds no events"),
        (bytes(7), "file is cut short: it ends after 2 of an event's 5 bytes"),
        (bytes([34, 0, 0, 0, 0]), "event 0 has x 34, outside 0..33"),
        (bytes([0, 0, 0, 0, 9, 0, 0, 0, 0, 8]), "time runs backwards at event 1, from 9 to 8 us"),
    ],
)
def test_malformed_nmnist(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        parse_nmnist(data, "file")


HEADER = b"class,startTime_usec,endTime_usec\n"


def test_intervals() -> None:
    assert parse_intervals(HEADER + b"1,5,9\r\n11,9,20\n\n", "labels") == [Interval(0, 5, 9), Interval(10, 9, 20)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER, "labels has no gestures"),
        (HEADER + b"1,5,9\n2,5\n", "labels, line 3 is '2,5', expected class, start and end as whole numbers"),
        (HEADER + b"one,5,9\n", "labels, line 2 is 'one,5,9'"),
        (HEADER + b"12,5,9\n", "labels, line 2 has class 12, expected 1 to 11"),
        (HEADER + b"1,9,9\n", "labels, line 2 goes from 9 to 9 us"),
        (HEADER + b"1,0,%d\n" % 2**63, "labels, line 2 goes from 0 to 9223372036854775808 us"),
    ],
)
def test_malformed_intervals(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        parse_intervals(data, "labels")


def test_cut_is_half_open_and_may_overlap(formats: Any) -> None:
    recording = formats.events(50, DVS128, latest=40)
    intervals = [Interval(0, 5, 20), Interval(1, 15, 30)]
    for part, interval in zip(cut(recording, intervals, "file"), intervals, strict=True):
        inside = [row for row in formats.rows(recording) if interval.start <= row[2] < interval.stop]
        assert formats.rows(part) == inside
    with pytest.raises(DataError, match="file, gesture 2 holds no events"):
        cut(recording, [Interval(0, 0, 40), Interval(1, 40, 50)], "file")


def _sound_recording(recording: Recording, sensor: tuple[int, int]) -> None:
    height, width = sensor
    assert len(recording)
    assert 0 <= recording.x.min() <= recording.x.max() < width
    assert 0 <= recording.y.min() <= recording.y.max() < height
    assert set(recording.p.tolist()) <= {0, 1}
    assert (np.diff(recording.t) >= 0).all()


def _sound_frames(frames: np.ndarray, sensor: tuple[int, int]) -> None:
    assert frames.dtype == np.uint8
    assert frames.ndim == 4


def _sound_intervals(intervals: list[Interval], sensor: tuple[int, int]) -> None:
    assert intervals
    assert all(0 <= one.label < 11 and 0 <= one.start < one.stop for one in intervals)


def _mutated(data: bytes, random: np.random.Generator) -> bytes:
    """One to three of: cut off, a flipped bit, inserted bytes, a removed stretch, a stretch of equal bytes."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(0, len(changed) + 1))
        length = int(random.integers(1, 12))
        kind = random.integers(5)
        if kind == 0:
            del changed[place:]
        elif kind == 1 and place < len(changed):
            changed[place] ^= 1 << int(random.integers(8))
        elif kind == 2:
            changed[place:place] = random.bytes(length)
        elif kind == 3:
            del changed[place : place + length]
        else:
            changed[place : place + length] = bytes([int(random.choice([0, 0x7F, 0xFF]))]) * length
    return bytes(changed)


@pytest.mark.parametrize("name", ["aedat2", "aedat3", "nmnist", "frames", "intervals"])
def test_two_thousand_mutations_of_each_format(formats: Any, name: str) -> None:
    frames = np.random.default_rng(1).integers(0, 9, (3, 2, 4, 4))
    sensor = (34, 34) if name == "nmnist" else DVS128
    recording = formats.events(40, sensor, seed=3)
    data, parse, sound = {
        "aedat2": (formats.aedat2(recording), parse_aedat2, _sound_recording),
        "aedat3": (formats.aedat3(recording), lambda d, w: parse_aedat3(d, DVS128, w), _sound_recording),
        "nmnist": (formats.nmnist(recording), parse_nmnist, _sound_recording),
        "frames": (_archive(frames.astype(np.uint8)), parse_frames, _sound_frames),
        "intervals": (HEADER + b"1,5,9\r\n11,9,20\n3,20,400\n", parse_intervals, _sound_intervals),
    }[name]
    sound(parse(data, "file"), sensor)
    random = np.random.default_rng(7)
    messages = []
    for _ in range(2000):
        try:
            sound(parse(_mutated(data, random), "file"), sensor)
        except DataError as error:
            messages.append(str(error))
    assert 200 < len(messages) < 2000
    assert all("\n" not in message and "file" in message for message in messages)
