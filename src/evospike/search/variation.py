"""How genomes vary: sampling, crossover and mutation of vectors of a space.

`scales` (our own): crossover exchanges whole cells and single macro genes, so that a motif keeps the operations it was
scored with; mutation picks a scale and changes one gene of it that is used. `released` (methods 4.8): two-point
crossover and polynomial mutation of every gene, used or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from evospike.core.errors import SettingsError, SpecError
from evospike.models.spec import NetworkSpec
from evospike.search.genome import Genome
from evospike.search.space import Space, Vector

SAMPLING_TRIES = 2000
VARIATION_TRIES = 20

REMEMBERED = 4096
"""Vectors whose digest and refusal are not worked out again."""

ETA = 3.0
"""Distribution index of the polynomial mutation: the larger, the smaller its steps."""

Describe = Callable[[Genome], NetworkSpec]
Admit = Callable[[NetworkSpec], Sequence[str]]


def admit_all(_: NetworkSpec) -> Sequence[str]:
    """No bound."""
    return ()


class GenomeVariation:
    """Sampling and variation of a space's vectors, each within the space and admitted.

    describe: the network of a genome; one that raises SpecError is refused. admit: every reason why a network is
    refused.
    """

    def __init__(self, space: Space, describe: Describe, admit: Admit = admit_all) -> None:
        self.space, self.names = space, space.names
        self._describe, self._admit = describe, admit
        self._judged = lru_cache(maxsize=REMEMBERED)(self._judge)
        self._released = space.settings.operators == "released"

    def sample(self, rng: Generator) -> Vector:
        """A random admitted vector.

        Raises: SettingsError naming the bound, when none of many is admitted.
        """
        refusals: Counter[str] = Counter()
        for _ in range(SAMPLING_TRIES):
            vector = tuple(int(gene) for gene in rng.integers(0, np.array(self.space.upper) + 1))
            refusal = self._refusal(vector)
            if not refusal:
                return vector
            refusals.update(refusal)
        (reason, times), *_ = refusals.most_common(1)
        raise SettingsError(
            f"none of {SAMPLING_TRIES} random architectures was admitted ({times} times: {reason}); "
            "widen that bound or change the space"
        )

    def cross(self, a: Vector, b: Vector, rng: Generator) -> tuple[Vector, Vector]:
        """Two children of two parents; the parents, when no exchange is admitted."""
        for _ in range(VARIATION_TRIES):
            children = _two_points(a, b, rng) if self._released else self._exchange_groups(a, b, rng)
            if not any(self._refusal(child) for child in children):
                return children
        return a, b

    def mutate(self, a: Vector, rng: Generator) -> Vector:
        """A changed vector; the parent, when no change is admitted or, as `released` often does, none is drawn."""
        for _ in range(VARIATION_TRIES):
            child = polynomial_mutation(a, self.space.upper, rng) if self._released else self._change_one(a, rng)
            if not self._refusal(child):
                return child
        return a

    def key(self, a: Vector) -> str:
        """Equal for vectors that describe the same network. Raises: SpecError for one that describes none."""
        digest, refusals = self._judged(tuple(a))
        if not digest:
            raise SpecError(refusals[0])
        return digest

    def _refusal(self, vector: Vector) -> Sequence[str]:
        return self._judged(vector)[1]

    def _judge(self, vector: Vector) -> tuple[str, Sequence[str]]:
        """Digest of the network, empty without one, and every reason why it is refused."""
        try:
            network = self._describe(self.space.genome(vector))
            return network.digest(), self._admit(network)
        except SpecError as error:
            return "", (str(error),)

    def _exchange_groups(self, a: Vector, b: Vector, rng: Generator) -> tuple[Vector, Vector]:
        """Whole cells and single macro genes change places, at least one group that differs."""
        differing = [group for group in self.space.groups() if any(a[i] != b[i] for i in group)]
        if not differing:
            return a, b
        chosen = rng.random(len(differing)) < 0.5
        chosen[rng.integers(len(differing))] = True
        moved = {i for group, move in zip(differing, chosen, strict=True) if move for i in group}
        return _exchange(a, b, moved)

    def _change_one(self, a: Vector, rng: Generator) -> Vector:
        """One used gene of one scale takes another value."""
        by_scale: dict[str, list[int]] = {}
        for i in self.space.used(a):
            by_scale.setdefault(self.space.scale(self.names[i]), []).append(i)
        if not by_scale:
            return a
        genes = by_scale[sorted(by_scale)[rng.integers(len(by_scale))]]
        gene = genes[rng.integers(len(genes))]
        step = 1 + int(rng.integers(self.space.upper[gene]))
        changed = (a[gene] + step) % (self.space.upper[gene] + 1)
        return (*a[:gene], changed, *a[gene + 1 :])


def _two_points(a: Vector, b: Vector, rng: Generator) -> tuple[Vector, Vector]:
    start, end = sorted(int(cut) for cut in rng.integers(0, len(a) + 1, size=2))
    return _exchange(a, b, set(range(start, end)))


def _exchange(a: Vector, b: Vector, moved: set[int]) -> tuple[Vector, Vector]:
    """Two vectors with the genes at some indices exchanged."""
    first = tuple(b[i] if i in moved else a[i] for i in range(len(a)))
    second = tuple(a[i] if i in moved else b[i] for i in range(len(a)))
    return first, second


def polynomial_mutation(a: Vector, upper: Vector, rng: Generator) -> Vector:
    """Polynomial mutation (Deb and Agrawal) of integers from 0 to `upper`, each with probability 1 / genes.

    As released, a gene lives on [-1/2, upper + 1/2], so that rounding reaches every integer alike. A uniform draw r
    gives the step d in units of that range, bounded so that the gene stays inside:
    d = (2r + (1 - 2r)(1 - x)^(eta+1))^(1/(eta+1)) - 1 below r = 1/2, and mirrored above; x is the gene's place in its
    range, seen from the bound it moves to. The result is rounded and clipped.
    """
    values, highest = np.array(a, dtype=float), np.array(upper, dtype=float)
    span = highest + 1
    r, place = rng.random(len(a)), (values + 0.5) / span
    power = ETA + 1
    down = (2 * r + (1 - 2 * r) * (1 - place) ** power).clip(0) ** (1 / power) - 1
    up = 1 - (2 * (1 - r) + (2 * r - 1) * place**power).clip(0) ** (1 / power)
    moved = np.clip(np.rint(values + np.where(r < 0.5, down, up) * span), 0, highest)
    mutates = rng.random(len(a)) < 1 / len(a)
    return tuple(int(gene) for gene in np.where(mutates, moved, values))
