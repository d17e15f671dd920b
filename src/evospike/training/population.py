"""The training loop for several networks that are computed as one, their parameters side by side.

Each of them is trained as `training.loop.Trainer` trains a network by itself, up to rounding: the same batches, rates,
clipping and looks for what is not finite. One that diverges ends with the line that it would end with by itself; the
others do not notice. Nothing is saved or validated: this is for brief trainings.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from evospike.core.errors import SettingsError
from evospike.training.history import History
from evospike.training.loop import (
    CHECK_EVERY,
    Diverged,
    Source,
    class_scores,
    not_finite,
    parameter_not_finite,
)
from evospike.training.losses import loss_of
from evospike.training.optimiser import make_optimiser, rate_at, set_rate
from evospike.training.settings import TrainingSettings


class PopulationTrainer:
    """Trains all members of a population at the same time.

    net: from the members' batches, one after the other in the channels (the third axis from the last), to class scores
    (T, B, members, classes). The first axis of each of its parameters counts the members, and nothing passes from one
    member to another. sources: of each member; batches of a source that several share are made once. roles: what each
    parameter is for (see `make_optimiser`).
    Raises: SettingsError for settings that average weights.
    """

    def __init__(
        self, net: nn.Module, sources: Sequence[Source], training: TrainingSettings, roles: Mapping[str, str]
    ) -> None:
        if training.ema:
            raise SettingsError(f"a population averages no weights, given ema={training.ema:g}; set it to 0")
        self.net, self.sources, self.training = net, sources, training
        self.optimiser = make_optimiser(net, roles, training)
        self.step = 0
        self._distinct = list({id(source): source for source in sources}.values())
        self._histories = [History() for _ in sources]
        self._reasons: dict[int, str] = {}  # of the members that diverged
        device = next(net.parameters()).device
        self._loss_sums = torch.zeros(len(sources), dtype=torch.float64, device=device)

    @property
    def steps_per_epoch(self) -> int:
        return self.training.steps_per_epoch(len(self.sources[0]))

    def run(self) -> list[History | Diverged]:
        """Train to the end; what became of each member."""
        self.net.train()
        for epoch in range(self.training.epochs):
            self._epoch(epoch)
        self.net.eval()
        return [
            Diverged(self._reasons[place]) if place in self._reasons else history
            for place, history in enumerate(self._histories)
        ]

    def _epoch(self, epoch: int) -> None:
        started = time.monotonic()
        orders = [source.order(epoch) for source in self._distinct]
        for index in range(self.steps_per_epoch):
            if len(self._reasons) == len(self.sources):
                return
            chosen = slice(index * self.training.batch, (index + 1) * self.training.batch)
            self._train_step(*self._batch([order[chosen] for order in orders], epoch))
        self._finish_epoch(epoch, time.monotonic() - started)

    def _batch(self, positions: Sequence[np.ndarray], epoch: int) -> tuple[Tensor, Tensor]:
        """Images of all members, one after the other in the channels, and their targets, (members, ...).

        positions: in each distinct source.
        """
        made = [source.batch(chosen, epoch) for source, chosen in zip(self._distinct, positions, strict=True)]
        of_source = {id(source): batch for source, batch in zip(self._distinct, made, strict=True)}
        images, targets = zip(*(of_source[id(source)] for source in self.sources), strict=True)
        return torch.cat(images, -3), torch.stack(targets)

    def _train_step(self, x: Tensor, targets: Tensor) -> None:
        set_rate(self.optimiser, rate_at(self.step, self.steps_per_epoch, self.training))
        of_each = torch.vmap(functools.partial(loss_of, training=self.training), in_dims=(2, 0))
        losses: Tensor = of_each(class_scores(self.net, x, self.training), targets)
        self.optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()
        self._loss_sums += losses.detach()
        if self.training.clip > 0:
            self._clip(self.training.clip)
        if self.step % CHECK_EVERY == 0:
            self._check_finite()
        self.optimiser.step()
        self.step += 1

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.net.parameters() if parameter.grad is not None]

    def _gradient_norms(self) -> Tensor:
        """Of each member, over all its parameters."""
        of_each = torch.stack([torch.linalg.vector_norm(_by_member(one), dim=1) for one in self._gradients()])
        norms: Tensor = torch.linalg.vector_norm(of_each, dim=0)
        return norms

    def _clip(self, largest: float) -> None:
        """As `torch.nn.utils.clip_grad_norm_` does it, for each member by itself."""
        factors = (largest / (self._gradient_norms() + 1e-6)).clamp(max=1.0)
        for gradient in self._gradients():
            gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))

    def _check_finite(self) -> None:
        self._end_where_not(torch.isfinite(self._loss_sums), not_finite("the loss", self.step))
        self._end_where_not(torch.isfinite(self._gradient_norms()), not_finite("a gradient", self.step))

    def _end_where_not(self, fine: Tensor, reason: str) -> None:
        """Members that are not fine have diverged, for the first reason that was found."""
        for place, is_fine in enumerate(fine.tolist()):
            if not is_fine:
                self._reasons.setdefault(place, reason)

    def _finish_epoch(self, epoch: int, seconds: float) -> None:
        """seconds: of all members; each has its share."""
        self._check_finite()
        finite = torch.stack([torch.isfinite(_by_member(p)).all(1) for p in self.net.parameters()]).all(0)
        self._end_where_not(finite, parameter_not_finite(epoch))
        rate = rate_at(self.step - 1, self.steps_per_epoch, self.training)
        for history, loss_sum in zip(self._histories, self._loss_sums.tolist(), strict=True):
            record = {"epoch": float(epoch), "loss": loss_sum / self.steps_per_epoch, "rate": rate}
            history.epochs.append({**record, "seconds": seconds / len(self.sources)})
        self._loss_sums.zero_()


def _by_member(tensor: Tensor) -> Tensor:
    """(members, ...) -> (members, numbers of each)."""
    return tensor.reshape(len(tensor), -1)
