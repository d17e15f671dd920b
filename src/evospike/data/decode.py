"""Encoded images to uint8 arrays of one shape, on a pool of threads and with bounded memory."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import DataError, MissingExtra
from evospike.core.limits import require_memory
from evospike.data.ahead import ahead
from evospike.data.source import BATCH, RawImage, RawSplit

Pixels = NDArray[np.uint8]
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may take a file for, whatever it is called: other readers of it start programs (PostScript)."""

MOST_PIXELS = 1 << 26
"""Of one image, as stored and as scaled; more is refused by its header."""

_AHEAD = 16
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB"})


@dataclass(frozen=True)
class Layout:
    """Shape that every decoded image has. resized: whether images are scaled and cropped to it."""

    channels: int
    height: int
    width: int
    resized: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


class NotGreyError(Exception):
    """A coloured image turned up in a data set that looked grey; decode again with three channels."""


def pillow() -> Any:
    """Pillow's Image module, or MissingExtra."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("pillow", "data", "decoding images") from None
    return Image


def probe(split: RawSplit, size: int) -> Layout:
    """The layout of a data set, from its first batch: one channel if all of it is grey, else three.

    size: side in pixels to scale to, 0 to keep the first image's own size.
    """
    first = next(iter(split.batches()), [])
    opened = [_opened(raw) for raw in first]
    grey = all(image.mode in _GREY_MODES for image in opened)
    width, height = (size, size) if size else opened[0].size
    layout = Layout(1 if grey else 3, height, width, bool(size))
    held = (_AHEAD + 2) * BATCH * math.prod(layout.shape)
    require_memory(held, f"decoding images of {width}x{height}", "set a smaller data.image_size", DataError)
    return layout


def in_colour(layout: Layout) -> Layout:
    """The same layout with three channels."""
    return replace(layout, channels=3)


def decode_split(split: RawSplit, layout: Layout) -> Iterator[Pixels]:
    """The images of a split in order, as arrays (n, C, H, W).

    Raises: DataError naming the image that cannot be used; NotGreyError.
    """
    yield from ahead((partial(_decode_batch, batch, layout) for batch in split.batches()), waiting=_AHEAD)


def _decode_batch(batch: list[RawImage], layout: Layout) -> Pixels:
    out = np.empty((len(batch), *layout.shape), dtype=np.uint8)
    for target, raw in zip(out, batch, strict=True):
        _decode_into(target, raw, layout)
    return out


def _decode_into(target: Pixels, raw: RawImage, layout: Layout) -> None:
    image = _opened(raw)
    if layout.channels == 1 and image.mode not in _GREY_MODES:
        raise NotGreyError
    try:
        image = image.convert("L" if layout.channels == 1 else "RGB")
    except Exception as error:  # decoders raise whatever the damaged bytes lead them to
        raise _undecodable(raw, error) from None
    image = _fitted(raw, image, layout.height) if layout.resized else image
    if image.size != (layout.width, layout.height):
        expected = f"{layout.width}x{layout.height}"
        raise DataError(
            f"{raw.where} is {image.size[0]}x{image.size[1]}, earlier images are {expected}; set data.image_size"
        )
    pixels = np.asarray(image)
    target[:] = pixels[None] if layout.channels == 1 else pixels.transpose(2, 0, 1)


def _opened(raw: RawImage) -> Any:
    """The image with its header read and its pixels not yet."""
    image_module = pillow()
    if raw.payload is None:
        raise DataError(f"{raw.where} holds no image bytes; download the data set again or remove the row")
    try:
        stream = _bytes_of(raw.payload) if isinstance(raw.payload, Path) else raw.payload
        image = image_module.open(io.BytesIO(stream), formats=FORMATS)
    except DataError:
        raise
    except Exception as error:  # as above
        raise _undecodable(raw, error) from None
    _check_size(raw, *image.size)
    if image.mode not in _GREY_MODES and image.mode not in _COLOUR_MODES:
        raise DataError(f"{raw.where} has pixel mode {image.mode}; expected 8 bits per channel, convert it first")
    return image


def _bytes_of(path: Path) -> bytes:
    require_memory(path.stat().st_size, f"reading {path}", "replace or remove it", DataError)
    return path.read_bytes()


def _check_size(raw: RawImage, width: int, height: int) -> None:
    """Raise DataError for a size that no pixel of is decoded."""
    if min(width, height) < 1 or width * height > MOST_PIXELS:
        raise DataError(f"{raw.where} is {width}x{height}; an image has 1 to {MOST_PIXELS:,} pixels, scale it first")


def _undecodable(raw: RawImage, error: Exception) -> DataError:
    # Pillow's message would repeat the stream's address, which says nothing.
    reason = "not an image" if "identify" in str(error) else (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"cannot decode {raw.where} ({reason}); replace or remove it")


def _fitted(raw: RawImage, image: Any, size: int) -> Any:
    """The shorter side scaled to `size` (bilinear), then the centre square."""
    width, height = image.size
    scale = size / min(width, height)
    width, height = max(size, round(width * scale)), max(size, round(height * scale))
    _check_size(raw, width, height)
    if image.size != (width, height):
        image = image.resize((width, height), pillow().Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))
