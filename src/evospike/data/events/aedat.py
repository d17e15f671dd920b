"""AEDAT, the file format of iniLabs' event cameras: version 2.0 (jAER, CIFAR10-DVS) and 3.1 (cAER, DVS128 Gesture).

Source: the format descriptions of iniVation, docs.inivation.com, "AEDAT file formats".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import DataError
from evospike.data.events.recording import Recording, Sensor, checked

DVS128: Sensor = (128, 128)
_SPECIAL = 0x80008000  # marks of external events, which have no pixel
_PIXEL = 0x7FFF
_POLARITY_PACKET = 1
_EVENT_BYTES = 8
_PACKET_HEADER = struct.Struct("<hhiiiiii")
_END_OF_HEADER = b"#!END-HEADER"
Words = NDArray[np.uint32]


def parse_aedat2(data: bytes, where: str) -> Recording:
    """The events of a DVS128 in a file of version 2.0: big-endian pairs of a 32-bit address and microseconds.

    Bits 8..14 of an address give x and bits 1..7 y, both counted from the other side, as CIFAR10-DVS is shown upright;
    bit 0 is 0 for ON.
    Raises: DataError for a file that is malformed or cut short, and as `checked`.
    """
    body = memoryview(data)[_lines_end(data, b"#!AER-DAT2.", where) :]
    if len(body) % _EVENT_BYTES:
        rest = len(body) % _EVENT_BYTES
        raise DataError(f"{where} is cut short: it ends after {rest} of an event's 8 bytes; download it again")
    words = np.frombuffer(body, dtype=">u4").reshape(-1, 2)
    words = words[words[:, 0] & _SPECIAL == 0]
    addresses: NDArray[np.int32] = words[:, 0].astype(np.int32)
    unknown = addresses > _PIXEL
    if unknown.any():
        address = int(addresses[unknown.argmax()])
        raise DataError(f"{where}: address {address:#010x} is no pixel of a DVS128; the file is of another camera")
    x = (127 - (addresses >> 8)).astype(np.int16)
    y = (127 - (addresses >> 1 & 0x7F)).astype(np.int16)
    p = (1 - (addresses & 1)).astype(np.uint8)
    return checked(Recording(x, y, words[:, 1].astype(np.int64), p), DVS128, where)


def parse_aedat3(data: bytes, sensor: Sensor, where: str) -> Recording:
    """The valid polarity events of a file of version 3.1; packets of other types are passed over.

    Raises: DataError for a file that is malformed or cut short, and as `checked`.
    """
    return checked(polarity_events(data, where), sensor, where)


def polarity_events(data: bytes, where: str) -> Recording:
    """The valid polarity events, coordinates and time unchecked. Raises: DataError for a malformed or cut file."""
    position = _lines_end(data, b"#!AER-DAT3.1", where, _END_OF_HEADER)
    words: list[Words] = [np.empty(0, dtype=np.uint32)]
    times: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    while position < len(data):
        packet = _packet(data, position, where)
        position = packet.end
        if packet.kind == _POLARITY_PACKET:
            events = _valid_events(data, packet, where)
            words.append(events[:, 0])
            times.append(events[:, 1].astype(np.int64) + (packet.overflow << 31))
    return _decoded(np.concatenate(words), np.concatenate(times))


@dataclass(frozen=True)
class _Packet:
    """A packet's header. start, end: where its events lie in the file; number: how many they are."""

    kind: int
    event_bytes: int
    overflow: int
    number: int
    start: int
    end: int


def _packet(data: bytes, position: int, where: str) -> _Packet:
    start = position + _PACKET_HEADER.size
    if start > len(data):
        raise DataError(f"{where} is cut short in the packet header at byte {position}; download it again")
    kind, _, size, _, overflow, capacity, number, _ = _PACKET_HEADER.unpack_from(data, position)
    if kind < 0 or size < 1 or overflow < 0 or not 0 <= number <= capacity:
        raise DataError(
            f"{where}: the packet at byte {position} is of type {kind}, {number} of {capacity} events of {size} bytes "
            f"and overflow {overflow}; the file is damaged, download it again"
        )
    end = start + size * capacity
    if end > len(data):
        raise DataError(
            f"{where} is cut short: the packet at byte {position} ends at byte {end}, the file at {len(data)}; "
            "download it again"
        )
    return _Packet(kind, size, overflow, number, start, end)


def _valid_events(data: bytes, packet: _Packet, where: str) -> Words:
    """Address and time of the events that are marked as valid, (n, 2)."""
    if packet.event_bytes != _EVENT_BYTES:
        raise DataError(
            f"{where}: the polarity packet at byte {packet.start - _PACKET_HEADER.size} has events of "
            f"{packet.event_bytes} bytes, expected 8; the file is damaged, download it again"
        )
    events = np.frombuffer(data, dtype="<u4", count=2 * packet.number, offset=packet.start).reshape(-1, 2)
    valid: Words = events[events[:, 0] & 1 == 1]
    return valid


def _decoded(words: Words, t: NDArray[np.int64]) -> Recording:
    x, y = (words >> 17 & _PIXEL).astype(np.int16), (words >> 2 & _PIXEL).astype(np.int16)
    return Recording(x, y, t, (words >> 1 & 1).astype(np.uint8))


def _lines_end(data: bytes, version: bytes, where: str, last: bytes = b"") -> int:
    """Where the header ends: after the line that starts with `last`, or after the last line that starts with '#'."""
    if not data.startswith(version):
        start = data[:12].decode("ascii", "replace")
        raise DataError(f"{where} starts with {start!r}, expected {version.decode()!r}; it is no file of this format")
    position, ended = 0, False
    while data[position : position + 1] == b"#" and not ended:
        ended = bool(last) and data.startswith(last, position)
        position = data.find(b"\n", position) + 1
        if not position:
            raise DataError(f"{where} is cut short in its header; download it again")
    if last and not ended:
        raise DataError(f"{where} has no header line {last.decode()!r}; download it again")
    return position
