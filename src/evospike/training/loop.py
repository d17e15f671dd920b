"""The training loop: any module that maps a batch to class scores over time, trained and resumable to the bit.

The loop draws nothing at random: which samples a step takes and how they are varied are functions of the seed, the
epoch and the sample, given by the `Source`. A training is therefore determined by its last checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from evospike.core.errors import CheckpointError, Interrupted, RunError
from evospike.training.checkpoint import Checkpoint, discard_leftovers, load_checkpoint, save_checkpoint
from evospike.training.ema import MovingAverage
from evospike.training.history import History
from evospike.training.losses import loss_of
from evospike.training.memory import saving
from evospike.training.optimiser import make_optimiser, optimiser_tensors, rate_at, restore_optimiser, set_rate
from evospike.training.parallel import ALONE, Ranks
from evospike.training.settings import TrainingSettings

CHECK_EVERY = 20
"""Steps between two looks at whether loss and gradients are still finite (each look waits for a GPU)."""


class Diverged(RunError):
    """Loss, gradients or parameters are no longer finite."""


class Source(Protocol):
    """Where batches come from; every method is a pure function of its arguments."""

    def __len__(self) -> int:
        """Number of training samples."""
        ...

    def order(self, epoch: int) -> np.ndarray:
        """The order in which an epoch takes the samples."""
        ...

    def batch(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """Images ready for the network and their targets: classes (B,) or probabilities (B, classes)."""
        ...


class Hook(Protocol):
    """What happens beside the training: progress, interruption."""

    def after_step(self, step: int, total: int) -> None:
        """Called after each optimiser step, with the number of steps done; may raise Interrupted to stop."""
        ...


class Structure(Protocol):
    """What decides which weights exist while they are trained; steps count from 0."""

    def begin(
        self, optimiser: torch.optim.Optimizer, averages: Mapping[str, Tensor], epochs: int, steps_per_epoch: int
    ) -> None:
        """Called once, before anything else. averages: moving averages by parameter name; empty for none."""
        ...

    def gradients_ready(self, step: int) -> bool:
        """Called when the gradients of a step are complete, before they are clipped; True skips the update."""
        ...

    def updated(self, step: int) -> None:
        """Called after each update, skipped ones too."""
        ...

    def epoch_record(self) -> dict[str, float]:
        """Called at the end of each epoch: numbers for the history."""
        ...

    def changes(self, step: int) -> bool:
        """Whether another set of weights exists after a step than before."""
        ...

    def averages_from(self, step: int) -> int:
        """The step from which on moving averages after a step count: earlier weights are of another network."""
        ...

    def settled(self, step: int) -> bool:
        """Whether the network after `step` steps has as many weights as it will end with."""
        ...

    def finish(self) -> None:
        """Called when the network has its final weights."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold besides the network and the optimiser."""
        ...

    def restore(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave after `step` steps; the network's own tensors are there already."""
        ...


class Trainer:
    """Trains a network; after `run` the network has its final weights (the averaged ones when `ema` is on, those of the
    best epoch when `keep` says so and `validate` gives a `validation_accuracy`).

    roles: what each parameter is for (see `make_optimiser`). validate: called in eval mode after each epoch, its
    numbers join the history. structure: what changes which weights exist; None: all always do. folder: where
    checkpoints go, None for none; an existing checkpoint is continued. ranks: the processes that train the network
    together, each with a `Trainer` of its own that was given the same.
    Raises: Diverged, from `run`.
    """

    def __init__(
        self,
        net: nn.Module,
        source: Source,
        training: TrainingSettings,
        roles: Mapping[str, str],
        *,
        validate: Callable[[nn.Module], Mapping[str, float]] | None = None,
        hooks: Sequence[Hook] = (),
        structure: Structure | None = None,
        folder: Path | None = None,
        notify: Callable[[str], None] = lambda line: None,
        ranks: Ranks = ALONE,
    ) -> None:
        ranks.require_samples(min(training.batch, len(source)))
        self.net, self.source, self.training, self.folder = net, source, training, folder
        self._validate, self._hooks, self._notify = validate, hooks, notify
        self.optimiser = make_optimiser(net, roles, training)
        self.average = MovingAverage(net, training.ema) if training.ema else None
        self.history = History()
        self.step = 0
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self._seconds = 0.0
        self._ranks = ranks
        self.processes = {ranks.size}
        self._taken: set[int] = set()
        self._best: dict[str, Tensor] = {}
        self._best_accuracy = 0.0
        self._saved_at = time.monotonic()
        self._structure = structure
        if structure is not None:
            averages = {} if self.average is None else self.average.tensors
            structure.begin(self.optimiser, averages, training.epochs, self.steps_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        return self.training.steps_per_epoch(len(self.source))

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.training.epochs

    @property
    def _device(self) -> torch.device:
        return next(self.net.parameters()).device

    def run(self) -> History:
        """Train from the last checkpoint, or from the start, to the end."""
        self._restore()
        self._ranks.require_same(self.net, self.step)
        try:
            with self._ranks.synchronised(self.net):
                while self.step < self.total_steps:
                    self._epoch(*divmod(self.step, self.steps_per_epoch))
        except Interrupted:
            self._save()
            self._ranks.wait()
            raise
        if self._best:
            self.net.load_state_dict(self._best)
        elif self.average is not None:
            self.average.keep()
        if self._structure is not None:
            self._structure.finish()
        self.net.eval()
        return self.history

    def _epoch(self, epoch: int, first: int) -> None:
        started = time.monotonic() - self._seconds
        order = self.source.order(epoch)
        self.net.train()
        for index in range(first, self.steps_per_epoch):
            positions = order[index * self.training.batch : (index + 1) * self.training.batch]
            own = self._ranks.part(positions)
            with self._step_of(len(positions)):
                self._train_step(*self.source.batch(own, epoch), len(own) / len(positions))
            self._seconds = time.monotonic() - started
            last = index + 1 == self.steps_per_epoch
            if last:
                self._finish_epoch(epoch)
            if last or time.monotonic() - self._saved_at > 60 * self.training.checkpoint_minutes:
                self._save()
            with self._ranks.stopping_together():
                for hook in self._hooks:
                    hook.after_step(self.step, self.total_steps)

    def _step_of(self, samples: int) -> AbstractContextManager[None]:
        """Around a step; the first one with so many samples may compile."""
        new = samples not in self._taken
        self._taken.add(samples)
        return self._ranks.unhurried() if new else nullcontext()

    def _train_step(self, x: Tensor, targets: Tensor, share: float) -> None:
        """share: of the step's batch, what is given here."""
        set_rate(self.optimiser, rate_at(self.step, self.steps_per_epoch, self.training))
        loss = loss_of(class_scores(self.net, x, self.training), targets, self.training)
        self.optimiser.zero_grad(set_to_none=True)
        self._loss_sum += self._ranks.backward(loss, share, self.net)
        skipped = self._structure is not None and self._structure.gradients_ready(self.step)
        if self.training.clip > 0:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.training.clip)
        if self.step % CHECK_EVERY == 0:
            self._check_finite()
        if not skipped:
            self.optimiser.step()
        if self._structure is not None:
            self._structure.updated(self.step)
            if self._ranks.size > 1 and self._structure.changes(self.step):
                self._ranks.require_same(self.net, self.step)
        if self.average is not None:
            self.average.update(self.step, 0 if self._structure is None else self._structure.averages_from(self.step))
        self.step += 1

    def _check_finite(self) -> None:
        if not torch.isfinite(self._loss_sum):
            raise Diverged(not_finite("the loss", self.step))
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        if not torch.isfinite(nn.utils.get_total_norm(gradients)):
            raise Diverged(not_finite("a gradient", self.step))

    def _finish_epoch(self, epoch: int) -> None:
        self._check_finite()
        if not all(bool(torch.isfinite(p).all()) for p in self.net.parameters()):
            raise Diverged(parameter_not_finite(epoch))
        self._ranks.require_same(self.net, self.step)
        record = {
            "epoch": float(epoch),
            "loss": float(self._loss_sum) / self.steps_per_epoch,
            "rate": rate_at(self.step - 1, self.steps_per_epoch, self.training),
        }
        if self._structure is not None:
            record.update(self._structure.epoch_record())
        if self._validate is not None:
            seen = self._validated(self._validate)
            self._check_validation(seen)
            record.update(seen)
            self._keep_if_best(seen)
        self.history.epochs.append({**record, "seconds": self._seconds})
        self._loss_sum.zero_()
        self._seconds = 0.0

    def _validated(self, validate: Callable[[nn.Module], Mapping[str, float]]) -> dict[str, float]:
        self.net.eval()
        if self.average is None:
            return dict(validate(self.net))
        with self.average.applied():
            return dict(validate(self.net))

    def _keep_if_best(self, seen: Mapping[str, float]) -> None:
        """Remember the weights that were validated, when no earlier epoch was as good."""
        settled = self._structure is None or self._structure.settled(self.step)
        if self.training.keep != "best" or not settled or "validation_accuracy" not in seen:
            return
        if self._best and seen["validation_accuracy"] <= self._best_accuracy:
            return
        self._best_accuracy = seen["validation_accuracy"]
        with nullcontext() if self.average is None else self.average.applied():
            self._best = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}

    def _check_validation(self, seen: Mapping[str, float]) -> None:
        for name, value in seen.items():
            if not math.isfinite(value):
                raise Diverged(not_finite(name, self.step))

    def _save(self) -> None:
        if self.folder is None or self._ranks.rank > 0:
            return
        averages = {} if self.average is None else {f"average/{k}": v for k, v in self.average.tensors.items()}
        moments = {f"optimiser/{k}": v for k, v in optimiser_tensors(self.optimiser, self.net).items()}
        structure = {} if self._structure is None else {f"structure/{k}": v for k, v in self._structure.state().items()}
        best = {f"best/{name}": tensor for name, tensor in self._best.items()}
        state = {**averages, **moments, **structure, **best, "loss_sum": self._loss_sum}
        record: dict[str, Any] = {"step": self.step, "history": self.history.epochs, "seconds": self._seconds}
        if best:
            record["best_accuracy"] = self._best_accuracy
        if self.processes != {1}:
            record["processes"] = sorted(self.processes)
        save_checkpoint(self.folder, self.step, Checkpoint(self.net.state_dict(), state, record))
        self._saved_at = time.monotonic()

    def _restore(self) -> None:
        if self.folder is None:
            return
        if self._ranks.rank == 0:
            discard_leftovers(self.folder)
        found = load_checkpoint(self.folder)
        if found is None:
            return
        checkpoint, passed_over = found
        for line in passed_over:
            self._notify(line)
        try:
            self._take_over(checkpoint)
        except (RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"the checkpoint in {self.folder} is not of this training ({str(error).splitlines()[0]}); "
                "put back the run's own, or delete it to train from the start"
            ) from None

    def _take_over(self, checkpoint: Checkpoint) -> None:
        self.net.load_state_dict(dict(checkpoint.weights))
        state = checkpoint.state
        restore_optimiser(self.optimiser, self.net, _part(state, "optimiser/"))
        if self.average is not None:
            self.average.load(_part(state, "average/"))
        self._loss_sum.copy_(state["loss_sum"])
        self.step = int(checkpoint.record["step"])
        if self._structure is not None:
            self._structure.restore(self.step, _part(state, "structure/"))
        self._best = _part(state, "best/")
        self._best_accuracy = float(checkpoint.record.get("best_accuracy", 0.0))
        self.processes |= set(checkpoint.record.get("processes", [1]))
        self.history.epochs = list(checkpoint.record["history"])
        self._seconds = float(checkpoint.record["seconds"])


def class_scores(net: nn.Module, x: Tensor, training: TrainingSettings) -> Tensor:
    """The forward pass of a training step, in the precision and keeping what the settings say; float32 at least."""
    half = torch.autocast(x.device.type, torch.bfloat16, enabled=computes_in_half(training, x.device))
    with half, saving(training.activations):
        scores: Tensor = net(x)
    return scores if scores.dtype == torch.float64 else scores.float()


def computes_in_half(training: TrainingSettings, device: torch.device) -> bool:
    """Whether convolutions of a training are to run in bfloat16 on a device."""
    if training.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return training.precision == "bf16"


def not_finite(what: str, step: int) -> str:
    """Why a training ends that diverged, seen after so many steps."""
    return f"{what} is not finite at step {step}; lower training.rate or set training.clip"


def parameter_not_finite(epoch: int) -> str:
    """Why a training ends that diverged, seen in its parameters."""
    return f"a parameter is not finite after epoch {epoch}; lower training.rate"


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
