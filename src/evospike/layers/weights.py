"""What a layer computes with: a stored weight, or one that is generated from something smaller.

Rooms that change where a weight comes from (genetic encoding today, masks later) subclass `GeneratedWeight`; rooms
that only need to know the weight ask `weight_of`. Neither has to know the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class GeneratedWeight(nn.Module, ABC):
    """A convolution or linear layer whose weight is computed, not stored.

    A subclass gives `form_weight`; it calls `current_weight` in its forward so that a weight formed inside
    `holding_weights` is formed once, however often the layer runs.
    """

    _held: Tensor | None = None
    _holding: bool = False

    @abstractmethod
    def form_weight(self) -> Tensor:
        """The weight as a differentiable float32 tensor, shape (out, in, *kernel)."""

    def current_weight(self) -> Tensor:
        """The weight to compute with now: formed, or the one held since the first call."""
        if not self._holding:
            return self.form_weight()
        if self._held is None:
            self._held = self.form_weight()
        return self._held


@contextmanager
def holding_weights(module: nn.Module) -> Iterator[None]:
    """Form every generated weight at most once inside this context.

    For networks that are stepped through time layer by layer; gradients flow through the one formation.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, GeneratedWeight) and not layer._holding]
    for layer in layers:
        layer._holding = True
    try:
        yield
    finally:
        for layer in layers:
            layer._holding, layer._held = False, None


def weight_of(layer: nn.Module) -> Tensor:
    """The weight that a convolution or linear layer computes with, stored or generated."""
    if isinstance(layer, GeneratedWeight):
        return layer.current_weight()
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def weighted_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every convolution and linear layer of a module with its dotted name, in construction order."""
    for name, layer in module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear, GeneratedWeight)):
            yield name, layer
