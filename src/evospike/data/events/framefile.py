"""Files of ready-made frames as SpikingJelly writes them: npz with one array, `frames`, of shape (T, 2, H, W)."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from evospike.core.errors import DataError
from evospike.core.limits import require_memory
from evospike.data.events.framing import MOST, Frames
from evospike.data.events.recording import Sensor, read_bytes
from evospike.data.npy import declared, require_held
from evospike.data.settings import EventSettings

_ENTRY = "frames.npy"
_COPIES = 5
"""Of the array in a file, at most so many times its bytes are held at once while its values are checked."""

_MOST_DEFLATED = 1100  # deflate makes at most 1032 bytes of one; more is no honest length


def frames_of_file(path: Path, sensor: Sensor, settings: EventSettings) -> Frames:
    """The frames of a file, counts above 255 cut off: uint8 (settings.frames, 2, H, W).

    Frames of one `duration` are cut after the T-th or filled up with empty ones; of other splits there must be T.
    Raises: DataError for a file that is malformed or cut short, of another sensor or another number of frames.
    """
    frames = parse_frames(read_bytes(path), str(path))
    if frames.shape[2:] != sensor:
        height, width = frames.shape[2:]
        raise DataError(f"{path} is of {width}x{height} pixels, earlier files of {sensor[1]}x{sensor[0]}; move it out")
    if len(frames) != settings.frames and settings.split != "duration":
        raise DataError(
            f"{path} holds {len(frames)} frames, not {settings.frames}; set data.events.frames={len(frames)}"
        )
    size = settings.frames * math.prod(frames.shape[1:])
    require_memory(size, f"{settings.frames} frames of {path}", "lower events.frames", DataError)
    fitted = np.zeros((settings.frames, *frames.shape[1:]), dtype=np.uint8)
    fitted[: len(frames)] = frames[: settings.frames]
    return fitted


def sensor_of_file(path: Path) -> Sensor:
    """Height and width of a file's frames."""
    height, width = parse_frames(read_bytes(path), str(path)).shape[2:]
    return height, width


def parse_frames(data: bytes, where: str) -> Frames:
    """All frames of an npz file, counts above 255 cut off: uint8 (T, 2, H, W).

    Raises: DataError for a file that is malformed or cut short, and for values that are no counts.
    """
    try:
        array = _entry(data, where)
    except DataError:
        raise
    except Exception as error:  # the zip and npy readers raise whatever the damaged bytes lead them to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot read the frames in {where} ({reason:.200}); download it again or remove it") from None
    if array.ndim != 4 or array.shape[1] != 2 or not array.size or array.dtype.kind not in "buif":
        raise DataError(f"{where} holds {array.dtype} {array.shape}, expected numbers of shape (T, 2, H, W)")
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    # a value that is no number fails the first comparison
    if not (array >= 0).all() or (array.dtype.kind == "f" and not (array == np.floor(array)).all()):
        raise DataError(f"{where} holds values that are no counts; expected whole numbers from 0")
    frames: Frames = np.minimum(array, MOST).astype(np.uint8)
    return frames


def _entry(data: bytes, where: str) -> NDArray[Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo(_ENTRY)
        if info.file_size > _MOST_DEFLATED * max(1, info.compress_size) or info.compress_size > len(data):
            raise ValueError(f"{_ENTRY} claims {info.file_size} bytes in a file of {len(data)}")
        require_memory(_COPIES * info.file_size, f"reading {where}", "split the recording", DataError)
        entry = io.BytesIO(archive.read(info))
    claim = declared(entry)
    require_held(claim, entry.getbuffer().nbytes - entry.tell(), _ENTRY)
    entry.seek(0)
    array: NDArray[Any] = npy.read_array(entry, allow_pickle=False)
    return array
