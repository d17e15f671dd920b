"""A training small enough to be followed by hand: ten samples, a five-unit network, two steps an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evospike.training.settings import TrainingSettings

ROLES = {
    "genes": "genes",
    "hidden.weight": "encoding",
    "hidden.bias": "bias",
    "norm.weight": "norm",
    "norm.bias": "norm",
    "out.weight": "weight",
    "out.bias": "bias",
}


class TinyNet(nn.Module):
    """(B, 3) -> class scores over two steps, (2, B, 2); it has every role, and buffers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.hidden, self.norm, self.out = nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)
        self.genes = nn.Parameter(torch.eye(5))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.hidden(x))) @ self.genes
        return torch.stack([self.out(h), self.out(0.5 * h)])


class TinySource:
    """Ten samples; order and noise are functions of the epoch."""

    def __init__(self, size: int = 10) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(size, 3, generator=generator)
        self.y = (self.x.sum(1) > 0).long()
        self.taken: list[tuple[int, list[int]]] = []

    def __len__(self) -> int:
        return len(self.x)

    def order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng(epoch).permutation(len(self.x))

    def batch(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        self.taken.append((epoch, positions.tolist()))
        index = torch.from_numpy(positions)
        noise = torch.randn(len(index), 3, generator=torch.Generator().manual_seed(100 * epoch + int(positions[0])))
        return self.x[index] + 0.1 * noise, self.y[index]


@pytest.fixture
def tiny_net() -> Callable[..., TinyNet]:
    return TinyNet


@pytest.fixture
def tiny_source() -> Callable[..., TinySource]:
    return TinySource


@pytest.fixture
def roles() -> dict[str, str]:
    return dict(ROLES)


@pytest.fixture
def settings() -> Callable[..., TrainingSettings]:
    def make(**changes: Any) -> TrainingSettings:
        small = {"epochs": 3, "batch": 4, "rate": 0.05, "warmup_epochs": 0.5}
        return TrainingSettings(**{**small, **changes})

    return make
