from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evospike.data.task import ImageSet, Task

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EVOSPIKE_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def local_data() -> Path:
    given = os.environ.get("EVOSPIKE_DATA")
    folder = Path(given) if given else REPOSITORY.parent / "shared" / "data"
    if not (folder / "cifar10").is_dir():
        pytest.skip("no local CIFAR-10: set EVOSPIKE_DATA to a folder that has cifar10/ inside")
    return folder


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture(name="png")
def png_fixture() -> Callable[..., bytes]:
    return png


@pytest.fixture
def pictures() -> Callable[..., np.ndarray]:
    """Deterministic uint8 images (N, H, W, 3)."""

    def make(count: int, height: int = 6, width: int = 6, seed: int = 0) -> np.ndarray:
        random = np.random.default_rng(seed)
        return random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)

    return make


@pytest.fixture
def write_parquet() -> Callable[..., None]:
    """Write encoded images and labels in the Hugging Face layout."""

    def write(path: Path, images: list[bytes | None], labels: list[Any], **columns: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"bytes": data, "path": None} for data in images]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        names = [columns.get("image", "img"), columns.get("label", "label")]
        pq.write_table(pa.table([pa.array(rows, kind), pa.array(labels)], names=names), path)

    return write


@pytest.fixture
def small_parquet(tmp_path: Path, pictures: Any, write_parquet: Any) -> Path:
    """20 training and 6 test colour images of 6x6, two classes."""
    folder = tmp_path / "small"
    train, test = pictures(20), pictures(6, seed=1)
    write_parquet(folder / "train-0.parquet", [png(p) for p in train[:12]], [i % 2 for i in range(12)])
    write_parquet(folder / "train-1.parquet", [png(p) for p in train[12:]], [i % 2 for i in range(8)])
    write_parquet(folder / "test-0.parquet", [png(p) for p in test], [i % 2 for i in range(6)])
    return folder


@pytest.fixture
def image_task() -> Callable[..., Task]:
    """A task of random colour images in memory."""

    def make(count: int = 40, size: int = 16, classes: int = 4, seen: int = 0, channels: int = 3) -> Task:
        generator = torch.Generator().manual_seed(5)
        images = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
        everything = ImageSet.of(images, torch.arange(count) % classes)
        train = everything.subset(torch.arange(3, count))
        shape = (channels, seen or size, seen or size)
        mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.25, 0.3)[:channels]
        names = tuple(f"class {i}" for i in range(classes))
        return Task("random", names, shape, mean, std, train, everything.subset(torch.arange(3)))

    return make
