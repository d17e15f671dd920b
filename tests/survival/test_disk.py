"""Line 4: a disk that is full, a folder that cannot be written, a record that another process holds.

The run stops with one line that says what to do, and goes on to the same end when the cause is gone.
"""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from evospike.evolution import database
from evospike.evolution.store import Store
from evospike.jobs.folder import create_run
from evospike.jobs.recipe import read_recipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="faults are put in by a preloaded library"),
]

ROOM = re.compile(r"disk is full|no space left|No space left|disk with room|free space|check the disk")
"""What a complaint about a full disk says; SQLite cannot say why it could not make a file."""

MOST_WRITES = {"evolve": 120, "search": 60, "structure": 150, "train": 200}
"""A disk is full at one of so many calls of a process; about as many as the driver or a worker makes."""

MOST_TRIES = 4


def test_a_disk_that_fills_up_at_a_random_write(
    case, runs, unbroken: Callable[[str], Path], evospike_command, faults, soak, complaint, tmp_path: Path
) -> None:
    rounds = soak.count(int(case.name == "train"), 10)
    if not rounds:
        pytest.skip("at full length only; the single training stands for it")
    wanted = runs.outcome(unbroken(case.name))
    chance, tried, stopped = random.Random(case.name), 0, 0
    while stopped < rounds and tried < MOST_TRIES * rounds:  # a run may be over before the write
        tried, number = tried + 1, tried
        run, gate = tmp_path / f"run-{number}", tmp_path / f"full-{number}"
        env = faults(run, "full", chance.randint(1, MOST_WRITES[case.name]), gate)
        code, _, err = runs.finish(runs.start(*case.arguments(runs.recipe, "-o", run, "--quiet"), env=env))
        stopped += gate.exists()
        assert (code == 2) or (code == 0 and not gate.exists()), (code, err)
        if code == 2:
            assert ROOM.search(complaint(err)), err
        gate.unlink(missing_ok=True)
        go_on(evospike_command, case, runs.recipe, run)
        assert runs.outcome(run) == wanted
    soak.figure("survival 4", f"{case.name}: runs on a disk that was full from a random write on", stopped)
    soak.figure("survival 4", f"{case.name}: of these, stopped cleanly and resumed to the same digest", stopped)
    assert stopped == rounds


def go_on(command: Callable[..., tuple[int, str, str]], case, recipe: Path, run: Path) -> None:
    """Resume what was begun; what could not even be begun is begun again."""
    begun = (run / "run.json").exists()
    if not begun:
        shutil.rmtree(run, ignore_errors=True)
    code, _, err = command(*(["resume", run] if begun else case.arguments(recipe, "-o", run)), "--quiet")
    assert code == 0, err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here; faults stand for it")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)


def test_a_disk_that_is_really_full(
    runs, unbroken: Callable[[str], Path], soak, complaint, evospike_command, small_disk: Path
) -> None:
    run, filler = small_disk / "run", small_disk / "filler"
    wanted = runs.outcome(unbroken("train"))
    for number in range(soak.count(1, 10)):
        shutil.rmtree(run, ignore_errors=True)
        unfinished(unbroken("train"), run)
        fill(filler, leave=2048 * (number % 5))
        code, _, err = evospike_command("resume", run, "--quiet")
        assert code == 2
        assert ROOM.search(complaint(err)), err
        filler.unlink()
        assert evospike_command("resume", run, "--quiet")[0] == 0
        assert runs.outcome(run) == wanted
    soak.figure("survival 4", "runs on a file system without room, stopped and resumed", soak.count(1, 10))


def unfinished(finished: Path, run: Path) -> None:
    """A copy of a run that lacks its last checkpoint and all results."""
    shutil.copytree(finished, run)
    folder = run / "final" / "genetic-0"
    for path in (run / "result.json", folder / "result.json", folder / "weights.safetensors"):
        path.unlink()
    newest = max(path.name.split(".")[0] for path in folder.glob("step-*"))
    for path in folder.glob(f"{newest}.*"):
        path.unlink()


def fill(path: Path, leave: int) -> None:
    """Take all the room that there is but for some bytes."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(file.tell() - leave, 0))


def test_a_folder_that_cannot_be_written(
    runs, unbroken: Callable[[str], Path], faults, soak, complaint, tmp_path: Path
) -> None:
    """Read-only as a file system is; permissions would not stop the root that tests may run as."""
    wanted, run = runs.outcome(unbroken("train")), tmp_path / "run"
    unfinished(unbroken("train"), run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, out, err = runs.finish(runs.start("resume", run, "--quiet", env=faults(run, "readonly")))
    assert (code, out) == (2, "")
    assert "Read-only file system" in complaint(err)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    if soak.count(0, 1):  # in the gate other tests resume this very state
        runs.do("resume", run, "--quiet")
        assert runs.outcome(run) == wanted
    soak.figure("survival 4", "runs in a read-only folder, refused with nothing changed", 1)


def test_a_record_that_another_process_holds(
    runs, unbroken: Callable[[str], Path], evospike_command, soak, complaint, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(database, "WAIT_S", 0.05)
    """In the gate the record holds nothing yet, and the run is not carried to its end."""
    run, full = tmp_path / "run", soak.count(0, 1)
    if full:
        shutil.copytree(unbroken("search"), run)
        (run / "result.json").unlink()
    else:
        create_run("search", read_recipe(str(runs.recipe)), str(run))
        Store.create(run / "study.sqlite").close()
    with closing(sqlite3.connect(run / "study.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        code, _, err = evospike_command("resume", run, "--quiet")
        assert code == 2
        assert "is in use by another process" in complaint(err)
        assert not (run / "run.lock").exists()
    if full:
        assert evospike_command("resume", run, "--quiet")[0] == 0
        assert runs.outcome(run) == runs.outcome(unbroken("search"))
    soak.figure("survival 4", "runs whose record was locked, refused" + " and resumed" * full, 1)
