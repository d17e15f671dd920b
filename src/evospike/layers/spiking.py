"""Modules over time: layers whose tensors carry T steps merged into the batch, (T*B, ...)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from evospike.layers import synchronised
from evospike.layers.synchronised import Statistics
from evospike.neurons.dynamics import multi_step
from evospike.neurons.settings import NeuronSettings, Path


class SpikingNeuron(nn.Module):
    """A layer of IF, LIF or PLIF neurons over T steps; state goes in and comes out.

    A `plif` neuron learns one decay per layer through its logit. Fang et al. (2021) also scale the input by 1 - decay;
    as a batch norm precedes every neuron here, its gain takes that part.
    """

    def __init__(self, neuron: NeuronSettings, path: Path = "eager") -> None:
        super().__init__()
        self.neuron, self.path = neuron, path
        self.decay_logit: nn.Parameter | None = None
        if neuron.kind == "plif":
            self.decay_logit = nn.Parameter(torch.tensor(math.log(neuron.decay / (1 - neuron.decay))))

    def forward(self, current: Tensor, state: Tensor | None = None, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """(T, B, ...) of current -> (T, B, ...) of spikes and the state (B, ...) after the last step.

        A current of one step with `steps=T` is shown at every step.
        """
        return multi_step(current, state, self.neuron, steps=steps, decay=self.decay(current), path=self.path)

    def decay(self, like: Tensor) -> Tensor:
        """The factor of the potential at each step, learned or not, a scalar of the type and device of `like`."""
        if self.decay_logit is not None:
            return torch.sigmoid(self.decay_logit).to(like.dtype)
        return torch.full((), self.neuron.step_decay, dtype=like.dtype, device=like.device)

    def extra_repr(self) -> str:
        n = self.neuron
        return f"{n.kind}, threshold={n.threshold}, decay={n.decay}, reset={n.reset}, {n.surrogate}({n.width})"


class TimeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics run over time and batch together (tdBN), on tensors (T*B, C, H, W).

    A current computed once and shown at T steps is normalised by `forward(x, repeats=T)`: its mean and biased variance
    are those of the repeated tensor, and the running variance is corrected as if the tensor had been repeated.
    stepwise: statistics per step instead, sharing one set of running statistics (methods 1.5).
    group: processes that each have a part of the batch, where statistics run over all of it; None: there are no others.
    """

    def __init__(self, channels: int, gain: float = 1.0, *, stepwise: bool = False) -> None:
        super().__init__(channels)
        self.stepwise = stepwise
        self.group: dist.ProcessGroup | None = None
        nn.init.constant_(self.weight, gain)

    def forward(self, x: Tensor, repeats: int = 1, steps: int = 1) -> Tensor:
        """x: (steps*B, C, H, W), to be shown `repeats` times."""
        if self.group is not None and self.training:
            if not self.stepwise or steps == 1:
                return self._synchronised(x, repeats, self.group)
            return torch.cat([self._synchronised(part, repeats, self.group) for part in x.chunk(steps)])
        if self.stepwise and steps > 1 and self.training:
            return torch.cat([super(TimeBatchNorm2d, self).forward(part) for part in x.chunk(steps)])
        if not self.training or repeats == 1 or self.running_var is None or self.momentum is None:
            return super().forward(x)
        return self._every_step(x, repeats) if self.stepwise else self._as_if_repeated(x, repeats)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Inside, training leaves the running statistics as they are: for a forward that is computed a second time."""
        before = dict(self._buffers)
        self._buffers.update({name: tensor.clone() for name, tensor in before.items() if tensor is not None})
        try:
            yield
        finally:
            self._buffers.update(before)

    def statistics_over(self, group: dist.ProcessGroup, x: Tensor, repeats: int) -> Statistics:
        """Of a tensor to be shown `repeats` times, over all processes; the running statistics move."""
        found = synchronised.statistics(x, group)
        self._move(found, *((1, repeats) if self.stepwise else (repeats, 1)))
        return found

    def _synchronised(self, x: Tensor, repeats: int, group: dist.ProcessGroup) -> Tensor:
        found = self.statistics_over(group, x, repeats)
        return synchronised.normalised(x, self.weight, self.bias, found, self.eps)

    @torch.no_grad()
    def _move(self, found: Statistics, shown: int, times: int) -> None:
        """Move the running statistics `times` times, towards those of a tensor that is shown so often at once."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        values = found.values * shown
        for _ in range(times):
            self.num_batches_tracked.add_(1)
            share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(found.mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_((found.variance * (values / (values - 1))).to(self.running_var.dtype), share)

    def _normalised(self, x: Tensor, mean: Tensor | None, variance: Tensor | None, momentum: float) -> Tensor:
        return nn.functional.batch_norm(x, mean, variance, self.weight, self.bias, True, momentum, self.eps)

    def _every_step(self, x: Tensor, repeats: int) -> Tensor:
        """Normalise once; move the running statistics as `repeats` equal steps would."""
        momentum = 1 - (1 - (self.momentum or 0.0)) ** repeats
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(repeats)
        return self._normalised(x, self.running_mean, self.running_var, momentum)

    def _as_if_repeated(self, x: Tensor, repeats: int) -> Tensor:
        assert self.running_var is not None
        assert self.momentum is not None
        if x.numel() == x.shape[1]:  # one value a channel has no variance until it is repeated
            return super().forward(x.repeat(repeats, 1, 1, 1))[:1]
        n, keep = x.numel() // x.shape[1], 1 - self.momentum
        once = self.running_var.clone()  # autograd keeps a reference to the variance it was given
        y = self._normalised(x, self.running_mean, once, self.momentum)
        with torch.no_grad():
            biased = (once - keep * self.running_var) / self.momentum * ((n - 1) / n)
            unbiased = biased * (n * repeats / (n * repeats - 1))
            self.running_var.mul_(keep).add_(unbiased, alpha=self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return y


def split_time(x: Tensor, steps: int) -> Tensor:
    """(T*B, ...) -> (T, B, ...), a view."""
    return x.view(steps, x.shape[0] // steps, *x.shape[1:])


def merge_time(x: Tensor) -> Tensor:
    """(T, B, ...) -> (T*B, ...), a view wherever memory allows."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]) if x.dim() < 5 else _merge_images(x)


def _merge_images(x: Tensor) -> Tensor:
    # Where merging has to copy (an expanded tensor), merging around the permuted axes keeps channels last.
    if x.stride(2) == 1 and x.shape[2] > 1:
        return x.permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)
    return x.flatten(0, 1)
