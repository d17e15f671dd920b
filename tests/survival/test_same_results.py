"""Line 8: a seed gives one digest, whatever the number of workers; a resume with other settings is refused readably."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from evospike.core.settings import merge
from evospike.jobs.conduct import PERMITTED
from evospike.jobs.folder import open_run
from evospike.jobs.recipe import recipe_from_plain


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_the_number_of_workers_changes_nothing(
    case, runs, unbroken: Callable[[str], Path], evospike_command, soak, tmp_path: Path, workers: int
) -> None:
    """Against the run with one worker."""
    if not soak.count(0, 1):
        pytest.skip("at full length only; in the gate tests/jobs/test_conduct.py compares numbers of workers")
    run = tmp_path / "run"
    code, _, err = evospike_command(*case.arguments(runs.recipe, "-o", run, "--workers", workers, "--quiet"))
    assert code == 0, err
    assert runs.outcome(run) == runs.outcome(unbroken(case.name))
    soak.figure("survival 8", f"{case.name}: digest of {workers} workers", "that of one")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra 'ray'")
@pytest.mark.skipif(sys.platform == "win32", reason="Ray is tested on POSIX systems")
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("name", ["evolve", "search"])
def test_ray_changes_nothing(
    cases, runs, unbroken: Callable[[str], Path], soak, tmp_path: Path, name: str, workers: int
) -> None:
    """Against the local run with one worker. Final trainings do not run on Ray."""
    if not soak.count(0, 1):
        pytest.skip("at full length only; in the gate tests/jobs/test_ray_runs.py compares both")
    run = tmp_path / "run"
    on_ray = ("--executor", "ray", "--workers", workers, "--threads", 1)
    runs.do(*cases[name].arguments(runs.recipe, "-o", run, *on_ray, "--quiet"))
    assert runs.outcome(run) == runs.outcome(unbroken(name))
    soak.figure("survival 8", f"{name}: digest of {workers} workers on Ray", "that of one here")


def leaves(values: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a recipe that is no section, by its dotted name."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


def others(value: Any) -> list[Any]:
    """Values that a field might have instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value + 2, value - 1, 0]
    if isinstance(value, float):
        return [value / 2, value + 0.25, 0.25, 1.0]
    if value is None:
        return [1.0, 1]
    if isinstance(value, list):
        return [[*value, "dense"], [], ["genetic"], ["score", "energy"], [0.1, 0.2]]
    return [*NAMED.get(value, []), f"{value}-other"]


NAMED = {
    "digits": ["cifar10"],
    "basic": ["none"],
    "small8": ["small32"],
    "edge": ["low_rank", "dense"],
    "nsga2": ["random"],
    "cma_es": ["random"],
}
"""Other choices of fields that take one of some names."""


def test_every_other_setting_is_refused_with_the_difference(
    unbroken: Callable[[str], Path], evospike_command, complaint, soak, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken("train"), run)
    recorded = open_run(run).recipe.to_plain()
    changed = {name: text for name, value in leaves(recorded) if (text := valid_other(recorded, name, value))}
    assert len(changed) > 60, "most fields of a recipe have another value that is valid by itself"
    for name, text in changed.items():
        code, out, err = evospike_command("resume", run, "--set", f"{name}={text}")
        if f"{name}:" in PERMITTED:
            assert code == 0
            continue
        assert (code, out) == (2, ""), name
        line = complaint(err)
        assert "a run resumes with its own settings" in line
        assert f"{name}: " in line
        assert "start a new run for others" in line
    assert evospike_command("resume", run, "--workers", 3, "--quiet")[0] == 0
    soak.figure(
        "survival 8", "changed settings refused by name", len([name for name in changed if f"{name}:" not in PERMITTED])
    )


def valid_other(recorded: dict[str, Any], name: str, value: Any) -> str:
    """Another value of a field with which the recipe is valid, as text; empty where no such value is tried."""
    for other in others(value):
        nested: Any = other
        for key in reversed(name.split(".")):
            nested = {key: nested}
        try:
            recipe = recipe_from_plain(merge(recorded, nested))
        except ValueError:
            continue
        if dict(leaves(recipe.to_plain()))[name] != value:
            return json.dumps(other)
    return ""


def test_a_recipe_names_what_may_change() -> None:
    from evospike.jobs.settings import RunSettings

    names = {f"run.{one.name}:" for one in dataclasses.fields(RunSettings)}
    assert set(PERMITTED) <= names
