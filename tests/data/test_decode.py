from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from evospike.core.errors import DataError
from evospike.data.decode import Layout, NotGreyError, decode_split, probe
from evospike.data.source import BATCH, RawImage, RawSplit


def _split(images: list[bytes]) -> RawSplit:
    def batches() -> Iterator[list[RawImage]]:
        for start in range(0, len(images), BATCH):
            yield [RawImage(data, f"image {start + i}") for i, data in enumerate(images[start : start + BATCH])]

    return RawSplit(np.zeros(len(images), dtype=np.int64), batches)


def _decoded(images: list[bytes], size: int = 0) -> np.ndarray:
    split = _split(images)
    return np.concatenate(list(decode_split(split, probe(split, size))))


def test_order_is_kept_over_many_batches(png: Any) -> None:
    images = [png(np.full((2, 2), i % 251, dtype=np.uint8)) for i in range(3000)]
    assert _decoded(images)[:, 0, 0, 0].tolist() == [i % 251 for i in range(3000)]


def test_all_grey_gives_one_channel(png: Any) -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert np.array_equal(_decoded([png(grey), png(grey, "LA")]), np.stack([grey, grey])[:, None])


def test_other_modes_become_rgb(png: Any, pictures: Any) -> None:
    colour = pictures(1)[0]
    grey = np.full((6, 6), 9, dtype=np.uint8)
    out = _decoded([png(grey), png(colour, "RGBA"), png(np.full((6, 6, 3), 51, np.uint8), "P")])
    assert out.shape == (3, 3, 6, 6)
    assert (out[0] == 9).all()
    assert np.array_equal(out[1], colour.transpose(2, 0, 1))
    assert (out[2] == 51).all()


def test_colour_after_grey_is_reported(png: Any, pictures: Any) -> None:
    split = _split([png(pictures(1)[0])])
    with pytest.raises(NotGreyError):
        list(decode_split(split, Layout(1, 6, 6, False)))


def test_sixteen_bits_are_refused(png: Any) -> None:
    deep = np.full((4, 4), 1000, dtype=np.uint16)
    with pytest.raises(DataError, match="image 0 has pixel mode I;16; expected 8 bits per channel"):
        _decoded([png(deep)])


def test_resize_keeps_the_middle_of_the_longer_side(png: Any) -> None:
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = (200, 100, 50)
    out = _decoded([png(wide)], size=8)
    assert out.shape == (1, 3, 8, 8)
    assert out[0, :, 4, 4].tolist() == [200, 100, 50]
    assert (out[0, 0] == 200).all()
    assert _decoded([png(wide), png(np.zeros((5, 5, 3), np.uint8))], size=4).shape == (2, 3, 4, 4)
