"""Ctrl-C and SIGTERM: stopped within ten seconds with the last good state, a second time at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evospike.core import stopping
from evospike.core.errors import Interrupted, RunError
from evospike.core.stopping import stop_on_signals

WITHIN_S = 10.0
PATIENCE_S = 600.0
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals work differently on Windows")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "evospike.cli.main", *map(str, arguments), "--quiet", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], run: Path, pattern: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not list(run.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def stop(process: subprocess.Popen[str], run: Path, *signals: int) -> tuple[int, str, str]:
    """Send signals, one right after the other; exit code, output and errors.

    The clock stops when the run gives its folder back: what is left then is the interpreter's own tidying up, which
    takes long on a busy machine and loses nothing when it is cut off.
    """
    started = time.monotonic()
    for signum in signals:
        process.send_signal(signum)
    while process.poll() is None and (run / "run.lock").exists():
        time.sleep(0.02)
    assert time.monotonic() - started < WITHIN_S
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


@pytest.mark.slow
def test_a_training_stopped_by_both_signals_goes_on_to_the_same_digest(evospike, recipe: Path, tmp_path: Path) -> None:
    longer = ["--epochs", "12", "--set", "training.checkpoint_minutes=0"]
    unbroken = evospike("train", recipe, "-o", "unbroken", "--quiet", "--json", *longer).document
    run, final = tmp_path / "run", "final/genetic-0/step-*.state.safetensors"

    process = start("train", recipe, "-o", run, *longer)
    wait_for(process, run, final)
    code, out, err = stop(process, run, signal.SIGINT)
    assert (code, out) == (130, "")
    assert f"go on with: evospike resume {run}" in err
    assert "Traceback" not in err
    assert not (run / "run.lock").exists()
    stopped_at = max(path.name for path in run.glob(final))

    process = start("resume", run)
    while max(path.name for path in run.glob(final)) == stopped_at:
        assert process.poll() is None
        time.sleep(0.02)
    code, out, err = stop(process, run, signal.SIGTERM)
    assert (code, out) == (143, "")
    assert "Traceback" not in err

    process = start("resume", run)
    while not (run / "run.lock").exists():
        assert process.poll() is None
        time.sleep(0.01)
    code, out, err = stop(process, run, signal.SIGINT, signal.SIGINT)
    assert (code, out) == (130, "")
    assert "Traceback" not in err

    resumed = evospike("resume", run, "--quiet", "--json").document
    assert resumed["digest"] == unbroken["digest"]
    assert resumed["test_accuracy"] == unbroken["test_accuracy"]


@pytest.mark.slow
def test_an_evolution_stopped_takes_its_workers_along(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start("evolve", recipe, "-o", run, "--workers", 2, "--set", "evolution.proxy_epochs=200")
    wait_for(process, run, "study.sqlite")
    while len(children := _children(process.pid)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    code, _, err = stop(process, run, signal.SIGINT)
    assert code == 130
    assert "Traceback" not in err
    until = time.monotonic() + WITHIN_S
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < until
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("the children of a process can be listed on Linux only")
    return [int(child) for child in path.read_text().split()]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes of a process that would have ended at once."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish_and_the_second_an_order(ended, capsys, signum: int) -> None:
    taken_along: list[str] = []
    with stop_on_signals(lambda: taken_along.append("workers")) as stop:
        stop.check()
        os.kill(os.getpid(), signum)
        with pytest.raises(Interrupted) as caught:
            stop.check()
        assert caught.value.signum == signum
        assert (ended, taken_along) == ([], [])
        os.kill(os.getpid(), signum)
    assert (ended, taken_along) == ([128 + signum], ["workers"])
    assert "once more to stop at once" in capsys.readouterr().err


def test_a_run_that_reaches_no_safe_moment_is_ended(ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 0.05)
    assert stopping.GRACE_SECONDS < WITHIN_S
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        until = time.monotonic() + 5
        while not ended and time.monotonic() < until:
            time.sleep(0.01)
    assert ended == [143]


def test_a_run_that_stopped_in_time_is_not_ended_later(ended, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a program that uses the library would be gone some seconds after it caught Interrupted."""
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 1.0)
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1.5)
    assert ended == []
    assert signal.getsignal(signal.SIGINT) is before


def test_a_ctrl_c_outside_a_run_is_quiet(evospike, monkeypatch: pytest.MonkeyPatch) -> None:
    from evospike.cli import commands

    def interrupted(arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(commands.COMMANDS, "recipes", interrupted)
    said = evospike("recipes")
    assert (said.code, said.out, said.err) == (130, "", "")


def test_interrupted_runs_say_their_signal(evospike, monkeypatch: pytest.MonkeyPatch) -> None:
    from evospike.cli import commands

    for signum in (signal.SIGINT, signal.SIGTERM):
        error = Interrupted(signum)

        def interrupted(arguments: object, error: Interrupted = error) -> None:
            raise error

        monkeypatch.setitem(commands.COMMANDS, "recipes", interrupted)
        assert evospike("recipes").code == 128 + signum
        assert json.dumps(error.signum) == str(int(signum))


@pytest.mark.parametrize(("error", "code"), [(RunError("the reason"), 2), (None, 143)])
def test_a_signal_does_not_silence_the_error_that_ends_a_command(
    evospike, monkeypatch: pytest.MonkeyPatch, error: RunError | None, code: int
) -> None:
    """torchrun sends SIGTERM to the processes that are just about to say that they have lost one of them."""
    from evospike.cli import commands

    def fails(arguments: object) -> None:
        try:
            if error is not None:
                raise error
        finally:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setitem(commands.COMMANDS, "recipes", fails)
    said = evospike("recipes")
    assert (said.code, said.out, said.err) == (code, "", f"evospike: {error}\n" if error else "")
