"""What a case measures with: a clock that waits for the device, and figures from a fresh process. Imports no torch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from evospike.core.errors import RunError
from evospike.evolution.executors.base import Outcome, Payload
from evospike.evolution.executors.local import LocalExecutor


def timed(run: Callable[[], object], device: str) -> Callable[[], float]:
    """A repetition of `run` in milliseconds; on a CUDA device from an idle device to an idle device."""
    wait = waiting(device)

    def measure() -> float:
        wait()
        started = time.perf_counter()
        run()
        wait()
        return 1e3 * (time.perf_counter() - started)

    return measure


def waiting(device: str) -> Callable[[], None]:
    """A function that returns once the device has done all that it was given; on a CPU at once."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return lambda: torch.cuda.synchronize(device)


def in_fresh_process(function: str, arguments: Mapping[str, Any], threads: int) -> float:
    """The figure that a function returns when a new Python interpreter calls it.

    function: 'package.module:name', called with `arguments` by name; they can be pickled. threads: CPU threads of the
    interpreter, set in its environment before it imports anything.
    Raises: RunError in one line when the call raises, when the process dies, and when the value is no finite number.
    """
    payload = {"function": function, "arguments": dict(arguments)}
    outcome = outcome_of("evospike.bench.process:call", payload, threads)
    if outcome.error is not None:
        raise RunError(outcome.error)
    return as_figure(outcome.value, function)


def as_figure(value: object, source: str) -> float:
    """A measured value as a number. Raises: RunError, which names its source, when it is none or not finite."""
    if not isinstance(value, Real) or not math.isfinite(value):
        raise RunError(f"'{source}' measured {value!r}; expected a finite number")
    return float(value)


def outcome_of(function: str, payload: Payload, threads: int, check: Callable[[], None] | None = None) -> Outcome:
    """What became of `function(payload, context)` in a worker process of its own, which ends with the call.

    check: called several times a second meanwhile; may raise to stop it. Raises: RunError when no process starts.
    """
    with LocalExecutor(1, threads, function, {}) as executor:
        ((_, outcome),) = executor.run([payload], check)
    return outcome
