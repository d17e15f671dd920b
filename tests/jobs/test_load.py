"""A finished run as a network: it predicts what was measured, whatever the mode it was in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import evospike
from evospike.core.errors import CheckpointError, RunError, ShapeError
from evospike.jobs.folder import RunFolder, create_run
from evospike.jobs.load import load
from evospike.layers.spiking import TimeBatchNorm2d
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings


@pytest.fixture
def copy(trained, tmp_path: Path) -> RunFolder:
    run, _ = trained
    shutil.copytree(run.path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy", run.record)


def test_predictions_give_the_measured_accuracy(trained, workshop) -> None:
    run, result = trained
    net = evospike.load(run.path)
    assert not net.training
    test = workshop().task.open_test()
    pixels, labels = test.take(torch.arange(len(test)))
    classes = net.predict(pixels)
    assert float((classes == labels).double().mean()) == pytest.approx(result["test_accuracy"])
    assert torch.equal(net.predict(pixels.float() / 255), classes)
    assert torch.equal(net.predict(pixels.double() / 255), classes)
    with pytest.raises(ShapeError, match=r"uint8 in 0..255 or floats in 0..1, given torch.int64"):
        net.predict(pixels.long())
    wrong = [
        (pixels.float(), r"floats are in 0\.\.1 and not normalised, given 0 to 255; divide those of 0\.\.255 by 255"),
        (net.normalise(pixels), r"floats are in 0\.\.1 and not normalised, given -"),
        (pixels.repeat(1, 3, 1, 1), r"with \(C, H, W\) = \(1, 8, 8\), given \(60, 3, 8, 8\)"),
        (pixels[0], r"images \(B, C, H, W\) with .*, given \(1, 8, 8\)"),
        (pixels[:0], "at least one sample, normalised, given torch.float32"),
        (torch.full((1, 1, 8, 8), float("nan")), "images hold values that are not finite"),
        (pixels.numpy(), "images are a tensor, given ndarray; use torch.from_numpy"),
    ]
    for images, said in wrong:
        with pytest.raises(ShapeError, match=said):
            net.predict(images)
    with pytest.raises(ShapeError, match=r"reads floats of at least one sample, normalised, given torch\.uint8"):
        net(pixels)
    torch.testing.assert_close(net(net.normalise(pixels)).mean(0).argmax(-1), classes)
    net.train()
    assert torch.equal(net.predict(pixels), classes)
    assert net.training
    assert net.classes == tuple("0123456789")
    assert net(torch.zeros(3, 1, 8, 8)).shape == (2, 3, 10)


def test_a_network_is_not_loaded_with_other_data(copy) -> None:
    """Its inputs would be normalised otherwise."""
    plan = copy.read("plan.json")
    copy.write("plan.json", {**plan, "data": {**plan["data"], "train": "0" * 32}})
    with pytest.raises(RunError, match="the data changed since the run began"):
        load(copy.path)


def test_a_run_is_loaded_where_the_machine_can(trained) -> None:
    assert evospike.load(trained[0].path, device="auto").mean.device.type in ("cpu", "cuda")


def test_a_network_for_inference_predicts_the_same(trained, workshop) -> None:
    run, _ = trained
    net = load(run.path)
    fast = net.for_inference()
    pixels, _ = (test := workshop().task.open_test()).take(torch.arange(len(test)))
    assert torch.equal(fast.predict(pixels), net.predict(pixels))
    fast.train()
    assert torch.equal(fast.predict(pixels), net.predict(pixels))
    assert fast.classes == net.classes
    assert not any(isinstance(module, TimeBatchNorm2d) for module in fast.modules())
    assert any(isinstance(module, TimeBatchNorm2d) for module in net.modules())


def test_sparse_kernels_take_the_folded_weights(trained) -> None:
    net = load(trained[0].path)
    attach(net.network, SparseSettings(density=0.2), seed=0)
    fast = net.for_inference(compiled=True)
    sparse, choices = fast.with_sparse_kernels(torch.zeros(1, 1, 8, 8))
    assert {choice.name for choice in choices} >= {"conv2.conv", "conv3.conv"}
    assert not sparse.network.compiled  # type: ignore[attr-defined]
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sparse(x), net(x), rtol=1e-3, atol=1e-4)


def test_every_arm_can_be_loaded(evolved) -> None:
    run, result = evolved
    counts = {arm["arm"]: arm["parameters"] for arm in result["arms"]}
    for arm in ("genetic", "dense"):
        assert sum(p.numel() for p in load(run.path, arm=arm).parameters()) == counts[arm]


@pytest.mark.parametrize(("arm", "seed"), [("dense", 0), ("genetic", 1), ("genetics", 0)])
def test_what_was_not_trained_is_named(trained, arm: str, seed: int) -> None:
    run, _ = trained
    with pytest.raises(RunError, match=f"run has no training of '{arm}' with seed {seed}; arms: genetic; seeds: 1"):
        load(run.path, arm=arm, seed=seed)


def test_runs_that_have_not_begun_or_not_finished_say_how_to_go_on(tiny, copy, tmp_path: Path) -> None:
    fresh = create_run("train", tiny(), str(tmp_path / "fresh"))
    with pytest.raises(RunError, match=r"has not begun; continue it with: evospike resume .*fresh"):
        load(fresh.path)
    (copy.final_path("genetic", 0) / "result.json").unlink()
    with pytest.raises(RunError, match=r"training of 'genetic' \(seed 0\) is not finished; continue with"):
        load(copy.path)


def test_damaged_weights_are_refused(copy) -> None:
    weights = copy.final_path("genetic", 0) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"weights.safetensors"):
        load(copy.path)


def test_weights_that_are_gone_or_of_another_training_are_refused(copy, evolved) -> None:
    weights = copy.final_path("genetic", 0) / "weights.safetensors"
    shutil.copy(evolved[0].final_path("genetic", 0) / "weights.safetensors", weights)
    with pytest.raises(
        RunError, match=r"weights of 'genetic' \(seed 0\) are not those of its result; train it again: "
    ):
        load(copy.path)
    weights.unlink()
    with pytest.raises(
        RunError, match=r"weights of 'genetic' \(seed 0\) are gone; make them again with: evospike resu"
    ):
        load(copy.path)


def test_runs_without_trained_networks_say_what_to_give(tiny, tmp_path: Path) -> None:
    for verb, advice in (("search", "train what it found: evospike train"), ("rank", "give a run of train or evolve")):
        run = create_run(verb, tiny(), str(tmp_path / verb))
        with pytest.raises(RunError, match=rf"\({verb}\) has no trained network; {advice}"):
            load(run.path)
