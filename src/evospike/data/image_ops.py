"""Image operations on batches, equal to Pillow's on single images.

Every function takes uint8 images (B, C, H, W) with C = 1 or 3 and one parameter per image, (B,), and gives uint8
images of the same shape. Where Pillow truncates, so do these; tests compare the bytes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def _each(parameter: Tensor) -> Tensor:
    """One parameter per image, ready to meet (B, C, H, W)."""
    return parameter[:, None, None, None]


def _looked_up(images: Tensor, table: Tensor) -> Tensor:
    """Pixel values replaced through a table per image and channel: (B*C, 256)."""
    pixels = images.flatten(0, 1).flatten(1).long()
    return table.gather(1, pixels).to(torch.uint8).view_as(images)


def _histograms(images: Tensor) -> Tensor:
    """Counts of the 256 values per image and channel, int64 (B*C, 256)."""
    pixels = images.flatten(0, 1).flatten(1).long()
    counts = torch.zeros(len(pixels), 256, dtype=torch.int64, device=images.device)
    return counts.scatter_add_(1, pixels, torch.ones_like(pixels))


def _blended(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """degenerate + factor * (images - degenerate), clipped and truncated as `PIL.Image.blend`."""
    base = degenerate.float()
    return (base + _each(factor).float() * (images.float() - base)).clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Luma as Pillow's convert("L"), uint8 (B, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)[:, None]


def invert(images: Tensor) -> Tensor:
    """Negative."""
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the `bits` highest bits (int64, 0 to 8) of each value."""
    mask = (256 - (1 << (8 - bits))).to(torch.uint8)
    return images & _each(mask)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values from `threshold` (int64, 0 to 256) on."""
    return torch.where(images.int() >= _each(threshold), 255 - images, images)


def solarize_add(images: Tensor, added: Tensor) -> Tensor:
    """Add `added` (int64) to the values below 128."""
    raised = (images.int() + _each(added)).clamp_(max=255).to(torch.uint8)
    return torch.where(images < 128, raised, images)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel to 0..255."""
    flat = images.flatten(0, 1).flatten(1)
    low = flat.amin(1, keepdim=True).double()
    high = flat.amax(1, keepdim=True).double()
    scale = 255.0 / (high - low).clamp(min=1)
    values = torch.arange(256, dtype=torch.float64, device=images.device)
    stretched = (values * scale + -low * scale).trunc().clamp_(0, 255)
    return _looked_up(images, torch.where(high > low, stretched, values))


def equalize(images: Tensor) -> Tensor:
    """Flatten the histogram of each channel."""
    counts = _histograms(images)
    values = torch.arange(256, device=images.device)
    last = torch.where(counts > 0, values, -1).amax(1, keepdim=True)
    step = (counts.sum(1, keepdim=True) - counts.gather(1, last)) // 255
    before = counts.cumsum(1) - counts
    table = ((step // 2 + before) // step.clamp(min=1)).clamp_(max=255)
    return _looked_up(images, torch.where(step > 0, table, values))


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with black; factor 1 changes nothing."""
    return _blended(torch.zeros_like(images), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean grey; factor 1 changes nothing."""
    luma = grey(images)
    mean = luma.flatten(1).long().sum(1).double() / luma[0].numel()
    return _blended(_each((mean + 0.5).floor()), images, factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey image; factor 1 changes nothing."""
    return _blended(grey(images), images, factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed image (3x3, centre 5, sum 13, borders kept); factor 1 changes nothing."""
    height, width = images.shape[2:]
    if height < 3 or width < 3:
        return images
    whole = images.float()
    rows = whole[:, :, :-2] + whole[:, :, 1:-1] + whole[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4.0 * whole[:, :, 1:-1, 1:-1]
    whole[:, :, 1:-1, 1:-1] = (total / 13.0 + 0.5).floor()
    return _blended(whole, images, factor)


def affine(images: Tensor, matrix: Tensor, fill: Tensor) -> Tensor:
    """Bilinear warp: output pixel (x, y) shows the input at (ax + by + c, dx + ey + f), in pixels from the corner.

    Shapes: matrix (B, 6) = a..f as in `PIL.Image.transform`; fill (C,), uint8, for places outside the image.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) + 0.5
    y = torch.arange(height, device=images.device)[:, None] + 0.5
    a, b, c, d, e, f = (matrix[:, i, None, None] for i in range(6))
    # Written out: a batched matrix product may round differently from one batch size to the next.
    across, down = a * x + b * y + c, d * x + e * y + f
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    grid = torch.stack([across * (2.0 / width) - 1.0, down * (2.0 / height) - 1.0], dim=-1)
    moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    moved = (moved + 0.5).clamp_(0, 255).to(torch.uint8)
    return torch.where(inside[:, None], moved, fill[None, :, None, None])


def _identity(like: Tensor) -> Tensor:
    """Matrices (B, 6) that change nothing, for parameters (B,)."""
    return like.new_tensor([1, 0, 0, 0, 1, 0]).repeat(len(like), 1)


def shear_x(factor: Tensor, height: int, width: int) -> Tensor:
    """Matrix of `affine` that shifts each row by `factor` times its height below the top."""
    matrix = _identity(factor)
    matrix[:, 1] = factor
    return matrix


def shear_y(factor: Tensor, height: int, width: int) -> Tensor:
    """Matrix of `affine` that shifts each column by `factor` times its distance from the left."""
    matrix = _identity(factor)
    matrix[:, 3] = factor
    return matrix


def translate_x(fraction: Tensor, height: int, width: int) -> Tensor:
    """Matrix of `affine` that shifts left by a fraction of the width."""
    matrix = _identity(fraction)
    matrix[:, 2] = fraction * width
    return matrix


def translate_y(fraction: Tensor, height: int, width: int) -> Tensor:
    """Matrix of `affine` that shifts up by a fraction of the height."""
    matrix = _identity(fraction)
    matrix[:, 5] = fraction * height
    return matrix


def rotate(degrees: Tensor, height: int, width: int) -> Tensor:
    """Matrix of `affine` that turns anticlockwise about the centre."""
    angle = degrees * (-math.pi / 180.0)
    cos, sin = angle.cos(), angle.sin()
    shift_x = width / 2 - cos * (width / 2) - sin * (height / 2)
    shift_y = height / 2 + sin * (width / 2) - cos * (height / 2)
    return torch.stack([cos, sin, shift_x, -sin, cos, shift_y], dim=1)
