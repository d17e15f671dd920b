"""Settings of data sets and their augmentation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evospike.core.settings import Settings, choose, require

EVENT_NAMED = ("cifar10dvs", "dvsgesture", "nmnist")
"""Recordings of event cameras that are known by name."""

SIMULATED = {"digits-events": "digits", "cifar10-events": "cifar10"}
"""Sources made by the event-camera simulator, and the images that it films."""

DIRECTED = ("digits-events", "nmnist", "dvsgesture", "tonic:NMNIST", "tonic:DVSGesture")
"""Recordings whose label a mirror would change; images are up to the recipe."""

EVENT_PREFIXES = ("frames", "tonic")

NAMED = ("digits", "cifar10", "cifar100", "imagenet", *EVENT_NAMED, *SIMULATED)
PREFIXES = ("hub", "parquet", "imagefolder", *EVENT_PREFIXES)
PLACED = ("parquet", "imagefolder", "frames")
"""Prefixes in front of a folder."""


LARGEST_SIDE = 4096
"""Of an image that a network sees, in pixels."""

_LARGEST = {"crop_padding": LARGEST_SIDE, "cutout": LARGEST_SIDE, "roll": LARGEST_SIDE, "randaugment_operations": 100}


@dataclass(frozen=True)
class AugmentSettings(Settings):
    """How training images are varied; validation and test images never are.

    kind: `none`: nothing at all; `basic`: crop and flip; `strong`: basic + RandAugment + random erasing.
    crop_padding: zero pixels added on each side before the random crop.
    flip: probability of a left-right flip; set 0 where direction is the label (digits).
    cutout: side in pixels of one zeroed square, 0 for none. mixup, cutmix: alpha of Beta(alpha, alpha), 0 for
    off; with both on, each sample takes one of them with equal chance.
    erasing: probability of erasing a rectangle with noise (only `strong`).
    randaugment_operations, randaugment_magnitude: operations per image and their strength in [0, 10] (only
    `strong`). The defaults are timm's `rand-m9-mstd0.5-inc1`.
    resized_crop: a random part of the image, 8 to 100 % of its area, scaled to full size, in place of the
    padded crop (ImageNet).
    Of recordings, all frames alike: kind `basic` flips, rolls and drops; crop, RandAugment and erasing are for images.
    roll: at most so many pixels up, down, left and right, wrapping around. drop: chance that a sample loses events: of
    a stretch of time, of an area, or at random (EventDrop).
    """

    kind: Literal["none", "basic", "strong"] = "basic"
    crop_padding: int = 4
    flip: float = 0.5
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    erasing: float = 0.25
    randaugment_operations: int = 2
    randaugment_magnitude: float = 9.0
    resized_crop: bool = False
    roll: int = 0
    drop: float = 0.0

    def validate(self) -> None:
        for name in ("flip", "erasing", "drop"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"augment.{name} is a probability, given {value}; use 0 to 1")
        for name in ("crop_padding", "cutout", "randaugment_operations", "mixup", "cutmix", "roll"):
            value = getattr(self, name)
            require(value >= 0, f"augment.{name} cannot be negative, given {value}; use 0 to turn it off")
        for name, most in _LARGEST.items():
            value = getattr(self, name)
            require(value <= most, f"augment.{name} is at most {most}, given {value}")
        magnitude = self.randaugment_magnitude
        require(0 <= magnitude <= 10, f"augment.randaugment_magnitude is 0 to 10, given {magnitude}")

    @property
    def mixes(self) -> bool:
        """Whether targets become soft labels (mixup or cutmix is on)."""
        return self.kind != "none" and (self.mixup > 0 or self.cutmix > 0)


@dataclass(frozen=True)
class EventSettings(Settings):
    """How recordings of an event camera become frames, one per time step of the network.

    frames: T. split: frames of equal `number` of events, of equal `time`, or of `duration_ms` each, of which the first
    T are taken (a shorter recording ends in empty frames).
    """

    frames: int = 10
    split: Literal["number", "time", "duration"] = "number"
    duration_ms: float = 50.0

    def validate(self) -> None:
        require(1 <= self.frames <= 1000, f"events.frames is 1 to 1000, given {self.frames}")
        require(0.001 <= self.duration_ms <= 1e6, f"events.duration_ms is 0.001 to 1e6, given {self.duration_ms}")

    def check_effect(self) -> None:
        """Refuse a duration of frames that are cut otherwise. Raises: SettingsError."""
        usual = EventSettings().duration_ms
        require(
            self.split == "duration" or self.duration_ms == usual,
            f"data.events.duration_ms is {self.duration_ms:g}, without effect on frames of equal {self.split}; set "
            f"data.events.split=duration, or leave it at {usual:g}",
        )


MOST_SAMPLES = 100_000_000
"""Intensities, and events of noise, of one simulated recording."""


@dataclass(frozen=True)
class SimulatorSettings(Settings):
    """A simulated event camera that films a moving static image.

    sensor: side of the square sensor in pixels. shift: pixels that the image moves in x and in y along each diagonal of
    its closed path of four. loops: how often the path is run through. loop_ms: time of one loop. samples: intensities
    taken per loop. threshold: change of log intensity that makes a pixel fire; threshold_spread: standard deviation of
    the threshold from pixel to pixel. noise_hz: events per pixel and second that no change caused.
    """

    sensor: int = 48
    shift: float = 4.0
    loops: int = 3
    loop_ms: float = 200.0
    samples: int = 32
    threshold: float = 0.3
    threshold_spread: float = 0.03
    noise_hz: float = 0.1

    def validate(self) -> None:
        limits = {
            "sensor": (4, 1024),
            "shift": (1e-9, 1024),
            "loops": (1, 1000),
            "loop_ms": (1, 1e6),
            "samples": (4, 10_000),
            "threshold": (0.01, 10),
            "threshold_spread": (0, 10),
            "noise_hz": (0, 1e4),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            require(least <= value <= most, f"simulator.{name} is {least:g} to {most:g}, given {value:g}")
        pixels, seconds = self.sensor**2, self.loops * self.loop_ms / 1000
        require(
            pixels * self.loops * self.samples <= MOST_SAMPLES and pixels * seconds * self.noise_hz <= MOST_SAMPLES,
            "simulator: a recording of that sensor, loops, samples and noise does not fit in memory; lower one of them",
        )


@dataclass(frozen=True)
class DataSettings(Settings):
    """Which data set, and how it is split.

    source: `digits` (shipped), `cifar10`, `cifar100`, `imagenet` (found in folder/NAME), `parquet:DIR`,
    `imagefolder:DIR` or `hub:ID` (`hub:OWNER/NAME` or `hub:OWNER/NAME/CONFIG`); of event cameras `cifar10dvs`,
    `dvsgesture`, `nmnist` (found in folder/NAME), `frames:DIR` (folders of frames as SpikingJelly writes them) and
    `tonic:NAME`; or `digits-events`, `cifar10-events`, which a simulator makes of the images.
    events: how recordings become frames. simulator: of simulated sources.
    folder: where local copies lie; empty: the environment variable EVOSPIKE_DATA. A relative DIR is looked for there
    first.
    image_size: side in pixels of what the network sees; 0: as stored (ImageNet: 224).
    label_column: parquet and hub only; empty: `label`, else `fine_label`.
    validation: fraction of the training images held out, per class.
    test_share: fraction of a source without a test split that becomes one, per class, the same under every seed.
    train_limit, test_limit: at most this many images, chosen per class, 0 for all; the training limit counts
    training and validation images together.
    """

    source: str = "digits"
    folder: str = ""
    image_size: int = 0
    label_column: str = ""
    validation: float = 0.1
    test_share: float = 0.2
    train_limit: int = 0
    test_limit: int = 0
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    events: EventSettings = field(default_factory=EventSettings)
    simulator: SimulatorSettings = field(default_factory=SimulatorSettings)

    @property
    def records_events(self) -> bool:
        """Whether samples are recordings, shown as one frame per time step."""
        prefix = self.source.partition(":")[0]
        return prefix in (*EVENT_NAMED, *SIMULATED, *EVENT_PREFIXES)

    @property
    def place(self) -> Path | None:
        """The folder that the source names, as it is written; None for a source by another name."""
        prefix, _, rest = self.source.partition(":")
        return Path(rest).expanduser() if prefix in PLACED else None

    @property
    def title(self) -> str:
        """The source as people are told of it before it is opened: of a folder, its name without the path to it."""
        return self.source if self.place is None else f"{self.source.partition(':')[0]}:{self.place.name}"

    def validate(self) -> None:
        prefix, colon, rest = self.source.partition(":")
        if colon:
            choose("data source", prefix, {name: name for name in PREFIXES})
            require(rest.strip() != "", f"data source '{self.source}' names nothing; write {prefix}:WHERE")
        else:
            choose("data source", prefix, {name: name for name in (*NAMED, *PREFIXES)})
            require(prefix not in PREFIXES, f"data source '{prefix}' needs a place; write {prefix}:WHERE")
        held = self.validation
        require(0.0 <= held < 1.0, f"data.validation is a fraction below 1, given {held}; try 0.1")
        share = self.test_share
        require(0.0 < share < 1.0, f"data.test_share is a fraction above 0 and below 1, given {share}; try 0.2")
        size = self.image_size
        require(size == 0 or 4 <= size <= LARGEST_SIDE, f"data.image_size is 0 or 4 to {LARGEST_SIDE}, given {size}")
        for name in ("train_limit", "test_limit"):
            value = getattr(self, name)
            require(value >= 0, f"data.{name} cannot be negative, given {value}; use 0 for all images")
        self._check_augmentation()

    def _check_augmentation(self) -> None:
        """What is made for images is refused for recordings, and the other way round."""
        augment = self.augment
        if self.records_events:
            unfit = {"augment.kind 'strong'": augment.kind == "strong", "augment.resized_crop": augment.resized_crop}
            of, instead = "images", "use kind 'basic' with flip, roll and drop"
        else:
            unfit = {"augment.roll": augment.roll > 0, "augment.drop": augment.drop > 0}
            of, instead = "recordings of event cameras", "set it to 0"
        for name, wanted in unfit.items():
            require(not wanted, f"{name} is for {of}, the data source is '{self.source}'; {instead}")
