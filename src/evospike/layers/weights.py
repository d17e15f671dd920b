"""What a layer computes with: a stored weight, or one that is generated from something smaller.

Rooms that change where a weight comes from (genetic encoding) subclass `GeneratedWeight`; rooms that only need to know
the weight ask `weight_of`. Neither has to know the other. A room that removes single synapses gives a layer a buffer
`mask`: a stored weight is zero outside it, a generated one is multiplied by it.
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

    mask: which weights exist, bool in the shape of the weight; None: all. A buffer, so part of `state_dict` once set.
    weight_gradient: dL/d(mask * weight), also where the mask is False, summed over the layer's uses since
    `watch_gradient(True)`; None before the first backward and while it is not watched.
    """

    mask: Tensor | None
    weight_gradient: Tensor | None = None
    _watching: bool = False
    _held: Tensor | None = None
    _holding: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", None)

    @property
    @abstractmethod
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight, (out, in, *kernel), known without forming it."""

    @abstractmethod
    def form_weight(self) -> Tensor:
        """The weight before it is masked, as a differentiable float32 tensor, shape (out, in, *kernel)."""

    def encodings(self) -> Iterator[tuple[nn.Parameter, tuple[int, ...]]]:
        """The stored vectors of neurons that the weight is generated from, each with the order of its axes in which it
        reads as a weight, (out, in, *kernel): its entries can be missing, as synapses can.
        """
        return iter(())

    def current_weight(self) -> Tensor:
        """The weight to compute with now, masked: formed, or the one held since the first call."""
        if not self._holding:
            return self._masked_weight()
        if self._held is None:
            self._held = self._masked_weight()
        return self._held

    def watch_gradient(self, wanted: bool) -> None:
        """From now on sum up `weight_gradient`, from nothing; or stop, and forget it. Only masked layers do."""
        self._watching, self.weight_gradient = wanted, None

    def _masked_weight(self) -> Tensor:
        weight = self.form_weight()
        if self.mask is None:
            return weight
        masked = torch.where(self.mask, weight, 0.0)
        if self._watching and masked.requires_grad:
            masked.register_hook(self._add_gradient)
        return masked

    def _add_gradient(self, gradient: Tensor) -> None:
        earlier = self.weight_gradient
        self.weight_gradient = gradient.detach().clone() if earlier is None else earlier + gradient


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
