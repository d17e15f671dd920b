from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from evospike.core.errors import SettingsError
from evospike.data.augment import Augmenter, batch_order
from evospike.data.settings import AugmentSettings, DataSettings
from evospike.data.task import ImageSet, Task
from evospike.layers.spiking import merge_time

KINDS = {
    "none": AugmentSettings(kind="none"),
    "basic": AugmentSettings(cutout=5),
    "strong": AugmentSettings(kind="strong"),
    "mixed": AugmentSettings(mixup=0.2, cutmix=1.0),
    "resized": AugmentSettings(resized_crop=True),
}
EVENT_KINDS = {
    "none": AugmentSettings(kind="none"),
    "basic": AugmentSettings(roll=3, drop=0.7),
    "boxes": AugmentSettings(roll=2, cutout=4, mixup=0.2, cutmix=1.0),
}


def event_task(count: int = 40, steps: int = 5, size: int = 10, seen: int = 0) -> Task:
    """A task of random frames in memory."""
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(0, 6, (count, steps, 2, size, size), dtype=torch.uint8, generator=generator)
    everything = ImageSet.of(frames, torch.arange(count) % 4)
    train, validation = everything.subset(torch.arange(3, count)), everything.subset(torch.arange(3))
    shape = (2, seen or size, seen or size)
    names = tuple(f"class {i}" for i in range(4))
    return Task("random", names, shape, (0.0, 0.0), (1 / 255, 1 / 255), train, validation, frames=steps)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_does_not_depend_on_its_batch(image_task: Any, kind: str) -> None:
    augmenter = Augmenter(image_task(), KINDS[kind], seed=3)
    together, targets = augmenter.train_batch(torch.arange(37), 2)
    order = torch.tensor([20, 4, 36, 4])
    other, other_targets = augmenter.train_batch(order, 2)
    assert torch.allclose(other, together[order], atol=1e-6)
    assert torch.allclose(other_targets, targets[order])
    for position in range(0, 37, 6):
        alone, target = augmenter.train_batch(torch.tensor([position]), 2)
        assert torch.allclose(alone[0], together[position], atol=1e-6)
        assert torch.allclose(target[0], targets[position])


@pytest.mark.parametrize("kind", ["basic", "strong", "mixed", "resized"])
def test_seed_and_epoch_matter_and_repeat(image_task: Any, kind: str) -> None:
    task, positions = image_task(), torch.arange(30)
    batch = Augmenter(task, KINDS[kind], 0).train_batch(positions, 0)[0]
    assert torch.equal(batch, Augmenter(task, KINDS[kind], 0).train_batch(positions, 0)[0])
    for seed, epoch in ((1, 0), (0, 1)):
        other = Augmenter(task, KINDS[kind], seed).train_batch(positions, epoch)[0]
        assert (batch != other).flatten(1).any(1).float().mean() > 0.8


def test_keyed_by_row_not_by_position(image_task: Any) -> None:
    task = image_task()
    part = task.train.subset(torch.tensor([9, 30]))
    whole = Augmenter(task, KINDS["strong"], 0).train_batch(torch.tensor([9, 30]), 0)[0]
    assert torch.equal(Augmenter(task, KINDS["strong"], 0, part).train_batch(torch.arange(2), 0)[0], whole)


def test_none_and_eval_only_normalise(image_task: Any) -> None:
    task = image_task()
    augmenter = Augmenter(task, KINDS["none"], 0)
    images, labels = task.train.take(torch.arange(5))
    mean, std = torch.tensor(task.mean)[:, None, None], torch.tensor(task.std)[:, None, None]
    expected = (images.float() / 255 - mean) / std
    assert torch.allclose(augmenter.eval_batch(images), expected, atol=1e-6)
    batch, targets = augmenter.train_batch(torch.arange(5), 0)
    assert torch.allclose(batch, expected, atol=1e-6)
    assert torch.equal(targets, labels)
    assert targets.dtype == torch.int64


def test_every_basic_sample_is_a_shifted_original(image_task: Any) -> None:
    task = image_task()
    augmenter = Augmenter(task, AugmentSettings(crop_padding=1, flip=0.0), 0)
    batch = augmenter.train_batch(torch.arange(37), 0)[0]
    inner = augmenter.eval_batch(task.train.take(torch.arange(37))[0])[:, :, 1:-1, 1:-1]
    windows = batch.unfold(2, 14, 1).unfold(3, 14, 1).flatten(2, 3)
    assert (windows == inner[:, :, None]).flatten(3).all(3).all(1).any(1).all()


def test_soft_labels_weigh_the_partner(image_task: Any) -> None:
    augmenter = Augmenter(image_task(count=400), AugmentSettings(mixup=1.0), 0)
    _, targets = augmenter.train_batch(torch.arange(300), 0)
    assert targets.shape == (300, 4)
    assert torch.allclose(targets.sum(1), torch.ones(300))
    own = targets.gather(1, augmenter.train_set.labels[:300, None])[:, 0]
    # share uniform, and a quarter of the partners has the same class: 1/2 + 1/2 * 1/4
    assert abs(own.mean() - 0.625) < 0.06


def test_larger_stored_images_are_cropped(image_task: Any) -> None:
    task = image_task(size=16, seen=12)
    augmenter = Augmenter(task, AugmentSettings(resized_crop=True), 0)
    assert augmenter.train_batch(torch.arange(3), 0)[0].shape == (3, 3, 12, 12)
    images = task.train.take(torch.arange(3))[0]
    full = Augmenter(image_task(size=16), AugmentSettings(), 0).eval_batch(images)
    assert torch.equal(augmenter.eval_batch(images), full[:, :, 2:14, 2:14])


def test_channels_last_changes_only_the_layout(image_task: Any) -> None:
    augmenter = Augmenter(image_task(), KINDS["strong"], 0)
    plain, _ = augmenter.train_batch(torch.arange(4), 0)
    last, _ = augmenter.train_batch(torch.arange(4), 0, channels_last=True)
    assert torch.equal(plain, last)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_grey_images(image_task: Any) -> None:
    augmenter = Augmenter(image_task(channels=1), KINDS["strong"], 0)
    assert augmenter.train_batch(torch.arange(30), 0)[0].isfinite().all()


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_a_recording_does_not_depend_on_its_batch(kind: str) -> None:
    augmenter = Augmenter(event_task(seen=8), EVENT_KINDS[kind], seed=3)
    together, targets = augmenter.train_batch(torch.arange(37), 2)
    assert together.shape == (5, 37, 2, 8, 8)
    assert together.dtype == torch.float32
    order = torch.tensor([20, 4, 36, 4])
    other, other_targets = augmenter.train_batch(order, 2)
    assert torch.allclose(other, together[:, order], atol=1e-6)
    assert torch.allclose(other_targets, targets[order])
    for position in range(0, 37, 6):
        alone, _ = augmenter.train_batch(torch.tensor([position]), 2)
        assert torch.allclose(alone[:, 0], together[:, position], atol=1e-6)


@pytest.mark.parametrize("kind", ["basic", "boxes"])
def test_seed_and_epoch_matter_to_recordings(kind: str) -> None:
    task, positions = event_task(), torch.arange(30)
    batch = Augmenter(task, EVENT_KINDS[kind], 0).train_batch(positions, 0)[0]
    assert torch.equal(batch, Augmenter(task, EVENT_KINDS[kind], 0).train_batch(positions, 0)[0])
    for seed, epoch in ((1, 0), (0, 1)):
        other = Augmenter(task, EVENT_KINDS[kind], seed).train_batch(positions, epoch)[0]
        assert (batch != other).transpose(0, 1).flatten(1).any(1).float().mean() > 0.8


def test_unvaried_recordings_are_their_counts() -> None:
    task = event_task()
    augmenter = Augmenter(task, EVENT_KINDS["none"], 0)
    frames, labels = task.train.take(torch.arange(6))
    expected = frames.float().transpose(0, 1)
    assert torch.equal(augmenter.eval_batch(frames), expected)
    batch, targets = augmenter.train_batch(torch.arange(6), 0)
    assert torch.equal(batch, expected)
    assert torch.equal(targets, labels)


def test_frames_are_scaled_to_what_the_network_sees() -> None:
    task = event_task(seen=7)
    frames, _ = task.train.take(torch.arange(6))
    batch = Augmenter(task, EVENT_KINDS["basic"], 0).eval_batch(frames)
    for step in range(5):
        alone = F.interpolate(frames[:, step].float(), size=(7, 7), mode="bilinear", align_corners=False)
        assert torch.allclose(batch[step], alone, atol=1e-6)


def test_basic_recordings_are_flipped_and_rolled_originals() -> None:
    task = event_task(count=12, size=6)
    batch, _ = Augmenter(task, AugmentSettings(flip=0.5, roll=1), 0).train_batch(torch.arange(9), 0)
    frames, _ = task.train.take(torch.arange(9))
    moves = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    for position, frame in enumerate(frames.float()):
        places = [seen.roll(move, (2, 3)) for seen in (frame, frame.flip(-1)) for move in moves]
        assert sum(torch.equal(batch[:, position], place) for place in places) == 1


@pytest.mark.parametrize(
    "settings", [AugmentSettings(flip=0.0, cutout=4), AugmentSettings(flip=0.0, cutmix=1.0)], ids=["cutout", "cutmix"]
)
def test_one_box_covers_all_frames(settings: AugmentSettings) -> None:
    task = event_task()
    frames = torch.arange(1, 41, dtype=torch.uint8)[:, None, None, None, None].expand(40, 5, 2, 10, 10).contiguous()
    train = ImageSet.of(frames, task.train.labels.new_zeros(40))
    batch, _ = Augmenter(task, settings, 0, train).train_batch(torch.arange(40), 0)
    assert torch.equal(batch, batch[:1, :, :1].expand_as(batch))
    inside = batch[0, :, 0] != torch.arange(1.0, 41.0)[:, None, None]
    assert inside.flatten(1).any(1).float().mean() > 0.5
    assert torch.equal(inside, inside.any(2, keepdim=True) & inside.any(1, keepdim=True))


def test_soft_labels_of_recordings_weigh_the_partner() -> None:
    augmenter = Augmenter(event_task(), AugmentSettings(kind="basic", flip=0.0, mixup=1.0), 0)
    batch, targets = augmenter.train_batch(torch.arange(37), 0)
    assert torch.allclose(targets.sum(1), torch.ones(37))
    single = Augmenter(event_task(), EVENT_KINDS["none"], 0).train_batch(torch.arange(37), 0)[0]
    moved = (batch - single).transpose(0, 1).flatten(1).abs().amax(1) > 1e-6
    mixed = targets.amax(1) < 1 - 1e-6
    assert mixed.sum() > 15
    assert (moved | ~mixed).all()


def test_steps_merge_into_the_batch_without_a_copy() -> None:
    augmenter = Augmenter(event_task(seen=8), EVENT_KINDS["boxes"], 0)
    plain, _ = augmenter.train_batch(torch.arange(4), 0)
    last, _ = augmenter.train_batch(torch.arange(4), 0, channels_last=True)
    assert torch.equal(plain, last)
    for frames, layout in ((plain, torch.contiguous_format), (last, torch.channels_last)):
        merged = merge_time(frames)
        assert merged.data_ptr() == frames.data_ptr()
        assert merged.is_contiguous(memory_format=layout)
        assert torch.equal(merged, frames.flatten(0, 1))


@pytest.mark.parametrize(
    ("source", "augment", "message"),
    [
        (
            "digits-events",
            AugmentSettings(kind="strong"),
            r"augment.kind 'strong' is for images, .* 'digits-events'; use",
        ),
        ("frames:here", AugmentSettings(resized_crop=True), "augment.resized_crop is for images"),
        (
            "digits",
            AugmentSettings(roll=2),
            "augment.roll is for recordings of event cameras, .* 'digits'; set it to 0",
        ),
        ("cifar10", AugmentSettings(drop=0.5), "augment.drop is for recordings of event cameras"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(source: str, augment: AugmentSettings, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DataSettings(source=source, augment=augment)


def test_batch_order() -> None:
    order = batch_order(100, 0, 0)
    assert sorted(order.tolist()) == list(range(100))
    assert order.tolist() == batch_order(100, 0, 0).tolist()
    assert order.tolist() != batch_order(100, 0, 1).tolist()
    assert order.tolist() != batch_order(100, 1, 0).tolist()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_same_batch_on_the_accelerator(image_task: Any, kind: str) -> None:
    augmenter = Augmenter(image_task(), KINDS[kind], 0)
    here, targets = augmenter.train_batch(torch.arange(37), 0)
    there, there_targets = augmenter.train_batch(torch.arange(37), 0, "cuda")
    # a byte may round the other way in a warp
    assert (here - there.cpu()).abs().quantile(0.99) < 1e-4
    assert torch.allclose(targets.float(), there_targets.cpu().float(), atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_same_recordings_on_the_accelerator(kind: str) -> None:
    augmenter = Augmenter(event_task(seen=8), EVENT_KINDS[kind], 0)
    here, targets = augmenter.train_batch(torch.arange(37), 0)
    there, there_targets = augmenter.train_batch(torch.arange(37), 0, "cuda")
    assert torch.allclose(here, there.cpu(), atol=1e-4)
    assert torch.allclose(targets.float(), there_targets.cpu().float(), atol=1e-5)
