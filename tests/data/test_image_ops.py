from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from evospike.data import image_ops


def _batch(seed: int = 0, size: tuple[int, int] = (13, 17)) -> torch.Tensor:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (6, *size, 3), dtype=np.uint8)
    images[1] = images[1] // 4 + 60  # low contrast
    images[2] = 77  # constant
    images[3, ..., 1] = 200  # one constant channel
    images[4] = np.linspace(0, 255, 3 * size[0] * size[1]).reshape(*size, 3)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _pil(image: torch.Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array if array.shape[2] == 3 else array[..., 0])


def _difference(ours: torch.Tensor, theirs: list[Image.Image]) -> int:
    expected = [torch.from_numpy(np.atleast_3d(np.array(image))).permute(2, 0, 1) for image in theirs]
    return int((ours.int() - torch.stack(expected).int()).abs().max())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (image_ops.invert, ImageOps.invert),
        (image_ops.autocontrast, ImageOps.autocontrast),
        (image_ops.equalize, ImageOps.equalize),
    ],
)
def test_exact_without_parameter(
    ours: Callable[[torch.Tensor], torch.Tensor], theirs: Callable[[Image.Image], Image.Image], channels: int
) -> None:
    images = _batch()[:, :channels].contiguous()
    assert _difference(ours(images), [theirs(_pil(image)) for image in images]) == 0


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_posterize_is_exact(bits: int) -> None:
    images = _batch()
    ours = image_ops.posterize(images, torch.full((6,), bits))
    assert _difference(ours, [ImageOps.posterize(_pil(image), bits) for image in images]) == 0


def test_posterize_to_zero_bits_is_black() -> None:
    assert image_ops.posterize(_batch(), torch.zeros(6, dtype=torch.int64)).max() == 0


@pytest.mark.parametrize("threshold", [0, 1, 100, 256])
def test_solarize_is_exact(threshold: int) -> None:
    images = _batch()
    ours = image_ops.solarize(images, torch.full((6,), threshold))
    assert _difference(ours, [ImageOps.solarize(_pil(image), threshold) for image in images]) == 0


def test_solarize_add_by_hand() -> None:
    images = torch.tensor([0, 10, 127, 128, 255], dtype=torch.uint8).view(1, 1, 1, 5)
    assert image_ops.solarize_add(images, torch.tensor([100])).flatten().tolist() == [100, 110, 227, 128, 255]


@pytest.mark.parametrize("factor", [0.1, 0.55, 1.0, 1.45, 1.9])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (image_ops.brightness, ImageEnhance.Brightness),
        (image_ops.contrast, ImageEnhance.Contrast),
        (image_ops.color, ImageEnhance.Color),
        (image_ops.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_within_one_step(ours: object, theirs: object, factor: float) -> None:
    images = _batch()
    result = ours(images, torch.full((6,), factor))  # type: ignore[operator]
    assert _difference(result, [theirs(_pil(image)).enhance(factor) for image in images]) <= 1  # type: ignore[operator]


def test_each_image_has_its_own_factor() -> None:
    images = torch.full((2, 3, 2, 2), 100, dtype=torch.uint8)
    assert image_ops.brightness(images, torch.tensor([0.5, 2.0]))[:, 0, 0, 0].tolist() == [50, 200]


_FILL = (10, 20, 30)


def _warp(matrix: tuple[float, ...]) -> Callable[[Image.Image], Image.Image]:
    def warp(image: Image.Image) -> Image.Image:
        kind = Image.Transform.AFFINE
        return image.transform(image.size, kind, matrix, Image.Resampling.BILINEAR, fillcolor=_FILL)

    return warp


@pytest.mark.parametrize(
    ("matrix", "value", "theirs"),
    [
        (image_ops.shear_x, 0.27, _warp((1, 0.27, 0, 0, 1, 0))),
        (image_ops.shear_y, -0.3, _warp((1, 0, 0, -0.3, 1, 0))),
        (image_ops.translate_x, 0.3, _warp((1, 0, 0.3 * 17, 0, 1, 0))),
        (image_ops.translate_y, -0.4, _warp((1, 0, 0, 0, 1, -0.4 * 13))),
        (image_ops.rotate, 27.0, lambda x: x.rotate(27.0, Image.Resampling.BILINEAR, fillcolor=_FILL)),
        (image_ops.rotate, -12.5, lambda x: x.rotate(-12.5, Image.Resampling.BILINEAR, fillcolor=_FILL)),
    ],
)
def test_warps_as_pillow(
    matrix: Callable[[torch.Tensor, int, int], torch.Tensor],
    value: float,
    theirs: Callable[[Image.Image], Image.Image],
) -> None:
    images = _batch(1)
    fill = torch.tensor(_FILL, dtype=torch.uint8)
    result = image_ops.affine(images, matrix(torch.full((6,), value), *images.shape[2:]), fill)
    assert _difference(result, [theirs(_pil(image)) for image in images]) <= 1
