"""Run folders: what is none is refused, what is altered is noticed, nothing is overwritten."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evospike.core import lock
from evospike.core.errors import RunError, SettingsError
from evospike.core.lock import RunLock
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.folder import (
    RunFolder,
    create_run,
    discard_unstarted,
    new_run,
    open_run,
    read_record,
    record_run,
    starting,
    write_record,
)
from evospike.jobs.recipe import Recipe


def test_a_new_run_records_what_defines_it(tiny, tmp_path: Path) -> None:
    run = create_run("train", tiny(), str(tmp_path / "a" / "run"))
    opened = open_run(run.path)
    assert opened == run
    assert (opened.verb, opened.recipe) == ("train", tiny())
    assert opened.final_path("dense", 2) == run.path / "final" / "dense-2"
    assert opened.read("result.json") is None


def test_an_empty_folder_may_be_used_and_a_filled_one_not(tiny, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    create_run("train", tiny(), str(tmp_path / "empty"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    (tmp_path / "file").write_text("x")
    resume = f"give -o a new folder, or continue it: evospike resume {tmp_path / 'empty'}"
    said = {"empty": resume, "mine": "is not empty; give -o a new folder", "file": "is a file; give -o a new folder"}
    for name, message in said.items():
        with pytest.raises(RunError, match=rf"{name}' .*{re.escape(message)}$"):
            create_run("train", tiny(), str(tmp_path / name))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert (tmp_path / "file").read_text() == "x"


def test_without_a_name_runs_get_fresh_folders(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda *_: "now")
    paths = [create_run("train", tiny(), None).path for _ in range(3)]
    assert paths == [Path("runs/tiny-now"), Path("runs/tiny-now-2"), Path("runs/tiny-now-3")]


def test_a_disk_without_room_is_named(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        RunError, match=r"cannot write to '.*' \(No space left on device\); .*choose a folder on a disk"
    ):
        create_run("train", tiny(), str(tmp_path / "run"))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nothing' does not exist; give a folder that evospike printed"):
        open_run(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"is no run folder \(it has no run.json\)"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read .*run.json"),
        ("{", "cannot read .*run.json"),
        ("\xff", "cannot read .*run.json"),
        ("[" * 100000, "cannot read .*run.json"),
        ('{"checksum": "x", "a": NaN}', "cannot read .*run.json"),
        ("[]", "run.json holds no record"),
        ("{}", "run.json has no checksum; the file was altered, restore it or start a new run"),
    ],
)
def test_a_spoilt_record_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=message):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "has format None; this release reads format 1, run it anew"),
        ({"format": 2}, "has format 2; this release reads format 1"),
        ({"format": 1}, "run.json names no verb, recipe or command; the file was altered"),
        ({"format": 1, "verb": "train", "recipe": []}, "names no verb, recipe or command"),
        ({"format": 1, "verb": "train", "recipe": {}, "command": 5}, "names no verb, recipe or command"),
    ],
)
def test_a_whole_record_of_something_else_is_refused(tmp_path: Path, record: dict[str, Any], message: str) -> None:
    write_record(tmp_path / "run.json", record)
    with pytest.raises(RunError, match=message):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("result.json", "delete it and make it again: evospike resume {run}"),
        ("evaluation.json", "evaluate again: evospike evaluate {run}"),
        ("plan.json", "restore it or start a new run"),
    ],
)
def test_an_altered_document_says_how_it_is_made_again(tiny, tmp_path: Path, name: str, remedy: str) -> None:
    run = create_run("train", tiny(), str(tmp_path / "run"))
    run.write(name, {"a": 1})
    (tmp_path / "run" / name).write_text((tmp_path / "run" / name).read_text().replace("1", "2", 1))
    with pytest.raises(RunError, match=rf"{name} does not match; the file was altered, {remedy.format(run=run.path)}$"):
        run.read(name)


def test_every_alteration_of_a_record_is_noticed(tiny, tmp_path: Path) -> None:
    path = create_run("train", tiny(), str(tmp_path / "run")).path / "run.json"
    whole = json.loads(path.read_text())
    altered = [{**whole, key: "other"} for key in whole] + [{k: whole[k] for k in whole if k != key} for key in whole]
    altered.append({**whole, "recipe": {**whole["recipe"], "run": {**whole["recipe"]["run"], "seed": 1}}})
    for values in altered:
        path.write_text(json.dumps(values))
        with pytest.raises(RunError):
            open_run(path.parent)
    path.write_text(json.dumps(whole))
    open_run(path.parent)


def test_records_come_back_without_their_checksum(tmp_path: Path) -> None:
    value = {"a": [1, 0.1, None, "ü"], "b": {"c": 1e-300}}
    write_record(tmp_path / "x.json", value)
    assert read_record(tmp_path / "x.json") == value
    assert set(json.loads((tmp_path / "x.json").read_text())) == {"a", "b", "checksum"}


def test_a_recipe_of_another_release_is_refused_by_field(tiny, tmp_path: Path) -> None:
    run = create_run("train", tiny(), str(tmp_path / "run"))
    record = {**run.record, "recipe": {**run.record["recipe"], "later": {}}}
    write_record(run.path / "run.json", record)
    with pytest.raises(SettingsError, match="unknown field 'later'"):
        _ = open_run(run.path).recipe


def test_a_moved_run_is_the_same_run(trained, tmp_path: Path) -> None:
    run, result = trained
    shutil.copytree(run.path, tmp_path / "moved")
    assert open_run(tmp_path / "moved").read("result.json") == result


def test_a_run_that_never_began_gives_its_name_back(tmp_path: Path) -> None:
    run = create_run("train", Recipe(), str(tmp_path / "run"))
    run.write("plan.json", {"device": "cpu"})
    for name in (".run.json.123.tmp", ".study.sqlite.123.tmp", ".study.sqlite.123.tmp-journal"):
        (run.path / name).touch()
    with Store.create(run.store_path) as store:
        store.record_value("probe batches", [])
    discard_unstarted(run)
    assert not run.path.exists()


def test_what_a_killed_start_has_left_does_not_keep_its_name(tiny, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (lock.GUARD, ".run.json.123.tmp"):
        (folder / name).touch()
    assert open_run(create_run("train", tiny(), str(folder)).path).verb == "train"


def test_a_folder_that_another_process_has_is_not_discarded(tmp_path: Path) -> None:
    """As when `resume` was faster than the command that made the run."""
    run = create_run("train", Recipe(), str(tmp_path / "run"))
    with RunLock(run.path):
        before = sorted(run.path.iterdir())
        discard_unstarted(run)
        assert sorted(run.path.iterdir()) == before
    discard_unstarted(run)
    assert not run.path.exists()
    discard_unstarted(run)


def test_of_two_that_start_in_one_folder_the_second_changes_nothing(tmp_path: Path) -> None:
    """Both have found it free; the second one is refused while the first one makes it a run, and afterwards."""
    first, second = (new_run("train", Recipe(), str(tmp_path / "run")) for _ in range(2))
    with starting(first):
        for _ in range(2):
            with pytest.raises(RunError, match=f"belongs to process {os.getpid()}"), starting(second):
                record_run(second)
        record_run(first)
    before = {path: path.read_bytes() for path in first.path.iterdir()}
    with pytest.raises(RunError, match="exists and is not empty"), starting(second):
        record_run(second)
    assert {path: path.read_bytes() for path in first.path.iterdir()} == before


def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    run = new_run("train", Recipe(), str(tmp_path / "run"))
    with pytest.raises(RunError, match="cannot write"), starting(run):  # noqa: PT012 - a write before the error
        record_run(run)
        raise RunError("cannot write")
    assert not run.path.exists()


def test_without_a_name_two_at_once_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda *_: "now")
    runs = [new_run("train", Recipe(), None) for _ in range(2)]  # neither has written anything yet
    assert runs[0].path != runs[1].path


LINKED = {
    "workers.json": "file",
    "result.json": "file",
    "run.lock": "file",
    ".run.lock.guard": "file",
    ".progress.7.tmp": "file",
    "study.sqlite": "file",
    "study-1.sqlite-journal": "file",
    "final": "folder",
    "final/genetic-0": "folder",
    "final/genetic-0/progress": "file",
    "final/genetic-0/step-000000001.state.safetensors": "file",
    "tensorboard": "folder",
    "tensorboard/study": "folder",
}


@pytest.mark.parametrize("name", LINKED)
def test_a_run_folder_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "mine"
    victim.mkdir()
    (victim / "thesis.txt").write_text("all of it")
    path = create_run("train", Recipe(), str(tmp_path / "run")).path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(victim / "thesis.txt" if LINKED[name] == "file" else victim)
    with pytest.raises(RunError, match=rf"{re.escape(str(path))}' is a link or no plain file; put what belongs there"):
        open_run(tmp_path / "run")
    path.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(RunError, match="is a link or no plain file"):
            open_run(tmp_path / "run")


def test_what_is_not_ours_in_a_run_folder_may_be_a_link_and_so_may_the_folder(tmp_path: Path) -> None:
    run = create_run("train", Recipe(), str(tmp_path / "run"))
    (run.path / "notes").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(run.path)
    assert open_run(tmp_path / "linked").record == run.record


def a_score(run: RunFolder) -> None:
    with Store.create(run.store_path_of(1)) as store:
        store.record_score(Request("candidate", 0, 0, Genotype(("a",), (0.0,)), ("x",)), Score("ok"))


@pytest.mark.parametrize(
    "begin",
    [
        a_score,
        lambda run: run.store_path.write_bytes(b"not a store"),
        lambda run: run.final_path("dense", 0).mkdir(parents=True),
        lambda run: (run.path / "notes.txt").touch(),
    ],
    ids=["a score", "an unreadable study", "a training", "a file of someone"],
)
def test_a_run_that_began_is_never_discarded(tmp_path: Path, begin: Callable[[RunFolder], None]) -> None:
    run = create_run("evolve", Recipe(), str(tmp_path / "run"))
    begin(run)
    before = sorted(run.path.rglob("*"))
    discard_unstarted(run)
    assert sorted(run.path.rglob("*")) == before
