"""Interleaved timing of cases, and result files that say where they were measured."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from evospike.jobs.folder import source_commit


def medians(cases: Mapping[str, Callable[[], Any]], repeats: int, warmup: int = 2) -> dict[str, float]:
    """Median seconds of each case; the cases take turns, so that a machine that slows down slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(warmup + repeats):
        for name, run in cases.items():
            started = time.perf_counter()
            run()
            if turn >= warmup:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def circumstances() -> dict[str, Any]:
    """Device, versions and commit."""
    return {
        "commit": source_commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def write_result(path: str, benchmark: str, rows: list[dict[str, Any]]) -> None:
    """Write rows with device, versions and commit."""
    document = {"benchmark": benchmark, **circumstances(), "rows": rows}
    Path(path).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
