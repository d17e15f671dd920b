"""Trainings that one process does alone and two do together; run as a program, it is one of those that torchrun starts.

All but two are in double precision: a current that is another one by a rounding error may cross a threshold in single.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evospike.core.errors import EvospikeError, Interrupted
from evospike.core.files import save_tensors, write_json
from evospike.core.launch import launched
from evospike.genetic.encode import encode
from evospike.genetic.groups import parameter_roles
from evospike.models.build import build
from evospike.models.init import draw_stored
from evospike.models.network import Network
from evospike.models.presets import small8
from evospike.neurons.settings import NeuronSettings
from evospike.sparse.learner import StructureLearner
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings
from evospike.training import parallel
from evospike.training.loop import Trainer
from evospike.training.parallel import Ranks, joined
from evospike.training.settings import TrainingSettings

SAMPLES, BATCH, EPOCHS = 31, 9, 2
"""Three steps an epoch; a batch that two processes cannot share evenly."""

CASES: dict[str, dict[str, Any]] = {
    "dense": {},
    "dense, stepwise": {"norm_time": "step", "clip": 0.5},
    "dense, averaged": {"ema": 0.9, "optimiser": "sgd"},
    "dense, tet": {"loss": "tet", "mmd_weight": 0.3, "label_smoothing": 0.1},
    "genetic": {"genes": 4},
    "genetic, stepwise": {"genes": 4, "norm_time": "step"},
    "genetic, recomputed": {"genes": 4, "activations": "recomputed"},
    "genetic, fused": {"genes": 4, "path": "fused", "kind": "plif"},
    "sparse": {"sparse": {"grow": "gradient"}},
    "sparse, momentum": {"genes": 4, "sparse": {"grow": "momentum"}},
    "sparse, adam": {"genes": 4, "sparse": {"grow": "adam"}},
    "sparse encodings": {"genes": 4, "sparse": {"grow": "random", "on": "encodings"}},
    "pruned once": {"sparse": {"method": "one_shot", "one_shot_at": 0.5}},
    "half precision": {"dtype": torch.float32, "precision": "bf16"},
    "single precision": {"genes": 4, "dtype": torch.float32},
}


class Source:
    """Images, whose order and noise are functions of epoch and position."""

    def __init__(self, dtype: torch.dtype, broken: int = -1) -> None:
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(SAMPLES, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
        self.y = torch.randint(3, (SAMPLES,), generator=generator)
        if broken >= 0:
            self.x[broken] = torch.nan

    def __len__(self) -> int:
        return SAMPLES

    def order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(epoch).permutation(SAMPLES)

    def batch(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        index = torch.from_numpy(positions)
        return self.x[index] + 0.01 * epoch * self.x[index].square(), self.y[index]


class Notes:
    """Keeps losses and gradients of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.tensors: dict[str, Tensor] = {}
        self.trainer: Trainer

    def after_step(self, step: int, total: int) -> None:
        self.losses.append(float(self.trainer._loss_sum))
        for name, parameter in self.trainer.net.named_parameters():
            assert parameter.grad is not None
            self.tensors[f"{step} gradient {name}"] = parameter.grad.clone()


class StopAt:
    def __init__(self, step: int, signum: int) -> None:
        self.step, self.signum = step, signum

    def after_step(self, step: int, total: int) -> None:
        if step == self.step:
            raise Interrupted(self.signum)


def network(dtype: torch.dtype = torch.float64, **how: Any) -> Network:
    spec = small8((1, 8, 8), 3, channels=(4, 4, 6, 6))
    neuron = NeuronSettings(kind=how.pop("kind", "lif"))
    net = build(spec, neuron, steps=3, norm_time=how.pop("norm_time", "joint"), path=how.pop("path", "eager"))
    draw_stored(net, 0, ("test",))
    if genes := how.pop("genes", 0):
        encode(net, genes=genes, skip_growing=False, seed=1)
    assert not how
    return net.to(dtype)


def training(
    ranks: Ranks,
    *,
    sparse: dict[str, Any] | None = None,
    hooks: tuple[Any, ...] = (),
    broken: int = -1,
    folder: Path | None = None,
    changed: Callable[[nn.Module], None] = lambda net: None,
    **how: Any,
) -> Trainer:
    dtype = how.pop("dtype", torch.float64)
    net = network(dtype, **{name: how.pop(name) for name in ("kind", "norm_time", "path", "genes") if name in how})
    changed(net)
    net.recompute_blocks = how.get("activations") == "recomputed"
    structure = None
    if sparse is not None:
        wanted = {"density": 0.4, "period_epochs": 0.67, "freeze": 1.0, **sparse}
        structure = StructureLearner(attach(net, SparseSettings(**wanted), 0))
    source = Source(dtype, broken)

    def validate(net: nn.Module) -> dict[str, float]:
        own = ranks.part(np.arange(SAMPLES))
        with torch.no_grad():
            scores = net(source.x[torch.from_numpy(own)])
        return ranks.mean({"validation_loss": float(scores.square().mean())}, len(own) / SAMPLES)

    settings = TrainingSettings(
        **{"epochs": EPOCHS, "batch": BATCH, "rate": 0.02, "warmup_epochs": 0.5, "channels_last": False, **how}
    )
    return Trainer(
        net,
        source,
        settings,
        parameter_roles(net),
        validate=validate,
        hooks=hooks,
        structure=structure,
        folder=folder,
        ranks=ranks,
    )


def work_through(ranks: Ranks, **how: Any) -> tuple[dict[str, Tensor], list[float]]:
    """Gradients after every step with the final network, and sums of losses with the validations."""
    notes = Notes()
    notes.trainer = training(ranks, hooks=(notes,), **how)
    history = notes.trainer.run()
    assert notes.trainer.step == 6
    final = {f"final {name}": tensor for name, tensor in notes.trainer.net.state_dict().items()}
    return {**notes.tensors, **final}, [*notes.losses, *(epoch["validation_loss"] for epoch in history.epochs)]


def outcome(work: Callable[[], object]) -> str:
    """How something ends, in words."""
    try:
        work()
    except (EvospikeError, Interrupted) as error:
        return f"{type(error).__name__}: {error}"
    return "ended"


def broken_at() -> int:
    """A sample of the first batch that the second of two processes takes."""
    return int(np.array_split(Source(torch.float64).order(0)[:BATCH], 2)[1][0])


def ends(ranks: Ranks, folder: Path) -> dict[str, str]:
    """What becomes of trainings that cannot go on."""

    def nudged(net: nn.Module) -> None:
        if ranks.rank == 1:
            with torch.no_grad():
                next(net.parameters()).add_(1e-12)

    stop = (StopAt(2, 15),) if ranks.rank == 1 else ()
    plain = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    return {
        "diverged": outcome(training(ranks, broken=broken_at()).run),
        "stopped": outcome(training(ranks, hooks=stop, folder=folder).run),
        "different": outcome(training(ranks, changed=nudged).run),
        "too many": outcome(lambda: ranks.require_samples(1)),
        "foreign norm": outcome(lambda: ranks.synchronised(plain).__enter__()),
    }


def late(ranks: Ranks) -> dict[str, str]:
    """What becomes of a training whose second process is late: in the first step, as if it compiled; in the second."""

    def sleeping_in(step: int) -> Callable[[nn.Module], None]:
        calls = itertools.count(1)

        def changed(net: nn.Module) -> None:
            net.register_forward_pre_hook(lambda *_: time.sleep(10.0 * (next(calls) == step) * ranks.rank))

        return changed

    usual, parallel.STEP_SECONDS = parallel.STEP_SECONDS, 4.0
    ranks.compute_on("cpu")
    first = outcome(training(ranks, changed=sleeping_in(1)).run)
    second = outcome(training(ranks, changed=sleeping_in(2)).run)
    parallel.STEP_SECONDS = usual
    ranks.compute_on("cpu")
    return {"late in the first step": first, "late in the second step": second}


def main() -> None:
    """Arguments: the folder to write into."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with joined(launched()) as ranks:
        for name, how in CASES.items():
            tensors, losses = work_through(ranks, **how)
            save_tensors(folder / f"{name}-{ranks.rank}.safetensors", tensors)
            write_json(folder / f"{name}-{ranks.rank}.json", losses)
        found = {**ends(ranks, folder / "stopped"), **late(ranks)}
        resumed = training(ranks, folder=folder / "stopped")
        resumed.run()
        save_tensors(folder / f"resumed-{ranks.rank}.safetensors", dict(resumed.net.state_dict()))
        if ranks.rank == 0:
            ranks.tell({"text": "a" * 100_000})
        else:
            found["heard"] = str(len((ranks.hear() or {})["text"]))
            write_json(folder / "ends-1.json", found)
            assert ranks.hear() is None
        if ranks.rank == 0:
            write_json(folder / "ends-0.json", found)


if __name__ == "__main__":
    main()
