"""A final training: the test split is read once, after the last step; nothing damaged is taken for finished."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

import evospike.jobs.final as final_module
from evospike.core.errors import CheckpointError, RunError
from evospike.core.files import digest_tensors, load_tensors
from evospike.data.task import Task
from evospike.jobs.final import load_weights, stored_result, train_arm
from evospike.jobs.folder import RunFolder, create_run
from evospike.measure.accuracy import Evaluation
from evospike.measure.spikes import SpikeCount
from evospike.training.checkpoint import saved_steps
from evospike.training.loop import Diverged


class Killed(BaseException):
    pass


class KillAt:
    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, step: int, total: int) -> None:
        if step == self.step:
            raise Killed


@pytest.fixture
def run(tiny, tmp_path: Path) -> RunFolder:
    return create_run("train", tiny(), str(tmp_path / "run"))


def same_work(one: dict, two: dict) -> bool:
    def work(result: dict) -> list:
        history = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in result["history"]]
        return [history, *(result[key] for key in ("weights", "test_accuracy", "test_loss", "firing_rate"))]

    return work(one) == work(two)


def test_the_test_split_is_read_once_after_the_last_step(workshop, run, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, opened = workshop(), []
    original = Task.open_test

    def spy(task: Task):
        opened.append(saved_steps(run.final_path("genetic", 0)))
        return original(task)

    monkeypatch.setattr(Task, "open_test", spy)
    with pytest.raises(Killed):
        train_arm(shop, run, "genetic", 0, None, hooks=[KillAt(15)])
    assert opened == []
    result = train_arm(shop, run, "genetic", 0, None)
    assert opened == [[8, 16]]
    assert train_arm(shop, run, "genetic", 0, None) == result
    assert len(opened) == 1, "a finished training is not measured again"
    assert result["test_samples"] == 60


@pytest.mark.parametrize("step", [1, 7, 8, 9, 16])
def test_a_training_killed_at_a_step_gives_the_same_result(workshop, run, trained, step: int) -> None:
    finished, _ = trained
    shop = workshop("final.arms=['genetic']")
    with pytest.raises(Killed):
        train_arm(shop, run, "genetic", 0, None, hooks=[KillAt(step)])
    assert stored_result(run.final_path("genetic", 0)) is None
    unbroken = stored_result(finished.final_path("genetic", 0))
    assert unbroken is not None
    resumed = train_arm(shop, run, "genetic", 0, None)
    assert same_work(resumed, unbroken)
    weights, _ = load_tensors(run.final_path("genetic", 0) / "weights.safetensors")
    assert digest_tensors(weights) == resumed["weights"] == unbroken["weights"]


@pytest.mark.parametrize("damage", ["no result", "cut result", "altered result", "no weights", "cut weights", "others"])
def test_a_damaged_result_is_made_anew_from_the_checkpoint(workshop, trained, tmp_path: Path, damage: str) -> None:
    finished, _ = trained
    run = RunFolder(tmp_path / "copy", finished.record)
    shutil.copytree(finished.path, run.path)
    folder = run.final_path("genetic", 0)
    unbroken = stored_result(folder)
    result, weights = folder / "result.json", folder / "weights.safetensors"
    if damage.startswith("no "):
        (result if damage == "no result" else weights).unlink()
    elif damage == "cut result":
        result.write_text(result.read_text()[:-10])
    elif damage == "altered result":
        result.write_text(json.dumps({**json.loads(result.read_text()), "test_accuracy": 1.0}))
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-10])
    else:  # whole weights, but not of this result
        shutil.copy(folder / "step-000000008.weights.safetensors", weights)
    assert stored_result(folder) is None
    again = train_arm(workshop("final.arms=['genetic']"), run, "genetic", 0, None)
    assert same_work(again, unbroken)
    assert stored_result(folder) == again


def test_with_every_checkpoint_damaged_the_error_says_what_to_do(workshop, run) -> None:
    shop = workshop()
    with pytest.raises(Killed):
        train_arm(shop, run, "dense", 0, None, hooks=[KillAt(9)])
    for path in run.final_path("dense", 0).iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"no whole checkpoint in .*dense-0.*train from the start"):
        train_arm(shop, run, "dense", 0, None)


def test_weights_of_another_network_do_not_fit(workshop, trained) -> None:
    finished, _ = trained
    other = workshop().network("dense", ("final", 0))
    with pytest.raises(CheckpointError, match=r"do not fit the run's network"):
        load_weights(other, finished.final_path("genetic", 0))


def test_the_svd_arm_needs_its_trained_twin(workshop, run) -> None:
    shop = workshop("final.arms=['dense','svd']", "training.epochs=1", "training.rate=1e-9", "encoding.genes=40")
    with pytest.raises(RunError, match=r"starts from the trained dense twin, which .* does not have; train it first"):
        train_arm(shop, run, "svd", 0, None)
    dense = train_arm(shop, run, "dense", 0, None)
    svd = train_arm(shop, run, "svd", 0, None)
    assert svd["history"][0]["loss"] == pytest.approx(dense["history"][0]["loss"], rel=0.02), "enough genes: the twin"


def test_a_diverging_training_says_so(workshop, run) -> None:
    shop = workshop("training.rate=1e30", "training.warmup_epochs=0", "training.ema=0")
    with pytest.raises(Diverged, match=r"not finite .*lower training\.rate"):
        train_arm(shop, run, "genetic", 0, None)


def test_a_network_whose_test_loss_is_not_finite_has_diverged(workshop, run, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = workshop("training.epochs=1")

    def overflowing(net, batches, count_spikes=True) -> Evaluation:
        return Evaluation(0.1, 2.3 if not count_spikes else math.inf, 60, SpikeCount())

    monkeypatch.setattr(final_module, "evaluate", overflowing)
    with pytest.raises(Diverged, match=r"the loss of the trained network is not finite"):
        train_arm(shop, run, "genetic", 0, None)
    assert stored_result(run.final_path("genetic", 0)) is None
