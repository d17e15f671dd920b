"""What the header of a .npy file claims, before any of its values is read."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

Claim = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and type of an array."""


def declared(stream: BinaryIO) -> Claim:
    """What a header claims; the stream then stands at the first value. Raises: ValueError for anything else."""
    try:
        read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as error:  # the reader evaluates a literal, and raises whatever that leads it to
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from None
    return tuple(map(int, shape)), dtype


def require_held(claim: Claim, held: int, what: str) -> None:
    """Raise ValueError unless an array of that claim takes just the bytes that are held."""
    shape, dtype = claim
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod((dtype.itemsize, *shape)) != held:
        raise ValueError(f"{what} claims {dtype} {shape} but holds {held} bytes")


def declared_in(path: Path) -> Claim:
    """What a file claims that holds just as many bytes. Raises: OSError, ValueError."""
    with open(path, "rb") as file:
        claim = declared(file)
        require_held(claim, os.fstat(file.fileno()).st_size - file.tell(), path.name)
    return claim
