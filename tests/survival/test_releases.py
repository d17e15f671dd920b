"""Line 9: files of earlier releases are read, resumed and evaluated; those of a later format are refused, with the way
out.

Every folder `tests/fixtures/release-*` is one release; `make_release.py` beside them made them.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import evospike
from evospike.bench.document import read_document
from evospike.core.errors import EvospikeError
from evospike.evolution.store import Store
from evospike.jobs.folder import open_run, read_record, write_record
from evospike.jobs.plan import versions
from evospike.models.spec import NetworkSpec
from evospike.search.genome import Genome

RELEASES = sorted((Path(__file__).parents[1] / "fixtures").glob("release-*"))
TRAINED = ("evolved", "sparse")
FINISHED = (*TRAINED, "searched", "ranked")
UNFINISHED = {"evolving": "evolved", "training": "trained"}
"""Runs that were stopped, and the finished run that each has to end as."""


@pytest.fixture(params=RELEASES, ids=[path.name for path in RELEASES])
def release(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a release's files, in which the current folder is."""
    folder = tmp_path / "release"
    shutil.copytree(request.param, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def expected(release: Path) -> dict[str, Any]:
    return json.loads((release / "expected.json").read_text(encoding="utf-8"))


def test_there_is_a_release(soak) -> None:
    assert [path.name for path in RELEASES][:1] == ["release-0.1"]
    for path in RELEASES:
        assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 1_500_000
    soak.figure("survival 9", "releases whose runs, pages and documents are read", len(RELEASES))


@pytest.mark.parametrize("run", TRAINED)
def test_networks_load_and_say_the_same(expected, run: str) -> None:
    net = evospike.load(run)
    images = (torch.arange(640) * 37 % 256).reshape(10, 1, 8, 8) / 255
    with torch.no_grad():
        scores = net((images - net.mean) / net.std).mean(0)
    wanted = torch.tensor(expected["class_scores"][run])
    if versions("cpu") == expected["versions"]:
        torch.testing.assert_close(scores, wanted, rtol=0, atol=1e-5)
    same = (scores - wanted).abs().amax(1) < 1e-3
    assert same.sum() >= 5, "on another build a potential now and then lies on the other side of the threshold"


@pytest.mark.parametrize("run", FINISHED)
def test_a_finished_run_gives_its_result(expected, evospike_command, run: str) -> None:
    code, out, err = evospike_command("resume", run, "--json")
    assert code == 0, err
    assert json.loads(out)["digest"] == expected["digests"][run]
    code, out, _ = evospike_command("resume", run)
    assert code == 0
    assert expected["digests"][run] in out


@pytest.mark.parametrize("run", [*FINISHED, *UNFINISHED])
def test_every_run_has_a_page_and_can_be_watched(release: Path, evospike_command, run: str) -> None:
    pytest.importorskip("plotly")
    code, _, err = evospike_command("report", run, "-o", "page.html")
    assert code == 0, err
    page = (release / "page.html").read_text(encoding="utf-8")
    assert f"evospike {json.loads((release / run / 'run.json').read_text(encoding='utf-8'))['verb']}" in page
    code, out, _ = evospike_command("watch", run, "--once")
    assert code == 0
    assert "problem" not in out


def test_an_evaluation_is_read_and_made_again(release: Path, expected, evospike_command) -> None:
    pytest.importorskip("plotly")
    kept = read_record(release / "evolved" / "evaluation.json")
    assert evospike_command("report", "evolved", "-o", "page.html")[0] == 0
    assert "Energy" in (release / "page.html").read_text(encoding="utf-8")
    code, _, err = evospike_command("evaluate", "evolved", "--samples", 30, "--noise-seeds", 2, "--quiet")
    assert code == 0, err
    again = read_record(release / "evolved" / "evaluation.json")
    assert again["test_accuracy"] == pytest.approx(kept["test_accuracy"], abs=0.05)
    assert set(kept) <= set(again), "a key that was there once stays"
    if versions("cpu") == expected["versions"]:
        assert again["test_accuracy"] == kept["test_accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("run", UNFINISHED)
def test_an_unfinished_run_goes_on(expected, evospike_command, soak, run: str) -> None:
    """To the same digest where the numbers depend on the same; elsewhere to an end."""
    if run == "evolving" and not soak.count(0, 1):
        pytest.skip("at full length only: it needs a worker")
    code, out, err = evospike_command("resume", run, "--json", "--quiet")
    assert code == 0, err
    same = versions("cpu") == expected["versions"]
    assert same or "versions differ from those the run began with" in err
    if same:
        assert json.loads(out)["digest"] == expected["digests"][UNFINISHED[run]]
    soak.figure("survival 9", f"unfinished run '{run}' of an earlier release", "resumed" + ", same digest" * same)


def test_other_files(release: Path, evospike_command) -> None:
    """The document of a bench, a genome, a recipe."""
    document = read_document(release / "bench.json")
    assert document.cases
    assert Genome.from_json((release / "genome.json").read_text(encoding="utf-8")).cells
    code, out, err = evospike_command("inspect", "tiny.toml", "--model", "genome.json", "--json")
    assert code == 0, err
    by_file = json.loads(out)
    code, out, _ = evospike_command("inspect", "tiny.toml", "--model", "searched", "--json")
    assert json.loads(out)["parameters"] == by_file["parameters"]


def later_run(release: Path) -> Path:
    path = release / "evolved" / "run.json"
    write_record(path, {**read_record(path), "format": 2, "evospike": "9.9.0"})
    return path.parent


def later_store(release: Path) -> Path:
    with closing(sqlite3.connect(release / "evolved" / "study.sqlite")) as connection:
        connection.execute("UPDATE meta SET value = '2' WHERE name = 'format'")
        connection.commit()
    return release / "evolved" / "study.sqlite"


def later_json(path: Path) -> Path:
    value = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**value, "format": 2}), encoding="utf-8")
    return path


def open_store(path: Path) -> None:
    Store.open(path).close()


LATER: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any], str]] = {
    "run": (later_run, open_run, r"has format 2; this release reads format 1, .*evospike 9\.9\.0"),
    "store": (later_store, open_store, "format 2, this evospike reads format 1; go on with the evospike version"),
    "genome": (
        lambda release: later_json(release / "genome.json"),
        lambda path: Genome.from_json(path.read_text(encoding="utf-8")),
        "format 2; this release reads format 1, use the release that wrote it",
    ),
    "bench": (
        lambda release: later_json(release / "bench.json"),
        read_document,
        "format 2; this release reads format 1: open it with the release that wrote it, or measure again",
    ),
}


@pytest.mark.parametrize("what", LATER)
def test_a_later_format_is_refused_with_the_way_out(release: Path, soak, what: str) -> None:
    change, read, message = LATER[what]
    path = change(release)
    with pytest.raises(EvospikeError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    soak.figure("survival 9", f"{what} of a later format", "refused with the way out")


def test_a_later_run_is_refused_by_every_command(release: Path, evospike_command, complaint) -> None:
    later_run(release)
    for command in ("resume", "report", "watch", "evaluate", "inspect"):
        code, out, err = evospike_command(command, "evolved")
        assert (code, out) == (2, "")
        assert "this release reads format 1" in complaint(err)


def test_a_later_specification_is_refused() -> None:
    with pytest.raises(EvospikeError, match="use the release that wrote it"):
        NetworkSpec.from_json('{"format": 2}')
