"""What is known of the named data sets before they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evospike.data.settings import SIMULATED, DataSettings, SimulatorSettings

Channels = tuple[float, ...]


@dataclass(frozen=True)
class Known:
    """Counts and the customary normalisation of a named data set.

    shape: of an image or a frame. split: what training and test split are, in words.
    mean, std: per channel, of values in 0..1; empty where they are measured from the training images.
    stored_size: side in pixels kept in the cache, 0 for the images' own.
    """

    classes: int
    train: int
    test: int
    shape: tuple[int, int, int]
    mean: Channels = ()
    std: Channels = ()
    stored_size: int = 0
    split: str = "official train/test"


# Source of the constants: methods reference 1.7. Training and test images share them.
_RECORDED: dict[str, Known] = {
    "digits": Known(10, 1438, 359, (1, 8, 8), split="stratified 80/20, fixed"),
    "cifar10": Known(10, 50_000, 10_000, (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Known(100, 50_000, 10_000, (3, 32, 32), (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": Known(
        1000,
        1_281_167,
        50_000,
        (3, 224, 224),
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        stored_size=256,
        split="official train/validation",
    ),
    "cifar10dvs": Known(10, 9000, 1000, (2, 128, 128), split="evospike 900/100 per class, seed 0"),
    "dvsgesture": Known(
        11, 1176, 288, (2, 128, 128), split="official lists (users 1 to 23 / 24 to 29), cut at the label intervals"
    ),
    "nmnist": Known(10, 60_000, 10_000, (2, 34, 34)),
}


def _simulated(images: Known) -> Known:
    side = SimulatorSettings().sensor
    return replace(images, shape=(2, side, side), mean=(), std=())


KNOWN: dict[str, Known] = {
    **_RECORDED,
    **{name: _simulated(_RECORDED[images]) for name, images in SIMULATED.items()},
}


def known_facts(settings: DataSettings) -> Known | None:
    """What is known of the data set of the settings, with the shape that a network sees; None of one without a name."""
    known = KNOWN.get(settings.source)
    if known is None:
        return None
    channels, height, width = known.shape
    if settings.source in SIMULATED:
        height = width = settings.simulator.sensor
    side = settings.image_size
    return replace(known, shape=(channels, side or height, side or width))


def cached_size(name: str, image_size: int) -> int:
    """Side in pixels of the stored images for a network that sees `image_size`; 0: as they are.

    ImageNet keeps a margin (256 for 224) for the centre crop at test time.
    """
    known = KNOWN.get(name)
    if known is None or not known.stored_size:
        return image_size
    return int(np.round((image_size or known.shape[1]) * known.stored_size / known.shape[1]))


def seen_size(name: str, image_size: int, stored: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what the network sees."""
    known = KNOWN.get(name)
    if known is None or not known.stored_size:
        return stored
    side = image_size or known.shape[1]
    return side, side
