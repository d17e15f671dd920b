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

from evospike.core.lock import NAME, RunLock

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
    """A lock of this very process, changed in some fields."""
    RunLock(folder).acquire()
    owner = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps({**owner, **fields}))


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
    code, _, err = evospike_command("resume", run, "--quiet")
    assert code == 2
    assert "on host elsewhere" in complaint(err)
    assert f"delete {run / NAME}" in complaint(err)
    soak.figure("survival 7", "a lock of another host is", "left alone, with what to do")


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
