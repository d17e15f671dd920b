"""The clock, and figures from a fresh process."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import pytest

from evospike.bench.timing import as_figure, in_fresh_process, timed, waiting
from evospike.core.errors import RunError

NAME = "timing_functions"
FUNCTIONS = """
import os, signal
def process(offset): return os.getpid() + offset
def threads(): return int(os.environ["OMP_NUM_THREADS"])
def text(): return "fast"
def infinite(): return float("inf")
def failing(why): raise ValueError(why)
def leaving(): raise SystemExit(3)
def dying(): os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def _functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{NAME}.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_repetition_is_timed_in_milliseconds() -> None:
    done: list[int] = []
    measure = timed(lambda: (done.append(1), time.sleep(0.03)), "cpu")
    started = time.perf_counter()
    first, second = measure(), measure()
    elapsed = 1e3 * (time.perf_counter() - started)
    assert done == [1, 1]
    assert min(first, second) >= 29
    assert first + second <= elapsed


def test_a_cuda_device_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    events: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(f"wait {device}"))
    timed(lambda: events.append("run"), "cuda:1")()
    assert events == ["wait cuda:1", "run", "wait cuda:1"]
    assert waiting("cpu")() is None
    assert len(events) == 3


def test_a_figure_comes_from_another_process_with_its_own_threads() -> None:
    other = in_fresh_process(f"{NAME}:process", {"offset": 0.5}, threads=1)
    assert other % 1 == 0.5
    assert int(other) != os.getpid()
    assert in_fresh_process(f"{NAME}:threads", {}, threads=3) == 3.0
    assert NAME not in sys.modules


@pytest.mark.parametrize(
    ("function", "arguments", "wanted"),
    [
        ("failing", {"why": "two\nlines"}, "ValueError: two lines"),
        ("failing", {}, "TypeError: .*'why'"),
        ("leaving", {}, "SystemExit: 3"),
        ("dying", {}, "killed by SIGKILL"),
        ("absent", {}, "AttributeError: .*'absent'"),
        ("text", {}, "measured 'fast'; expected a finite number"),
        ("infinite", {}, "measured inf; expected a finite number"),
    ],
)
def test_what_goes_wrong_there_is_one_line_here(function: str, arguments: dict[str, str], wanted: str) -> None:
    with pytest.raises(RunError, match=wanted) as caught:
        in_fresh_process(f"{NAME}:{function}", arguments, threads=1)
    assert "\n" not in str(caught.value)


def test_what_counts_as_a_figure() -> None:
    import numpy as np

    assert (as_figure(2, "x"), as_figure(np.float32(1.5), "x")) == (2.0, 1.5)
    assert type(as_figure(np.float64(1.5), "x")) is float
    for value in (None, "1", math.nan, -math.inf, 1j):
        with pytest.raises(RunError, match=r"'x' measured .*; expected a finite number"):
            as_figure(value, "x")
