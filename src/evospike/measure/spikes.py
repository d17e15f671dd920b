"""Counting spikes while a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor


class Observable(Protocol):
    """A network that shows its spikes; see `models.network.Network`."""

    observer: Any


@dataclass
class SpikeCount:
    """Per neuron layer: spikes, unit-steps they could have occurred in, mean change between steps, and finiteness."""

    spikes: dict[str, float] = field(default_factory=dict)
    chances: dict[str, int] = field(default_factory=dict)
    changes: dict[str, float] = field(default_factory=dict)
    finite: bool = True

    def __call__(self, name: str, spikes: Tensor, potential: Tensor) -> None:
        """Count one layer of one forward: spikes (T, B, ...) and the last potential (B, ...)."""
        spikes = spikes.detach()
        self.spikes[name] = self.spikes.get(name, 0.0) + float(spikes.sum(dtype=torch.float64))
        self.chances[name] = self.chances.get(name, 0) + spikes.numel()
        if spikes.shape[0] > 1:
            change = float((spikes[1:] - spikes[:-1]).abs().mean())
            self.changes[name] = self.changes.get(name, 0.0) + change
        self.finite = self.finite and bool(torch.isfinite(potential).all())

    def layer_rates(self) -> dict[str, float]:
        """r_l of methods 1.1 for every neuron layer: mean of its spikes over samples, steps and units."""
        return {name: self.spikes[name] / max(self.chances[name], 1) for name in self.spikes}

    def firing_rate(self) -> float:
        """Mean over all units of the network: spikes per unit and step."""
        return sum(self.spikes.values()) / max(sum(self.chances.values()), 1)

    def mean_change(self) -> float:
        """Mean over layers of mean |s[t] - s[t-1]|, of one forward, in [0, 1]; 0 for a single step (methods 3.9)."""
        return sum(self.changes.values()) / max(len(self.changes), 1)


@contextmanager
def counting(net: Observable) -> Iterator[SpikeCount]:
    """Count the spikes of every forward inside this context."""
    count, before = SpikeCount(), net.observer
    net.observer = count
    try:
        yield count
    finally:
        net.observer = before
