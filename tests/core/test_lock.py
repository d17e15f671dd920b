import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from evospike.core import lock as lock_module
from evospike.core.errors import RunError
from evospike.core.flock import guarded
from evospike.core.lock import GUARD, NAME, PATIENCE_S, HeldByOther, RunLock, holder_of

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
    """Leave a lock of this very process as one that was killed leaves it, changed in some fields."""
    with RunLock(folder) as lock:
        owner = json.loads(lock.path.read_text())
    lock.path.write_text(json.dumps({**owner, **fields}))


def be_silent(folder: Path, seconds: float) -> None:
    """As if the holder of a folder had given its last sign of life so long ago."""
    then = time.time() - seconds
    os.utime(folder / GUARD, (then, then))


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
    be_silent(tmp_path, 1e9)  # since before this machine has started
    with RunLock(tmp_path) as lock:
        assert json.loads(lock.path.read_text())["boot"] != "another"
    assert not lock.path.exists()


ELSEWHERE = {
    "another host": {"host": "elsewhere", "pid": 2**22 + 1},
    "another host of this name": {"boot": "another"},
    "another PID namespace, without locks of files": {"namespace": "pid:[1]", "pid": 2**22 + 1, "locked": False},
}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("where", ELSEWHERE)
def test_what_cannot_be_asked_is_taken_over_once_it_is_silent(tmp_path: Path, where: str) -> None:
    stale(tmp_path, **ELSEWHERE[where])
    be_silent(tmp_path, PATIENCE_S - 60)
    if where == "another host of this name":
        be_silent(tmp_path, 0)  # later than this machine has started
    message = (
        rf"cannot check; wait for it, or delete .*{NAME} if it is gone \(silent for \d+ s, taken over after 300 s\)$"
    )
    with pytest.raises(RunError, match=message) as refused, RunLock(tmp_path):
        pass
    assert not isinstance(refused.value, HeldByOther)
    be_silent(tmp_path, PATIENCE_S + 60)
    if where == "another host of this name":
        be_silent(tmp_path, 1e9)
    with RunLock(tmp_path) as lock:
        assert json.loads(lock.path.read_text())["host"] == socket.gethostname()
    assert sorted(path.name for path in tmp_path.iterdir()) == [GUARD]


def test_a_lock_without_a_beat_stays_where_it_cannot_be_checked(tmp_path: Path) -> None:
    """As release 0.1 wrote it, which nothing touches while it is held."""
    stale(tmp_path, host="elsewhere", pid=2**22 + 1)
    owner = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({key: owner[key] for key in owner if key not in ("namespace", "locked")}))
    be_silent(tmp_path, 1e9)
    with (
        pytest.raises(RunError, match=rf"cannot check; wait for it, or delete .*{NAME} if it is gone$"),
        RunLock(tmp_path),
    ):
        pass
    change(tmp_path, host=socket.gethostname())
    with RunLock(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="needs flock")
def test_a_live_owner_in_another_pid_namespace_is_alive(tmp_path: Path) -> None:
    owner = child(HOLD, tmp_path)
    try:
        assert line(owner) == "held"
        change(tmp_path, namespace="pid:[1]", pid=2**22 + 1)  # as it looks from there
        be_silent(tmp_path, 1e9)
        assert holder_of(tmp_path).state == "alive"  # type: ignore[union-attr]
        with pytest.raises(HeldByOther, match="wait for it or stop it"), RunLock(tmp_path):
            pass
        owner.kill()
        owner.wait()
        assert holder_of(tmp_path).state == "stale"  # type: ignore[union-attr]
        with RunLock(tmp_path):
            pass
    finally:
        end(owner)


def test_a_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "BEAT_S", 0.01)
    with RunLock(tmp_path):
        be_silent(tmp_path, 1e6)
        last = time.monotonic() + 30
        while time.time() - (tmp_path / GUARD).stat().st_mtime > 1e5:
            assert time.monotonic() < last
            time.sleep(0.01)


@pytest.mark.parametrize("loss", ["taken", "deleted", "overwritten"])
def test_a_holder_that_wakes_up_late_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    """Nothing beats here, as in a process that is suspended; it looks before it writes again."""
    clock = [1000.0]
    monkeypatch.setattr(lock_module, "clock", lambda: clock[0])
    lock = RunLock(tmp_path)
    lock.acquire()
    clock[0] += PATIENCE_S / 2 + 1
    lock.check()  # nobody has taken it
    if loss == "taken":
        change(tmp_path, token="of another", host="elsewhere")
    elif loss == "deleted":
        lock.path.unlink()
    else:
        lock.path.write_text("x")
    lock.check()  # nobody takes it so soon
    clock[0] += PATIENCE_S + 1
    said = {"taken": f"is now of process {os.getpid()} on host elsewhere", "deleted": "was deleted"}
    for _ in range(2):
        with pytest.raises(
            RunError, match=rf"its lock {said.get(loss, 'was overwritten')}, after 301 s without a sign"
        ):
            lock.check()
    lock.release()
    assert lock.path.exists() == (loss != "deleted")


def test_the_lock_of_a_faster_host_is_put_back(tmp_path: Path) -> None:
    stale(tmp_path, boot="another")
    lock = RunLock(tmp_path)
    found = lock._read()
    assert found is not None
    change(tmp_path, token="of a faster one")
    with pytest.raises(HeldByOther, match="was just taken"):
        lock._take_away(found)
    assert json.loads(lock.path.read_text())["token"] == "of a faster one"
    assert sorted(path.name for path in tmp_path.iterdir()) == [GUARD, NAME]


def test_leftovers_of_writes_that_were_cut_off_are_removed(tmp_path: Path) -> None:
    mine = [".run.json.tmp", "run.json.123.tmp", ".notes.tmp", ".x.12a.tmp"]
    old = [".run.json.123.tmp", ".study.sqlite.77.tmp", ".study.sqlite.77.tmp-journal", f".run.lock.{'a' * 32}.tmp"]
    for name in [*mine, *old, ".plan.json.8.tmp"]:
        (tmp_path / name).touch()
        if name != ".plan.json.8.tmp":  # it may be written right now
            os.utime(tmp_path / name, (1, 1))
    with RunLock(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*mine, ".plan.json.8.tmp", GUARD}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_no_lock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(RunError, match=r"cannot read the lock .*delete that file"), RunLock(tmp_path):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads names of open files from /proc")
def test_a_lock_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    with RunLock(tmp_path / "run"):
        pass
    above, contents, folder = synced
    assert (above, folder) == (tmp_path.name, "run")
    assert contents.startswith(".run.lock.")


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
    with pytest.raises(RunError, match=r"cannot write to '.*file'.*; make it writable"), RunLock(tmp_path / "file"):
        pass


def test_a_folder_that_its_holder_removed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, removed = tmp_path / "build", []
    making = lock_module.make_folder

    def make_then_lose(path: Path) -> None:
        making(path)
        if not removed:
            removed.append(path)
            path.rmdir()

    monkeypatch.setattr(lock_module, "make_folder", make_then_lose)
    with RunLock(folder):
        assert removed == [folder]
        assert (folder / NAME).is_file()


def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    stale(tmp_path, pid=2**22 + 1)
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
    with guarded(tmp_path / GUARD):
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert not lock.path.exists()
    thread.join(60)
    assert lock.path.exists()
    lock.release()
