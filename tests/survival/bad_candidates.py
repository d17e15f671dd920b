"""Candidates that go wrong, one in each way; imported by worker processes from this folder."""

from __future__ import annotations

import itertools
import math
import os
import resource
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WAYS = ("nan", "infinite", "raising", "exiting", "no score", "memory", "killed", "hanging", "hanging in C", "fine")
"""What candidate k of a generation does; those after the last one are fine too."""

EXPECTED = {
    "nan": ("diverged", "loss not finite"),
    "infinite": ("diverged", "loss, validation_loss not finite"),
    "raising": ("error", "ValueError: this one raises"),
    "exiting": ("error", "SystemExit: 3"),
    "no score": ("error", "evaluation gave no score"),
    "memory": ("error", "memory ran out twice (MemoryError)"),
    "killed": ("error", "worker died twice (killed by SIGKILL)"),
    "hanging": ("timeout", "not done after"),
    "hanging in C": ("timeout", "not done after"),
}
"""Status, and the beginning of the reason, of each way to go wrong."""


def score(payload: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """A bowl; in the first generation every way to go wrong once. Every call is a line of the log."""
    with open(Path(context["folder"]) / "calls", "a", encoding="utf-8") as log:
        log.write(f"{payload['kind']} {payload['generation']} {payload['index']}\n")
    x, y = payload["genotype"]["values"]
    loss = (x + 1.5) ** 2 + (y + 0.5) ** 2
    terms = {"loss": loss, "validation_loss": loss, "temporal": -x, "entropy": -y}
    if payload["kind"] == "candidate" and payload["generation"] == 0 and payload["index"] < len(WAYS):
        return go_wrong(WAYS[payload["index"]], terms)
    return {"status": "ok", "terms": terms}


def go_wrong(way: str, terms: dict[str, float]) -> Any:
    if way == "nan":
        terms["loss"] = math.nan
    elif way == "infinite":
        terms["loss"] = terms["validation_loss"] = math.inf
    elif way == "raising":
        raise ValueError("this\none raises")
    elif way == "exiting":
        raise SystemExit(3)
    elif way == "no score":
        return {"loss": 1.0}
    elif way == "memory":
        exhaust_memory()
    elif way == "killed":  # as the system ends a process for its memory
        os.kill(os.getpid(), 9)
    elif way == "hanging":
        time.sleep(600)
    elif way == "hanging in C":  # where no signal handler of Python's runs
        deque(itertools.repeat(0), maxlen=0)
    return {"status": "ok", "terms": terms}


def exhaust_memory() -> None:
    """Ask for more than this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))
    try:
        bytearray(1 << 32)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
