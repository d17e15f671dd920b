"""Line 6: SIGTERM and Ctrl-C end a run within ten seconds in every phase, with the last good state; twice, at once."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WITHIN_S = 10.0
AT_ONCE_S = 5.0
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals work differently on Windows"),
]


def ended_after(process: subprocess.Popen[str], *signals: int) -> float:
    """Send signals, half a second apart; seconds from the last one to the end of the process."""
    for number, signum in enumerate(signals):
        if number:
            time.sleep(0.5)
        process.send_signal(signum)
        sent = time.monotonic()
    process.wait(timeout=60)
    return time.monotonic() - sent


def no_workers(driver: int, workers_of: Callable[[int], list[int]]) -> bool:
    last = time.monotonic() + WITHIN_S
    while workers_of(driver) and time.monotonic() < last:
        time.sleep(0.05)
    return not workers_of(driver)


PHASES = {
    "loading data": "train",
    "training": "train",
    "judging": "train",
    "evaluating": "evaluate",
    "writing a report": "report",
}
"""What is stretched, and the command that comes to it."""

IN_THE_GATE = {("loading data", "Ctrl-C")}


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_that_listens_to_nothing_ends_in_time(
    cases, runs, unbroken, evospike_command, until, soak, tmp_path: Path, phase: str, name: str
) -> None:
    """Library code that is busy for a minute: once, it is waited for some seconds; a second signal is not."""
    if not soak.count((phase, name) in IN_THE_GATE, 1):
        pytest.skip("at full length only")
    run, mark, finished = tmp_path / "run", tmp_path / "mark", unbroken("train")
    trains = PHASES[phase] == "train"
    arguments = cases["train"].arguments(runs.recipe, "-o", run) if trains else [PHASES[phase], str(run)]
    if not trains:
        shutil.copytree(finished, run)
    before = contents(run)
    for times in (2, 1)[: soak.count(1, 1 + trains)]:
        mark.unlink(missing_ok=True)
        program = (str(HERE / "slow_phase.py"), phase, str(mark))
        process = runs.start(*arguments, "--quiet", program=program)
        until(mark.exists, process)
        time.sleep(0.2)
        times = times if trains else 1  # other commands end at the first
        seconds = ended_after(process, *[SIGNALS[name]] * times)
        assert seconds < (AT_ONCE_S if times == 2 else WITHIN_S)
        assert process.returncode == 128 + SIGNALS[name]
        assert "Traceback" not in process.communicate()[1]
        soak.figure("survival 6", f"{phase}, {name}{' twice' if times == 2 else ''}: s", round(seconds, 2))
        arguments = ["resume", str(run)] if trains and (run / "run.json").exists() else arguments
        assert trains or contents(run) == before
    if trains:
        assert evospike_command("resume", run, "--quiet")[0] == 0
        assert runs.outcome(run) == runs.outcome(finished)


def test_twice_while_workers_score_ends_driver_and_workers_at_once(
    cases, runs, unbroken, workers_of, evospike_command, until, soak, tmp_path: Path
) -> None:
    run, mark, workers = tmp_path / "run", tmp_path / "mark", soak.count(1, 2)
    program = (str(HERE / "slow_phase.py"), "scoring", str(mark))
    arguments = cases["search"].arguments(runs.recipe, "-o", run, "--workers", workers, "--quiet")
    process = runs.start(*arguments, program=program)
    until(mark.exists, process)
    assert len(workers_of(process.pid)) == workers
    seconds = ended_after(process, signal.SIGINT, signal.SIGINT)
    assert seconds < AT_ONCE_S
    assert process.returncode == 128 + signal.SIGINT
    assert no_workers(process.pid, workers_of)
    assert "Traceback" not in process.communicate()[1]
    soak.figure("survival 6", "scoring in workers, Ctrl-C twice: s", round(seconds, 2))
    if not soak.count(0, 1):
        return
    assert evospike_command("resume", run, "--quiet")[0] == 0
    assert runs.outcome(run) == runs.outcome(unbroken("search"))


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_compiling_ends_in_time(runs, until, soak, tmp_path: Path) -> None:
    """A compiler that takes a minute, first on the path."""
    if not soak.count(0, 1):
        pytest.skip("at full length only: the compiled path takes long to import")
    mark, tools = tmp_path / "mark", tmp_path / "tools"
    tools.mkdir()
    (tools / "g++").write_text(f"#!/bin/sh\ntouch {mark}\nexec sleep 60\n")
    (tools / "g++").chmod(0o755)
    env = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled"),
    }
    settings = ["--set", "final.arms=['genetic']", "--set", "run.path=fused"]
    for name, signals in (("Ctrl-C", [signal.SIGINT]), ("SIGTERM twice", [signal.SIGTERM] * 2)):
        mark.unlink(missing_ok=True)
        run = tmp_path / name
        process = runs.start("train", runs.recipe, *settings, "-o", run, "--quiet", env=env)
        until(mark.exists, process)
        seconds = ended_after(process, *signals)
        assert seconds < (AT_ONCE_S if len(signals) == 2 else WITHIN_S)
        assert process.returncode == 128 + signals[0]
        soak.figure("survival 6", f"compiling, {name}: s", round(seconds, 2))


def test_at_any_moment_of_a_run(cases, runs, unbroken, workers_of, soak, tmp_path: Path) -> None:
    """One signal at a random moment of an evolution with its trainings, from the start of the process on."""
    rounds = soak.count(0, 30)
    if not rounds:
        pytest.skip("at full length only")
    wanted, arguments = runs.outcome(unbroken("evolve")), cases["evolve"].arguments(runs.recipe)
    started = time.monotonic()
    runs.do(*arguments, "--workers", 2, "--quiet", "-o", tmp_path / "timed")
    length = time.monotonic() - started
    chance, longest, stopped = random.Random(0), 0.0, 0
    for number in range(rounds):
        run, name = tmp_path / f"run-{number}", chance.choice(list(SIGNALS))
        process = runs.start(*arguments, "--workers", 2, "--quiet", "-o", run)
        time.sleep(chance.uniform(0, length))
        if process.poll() is None:
            longest = max(longest, ended_after(process, SIGNALS[name]))
            stopped += process.returncode != 0
        assert process.returncode in (0, 128 + SIGNALS[name], -SIGNALS[name])
        assert no_workers(process.pid, workers_of)
        if (run / "run.json").exists():
            assert "Traceback" not in process.communicate()[1]
            runs.do("resume", run, "--quiet")
        else:  # stopped before it had begun
            runs.do(*arguments, "--quiet", "-o", run)
        assert runs.outcome(run) == wanted
    assert longest < WITHIN_S
    soak.figure("survival 6", "runs stopped at a random moment and resumed to the same digest", stopped)
    soak.figure("survival 6", "longest time to the end, s", round(longest, 2))
