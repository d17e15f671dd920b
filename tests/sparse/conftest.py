"""A network of three layers, stored or partly generated, and a training that a test can stop between two moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evospike.genetic.encode import encode
from evospike.sparse.learner import StructureLearner
from evospike.sparse.masks import Masks, attach
from evospike.sparse.settings import SparseSettings


class Tiny(nn.Module):
    """(B, 2, 6, 6) -> class scores over two steps, (2, B, 4)."""

    def __init__(self, widths: tuple[int, int] = (6, 8)) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.second = nn.Conv2d(widths[0], widths[1], 3, stride=2, padding=1)
        self.third = nn.Linear(9 * widths[1], 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.second(torch.tanh(self.norm(self.first(x)))))
        return torch.stack([self.third(h.flatten(1)), self.third(0.5 * h.flatten(1))])


def make_tiny(kind: str = "stored", widths: tuple[int, int] = (6, 8), seed: int = 0) -> Tiny:
    """kind: `stored`, or `genetic` with the second and third layer generated."""
    net, generator = Tiny(widths), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    if kind == "genetic":
        encode(net, genes=3, layers=lambda name, layer: name != "first", skip_growing=False, seed=seed)
    return net


def make_batch(step: int, size: int = 6) -> tuple[Tensor, Tensor]:
    """The images and classes of a step."""
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randn(size, 2, 6, 6, generator=generator), torch.randint(4, (size,), generator=generator)


class Hand:
    """A sparse training, step by step; `at` steps are done."""

    def __init__(
        self,
        net: nn.Module,
        settings: SparseSettings,
        *,
        epochs: int = 4,
        steps_per_epoch: int = 5,
        optimiser: str = "adamw",
        averages: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.net, self.settings = net, settings
        self.masks: Masks = attach(net, settings, 7, ("test",))
        if optimiser == "sgd":
            options: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
            self.optimiser: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), **options)
        else:
            self.optimiser = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=0.5)
        self.learner = StructureLearner(self.masks)
        self.learner.begin(self.optimiser, averages or {}, epochs, steps_per_epoch)
        self.at, self.skipped = 0, False

    def backward(self) -> None:
        x, y = make_batch(self.at)
        self.optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(self.net(x).mean(0), y).backward()

    def step(self) -> None:
        self.backward()
        self.skipped = self.learner.gradients_ready(self.at)
        if not self.skipped:
            self.optimiser.step()
        self.learner.updated(self.at)
        self.at += 1

    def graph(self) -> dict[str, Tensor]:
        """A copy of every mask, flat."""
        return {tensor.name: tensor.mask.flatten().clone() for tensor in self.masks.tensors}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Tiny]:
    return make_tiny


@pytest.fixture(scope="session")
def hand() -> Callable[..., Hand]:
    return Hand


@pytest.fixture(scope="session")
def batch() -> Callable[..., tuple[Tensor, Tensor]]:
    return make_batch
