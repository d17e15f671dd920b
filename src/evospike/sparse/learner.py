"""The structure learner: prunes and regrows the synapses of a network while it is trained (methods 5.4).

It is a `Structure` of the training loop, which calls it at fixed moments of each step. Between two rewirings it sets
the gradients of missing synapses to zero and, where growth ranks by running averages, brings these up to date. As
weights, moving averages and optimiser state of missing synapses are zero too, no optimiser moves them, with or without
weight decay: W == M * W holds after every step without masking W again.

Its state is what the network does not hold: the positions ever active, what the next growth will rank by, and the
synapses born and lost since the last epoch. All that is random comes from streams named by tensor and step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from evospike.core.errors import RunError
from evospike.core.rng import torch_stream
from evospike.core.settings import read_settings
from evospike.sparse import rules
from evospike.sparse.masks import Masks, Prunable, attach
from evospike.sparse.schedule import Schedule, make_schedule, one_shot_step
from evospike.sparse.settings import AVERAGES, SparseSettings


def sparsify(net: nn.Module, density: float = 0.1, *, seed: int = 0, **settings: Any) -> StructureLearner:
    """Make the `nn.Conv2d`, `nn.Linear` and genetic layers of any torch module sparse, in place, and give what rewires
    them in a training loop. Frozen weights stay as they are.

    settings: further fields of `SparseSettings`. Call it when initial values are drawn and the module is on its device.
    Raises: SettingsError for an unknown field, a wrong type or value, settings without effect, and as `masks.attach`.
    """
    chosen = read_settings(SparseSettings, {"density": density, **settings})
    chosen.check_effect()
    return StructureLearner(attach(net, chosen, seed))


class StructureLearner:
    """Rewires, prunes or just keeps the masks of a network, as their settings say.

    A learner serves one training, which calls `begin` first.
    """

    def __init__(self, masks: Masks) -> None:
        self._masks, self._settings = masks, masks.settings
        self._stored = [tensor for tensor in masks.tensors if tensor.generated is None]
        self._scores: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}
        self._born = self._lost = 0
        self._begun = False

    def begin(self, optimiser: Optimizer, averages: Mapping[str, Tensor], epochs: int, steps_per_epoch: int) -> None:
        """Get ready for the first step. averages: moving averages of the network by parameter name, or none.

        Raises: SettingsError for a period that is longer than the training.
        """
        names = {id(parameter): name for name, parameter in self._masks.net.named_parameters()}
        self._optimiser = optimiser
        self._averages = {tensor.name: averages[names[id(tensor.parameter)]] for tensor in self._stored if averages}
        self._schedule: Schedule = make_schedule(self._settings, epochs, steps_per_epoch)
        self._total = epochs * steps_per_epoch
        self._one_shot = one_shot_step(self._settings, self._total)
        self._ever = {tensor.name: _mask_of(tensor).clone() for tensor in self._masks.tensors}
        self._begun = True
        self._expect(0)

    @torch.no_grad()
    def gradients_ready(self, step: int) -> bool:
        """Gradients of a step (from 0) are complete and not yet clipped. True: its update is to be skipped.

        Raises: RunError before `begin`.
        """
        if not self._begun:
            raise RunError(
                "the learner has not begun; call learner.begin(optimiser, {}, epochs, steps_per_epoch) first"
            )
        wait = self._schedule.wait(step)
        if wait is not None:
            self._gather(wait)
        if wait == 0:
            self._rewire(step)
        if self._one_shot is None or step >= self._one_shot:
            self._mask_gradients()
        return wait == 0 and self._settings.rewired_step == "skip"

    def updated(self, step: int) -> None:
        """The update of a step is done, or was skipped."""
        self._expect(step + 1)

    def epoch_record(self) -> dict[str, float]:
        """density of the prunable tensors; exploration, the share of their positions that was ever active; synapses
        born and lost since the last record."""
        weights = sum(quota.weights for quota in self._masks.quotas.values())
        absent = sum(int((~_mask_of(tensor)).sum()) for tensor in self._masks.tensors)
        unexplored = sum(int((~ever).sum()) for ever in self._ever.values())
        record = {
            "density": (weights - absent) / weights,
            "exploration": (weights - unexplored) / weights,
            "born": float(self._born),
            "lost": float(self._lost),
        }
        self._born = self._lost = 0
        return record

    def changes(self, step: int) -> bool:
        """Whether another set of synapses exists after a step (from 0) than before."""
        return self._schedule.wait(step) == 0 or step + 1 == self._one_shot

    def averages_from(self, step: int) -> int:
        """The step from which on moving averages after a step count: the one that pruned all at once, or the first."""
        pruned = self._one_shot if self._one_shot is not None and self._one_shot < self._total else 0
        return max(pruned - 1, 0) if step + 1 >= pruned else 0

    def settled(self, step: int) -> bool:
        """Whether the graph after `step` steps has its final number of synapses; not before `one_shot` prunes."""
        return self._one_shot is None or self._one_shot <= min(step, self._total - 1)

    def finish(self) -> None:
        """The training is over and the network has its final weights."""
        if self._one_shot == self._total:
            self._prune_to_quotas()

    def state(self) -> dict[str, Tensor]:
        """What a training needs to go on from here, beside the network and the optimiser."""
        return {
            **{f"ever/{name}": ever for name, ever in self._ever.items()},
            **{f"scores/{name}": score for name, score in self._scores.items()},
            **{f"squares/{name}": square for name, square in self._squares.items()},
            "changes": torch.tensor([self._born, self._lost]),
        }

    def restore(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave after `step` steps; masks and weights are the network's already.

        Raises: KeyError or RuntimeError for the state of another training.
        """
        for name, ever in self._ever.items():
            ever.copy_(state[f"ever/{name}"])
        self._scores, self._squares = self._restored("scores", state), self._restored("squares", state)
        self._born, self._lost = (int(count) for count in state["changes"])
        self._expect(step)

    def _restored(self, kind: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            tensor.name: state[f"{kind}/{tensor.name}"].to(_mask_of(tensor).device, copy=True)
            for tensor in self._masks.tensors
            if f"{kind}/{tensor.name}" in state
        }

    def _expect(self, step: int) -> None:
        """Get ready for the forward pass of a step (from 0)."""
        if step == self._one_shot and step < self._total:
            self._prune_to_quotas()
        wait = self._schedule.wait(step)
        for tensor in self._masks.tensors:
            if tensor.generated is not None:
                tensor.generated.watch_gradient(wait is not None and self._uses_gradient(wait))

    def _mask_gradients(self) -> None:
        for tensor in self._stored:
            if tensor.parameter.grad is not None:
                tensor.parameter.grad.mul_(_mask_of(tensor))

    def _uses_gradient(self, wait: int) -> bool:
        """Whether the gradient of a step that many steps before a rewiring is used for it."""
        return self._scores_gradient(wait) or (self._settings.prune == "taylor" and wait == 0)

    def _scores_gradient(self, wait: int) -> bool:
        grow = self._settings.grow
        return grow in AVERAGES or (grow == "gradient" and wait < self._settings.gradient_batches)

    def _gather(self, wait: int) -> None:
        """Add the gradient of this step to what regrowth will rank by."""
        if not self._scores_gradient(wait):
            return
        for tensor in self._masks.tensors:
            gradient = _gradient_of(tensor)
            if tensor.name not in self._scores:
                self._scores[tensor.name] = torch.zeros_like(gradient)
                if self._settings.grow == "adam":
                    self._squares[tensor.name] = torch.zeros_like(gradient)
            if self._settings.grow not in AVERAGES:
                self._scores[tensor.name].add_(gradient.abs())
                continue
            self._scores[tensor.name].lerp_(gradient, 1 - self._settings.average_decay)
            if tensor.name in self._squares:
                self._squares[tensor.name].lerp_(gradient.square(), 1 - self._settings.average_decay)

    def _rewire(self, step: int) -> None:
        fraction = self._schedule.fraction_at(step)
        for tensor in self._masks.tensors:
            self._rewire_one(tensor, fraction, step)
        if self._settings.grow not in AVERAGES or self._schedule.wait(step + 1) is None:
            self._scores.clear()
            self._squares.clear()

    def _rewire_one(self, tensor: Prunable, fraction: float, step: int) -> None:
        mask = _mask_of(tensor).flatten()
        active = int(mask.sum())
        count = rules.rewired_count(active, len(mask) - active, fraction)
        dropped, grown = self._choose_dropped(tensor, mask, count), self._choose_grown(tensor, mask, count, step)
        changed = torch.zeros_like(mask)
        changed[dropped] = changed[grown] = True
        self._change(tensor, changed.view_as(_mask_of(tensor)))
        self._born, self._lost = self._born + len(grown), self._lost + len(dropped)

    def _choose_dropped(self, tensor: Prunable, mask: Tensor, count: int) -> Tensor:
        weight = tensor.value().flatten()
        if self._settings.prune == "taylor":
            return rules.prune_taylor(weight, _gradient_of(tensor).flatten(), mask, count)
        if self._settings.prune == "sign":
            return rules.prune_sign(weight, mask, count)
        return rules.prune_magnitude(weight, mask, count)

    def _choose_grown(self, tensor: Prunable, mask: Tensor, count: int, step: int) -> Tensor:
        """Positions absent from `mask`, so none that was just dropped: by score but for a random share."""
        generator = torch_stream(self._masks.seed, "grow", *self._masks.key, tensor.name, step)
        at_random = count if self._settings.grow == "random" else round(self._settings.random_share * count)
        free = ~mask
        if self._settings.grow == "unfired":
            chosen = rules.grow_unfired(free, self._ever[tensor.name].flatten(), count - at_random, generator)
        elif self._settings.grow == "random":
            chosen = free.new_empty(0, dtype=torch.long)
        else:
            chosen = rules.grow_largest(self._growth_score(tensor.name).flatten(), free, count - at_random)
        free[chosen] = False
        return torch.cat([chosen, rules.grow_random(free, at_random, generator)])

    def _growth_score(self, name: str) -> Tensor:
        score = self._scores[name]
        return rules.adam_step(score, self._squares[name]) if self._settings.grow == "adam" else score

    @torch.no_grad()
    def _change(self, tensor: Prunable, changed: Tensor) -> None:
        """Drop the active and grow the absent positions of `changed`; what is stored for them starts again at zero."""
        mask = _mask_of(tensor)
        mask.logical_xor_(changed)
        self._ever[tensor.name].logical_or_(mask)
        if tensor.generated is not None:
            return
        parameter = tensor.parameter
        parameter.masked_fill_(changed, 0)
        if tensor.name in self._averages:
            self._averages[tensor.name].masked_fill_(changed, 0)
        for quantity in self._optimiser.state.get(parameter, {}).values():
            if isinstance(quantity, Tensor) and quantity.shape == parameter.shape:
                quantity.masked_fill_(changed, 0)

    @torch.no_grad()
    def _prune_to_quotas(self) -> None:
        """Keep as many synapses of each layer as it was allocated, those of largest magnitude."""
        for tensor in self._masks.tensors:
            mask, weight = _mask_of(tensor).flatten(), tensor.value().flatten()
            surplus = int(mask.sum()) - self._masks.quotas[tensor.name].count
            dropped = torch.zeros_like(mask)
            dropped[rules.prune_magnitude(weight, mask, max(surplus, 0))] = True
            self._change(tensor, dropped.view_as(_mask_of(tensor)))
            self._lost += max(surplus, 0)


def _mask_of(tensor: Prunable) -> Tensor:
    mask = tensor.mask
    assert mask is not None
    return mask


def _gradient_of(tensor: Prunable) -> Tensor:
    """dL/d(M * W) of this step's backward, dense; zeros where no gradient arrived."""
    layer = tensor.generated
    gradient = tensor.parameter.grad if layer is None else layer.weight_gradient
    return torch.zeros_like(tensor.value()) if gradient is None else gradient
