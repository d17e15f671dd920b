"""Checkpoints: a pair of safetensors files per saved step, weights and training state.

Each file is written atomically and carries a checksum; the state names the checksum of the weights it belongs to. The
previous pair is kept, so that a damaged newest pair costs one checkpoint, not the training.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evospike.core.errors import CheckpointError
from evospike.core.files import leftovers_in, load_tensors, parse_json, save_tensors

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(r"step-(\d{9})\.state\.safetensors")
KEPT_PAIRS = 2


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from: weights, state tensors and a JSON record."""

    weights: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    record: Mapping[str, Any]


def save_checkpoint(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Write a pair for a step and drop all but it and the one before; newer ones were damaged, and passed over.

    Raises: OSError from the operating system; earlier pairs are then still whole.
    """
    weights_path, state_path = _paths(folder, step)
    checksum = save_tensors(weights_path, checkpoint.weights)
    record = json.dumps(checkpoint.record, allow_nan=False)
    save_tensors(state_path, checkpoint.state, {"record": record, "weights": checksum})
    steps = saved_steps(folder)
    upto = steps.index(step) + 1
    for other in [*steps[: max(upto - KEPT_PAIRS, 0)], *steps[upto:]]:
        for path in _paths(folder, other):
            with contextlib.suppress(OSError):
                path.unlink()


def discard_leftovers(folder: Path) -> None:
    """Remove what writes that were cut off have left; for the one process that trains in this folder."""
    for path in leftovers_in(folder):
        with contextlib.suppress(OSError):
            path.unlink()


def load_checkpoint(folder: Path) -> tuple[Checkpoint, list[str]] | None:
    """The newest whole pair, and a line for every newer pair that had to be passed over; None when there is none.

    Raises: CheckpointError when there are pairs but all of them are damaged.
    """
    passed_over: list[str] = []
    for step in reversed(saved_steps(folder)):
        try:
            return _load_pair(folder, step), passed_over
        except CheckpointError as error:
            passed_over.append(f"checkpoint of step {step} passed over: {error}")
    if passed_over:
        raise CheckpointError(
            f"no whole checkpoint in {folder}: {passed_over[0]}; delete its files to train from the start"
        )
    return None


def saved_steps(folder: Path) -> list[int]:
    """Steps with a state file, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def saved_record(folder: Path) -> dict[str, Any] | None:
    """The JSON record of the newest checkpoint that can be read, None where there is none; imports no torch.

    For showing how far a training is, also while it goes on: headers are read alone and no checksum is verified.
    """
    from safetensors import SafetensorError, safe_open

    for step in reversed(saved_steps(folder)):
        with contextlib.suppress(OSError, SafetensorError, KeyError, ValueError, TypeError):
            _, state_path = _paths(folder, step)
            with safe_open(str(state_path), framework="np") as file:
                record = parse_json(file.metadata()["record"])
            if isinstance(record, dict):
                return record
    return None


def _load_pair(folder: Path, step: int) -> Checkpoint:
    weights_path, state_path = _paths(folder, step)
    state, metadata = load_tensors(state_path)
    weights, of_weights = load_tensors(weights_path)
    if metadata.get("weights") != of_weights["checksum"]:
        raise CheckpointError(f"{weights_path.name} and {state_path.name} are not a pair; use an earlier checkpoint")
    try:
        record = parse_json(metadata["record"])
    except (KeyError, ValueError):
        record = None
    if not isinstance(record, dict):
        raise CheckpointError(f"{state_path} is not a training state; use an earlier checkpoint")
    return Checkpoint(weights, state, record)


def _paths(folder: Path, step: int) -> tuple[Path, Path]:
    stem = folder / f"step-{step:09d}"
    return stem.with_suffix(".weights.safetensors"), stem.with_suffix(".state.safetensors")
