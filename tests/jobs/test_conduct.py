"""Whole runs: the digest is the same for every number of workers and wherever a run was interrupted."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import evospike.jobs.conduct as conduct_module
from evospike.core.errors import EvospikeError, RunError, SettingsError
from evospike.core.files import load_tensors
from evospike.core.lock import RunLock
from evospike.data.task import Task
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct, permitted_changes
from evospike.jobs.final import stored_result
from evospike.jobs.folder import RunFolder, create_run, open_run, write_record


@pytest.fixture
def copy(evolved, tmp_path: Path) -> RunFolder:
    """A copy of the finished evolution without its result, as a kill right before the end leaves it."""
    run, _ = evolved
    shutil.copytree(run.path, tmp_path / "copy")
    (tmp_path / "copy" / "result.json").unlink()
    return open_run(tmp_path / "copy")


def forget(run: RunFolder, condition: str) -> None:
    with closing(sqlite3.connect(run.store_path)) as connection, connection:
        connection.execute(f"DELETE FROM records WHERE {condition}")


def forget_training(run: RunFolder, arm: str) -> None:
    """Take a training back to its first checkpoint."""
    folder = run.final_path(arm, 0)
    for name in ("result.json", "weights.safetensors", "step-000000016.state.safetensors"):
        (folder / name).unlink()


def test_the_result_has_what_it_must(evolved) -> None:
    run, result = evolved
    assert run.read("result.json") == result
    assert set(result) >= {
        *("run", "test_accuracy", "parameters", "dense_parameters", "density"),
        *("firing_rate", "wall_seconds", "digest"),
    }
    assert 0 <= result["test_accuracy"] <= 1
    assert len(result["digest"]) == 32
    assert [arm["arm"] for arm in result["arms"]] == ["genetic", "dense"]
    assert set(result["winner"]["spreads"]) == {"encoding", "genes"}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_the_number_of_workers_changes_nothing(evolved, tiny, tmp_path: Path, workers: int) -> None:
    one, result = evolved
    recipe = tiny(f"run.workers={workers}")
    run = create_run("evolve", recipe, str(tmp_path / "run"))
    other = conduct(run, recipe, quiet=True)
    assert other["digest"] == result["digest"]
    assert other["winner"] == result["winner"]
    for arm in ("genetic", "dense"):
        one_file, other_file = (folder.final_path(arm, 0) / "weights.safetensors" for folder in (one, run))
        assert one_file.read_bytes() == other_file.read_bytes()
    with Store.open(one.store_path) as a, Store.open(run.store_path) as b:
        assert a.digest_payload() == b.digest_payload()


@pytest.mark.parametrize(
    ("label", "interrupt"),
    [
        ("before the result", lambda run: None),
        ("in a final training", lambda run: forget_training(run, "dense")),
        (
            "in the last generation",
            lambda run: forget(run, "name = 'winner' OR name LIKE 'finalist/%' OR name >= 'candidate/0001/0002'"),
        ),
    ],
)
def test_an_interrupted_run_ends_with_the_same_digest(
    evolved, copy, tiny, label: str, interrupt: Callable[[RunFolder], None]
) -> None:
    _, result = evolved
    interrupt(copy)
    again = conduct(copy, tiny("run.workers=2"), quiet=True)
    assert again["digest"] == result["digest"], label
    assert {key: again[key] for key in ("test_accuracy", "firing_rate", "winner")} == {
        key: result[key] for key in ("test_accuracy", "firing_rate", "winner")
    }


def test_a_finished_run_gives_its_result_at_once(trained, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    run, result = trained
    monkeypatch.setattr(conduct_module, "load_task", None)  # nothing may be loaded
    monkeypatch.setattr(conduct_module, "Workshop", None)
    assert conduct(run, tiny("final.arms=['genetic']")) == result


def test_evolving_in_mode_random_trains_only(tiny, tmp_path: Path) -> None:
    recipe = tiny("evolution.mode=random", "final.arms=['genetic']", "training.epochs=1")
    run = create_run("evolve", recipe, str(tmp_path / "run"))
    result = conduct(run, recipe, quiet=True)
    assert "winner" not in result
    assert not run.store_path.exists()


def test_the_test_split_is_opened_once_and_only_at_the_end(tiny, tmp_path: Path, monkeypatch) -> None:
    recipe = tiny("final.arms=['genetic']")
    run = create_run("train", recipe, str(tmp_path / "run"))
    opened: list[list[str]] = []
    original = Task.open_test

    def spy(task: Task):
        opened.append(sorted(path.name for path in run.final_path("genetic", 0).glob("step-*.state.*")))
        return original(task)

    monkeypatch.setattr(Task, "open_test", spy)
    conduct(run, recipe, quiet=True)
    assert opened == [["step-000000008.state.safetensors", "step-000000016.state.safetensors"]]


def test_a_folder_of_a_live_process_is_refused(copy, tiny) -> None:
    before = sorted(path.name for path in copy.path.iterdir())
    with RunLock(copy.path), pytest.raises(RunError, match=r"copy.* process \d+"):
        conduct(copy, tiny(), quiet=True)
    assert sorted(path.name for path in copy.path.iterdir()) == before


def test_data_that_changed_since_are_refused(copy, tiny) -> None:
    plan = copy.read("plan.json")
    assert plan is not None
    write_record(copy.path / "plan.json", {**plan, "data": {**plan["data"], "train": "0" * 32}})
    with pytest.raises(
        RunError, match=r'the data changed since the run began .train: "000.*; restore it or start a new'
    ):
        conduct(copy, tiny(), quiet=True)


def test_other_versions_are_noticed(copy, tiny, capsys) -> None:
    plan = copy.read("plan.json")
    assert plan is not None
    write_record(copy.path / "plan.json", {**plan, "versions": {**plan["versions"], "torch": "1.0"}})
    conduct(copy, tiny(), quiet=True)
    assert "notice: versions differ" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plan.json", "result.json", "study.sqlite"])
@pytest.mark.parametrize("damage", ["cut", "empty", "altered"])
def test_a_damaged_record_is_one_error(evolved, copy, tiny, name: str, damage: str) -> None:
    shutil.copy(evolved[0].path / "result.json", copy.path / "result.json")
    if name != "result.json":
        (copy.path / "result.json").unlink()
    data = (copy.path / name).read_bytes()
    spoilt = {"cut": data[: len(data) // 2], "empty": b"", "altered": data.replace(b"0.", b"1.", 3)}[damage]
    assert spoilt != data
    (copy.path / name).write_bytes(spoilt)
    with pytest.raises(EvospikeError) as caught:
        conduct(copy, tiny(), quiet=True)
    assert name in str(caught.value)
    assert (copy.path / name).read_bytes() == spoilt, "nothing is overwritten"


@pytest.mark.parametrize(("call", "at"), [("fsync", 0), ("fsync", 6), ("replace", 2), ("replace", 5)])
def test_a_full_disk_costs_no_work_that_was_saved(
    trained, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
) -> None:
    _, result = trained
    recipe = tiny("final.arms=['genetic']")
    run = create_run("train", recipe, str(tmp_path / "run"))
    calls, original = iter(range(1000)), getattr(os, call)

    def full(*args: object) -> None:
        if next(calls) >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises((OSError, RunError), match=r"No space left on device"):
            conduct(run, recipe, quiet=True)
    assert not (run.path / "run.lock").exists()
    assert conduct(run, recipe, quiet=True)["digest"] == result["digest"]


def test_only_the_number_of_workers_and_the_time_limit_may_change(tiny) -> None:
    base = tiny().to_plain()
    assert permitted_changes(base, tiny("run.workers=4", "run.candidate_minutes=2.5").to_plain()) == []
    assert permitted_changes(base, tiny("run.seed=1", "encoding.genes=5", "run.workers=2").to_plain()) == [
        "encoding.genes: 4 -> 5",
        "run.seed: 0 -> 1",
    ]


def test_weights_on_disk_are_the_ones_measured(evolved) -> None:
    run, _ = evolved
    for arm in ("genetic", "dense"):
        final = stored_result(run.final_path(arm, 0))
        weights, metadata = load_tensors(run.final_path(arm, 0) / "weights.safetensors")
        assert final is not None
        assert (metadata["arm"], metadata["repeat"]) == (arm, "0")
        assert (
            sum(tensor.numel() for name, tensor in weights.items() if "norm.running" not in name) >= final["parameters"]
        )


def test_a_finished_run_that_lost_weights_makes_the_same_ones_again(
    evolved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, result = evolved
    shutil.copytree(run.path, tmp_path / "copy")
    again = open_run(tmp_path / "copy")
    weights = again.final_path("dense", 0) / "weights.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1])
    assert conduct(again, again.recipe, quiet=True)["digest"] == result["digest"]
    assert weights.read_bytes() == before
    assert "weights of dense (seed 0) are damaged or gone, they are made again" in capsys.readouterr().err


def test_a_result_without_content_is_refused(evolved, tmp_path: Path) -> None:
    run, _ = evolved
    shutil.copytree(run.path, tmp_path / "copy")
    write_record(tmp_path / "copy" / "result.json", {})
    again = open_run(tmp_path / "copy")
    with pytest.raises(RunError, match="holds no result; the file was altered, delete it and resume"):
        conduct(again, again.recipe, quiet=True)


def test_a_run_has_begun_once_its_plan_is_made_and_not_when_it_was_finished(tiny, tmp_path: Path) -> None:
    recipe = tiny("final.arms=['genetic']", "training.epochs=1")
    run = create_run("train", recipe, str(tmp_path / "run"))
    seen: list[list[str]] = []
    for _ in range(2):
        conduct(run, recipe, quiet=True, begun=lambda: seen.append(sorted(path.name for path in run.path.glob("*"))))
    assert seen == [[".run.lock.guard", "plan.json", "run.json", "run.lock"]]


@pytest.mark.parametrize(
    ("verb", "override"),
    [
        ("train", "training.keep=best"),
        ("evolve", "evolution.loss_from=validation"),
        ("search", "scoring.score=training"),
    ],
)
def test_validation_images_that_come_to_none_are_refused(tiny, tmp_path: Path, verb: str, override: str) -> None:
    recipe = tiny("data.train_limit=10", "data.validation=0.01", "training.batch=5", override)
    run = create_run(verb, recipe, str(tmp_path / "run"))
    with pytest.raises(SettingsError, match=r"want validation images, but data.validation = 0.01 of 10 leaves none"):
        conduct(run, recipe, quiet=True)
    assert not (run.path / "plan.json").exists()
