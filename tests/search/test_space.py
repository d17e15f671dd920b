"""Vectors and genomes say the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evospike.core.errors import SettingsError, SpecError
from evospike.models.shapes import infer_shapes
from evospike.search.codec import read_released, write_released
from evospike.search.decode import decode
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import FEWEST_SLOTS
from evospike.search.settings import SpaceSettings
from evospike.search.space import Space, Vector

Draw = Callable[[Space, np.random.Generator], Vector]
Make = Callable[..., Space]


def test_the_default_space_has_the_released_genes() -> None:
    space = Space(SpaceSettings())
    assert len(space.names) == 6 * (1 + FEWEST_SLOTS) + 1
    assert space.names[0] == "cell0.motif"
    assert space.names[19] == "cell0.slot18.operation"
    assert space.names[-1] == "reach"
    assert set(space.lower) == {0}
    assert space.upper == ((4, *[1] * 19) * 6 + (1,))
    assert [space.scale(name) for name in space.names[:2] + space.names[-1:]] == ["meso", "micro", "macro"]
    assert space.groups() == (*(tuple(range(20 * c, 20 * c + 20)) for c in range(6)), (120,))


def test_what_has_one_choice_is_no_gene() -> None:
    space = Space(SpaceSettings(motifs=("FE",), inputs=(2,), operations=("conv3",), widths=(8, 16)))
    assert space.names == ("channels",)
    assert space.genome((1,)).channels == 16
    with pytest.raises(SettingsError, match=r"^the space holds a single architecture; allow more motifs, "):
        Space(SpaceSettings(motifs=("FE",), inputs=(2,), operations=("conv3",)))


def test_macro_genes(wide: Make) -> None:
    space = wide()
    macro = [name for name in space.names if space.scale(name) == "macro"]
    modules = [f"module{i}.module{j}" for i in range(3) for j in range(3)]
    assert macro == ["reduction0", "reduction1", "reduction2", *modules, "cells", "channels", "reach"]
    assert sorted(i for group in space.groups() for i in group) == list(range(len(space.names)))


@pytest.mark.parametrize("motif_set", ["canonical", "as_coded"])
@pytest.mark.parametrize("feedback", ["same_step", "delayed"])
def test_random_genomes(wide: Make, draw: Draw, motif_set: str, feedback: str) -> None:
    """Valid, equal through the vector, and decoding to a network whose layers fit, with the same digest."""
    rng = np.random.default_rng(0)
    space = wide(motif_set=motif_set, feedback=feedback)
    for _ in range(60):
        vector = draw(space, rng)
        genome = space.genome(vector)
        canonical = space.vector(genome)
        assert space.genome(canonical) == genome
        assert space.vector(space.genome(canonical)) == canonical
        assert all(0 <= gene <= upper for gene, upper in zip(canonical, space.upper, strict=True))
        spec = decode(genome, (3, 16, 16), 5)
        infer_shapes(spec)
        assert decode(Genome.from_json(genome.to_json()), (3, 16, 16), 5).digest() == spec.digest()


def test_thousands_of_genomes_through_every_form(draw: Draw) -> None:
    rng = np.random.default_rng(1)
    space = Space(SpaceSettings(motifs=("empty", "FE", "FI", "FBI", "LI", "MI"), inputs=(2, 3, 4)))
    for i in range(2000):
        genome = space.genome(draw(space, rng))
        assert space.genome(space.vector(genome)) == genome
        again = read_released(write_released(genome), channels=16, motif_set="canonical")
        assert again == genome
        if i % 20 == 0:
            assert decode(again, (3, 32, 32), 10).digest() == decode(genome, (3, 32, 32), 10).digest()


def test_unused_genes_are_neutral_and_used_ones_are_not(wide: Make, draw: Draw) -> None:
    rng = np.random.default_rng(2)
    space = wide()
    for _ in range(10):
        vector = draw(space, rng)
        genome, used = space.genome(vector), set(space.used(vector))
        others = [*vector]
        for i in set(range(len(vector))) - used:
            others[i] = int(rng.integers(0, space.upper[i] + 1))
        assert space.genome(others) == genome
        for i in used:
            if space.scale(space.names[i]) == "micro":
                changed = [*vector]
                changed[i] = (vector[i] + 1) % (space.upper[i] + 1)
                assert space.genome(changed) != genome


def test_searched_reductions_may_be_fewer() -> None:
    space = Space(SpaceSettings(cells=5, fewest_cells=4, reductions="searched", motifs=("FE",), operations=("conv3",)))
    values = dict(zip(space.names, space.lower, strict=True))
    values |= {"reduction0": 4, "reduction1": 4, "reduction2": 4, "cells": 0}
    genome = space.genome(tuple(values.values()))
    assert len(genome.cells) == 4
    assert genome.reductions == frozenset()
    assert space.genome(space.vector(genome)) == genome


def test_bad_vectors() -> None:
    space = Space(SpaceSettings())
    with pytest.raises(SettingsError, match=r"^a vector has 121 genes, given 2$"):
        space.genome((0, 0))
    with pytest.raises(SettingsError, match=r"^gene 'cell0.motif' must be a whole number from 0 to 4, given 5$"):
        space.genome((5, *space.lower[1:]))
    with pytest.raises(SettingsError, match=r"^gene 'reach' must be a whole number from 0 to 1, given 0.5$"):
        space.genome((*space.lower[1:], 0.5))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"^unknown gene 'cel0.motif'; did you mean 'cell0.motif'\?$"):
        space.scale("cel0.motif")


def genome(**changes: Any) -> Genome:
    return Space(SpaceSettings(**changes)).genome(Space(SpaceSettings(**changes)).lower)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (genome(channels=8), "genome lies outside the space: 'channels' is 8, allowed: 16"),
        (genome(cells=8), "genome lies outside the space: 'cells' is 8, allowed: 6"),
        (
            genome(operations=("sep3", "conv3")),
            "genome lies outside the space: 'cell0.slot0.operation' is 'sep3', allowed: 'conv3', 'conv5'",
        ),
        (genome(inputs=(4,)), "genome lies outside the space: 'reach' is 4, allowed: 2, 3"),
        (genome(feedback="delayed"), "genome lies outside the space: its settings are those of another space"),
        (genome(reductions="event"), "genome lies outside the space: its settings are those of another space"),
        (
            genome(macro="modules", module_cells=6),
            "genome lies outside the space: 'module0.module0' is 0, allowed: nothing",
        ),
    ],
)
def test_genomes_of_another_space(other: Genome, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Space(SpaceSettings()).vector(other)
    assert str(caught.value) == message


OWN = """
[[motif]]
name = "ring"
circuit = "Three populations in a ring."
inputs = [2, 3]
nodes = ["E1", "E2", "E3"]
edges = ["a -> E1 +", "E1 -> E2 +", "E2 -> E3 +", "E3 => E1 -"]
"""


def test_a_users_motif_travels_inside_the_genome(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    space = Space(SpaceSettings(motifs=("FE", "ring"), motif_file=str(path)))
    vector = (1, *space.lower[1:])
    ring = space.genome(vector)
    assert [motif.name for motif in ring.motifs] == ["ring"]
    assert space.genome(space.lower).motifs == ()
    assert space.genome(space.vector(ring)) == ring
    path.unlink()
    spec = decode(Genome.from_json(ring.to_json()), (3, 32, 32), 10)
    assert [edge.source for edge in spec["cell0.output"].inputs] == ["cell0.E1_fed4", "cell0.E2", "cell0.E3"]


def test_bad_motif_choices(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    with pytest.raises(SettingsError, match=r"^motif 'ring' is not for 4 inputs, only for 2, 3$"):
        Space(SpaceSettings(motifs=("ring",), motif_file=str(path), inputs=(2, 4)))
    with pytest.raises(SettingsError, match=r"^unknown motif 'rin'; did you mean 'ring'\?$"):
        Space(SpaceSettings(motifs=("rin",), motif_file=str(path)))
    path.write_text(OWN.replace("ring", "FE"))
    with pytest.raises(SettingsError, match=r"^motif 'FE' comes with evospike and cannot be defined again"):
        Space(SpaceSettings(motif_file=str(path)))


def test_a_large_motif_widens_every_cell(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace('"a -> E1 +"', ", ".join(['"a -> E1 +"'] * 12)))
    space = Space(SpaceSettings(motifs=("FE", "ring"), motif_file=str(path)))
    assert space.slots == 3 * 12 + 3
    assert len(space.genome((1, *space.lower[1:])).cells[0].links) == 2 * 12 + 3
    with pytest.raises(SettingsError, match=r"^the released layout has no motif 'ring', only empty, "):
        write_released(space.genome((1, *space.lower[1:])))


def test_links_are_those_of_the_slots() -> None:
    space = Space(SpaceSettings(motif_set="as_coded", inputs=(2,), motifs=("FI", "FE")))
    values = [0] * len(space.names)
    values[2], values[3], values[5] = 1, 1, 1  # slots 1, 2 (an identity: neutral) and 4
    assert space.genome(values).cells[0] == Cell(
        "FI", (Link("conv3"), Link("conv5"), Link("conv3"), Link("conv5"), Link("conv3"))
    )


def test_sizes_that_cannot_be_halved(wide: Make) -> None:
    space = Space(SpaceSettings())
    for shape, cell, size in (((1, 28, 28), 4, "7x7"), ((1, 4, 4), 4, "1x1"), ((1, 32, 30), 3, "16x15")):
        with pytest.raises(SpecError) as caught:
            decode(space.genome(space.lower), shape, 10)
        assert str(caught.value) == (
            f"cell {cell} cannot halve an image of {size}, as both sides have to be even; use images whose sides are "
            f"multiples of 8 (given {shape[1]}x{shape[2]}) or fewer reductions"
        )
