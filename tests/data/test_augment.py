from __future__ import annotations

from typing import Any

import pytest
import torch

from evospike.data.augment import Augmenter, batch_order
from evospike.data.settings import AugmentSettings

KINDS = {
    "none": AugmentSettings(kind="none"),
    "basic": AugmentSettings(cutout=5),
    "strong": AugmentSettings(kind="strong"),
    "mixed": AugmentSettings(mixup=0.2, cutmix=1.0),
    "resized": AugmentSettings(resized_crop=True),
}


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
