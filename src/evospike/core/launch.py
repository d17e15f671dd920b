"""Whether this process is one of several that `torchrun` started to train one network together. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from evospike.core.errors import SettingsError

TRAINING = ("train", "resume", "replay")
"""Commands that several processes can carry out together."""


@dataclass(frozen=True)
class Launch:
    """rank: number of this process, from 0; local_rank: on its machine. size: how many there are."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1


def launched(environment: Mapping[str, str] = os.environ) -> Launch:
    """How this process was started: as one of several where `torchrun` says so in the environment, else by itself."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return Launch()
    try:
        rank, local_rank, size = (int(environment[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    except (KeyError, ValueError):
        return Launch()
    return Launch(rank, local_rank, size)


def check_launch(launch: Launch, command: str) -> None:
    """Refuse a command that several processes would each carry out. Raises: SettingsError."""
    if launch.size > 1 and command not in TRAINING:
        raise SettingsError(
            f"torchrun started {launch.size} processes, but '{command}' is for one (several can share the training of "
            "'train'); start it without torchrun"
        )
