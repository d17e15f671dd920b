"""What each worker of a run does, as a small file for whoever watches: never for resuming. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evospike.core.files import read_json, write_atomic
from evospike.evolution.executors.local import WorkerState
from evospike.jobs.folder import WORKERS, RunFolder

EVERY_SECONDS = 1.0

LATEST = 1e11
"""A time of day, in seconds of `time.time`, that every calendar knows."""


class WorkersFile:
    """Writes what the workers do, at most once a second; a disk that cannot take it does not stop the run."""

    def __init__(self, run: RunFolder) -> None:
        self._path, self._next = run.path / WORKERS, 0.0

    def __call__(self, states: Sequence[WorkerState]) -> None:
        if states and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY_SECONDS
        lines = [{"pid": state.pid, "doing": _doing(state), "since": state.since} for state in states]
        with contextlib.suppress(OSError):
            write_atomic(self._path, json.dumps(lines).encode(), durable=False)


@dataclass(frozen=True)
class WorkerLine:
    """What one worker did when the file was written. since: seconds as of `time.time`."""

    pid: int
    doing: str
    since: float


def read_workers(run: RunFolder) -> tuple[WorkerLine, ...]:
    """What the workers did last; nothing where nothing is written, or only half of it."""
    try:
        lines = read_json(run.path / WORKERS)
        found = tuple(WorkerLine(int(line["pid"]), str(line["doing"]), float(line["since"])) for line in lines)
        return found if all(0 <= line.since < LATEST for line in found) else ()
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def _doing(state: WorkerState) -> str:
    if state.payload is None:
        return "waiting" if state.ready else "starting"
    return _name(state.payload) + (", again" if state.attempt > 1 else "")


def _name(payload: Mapping[str, Any]) -> str:
    if "arm" in payload:
        return f"training {payload['arm']}, seed {payload['repeat']}"
    first, *others = payload.get("requests", [payload])
    place = f"{first['kind']} {first['index'] + 1}"
    if others:
        place = f"{first['kind']}s {first['index'] + 1} to {others[-1]['index'] + 1}"
    return f"generation {first['generation'] + 1}, {place}"
