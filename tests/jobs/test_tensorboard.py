"""Event files say what the records say, once, while a run goes on and after it was stopped, and change no result."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import evospike.jobs.conduct as conduct_module
import evospike.jobs.finals as finals_module
from evospike.core.errors import Interrupted, MissingExtra
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.tensorboard import FOLDER, mirrored

_spec = importlib.util.spec_from_file_location("made_runs", Path(__file__).with_name("made_runs.py"))
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

Points = dict[str, list[tuple[int, float]]]


def read(run: RunFolder, name: str) -> Points:
    """Every scalar in the event files of a sub-run, by tag; a step that is there twice is given twice."""
    folder = run.path / FOLDER / name
    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    reader.Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def points(values: Mapping[int, float]) -> list[tuple[int, float]]:
    """Steps with values as an event holds them, in single precision."""
    return [(step, float(np.float32(value))) for step, value in values.items()]


def of_history(epochs: list[dict[str, float]], name: str) -> list[tuple[int, float]]:
    return points({int(epoch["epoch"]): epoch[name] for epoch in epochs})


@pytest.fixture
def evolution(tiny, tmp_path: Path) -> RunFolder:
    run = made.begin(tmp_path / "run", "evolve", tiny())
    assert isinstance(run, RunFolder)
    return run


def write_curves(run: RunFolder) -> None:
    """Event files of what a run has recorded so far."""
    with mirrored(run):
        pass


def test_an_evolution(evolution: RunFolder) -> None:
    result = made.evolve(evolution)
    write_curves(evolution)
    seen = read(evolution, "study")
    fitness = {g.number: [value for value in g.fitness if value is not None] for g in result.history}
    assert seen["objectives/fitness/best"] == points({n: min(values) for n, values in fitness.items()})
    assert seen["objectives/fitness/mean"] == points({n: fmean(values) for n, values in fitness.items()})
    assert seen["candidates/usable"] == [(0, 3.0), (1, 3.0)]
    assert seen["candidates/failed"] == [(0, 1.0), (1, 1.0)]
    for name in ("loss", "validation_loss", "temporal", "entropy", "firing_rate"):
        usable = {g.number: [s.terms[name] for s in g.scores if s.ok] for g in result.history}
        best = {g.number: g.scores[g.ranks.index(0)].terms[name] for g in result.history}
        assert seen[f"terms/{name}/mean"] == points({n: fmean(values) for n, values in usable.items()})
        assert seen[f"terms/{name}/of_best"] == points(best)
    assert {tag.split("/")[0] for tag in seen} == {"objectives", "terms", "candidates"}


def test_every_sub_run_says_what_its_numbers_are_of(tiny, tmp_path: Path) -> None:
    run = made.begin(tmp_path / "run", "evolve", tiny("data.source=digits-events", "data.events.frames=2"))
    made.evolve(run)
    made.train(run, "dense", 1)
    write_curves(run)
    for name in ("study", "final/dense-0"):
        reader = EventAccumulator(str(run.path / FOLDER / name))
        reader.Reload()
        (event,) = reader.Tensors("data/text_summary")
        assert event.tensor_proto.string_val[0] == (
            b"digits-events (simulated recordings), split: stratified 80/20, fixed"
        )


def test_a_search(searched, tmp_path: Path) -> None:
    shutil.copytree(searched[0].path, tmp_path / "copy")
    run = open_run(tmp_path / "copy")
    write_curves(run)
    seen = read(run, "study")
    with Store.open(run.store_path) as store:
        scores = [[one.score.terms["score"] for one in store.scores("candidate", n)] for n in range(2)]
    assert seen["objectives/score/best"] == points({n: max(values) for n, values in enumerate(scores)})
    assert seen["objectives/score/mean"] == points({n: fmean(values) for n, values in enumerate(scores)})
    assert seen["terms/score/of_best"] == seen["objectives/score/best"]


def test_trainings(evolution: RunFolder) -> None:
    made.train(evolution, "genetic", 3)
    result = made.finish(evolution, "dense", 2)
    write_curves(evolution)
    going, finished = read(evolution, "final/genetic-0"), read(evolution, "final/dense-0")
    names = {
        "training/loss": "loss",
        "training/learning_rate": "rate",
        "validation/accuracy": "validation_accuracy",
        "validation/loss": "validation_loss",
        "structure/density": "density",
        "structure/exploration": "exploration",
    }
    epochs = [made.epoch(k) for k in range(3)]
    assert going == {tag: of_history(epochs, name) for tag, name in names.items()}
    assert {tag: finished[tag] for tag in names} == {tag: of_history(epochs[:2], name) for tag, name in names.items()}
    assert {tag: values for tag, values in finished.items() if tag not in names} == {
        "test/accuracy": [(1, result["test_accuracy"])],
        "test/loss": [(1, result["test_loss"])],
        "firing_rates/all": [(1, result["firing_rate"])],
        "firing_rates/conv1.neuron": [(1, 0.125)],
        "firing_rates/conv2.neuron": [(1, 0.375)],
    }


def test_the_time_axis_is_the_time_of_the_work(evolution: RunFolder) -> None:
    made.train(evolution, "dense", 3)
    write_curves(evolution)
    reader = EventAccumulator(str(evolution.path / FOLDER / "final" / "dense-0"))
    reader.Reload()
    times = [event.wall_time for event in reader.Scalars("training/loss")]
    assert np.diff(times).tolist() == [made.epoch(1)["seconds"], made.epoch(2)["seconds"]]


def test_writing_twice_is_writing_once(evolution: RunFolder) -> None:
    made.evolve(evolution)
    made.train(evolution, "dense", 2)
    write_curves(evolution)
    once = [read(evolution, name) for name in ("study", "final/dense-0")]
    write_curves(evolution)
    assert [read(evolution, name) for name in ("study", "final/dense-0")] == once
    assert len([path for path in (evolution.path / FOLDER).rglob("*") if path.is_file()]) == 2


def test_nothing_else_in_the_folder_is_touched(evolution: RunFolder) -> None:
    made.evolve(evolution)
    notes = evolution.path / FOLDER / "study" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    before = made.contents(evolution.path)
    write_curves(evolution)
    after = made.contents(evolution.path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1


def test_curves_are_there_while_the_run_goes_on_and_no_step_twice(evolution: RunFolder) -> None:
    for scores, steps in ((3, []), (2, [0]), (None, [0, 1])):  # three sittings
        with mirrored(evolution, every=0.01):
            made.evolve(evolution, scores)
            deadline = time.monotonic() + 20
            while _steps(evolution) != steps and time.monotonic() < deadline:
                time.sleep(0.02)
            assert _steps(evolution) == steps
        assert _steps(evolution) == steps


def _steps(run: RunFolder) -> list[int]:
    if not (run.path / FOLDER / "study").is_dir():
        return []
    return [step for step, _ in read(run, "study").get("objectives/fitness/best", [])]


def test_a_run_has_the_same_result_with_it(trained, tiny, tmp_path: Path) -> None:
    plain, result = trained
    assert not (plain.path / FOLDER).exists()
    recipe = tiny("final.arms=['genetic']")
    run = create_run("train", recipe, str(tmp_path / "run"))
    assert conduct(run, recipe, quiet=True, tensorboard=True)["digest"] == result["digest"]
    weights = [one.final_path("genetic", 0) / "weights.safetensors" for one in (plain, run)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    final = run.read("final/genetic-0/result.json")
    assert final is not None
    seen = read(run, "final/genetic-0")
    assert seen["training/loss"] == of_history(final["history"], "loss")
    assert seen["validation/accuracy"] == of_history(final["history"], "validation_accuracy")
    assert seen["test/accuracy"] == points({1: final["test_accuracy"]})
    assert {tag for tag in seen if tag.startswith("firing_rates/")} == {
        "firing_rates/all",
        *(f"firing_rates/{layer}" for layer in final["layer_rates"]),
    }


def test_a_run_that_was_stopped_goes_on_without_a_step_twice(
    trained, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("final.arms=['genetic']")
    run = create_run("train", recipe, str(tmp_path / "run"))

    def stop(self: object, step: int, total: int) -> None:
        if step == 11:
            raise Interrupted(2)

    with monkeypatch.context() as patch:
        patch.setattr(finals_module._StepBar, "after_step", stop)
        with pytest.raises(Interrupted):
            conduct(run, recipe, quiet=True, tensorboard=True)
    assert [step for step, _ in read(run, "final/genetic-0")["training/loss"]] == [0]
    assert conduct(run, recipe, quiet=True, tensorboard=True)["digest"] == trained[1]["digest"]
    assert [step for step, _ in read(run, "final/genetic-0")["training/loss"]] == [0, 1]


def test_a_finished_run_gets_its_files_afterwards(trained, tmp_path: Path) -> None:
    shutil.copytree(trained[0].path, tmp_path / "copy")
    run = open_run(tmp_path / "copy")
    conduct(run, run.recipe, quiet=True, tensorboard=True)
    assert [step for step, _ in read(run, "final/genetic-0")["training/loss"]] == [0, 1]


def test_without_tensorboard_nothing_begins(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny("final.arms=['genetic']")
    run = create_run("train", recipe, str(tmp_path / "run"))
    monkeypatch.setattr(conduct_module, "load_task", None)  # nothing may be loaded
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"--tensorboard needs 'tensorboard'; install it with: pip install 'evosp"):
        conduct(run, recipe, quiet=True, tensorboard=True)
    assert {path.name for path in run.path.iterdir()} <= {"run.json", ".run.lock.guard"}


def test_files_that_cannot_be_written_stop_no_run(evolution: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    (evolution.path / FOLDER).write_text("in the way")
    with mirrored(evolution, every=0.01):
        assert made.evolve(evolution) is not None
        time.sleep(0.1)
    assert f"notice: the event files in {evolution.path / FOLDER} are not complete: " in capsys.readouterr().err
    assert (evolution.path / FOLDER).read_text() == "in the way"


def test_an_error_of_the_run_is_not_hidden(evolution: RunFolder) -> None:
    (evolution.path / FOLDER).write_text("in the way")
    made.evolve(evolution, 5)
    with pytest.raises(KeyError, match="of the run"), mirrored(evolution):
        raise KeyError("of the run")
