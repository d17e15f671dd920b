"""From `data.source` to recordings of an event camera."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from evospike.data.cache import stored_set
from evospike.data.digits import stored_digits
from evospike.data.events.folders import find_cifar10dvs, find_frames, find_nmnist, holds_frames
from evospike.data.events.gesture import find_gesture
from evospike.data.events.simulated import find_simulated
from evospike.data.events.source import FoundEvents
from evospike.data.events.tonic import find_tonic
from evospike.data.locate import data_folder, filled_folder, find, given_folder
from evospike.data.settings import SIMULATED, AugmentSettings, DataSettings

_DISTRIBUTED = {"cifar10dvs": find_cifar10dvs, "dvsgesture": find_gesture, "nmnist": find_nmnist}


def find_events(settings: DataSettings) -> FoundEvents:
    """Locate the data set of the settings, which is one of events.

    A set that is known by name may lie in its folder as distributed or as frames.
    Raises: DataError for a folder or file that is missing or empty; MissingExtra.
    """
    prefix, _, rest = settings.source.partition(":")
    if prefix in SIMULATED:
        return _simulated(prefix, settings)
    if prefix == "tonic":
        return find_tonic(rest, data_folder(settings.folder))
    if prefix == "frames":
        return find_frames(Path(rest).name, given_folder(settings), settings.events)
    folder = filled_folder(data_folder(settings.folder) / prefix)
    if holds_frames(folder):
        return find_frames(prefix, folder, settings.events)
    return _DISTRIBUTED[prefix](folder)


def _simulated(name: str, settings: DataSettings) -> FoundEvents:
    still = SIMULATED[name]
    if still == "digits":
        return find_simulated(name, partial(stored_digits, 0), "digits", "the shipped digits", settings.simulator)
    found = find(dataclasses.replace(settings, source=still, augment=AugmentSettings()))
    images = partial(stored_set, found, 0)
    return find_simulated(name, images, found.fingerprint, found.where, settings.simulator)
