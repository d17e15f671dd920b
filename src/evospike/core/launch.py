"""Whether this process is one of several that `torchrun` started to train one network together. Imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from evospike.core.errors import EvospikeError, SettingsError
from evospike.core.progress import tell
from evospike.core.text import harmless

TRAINING = ("train", "resume", "replay")
"""Commands that several processes can carry out together."""

REFUSED = 2
"""Exit code for bad input and for runs that cannot go on."""


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


def end_process(launch: Launch, error: EvospikeError) -> NoReturn:
    """End this process from any of its threads, with the line and the exit code that the error gives a command."""
    with suppress(OSError, ValueError):
        if launch.rank == 0:
            print(f"evospike: {harmless(str(error))}", file=sys.stderr, flush=True)
        else:
            tell(as_said_by(launch, error))
    os._exit(REFUSED)


def as_said_by(launch: Launch, error: EvospikeError) -> str:
    """What a process other than the first says of an error."""
    return f"process {launch.rank} of {launch.size}: {error}"
