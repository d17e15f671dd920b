"""How far a training is, as a small file in its folder: for showing, never for resuming. Imports no torch."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from evospike.core.errors import RunError
from evospike.core.files import read_text, write_atomic

PROGRESS = "progress"
"""File of a final training's folder with the steps done and the steps in all."""

EVERY_SECONDS = 1.0


class ProgressFile:
    """Writes how far a training is, at most once a second; a disk that cannot take it does not stop the training."""

    def __init__(self, folder: Path) -> None:
        self._path, self._next = folder / PROGRESS, 0.0

    def after_step(self, step: int, total: int) -> None:
        if time.monotonic() < self._next:
            return
        with contextlib.suppress(OSError):
            write_atomic(self._path, f"{step} {total}".encode(), durable=False)
        self._next = time.monotonic() + EVERY_SECONDS


def read_progress(folder: Path) -> float:
    """The share of a training's steps that is done; 0 while nothing is written, or only half of it."""
    try:
        step, total = read_text(folder / PROGRESS, "progress", 100, RunError).split()
        return min(max(int(step) / int(total), 0.0), 1.0)
    except (RunError, ValueError, ArithmeticError):
        return 0.0
