"""Structure learning inside the training loop: resume to the bit, averages, half precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evospike.core.errors import Interrupted
from evospike.genetic.encode import encode, materialise
from evospike.genetic.groups import parameter_roles
from evospike.models.build import build
from evospike.models.init import draw_stored
from evospike.models.presets import small8
from evospike.sparse.learner import StructureLearner
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings
from evospike.training.history import without_times
from evospike.training.loop import Trainer
from evospike.training.settings import TrainingSettings

RULES = ["gradient", "random", "momentum", "adam", "unfired"]


class Source:
    """Thirty-two images in the shape a network reads; order and batches are functions of epoch and position."""

    def __init__(self, shape: tuple[int, ...] = (2, 6, 6), classes: int = 4) -> None:
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(32, *shape, generator=generator)
        self.y = torch.randint(classes, (32,), generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(epoch).permutation(len(self.x))

    def batch(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        index = torch.from_numpy(positions)
        return self.x[index] + 0.01 * epoch, self.y[index]


class StopAt:
    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, step: int, total: int) -> None:
        if step == self.step:
            raise Interrupted(2)


class Watch:
    """Looks at every step whether weights and averages are zero where nothing exists."""

    def __init__(self) -> None:
        self.steps = 0
        self.trainer: Trainer

    def after_step(self, step: int, total: int) -> None:
        self.steps += 1
        check_masked(self.trainer.net, dict(self.trainer.net.named_parameters()))
        if self.trainer.average is not None:
            check_masked(self.trainer.net, self.trainer.average.tensors)


def check_masked(net: nn.Module, tensors: dict[str, Any]) -> None:
    masks = {name: mask for name, mask in net.named_buffers() if name.endswith("mask")}
    assert masks
    for name, mask in masks.items():
        target = name.removesuffix("_mask") if name.endswith("_mask") else name.removesuffix("mask") + "weight"
        if target in tensors:
            assert torch.equal(tensors[target], tensors[target] * mask)


@pytest.fixture
def trainer(tiny) -> Callable[..., Trainer]:
    """A training of four epochs of four steps; every third step rewires, the last of them in epoch two."""

    def make(
        kind: str = "stored",
        sparse: dict[str, Any] | None = None,
        training: dict[str, Any] | None = None,
        folder: Path | None = None,
        hooks: tuple[Any, ...] = (),
        net: nn.Module | None = None,
        seed: int = 0,
    ) -> Trainer:
        made = net or tiny(kind, seed=seed)
        options = {"density": 0.3, "period_epochs": 0.75, "allocation": "uniform", **(sparse or {})}
        structure = StructureLearner(attach(made, SparseSettings(**options), 0))
        wanted = {"epochs": 4, "batch": 8, "rate": 0.02, "warmup_epochs": 0.0}
        images = Source((1, 8, 8), 3) if hasattr(made, "spec") else Source()
        return Trainer(
            made,
            images,
            TrainingSettings(**{**wanted, **(training or {})}),
            parameter_roles(made),
            structure=structure,
            folder=folder,
            hooks=hooks,
        )

    return make


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("grow", RULES)
@pytest.mark.parametrize(("kind", "on"), [("stored", "weights"), ("genetic", "weights"), ("genetic", "encodings")])
def test_a_training_stopped_in_the_middle_of_a_period_goes_on_to_the_same_bits(
    trainer, tmp_path: Path, grow: str, kind: str, on: str
) -> None:
    sparse = {"grow": grow, "on": on, "gradient_batches": 3}
    unbroken = trainer(kind, sparse, {"ema": 0.9})
    history = without_times(unbroken.run().epochs)
    assert [record["born"] > 0 for record in history] == [True, True, True, False]
    for step in (2, 7):  # one before the first rewiring, one after the second
        folder = tmp_path / str(step)
        with pytest.raises(Interrupted):
            trainer(kind, sparse, {"ema": 0.9}, folder, (StopAt(step),)).run()
        resumed = trainer(kind, sparse, {"ema": 0.9}, folder, seed=5)  # other values ...
        for name, mask in resumed.net.named_buffers():
            if name.endswith("mask"):
                mask.copy_(mask.flip(0))  # ... and another graph: all must come from the checkpoint
        assert without_times(resumed.run().epochs) == history
        assert bits(resumed.net) == bits(unbroken.net), step


@pytest.mark.parametrize("at", [0.5, 1.0])
def test_one_shot_pruning_resumes_too(trainer, tmp_path: Path, at: float) -> None:
    sparse = {"method": "one_shot", "one_shot_at": at, "period_epochs": 0.0}
    unbroken = trainer("genetic", sparse)
    history = without_times(unbroken.run().epochs)
    assert [record["density"] == 1 for record in history] == [True, at == 1, at == 1, at == 1]
    for step in (6, 8, 13):
        folder = tmp_path / str(step)
        with pytest.raises(Interrupted):
            trainer("genetic", sparse, folder=folder, hooks=(StopAt(step),)).run()
        resumed = trainer("genetic", sparse, folder=folder, seed=5)
        assert without_times(resumed.run().epochs) == history
        assert bits(resumed.net) == bits(unbroken.net)
    masks = [mask for name, mask in unbroken.net.named_buffers() if name.endswith("mask")]
    assert sum(int(mask.sum()) for mask in masks) == round(0.3 * 828)


class Weights:
    """The first layer's weights after every step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.trainer: Trainer

    def after_step(self, step: int, total: int) -> None:
        self.seen.append(self.trainer.net.first.weight.detach().clone())


def test_averages_after_one_shot_pruning_are_of_the_pruned_network(trainer) -> None:
    """Those of the network before, which had all synapses, would hold a short rest of a training back."""
    watch = Weights()
    how = {"ema": 0.999, "rate": 0.1}
    watch.trainer = trainer("stored", {"method": "one_shot", "one_shot_at": 0.5}, how, hooks=(watch,))
    watch.trainer.run()
    expected = watch.seen[0]
    for step, weight in enumerate(watch.seen):
        passed = step - (7 if step >= 7 else 0)  # half of 16 steps: pruned once the eighth is done
        expected = expected.lerp(weight, 1 - (1 + passed) / (10 + passed))
    pruned = watch.trainer.net.first.mask.logical_not()
    torch.testing.assert_close(watch.trainer.net.first.weight[~pruned], expected[~pruned], rtol=1e-5, atol=1e-7)
    assert not watch.trainer.net.first.weight[pruned].any()


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("method", ["rewire", "static", "one_shot"])
@pytest.mark.parametrize("kind", ["stored", "genetic"])
def test_masks_hold_under_averages_decay_clipping_and_half_precision(
    trainer, optimiser: str, precision: str, method: str, kind: str
) -> None:
    watch = Watch()
    sparse = {"method": method, "one_shot_at": 0.5}
    how = {"optimiser": optimiser, "precision": precision, "ema": 0.9, "weight_decay": 0.5, "clip": 0.5}
    watch.trainer = trainer(kind, sparse, how, hooks=(watch,))
    initial = bits(watch.trainer.net)
    watch.trainer.run()
    assert watch.steps == 16
    check_masked(watch.trainer.net, dict(watch.trainer.net.named_parameters()))
    changed = {name for name, now in bits(watch.trainer.net).items() if now != initial[name]}
    assert {name for name in changed if name.endswith("mask")} == (
        set() if method == "static" else {"first.mask", "second.mask", "third.mask"}
    )
    assert "first.weight" in changed


def test_clipping_sees_the_gradients_of_existing_synapses_only(trainer) -> None:
    made = trainer("stored", {"method": "static", "density": 0.1}, {"clip": 1e-3, "epochs": 1})
    made.run()
    for layer in (made.net.first, made.net.second, made.net.third):
        assert not layer.weight.grad[~layer.mask].any()
    norm = torch.nn.utils.get_total_norm([p.grad for p in made.net.parameters()])
    assert float(norm) == pytest.approx(1e-3, rel=1e-4)  # the whole of it is of what exists


@pytest.mark.parametrize("kind", ["dense", "edge", "low_rank", "shared_tapG", "shared_tapE"])
@pytest.mark.parametrize("on", ["weights", "encodings"])
def test_spiking_networks_of_every_encoding_train_sparse(trainer, tmp_path: Path, kind: str, on: str) -> None:
    def network() -> nn.Module:
        net = build(small8((1, 8, 8), 3, channels=(4, 6, 6, 8)), steps=2)
        draw_stored(net, 0)
        return net if kind == "dense" else encode(net, genes=3, kind=kind, skip_growing=False)  # type: ignore[arg-type]

    made = trainer(sparse={"on": on}, folder=tmp_path, net=network())
    history = made.run().epochs
    assert history[0]["born"] > 0
    check_masked(made.net, dict(made.net.named_parameters()))
    again = trainer(sparse={"on": on}, folder=tmp_path, net=network(), seed=4)
    again.run()
    assert bits(again.net) == bits(made.net)
    x = Source((1, 8, 8), 3).x
    for layer in made.net.modules():
        if hasattr(layer, "contraction"):
            layer.contraction = "materialise"
    torch.testing.assert_close(materialise(made.net)(x), made.net(x))


def test_training_all_weights_at_density_one_is_the_training_without_a_structure(trainer) -> None:
    sparse = trainer("stored", {"density": 1.0, "period_epochs": 0.0})
    plain = Trainer(
        trainer("stored", {"density": 1.0, "period_epochs": 0.0}).net,
        Source(),
        sparse.training,
        parameter_roles(sparse.net),
    )
    sparse.run()
    plain.run()
    assert bits(sparse.net) == bits(plain.net)
