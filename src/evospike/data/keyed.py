"""Random numbers as a pure function of what they are for.

A number depends on (seed, purpose, epoch, row of the sample, its place in the draw) and on nothing else, so a
sample is augmented alike in every batch, on every device and for any number of workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evospike.core.rng import stream_key


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's `>>` copies the sign bit of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mixed(x: Tensor) -> Tensor:
    """The splitmix64 finaliser on int64, wrapping. Source: Steele, Lea, Flood 2014, as in Vigna's splitmix64.c."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


@dataclass(frozen=True)
class Draws:
    """Random numbers for the samples `rows` (int64, (B,)) in one epoch; they lie on the device of `rows`."""

    seed: int
    epoch: int
    rows: Tensor

    def at(self, index: Tensor) -> Draws:
        """The draws of some of the samples."""
        return replace(self, rows=self.rows[index])

    def on(self, device: torch.device | str) -> Draws:
        """The same draws, made on another device."""
        return replace(self, rows=self.rows.to(device))

    def bits(self, purpose: str, count: int) -> Tensor:
        """64 hashed bits per number, int64 of shape (B, count)."""
        key = _signed(stream_key(self.seed, "augmentation", purpose, self.epoch))
        places = torch.arange(1, count + 1, device=self.rows.device) * _GOLDEN
        start = mixed(mixed(self.rows * _GOLDEN + key))
        return mixed(start[:, None] + places)

    def uniform(self, purpose: str, count: int = 1) -> Tensor:
        """Uniform in [0, 1) with 24 bits, float32 of shape (B, count)."""
        return _shifted(self.bits(purpose, count), 40).to(torch.float32) * 2.0**-24

    def chance(self, purpose: str, probability: float) -> Tensor:
        """True with the given probability, bool of shape (B,)."""
        return self.uniform(purpose)[:, 0] < probability

    def whole(self, purpose: str, bound: int, count: int = 1) -> Tensor:
        """Whole numbers 0..bound-1, int64 of shape (B, count); bound must be below 2**31."""
        # The bias towards some numbers is below bound / 2**32.
        return _shifted(_shifted(self.bits(purpose, count), 32) * bound, 32)

    def normal(self, purpose: str, count: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers by Box and Muller, of shape (B, count)."""
        half = (count + 1) // 2
        u = self.uniform(purpose, 2 * half).to(dtype)
        radius = (-2.0 * torch.log1p(-u[:, :half])).sqrt()
        angle = (2.0 * math.pi) * u[:, half:]
        return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]
