from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from evospike.core.errors import DataError, ShapeError
from evospike.data.events.recording import Recording, checked


def _recording(x: list[int], y: list[int], t: list[int], p: list[int]) -> Recording:
    return Recording(np.array(x, np.int16), np.array(y, np.int16), np.array(t, np.int64), np.array(p, np.uint8))


def test_a_sound_recording_is_given_back() -> None:
    recording = _recording([0, 7, 7], [5, 0, 5], [3, 3, 9], [0, 1, 1])
    assert checked(recording, (6, 8), "here") is recording


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([], [], [], []), "here holds no events"),
        (([0, 8], [0, 0], [0, 0], [0, 0]), "here: event 1 has x 8, outside 0..7 of a sensor of 8x6 pixels"),
        (([0, -1], [0, 0], [0, 0], [0, 0]), "here: event 1 has x -1, outside 0..7"),
        (([0, 0, 0], [0, 5, 6], [0, 0, 0], [0, 0, 0]), "here: event 2 has y 6, outside 0..5"),
        (([0], [0], [0], [2]), "here: event 0 has polarity 2, outside 0..1"),
        (([0], [0], [-4], [0]), "here: event 0 is at -4 us, before time 0"),
        (([0] * 4, [0] * 4, [1, 5, 5, 4], [0] * 4), "here: time runs backwards at event 3, from 5 to 4 us"),
    ],
)
def test_unsound_recordings(columns: Any, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        checked(_recording(*columns), (6, 8), "here")
    assert "\n" not in str(caught.value)


def test_vectors_of_one_length() -> None:
    with pytest.raises(ShapeError, match="vectors of one length"):
        _recording([0, 1], [0, 1], [0], [0, 1])
