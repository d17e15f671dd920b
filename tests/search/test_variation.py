"""Operators: what they exchange and change, that children stay in the space, and what nothing admitted means."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from evospike.core.errors import SettingsError, SpecError
from evospike.core.rng import stream
from evospike.models.shapes import infer_shapes
from evospike.models.spec import NetworkSpec
from evospike.search.bounds import Bounds
from evospike.search.decode import decode
from evospike.search.genome import Genome
from evospike.search.settings import SpaceSettings
from evospike.search.space import Space
from evospike.search.variation import VARIATION_TRIES, GenomeVariation, polynomial_mutation


def describe(genome: Genome) -> NetworkSpec:
    return decode(genome, (1, 8, 8), 3)


def space(**changes: Any) -> Space:
    return Space(
        SpaceSettings(**{"cells": 4, "channels": 2, "reductions": "searched", "reduction_count": 2, **changes})
    )


def test_sampling_is_uniform_and_repeats_with_its_stream() -> None:
    variation = GenomeVariation(space(), describe)
    draws = [variation.sample(stream(3, "sample", i)) for i in range(300)]
    assert draws == [variation.sample(stream(3, "sample", i)) for i in range(300)]
    for place, upper in enumerate(variation.space.upper):
        counts = Counter(draw[place] for draw in draws)
        assert set(counts) == set(range(upper + 1))
        expected = 300 / (upper + 1)
        assert all(abs(n - expected) < 6 * expected**0.5 for n in counts.values())


def test_scales_exchange_whole_cells_and_single_macro_genes() -> None:
    variation = GenomeVariation(space(), describe)
    rng = stream(0, "cross")
    moved: Counter[int] = Counter()
    for _ in range(200):
        a, b = variation.sample(rng), variation.sample(rng)
        first, second = variation.cross(a, b, rng)
        whole = 0
        for index, group in enumerate(variation.space.groups()):
            of_a, of_b = [a[i] for i in group], [b[i] for i in group]
            one, other = [first[i] for i in group], [second[i] for i in group]
            assert (one, other) in ((of_a, of_b), (of_b, of_a))
            whole += one == of_b != of_a
            moved[index] += one == of_b != of_a
        assert whole >= 1
    assert all(moved[index] > 20 for index in range(4))


def test_scales_change_one_used_gene_of_every_scale() -> None:
    variation = GenomeVariation(space(macro="modules", module_cells=2, signs="free"), describe)
    rng = stream(1, "mutate")
    scales: Counter[str] = Counter()
    for _ in range(300):
        parent = variation.sample(rng)
        child = variation.mutate(parent, rng)
        (place,) = [i for i in range(len(parent)) if parent[i] != child[i]]
        assert place in variation.space.used(parent)
        assert 0 <= child[place] <= variation.space.upper[place]
        scales[variation.space.scale(variation.names[place])] += 1
    assert all(count > 60 for count in scales.values())
    assert set(scales) == {"micro", "meso", "macro"}


def test_a_binary_gene_flips_and_a_larger_one_takes_every_other_value() -> None:
    variation = GenomeVariation(space(inputs=(2,), operations=("conv3",), cells=4, reductions="static"), describe)
    assert variation.names == ("cell0.motif", "cell1.motif", "cell2.motif", "cell3.motif")
    rng = stream(2, "mutate")
    seen = Counter(variation.mutate((2, 0, 0, 0), rng) for _ in range(200))
    # Cell 0 alone has a motif; static reductions of four cells are 1, 2 and 3.
    assert set(seen) == {(value, 0, 0, 0) for value in (0, 1, 3, 4)}


def test_released_crossover_exchanges_one_stretch() -> None:
    variation = GenomeVariation(space(operators="released"), describe)
    rng = stream(0, "two points")
    a, b = variation.space.lower, variation.space.upper
    lengths = set()
    for _ in range(100):
        first, second = variation.cross(a, b, rng)
        taken = [i for i in range(len(a)) if first[i] == b[i]]
        assert taken == list(range(taken[0], taken[-1] + 1)) if taken else True
        assert [second[i] == a[i] for i in range(len(a))] == [first[i] == b[i] for i in range(len(a))]
        lengths.add(len(taken))
    assert len(lengths) > 30


def naive_polynomial(value: int, upper: int, r: float, eta: float = 3.0) -> int:
    """One gene by the formula of Deb and Agrawal, with the distances to bounds half a step outside."""
    to_lower, to_upper = (value + 0.5) / (upper + 1), (upper + 0.5 - value) / (upper + 1)
    if r <= 0.5:
        step = (2 * r + (1 - 2 * r) * (1 - to_lower) ** (eta + 1)) ** (1 / (eta + 1)) - 1
    else:
        step = 1 - (2 * (1 - r) + 2 * (r - 0.5) * (1 - to_upper) ** (eta + 1)) ** (1 / (eta + 1))
    return min(max(round(value + step * (upper + 1)), 0), upper)


def test_polynomial_mutation_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    changed = genes = 0
    for seed in range(400):
        upper = tuple(int(u) for u in rng.integers(1, 40, size=12))
        a = tuple(int(rng.integers(0, u + 1)) for u in upper)
        child = polynomial_mutation(a, upper, np.random.default_rng(seed))
        again = np.random.default_rng(seed)
        steps, chances = again.random(12), again.random(12)
        expected = tuple(
            naive_polynomial(v, u, r) if chance < 1 / 12 else v
            for v, u, r, chance in zip(a, upper, steps, chances, strict=True)
        )
        assert child == expected
        changed += sum(x != y for x, y in zip(a, child, strict=True))
        genes += 12
    flips = [polynomial_mutation((0,), (1,), np.random.default_rng(seed)) for seed in range(2000)]
    assert 0.13 < sum(flip == (1,) for flip in flips) / 2000 < 0.19  # the step reaches 1/4 of the range for r > 0.843
    assert 0.4 / 12 < changed / genes < 1 / 12  # some steps round to nothing


@pytest.mark.parametrize("operators", ["scales", "released"])
def test_chains_stay_in_the_space_and_inside_the_bounds(operators: str) -> None:
    within = space(operators=operators, macro="modules", module_cells=2, feedback="delayed", signs="free")
    bounds = Bounds(max_parameters=6000, min_parameters=500)
    variation = GenomeVariation(within, describe, bounds.refusals)
    rng = stream(0, "chain")
    a, b = variation.sample(rng), variation.sample(rng)
    keys = set()
    for _ in range(150):
        a, b = variation.cross(a, b, rng)
        a, b = variation.mutate(a, rng), variation.mutate(b, rng)
        for vector in (a, b):
            genome = within.genome(vector)
            assert within.genome(within.vector(genome)) == genome
            spec = describe(genome)
            infer_shapes(spec)
            assert not bounds.refusals(spec)
            assert variation.key(vector) == spec.digest() == describe(Genome.from_json(genome.to_json())).digest()
            keys.add(variation.key(vector))
    assert len(keys) > 100


def test_equal_networks_have_equal_keys() -> None:
    variation = GenomeVariation(space(), describe)
    rng = stream(0, "keys")
    for _ in range(20):
        vector = [*variation.sample(rng)]
        key, used = variation.key(tuple(vector)), set(variation.space.used(vector))
        for i in set(range(len(vector))) - used:
            vector[i] = variation.space.upper[i] - vector[i]
        assert variation.key(tuple(vector)) == key


def test_a_bound_that_nothing_meets() -> None:
    asked = []

    def refuse(network: NetworkSpec) -> list[str]:
        asked.append(network)
        broken = ["more operations than max_operations = 3"]
        return broken if len(asked) % 3 else [*broken, "more parameters than max_parameters = 8"]

    with pytest.raises(SettingsError) as caught:
        GenomeVariation(space(), describe, refuse).sample(stream(0, "none"))
    assert str(caught.value) == (
        "none of 2000 random architectures was admitted (2000 times: more operations than max_operations = 3); "
        "widen that bound or change the space"
    )
    assert len(asked) == 2000


def test_an_image_that_no_architecture_takes() -> None:
    variation = GenomeVariation(space(reductions="static"), lambda genome: decode(genome, (1, 7, 7), 3))
    with pytest.raises(SettingsError, match=r"2000 times: cell 1 cannot halve an image of 7x7, as both sides "):
        variation.sample(stream(0, "none"))
    with pytest.raises(SpecError, match=r"^cell 1 cannot halve an image of 7x7"):
        variation.key(variation.space.lower)


@pytest.mark.parametrize("operators", ["scales", "released"])
def test_parents_stay_when_no_child_is_admitted(operators: str) -> None:
    free = GenomeVariation(space(operators=operators), describe)
    rng = stream(0, "parents")
    a, b = free.sample(rng), free.sample(rng)
    asked: list[str] = []

    def parents_only(network: NetworkSpec) -> list[str]:
        asked.append(network.digest())
        return [] if asked[-1] in (free.key(a), free.key(b)) else ["no"]

    variation = GenomeVariation(free.space, describe, parents_only)
    genomes = {free.space.genome(v).to_json() for v in (a, b)}
    for _ in range(5):
        assert {free.space.genome(v).to_json() for v in variation.cross(a, b, rng)} == genomes
        assert free.space.genome(variation.mutate(a, rng)) == free.space.genome(a)
    assert 1 < len(asked) <= 5 * 3 * VARIATION_TRIES
