import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from evospike.core.errors import RunError
from evospike.core.lock import GUARD, NAME, RunLock, _guarded

HOLD = """
import sys, time
from pathlib import Path
from evospike.core.lock import RunLock
RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(60)
"""
COMPETE = """
import sys
from pathlib import Path
from evospike.core.errors import RunError
from evospike.core.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    lock.acquire()
except RunError:
    print("refused", flush=True)
else:
    print("held", flush=True)
sys.stdin.readline()
"""


def child(code: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def change(folder: Path, **fields: object) -> None:
    path = folder / NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def stale(folder: Path, **fields: object) -> None:
    """Leave a lock of this very process, changed in some fields."""
    RunLock(folder).acquire()
    change(folder, **fields)


def test_a_lock_is_released_on_exit(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with RunLock(folder) as lock:
        owner = json.loads(lock.path.read_text())
        assert (owner["pid"], owner["host"]) == (os.getpid(), socket.gethostname())
    assert not lock.path.exists()
    assert not list(folder.glob("*.tmp"))
    with RunLock(folder):
        pass
    lock.release()


def test_a_lock_is_released_on_errors_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunLock(tmp_path) as lock:
        raise KeyError
    assert not lock.path.exists()


def test_a_live_owner_is_named_and_a_killed_one_replaced(tmp_path: Path) -> None:
    owner = child(HOLD, tmp_path)
    try:
        assert line(owner) == "held"
        message = rf"belongs to process {owner.pid} on host .* \(since \d{{4}}-.*\); wait for it or stop it"
        with pytest.raises(RunError, match=message), RunLock(tmp_path):
            pass
        owner.kill()  # not collected yet: a zombie is not alive
        os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
        with RunLock(tmp_path) as lock:
            assert json.loads(lock.path.read_text())["pid"] == os.getpid()
    finally:
        end(owner)


def test_one_process_holds_it_once(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path),
        pytest.raises(RunError, match=f"belongs to process {os.getpid()}"),
        RunLock(tmp_path),
    ):
        pass


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("fields", [{"boot": "another"}, {"started": "1"}, {"pid": 2**22 + 1}])
def test_locks_of_the_past_are_taken_over(tmp_path: Path, fields: dict[str, object]) -> None:
    stale(tmp_path, **fields)
    with RunLock(tmp_path) as lock:
        assert json.loads(lock.path.read_text())["boot"] != "another"
    assert not lock.path.exists()


def test_a_lock_of_another_host_is_refused(tmp_path: Path) -> None:
    stale(tmp_path, host="elsewhere", pid=2**22 + 1)
    with (
        pytest.raises(RunError, match=rf"on host elsewhere .*cannot check; wait for it, or delete .*{NAME}"),
        RunLock(tmp_path),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_an_unreadable_lock_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(RunError, match=r"cannot read the lock .*delete that file"), RunLock(tmp_path):
        pass


def test_a_lock_that_changed_hands_is_not_removed(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        change(tmp_path, token="of another owner")
    assert lock.path.exists()


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot lock run folder"), RunLock(tmp_path / "file"):
        pass


def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    stale(tmp_path, boot="another")
    rivals = [child(COMPETE, tmp_path) for _ in range(4)]
    try:
        assert [line(rival) for rival in rivals] == ["ready"] * 4
        for rival in rivals:
            assert rival.stdin is not None
            rival.stdin.write("\n")
            rival.stdin.flush()
        assert sorted(line(rival) for rival in rivals) == ["held", "refused", "refused", "refused"]
    finally:
        for rival in rivals:
            end(rival)


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_only_one_process_of_a_host_judges_a_lock_at_a_time(tmp_path: Path) -> None:
    """Else two that find the same stale lock could both remove it, the slower one removing the faster one's."""
    lock = RunLock(tmp_path)
    thread = threading.Thread(target=lock.acquire)
    with _guarded(tmp_path / GUARD):
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert not lock.path.exists()
    thread.join(5)
    assert lock.path.exists()
    lock.release()
