"""Turns, processes of their own, and a document that grows with every case."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from evospike.bench import registry, run
from evospike.bench.document import (
    SCHEMA,
    CaseResult,
    Document,
    GrowthResult,
    Spread,
    from_plain,
    read_document,
    to_plain,
)
from evospike.bench.process import order_of, take_turns
from evospike.bench.registry import chosen
from evospike.bench.run import Options, default_peers, output_path, run_suite
from evospike.core.errors import RunError, SettingsError

HERE = Path(__file__).parent
PATIENCE_S = 600.0

ADAPTER = """
from evospike.bench.case import Peer, PeerNeuron
PEER = Peer("alpha", "1.2", tuple(PeerNeuron(name, lambda steps: steps) for name in "abc"), "soft reset")
"""


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 5))
def test_no_one_always_follows_the_same_neighbour(count: int, start: int) -> None:
    """Over a whole design every place, and every pair of neighbours, comes equally often."""
    turns = count if count % 2 == 0 else 2 * count
    orders = [list(order_of(count, turns * start + turn)) for turn in range(turns)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    placed = Counter((place, one) for order in orders for place, one in enumerate(order))
    assert set(placed.values()) == {turns // count}
    followed = Counter(pair for order in orders for pair in pairwise(order))
    assert set(followed.values()) <= {turns // count}
    assert len(followed) == count * (count - 1)


def test_there_may_be_nobody() -> None:
    assert list(order_of(0, 3)) == []
    assert take_turns({}, 1, 2).figures == {}


def test_turns_are_taken_and_those_of_the_warm_up_do_not_count() -> None:
    calls: list[str] = []
    told: list[int] = []

    def measure(name: str) -> Callable[[], float]:
        def one() -> float:
            calls.append(name)
            return float(calls.count(name))

        return one

    turns = take_turns({name: measure(name) for name in "abcd"}, 2, 3, told.append)
    assert turns.figures == dict.fromkeys("abcd", (3.0, 4.0, 5.0))
    assert turns.reasons == {}
    assert told == [1, 2, 3, 4, 5]
    rows = ["".join(calls[4 * turn :][:4]) for turn in range(5)]
    assert rows == ["adbc", "bacd", "cbda", "dcab", "adbc"]


@pytest.mark.parametrize("turn", [1, 2, 4])
def test_one_that_fails_leaves_the_contest_to_the_others(turn: int) -> None:
    seen: list[int] = []

    def failing() -> float:
        seen.append(1)
        if len(seen) == turn:
            raise OSError("gone\naway")
        return 1.0

    turns = take_turns({"a": lambda: 1.0, "b": failing, "c": lambda: 3.0}, 1, 3)
    assert turns.figures == {"a": (1.0, 1.0, 1.0), "c": (3.0, 3.0, 3.0)}
    assert turns.reasons == {"b": "OSError: gone away"}
    assert len(seen) == turn


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Document, Path, list[str]]:
    """A run of fake cases, with a peer and one that is not installed."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "peers").mkdir()
    (folder / "peers" / "alpha.py").write_text(ADAPTER)
    (folder / "peers" / "beta.py").write_text("import no_such_tool_here")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(HERE))
        patch.setattr(registry, "MODULES", ("bench_fake_cases",))
        names = ["steady", "looking", "killed", "broken", "twins", "grows"]
        options = Options(peers="peers", device="cpu", threads=2)
        ended: list[str] = []
        document = run_suite(
            chosen(names, quick=False),
            options,
            Path("bench.json"),
            quiet=True,
            ended=lambda one: ended.append(one.name),
        )
    assert ended == names
    return document, folder, ended


def case_in(suite: tuple[Document, Path, list[str]], name: str) -> CaseResult:
    found = suite[0].case(name)
    assert found is not None
    return found


def test_the_file_is_the_document_and_fits_the_schema(suite) -> None:
    document, folder, _ = suite
    assert document.complete
    assert read_document(folder / "bench.json") == document
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(to_plain(document))
    assert document.versions.python == ".".join(map(str, sys.version_info[:3]))
    assert document.machine.device == "cpu"
    assert document.machine.device_name == document.machine.cpu != ""
    assert (document.machine.threads, document.machine.cores >= 1) == (2, True)
    assert document.seconds >= sum(case.seconds for case in document.cases) > 0
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".pyc") == [
        *("bench.json", "peers", "remembered")
    ]


def test_figures_ratios_and_reasons_of_a_case(suite) -> None:
    case = case_in(suite, "steady")
    base, double = case.contestants
    assert (base.figures, double.figures) == ((3.0, 4.0, 5.0), (6.0, 8.0, 10.0))
    assert (double.spread, double.ratio) == (Spread(8.0, 7.0, 9.0), Spread(2.0, 2.0, 2.0))
    assert double.settings == {"layout": "contiguous", "blocks": 2, "bits": True}
    assert [(one.name, one.by, one.reason) for one in case.absent] == [
        ("absentee", "gamma", "not installed: no gamma"),
        ("no number", "evospike", "RunError: 'no number' measured nan; expected a finite number"),
        ("fails late", "evospike", "ValueError: no more of this"),
    ]
    assert case.reason == ""


def test_a_case_has_its_threads_its_folder_and_the_peers(suite) -> None:
    case = case_in(suite, "looking")
    figures = {one.name: one.figures for one in case.contestants}
    assert figures == {
        "threads": (2.0, 2.0, 2.0),
        "OMP_NUM_THREADS": (2.0, 2.0, 2.0),
        "files": (1.0, 1.0, 1.0),
        "alpha: neurons": (3.0, 3.0, 3.0),
    }
    assert [(one.name, one.reason) for one in case.absent] == [
        ("beta", "not installed: No module named 'no_such_tool_here'")
    ]
    assert not Path((suite[1] / "remembered").read_text()).exists()
    peers = suite[0].peers
    assert peers is not None
    assert [(peer.name, peer.version, peer.dynamics, bool(peer.reason)) for peer in peers] == [
        ("alpha", "1.2", "soft reset", False),
        ("beta", "", "", True),
    ]


def test_a_case_that_fails_is_a_case_with_the_reason(suite) -> None:
    reasons = {name: case_in(suite, name).reason for name in ("killed", "broken", "twins")}
    assert "killed by SIGKILL" in reasons["killed"]
    assert reasons["broken"] == "RuntimeError: nothing to measure with"
    assert "two contestants of 'twins' have one name" in reasons["twins"]
    assert not any(case_in(suite, name).contestants for name in reasons)


def test_a_growth_is_measured_and_fitted(suite) -> None:
    (growth,) = suite[0].growths
    assert isinstance(growth, GrowthResult)
    assert [(point.value, point.figures[:1], len(point.figures)) for point in growth.points] == [
        *((1, (5.0,), 7), (2, (7.0,), 7), (4, (11.0,), 7)),
        *((8, (), 0), (16, (35.0,), 7)),
    ]
    assert growth.points[3].reason == "ValueError: too many"
    assert growth.fit is not None
    assert (growth.fit.intercept, growth.fit.slope) == pytest.approx((3, 2))


def test_a_quick_run_takes_what_is_quick_and_fewer_turns(fakes, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [entry.item.name for entry in chosen([], quick=True)] == ["steady", "looking", "grows"]
    assert [entry.item.name for entry in chosen([], quick=False)][-3:] == ["nested", "grows", "whole-only"]
    quick = chosen(["steady", "grows", "whole-only", "steady"], quick=True)
    document = run_suite(quick, Options(quick=True, device="cpu"), tmp_path / "bench.json", quiet=True)
    (case,) = document.cases
    assert {len(one.figures) for one in case.contestants} == {2}
    assert [[(point.value, len(point.figures)) for point in growth.points] for growth in document.growths] == [
        [(1, 3), (2, 3)],
        [(1, 2), (2, 2)],
    ]
    assert [growth.fit for growth in document.growths] == [None, None]
    assert (document.quick, document.peers) == (True, None)


def test_names_in_the_registry_are_told_apart(fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="unknown case 'stedy'; did you mean 'steady'"):
        chosen(["stedy"], quick=False)
    monkeypatch.setattr(registry, "MODULES", ("bench_fake_cases", "bench_fake_cases"))
    with pytest.raises(SettingsError, match="two cases are named 'steady'"):
        chosen([], quick=False)


@pytest.mark.parametrize(
    "options", [{"device": "gpu"}, {"threads": -1}, {"repeats": -1}, {"peers": "nowhere"}], ids=str
)
def test_options_that_cannot_be_used(options: dict[str, object], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError):
        Options(**options)  # type: ignore[arg-type]


def test_where_peers_and_documents_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_peers() == ""
    Path("benchmarks/peers").mkdir(parents=True)
    assert default_peers() == ""
    Path("benchmarks/peers/one.py").touch()
    assert default_peers() == str(run.PEERS)
    assert output_path("new/bench.json", force=False) == Path("new/bench.json")
    assert output_path(None, force=False).name.startswith("bench-20")
    assert list(Path("new").iterdir()) == []
    with pytest.raises(RunError, match=r"'new' exists"):
        output_path("new", force=True)
    Path("file").touch()
    assert output_path("file", force=True) == Path("file")
    for taken, wanted in (("file", "'file' exists; give -o"), ("file/bench.json", "cannot write 'file/bench.json'")):
        with pytest.raises(RunError, match=wanted):
            output_path(taken, force=False)


SCRIPT = """
import sys
from evospike.bench import registry
from evospike.cli.main import main
registry.MODULES = ("bench_fake_cases",)
sys.exit(main(["bench", "steady", "nested", "-o", "bench.json", "--device", "cpu"]))
"""


def _gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM] * 2], ids=str)
def test_a_signal_stops_at_once_and_keeps_what_is_finished(tmp_path: Path, signals: list[int]) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    path = os.pathsep.join([str(HERE), *(entry for entry in sys.path if entry)])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    remembered = tmp_path / "remembered"
    until = time.monotonic() + PATIENCE_S
    while not (remembered.exists() and remembered.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    below = [int(pid) for pid in remembered.read_text().split()]
    assert len(below) == 2
    assert not any(map(_gone, below))

    for signum in signals:
        process.send_signal(signum)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signals[0]
    assert "Traceback" not in err
    assert "about steady" in out
    until = time.monotonic() + 20
    while not all(map(_gone, below)):
        assert time.monotonic() < until
        time.sleep(0.05)

    document = read_document(tmp_path / "bench.json")
    assert [case.name for case in document.cases] == ["steady"]
    assert not document.complete
    assert from_plain(to_plain(document)) == document
    assert list(temporary.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"bench.json", "remembered", "temporary"}
