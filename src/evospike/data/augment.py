"""From stored images and event frames to batches that a network trains on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evospike.core.rng import stream
from evospike.data.crops import centre_crop, random_crop, resized_crop
from evospike.data.erase import cutout, random_erasing
from evospike.data.events import vary
from evospike.data.keyed import Draws
from evospike.data.mixing import mix
from evospike.data.randaugment import randaugment
from evospike.data.settings import AugmentSettings
from evospike.data.task import ImageSet, Task

# A training set up to this size is kept on the accelerator whole.
RESIDENT_BYTES = 2 << 30


def batch_order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the positions 0..count-1."""
    return stream(seed, "batches", epoch).permutation(count).astype(np.int64)


class Augmenter:
    """Makes training and evaluation batches of one task.

    Training batches are a pure function of (seed, epoch, position): neither the order of batches nor who else
    is in a batch changes a sample. Order of work: crop and flip, RandAugment (bytes, as Pillow), scale to 0..1
    and normalise, random erasing, cutout, mixup or cutmix.
    Event frames: flip, roll and drop, all frames of a sample alike, as stored; then scaled to the size that the network
    sees, cutout, mixup or cutmix. Their counts are not normalised.
    """

    def __init__(self, task: Task, settings: AugmentSettings, seed: int, train_set: ImageSet | None = None) -> None:
        """train_set: what positions refer to and mixing partners come from; task.train when None."""
        self.settings = settings
        self.seed = seed
        self.train_set = task.train if train_set is None else train_set
        self.classes = len(task.classes)
        self.size = task.shape[1:]
        self.frames = task.frames
        self._mean = torch.tensor(task.mean, dtype=torch.float32)
        self._std = torch.tensor(task.std, dtype=torch.float32)
        self._resident: dict[torch.device, Tensor] = {}

    def train_batch(
        self, positions: Tensor, epoch: int, device: torch.device | str = "cpu", channels_last: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Augmented images, float32 (B, C, H, W), and targets, for the samples at `positions`, int64 (B,).

        Event frames are float32 (T, B, 2, H, W); channels last then holds for the images of each step.
        Targets are int64 labels (B,), or soft labels float32 (B, classes) when mixup or cutmix is on.
        """
        device = torch.device(device)
        positions = positions.cpu()
        images, labels = self._single(positions, epoch, device)
        if self.settings.mixes:
            draws = self._draws(positions, epoch, device)
            partners = draws.on("cpu").whole("partner", len(self.train_set))[:, 0]
            alphas = self.settings.mixup, self.settings.cutmix
            images, labels = mix(images, labels, self._single(partners, epoch, device), draws, alphas, self.classes)
        return self._laid_out(images, channels_last), labels

    def eval_batch(self, images: Tensor, device: torch.device | str = "cpu", channels_last: bool = False) -> Tensor:
        """Stored images, uint8 (B, C, H, W), or frames, uint8 (B, T, 2, H, W), as `train_batch` gives them, unvaried.

        Of larger images the centre is taken; frames are scaled.
        """
        images = images.to(device)
        if self.frames:
            return self._laid_out(self._as_channels(images), channels_last)
        return self._laid_out(self._normalised(centre_crop(images, *self.size)), channels_last)

    def _single(self, positions: Tensor, epoch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Augmented images and labels before mixing; of frames (B, T*2, H, W), so that a box covers all of them."""
        images, labels = self._fetched(positions, device)
        if self.frames:
            return self._varied(images, self._draws(positions, epoch, device)), labels
        if self.settings.kind == "none":
            return self._normalised(centre_crop(images, *self.size)), labels
        draws = self._draws(positions, epoch, device)
        images = self._cropped(images, draws)
        if self.settings.kind == "strong":
            images = self._randaugmented(images, draws)
        return self._erased(self._normalised(images), draws), labels

    def _draws(self, positions: Tensor, epoch: int, device: torch.device) -> Draws:
        return Draws(self.seed, epoch, self.train_set.rows[positions].to(device))

    def _fetched(self, positions: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        labels = self.train_set.labels[positions].to(device)
        if device.type == "cpu" or self.train_set.images.nbytes > RESIDENT_BYTES:
            return self.train_set.take(positions)[0].to(device, non_blocking=True), labels
        if device not in self._resident:
            self._resident[device] = self.train_set.images.to(device)
        return self._resident[device][self.train_set.rows[positions].to(device)], labels

    def _varied(self, frames: Tensor, draws: Draws) -> Tensor:
        settings = self.settings
        if settings.kind == "none":
            return self._as_channels(frames)
        if settings.flip:
            frames = vary.flip(frames, draws, settings.flip)
        if settings.roll:
            frames = vary.roll(frames, draws, settings.roll)
        if settings.drop:
            frames = vary.drop(frames, draws, settings.drop)
        return self._erased(self._as_channels(frames), draws)

    def _as_channels(self, frames: Tensor) -> Tensor:
        """(B, T, 2, H, W) counts at the size that the network sees: float32 (B, T*2, H', W')."""
        return vary.resize(frames, self.size).flatten(1, 2)

    def _cropped(self, images: Tensor, draws: Draws) -> Tensor:
        settings = self.settings
        if settings.resized_crop:
            return resized_crop(images, draws, self.size, settings.flip)
        return random_crop(images, draws, self.size, settings.crop_padding, settings.flip)

    def _randaugmented(self, images: Tensor, draws: Draws) -> Tensor:
        fill = (self._mean * 255).round().to(images.device, torch.uint8)
        settings = self.settings
        return randaugment(images, draws, settings.randaugment_operations, settings.randaugment_magnitude, fill)

    def _erased(self, images: Tensor, draws: Draws) -> Tensor:
        if self.settings.kind == "strong" and self.settings.erasing > 0:
            images = random_erasing(images, draws, self.settings.erasing)
        if self.settings.cutout:
            images = cutout(images, draws, self.settings.cutout)
        return images

    def _normalised(self, images: Tensor) -> Tensor:
        scale = (1.0 / (255.0 * self._std)).to(images.device)[:, None, None]
        shift = (self._mean / self._std).to(images.device)[:, None, None]
        return images.to(torch.float32).mul_(scale).sub_(shift)

    def _laid_out(self, images: Tensor, channels_last: bool) -> Tensor:
        if not self.frames:
            return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        frames = images.view(len(images), self.frames, 2, *self.size).transpose(0, 1)
        if channels_last:
            return frames.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        return frames.contiguous()
