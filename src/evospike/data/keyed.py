"""Random numbers as a pure function of what they are for.

A number depends on (seed, purpose, epoch, row of the sample, its place in the draw) and on nothing else, so a
sample is augmented alike in every batch, on every device and for any number of workers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
        return self.bits_of([purpose], count)[0]

    def bits_of(self, purposes: Sequence[str], count: int) -> Tensor:
        """The bits of several purposes, (purposes, B, count)."""
        return _bits_at(self._starts(purposes)[..., None], torch.arange(count, device=self.rows.device))

    def _starts(self, purposes: Sequence[str]) -> Tensor:
        """What the numbers of each purpose and sample begin from, int64 (purposes, B)."""
        keys = [_signed(stream_key(self.seed, "augmentation", purpose, self.epoch)) for purpose in purposes]
        return mixed(mixed(self.rows * _GOLDEN + torch.tensor(keys, device=self.rows.device)[:, None]))

    def uniform(self, purpose: str, count: int = 1) -> Tensor:
        """Uniform in [0, 1) with 24 bits, float32 of shape (B, count)."""
        return as_uniform(self.bits(purpose, count))

    def chance(self, purpose: str, probability: float) -> Tensor:
        """True with the given probability, bool of shape (B,)."""
        return self.uniform(purpose)[:, 0] < probability

    def whole(self, purpose: str, bound: int, count: int = 1) -> Tensor:
        """Whole numbers 0..bound-1, int64 of shape (B, count); bound must be below 2**31."""
        return as_whole(self.bits(purpose, count), bound)

    def normal(self, purpose: str, count: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers, of shape (B, count)."""
        return as_normal(self.bits(purpose, count + count % 2), dtype)[:, :count]

    def normal_at(self, purpose: str, sample: Tensor, place: Tensor, count: int) -> Tensor:
        """Some of the numbers of `normal(purpose, count)`, float32: number i is that at `sample[i]`, `place[i]`."""
        half = (count + 1) // 2
        starts, pair = self._starts([purpose])[0, sample], place % half
        radius, angle = _polar(as_uniform(_bits_at(starts, pair)), as_uniform(_bits_at(starts, half + pair)))
        return radius * torch.where(place < half, angle.cos(), angle.sin())


def as_uniform(bits: Tensor) -> Tensor:
    """Uniform in [0, 1) with 24 bits, float32."""
    return _shifted(bits, 40).to(torch.float32) * 2.0**-24


def as_whole(bits: Tensor, bound: int) -> Tensor:
    """Whole numbers 0..bound-1, int64; bound must be below 2**31."""
    # The bias towards some numbers is below bound / 2**32.
    return _shifted(_shifted(bits, 32) * bound, 32)


def as_normal(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Standard normal numbers by Box and Muller, as many as there are bits: (..., 2 * half)."""
    u, v = as_uniform(bits).to(dtype).chunk(2, dim=-1)
    radius, angle = _polar(u, v)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)


def _bits_at(starts: Tensor, places: Tensor) -> Tensor:
    return mixed(starts + (places + 1) * _GOLDEN)


def _polar(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return (-2.0 * torch.log1p(-u)).sqrt(), (2.0 * math.pi) * v
