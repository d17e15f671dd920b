"""The binary format of N-MNIST: 5 bytes per event.

Source: Orchard et al. 2015, "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades", and
the description beside the data: x, y, then one bit polarity (1 is ON) and 23 bits of microseconds, big-endian.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import DataError
from evospike.data.events.recording import Recording, Sensor, checked

SENSOR: Sensor = (34, 34)
_EVENT_BYTES = 5
_OVERFLOW_ROW = 240  # an event in this row is no event: time has passed another 2**13 us
_OVERFLOW = 1 << 13


def parse_nmnist(data: bytes, where: str) -> Recording:
    """The events of a file.

    Raises: DataError for a file that is cut short, and as `checked`.
    """
    if len(data) % _EVENT_BYTES:
        rest = len(data) % _EVENT_BYTES
        raise DataError(f"{where} is cut short: it ends after {rest} of an event's 5 bytes; download it again")
    events = np.frombuffer(data, dtype=np.uint8).reshape(-1, _EVENT_BYTES)
    high, middle, low = events[:, 2:].T.astype(np.int64)
    overflow = events[:, 1] == _OVERFLOW_ROW
    t: NDArray[np.int64] = ((high & 0x7F) << 16 | middle << 8 | low) + _OVERFLOW * np.cumsum(overflow)
    x, y = events[:, :2].T.astype(np.int16)
    recording = Recording(x, y, t, (high >> 7).astype(np.uint8)).of(~overflow)
    return checked(recording, SENSOR, where)
