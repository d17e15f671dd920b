"""What holds for every executor holds on Ray too; and what only a cluster can do to a run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import evospike.evolution.executors.ray as ray_module
import evospike.evolution.executors.ray_cluster as ray_cluster
from evospike.core.errors import Interrupted, MissingExtra, RunError, SettingsError
from evospike.evolution.executors.base import Outcome
from evospike.evolution.executors.local import LocalExecutor, WorkerState
from evospike.evolution.executors.ray import _JUST_NOW_S, RayExecutor, _Queue
from evospike.evolution.executors.ray_cluster import Cluster, _turns_away

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra 'ray'"),
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals"),
]


@contextmanager
def worker_functions_on_the_path() -> Iterator[None]:
    """Inside, processes that start find the functions of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of one node with four CPUs to which this process is connected; tests may add nodes."""
    handler = signal.getsignal(signal.SIGTERM)
    with worker_functions_on_the_path():
        import ray
        from ray.cluster_utils import Cluster

        settings = {
            "health_check_initial_delay_ms": 1000,
            "health_check_period_ms": 300,
            "health_check_failure_threshold": 3,
            "worker_niceness": 0,
        }
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "_system_config": settings})
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()
    signal.signal(signal.SIGTERM, handler)


KINDS = {"local": LocalExecutor, "ray": RayExecutor}
Run = Callable[..., dict[int, Outcome]]


@pytest.fixture(scope="class", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an executor that can start workers."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    with worker_functions_on_the_path():
        yield request.param


@pytest.fixture(scope="class")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the functions of a pool leave their marks."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="class")
def pool(kind: str, folder: Path) -> Iterator[Any]:
    """Two workers for the function that a payload names; a payload is tried twice."""
    context = {"offset": 0.1, "folder": str(folder), "numbers": np.arange(100_000)}
    retries = {"retries": 1} if kind == "ray" else {}
    with KINDS[kind](2, 2, "worker_functions:any_of", context, **retries) as pool:
        yield pool


@pytest.fixture(scope="class")
def run(pool: Any) -> Run:
    """Runs a function of the tests on payloads, always in the same two workers."""
    return lambda function, payloads: dict(pool.run([{"function": function, **payload} for payload in payloads]))


def on_ray(function: str, workers: int = 2, limit_s: float = 0.0, **context: Any) -> RayExecutor:
    return RayExecutor(workers, 1, f"worker_functions:{function}", context, limit_s=limit_s, retries=1)


def payloads(n: int) -> list[dict[str, Any]]:
    return [{"x": x} for x in range(n)]


class TestOnTwoWorkers:
    """What holds for every executor."""

    def test_values_arrive_as_they_are_ready_and_workers_are_kept(self, run: Run) -> None:
        found = run("square", payloads(6))
        assert {index: outcome.value["value"] for index, outcome in found.items()} == {x: x**2 + 0.1 for x in range(6)}
        assert {(outcome.attempts, outcome.error) for outcome in found.values()} == {(1, None)}
        assert {outcome.value["threads"] for outcome in found.values()} == {2}
        workers: set[int] = set()
        while len(workers) < 2:  # until the second one has started too
            workers |= {one.value["pid"] for one in run("square", [{"x": x, "wait": 0.1} for x in range(2)]).values()}
        later = run("square", [{"x": 0, "wait": 3.0}, {"x": 1}])
        assert list(later) == [1, 0]
        assert {one.value["pid"] for one in later.values()} == workers
        assert run("square", []) == {}

    def test_thread_variables_are_set_in_the_workers_only(self, run: Run) -> None:
        before = os.environ.get("OMP_NUM_THREADS")
        assert run("environment", [{}])[0].value == {"omp": "2", "mkl": "2"}
        assert os.environ.get("OMP_NUM_THREADS") == before

    def test_errors_of_the_function_are_outcomes_of_one_line(self, run: Run) -> None:
        found = run("picky", payloads(4))
        assert found[0] == Outcome("fine")
        assert found[1] == Outcome(None, "ValueError: x is one", 1)
        assert found[2] == Outcome(None, "SystemExit: 3", 1)
        error = found[3].error
        assert error is not None
        assert "lambda" in error
        assert "\n" not in error

    def test_a_payload_whose_worker_dies_is_tried_again(self, run: Run) -> None:
        found = run("die_once", payloads(4))
        assert {index: (item.value, item.attempts) for index, item in found.items()} == {
            0: (0, 1),
            1: (1, 2),
            2: (2, 1),
            3: (3, 1),
        }

    def test_a_payload_that_keeps_killing_its_worker_is_given_up(self, run: Run, kind: str) -> None:
        how = {"local": "killed by SIGKILL", "ray": "ActorDiedError: its process ended"}[kind]
        found = run("die_always", payloads(3))
        assert [found[0].value, found[2].value] == [0, 2]
        assert found[1] == Outcome(None, f"worker died twice ({how})", 2)

    def test_a_payload_that_ran_out_of_memory_is_tried_again_alone_and_its_worker_goes_on(
        self, run: Run, folder: Path
    ) -> None:
        found = run("exhaust_among_others", payloads(4))
        assert {index: (item.value["x"], item.attempts) for index, item in found.items()} == {
            0: (0, 1),
            1: (1, 2),
            2: (2, 1),
            3: (3, 1),
        }
        assert is_running(int((folder / "exhausted-1").read_text()))

    def test_a_payload_that_runs_out_of_memory_alone_too_is_given_up(self, run: Run) -> None:
        assert run("exhaust_always", [{}])[0] == Outcome(None, "memory ran out twice (MemoryError)", 2)

    def test_payloads_may_be_added_while_outcomes_are_taken(self, pool: Any, folder: Path) -> None:
        """Also after one whose memory ran out: it does not wait for all that is added later."""
        (folder / "exhausted-1").unlink(missing_ok=True)
        added = [{"function": "exhaust_among_others", **one} for one in payloads(3)]
        found = []
        for index, outcome in pool.run(added):
            found.append((index, outcome.value["x"], outcome.attempts))
            if len(added) < 12:
                added.append({**added[0], "x": len(added)})
        assert sorted(found) == [(x, x, 1 + (x == 1)) for x in range(12)]
        assert [index for index, _, _ in found].index(1) < 9

    def test_arrays_of_the_context_are_read_in_place_on_ray(self, run: Run, kind: str) -> None:
        numbers = np.arange(100_000)
        assert run("in_place", [{}])[0].value == {"sum": int(numbers.sum()), "writeable": kind == "local"}


def test_a_function_that_cannot_be_loaded_is_explained(kind: str) -> None:
    pool = KINDS[kind](1, 1, "worker_functions:absent", {})
    with pool, pytest.raises(RunError, match=r"cannot load 'worker_functions:absent' \(AttributeError: .*absent"):
        list(pool.run(payloads(1)))


def test_check_can_stop_a_run_and_the_workers_end_at_once(kind: str, tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def check() -> None:
        if len(list(tmp_path.glob("pid-*"))) == 2:
            raise Stop

    pool = KINDS[kind](2, 1, "worker_functions:sleep", {"folder": str(tmp_path)})
    with pool, pytest.raises(Stop):
        list(pool.run(payloads(4), check))
    assert all_end(pids(tmp_path), within_s=30.0)


def test_a_payload_that_takes_too_long_is_ended_and_not_tried_again(cluster: Any, tmp_path: Path) -> None:
    with on_ray("sleep", workers=1, limit_s=0.5, folder=str(tmp_path)) as pool:
        ((_, outcome),) = pool.run(payloads(1))
        assert outcome == Outcome(None, "not done after 0.5 s", 1, timed_out=True)
        assert all_end(pids(tmp_path), within_s=30.0)


def test_a_node_that_dies_costs_no_value(cluster: Any, tmp_path: Path) -> None:
    """Three workers of two CPUs on nodes of four and two, so one of them is on the node that is killed."""
    node = cluster.add_node(num_cpus=2)
    told: list[list[WorkerState]] = []

    def watch(states: Sequence[WorkerState]) -> None:
        told.append(list(states))
        busy = sum(state.payload is not None for state in states)
        if node not in cluster.list_all_nodes() and busy < 3:
            (tmp_path / "go").touch()  # the driver has noticed
        elif busy == 3 and node in cluster.list_all_nodes():
            cluster.remove_node(node, allow_graceful=False)

    context = {"folder": str(tmp_path)}
    with RayExecutor(3, 2, "worker_functions:hold", context, watch, retries=1) as pool:
        found = dict(pool.run(payloads(4)))
    assert node not in cluster.list_all_nodes()
    (lost,) = [x for x in range(3) if found[x].attempts > 1 or found[x].error]
    kept = [x for x in range(4) if x != lost]
    assert [found[x] for x in kept] == [Outcome(x) for x in kept]
    assert found[lost] == Outcome(lost, None, 2)
    assert _alone(told, lost)
    assert told[-1] == []


def _alone(told: list[list[WorkerState]], x: int) -> bool:
    """Whether the second attempt of a payload ran while nothing else did."""
    second = [
        states
        for states in told
        if any(state.attempt == 2 and state.payload is not None and state.payload["x"] == x for state in states)
    ]
    return bool(second) and all(sum(state.payload is not None for state in states) == 1 for states in second)


def test_idle_workers_on_a_lost_node_cost_no_attempt(cluster: Any) -> None:
    """Two workers of four CPUs, on two nodes of four; one node is lost while both wait. Nothing is tried twice."""
    node = cluster.add_node(num_cpus=4)
    wait = [{"x": x, "wait": 0.3} for x in range(2)]
    with RayExecutor(2, 4, "worker_functions:square", {"offset": 0}, retries=0) as pool:
        workers: set[int] = set()
        while len(workers) < 2:  # until the second one has started too
            workers |= {outcome.value["pid"] for _, outcome in pool.run(wait)}
        cluster.remove_node(node, allow_graceful=False)
        while all(map(is_running, workers)):
            time.sleep(0.1)
        time.sleep(_JUST_NOW_S)  # what it gave as a sign of life before that counts no longer
        found = dict(pool.run(wait))
    assert {(x, outcome.value and outcome.value["value"], outcome.error) for x, outcome in found.items()} == {
        (0, 0, None),
        (1, 1, None),
    }


def test_a_node_that_is_lost_while_workers_start_there_does_not_end_the_run(cluster: Any, tmp_path: Path) -> None:
    """Four workers of four CPUs: one on the node of four, three on the node of twelve that is lost."""
    node = cluster.add_node(num_cpus=12)
    sizes, ended = [0], []

    def watch(states: Sequence[WorkerState]) -> None:
        if len(states) < sizes[-1]:
            ended.append(len(states))
        sizes.append(len(states))

    def check() -> None:
        if node in cluster.list_all_nodes() and len(pids(tmp_path)) == 4:
            cluster.remove_node(node, allow_graceful=False)
        elif len(ended) == 3:
            (tmp_path / "go").touch()

    context, describe = {"offset": 0, "folder": str(tmp_path)}, "worker_functions:facts_when_told"
    with RayExecutor(4, 4, "worker_functions:square", context, watch, retries=0, describe=describe) as pool:
        found = dict(pool.run(payloads(4), check))
    assert node not in cluster.list_all_nodes()
    assert {x: outcome.value["value"] for x, outcome in found.items()} == {x: x**2 for x in range(4)}


class FailingStarts:
    """An executor of which workers start and fail to. ready: how many others work."""

    def __init__(self, ready: int) -> None:
        self.pool = on_ray("square", workers=8)
        self.pool._workers = [SimpleNamespace(ready=True) for _ in range(ready)]

    def begin(self) -> Any:
        return SimpleNamespace(ready=False, failed_before=self.pool._failed_starts)

    def fail(self, *workers: Any) -> None:
        for worker in workers:
            self.pool._count_failed_start(worker, "killed")


def test_workers_that_fail_to_start_one_after_the_other_end_the_run() -> None:
    starts = FailingStarts(ready=0)
    starts.fail(*[starts.begin() for _ in range(8)])  # together: one machine had them all
    starts.fail(*[starts.begin() for _ in range(8)])
    with pytest.raises(RunError, match=r"workers end before they are ready \(killed\); see the logs of Ray"):
        starts.fail(starts.begin())


def test_while_others_work_failing_starts_are_only_paused(capsys: pytest.CaptureFixture[str]) -> None:
    starts = FailingStarts(ready=1)
    assert starts.pool._may_start()
    for _ in range(5):
        starts.fail(starts.begin())
    assert capsys.readouterr().err == "notice: some workers end before they are ready (killed); the others go on\n"
    assert not starts.pool._may_start()
    starts.pool._workers.clear()
    assert starts.pool._may_start()
    with pytest.raises(RunError, match="workers end before they are ready"):
        starts.fail(starts.begin())


def test_a_lost_machine_is_told_from_an_ended_process(cluster: Any) -> None:
    import ray

    def how(node: str, error: Exception) -> str:
        pool = on_ray("square")
        return pool._how(SimpleNamespace(node=node), error)

    (alive,) = {one["NodeID"] for one in ray.nodes() if one["Alive"]}
    died = ray.exceptions.ActorDiedError()
    assert how(alive, died) == "ActorDiedError: its process ended"
    assert how("another", died) == "NodeDiedError: its machine was lost"
    assert (
        how(alive, ray.exceptions.OutOfMemoryError("of\nmemory")) == "OutOfMemoryError: its machine ran out of memory"
    )
    assert "\n" not in how(alive, ray.exceptions.RaySystemError("something\nelse"))


def test_what_values_depend_on_is_told_for_every_worker(cluster: Any) -> None:
    told: list[Mapping[str, str]] = []
    pool = RayExecutor(
        2,
        1,
        "worker_functions:square",
        {"offset": 0, "colour": "green"},
        describe="worker_functions:facts",
        on_worker=lambda host, facts: told.append({"host": host, **facts}),
    )
    with pool:
        found = dict(pool.run([{"x": x, "wait": 0.5} for x in range(2)]))
    assert {one["colour"] for one in told} == {"green"}
    assert {one["host"] for one in told} == {os.uname().nodename}
    # a worker that starts late may find everything done by the other
    assert {one["pid"] for one in told} >= {str(outcome.value["pid"]) for outcome in found.values()}
    assert len({one["pid"] for one in told}) == len(told)


def test_the_last_attempt_runs_alone_and_others_among_the_rest() -> None:
    queue = _Queue(most_attempts=3)
    assert queue.grow_to(2)
    assert [queue.next(), queue.next()] == [0, 1]
    assert not queue.has_next(alone=True)
    assert queue.again(0)
    assert queue.has_next(alone=False)
    assert queue.next() == 0
    assert queue.again(0)
    assert queue.grow_to(3)  # what came later waits until it has run
    assert not queue.has_next(alone=False)
    assert queue.has_next(alone=True)
    assert queue.next() == 0
    assert not queue.again(0)
    assert queue.attempts == [3, 1]
    assert queue.grow_to(3)
    assert queue.has_next(alone=False)
    assert queue.next() == 2
    assert not queue.grow_to(3)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingsError, match="workers=0, threads=1, retries=2, gpu_share=0; give 1 or more"):
        RayExecutor(0, 1, "a:b", {})
    with pytest.raises(SettingsError, match="retries=-1"):
        RayExecutor(1, 1, "a:b", {}, retries=-1)
    with pytest.raises(SettingsError, match=r"expected 'package\.module:name'"):
        RayExecutor(1, 1, "no_function", {})


def test_without_ray_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with RayExecutor(1, 1, "a:b", {}) as pool, pytest.raises(MissingExtra, match=r"pip install 'evospike\[ray\]'"):
        list(pool.run([{}]))


class PretendedRay:
    """As much of Ray as a start needs. init: what starting does; ip: how the machine knows itself then."""

    def __init__(self, init: Callable[[], None], ip: str = "127.0.0.1") -> None:
        self._init, self.calls = init, []
        self.util = SimpleNamespace(get_node_ip_address=lambda: ip)
        self._private = SimpleNamespace(worker=SimpleNamespace(_worker_logs_enabled=True))
        self.heard_at_the_end: bool | None = None

    def is_initialized(self) -> bool:
        return False

    def init(self, **options: Any) -> None:
        self.calls.append(options)
        self._init()

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="127.0.0.1:1")

    def shutdown(self) -> None:
        self.heard_at_the_end = self._private.worker._worker_logs_enabled
        self.calls.append("shutdown")


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PretendedRay]:
    def set_up(*given: Any) -> PretendedRay:
        made = PretendedRay(*given)
        monkeypatch.setattr(ray_cluster, "_import_ray", lambda: made)
        return made

    return set_up


def test_sigterm_while_ray_starts_stops_the_run(pretend: Callable[..., PretendedRay]) -> None:
    def start() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Ray sets a handler of its own, which exits
        raise SystemExit(signal.SIGTERM)

    pretend(start)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as stopped:
        Cluster("", 1, 0).join()
    assert stopped.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_cluster_of_our_own_that_others_could_reach_is_ended(pretend: Callable[..., PretendedRay]) -> None:
    ray = pretend(lambda: None, "192.0.2.1")
    with pytest.raises(RunError, match="Ray was imported before and would be open to other machines"):
        Cluster("", 1, 0).join()
    assert ray.calls[-1] == "shutdown"
    assert not Path(ray.calls[0]["_temp_dir"]).exists()


def test_what_a_cluster_of_our_own_is_started_with(
    pretend: Callable[..., PretendedRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    seen: list[str | None] = []
    ray = pretend(lambda: seen.append(os.environ.get("RAY_USAGE_STATS_ENABLED")))
    cluster = Cluster("", 6, 0.5)
    cluster.join()
    cluster.join()
    assert seen == ["0"]
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ
    ((options),) = ray.calls
    assert (options["num_cpus"], options["num_gpus"], options["include_dashboard"]) == (6, None, False)
    assert not ray._private.worker._worker_logs_enabled
    cluster.leave()
    assert ray.calls[1:] == ["shutdown"]
    assert ray.heard_at_the_end is False
    assert ray._private.worker._worker_logs_enabled
    assert not Path(options["_temp_dir"]).exists()


@pytest.fixture
def without_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An account that has no token, in a process that is not connected, as the cluster of these tests is."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ray_cluster, "_is_connected", lambda: False)


@pytest.mark.usefixtures("without_token")
@pytest.mark.parametrize(
    ("variables", "saved", "demanded", "shown"),
    [
        ({}, False, False, None),
        ({}, True, True, "token"),
        ({}, True, False, None),
        ({"RAY_AUTH_TOKEN": "t"}, False, True, "token"),
        ({"RAY_AUTH_TOKEN_PATH": "t"}, False, True, "token"),
        ({"RAY_AUTH_MODE": "disabled"}, True, True, "disabled"),
    ],
)
def test_a_cluster_that_demands_a_token_is_shown_the_one_of_this_account(
    variables: Mapping[str, str],
    saved: bool,
    demanded: bool,
    shown: str | None,
    pretend: Callable[..., PretendedRay],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if saved:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").touch()
    monkeypatch.setattr(ray_cluster, "_turns_away", lambda address, mode: demanded and mode == "disabled")
    seen: list[str | None] = []
    pretend(lambda: seen.append(os.environ.get("RAY_AUTH_MODE")))
    with socket.create_server(("127.0.0.1", 0)) as server:
        Cluster(f"127.0.0.1:{server.getsockname()[1]}", 1, 0).join()
    assert seen == [shown]
    assert os.environ.get("RAY_AUTH_MODE") == variables.get("RAY_AUTH_MODE")


@pytest.mark.usefixtures("without_token")
@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "demands a token and this account has none; copy the auth_token"),
        ("t", "demands another token than that"),
    ],
)
def test_a_cluster_that_would_turn_us_away_is_not_joined(
    token: str | None,
    reason: str,
    pretend: Callable[..., PretendedRay],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if token is not None:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    monkeypatch.setattr(ray_cluster, "_turns_away", lambda address, mode: True)
    ray = pretend(lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(RunError, match=reason):
        Cluster(f"127.0.0.1:{server.getsockname()[1]}", 1, 0).join()
    assert ray.calls == []


def test_a_head_that_is_silent_for_too_long_is_lost(
    pretend: Callable[..., PretendedRay], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, cluster = pretend(lambda: None), Cluster("", 1, 0)
    assert cluster.answers()  # before it was needed
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=head))
        cluster.join()
        assert cluster.answers(now=True)
    assert cluster.answers()  # a look holds for a moment
    assert not cluster.answers(now=True)
    assert not cluster.answers()
    monkeypatch.setattr(ray_cluster, "_HEAD_S", -1.0)
    with pytest.raises(RunError, match=f"head of the Ray cluster at '{head}' does not answer any more"):
        cluster.answers(now=True)


def test_what_workers_wait_for_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_module, "_PATIENCE_S", -1.0)
    patience = ray_module._Patience(SimpleNamespace(free=lambda: "1 CPUs and 0 GPUs"), {"num_cpus": 4, "num_gpus": 0.5})
    patience.look(started=False)
    patience.look(started=False)
    assert capsys.readouterr().err == (
        "notice: no worker has started yet; each needs 4 CPUs and 0.5 GPUs of one machine, "
        "the cluster has 1 CPUs and 0 GPUs free\n"
    )
    patience.look(started=True)
    patience.look(started=False)
    assert capsys.readouterr().err.count("notice") == 1


DRIVER = """
import sys
from evospike.core.errors import Interrupted, RunError
from evospike.core.stopping import stop_on_signals
from evospike.evolution.executors import ray_cluster
from evospike.evolution.executors.ray import RayExecutor
ray_cluster._HEAD_S = 1.0
folder, address = sys.argv[1:]
context = {"folder": folder}
with stop_on_signals() as stop, RayExecutor(2, 1, "worker_functions:sleep", context, address=address) as pool:
    try:
        list(pool.run([{}, {}], stop.check))
    except Interrupted as stopped:
        print("stopped by", stopped.signum, flush=True)
    except RunError as error:
        print("lost:", error, flush=True)
"""
TOKEN = "0123456789abcdef" * 4
STOPPING = "\nstopping at the next safe moment; once more to stop at once\n"


@contextmanager
def driver(folder: Path, address: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own group whose two workers are busy."""
    # Ray's sockets have to have short paths, and a killed driver leaves its folder behind
    with tempfile.TemporaryDirectory(prefix="e", ignore_cleanup_errors=True) as place:
        with worker_functions_on_the_path():
            process = subprocess.Popen(
                [sys.executable, "-c", DRIVER, str(folder), address],
                env={**os.environ, "TMPDIR": place, "RAY_AUTH_TOKEN": TOKEN},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                process_group=0,
            )
        with process:
            try:
                deadline = time.monotonic() + 600
                while len(pids(folder)) < 2 and process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.05)
                assert len(pids(folder)) == 2
                yield process
            finally:
                process.kill()


def agents_among(processes: list[int]) -> list[int]:
    return [pid for pid in processes if title_of(pid).endswith(b"Agent")]


def title_of(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0 ")
    except OSError:
        return b""


def test_a_cluster_of_our_own_is_closed_to_others_and_ends_with_a_killed_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with driver(tmp_path, "") as process:
        everything = descendants(process.pid)
        deadline, agents = time.monotonic() + 60, agents_among(everything)
        while len(agents) < 2 and time.monotonic() < deadline:  # each names itself when it has started
            time.sleep(0.1)
            everything = descendants(process.pid)
            agents = agents_among(everything)
        assert len(agents) == 2  # helpers of Ray that notice within a minute, and compute nothing
        assert set(pids(tmp_path)) < set(everything)
        assert listening_beyond_loopback(everything) == []
        head = head_of(everything)
        assert _turns_away(head, "disabled") or older_than("2.59")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "fedcba9876543210" * 4)
        assert _turns_away(head, "token") or older_than("2.59")
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        assert not _turns_away(head, "token")
        process.kill()
    assert all_end([pid for pid in everything if pid not in agents], within_s=30.0)


def test_ctrl_c_reaches_the_driver_alone_and_it_ends_its_cluster(tmp_path: Path) -> None:
    with driver(tmp_path, "") as process:
        everything = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.communicate(timeout=120) == ("stopped by 2\n", STOPPING)
    assert all_end(everything, within_s=30.0)


def test_a_cluster_whose_head_is_lost_ends_the_run(tmp_path: Path) -> None:
    with driver(tmp_path, "") as process:
        everything = descendants(process.pid)
        for pid in everything:
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith((b"/gcs_server", b"/raylet")):
                os.kill(pid, signal.SIGKILL)
        assert process.stdout is not None
        started = time.monotonic()
        assert process.stdout.readline().startswith("lost: the head of the Ray cluster at '127.0.0.1:")
        assert time.monotonic() - started < 60
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert all_end(pids(tmp_path), within_s=30.0)


def test_sigterm_is_the_runs_own_and_a_joined_cluster_lives_on(cluster: Any, tmp_path: Path) -> None:
    with driver(tmp_path, cluster.address) as process:
        process.terminate()
        assert process.communicate(timeout=120) == ("stopped by 15\n", STOPPING)
    assert all_end(pids(tmp_path), within_s=30.0)
    with on_ray("square", workers=1, offset=0) as pool:
        assert len(list(pool.run(payloads(1)))) == 1


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they started."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def older_than(release: str) -> bool:
    """Whether the installed Ray is; tokens became the default of a local cluster in 2.59."""
    return tuple(map(int, version("ray").split(".")[:2])) < tuple(map(int, release.split(".")))


def head_of(processes: Sequence[int]) -> str:
    """Address of the head of the cluster to which processes belong."""
    words = [word for pid in processes for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
    return next(word.partition("=")[2] for word in words if word.startswith("--gcs-address="))


def listening_beyond_loopback(processes: Sequence[int]) -> list[str]:
    """Addresses on which processes listen and that other machines can reach, as the kernel prints them."""
    sockets = set()
    for pid in processes:
        for handle in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            listens, address = fields[3] == "0A", fields[1].partition(":")[0]
            loopback = address in ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
            if listens and not loopback and fields[9] in sockets:
                found.append(fields[1])
    return found


def pids(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_end(processes: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(is_running(pid) for pid in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
