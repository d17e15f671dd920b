"""A replay of a run has its digest, also of one whose scores arrived by chance, and says so where it has not."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evospike.jobs.pool as pool_module
from evospike.core.errors import EvospikeError, RunError, StoreError
from evospike.evolution.executors.base import Outcome, Payload
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run, discard_unstarted, open_run
from evospike.jobs.recipe import Recipe
from evospike.jobs.replay import create_replay
from evospike.jobs.results import replay_line
from evospike.jobs.run_state import state_of

Made = tuple[RunFolder, dict[str, Any]]

EVOLVE = ("evolve", "final.arms=['genetic']", "training.epochs=1")
SEARCH = ("search", "search.seeds=2", "scoring.score=firing_rate", "scoring.samples=20")
STEADY = [(*EVOLVE, "evolution.in_flight=3"), (*SEARCH, "search.in_flight=3")]


class Killed(BaseException):
    """Ends a driver in the middle."""


@pytest.fixture
def scores_arrive(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says how scores arrive from now on, made in this process: in the order asked, or by chance; until it is killed
    after so many.
    """

    def arrive(chance: int | None = None, killed_after: int | None = None) -> None:
        left = killed_after

        class Here:
            def __init__(self, workers: int, threads: int, function: str, context: Mapping[str, Any], *_: Any) -> None:
                module, _, name = function.partition(":")
                self._call, self._context = getattr(import_module(module), name), {**context, "threads": threads}

            def __enter__(self) -> Here:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def run(self, payloads: Sequence[Payload], check: object = None) -> Iterator[tuple[int, Outcome]]:
                nonlocal left
                draw, done = np.random.default_rng(chance), set[int]()
                while waiting := [place for place in range(len(payloads)) if place not in done]:
                    if left == 0:
                        raise Killed
                    left = None if left is None else left - 1
                    place = waiting[0] if chance is None else int(draw.choice(waiting))
                    done.add(place)
                    yield place, Outcome(self._call(payloads[place], self._context))

        monkeypatch.setattr(pool_module, "LocalExecutor", Here)

    return arrive


@pytest.fixture(scope="module")
def finished(tiny: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Makes a run whose scores arrive by chance, once; tests copy it before they change anything."""
    made: dict[tuple[str, ...], Made] = {}

    def make(arrive: Callable[..., None], verb: str, *overrides: str) -> Made:
        if (verb, *overrides) not in made:
            recipe = tiny(*overrides, "run.workers=2")
            run = create_run(verb, recipe, str(tmp_path_factory.mktemp("runs") / "made"))
            arrive(chance=1)
            made[verb, *overrides] = run, conduct(run, recipe, quiet=True)
        return made[verb, *overrides]

    return make


def replayed(of: RunFolder, path: Path, *, workers: int = 1) -> Made:
    """A replay of a run with so many workers, to its end."""
    recipe = replace(of.recipe, run=replace(of.recipe.run, workers=workers))
    run = create_replay(of, recipe, str(path))
    return run, conduct(run, recipe, quiet=True)


def records(run: RunFolder) -> list[dict[str, Any]]:
    """What the stores of a run hold, their order included, in the order of its searches."""
    found = []
    for path in sorted(run.path.glob("study*.sqlite"), key=lambda path: path.stem):
        with Store.open(path) as store:
            found.append(store.digest_payload())
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("made", [EVOLVE, SEARCH, ("train", "final.arms=['dense']", "training.epochs=1")])
def test_a_replay_by_generations_has_the_same_digest(
    made: tuple[str, ...], finished, scores_arrive, tmp_path: Path
) -> None:
    of, expected = finished(scores_arrive, *made)
    before = contents(of.path)
    scores_arrive()
    run, document = replayed(of, tmp_path / "replay")
    facts = {"of": str(of.path), "digest": expected["digest"], "same": True, "differences": []}
    assert (document["digest"], document["replay"]) == (expected["digest"], facts)
    assert (run.verb, run.recipe.run.workers, of.recipe.run.workers) == (of.verb, 1, 2)
    assert records(run) == records(of)
    assert contents(of.path) == before
    assert replay_line(document) == f"same digest as {of.path}: {expected['digest']}"
    assert replay_line(expected) == ""


@pytest.mark.parametrize("made", STEADY, ids=["evolve", "search"])
def test_a_replay_follows_the_order_in_which_scores_were_told(
    made: tuple[str, ...], finished, scores_arrive, tmp_path: Path
) -> None:
    of, expected = finished(scores_arrive, *made)
    orders = [record["told"] for record in records(of)]
    assert all(order != sorted(order) for order in orders), "arrived in the order asked: nothing is seen here"
    assert len(orders) == (1 if of.verb == "evolve" else 2)
    scores_arrive()
    run, document = replayed(of, tmp_path / "replay")
    assert records(run) == records(of)
    assert document["replay"]["same"] is True
    assert document["digest"] == expected["digest"]


@pytest.mark.parametrize("made", STEADY, ids=["evolve", "search"])
@pytest.mark.parametrize("killed_after", [0, 3])
def test_a_replay_that_is_killed_goes_on_to_the_same_digest(
    made: tuple[str, ...], killed_after: int, finished, scores_arrive, tmp_path: Path
) -> None:
    """It goes on by what is in its own folder: the other run is gone."""
    of, expected = finished(scores_arrive, *made)
    shutil.copytree(of.path, tmp_path / "of")
    scores_arrive(killed_after=killed_after)
    with pytest.raises(Killed):
        replayed(open_run(tmp_path / "of"), tmp_path / "replay")
    shutil.rmtree(tmp_path / "of")
    scores_arrive(chance=7)
    run = open_run(tmp_path / "replay")
    assert state_of(run).problems == ()
    document = conduct(run, run.recipe, quiet=True)
    assert records(run) == records(of)
    assert document["replay"]["same"] is True
    assert document["replay"]["digest"] == document["digest"] == expected["digest"]


def test_an_unfinished_run_is_followed_as_far_as_it_came(finished, scores_arrive, tiny, tmp_path: Path) -> None:
    recipe = tiny("search.in_flight=3", *SEARCH[1:])
    of = create_run("search", recipe, str(tmp_path / "of"))
    scores_arrive(chance=1, killed_after=5)
    with pytest.raises(Killed):
        conduct(of, recipe, quiet=True)
    (begun,) = records(of)
    assert len(begun["told"]) == 5
    assert begun["told"] != sorted(begun["told"])
    scores_arrive(chance=2)
    run, document = replayed(of, tmp_path / "replay")
    first, second = records(run)
    assert first["told"][:5] == begun["told"]
    assert len(first["told"]) == len(second["told"]) == recipe.search.candidates
    assert document["replay"] == {"of": str(of.path), "digest": None, "same": None, "differences": []}
    assert replay_line(document) == f"{of.path} was not finished: nothing to compare with"


def test_another_digest_is_told_with_what_is_known_to_differ(finished, scores_arrive, tmp_path: Path) -> None:
    made, expected = finished(scores_arrive, "train", "final.arms=['dense']", "training.epochs=1")
    shutil.copytree(made.path, tmp_path / "of")
    of = open_run(tmp_path / "of")
    plan = of.read("plan.json")
    of.write("plan.json", {**plan, "versions": {**plan["versions"], "torch": "1.0"}, "threads": 3})
    of.write("result.json", {**expected, "digest": "0" * 32, "processes": [2]})
    run, document = replayed(of, tmp_path / "replay")
    known = ["processes: [2] -> [1]", "threads: 3 -> 1", f'versions.torch: "1.0" -> "{plan["versions"]["torch"]}"']
    assert document["digest"] == expected["digest"]
    facts = {"of": str(of.path), "digest": "0" * 32, "same": False, "differences": known}
    assert document["replay"] == facts
    both = f"digest differs from {of.path}: {'0' * 32}, here {expected['digest']}"
    assert replay_line(document) == f"{both}; known to differ: {'; '.join(known)}"
    document["replay"]["differences"] = []
    assert replay_line(document) == f"{both}; known to differ: nothing"
    assert [f"replay.{key}" for key in run.read("result.json")["replay"]] == described()


def described() -> list[str]:
    """The keys of a replay in the page on documents."""
    page = Path(__file__).parents[2] / "docs" / "documents.md"
    return re.findall(r"^\| `(replay\.\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)


def altered(folder: Path, what: str) -> None:
    if what == "gone":
        (folder / "study.sqlite").unlink()
    elif what == "no digest":
        run = open_run(folder)
        run.write("result.json", {name: one for name, one in run.read("result.json").items() if name != "digest"})
    elif what == "another row":
        with sqlite3.connect(folder / "study.sqlite") as connection:
            connection.execute("UPDATE records SET content = '\"x\"' WHERE kind = 'told' AND name = '00000002'")
        connection.close()
    else:
        path = folder / what
        path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("gone", RunError, r"study\.sqlite is gone, and with it the order in which scores arrived"),
        ("no digest", RunError, r"result\.json of '.*of' has an unexpected form \(KeyError: 'digest'\)"),
        ("another row", StoreError, r"checksum of told '00000002' in .*study\.sqlite does not match"),
        ("result.json", RunError, r"cannot read .*of.result\.json"),
        ("plan.json", RunError, r"cannot read .*of.plan\.json"),
    ],
)
def test_a_record_that_was_altered_is_not_replayed(
    what: str, error: type[EvospikeError], message: str, finished, scores_arrive, tmp_path: Path
) -> None:
    of, _ = finished(scores_arrive, *STEADY[1])
    shutil.copytree(of.path, tmp_path / "of")
    altered(tmp_path / "of", what)
    with pytest.raises(error, match=message):
        create_replay(open_run(tmp_path / "of"), of.recipe, str(tmp_path / "replay"))
    assert not (tmp_path / "replay").exists()


def test_a_folder_that_is_there_is_left_alone(finished, scores_arrive, tmp_path: Path) -> None:
    of, _ = finished(scores_arrive, *STEADY[1])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    before = contents(of.path)
    for path in (tmp_path / "mine", of.path):
        with pytest.raises(RunError, match=f"'{path}' exists and is not empty; give -o a new folder"):
            create_replay(of, of.recipe, str(path))
    assert (contents(of.path), contents(tmp_path / "mine")) == (before, {"notes.txt": b"kept"})


def test_a_replay_that_did_not_begin_is_taken_back(
    finished, scores_arrive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, _ = finished(scores_arrive, *STEADY[1])
    run = create_replay(of, of.recipe, str(tmp_path / "replay"))
    assert sorted(path.name for path in run.path.iterdir()) == [
        ".run.lock.guard",
        "run.json",
        "study-1.sqlite",
        "study.sqlite",
    ]
    state = state_of(run)
    assert (state.problems, [study.done for study in state.studies]) == ((), [0, 0])
    discard_unstarted(run)
    assert not run.path.exists()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("evospike.jobs.folder.write_json", full)
    with pytest.raises(RunError, match=r"cannot write to '.*replay' \(No space left on device\)"):
        create_replay(of, of.recipe, str(tmp_path / "replay"))
    assert not run.path.exists()


def test_a_record_is_there_with_all_of_its_order_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = [f"candidate/0000/{k:04d}" for k in (2, 0, 1)]
    with Store.create(tmp_path / "whole.sqlite", order) as store:
        assert store.told() == order
        store.record_told(3, "candidate/0001/0000")
        with pytest.raises(StoreError, match="told '00000002' is recorded already"):
            store.record_told(2, "candidate/0001/0001")
    with Store.open(tmp_path / "whole.sqlite") as store:
        assert store.told() == [*order, "candidate/0001/0000"]

    def stopped(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(Killed):
        Store.create(tmp_path / "half.sqlite", order)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.sqlite"]
