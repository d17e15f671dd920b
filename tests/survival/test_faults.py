"""Line 2: whatever call fails or is the last one while something is written, what was there before can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("crash_writes.py")
KINDS = {
    "kill": "the process ends before the call",
    "torn": "the process ends after the call, or in the middle of a write",
    "error": "the call fails, and the process goes on",
    "full": "a write is cut short and the disk stays full",
}
IN_THE_GATE = ("torn", "error")
SUBJECTS = {"checkpoint", "record", "row", "new store", "lock"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be had: nothing here depends on what a disk does, and hundreds of syncs take long."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


@pytest.mark.slow
def test_at_every_step_of_every_write_the_previous_state_survives(
    faults: Callable[..., dict[str, str]], soak, folder: Path
) -> None:
    kinds = list(KINDS) if soak.count(0, 1) else list(IN_THE_GATE)
    command = [sys.executable, str(PROGRAM), str(folder), *kinds]
    done = subprocess.run(command, env={**os.environ, **faults()}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(row["subject"], row["kind"]) for row in rows} == {(name, kind) for name in SUBJECTS for kind in kinds}
    for row in rows:
        assert row["wrong"] == [], (row, done.stderr)
    for kind in kinds:
        calls = sum(row["calls"] for row in rows if row["kind"] == kind)
        soak.figure("survival 2", f"steps at which {KINDS[kind]}", calls)
    soak.figure("survival 2", "times that what was there before could not be read", 0)
    assert all(row["calls"] >= 4 for row in rows), "every write opens, writes, syncs and renames or commits"
    steps = {row["subject"]: (row["old"], row["new"]) for row in rows if row["kind"] == "torn"}
    assert all(old > 0 for name, (old, _) in steps.items() if name != "lock")
    assert all(new > 0 for new in (steps[name][1] for name in ("checkpoint", "record", "row", "new store")))


TRACED = """
import builtins, os, sys
from pathlib import Path
from evospike.core import files
calls = []
def traced(module, name, of):
    original = getattr(module, name)
    def call(*arguments, **options):
        calls.append((name, of(*arguments)))
        return original(*arguments, **options)
    setattr(module, name, call)
path_of = lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}")
traced(os, "fsync", lambda descriptor: path_of(descriptor))
traced(os, "replace", lambda source, target: str(source))
files.write_atomic(Path(sys.argv[1]) / "file", b"x")
for name, path in calls:
    print(name, path)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads names of open files from /proc")
def test_contents_are_durable_before_the_name_is_and_the_name_before_the_write_ends(tmp_path: Path) -> None:
    """What a process that dies cannot show: after a power cut, too, the name stands for a whole file."""
    done = subprocess.run([sys.executable, "-c", TRACED, str(tmp_path)], capture_output=True, text=True, check=True)
    calls = [tuple(line.split(" ", 1)) for line in done.stdout.splitlines()]
    assert [name for name, _ in calls] == ["fsync", "replace", "fsync"]
    assert calls[0][1] == calls[1][1] != str(tmp_path / "file")
    assert calls[2][1] == str(tmp_path)
