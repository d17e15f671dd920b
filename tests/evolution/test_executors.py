import errno
import os
import pickle
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evospike.core.errors import RunError, SettingsError
from evospike.evolution.executors import local
from evospike.evolution.executors.base import Outcome
from evospike.evolution.executors.local import LocalExecutor, WorkerState
from evospike.evolution.executors.worker import call, one_line, outcome_of

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _worker_functions_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


def payloads(n: int) -> list[dict[str, Any]]:
    return [{"x": x} for x in range(n)]


def executor(function: str, workers: int = 2, **context: Any) -> LocalExecutor:
    return LocalExecutor(workers, 1, f"worker_functions:{function}", context)


def outcomes(function: str, n: int, workers: int = 2, **context: Any) -> dict[int, Outcome]:
    with executor(function, workers, **context) as pool:
        return dict(pool.run(payloads(n)))


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_values_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    found = outcomes("square", 6, workers, offset=0.1)
    assert {index: outcome.value["value"] for index, outcome in found.items()} == {x: x**2 + 0.1 for x in range(6)}
    assert {outcome.attempts for outcome in found.values()} == {1}
    assert {outcome.value["threads"] for outcome in found.values()} == {1}


def test_outcomes_arrive_as_they_are_ready_and_workers_are_kept() -> None:
    with executor("square", offset=0) as pool:
        workers: set[int] = set()
        while len(workers) < 2:  # until both have started
            workers |= {one.value["pid"] for _, one in pool.run([{"x": x, "wait": 0.1} for x in range(2)])}
        first = list(pool.run([{"x": 0, "wait": 3.0}, {"x": 1}]))
        second = list(pool.run(payloads(4)))
    assert [index for index, _ in first] == [1, 0]
    assert {outcome.value["pid"] for _, outcome in second} <= {outcome.value["pid"] for _, outcome in first}


def test_thread_variables_are_set_in_the_workers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with LocalExecutor(1, 3, "worker_functions:environment", {}) as pool:
        ((_, outcome),) = pool.run([{}])
    assert outcome.value == {"omp": "3", "mkl": "3"}
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_errors_of_the_function_are_outcomes_of_one_line() -> None:
    found = outcomes("picky", 4, workers=1)
    assert found[0] == Outcome("fine")
    assert found[1] == Outcome(None, "ValueError: x is one", 1)
    assert found[2] == Outcome(None, "SystemExit: 3", 1)
    error = found[3].error
    assert error is not None
    assert "lambda" in error
    assert "\n" not in error


def test_a_payload_whose_worker_dies_is_tried_once_more(tmp_path: Path) -> None:
    found = outcomes("die_once", 4, folder=str(tmp_path))
    assert {index: (item.value, item.attempts) for index, item in found.items()} == {
        0: (0, 1),
        1: (1, 2),
        2: (2, 1),
        3: (3, 1),
    }


def test_who_watches_is_told_what_each_worker_does(tmp_path: Path) -> None:
    told: list[Sequence[WorkerState]] = []
    with LocalExecutor(2, 1, "worker_functions:die_once", {"folder": str(tmp_path)}, told.append) as pool:
        list(pool.run(payloads(4)))
    assert told[0][0].payload is None
    assert not told[0][0].ready
    assert max(len(states) for states in told) == 2
    worked = [(state.payload["x"], state.attempt) for states in told for state in states if state.payload is not None]
    assert dict.fromkeys(worked).keys() == {(0, 1), (1, 1), (1, 2), (2, 1), (3, 1)}
    assert all(state.ready for states in told for state in states if state.payload is not None)
    assert all(early.since <= late.since for early, late in pairwise(_of_one_worker(told)))
    assert told[-1] == []


def _of_one_worker(told: list[Sequence[WorkerState]]) -> list[WorkerState]:
    pid = told[0][0].pid
    return [state for states in told for state in states if state.pid == pid]


def test_retries_run_alone(tmp_path: Path) -> None:
    found = outcomes("log_and_die_once", 4, workers=3, folder=str(tmp_path))
    assert {index: item.attempts for index, item in found.items()} == {0: 2, 1: 2, 2: 1, 3: 1}
    lines = (tmp_path / "log").read_text().split("\n")
    assert sorted(lines[-5:-1]) == ["end 0", "end 1", "start 0", "start 1"]
    assert [line.split()[0] for line in lines[-5:-1]] == ["start", "end", "start", "end"]


def test_payloads_may_be_added_while_outcomes_are_taken(tmp_path: Path) -> None:
    """Also after one that has to wait until it can run alone: it does not wait for all that is added later."""
    added = [{"x": x, "wait": 0.05} for x in range(3)]
    with LocalExecutor(2, 1, "worker_functions:die_once", {"folder": str(tmp_path)}) as pool:
        found = []
        for index, outcome in pool.run(added):
            found.append((index, outcome.value, outcome.attempts))
            if len(added) < 30:
                added.append({**added[0], "x": len(added)})
    assert sorted(found) == [(x, x, 1 + (x == 1)) for x in range(30)]
    assert [index for index, _, _ in found].index(1) < 25


def test_what_is_added_waits_while_a_retry_runs_alone(tmp_path: Path) -> None:
    added = payloads(3)
    with executor("exhaust_among_others", folder=str(tmp_path)) as pool:
        found = []
        for index, outcome in pool.run(added):
            found.append((index, outcome.error, outcome.attempts))
            if len(added) < 12:
                added.append({"x": len(added)})
    assert sorted(found) == [(x, None, 1 + (x == 1)) for x in range(12)]


def torch_error(words: str) -> Callable[..., Any]:
    def call(payload: Any, context: Any) -> None:
        raise torch.OutOfMemoryError(words) if words.startswith("CUDA out") else RuntimeError(words)

    return call


def fails_to_fork(payload: Any, context: Any) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize(
    "function",
    [
        lambda payload, context: bytearray(1 << 62),
        lambda payload, context: np.empty(1 << 50),
        lambda payload, context: torch.empty(1 << 50),
        torch_error("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch_error("CUDA error: out of memory"),
        torch_error("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        fails_to_fork,
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(function: Callable[..., Any]) -> None:
    reply = call(function, {}, {})
    assert (reply.value, reply.exhausted) == (None, True)
    assert outcome_of(reply, 2).error == f"memory ran out twice ({reply.error})"


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("shapes"), OSError(errno.ENOSPC, "full"), SystemExit(3)]
)
def test_other_errors_are_final(error: BaseException) -> None:
    def function(payload: Any, context: Any) -> None:
        raise error

    reply = call(function, {}, {})
    assert not reply.exhausted
    assert outcome_of(reply, 1) == Outcome(None, one_line(error), 1)


def test_what_a_call_held_when_memory_ran_out_is_free_afterwards() -> None:
    class Held:
        pass

    kept: list[weakref.ref[Held]] = []

    def function(payload: Any, context: Any) -> None:
        held = Held()
        held.itself = held
        kept.append(weakref.ref(held))
        raise MemoryError

    assert call(function, {}, {}).exhausted
    assert kept[0]() is None


def test_what_torch_keeps_of_a_gpu_is_given_back_after_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("back"))
    assert pickle.loads(call(lambda payload, context: 3, {}, {}).value or b"") == 3
    assert call(lambda payload, context: bytearray(1 << 62), {}, {}).exhausted
    assert given == ["back", "back"]


def test_a_worker_that_dies_twice_is_an_error(tmp_path: Path) -> None:
    found = outcomes("die_always", 3, folder=str(tmp_path))
    assert found[1] == Outcome(None, "worker died twice (killed by SIGKILL)", 2)
    assert [found[0].value, found[2].value] == [0, 2]


def test_a_death_is_noticed_although_a_child_holds_the_pipe() -> None:
    assert outcomes("die_leaving_a_child", 1)[0].error == "worker died twice (killed by SIGKILL)"


def test_nothing_to_do_starts_nothing() -> None:
    assert outcomes("square", 0) == {}


def test_a_function_that_cannot_be_loaded_is_explained() -> None:
    with pytest.raises(RunError, match=r"workers cannot load 'worker_functions:absent' \(AttributeError: .*absent"):
        outcomes("absent", 1)
    with pytest.raises(SettingsError, match=r"expected 'package\.module:name'"):
        LocalExecutor(1, 1, "no_function", {})
    with pytest.raises(SettingsError, match="workers=0, threads=1; give 1 or more"):
        LocalExecutor(0, 1, "a:b", {})


def test_workers_that_cannot_start_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evospike.evolution.executors.local._BOOTSTRAP", "raise SystemExit(7)")
    with pytest.raises(RunError, match=r"end before they are ready \(exit code 7\)"):
        outcomes("square", 2, offset=0)


def test_check_can_stop_a_run_and_the_workers_end_at_once(tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def check() -> None:
        if len(list(tmp_path.glob("pid-*"))) == 2:
            raise Stop

    with executor("sleep", folder=str(tmp_path)) as pool:
        with pytest.raises(Stop):
            list(pool.run(payloads(4), check))
        start = time.monotonic()
        pool.close()
        assert time.monotonic() - start < 30  # they sleep for a minute
    assert not any(is_running(pid) for pid in pids(tmp_path))


def test_close_without_kill_lets_idle_workers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    wait = local._Worker.wait
    monkeypatch.setattr(local._Worker, "wait", lambda self, seconds: ended.append(wait(self, 20 * seconds)))
    pool = executor("square", offset=0)
    assert len(list(pool.run(payloads(2)))) == 2
    pool.close(kill=False)
    assert ended
    assert set(ended) == {"exit code 0"}


DRIVER = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background hands down "ignore"
from evospike.evolution.executors.local import LocalExecutor
with LocalExecutor(2, 1, "worker_functions:sleep", {"folder": sys.argv[1]}) as pool:
    list(pool.run([{}, {}]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_workers_end_with_a_killed_driver(tmp_path: Path) -> None:
    driver = start_driver(tmp_path)
    driver.kill()
    driver.communicate()
    assert all_end(pids(tmp_path), within_s=30.0)  # they sleep for a minute


ORPHAN = (
    "import os; parent = os.getppid(); from evospike.evolution.executors.worker import _watch; "
    "os.write(1, b'watching\\n'); _watch(parent)"
)
PARENT = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {ORPHAN!r}]).pid); sys.stdin.read()"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX processes")
def test_the_watch_alone_ends_an_orphan() -> None:
    """Where the kernel does not tell a worker that its driver is gone (macOS), polling does."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=-1, stdout=-1, text=True, env=env) as parent:
        assert parent.stdout is not None
        said = sorted(parent.stdout.readline().strip() for _ in range(2))  # parent and orphan, whoever is first
        assert said[1] == "watching"
        orphan = int(said[0])
        assert is_running(orphan)
        parent.kill()
    assert all_end([orphan], within_s=60.0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_reaches_the_driver_alone(tmp_path: Path) -> None:
    driver = start_driver(tmp_path)
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=60)  # no matter how busy the machine is
    assert errors.count("Traceback") == 1
    assert all_end(pids(tmp_path), within_s=10.0)


def start_driver(folder: Path) -> "subprocess.Popen[str]":
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    deadline = time.monotonic() + 60
    while len(pids(folder)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids(folder)) == 2
    return driver


def pids(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    if sys.platform != "linux":
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # collected since
        return False


def all_end(processes: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(is_running(pid) for pid in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
