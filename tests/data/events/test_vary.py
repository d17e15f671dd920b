"""Variations of event frames: what they may change, and that all frames of a sample change alike."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from evospike.data.events.vary import drop, flip, resize, roll
from evospike.data.keyed import Draws

COUNT, T, HEIGHT, WIDTH = 300, 10, 20, 24


def frames_of(count: int = COUNT, steps: int = T, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 4, (count, steps, 2, height, width), dtype=torch.uint8, generator=generator)


def draws_of(count: int = COUNT, epoch: int = 0) -> Draws:
    return Draws(3, epoch, torch.arange(count))


def test_flip_turns_whole_samples() -> None:
    frames = frames_of()
    varied = flip(frames, draws_of(), 0.5)
    flipped = (varied == frames.flip(-1)).flatten(1).all(1)
    kept = (varied == frames).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert 0.4 < flipped.float().mean() < 0.6
    assert torch.equal(flip(frames, draws_of(), 0.0), frames)
    assert torch.equal(flip(frames, draws_of(), 1.0), frames.flip(-1))


def test_roll_shifts_all_frames_of_a_sample_alike() -> None:
    frames = frames_of(height=7, width=9)
    varied = roll(frames, draws_of(), 2)
    seen: dict[tuple[int, int], int] = {}
    for sample, other in zip(frames, varied, strict=True):
        shifts = [
            (down, across)
            for down in range(-3, 4)
            for across in range(-3, 4)
            if torch.equal(sample.roll((down, across), (2, 3)), other)
        ]
        assert len(shifts) == 1
        seen[shifts[0]] = seen.get(shifts[0], 0) + 1
    assert set(seen) == {(down, across) for down in range(-2, 3) for across in range(-2, 3)}
    assert max(seen.values()) < 3 * COUNT / 25
    assert torch.equal(roll(frames, draws_of(), 0), frames)


def kinds(varied: torch.Tensor, whole: int) -> list[str]:
    """What was dropped of samples that had `whole` events in every place; fails where it is none of the three."""
    names = []
    for sample in varied:
        empty = sample == 0
        if not ((sample == whole) | empty).all():
            names.append("random")
        elif torch.equal(empty, (stretch := empty.flatten(1).all(1))[:, None, None, None].expand_as(empty)):
            places = stretch.nonzero()[:, 0]
            assert len(places) <= 9
            assert len(places) == 0 or places[-1] - places[0] == len(places) - 1
            names.append("time")
        else:
            area = empty[0, 0]
            rows, columns = area.any(1).nonzero()[:, 0], area.any(0).nonzero()[:, 0]
            rectangle = torch.zeros_like(area)
            rectangle[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
            assert torch.equal(empty, rectangle.expand_as(empty))
            assert len(rows) <= 0.25 * HEIGHT
            assert len(columns) <= 0.25 * WIDTH
            names.append("area")
    return names


def test_drop_is_one_of_three_kinds() -> None:
    frames = torch.full((COUNT, T, 2, HEIGHT, WIDTH), 20, dtype=torch.uint8)
    varied = drop(frames, draws_of(), 1.0)
    assert varied.dtype == torch.uint8
    names = kinds(varied, 20)
    assert all(70 < names.count(name) < 130 for name in ("time", "area", "random"))
    thinned = varied[torch.tensor([name == "random" for name in names])]
    # of 20 events in a place 2, 4, ... 18 stay
    assert (thinned == thinned[:, :1, :1, :1, :1]).all()
    assert sorted(set(thinned[:, 0, 0, 0, 0].tolist())) == list(range(2, 20, 2))


def test_thinning_drops_single_events_by_chance() -> None:
    frames = torch.full((COUNT, T, 2, HEIGHT, WIDTH), 20, dtype=torch.uint8)
    names = kinds(drop(frames, draws_of(), 1.0), 20)
    members = torch.tensor([name == "random" for name in names])
    share = 1.0 - drop(frames, draws_of(), 1.0)[members].float().mean((1, 2, 3, 4)) / 20
    for count in (1, 3):
        left = drop(torch.full_like(frames, count), draws_of(), 1.0)[members].float()
        wanted = count * (1.0 - share)
        assert (left >= wanted.floor()[:, None, None, None, None]).all()
        assert (left <= wanted.ceil()[:, None, None, None, None]).all()
        places = left[0].numel()
        assert ((left.mean((1, 2, 3, 4)) - wanted).abs() < 5 * 0.5 / places**0.5).all()


def test_drop_happens_with_its_chance() -> None:
    frames = frames_of()
    changed = (drop(frames, draws_of(), 0.4) != frames).flatten(1).any(1)
    assert 0.28 < changed.float().mean() < 0.46  # a stretch at the very end may hold no frame's middle
    assert torch.equal(drop(frames, draws_of(), 0.0), frames)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_sample_never_loses_all_its_events(steps: int) -> None:
    frames = frames_of(steps=steps, height=3, width=3) + 1
    assert drop(frames, draws_of(), 1.0).flatten(1).any(1).all()
    empty = torch.zeros_like(frames)
    assert torch.equal(drop(empty, draws_of(), 1.0), empty)


@pytest.mark.parametrize("name", ["flip", "roll", "drop"])
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    vary = {
        "flip": lambda frames, draws: flip(frames, draws, 0.5),
        "roll": lambda frames, draws: roll(frames, draws, 5),
        "drop": lambda frames, draws: drop(frames, draws, 0.8),
    }[name]
    frames, draws = frames_of(40), draws_of(40)
    together = vary(frames, draws)
    assert (together != vary(frames, draws_of(40, epoch=1))).any()
    order = torch.tensor([31, 4, 39, 4])
    assert torch.equal(vary(frames[order], draws.at(order)), together[order])
    assert torch.equal(vary(frames.float(), draws), together.float())
    for row in range(0, 40, 7):
        assert torch.equal(vary(frames[row : row + 1], draws.at(torch.tensor([row]))), together[row : row + 1])


def test_resize_scales_every_frame_by_itself() -> None:
    frames = frames_of(5)
    scaled = resize(frames, (11, 30))
    assert scaled.shape == (5, T, 2, 11, 30)
    assert scaled.dtype == torch.float32
    for sample in range(5):
        for step in range(0, T, 3):
            for polarity in range(2):
                one = frames[sample, step, polarity].float()[None, None]
                alone = F.interpolate(one, size=(11, 30), mode="bilinear", align_corners=False)[0, 0]
                assert torch.allclose(scaled[sample, step, polarity], alone, atol=1e-6)


def test_resize_to_the_same_size_gives_the_counts() -> None:
    frames = frames_of(5)
    assert torch.equal(resize(frames, (HEIGHT, WIDTH)), frames.float())
    moved = roll(frames, draws_of(5), 3)
    assert torch.equal(resize(moved, (11, 30)), resize(moved.contiguous(), (11, 30)))
