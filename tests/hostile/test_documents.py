"""A run folder that someone altered and sealed again: its readers say so in one line, and write nowhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import hostile_inputs as inputs
import pytest
from hostile_fuzz import refusing, throw
from hypothesis import strategies as st

from evospike.bench.document import (
    AbsentResult,
    CaseResult,
    ContestantResult,
    Document,
    GrowthPoint,
    GrowthResult,
    Machine,
    PeerResult,
    TargetResult,
    Versions,
    read_document,
    spread_of,
    to_plain,
    with_fit,
    with_spreads,
)
from evospike.core.errors import RunError
from evospike.core.files import canonical_json, digest_json
from evospike.core.lock import holder_of
from evospike.jobs.evaluation_document import lost_by, stored_evaluation
from evospike.jobs.folder import RunFolder, open_run
from evospike.jobs.genomes import read_model
from evospike.jobs.plan import Plan
from evospike.jobs.recipe import recipe_text
from evospike.jobs.results import describe
from evospike.jobs.run_state import state_of
from evospike.jobs.watch import render
from evospike.models.spec import NetworkSpec
from evospike.report.compare.pages import make_comparison
from evospike.report.facts import again
from evospike.report.pages import make_page


def sealed(value: Any) -> bytes:
    """A document as `write_record` seals it, so that only its contents are wrong."""
    if not isinstance(value, dict):
        return inputs.json_text(value)
    content = {key: one for key, one in value.items() if key != "checksum"}
    try:
        return json.dumps({**content, "checksum": digest_json(content)}).encode()
    except (ValueError, TypeError):  # a number that no document of ours holds
        return inputs.json_text(content)


def whole_run(run: RunFolder) -> None:
    """Everything that reads a run folder without computing; each may refuse what it needs."""
    for read in (_watch, _result, _evaluation, _plan, _page):
        with refusing():
            read(run)


def _watch(run: RunFolder) -> None:
    text = render(state_of(run))
    assert all(character.isprintable() or character == "\n" for character in text)


def _result(run: RunFolder) -> None:
    result = run.read("result.json")
    if result is not None:
        assert isinstance(describe(result), str)
    if run.verb == "search":
        read_model(run.path)


def _evaluation(run: RunFolder) -> None:
    document = stored_evaluation(run)
    if document is not None:
        lost_by(document, ["genetic"], "none", 1, 1, "normalised")


def _plan(run: RunFolder) -> None:
    plan = run.read("plan.json")
    if plan is not None and (text := Plan.from_plain(plan).spec):
        NetworkSpec.from_json(text)


def _page(run: RunFolder) -> None:
    facts = make_page(run).facts
    again(facts)
    recipe_text(facts.recipe.to_plain())
    if run.trains:
        make_comparison([run.path, run.path.with_name("other")])


@pytest.mark.parametrize(
    ("which", "name"),
    [
        ("trained", "run.json"),
        ("trained", "plan.json"),
        ("trained", "result.json"),
        ("trained", "evaluation.json"),
        ("trained", "final/genetic-0/result.json"),
        ("trained", "workers.json"),
        ("trained", "run.lock"),
        ("trained", "final/genetic-0/progress"),
        ("searched", "run.json"),
        ("searched", "result.json"),
    ],
)
def test_an_altered_run(which: str, name: str, outside: Path, request: pytest.FixtureRequest, soak) -> None:
    made: RunFolder = request.getfixturevalue(which)
    for copy in ("run", "other"):
        shutil.copytree(made.path, outside / copy, ignore=shutil.ignore_patterns("step-*", "*.lock*"))
    path = outside / "run" / name
    if name in FILES:
        (outside / "run" / "result.json").unlink()
    sound = path.read_bytes() if path.is_file() else FILES[name]
    seal = sealed if name not in FILES else inputs.json_text

    def read(data: bytes) -> None:
        path.write_bytes(data)
        run = open_run(outside / "run")
        (_watch if name in FILES else whole_run)(run)

    document = json.loads(sound) if name != "final/genetic-0/progress" else [1, 2]
    strategy = st.one_of(inputs.damaged(sound), *[inputs.altered_json(document, seal)] * 4)
    read(sound)
    tally = throw(soak.count(12, 1_000), strategy, read)
    assert tally.inputs >= soak.count(12, 1_000)
    tally.state(soak, f"{which} {name}")


FILES = {
    "workers.json": json.dumps([{"pid": 7, "doing": "waiting", "since": 1.7e9}]).encode(),
    "run.lock": json.dumps(
        {"pid": 7, "host": "h", "boot": "b", "started": "1", "since": "2026-01-01 00:00:00", "token": "t"}
    ).encode(),
    "final/genetic-0/progress": b"3 9",
}
"""Of a run that goes on; no seal is on them."""


def test_an_altered_bench_document(outside: Path, soak) -> None:
    path = outside / "bench.json"
    document = to_plain(_bench_document())
    sound = json.dumps(document).encode()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_document(path)

    read(sound)
    tally = throw(soak.count(60, 10_000), st.one_of(inputs.damaged(sound), inputs.altered_json(document)), read)
    assert tally.inputs >= soak.count(60, 10_000)
    assert tally.refused > tally.inputs // 2
    tally.state(soak, "bench document")


def _bench_document() -> Document:
    """A small one with every kind of record."""
    spread = spread_of([2.0, 3.0])
    rows = [ContestantResult(name, "evospike", {"layout": "x"}, (2.0, 3.0), spread, None) for name in ("base", "ours")]
    case = CaseResult("case", "Group", "about", "ms", "base", False, 1.0, "", with_spreads(rows, "base"),
                      (AbsentResult("gone", "peer", "why"),))  # fmt: skip
    points = tuple(GrowthPoint(value, (float(value),), spread_of([float(value)]), "") for value in (1, 2, 4))
    growth = with_fit(GrowthResult("grows", "about", "n", "ms", 1.0, "", points, None))
    machine = Machine("cpu", "a", "b", "c", 2, 1, None, "d")
    peers = (PeerResult("peer", "1", "", ""),)
    target = TargetResult("1", "text", "below 2", 1.5, "reached", "")
    versions = Versions("3", "2", "1", "0", "")
    return Document(1, True, True, "now", 1.0, machine, versions, peers, (case,), (growth,), (target,))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("run.json", {"recipe": {"run": {"seed": 10**400}}}),
        ("run.json", {"recipe": {"training": {"rate": 10**400}}}),
        ("run.json", {"recipe": {"final": {"seeds": 10**15}}}),
        ("result.json", {"arms": [{"arm": "genetic"}]}),
        ("result.json", {"data": 3}),
        ("plan.json", {"threads": -3}),
        ("plan.json", {"path": "/bin/sh"}),
        ("plan.json", {"seconds": "soon"}),
        ("evaluation.json", {"arms": 3}),
    ],
)
def test_documents_that_once_got_through(trained: RunFolder, outside: Path, name: str, change: dict[str, Any]) -> None:
    for copy in ("run", "other"):
        shutil.copytree(trained.path, outside / copy, ignore=shutil.ignore_patterns("step-*", "*.lock*"))
    path = outside / "run" / name
    path.write_bytes(sealed({**json.loads(path.read_text()), **change}))
    with refusing():
        whole_run(open_run(outside / "run"))


@pytest.mark.parametrize(
    "since", [1e300, -1e300, float("inf"), float("nan"), 10**400, "soon", None], ids=lambda since: f"{since!s:.9}"
)
def test_a_time_that_is_none_does_not_stop_a_watcher(trained: RunFolder, outside: Path, since: Any) -> None:
    run = RunFolder(outside, trained.record)
    (outside / "workers.json").write_bytes(inputs.json_text([{"pid": 1, "doing": "x", "since": since}]))
    (outside / "run.lock").write_bytes(FILES["run.lock"])
    assert render(state_of(run))


@pytest.mark.parametrize("pid", [0, -1, 2**31, 10**30, "1", 1.0, True, None])
def test_a_lock_that_names_no_process_is_refused(outside: Path, pid: Any) -> None:
    (outside / "run.lock").write_text(json.dumps({**json.loads(FILES["run.lock"]), "pid": pid}))
    with pytest.raises(RunError, match="cannot read the lock"):
        holder_of(outside)


def test_a_recipe_names_no_folder_outside_runs(outside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evospike.jobs.folder import create_run
    from evospike.jobs.recipe import read_recipe

    monkeypatch.chdir(outside)
    for name in ("../../../stray", "/stray", "a/../../b", "..", ".", "", "\x00", "\n", "x" * 500, "~", "-rf", "CON"):
        run = create_run("train", read_recipe("digits", [f"name={json.dumps(name)}"]), None)
        assert run.path.parent == Path("runs")
        assert run.path.resolve().parent == outside / "runs"
        assert len(run.path.name) < 130


def test_equal_documents_have_equal_seals() -> None:
    """A guard: what is sealed here is what a run would seal."""
    value = {"b": [1, 2.5], "a": None}
    assert json.loads(sealed(value))["checksum"] == digest_json(json.loads(canonical_json(value)))
