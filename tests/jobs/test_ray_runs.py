"""Runs whose candidates are scored on Ray end with the digest of a run on this machine, whatever dies on the way."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

import evospike.jobs.pool as pool_module
from evospike.cli.arguments import flags_given, make_parser
from evospike.cli.main import main
from evospike.core.errors import SettingsError
from evospike.core.threads import resolved_threads
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.executors.ray import RayExecutor
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct, permitted_changes
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.nodes import node_differences
from evospike.jobs.recipe import Recipe
from evospike.jobs.results import describe
from evospike.jobs.worker_file import WorkersFile
from evospike.jobs.workshop import Workshop
from evospike.report.page import write_report

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None or sys.platform == "win32", reason="needs the extra 'ray' and POSIX processes"
)

SEARCH = ("search.generations=1", "search.finalists=1")
EVOLVE = ("final.arms=['genetic']", "training.epochs=1")
CHEAP = ("scoring.score=parameters", "search.generations=1", "search.finalists=1", "search.finalist_seeds=1")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A running Ray cluster of one node with two CPUs."""
    handler = signal.getsignal(signal.SIGTERM)
    from ray.cluster_utils import Cluster

    settings = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "worker_niceness": 0}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "_system_config": settings})
    yield made
    made.shutdown()
    signal.signal(signal.SIGTERM, handler)


Conduct = Callable[..., tuple[RunFolder, dict[str, Any]]]


@pytest.fixture(scope="module")
def conducted(tiny: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Conduct:
    """Conducts a run of the tiny recipe with overrides, once."""

    @functools.cache
    def run(verb: str, *overrides: str) -> tuple[RunFolder, dict[str, Any]]:
        recipe = tiny(*overrides)
        made = create_run(verb, recipe, str(tmp_path_factory.mktemp("runs") / "run"))
        return made, conduct(made, recipe, quiet=True)

    return run


def at(cluster: Any) -> tuple[str, str]:
    """Overrides that score candidates on a cluster."""
    return "run.executor=ray", f"run.ray_address={cluster.address}"


def record(run: RunFolder) -> dict[str, Any]:
    with Store.open(run.store_path) as store:
        return store.digest_payload()


@needs_ray
def test_a_search_has_the_digest_of_a_local_one(conducted: Conduct, cluster: Any) -> None:
    one, expected = conducted("search", *SEARCH)
    two, local = conducted("search", *SEARCH, "run.workers=2")
    far, on_ray = conducted("search", *SEARCH, "run.workers=2", *at(cluster))
    assert local["digest"] == on_ray["digest"] == expected["digest"]
    assert record(far) == record(two) == record(one)
    assert (on_ray["bit_identical"], on_ray["node_differences"]) == (True, [])
    assert (expected["bit_identical"], expected["node_differences"]) == (True, [])
    assert not (far.path / "nodes.json").exists()


@needs_ray
def test_an_evolution_has_the_digest_of_a_local_one_though_a_node_dies_in_a_generation(
    conducted: Conduct, cluster: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three workers on three CPUs; the node of one is killed while all of them score candidates."""
    one, expected = conducted("evolve", *EVOLVE)
    _, local = conducted("evolve", *EVOLVE, "run.workers=2")
    node = cluster.add_node(num_cpus=1)
    capfd.readouterr()

    class Watch(WorkersFile):
        def __call__(self, states: Any) -> None:
            super().__call__(states)
            if sum(state.payload is not None for state in states) == 3 and node in cluster.list_all_nodes():
                kill(cluster, node)

    monkeypatch.setattr(pool_module, "WorkersFile", Watch)
    far, on_ray = conducted("evolve", *EVOLVE, "run.workers=3", "run.retries=1", *at(cluster))
    assert node not in cluster.list_all_nodes()
    assert local["digest"] == on_ray["digest"] == expected["digest"]
    assert record(far) == record(one)
    with Store.open(far.store_path) as store:
        assert sorted(scored.attempts for scored in store.scores())[-2:] == [1, 2]
    assert capfd.readouterr() == ("", "")


def kill(cluster: Any, node: Any) -> None:
    """End a node with all of its processes, as when its machine is gone."""
    raylet = node.all_processes["raylet"][0].process.pid
    for process in children(raylet):
        os.kill(process, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for line in lists for child in line.split()]


@needs_ray
def test_machines_of_another_kind_are_told_of_and_the_run_says_so(
    conducted: Conduct, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = pool_module.machine_facts
    monkeypatch.setattr(pool_module, "machine_facts", lambda *given: original(*given) | {"torch": "1.0"})
    run, found = conducted("search", *CHEAP, *at(cluster))
    ((difference),) = node_differences(run)
    assert (difference.fact, difference.here) == ("torch", "1.0")
    assert found["bit_identical"] is False
    assert found["node_differences"] == [str(difference)]
    told = [line for line in capsys.readouterr().err.splitlines() if "bit-identical" in line]
    assert told == [f"notice: not bit-identical: {difference}"]
    assert f"not bit-identical, computed on machines that differ: {difference}" in describe(found)
    assert open_run(run.path).read("result.json") == found
    page = write_report(run.path, None).read_text(encoding="utf-8")
    said = "candidates were scored on machines that differ from the driver’s"
    assert f"<strong>Not bit-identical:</strong> {said}: {escape(str(difference))}." in page


@needs_ray
def test_a_cluster_that_is_not_there_is_one_line(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["evolve", str(tiny_file), "-o", str(tmp_path / "run"), "--quiet", "--ray-address", "127.0.0.1:1"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("evospike:")]
    assert code == 2
    assert len(lines) == 1
    assert "cannot join the Ray cluster at '127.0.0.1:1'; give HOST:PORT or auto" in lines[0]


def test_without_the_extra_nothing_is_begun(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pool_module, "find_spec", lambda name: None)
    code = main(["search", str(tiny_file), "-o", str(tmp_path / "run"), "--executor", "ray"])
    assert code == 2
    assert capsys.readouterr().err == (
        "evospike: --executor ray needs 'ray'; install it with: pip install 'evospike[ray]'\n"
    )
    assert not (tmp_path / "run").exists()


def test_an_address_means_ray_and_where_it_runs_may_change(tiny: Callable[..., Recipe]) -> None:
    given = make_parser().parse_args(["resume", "run", "--ray-address", "auto", "--workers", "3"])
    assert flags_given(given) == {"run": {"ray_address": "auto", "workers": 3, "executor": "ray"}}
    both = make_parser().parse_args(["resume", "run", "--executor", "local", "--ray-address", "auto"])
    with pytest.raises(SettingsError, match="--executor local and --ray-address do not go together"):
        flags_given(both)
    away = tiny("run.executor=ray", "run.ray_address=a:1", "run.gpu_share=0.5", "run.retries=0", "run.workers=9")
    assert permitted_changes(tiny().to_plain(), away.to_plain()) == []
    with pytest.raises(SettingsError, match=r"'run\.executor' cannot be 'rya'; did you mean 'ray'"):
        tiny("run.executor=rya")
    with pytest.raises(SettingsError, match="'gpu_share' must be above 0 and at most 1, given 0"):
        tiny("run.gpu_share=0")
    for address in ("localhost", "localhost:abc", "a:0", "a:65536", "http://a:1", "a b:1"):
        with pytest.raises(SettingsError, match=r"'ray_address' must be HOST:PORT, .* given '"):
            tiny(f"run.ray_address={address}")
    for address in ("", "auto", "a:6379", "10.0.0.1:6379", "[::1]:6379"):
        assert tiny(f"run.ray_address={address}").run.ray_address == address
    with pytest.raises(SettingsError, match="'retries' must not be negative, given -1"):
        tiny("run.retries=-1")


def test_final_trainings_of_a_run_on_ray_stay_here_and_within_its_processors(
    workshop: Callable[..., Workshop], tmp_path: Path
) -> None:
    shop = workshop("run.executor=ray", "run.workers=1000", "run.threads=1")
    run = create_run("evolve", shop.recipe, str(tmp_path / "run"))
    finals = pool_module.pool(shop, run, "train", most=500)
    assert isinstance(finals, LocalExecutor)
    assert finals._count == min(500, resolved_threads(0))
    assert isinstance(pool_module.pool(shop, run, "score"), RayExecutor)
