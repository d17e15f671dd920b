"""Members of a population are trained as by themselves; one that diverges ends so and leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evospike.core.errors import SettingsError
from evospike.genetic.encode import encode
from evospike.genetic.groups import parameter_roles
from evospike.models.build import build
from evospike.models.init import draw_stored
from evospike.models.network import Network
from evospike.models.population import PopulationNetwork
from evospike.models.presets import small8
from evospike.training.history import History, without_times
from evospike.training.loop import Diverged, Trainer
from evospike.training.population import PopulationTrainer
from evospike.training.settings import TrainingSettings

MEMBERS = 4


class Images:
    """Twelve images of two classes; order and noise are functions of seed and epoch."""

    def __init__(self, seed: int, *, mixed: bool = False) -> None:
        self.seed, self.mixed, self.made = seed, mixed, 0
        self.x = torch.randn(12, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        self.y = (self.x.mean((1, 2, 3)) > 0).long()

    def __len__(self) -> int:
        return len(self.x)

    def order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.x))

    def batch(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        self.made += 1
        index = torch.from_numpy(positions)
        generator = torch.Generator().manual_seed(1000 * self.seed + 10 * epoch + int(positions[0]))
        x = self.x[index] + 0.1 * torch.randn(len(index), 1, 6, 6, dtype=torch.float64, generator=generator)
        return x, torch.nn.functional.one_hot(self.y[index], 2).double() * 0.9 + 0.05 if self.mixed else self.y[index]


def nets(count: int = MEMBERS) -> list[Network]:
    """Small encoded networks in double precision, each with its own values."""
    made = []
    for seed in range(count):
        net = build(small8((1, 6, 6), 2, channels=(3, 4)), steps=2).double()
        encode(net, genes=3, skip_growing=False, seed=seed)
        draw_stored(net, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if "norm" not in name:
                    parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.5)
        made.append(net)
    return made


def brief(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{"epochs": 3, "batch": 4, "rate": 0.02, "warmup_epochs": 0.5, **changes})


def alone(members: Sequence[Network], sources: Sequence[Images], training: TrainingSettings) -> list[Any]:
    """What becomes of each by itself: its history, or the line with which it ends."""
    ends: list[Any] = []
    for net, source in zip(members, sources, strict=True):
        try:
            ends.append(without_times(Trainer(net, source, training, parameter_roles(net)).run().epochs))
        except Diverged as error:
            ends.append(str(error))
    return ends


def together(
    members: Sequence[Network],
    sources: Sequence[Images],
    training: TrainingSettings,
    spoil: Callable[[PopulationTrainer], None] = lambda trainer: None,
) -> list[Any]:
    """The same of the members of a population, which have their values afterwards."""
    population = PopulationNetwork(members)
    trainer = PopulationTrainer(population, sources, training, parameter_roles(population))
    spoil(trainer)
    ends = trainer.run()
    population.scatter()
    assert not population.training
    return [without_times(end.epochs) if isinstance(end, History) else str(end) for end in ends]


def state(net: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.1, "encoding_decay": 0.05, "gene_rate": 0.1},
    "sgd": {"optimiser": "sgd", "weight_decay": 0.1},
    "clipped": {"clip": 0.05},
    "tet": {"loss": "tet", "mmd_weight": 0.1, "label_smoothing": 0.1},
    "bits": {"activations": "bits", "label_smoothing": 0.1},
    "whole": {"batch": 64, "final_rate": 0.1, "keep": "best"},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("mixed", [False, True])
def test_members_are_trained_as_by_themselves(name: str, mixed: bool) -> None:
    training, sources = brief(**SETTINGS[name]), [Images(seed, mixed=mixed) for seed in range(MEMBERS)]
    first, second = nets(), nets()
    before = [state(net) for net in first]
    ends, expected = together(first, sources, training), alone(second, sources, training)
    assert len(ends) == MEMBERS
    for end, own in zip(ends, expected, strict=True):
        assert len(end) == 3
        assert [list(record) for record in end] == [list(record) for record in own]
        assert list(end) == [pytest.approx(record, rel=1e-9) for record in own]
    for net, own, start in zip(first, second, before, strict=True):
        for key, tensor in own.state_dict().items():
            torch.testing.assert_close(
                net.state_dict()[key], tensor, rtol=1e-7, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}"
            )
            assert not torch.equal(tensor, start[key]), key


def test_clipping_is_by_member() -> None:
    """A guard: here some members are clipped and others are not."""
    sources, training = [Images(0)] * MEMBERS, brief(clip=0.4, epochs=1, batch=12)
    norms = []
    for net in nets():
        Trainer(net, sources[0], brief(epochs=1, batch=12), parameter_roles(net)).run()
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in net.parameters() if p.grad is not None])))
    assert min(norms) < 0.4 < max(norms), norms
    population = PopulationNetwork(nets())
    trainer = PopulationTrainer(population, sources, training, parameter_roles(population))
    trainer.run()
    gradients = [p.grad for p in population.parameters() if p.grad is not None]
    clipped = [float(torch.nn.utils.get_total_norm([g[place] for g in gradients])) for place in range(MEMBERS)]
    assert clipped == pytest.approx([min(norm, 0.4) for norm in norms], rel=1e-4)


def test_a_source_that_members_share_makes_its_batches_once() -> None:
    shared, other = Images(0), Images(1)
    together(nets(), [shared, other, shared, shared], brief())
    assert (shared.made, other.made) == (9, 9)


def nan_from_the_start(trainer: PopulationTrainer) -> None:
    with torch.no_grad():
        trainer.net.get_parameter("stacked.net.classifier.weight")[1, 0, 0] = torch.nan


def nan_gradient(trainer: PopulationTrainer) -> None:
    def spoilt(gradient: Tensor) -> Tensor:
        return torch.where(torch.arange(MEMBERS).view(-1, 1) == 1, torch.nan, gradient)

    trainer.net.get_parameter("stacked.net.classifier.bias").register_hook(spoilt)


def nan_after_the_last_step(trainer: PopulationTrainer) -> None:
    original = trainer.optimiser.step

    def step() -> None:
        original()
        if trainer.step == 2:
            with torch.no_grad():
                trainer.net.get_parameter("stacked.net.classifier.bias")[1, 0] = torch.nan

    trainer.optimiser.step = step  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (nan_from_the_start, "the loss is not finite at step 0; lower training.rate or set training.clip"),
        (nan_gradient, "a gradient is not finite at step 0; lower training.rate or set training.clip"),
        (nan_after_the_last_step, "a parameter is not finite after epoch 0; lower training.rate"),
    ],
)
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_member_that_diverges_ends_with_its_line_and_the_others_have_the_same_bits(
    spoil: Callable[[PopulationTrainer], None], line: str, optimiser: Any
) -> None:
    training, sources = brief(optimiser=optimiser, clip=0.5), [Images(seed) for seed in range(MEMBERS)]
    healthy, hurt = nets(), nets()
    expected, ends = together(healthy, sources, training), together(hurt, sources, training, spoil)
    assert ends[1] == line
    others = [0, 2, 3]
    assert [ends[place] for place in others] == [expected[place] for place in others]
    for place in others:
        own = healthy[place].state_dict()
        assert all(torch.equal(tensor, own[name]) for name, tensor in hurt[place].state_dict().items())


@pytest.mark.parametrize("rate", [1e150, 1e200])
def test_a_rate_that_is_far_too_high_ends_all_with_the_line_they_have_alone(rate: float) -> None:
    training, sources = brief(rate=rate, warmup_epochs=0.0), [Images(seed) for seed in range(MEMBERS)]
    expected = alone(nets(), sources, training)
    assert all(isinstance(end, str) for end in expected)
    assert together(nets(), sources, training) == expected


def test_when_all_have_diverged_nothing_more_is_trained() -> None:
    def all_of_them(trainer: PopulationTrainer) -> None:
        with torch.no_grad():
            trainer.net.get_parameter("stacked.net.classifier.weight").fill_(torch.nan)

    sources = [Images(0)] * MEMBERS
    ends = together(nets(), sources, brief(), all_of_them)
    assert {end.split(";")[0] for end in ends} == {"the loss is not finite at step 0"}
    assert sources[0].made == 1


def test_each_member_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 8.0, 10.0, 14.0])
    monkeypatch.setattr("evospike.training.population.time.monotonic", lambda: next(clock))
    population = PopulationNetwork(nets())
    trainer = PopulationTrainer(population, [Images(0)] * MEMBERS, brief(epochs=2), parameter_roles(population))
    ends = trainer.run()
    assert all(isinstance(end, History) and [one["seconds"] for one in end.epochs] == [2.0, 1.0] for end in ends)


def test_bfloat16_is_used_where_it_is_asked_for() -> None:
    """Rounding differs from that of single networks there, so that only the type is compared, and that it learns."""
    members = [net.float() for net in nets()]
    population = PopulationNetwork(members)
    seen = []
    population.wide.get_submodule("conv2.conv").register_forward_hook(lambda module, x, y: seen.append(y.dtype))

    class Single(Images):
        def batch(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
            x, y = super().batch(positions, epoch)
            return x.float(), y

    trainer = PopulationTrainer(population, [Single(0)] * MEMBERS, brief(precision="bf16"), parameter_roles(population))
    ends = trainer.run()
    assert set(seen) == {torch.bfloat16}
    assert all(isinstance(end, History) and end.epochs[-1]["loss"] < end.epochs[0]["loss"] for end in ends)


def test_averages_are_refused() -> None:
    population = PopulationNetwork(nets(2))
    with pytest.raises(SettingsError, match=r"averages no weights, given ema=0.9; set it to 0"):
        PopulationTrainer(population, [Images(0)] * 2, brief(ema=0.9), parameter_roles(population))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_a_gpu_too_the_others_do_not_notice(precision: Any) -> None:
    """A kernel for grouped convolutions could compute with zeros between the groups, and zero times NaN is NaN."""

    class OnGpu(Images):
        def batch(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
            x, y = super().batch(positions, epoch)
            return x.float().cuda(), y.cuda()

    def run(spoil: Callable[[PopulationTrainer], None]) -> list[Any]:
        members = [net.float().cuda() for net in nets()]
        return together(members, [OnGpu(0)] * MEMBERS, brief(precision=precision), spoil)

    healthy, hurt = run(lambda trainer: None), run(nan_from_the_start)
    assert hurt[1].startswith("the loss is not finite")
    for place in (0, 2, 3):
        assert [end["loss"] for end in hurt[place]] == pytest.approx([end["loss"] for end in healthy[place]], rel=0.05)
