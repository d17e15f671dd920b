"""An exponential moving average of a network's weights and running statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averaged copies of every floating-point parameter and buffer.

    The decay rises to its value over the first steps, min(decay, (1 + n) / (10 + n)), so that short trainings are not
    held back by their first weights; neither is a network that was changed at one blow by those from before.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = {name: t for name, t in _state(net) if t.is_floating_point()}
        self.tensors = {name: t.detach().clone() for name, t in self._live.items()}

    @torch.no_grad()
    def update(self, step: int, begun: int = 0) -> None:
        """Move the averages towards the network's values after step number `step` (from 0).

        begun: the step after which the network was first the one that is averaged.
        """
        passed = step - begun
        weight = 1 - min(self._decay, (1 + passed) / (10 + passed))
        averages = list(self.tensors.values())
        torch._foreach_mul_(averages, 1 - weight)
        torch._foreach_add_(averages, [t.detach() for t in self._live.values()], alpha=weight)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over averages from a checkpoint."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the network has the averaged values; outside, its own again."""
        own = {name: t.detach().clone() for name, t in self._live.items()}
        self._copy(self.tensors)
        try:
            yield
        finally:
            self._copy(own)

    def keep(self) -> None:
        """Give the network the averaged values for good."""
        self._copy(self.tensors)

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._live.items():
            tensor.copy_(values[name])


def _state(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()
