"""Line 7: of two processes on one run folder the second refuses; a lock that a dead process left is recognised."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evospike.core import lock
from evospike.core.lock import GUARD, NAME, RunLock
from evospike.jobs.progress import ProgressFile

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc when a process began")


@pytest.mark.slow
def test_a_second_process_refuses_and_the_run_of_a_dead_one_is_taken_over(
    runs, unbroken: Callable[[str], Path], evospike_command, complaint, until, soak, tmp_path: Path
) -> None:
    run, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(unbroken("train"), run)
    wanted = runs.outcome(run)
    folder = run / "final" / "genetic-0"
    for path in (run / "result.json", folder / "result.json", folder / "weights.safetensors"):
        path.unlink()
    first = runs.start("resume", run, "--quiet", program=(str(HERE / "slow_phase.py"), "judging", str(mark)))
    until(mark.exists, first)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for command in ("resume", "evaluate"):
        code, out, err = evospike_command(command, run, "--quiet")
        assert (code, out) == (2, "")
        assert f"process {first.pid}" in complaint(err)
    assert f"process {first.pid} on {socket.gethostname()}" in evospike_command("watch", run, "--once")[1]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert (run / NAME).exists()
    assert evospike_command("resume", run, "--quiet")[0] == 0
    assert runs.outcome(run) == wanted
    soak.figure("survival 7", "commands refused while another process had the run", 2)


STALE = {
    "of a process that is gone": {"pid": 2**22 + 1},
    "of another start of the machine": {"boot": "another"},
    "of an earlier process with the same number": {"started": "1"},
}


def leave_lock(folder: Path, **fields: object) -> None:
    """A lock of this very process as one that was killed long ago leaves it, changed in some fields."""
    with RunLock(folder) as held:
        owner = json.loads(held.path.read_text())
    held.path.write_text(json.dumps({**owner, **fields}))
    os.utime(folder / GUARD, (1, 1))


@pytest.mark.parametrize("what", STALE)
def test_a_stale_lock_is_recognised(
    unbroken: Callable[[str], Path], evospike_command, soak, tmp_path: Path, what: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken("train"), run)
    leave_lock(run, **STALE[what])
    assert evospike_command("resume", run, "--quiet")[0] == 0
    assert not (run / NAME).exists()
    soak.figure("survival 7", f"a lock {what} is", "taken over")


def test_the_lock_of_another_host_is_left_alone(
    unbroken: Callable[[str], Path], evospike_command, complaint, soak, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken("train"), run)
    leave_lock(run, host="elsewhere")
    os.utime(run / GUARD)
    code, _, err = evospike_command("resume", run, "--quiet")
    assert code == 2
    assert "on host elsewhere" in complaint(err)
    assert f"delete {run / NAME}" in complaint(err)
    soak.figure("survival 7", "a lock of another host that gives signs of life is", "left alone, with what to do")
    os.utime(run / GUARD, (1, 1))
    assert evospike_command("resume", run, "--quiet")[0] == 0
    assert not (run / NAME).exists()
    soak.figure("survival 7", "a lock of another host that has given none for five minutes is", "taken over")


def test_a_run_whose_lock_was_taken_while_it_slept_stops(
    unbroken: Callable[[str], Path], evospike_command, complaint, soak, tmp_path: Path, monkeypatch
) -> None:
    """As after a lid was closed for longer than another host waits: what that host has made since is left alone."""
    run, folder, clock = tmp_path / "run", tmp_path / "run" / "final" / "genetic-0", [1e6]
    shutil.copytree(unbroken("train"), run)
    shutil.rmtree(folder)
    (run / "result.json").unlink()
    monkeypatch.setattr(lock, "clock", lambda: clock[0])

    def sleep(_: ProgressFile, step: int, total: int) -> None:
        if step == 3:
            clock[0] += 3600
            owner = json.loads((run / NAME).read_text())
            (run / NAME).write_text(json.dumps({**owner, "host": "elsewhere", "token": "of that host"}))

    monkeypatch.setattr(ProgressFile, "after_step", sleep)
    code, _, err = evospike_command("resume", run, "--quiet")
    assert code == 2
    assert "lost run folder" in complaint(err)
    assert "on host elsewhere, after 3600 s without a sign of life from this process" in complaint(err)
    assert max(path.name for path in folder.glob("step-*")).startswith("step-000000003")
    assert json.loads((run / NAME).read_text())["token"] == "of that host"
    soak.figure("survival 7", "a run whose lock was taken while it slept", "stops at the step it wakes up in")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_a_live_lock_is_alive_from_another_pid_namespace(soak, tmp_path: Path) -> None:
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("PID namespaces cannot be made here")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = []
    with RunLock(tmp_path / "held"):
        (tmp_path / "left").mkdir()
        shutil.copy(tmp_path / "held" / NAME, tmp_path / "left" / NAME)
        rival = subprocess.Popen([*apart, sys.executable, "-c", RIVAL], env=env, **pipes)
        out, _ = rival.communicate(f"{tmp_path / 'held'}\n{tmp_path / 'left'}\n")
        said = out.split()
    assert said == ["refused", "held"]
    soak.figure("survival 7", "a live lock, seen from another PID namespace, is", "alive")


@pytest.mark.parametrize(
    "fields", [{"pid": 0}, {"pid": -1}, {"pid": 2**40}, {"pid": "7"}, {"pid": True}, {"host": 3}, {"started": None}]
)
def test_a_lock_that_names_no_owner_is_refused(
    unbroken: Callable[[str], Path], evospike_command, complaint, tmp_path: Path, fields: dict[str, object]
) -> None:
    """0 and -1 would ask after every process of a group."""
    run = tmp_path / "run"
    shutil.copytree(unbroken("train"), run)
    leave_lock(run, **fields)
    code, _, err = evospike_command("resume", run, "--quiet")
    assert code == 2
    assert "cannot read the lock" in complaint(err)


RIVAL = """
import sys
from pathlib import Path
from evospike.core.errors import RunError
from evospike.core.lock import RunLock
for line in sys.stdin:
    lock = RunLock(Path(line.strip()))
    try:
        lock.acquire()
    except RunError:
        print("refused", flush=True)
    else:
        print("held", flush=True)
"""


def test_of_many_processes_that_find_a_stale_lock_one_gets_it(soak, tmp_path: Path) -> None:
    rounds, held = soak.count(5, 300), 0
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": env}
    rivals = [subprocess.Popen([sys.executable, "-c", RIVAL], **pipes) for _ in range(4)]
    try:
        for number in range(rounds):
            folder = tmp_path / str(number)
            leave_lock(folder, boot="another")
            for rival in rivals:
                assert rival.stdin is not None
                rival.stdin.write(f"{folder}\n")
                rival.stdin.flush()
            answers = sorted(rival.stdout.readline().strip() for rival in rivals if rival.stdout)
            assert answers == ["held", "refused", "refused", "refused"]
            held += 1
    finally:
        for rival in rivals:
            rival.kill()
            rival.communicate()
    soak.figure("survival 7", "races of four processes for a stale lock", rounds)
    soak.figure("survival 7", "of these, won by exactly one", held)


STARTER = """
import sys, time
from evospike.cli.main import main
from evospike.jobs import folder
commit = folder.source_commit
folder.source_commit = lambda: time.sleep(float(sys.argv[1])) or commit()
print("ready", flush=True)
for line in sys.stdin:
    print("code", main(line.split()), flush=True)
"""


@pytest.mark.slow
def test_of_two_processes_that_start_at_once_one_gets_the_folder(runs, soak, tmp_path: Path) -> None:
    """Both find it free; the slower one is refused, and takes back nothing of the faster one's."""
    rounds, digests = soak.count(1, 40), set()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.DEVNULL,
        "text": True,
        "env": env,
    }
    rivals = [subprocess.Popen([sys.executable, "-c", STARTER, late], **pipes) for late in ("0", "0.02")]
    try:
        assert [answer(rival) for rival in rivals] == ["ready", "ready"]
        for number in range(rounds):
            run = tmp_path / str(number)
            command = ["train", runs.recipe, "-o", run, "--quiet", "--json", *SMALL]
            for rival in rivals:
                assert rival.stdin is not None
                print(*command, file=rival.stdin, flush=True)
            documents = [last_of(rival) for rival in rivals]
            assert sorted(code for code, _ in documents) == [0, 2]
            digests |= {document["digest"] for code, document in documents if code == 0}
            assert {"run.json", "plan.json", "result.json"} <= {path.name for path in run.iterdir()}
            assert not (run / NAME).exists()
    finally:
        for rival in rivals:
            rival.kill()
            rival.communicate()
    assert len(digests) == 1
    soak.figure("survival 7", "times that two processes started at once in one new folder", rounds)
    soak.figure("survival 7", "of these, won by one and left alone by the other", rounds)


SMALL = ["--set", "final.arms=['genetic']", "--set", "training.epochs=1", "--set", "data.train_limit=40"]


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def last_of(process: subprocess.Popen[str]) -> tuple[int, dict[str, object]]:
    """The exit code of a command and the document that it printed before, if any."""
    lines = [answer(process)]
    while not lines[-1].startswith("code "):
        assert process.poll() is None, lines
        lines.append(answer(process))
    return int(lines[-1].split()[1]), json.loads("".join(lines[:-1]) or "{}")
