"""What a population search knows of its genomes: how to draw, cross and change them, and when two are the same."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from evospike.core.errors import SettingsError
from evospike.evolution.records import Genotype

Vector = tuple[int, ...]

_LARGEST = 2**53  # larger whole numbers have no exact form in a genotype's floats


class Variation(Protocol):
    """Draws and changes vectors of whole numbers, one per name; draws only from the generator it is handed."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name per number."""

    def sample(self, rng: np.random.Generator) -> Vector:
        """A random vector."""

    def cross(self, a: Vector, b: Vector, rng: np.random.Generator) -> tuple[Vector, Vector]:
        """Two children of two parents."""

    def mutate(self, a: Vector, rng: np.random.Generator) -> Vector:
        """A changed copy."""

    def key(self, a: Vector) -> str:
        """What `a` stands for: vectors of equal keys are duplicates, whatever their numbers."""


def genotype_of(names: tuple[str, ...], vector: Vector) -> Genotype:
    """The vector as the record holds it, its numbers exactly.

    Raises: SettingsError for a number that is not whole or too large, or when names do not fit.
    """
    if not all(value == int(value) and abs(value) <= _LARGEST for value in vector):
        raise SettingsError(f"genome holds {list(vector)}; every gene must be a whole number within +-2**53")
    return Genotype(names, vector)


def vector_of(genotype: Genotype) -> Vector:
    """The vector that `genotype_of` was given."""
    return tuple(int(value) for value in genotype.values)
