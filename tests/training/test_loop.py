"""The loop: resumed after every step it gives the same bits; what it takes, checks and reports."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evospike.core.errors import CheckpointError, Interrupted
from evospike.training.history import without_times
from evospike.training.loop import Diverged, Trainer, computes_in_half
from evospike.training.optimiser import rate_at

MODES = [("adamw", 0.0), ("adamw", 0.9), ("sgd", 0.0), ("sgd", 0.9)]


class Killed(BaseException):
    """Ends the process as kill -9 does: nothing is saved."""


class StopAt:
    """A hook that raises once a step is done."""

    def __init__(self, step: int, error: BaseException) -> None:
        self.step, self.error = step, error

    def after_step(self, step: int, total: int) -> None:
        if step == self.step:
            raise self.error


@pytest.fixture
def trainer(tiny_net, tiny_source, roles, settings) -> Callable[..., Trainer]:
    def validate(net: torch.nn.Module) -> dict[str, float]:
        assert not net.training
        x = tiny_source().x
        with torch.no_grad():
            return {"validation_loss": float(net(x).square().mean())}

    def make(folder: Path | None = None, hook: StopAt | None = None, net_seed: int = 0, **changes: Any) -> Trainer:
        options = {"validate": validate, "notify": changes.pop("notify", lambda line: None)}
        source = changes.pop("source", None) or tiny_source()
        hooks = [hook] if hook else []
        return Trainer(tiny_net(net_seed), source, settings(**changes), roles, hooks=hooks, folder=folder, **options)

    return make


def bits(trainer: Trainer) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in trainer.net.state_dict().items()}


@pytest.mark.parametrize(("optimiser", "ema"), MODES)
@pytest.mark.parametrize("end", [Interrupted(2), Killed()], ids=["stopped", "killed"])
@pytest.mark.parametrize("minutes", [0.0, 5.0], ids=["each step", "each epoch"])
def test_a_training_that_ends_after_any_step_goes_on_to_the_same_bits(
    trainer, tmp_path: Path, optimiser: str, ema: float, end: BaseException, minutes: float
) -> None:
    how = {"optimiser": optimiser, "ema": ema, "clip": 1.0, "checkpoint_minutes": minutes}
    unbroken = trainer(**how)
    history = unbroken.run()
    assert unbroken.total_steps == 6
    for step in range(1, 7):
        folder = tmp_path / str(step)
        with pytest.raises(type(end)):
            trainer(folder, StopAt(step, end), **how).run()
        resumed = trainer(folder, net_seed=9, **how)  # other initial values: all must come from the checkpoint ...
        if not any(folder.glob("*")):
            resumed = trainer(folder, **how)  # ... unless none was due yet
        assert without_times(resumed.run().epochs) == without_times(history.epochs)
        assert bits(resumed) == bits(unbroken), step
        again = trainer(folder, net_seed=9, **how)
        assert without_times(again.run().epochs) == without_times(history.epochs)
        assert bits(again) == bits(unbroken), "a finished training gives its result"


def test_a_training_stopped_after_every_single_step_gives_the_same_bits(trainer, tmp_path: Path) -> None:
    unbroken = trainer(ema=0.9)
    history = unbroken.run()
    for step in range(1, 7):
        with pytest.raises(Interrupted):
            trainer(tmp_path, StopAt(step, Interrupted(15)), ema=0.9).run()
    last = trainer(tmp_path, ema=0.9)
    assert without_times(last.run().epochs) == without_times(history.epochs)
    assert bits(last) == bits(unbroken)


def test_a_damaged_newest_checkpoint_costs_one_checkpoint_only(trainer, tmp_path: Path) -> None:
    unbroken = trainer()
    unbroken.run()
    with pytest.raises(Killed):
        trainer(tmp_path, StopAt(5, Killed())).run()
    newest = tmp_path / "step-000000004.weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-3])
    lines: list[str] = []
    resumed = trainer(tmp_path, notify=lines.append)
    resumed.run()
    assert bits(resumed) == bits(unbroken)
    assert [line.partition(":")[0] for line in lines] == ["checkpoint of step 4 passed over"]


def test_a_checkpoint_of_another_network_is_refused(trainer, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trainer(tmp_path, StopAt(2, Killed())).run()
    other = trainer(tmp_path)
    other.net.out = torch.nn.Linear(5, 3)
    with pytest.raises(CheckpointError, match=r"is not of this training .*delete it to train from the start"):
        other.run()
    with pytest.raises(CheckpointError, match=r"is not of this training"):
        trainer(tmp_path, ema=0.9).run()  # it holds no averages


def test_a_failed_save_leaves_a_training_that_can_be_resumed(
    trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = trainer()
    unbroken.run()
    with monkeypatch.context() as patch:
        calls = iter(range(100))
        original = __import__("os").replace

        def full(*args: Any) -> None:
            if next(calls) == 3:  # the state of the second epoch
                raise OSError(28, "No space left on device")
            original(*args)

        patch.setattr("os.replace", full)
        with pytest.raises(OSError, match=r"No space left"):
            trainer(tmp_path).run()
    resumed = trainer(tmp_path)
    resumed.run()
    assert bits(resumed) == bits(unbroken)


def test_batches_are_whole_and_follow_the_epochs_order(trainer, tiny_source) -> None:
    source = tiny_source()
    made = trainer(source=source, epochs=2)
    assert (made.steps_per_epoch, made.total_steps) == (2, 4)
    made.run()
    orders = {epoch: source.order(epoch).tolist() for epoch in range(2)}
    assert source.taken == [(e, orders[e][i : i + 4]) for e in range(2) for i in (0, 4)]


def test_a_set_smaller_than_a_batch_is_one_batch(trainer, tiny_source) -> None:
    source = tiny_source(3)
    made = trainer(source=source, batch=64, epochs=1)
    assert made.steps_per_epoch == 1
    made.run()
    assert [len(positions) for _, positions in source.taken] == [3]


def test_the_history_has_the_mean_loss_and_the_last_rate_of_each_epoch(trainer, settings) -> None:
    made = trainer()
    losses: list[float] = []
    original = made._train_step

    def spy(*batch) -> None:
        before = float(made._loss_sum)
        original(*batch)
        losses.append(float(made._loss_sum) - before)

    made._train_step = spy
    history = made.run()
    assert [record["epoch"] for record in history.epochs] == [0.0, 1.0, 2.0]
    assert [record["loss"] for record in history.epochs] == pytest.approx(
        [(losses[i] + losses[i + 1]) / 2 for i in (0, 2, 4)]
    )
    assert [record["rate"] for record in history.epochs] == [rate_at(i, 2, settings()) for i in (1, 3, 5)]
    assert all(record["seconds"] >= 0 and "validation_loss" in record for record in history.epochs)
    assert not made.net.training


def test_with_ema_the_averaged_weights_are_judged_and_kept(trainer) -> None:
    plain, averaged = trainer(), trainer(ema=0.9)
    plain.run()
    average = averaged.average
    averaged.run()
    assert average is not None
    for name, parameter in averaged.net.named_parameters():
        assert torch.equal(parameter, average.tensors[name])
        assert not torch.equal(parameter, dict(plain.net.named_parameters())[name])
    last = averaged.history.epochs[-1]["validation_loss"]
    assert last == averaged._validate(averaged.net)["validation_loss"]


def test_clipping_bounds_the_gradient(trainer) -> None:
    made = trainer(clip=0.01, epochs=1)
    made.run()
    gradients = [p.grad for p in made.net.parameters()]
    assert float(torch.nn.utils.get_total_norm(gradients)) <= 0.01 * (1 + 1e-5)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("input", "the loss is not finite at step 0; lower training.rate or set training.clip"),
        ("gradient", "a gradient is not finite at step 0"),
        ("parameter", "a parameter is not finite after epoch 0; lower training.rate"),
    ],
)
def test_numbers_that_are_not_finite_end_the_training(trainer, tmp_path: Path, where: str, message: str) -> None:
    made = trainer(tmp_path)
    if where == "input":
        made.source.x.fill_(math.inf)
    elif where == "gradient":
        made.net.genes.register_hook(lambda grad: grad * math.nan)
    else:
        original = made.optimiser.step

        def spoil() -> None:
            original()
            if made.step == 1:
                with torch.no_grad():
                    made.net.out.bias[0] = math.nan

        made.optimiser.step = spoil
    with pytest.raises(Diverged, match=message):
        made.run()
    assert list(tmp_path.iterdir()) == []


def test_a_validation_that_is_not_finite_ends_the_training(trainer, tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made._validate = lambda net: {"validation_loss": math.inf}
    with pytest.raises(Diverged, match=r"validation_loss is not finite at step 2"):
        made.run()


def test_other_checkpoint_times_give_the_same_result(trainer, tmp_path: Path) -> None:
    often, seldom, never = trainer(tmp_path / "a", checkpoint_minutes=0.0), trainer(tmp_path / "b"), trainer()
    for made in (often, seldom, never):
        made.run()
    assert bits(often) == bits(seldom) == bits(never)


ACCURACIES = (0.5, 0.75, 0.75)
"""On validation images, by epoch: the second is best, the third no better."""


@pytest.fixture
def judged(tiny_net, tiny_source, roles, settings) -> Callable[..., Trainer]:
    """A training whose validation accuracies are known beforehand."""

    def make(
        folder: Path | None = None, hook: StopAt | None = None, accuracies: tuple[float, ...] = ACCURACIES, **more: Any
    ) -> Trainer:
        def validate(net: torch.nn.Module) -> dict[str, float]:
            made.seen.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
            return {"validation_accuracy": accuracies[made.step // 2 - 1]}

        options = {"validate": validate, "folder": folder, "structure": more.pop("structure", None)}
        net = more.pop("net", None) or tiny_net()
        made = Trainer(net, tiny_source(), settings(**more), roles, hooks=[hook] if hook else [], **options)
        made.seen = []
        return made

    return make


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize(("accuracies", "best"), [(ACCURACIES, 1), ((0.9, 0.1, 0.5), 0), ((0.1, 0.2, 0.3), 2)])
def test_the_best_epoch_on_validation_is_kept_where_that_is_asked(judged, ema: float, accuracies, best: int) -> None:
    made = judged(keep="best", ema=ema, accuracies=accuracies)
    made.run()
    final = made.net.state_dict()
    assert all(torch.equal(final[name], value) for name, value in made.seen[best].items())
    last = judged(ema=ema, accuracies=accuracies)
    last.run()
    final = last.net.state_dict()
    assert all(torch.equal(final[name], value) for name, value in made.seen[2].items()), "and does not change training"


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_best_epoch_survives_an_end_after_any_step(judged, tmp_path: Path, ema: float) -> None:
    unbroken = judged(keep="best", ema=ema)
    unbroken.run()
    for step in range(1, 7):
        folder = tmp_path / str(step)
        with pytest.raises(Interrupted):
            judged(folder, StopAt(step, Interrupted(2)), keep="best", ema=ema).run()
        resumed = judged(folder, keep="best", ema=ema)
        resumed.run()
        assert bits(resumed) == bits(unbroken), step


def test_the_best_epoch_is_one_at_the_final_density(judged, tiny_net) -> None:
    net = tiny_net()
    made = judged(net=net, structure=Recorder(net), keep="best", accuracies=(0.9, 0.5, 0.4))
    made.run()
    final = made.net.state_dict()
    assert all(torch.equal(final[name], value) for name, value in made.seen[1].items())


class Recorder:
    """A structure that notes when it is called, zeroes some gradients and skips every third update."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.net, self.calls = net, []
        self.before: list[dict[str, torch.Tensor]] = []

    def begin(self, optimiser, averages, epochs: int, steps_per_epoch: int) -> None:
        self.calls.append(("begin", sorted(averages)[:1], epochs, steps_per_epoch))

    def gradients_ready(self, step: int) -> bool:
        self.calls.append(("ready", step))
        self.net.genes.grad.zero_()
        self.before.append({name: p.detach().clone() for name, p in self.net.named_parameters()})
        return step % 3 == 2

    def updated(self, step: int) -> None:
        self.calls.append(("updated", step))
        same = [torch.equal(p, self.before[-1][name]) for name, p in self.net.named_parameters()]
        assert all(same) == (step % 3 == 2), "a skipped update changes nothing, another does"

    def epoch_record(self) -> dict[str, float]:
        self.calls.append("epoch")
        return {"density": 0.25}

    def averages_from(self, step: int) -> int:
        return 0

    def settled(self, step: int) -> bool:
        return step > 2

    def finish(self) -> None:
        self.calls.append(("finish", {name: p.detach().clone() for name, p in self.net.named_parameters()}))

    def state(self) -> dict[str, torch.Tensor]:
        return {"calls": torch.tensor(len(self.calls))}

    def restore(self, step: int, state) -> None:
        self.calls.append(("restore", step, sorted(state)))


@pytest.fixture
def structured(tiny_net, tiny_source, roles, settings) -> Callable[..., tuple[Trainer, Recorder]]:
    def make(folder: Path | None = None, hook: StopAt | None = None, **changes: Any) -> tuple[Trainer, Recorder]:
        net = tiny_net()
        recorder = Recorder(net)
        hooks = [hook] if hook else []
        options = {"structure": recorder, "folder": folder, "hooks": hooks}
        return Trainer(net, tiny_source(), settings(**changes), roles, **options), recorder

    return make


def test_a_structure_is_called_at_each_of_its_moments(structured) -> None:
    made, recorder = structured(ema=0.9, epochs=2)
    history = made.run()
    final = {name: p.detach().clone() for name, p in made.net.named_parameters()}
    *calls, (last, finished) = recorder.calls
    steps = [[("ready", i), ("updated", i)] for i in range(4)]
    assert calls == [("begin", ["genes"], 2, 2), *steps[0], *steps[1], "epoch", *steps[2], *steps[3], "epoch"]
    assert last == "finish"
    assert all(torch.equal(finished[name], value) for name, value in final.items()), "with the averaged weights"
    assert [record["density"] for record in history.epochs] == [0.25, 0.25]
    assert list(history.epochs[0])[:4] == ["epoch", "loss", "rate", "density"]


def test_a_structure_sees_gradients_before_they_are_clipped(structured) -> None:
    made, recorder = structured(clip=1e-3, epochs=1)
    seen = []
    original = recorder.gradients_ready

    def ready(step: int) -> bool:
        seen.append(float(torch.nn.utils.get_total_norm([p.grad for p in made.net.parameters()])))
        return original(step)

    recorder.gradients_ready = ready
    made.run()
    assert min(seen) > 1e-3
    left = torch.nn.utils.get_total_norm([p.grad for p in made.net.parameters()])
    assert float(left) == pytest.approx(1e-3, rel=1e-3)
    assert not made.net.genes.grad.any(), "and what it set to zero counts as zero"


def test_a_structures_state_is_part_of_the_checkpoint(structured, tmp_path: Path) -> None:
    made, _ = structured(tmp_path, StopAt(3, Interrupted(2)))
    with pytest.raises(Interrupted):
        made.run()
    resumed, recorder = structured(tmp_path)
    resumed.run()
    assert recorder.calls[:3] == [("begin", [], 3, 2), ("restore", 3, ["calls"]), ("ready", 3)]


@pytest.mark.parametrize(
    ("precision", "device", "supported", "half"),
    [
        ("auto", "cpu", True, False),
        ("auto", "cuda", True, True),
        ("auto", "cuda", False, False),
        ("bf16", "cpu", False, True),
        ("float32", "cuda", True, False),
    ],
)
def test_a_gpu_that_can_computes_in_half_precision(
    settings, monkeypatch: pytest.MonkeyPatch, precision: str, device: str, supported: bool, half: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert computes_in_half(settings(precision=precision), torch.device(device)) == half
