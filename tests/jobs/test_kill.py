"""Killed with SIGKILL in evolution and in final training, a run ends as if it had not been."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "soak_kill.py"


@pytest.fixture(scope="module")
def soak_kill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soak_kill", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak_kill"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_moments_are_seeded_and_take_turns(soak_kill: ModuleType) -> None:
    rounds = soak_kill.moments(20, (15, 34), seed=4)
    assert rounds == soak_kill.moments(20, (15, 34), seed=4)
    assert rounds != soak_kill.moments(20, (15, 34), seed=5)
    flat = [moment for one in rounds for moment in one]
    assert len(flat) == 20
    assert sum(phase == "evolution" for phase, _, _ in flat) == 10
    assert all(1 <= target < {"evolution": 15, "final": 34}[phase] for phase, target, _ in flat)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_run_killed_three_times_ends_as_the_unbroken_one(soak_kill: ModuleType, tmp_path: Path) -> None:
    figures = soak_kill.soak(tmp_path, kills=3, seed=1, workers=1)
    text = soak_kill.report(figures, 0.0)
    assert figures.differences == [], text
    assert (figures.equal, figures.rounds, figures.orphans) == (1, 1, 0), text
    assert len(figures.kills) >= 2, text
    assert {kill.phase for kill in figures.kills} == {"evolution", "final"}, text
