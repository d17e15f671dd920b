"""Variations of event frames, uint8 or float counts (B, T, 2, H, W); all frames of a sample are varied alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evospike.data.erase import span
from evospike.data.keyed import Draws

TIME_TENTHS = (1, 9)
"""What `drop` removes of the recording's length, in tenths."""

AREA_TWENTIETHS = (1, 5)
"""Sides of the rectangle that `drop` empties, in twentieths of the sensor's."""

EVENT_TENTHS = (1, 9)
"""What `drop` removes of the events when it takes them at random, in tenths."""


def flip(frames: Tensor, draws: Draws, chance: float) -> Tensor:
    """Left to right, with the given chance."""
    flipped = draws.chance("flip", chance)[:, None, None, None, None]
    return torch.where(flipped, frames.flip(-1), frames)


def roll(frames: Tensor, draws: Draws, pixels: int) -> Tensor:
    """Shifted by at most so many pixels up or down and left or right; what leaves comes in at the other side.

    Source: the TET code (Deng et al. 2022, arXiv 2202.11946), 5 pixels on frames of 48x48.
    """
    height, width = frames.shape[3:]
    down = draws.whole("roll down", 2 * pixels + 1) - pixels
    across = draws.whole("roll across", 2 * pixels + 1) - pixels
    rows = (torch.arange(height, device=frames.device) - down) % height
    columns = (torch.arange(width, device=frames.device) - across) % width
    batch = torch.arange(len(frames), device=frames.device)[:, None, None]
    # Indexed with time and polarity last, so that each index moves a whole pixel.
    moved = frames.permute(0, 3, 4, 1, 2)[batch, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 4, 1, 2)


def drop(frames: Tensor, draws: Draws, chance: float) -> Tensor:
    """EventDrop, with the given chance: the events of a stretch of time, of an area, or at random; each as likely.

    A stretch is 10 to 90 % of the length from a random start, cut at the end; an area is a rectangle about a random
    centre with sides of 5 to 25 % of the sensor's; at random go 10 to 90 % of the events. A sample that would lose all
    its events keeps them. Source: Gu et al. 2021 (arXiv 2106.05836), ranges as in their code; `chance` is 0.75 there.
    Different here: a frame goes when its middle lies in the stretch; only the rectangle is emptied, not the rows and
    columns through it.
    """
    members = draws.chance("drop", chance).nonzero()[:, 0]
    if len(members) == 0:
        return frames
    some, drawn = frames[members], draws.at(members)
    kind = drawn.whole("drop kind", 3)[:, 0]
    left = some.clone()
    for number, dropped in enumerate((_without_time, _without_area, _thinned)):
        chosen = (kind == number).nonzero()[:, 0]
        left[chosen] = dropped(some[chosen], drawn.at(chosen))
    emptied = (left.flatten(1).amax(1) == 0)[:, None, None, None, None]
    return frames.index_copy(0, members, torch.where(emptied, some, left))


def _between(draws: Draws, purpose: str, bounds: tuple[int, int]) -> Tensor:
    """A whole number between the bounds, both included: int64 (B, 1)."""
    low, high = bounds
    return low + draws.whole(purpose, high - low + 1)


def _without_time(frames: Tensor, draws: Draws) -> Tensor:
    start = draws.uniform("drop start")
    end = start + _between(draws, "drop length", TIME_TENTHS) / 10
    middle = (torch.arange(frames.shape[1], device=frames.device) + 0.5) / frames.shape[1]
    return frames.masked_fill(((middle >= start) & (middle < end))[:, :, None, None, None], 0)


def _without_area(frames: Tensor, draws: Draws) -> Tensor:
    share = _between(draws, "drop side", AREA_TWENTIETHS)[:, 0] / 20
    down = _side(draws, "drop down", share, frames.shape[3])
    across = _side(draws, "drop across", share, frames.shape[4])
    return frames.masked_fill((down[:, :, None] & across[:, None, :])[:, None, None], 0)


def _side(draws: Draws, purpose: str, share: Tensor, size: int) -> Tensor:
    """The places of one axis inside the rectangle, at least one: bool (B, size)."""
    length = (share * size).round().clamp(min=1)
    return span(draws.whole(purpose, size)[:, 0] - (length / 2).floor(), length, size)


def _thinned(frames: Tensor, draws: Draws) -> Tensor:
    """Of n events in a place so many tenths stay, the rest of the division rounded up or down by chance."""
    kept = 10 - _between(draws, "drop tenths", EVENT_TENTHS)[:, :, None, None, None]
    rounding = draws.whole("drop events", 10, frames.shape[1:].numel()).view_as(frames)
    return ((frames * kept + rounding) // 10).to(frames.dtype)


def resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Counts (B, T, 2, H, W) scaled to float32 (B, T, 2, *size) by bilinear interpolation, align_corners=False."""
    counts = frames.to(torch.float32)
    if counts.shape[3:] == size:
        return counts
    scaled = F.interpolate(counts.flatten(1, 2), size=size, mode="bilinear", align_corners=False)
    return scaled.reshape(*counts.shape[:3], *size)
