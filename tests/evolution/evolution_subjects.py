"""What the tests of evolution vary and score: a bowl for STE, strings of bits for a search."""

from __future__ import annotations

import numpy as np

from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.settings import EvolutionSettings, PopulationSettings
from evospike.evolution.variation import Vector, vector_of

EVOLUTION = EvolutionSettings(population=4, generations=3, finalists=2, finalist_seeds=2)

LENGTH = 12
SEARCH = PopulationSettings(
    population=6, offspring=4, generations=4, objectives=("score", "parameters"), finalists=2, finalist_seeds=2
)


class Killed(BaseException):
    """Stands for Ctrl-C."""


def bowl(request: Request) -> Score:
    x, y = request.genotype.values
    loss = (x + 1.5) ** 2 + (y + 0.5) ** 2
    noise = 0.001 * request.draw_key[1] if request.kind == "finalist" else 0.0
    return Score("ok", terms={"loss": loss, "validation_loss": loss + noise, "temporal": -x, "entropy": y})


class Bits:
    """Bit strings with a neutral last bit: it changes the vector and not what the vector stands for."""

    def __init__(self, length: int = LENGTH) -> None:
        self.names = tuple(f"bit{k}" for k in range(length + 1))

    def sample(self, rng: np.random.Generator) -> Vector:
        return tuple(int(bit) for bit in rng.integers(0, 2, len(self.names)))

    def cross(self, a: Vector, b: Vector, rng: np.random.Generator) -> tuple[Vector, Vector]:
        cut = int(rng.integers(1, len(a)))
        return a[:cut] + b[cut:], b[:cut] + a[cut:]

    def mutate(self, a: Vector, rng: np.random.Generator) -> Vector:
        flips = rng.random(len(a)) < 1 / len(a)
        return tuple(bit ^ int(flip) for bit, flip in zip(a, flips, strict=True))

    def key(self, a: Vector) -> str:
        return "".join(map(str, a[:-1]))


def bits_of(genotype: Genotype) -> str:
    return Bits().key(vector_of(genotype))


def judge(request: Request) -> Score:
    """Leading ones are the score, trailing zeros save parameters: the best front is 0..0, 10..0, .., 1..1."""
    bits = bits_of(request.genotype)
    leading = len(bits) - len(bits.lstrip("1"))
    trailing = len(bits) - len(bits.rstrip("0"))
    noise = 0.25 * int(request.draw_key[1]) if request.kind == "finalist" else 0.0
    terms = {"score": leading + noise, "parameters": len(bits) - trailing, "ones": bits.count("1")}
    return Score("ok", terms=terms)
