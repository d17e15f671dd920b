"""What an event camera has seen: a stream of brightness changes, checked before anything is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import DataError, ShapeError
from evospike.core.limits import require_memory

Whole = NDArray[np.integer[Any]]
_BYTES_PER_BYTE = 16
"""Bytes held at once for each byte of a file of events, at most: N-MNIST has 5 an event, and five numbers of 64 bits
are made of them."""

Sensor = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, eq=False)
class Recording:
    """The N events of one recording in the order of time, all arrays (N,).

    x, y: column and row of the pixel, (0, 0) at the top left. t: microseconds. p: 1 where the pixel became brighter
    (ON), 0 where it became darker (OFF). x, y and p are whole numbers of any width.
    """

    x: Whole
    y: Whole
    t: NDArray[np.int64]
    p: Whole

    def __post_init__(self) -> None:
        shapes = [values.shape for values in (self.x, self.y, self.t, self.p)]
        if len(set(shapes)) != 1 or len(shapes[0]) != 1:
            raise ShapeError(f"x, y, t and p of a recording are vectors of one length, given {shapes}")

    def __len__(self) -> int:
        return len(self.t)

    def of(self, members: NDArray[np.bool_]) -> Recording:
        """The events where `members`, bool (N,), is true."""
        return Recording(self.x[members], self.y[members], self.t[members], self.p[members])


def checked(recording: Recording, sensor: Sensor, where: str) -> Recording:
    """The recording itself, once it is known to be sound.

    where: how an error names it.
    Raises: DataError when there is no event, when one lies outside the sensor, is neither ON nor OFF or happened before
    time 0, or when time runs backwards.
    """
    if not len(recording):
        raise DataError(f"{where} holds no events; download it again or remove it")
    height, width = sensor
    for name, values, limit in (("x", recording.x, width), ("y", recording.y, height), ("polarity", recording.p, 2)):
        outside = (values < 0) | (values >= limit)
        if outside.any():
            event = int(outside.argmax())
            raise DataError(
                f"{where}: event {event} has {name} {values[event]}, outside 0..{limit - 1} "
                f"of a sensor of {width}x{height} pixels; the file is damaged or of another camera"
            )
    _check_time(recording.t, where)
    return recording


def _check_time(t: NDArray[np.int64], where: str) -> None:
    if t[0] < 0:
        raise DataError(f"{where}: event 0 is at {t[0]} us, before time 0; the file is damaged")
    backwards = t[1:] < t[:-1]
    if backwards.any():
        event = int(backwards.argmax()) + 1
        raise DataError(
            f"{where}: time runs backwards at event {event}, from {t[event - 1]} to {t[event]} us; "
            "sort the events or download the file again"
        )


def read_bytes(path: Path) -> bytes:
    """What a file holds.

    Raises: DataError when it cannot be read, or its recording would not fit into memory.
    """
    try:
        size = path.stat().st_size
        require_memory(_BYTES_PER_BYTE * size, f"reading {path}", "cut the recording into parts", DataError)
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}); check the file") from None
