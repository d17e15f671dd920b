"""What a watcher sees: of runs that go on, were killed, are finished or damaged; and that watching changes nothing."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import itertools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import evospike.jobs.watch as watch_module
from evospike.core.errors import Interrupted, RunError, SettingsError
from evospike.core.lock import RunLock
from evospike.evolution.executors.local import WorkerState
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.folder import WORKERS, RunFolder, create_run, open_run
from evospike.jobs.run_state import CandidateState, Progress, RunState, StudyState, TrainingState, state_of
from evospike.jobs.watch import render, watch
from evospike.jobs.worker_file import WorkerLine, WorkersFile
from evospike.training.checkpoint import Checkpoint, save_checkpoint

_spec = importlib.util.spec_from_file_location("made_runs", Path(__file__).with_name("made_runs.py"))
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture(scope="module")
def evolutions(tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunFolder]:
    """An evolution (two generations of four, one finalist) that stopped after so many scores; made once."""

    @functools.cache
    def make(scores: int | None, *overrides: str) -> RunFolder:
        run = made.begin(tmp_path_factory.mktemp("evolutions") / "run", "evolve", tiny(*overrides))
        made.evolve(run, scores)
        return run

    return make


@pytest.fixture
def evolution(evolutions, tmp_path: Path) -> Callable[..., RunFolder]:
    """A copy of such an evolution."""

    def make(scores: int | None, *overrides: str) -> RunFolder:
        shutil.copytree(evolutions(scores, *overrides).path, tmp_path / "run")
        return open_run(tmp_path / "run")

    return make


def scored(run: RunFolder) -> list[Score]:
    with Store.open(run.store_path) as store:
        return [one.score for one in store.scores()]


def test_a_run_that_never_began(tiny, tmp_path: Path) -> None:
    run = create_run("evolve", tiny(), str(tmp_path / "run"))
    state = state_of(run)
    assert (state.phase, state.studies) == ("not started", ())
    assert state.holder is state.progress is state.result is None
    assert [(one.arm, one.state, one.epoch, one.share) for one in state.trainings] == [
        ("genetic", "waiting", 0, 0.0),
        ("dense", "waiting", 0, 0.0),
    ]
    assert f"not started; go on with: evospike resume {run.path}" in render(state, 200)
    with RunLock(run.path):
        assert state_of(run).phase == "starting"


def test_an_evolution_that_was_killed(evolution) -> None:
    run = evolution(6)
    state = state_of(run)
    (study,) = state.studies
    losses = [score.terms["loss"] for score in scored(run) if score.ok]
    assert (state.phase, state.holder) == ("stopped", None)
    assert (study.generation, study.generations) == (2, 2)
    assert (study.asked, study.scored, study.pending, study.failed) == (4, 2, 2, 0)
    assert (study.done, study.expected, study.finished) == (6, 9, False)
    assert (study.measure, study.best) == ("loss", min(losses))
    assert [(one.generation, one.index, one.status) for one in study.latest] == [
        (0, 1, "ok"),
        (0, 2, "silent"),
        (0, 3, "ok"),
        (1, 0, "ok"),
        (1, 1, "ok"),
    ]
    assert study.latest[1].reason == made.REASON
    assert state.progress == Progress(6, 9, "scores", 1 / 0.25, 3 * 0.25)
    text = render(state, 120)
    assert "stopped; go on with: evospike resume" in text
    assert "] 6 of 9 scores" in text
    assert not [word for word in ("a second", "left") if word in text], "nothing goes on, so nothing has a rate"
    with RunLock(run.path):
        assert "6 of 9 scores, 4.0 scores a second, about 1 s left" in render(state_of(run), 120)
    assert "generation 2 of 2: 2 of 4 scored, 0 failed, 2 pending" in text


def test_an_evolution_that_asked_for_nothing_yet(tiny, tmp_path: Path) -> None:
    run = made.begin(tmp_path / "run", "evolve", tiny())
    Store.create(run.store_path).close()
    with RunLock(run.path):
        state = state_of(run)
    assert (state.phase, state.progress) == ("evolving", Progress(0, 9, "scores", None, None))
    assert "before the first of 2 generations" in render(state).splitlines()


def test_failures_are_counted_in_their_generation(evolution) -> None:
    (study,) = state_of(evolution(3)).studies
    assert (study.generation, study.scored, study.failed, study.pending) == (1, 3, 1, 1)


def test_more_workers_are_faster(evolution) -> None:
    assert state_of(evolution(6, "run.workers=3")).progress == Progress(6, 9, "scores", 12.0, 0.25)


def test_the_measure_is_the_loss_that_is_evolved(evolution) -> None:
    run = evolution(6, "evolution.loss_from=validation")
    (study,) = state_of(run).studies
    losses = [score.terms["validation_loss"] for score in scored(run) if score.ok]
    assert (study.measure, study.best) == ("validation_loss", min(losses))


def test_who_holds_the_run(evolution) -> None:
    run = evolution(6)
    with RunLock(run.path):
        state = state_of(run)
        assert state.holder is not None
        assert (state.phase, state.holder.state, state.holder.pid) == ("evolving", "alive", os.getpid())
        assert f"evolving: process {os.getpid()} on {socket.gethostname()}, since " in render(state, 200)
        owner = json.loads((run.path / "run.lock").read_text())
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (run.path / "run.lock").write_text(json.dumps({**owner, "pid": child.pid}))
    state = state_of(run)
    assert state.holder is not None
    assert (state.phase, state.holder.state) == ("stopped", "stale")
    assert f"stopped (process {child.pid} is gone); go on with" in render(state, 200)
    (run.path / "run.lock").write_text(json.dumps({**owner, "host": "elsewhere"}))
    state = state_of(run)
    assert state.holder is not None
    assert (state.phase, state.holder.state) == ("evolving", "elsewhere")
    assert "on elsewhere, which this host cannot ask" in render(state, 200)


def test_trainings_go_on_beside_each_other(evolution) -> None:
    run = evolution(None, "training.epochs=4", "final.seeds=2")
    made.finish(run, "genetic", 4)
    made.train(run, "genetic", 2, repeat=1)
    made.train(run, "dense", 1)
    with RunLock(run.path):
        for arm, repeat, text in (("genetic", 1, "25 40"), ("dense", 0, "1")):  # the second is half written
            (run.final_path(arm, repeat) / "progress").write_text(text)
        state = state_of(run)
        first, second, third, last = state.trainings
    assert state.phase == "training"
    assert (first.state, first.epoch, first.share, first.test_accuracy) == ("finished", 4, 1.0, 0.625)
    assert (second.state, second.epoch, second.share) == ("training", 2, 25 / 40)
    assert (second.loss, second.validation_accuracy) == (made.epoch(1)["loss"], made.epoch(1)["validation_accuracy"])
    assert (third.state, third.epoch, third.share) == ("training", 1, 1 / 4)
    assert (last.state, last.epoch, last.loss) == ("waiting", 0, None)
    seconds = [2.0, 3.0, 4.0, 5.0, 2.0, 3.0, 2.0]
    per_epoch = sum(seconds) / len(seconds)
    left = 16 - 4 * (1 + 25 / 40 + 1 / 4)
    assert state.progress is not None
    assert (state.progress.done, state.progress.total, state.progress.unit) == (7.5, 16, "epochs")
    assert state.progress.rate == pytest.approx(1 / per_epoch)
    assert state.progress.seconds_left == pytest.approx(left * per_epoch)
    listed = [line for line in render(state, 120).splitlines() if ", seed " in line]
    assert [line.split()[3] for line in listed] == ["training", "training", "waiting", "finished"]
    rows = {line.split(",")[0] + line.split()[2]: line for line in listed}
    assert rows["genetic0"].split()[3:] == ["finished", "4", "of", "4", "100.0%", "0.5000", "80.00%", "62.50%"]
    assert rows["genetic1"].split()[3:] == ["training", "2", "of", "4", "62.5%", "1.0000", "60.00%"]
    assert rows["dense1"].split()[3:] == ["waiting", "0", "of", "4", "0.0%"]


def test_a_training_of_an_earlier_sitting_waits(evolution) -> None:
    run = evolution(None)
    made.train(run, "dense", 1)
    progress = run.final_path("dense", 0) / "progress"
    progress.write_text("12 20")
    os.utime(progress, (1, 1))
    assert [one.state for one in state_of(run).trainings] == ["waiting", "stopped"]
    with RunLock(run.path):
        assert [one.state for one in state_of(run).trainings] == ["waiting", "waiting"]


def test_a_run_that_trains_only_is_training(tiny, tmp_path: Path) -> None:
    run = made.begin(tmp_path / "run", "evolve", tiny("evolution.mode=random"))
    with RunLock(run.path):
        state = state_of(run)
    assert (state.phase, state.studies) == ("training", ())
    assert state.progress == Progress(0, 4, "epochs", None, None)


def test_a_checkpoint_that_is_cut_gives_way_to_the_one_before(evolution) -> None:
    run = evolution(None)
    for epochs in (1, 2):
        made.train(run, "dense", epochs)
    newest = run.final_path("dense", 0) / "step-000000020.state.safetensors"
    newest.write_bytes(newest.read_bytes()[:40])
    assert state_of(run).trainings[1].epoch == 1


def test_a_finished_training(trained) -> None:
    run, result = trained
    state = state_of(run)
    (one,) = state.trainings
    final = run.read("final/genetic-0/result.json")
    assert final is not None
    assert (state.phase, state.progress, state.problems) == ("finished", None, ())
    assert (one.state, one.epoch, one.test_accuracy) == ("finished", 2, final["test_accuracy"])
    assert (one.loss, one.validation_accuracy) == (
        final["history"][-1]["loss"],
        final["history"][-1]["validation_accuracy"],
    )
    assert state.result is not None
    assert state.result["digest"] == result["digest"]
    assert f"test accuracy: {result['test_accuracy']:.2%}" in render(state, 100).splitlines()
    json.dumps(dataclasses.asdict(state), allow_nan=False)  # the document of `watch --json`


def test_a_training_in_this_process_tells_how_far_it_is(trained) -> None:
    step, total = (trained[0].final_path("genetic", 0) / "progress").read_text().split()
    assert 1 <= int(step) <= int(total) == 16


def test_searches_and_rankings(tiny, tmp_path: Path) -> None:
    run = made.begin(tmp_path / "search", "search", tiny("search.seeds=2"))
    genotypes = [Genotype(("gene",), (k,)) for k in range(4)]
    for seed, count in ((0, 4), (1, 3)):
        with Store.create(run.store_path_of(seed)) as store:
            store.record_generation(0, genotypes)
            for k in range(count):
                terms = {"score": float(10 * seed + (k * 3) % 4)}
                store.record_score(
                    Request("candidate", 0, k, genotypes[k], ("search",)), Score("ok", terms=terms, seconds=2.0)
                )
    with RunLock(run.path):
        state = state_of(run)
    assert [(one.name, one.measure, one.best) for one in state.studies] == [
        ("study", "score", 3.0),
        ("study-1", "score", 13.0),
    ]
    assert (state.phase, state.trainings) == ("searching", ())
    assert state.progress == Progress(7, 24, "scores", 0.5, 34.0)
    assert "30.0 scores a minute" in render(state)
    ranking = made.begin(tmp_path / "rank", "rank", tiny())
    with RunLock(ranking.path):
        assert state_of(ranking).phase == "ranking"
    assert state_of(ranking).progress == Progress(0, 5, "scores", None, None)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *itertools.product(["study.sqlite", "final/genetic-0/result.json", "result.json"], ["cut", "empty", "altered"]),
        ("run.lock", "cut"),
        ("run.lock", "empty"),
    ],
)
def test_what_is_damaged_is_named_and_the_rest_is_shown(evolution, name: str, damage: str) -> None:
    run = evolution(None)
    made.finish(run, "genetic", 2)
    made.train(run, "dense", 1)
    run.write("result.json", {"test_accuracy": 0.5, "digest": "0" * 32})
    with RunLock(run.path):
        lock = (run.path / "run.lock").read_bytes()
    (run.path / "run.lock").write_bytes(lock)
    data = (run.path / name).read_bytes()
    spoilt = {"cut": data[: len(data) // 2], "empty": b"", "altered": data.replace(b"0.", b"1.", 3)}[damage]
    assert spoilt != data
    (run.path / name).write_bytes(spoilt)
    state = state_of(run)
    lost = 0 if name == "result.json" else 1  # of a finished run also the weights of the training that is not done
    assert len(state.problems) == 1 + lost
    assert (run.path / name).name in state.problems[0]
    assert state.trainings[1].epoch == 1
    assert (state.trainings[0].test_accuracy is None) == name.startswith("final")
    assert len(state.studies) == (name != "study.sqlite")
    assert f"problem: {state.problems[0]}" in render(state, 1000)


def test_a_store_is_read_while_it_is_written(evolution) -> None:
    run = evolution(6)
    before = state_of(run)
    with closing(sqlite3.connect(run.store_path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO records VALUES ('value', 'unfinished', '1', '')")
        assert state_of(run) == before


def test_a_store_left_in_the_middle_of_a_write_is_a_problem_until_it_is_repaired(evolution, tmp_path: Path) -> None:
    run = evolution(6)
    before = state_of(run)
    with closing(sqlite3.connect(run.store_path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN IMMEDIATE")
        for k in range(50):  # more than the cache holds, so that pages reach the file before the transaction ends
            connection.execute("INSERT INTO records VALUES ('value', ?, ?, '')", (f"v{k}", "x" * 5000))
        shutil.copytree(run.path, tmp_path / "killed")
    killed = open_run(tmp_path / "killed")
    files = made.contents(killed.path)
    state = state_of(killed)
    assert (len(state.problems), state.studies) == (1, ())
    assert state.problems[0].endswith("study.sqlite was left in the middle of a write; resuming its run repairs it")
    assert made.contents(killed.path) == files
    Store.open(killed.store_path).close()
    assert state_of(killed).studies == before.studies


def test_watching_changes_nothing(evolution) -> None:
    run = evolution(None)
    made.train(run, "dense", 1)
    before = made.contents(run.path)
    watch(run.path, once=True, out=io.StringIO())
    assert made.contents(run.path) == before


def test_nothing_slow_is_imported() -> None:
    code = "import sys, evospike.jobs.watch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Terminal(io.StringIO):
    """Shows what a terminal would: two commands are known, up so many lines and clear what is below."""

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        lines: list[str] = []
        first, *rest = self.getvalue().split("\x1b[")
        lines += first.split("\n")[:-1]
        for part in rest:
            if part.startswith("J"):
                lines += part[1:].split("\n")[:-1]
            else:
                count, _, nothing = part.partition("F")
                assert nothing == ""
                assert int(count) <= len(lines)
                del lines[len(lines) - int(count) :]
        return lines


@pytest.fixture
def moments(evolution, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """An evolution that gains two scores, then none, then all others and its result, while the watcher sleeps."""
    run = evolution(3)
    happens = iter(
        [
            lambda: made.evolve(run, 2),
            lambda: None,
            lambda: (made.evolve(run), run.write("result.json", {"digest": "0" * 32})),
        ]
    )
    monkeypatch.setattr(watch_module.time, "sleep", lambda seconds: next(happens)())
    return run


def test_without_a_terminal_there_is_a_block_for_every_change(moments: RunFolder) -> None:
    out = io.StringIO()
    watch(moments.path, out=out)
    blocks = out.getvalue().strip().split("\n\nevospike evolve ")
    assert [next(line for line in block.splitlines() if line.startswith("generation")) for block in blocks] == [
        "generation 1 of 2: 3 of 4 scored, 1 failed, 1 pending",
        "generation 2 of 2: 1 of 4 scored, 0 failed, 3 pending",
        "generation 2 of 2: 4 of 4 scored, 1 failed, 0 pending",
    ]
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("lines", [1, 2, 4, 60])
def test_a_terminal_shows_the_last_state_alone(moments: RunFolder, monkeypatch, lines: int) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("LINES", str(lines))
    out = Terminal()
    watch(moments.path, out=out)
    if lines == 60:
        assert out.screen() == render(state_of(moments), 69).splitlines()
        return
    brief = render(state_of(moments), 69, brief=True).splitlines()
    shown, room = out.screen(), max(lines - 1, 1)
    assert shown == [*brief[: room - 1], f"({len(brief) - room + 1} more lines in a higher window)"]


def test_a_small_terminal_shows_what_is_at_work_and_sums_up_the_rest(evolution, monkeypatch) -> None:
    run = evolution(None, "final.seeds=12")
    for repeat in range(9):
        made.finish(run, "genetic", 2, repeat=repeat)
    made.train(run, "dense", 1, repeat=3)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    out = Terminal()
    with RunLock(run.path):
        (run.final_path("dense", 3) / "progress").write_text("5 8")
        watch(run.path, once=True, out=out)
    shown = out.screen()
    assert len(shown) <= 23
    assert not any("more line" in line for line in shown)
    assert [line.split()[:4] for line in shown if ", seed " in line] == [["dense,", "seed", "3", "training"]]
    assert "trainings: 14 waiting, 9 finished (test 62.50% to 62.50%)" in shown
    assert any(line.startswith("best loss so far") for line in shown)


def test_a_lot_at_work_is_cut_with_a_note_of_how_much(monkeypatch) -> None:
    training = TrainingState("dense", 0, "training", 1, 2, 0.5, None, None, None, None)
    at_work = tuple(dataclasses.replace(training, repeat=seed) for seed in range(40))
    state = dataclasses.replace(_STATE, phase="training", trainings=at_work)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    out = Terminal()
    monkeypatch.setattr(watch_module, "open_run", lambda path: None)
    monkeypatch.setattr(watch_module, "state_of", lambda run: state)
    watch("x", once=True, out=out)
    whole = render(state, 79, brief=True).splitlines()
    assert out.screen() == [*whole[:22], f"({len(whole) - 22} more lines in a higher window)"]


@given(
    done=st.integers(0, 10**6),
    total=st.integers(1, 10**6),
    seconds=st.none() | st.floats(0.001, 1e7),
    unit=st.sampled_from(["scores", "epochs"]),
)
def test_progress_is_one_line_of_an_ordinary_terminal(done: int, total: int, seconds: float | None, unit: str) -> None:
    rate = None if seconds is None else 1 / seconds
    left = None if seconds is None else max(total - done, 0) * min(seconds, 3600)
    state = dataclasses.replace(_STATE, progress=Progress(done / 10, total, unit, rate, left))
    (line,) = (line for line in render(state, 79).splitlines() if f"of {total} {unit}" in line)
    if line.startswith("["):
        bar = line[1 : line.index("]")]
        assert 6 <= len(bar) <= 24
        assert bar.count("#") == round(len(bar) * min(done / 10 / total, 1))


def test_an_evolution_says_what_follows(evolution) -> None:
    run = evolution(3, "final.seeds=3")
    with RunLock(run.path):
        lines = render(state_of(run), 100).splitlines()
    assert lines[4] == "then 6 trainings of 2 epochs"


def test_one_is_not_called_many(evolution) -> None:
    run = evolution(3, "training.epochs=1", "final.arms=['dense']")
    with RunLock(run.path):
        assert "then 1 training of 1 epoch" in render(state_of(run), 100).splitlines()


def test_candidates_that_are_not_all_say_so(evolution) -> None:
    few = evolution(3)
    assert not any("the last" in line for line in render(state_of(few), 100).splitlines())
    made.evolve(few, 4)
    lines = render(state_of(few), 100).splitlines()
    assert len([line for line in lines[lines.index("the last 5 of 7:") + 1 :] if ", candidate " in line]) == 5


def test_every_look_says_what_the_numbers_are_of(tiny, tmp_path: Path, trained) -> None:
    filmed = tiny("data.source=digits-events", "data.events.frames=2")
    for verb in ("search", "train"):
        run = create_run(verb, filmed, str(tmp_path / verb))
        told = "data: digits-events (simulated recordings), split: stratified 80/20, fixed"
        assert render(state_of(run), 200).splitlines()[2] == told
        json.dumps(dataclasses.asdict(state_of(run)))
    run.write("result.json", {"digest": "0" * 32, "data": {"name": "mine", "split": "as I cut it", "simulated": True}})
    assert state_of(run).data == {"name": "mine", "split": "as I cut it", "simulated": True}
    assert "data: mine (simulated recordings), split: as I cut it" in render(state_of(run), 200).splitlines()
    run.write("result.json", {"digest": "0" * 32, "data": ["mine"]})
    assert state_of(run).data["name"] == "digits-events"
    own = create_run("train", tiny("data.source=imagefolder:mine"), str(tmp_path / "own"))
    assert "data: imagefolder:mine" in render(state_of(own), 200).splitlines()
    assert "data: digits, split: stratified 80/20, fixed" in render(state_of(trained[0]), 200).splitlines()


def test_a_stopped_training_of_several_processes_goes_on_under_torchrun(tiny, tmp_path: Path) -> None:
    run = made.begin(tmp_path / "run", "train", tiny("final.arms=['dense']"))
    made.train(run, "dense", 1)
    assert f"stopped; go on with: evospike resume {run.path}" in render(state_of(run), 200)
    record = {"step": 20, "history": [made.epoch(0)], "seconds": 0.0, "processes": [2]}
    tensors = {"w": torch.zeros(2)}
    save_checkpoint(run.final_path("dense", 0), 20, Checkpoint(tensors, tensors, record))
    state = state_of(run)
    assert state.trainings[0].processes == (2,)
    assert f"stopped; go on under torchrun with: evospike resume {run.path}" in render(state, 200)
    save_checkpoint(run.final_path("dense", 0), 30, Checkpoint(tensors, tensors, {**record, "processes": "2"}))
    assert "is '2'; the file was altered, train it again" in state_of(run).problems[0]


def test_a_run_that_stopped_is_waited_for_and_that_is_said(evolution, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch_module.time, "sleep", interrupt)
    followed, looked_at = io.StringIO(), io.StringIO()
    run = evolution(3)
    with pytest.raises(Interrupted):
        watch(run.path, out=followed)
    watch(run.path, once=True, out=looked_at)
    assert "waiting for it to go on; Ctrl-C ends this" in followed.getvalue().splitlines()
    assert "waiting for it" not in looked_at.getvalue()


@pytest.mark.parametrize("text", ["{", "{}", '{"test_accuracy": 1.0}'])
def test_a_damaged_result_ends_the_watch(evolution, text: str) -> None:
    run = evolution(None)
    (run.path / "result.json").write_text(text)
    state = state_of(run)
    assert (state.phase, state.result, state.progress) == ("damaged", None, None)
    out = io.StringIO()
    with pytest.raises(RunError, match=r"result\.json.* delete it and make it again: evospike resume "):
        watch(run.path, out=out)
    assert "damaged: its result cannot be read" in out.getvalue().splitlines()
    watch(run.path, once=True, out=io.StringIO())


def test_a_finished_run_whose_weights_are_gone_says_so(trained, tmp_path: Path) -> None:
    shutil.copytree(trained[0].path, tmp_path / "run")
    (tmp_path / "run" / "final" / "genetic-0" / "weights.safetensors").unlink()
    state = state_of(open_run(tmp_path / "run"))
    again = f"make them again with: evospike resume {tmp_path / 'run'}"
    assert (state.phase, state.problems) == ("finished", (f"the weights of 'genetic' (seed 0) are gone; {again}",))


def test_control_c_ends_it(evolution, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch_module.time, "sleep", interrupt)
    with pytest.raises(Interrupted) as caught:
        watch(evolution(3).path, out=io.StringIO())
    assert 128 + caught.value.signum == 130
    assert caught.value.signum == signal.SIGINT


def test_a_slow_look_is_followed_by_a_longer_pause(evolution, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 13.0])
    monkeypatch.setattr(watch_module.time, "monotonic", lambda: next(clock))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        raise KeyboardInterrupt

    monkeypatch.setattr(watch_module.time, "sleep", sleep)
    with pytest.raises(Interrupted):
        watch(evolution(3).path, out=io.StringIO())
    assert slept == [15.0]


def test_bad_input(tmp_path: Path, trained) -> None:
    with pytest.raises(RunError, match=r"nowhere' does not exist; give a folder"):
        watch(tmp_path / "nowhere", once=True)
    for interval in (0, -1.0):
        with pytest.raises(SettingsError, match=f"'interval' must be positive, given {interval:g}"):
            watch(trained[0].path, once=True, interval=interval)


@given(width=st.integers(20, 200), text=st.text(max_size=300))
def test_no_line_is_too_wide_and_no_name_commands_the_terminal(width: int, text: str) -> None:
    candidate = CandidateState(0, 0, False, "error", text, None, 1.0)
    study = dataclasses.replace(_STUDY, latest=(candidate,))
    state = dataclasses.replace(_STATE, path=text, recipe=text, studies=(study,), problems=(text,))
    lines = render(state, width).split("\n")
    assert max(len(line) for line in lines) <= width
    assert all(line.isprintable() for line in lines)


def test_a_line_that_is_too_long_goes_on_in_the_next() -> None:
    state = dataclasses.replace(_STATE, problems=("one two three four five six seven eight nine ten",))
    text = render(state, 24)
    assert "problem: one two three\n    four five six seven\n    eight nine ten\n" in text


def test_what_the_workers_do_is_shown_while_their_driver_lives(evolution) -> None:
    run = evolution(2)
    request = Request("candidate", 1, 4, Genotype(("a",), (0.0,)), ("x",)).to_json()
    states = [
        WorkerState(11, True, request, 2, 1e9),
        WorkerState(12, True, {"arm": "dense", "repeat": 3, "spreads": None}, 1, 1e9),
        WorkerState(13, True, None, 1, 1e9),
        WorkerState(14, False, None, 0, 1e9),
    ]
    WorkersFile(run)(states)
    assert state_of(run).doing == ()
    with RunLock(run.path):
        assert state_of(run).doing == ()  # written before this driver took the run
        WorkersFile(run)(states)
        assert [(one.pid, one.doing) for one in state_of(run).doing] == [
            (11, "generation 2, candidate 5, again"),
            (12, "training dense, seed 3"),
            (13, "waiting"),
            (14, "starting"),
        ]
        assert "  worker 12: training dense, seed 3, since " in render(state_of(run), 200)
        (run.path / WORKERS).write_text('[{"pid": 1')
        assert state_of(run).doing == ()


def test_the_workers_file_is_written_at_most_once_a_second_but_always_when_they_end(evolution) -> None:
    run = evolution(2)
    write = WorkersFile(run)
    write([WorkerState(11, False, None, 0, 1e9)])
    first = (run.path / WORKERS).read_bytes()
    write([WorkerState(11, True, None, 0, 1e9)])
    assert (run.path / WORKERS).read_bytes() == first
    write([])
    assert json.loads((run.path / WORKERS).read_bytes()) == []


def _made_state() -> RunState:
    study = StudyState(
        name="study",
        generation=1,
        generations=2,
        asked=4,
        scored=1,
        failed=1,
        pending=3,
        done=1,
        expected=9,
        measure="loss",
        best=0.5,
        seconds=1.0,
        latest=(),
        finished=False,
    )
    return RunState(
        path="runs/x",
        verb="evolve",
        recipe="digits",
        phase="stopped",
        holder=None,
        workers=1,
        doing=(WorkerLine(7, "generation 1, candidate 2", 0.0),),
        progress=Progress(1, 9, "scores", 1.0, 8.0),
        studies=(study,),
        trainings=(),
        result=None,
        problems=(),
        data={"name": "digits", "split": "", "simulated": False},
    )


_STATE = _made_state()
_STUDY = _STATE.studies[0]
