"""The record of a genome and its JSON: nothing is lost, and every slip of a hand is named in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evospike.core.errors import SettingsError
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import REDUCTION, Motif
from evospike.search.space import Space, Vector

OWN = Motif("own", "A test.", (2, 3), ("E1",), ("a -> E1 +",))


def genome(**changes: Any) -> Genome:
    fields: dict[str, Any] = {
        "cells": (
            Cell("MI", (Link("conv3"), Link("sep5", "lif:0.5:1.0"), *(Link("skip", sign="-"),) * 4)),
            Cell(REDUCTION),
            Cell("own", (Link("conv5"), Link("maxpool3"))),
        ),
        "reach": 2,
        "channels": 8,
        "motif_set": "canonical",
        "feedback": "delayed",
        "module_cells": 2,
        "adjacency": ((0, 1), (1, 0)),
        "motifs": (OWN,),
    }
    return Genome(**{**fields, **changes})


def test_json_is_canonical_and_complete() -> None:
    text = genome().to_json()
    assert Genome.from_json(text) == genome()
    assert Genome.from_json(text).to_json() == text
    plain = json.loads(text)
    assert text == json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert plain["cells"][0]["links"][1] == {"operation": "sep5", "neuron": "lif:0.5:1.0", "sign": ""}
    assert plain["motifs"][0]["edges"] == ["a -> E1 +"]
    assert Genome.from_json(json.dumps(plain, indent=2)) == genome()


def test_what_may_be_left_out_has_its_default() -> None:
    plain = json.loads(genome(cells=(Cell("FE", (Link("conv3"),) * 3),), module_cells=0, adjacency=()).to_json())
    for link in plain["cells"][0]["links"]:
        del link["neuron"], link["sign"]
    for name in ("module_cells", "adjacency", "motifs"):
        del plain[name]
    assert Genome.from_json(json.dumps(plain)) == genome(
        cells=(Cell("FE", (Link("conv3"),) * 3),), module_cells=0, adjacency=(), motifs=()
    )


def test_reductions_and_modules() -> None:
    assert genome().reductions == {1}
    assert genome().modules == 2
    assert genome(module_cells=0, adjacency=()).modules == 0


Edit = Callable[[dict[str, Any]], Any]


def put(*path: str | int, value: Any) -> Edit:
    def edit(plain: dict[str, Any]) -> None:
        place: Any = plain
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


def drop(*path: str | int) -> Edit:
    def edit(plain: dict[str, Any]) -> None:
        place: Any = plain
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("cells", 0, "motif", value="MII"), "genome: cells[0]: unknown motif 'MII'; did you mean 'MI'?"),
        (
            put("cells", 0, "links", 0, "operation", value="conv4"),
            "genome: 'cells[0].links[0].operation' cannot be 'conv4'; did you mean 'conv5'? "
            "(one of: conv3, conv5, sep3, sep5, dil3, dil5, avgpool3, maxpool3, skip)",
        ),
        (
            put("cells", 0, "links", 0, "kernel", value=3),
            "genome: unknown field 'cells[0].links[0].kernel'; known: neuron, operation, sign",
        ),
        (
            drop("cells", 0, "links", 1, "operation"),
            "genome: lacks field 'cells[0].links[1].operation'; known: operation, neuron, sign",
        ),
        (
            drop("reach"),
            "genome: lacks field 'reach'; known: cells, reach, channels, motif_set, feedback, module_cells, "
            "adjacency, motifs",
        ),
        (put("reac", value=2), "genome: unknown field 'reac'; did you mean 'reach'?"),
        (put("reach", value="2"), "genome: 'reach' wants a whole number, given '2'"),
        (put("reach", value=True), "genome: 'reach' wants a whole number, given True"),
        (put("reach", value=5), "genome: 'reach' must be 2, 3 or 4, given 5"),
        (put("channels", value=0), "genome: 'channels' must be at least 1, given 0"),
        (put("cells", value={}), "genome: 'cells' wants a list, given {}"),
        (put("cells", value=[]), "genome: a genome has at least one cell, given none"),
        (
            put("cells", 0, value="FE"),
            "genome: 'cells[0]' is a section, given 'FE'; set its fields, as in cells[0].field=value",
        ),
        (
            put("cells", 1, "links", value=[{"operation": "skip"}]),
            "genome: cells[1] is a reduction and takes no links, given 1",
        ),
        (
            drop("cells", 0, "links", 5),
            "genome: cells[0] has 5 links; motif 'MI' with reach 2 takes 6",
        ),
        (
            put("cells", 0, "links", 0, "neuron", value="lif:0:1"),
            "genome: [cells[0].links[0]] neuron 'lif:0:1': 'decay' must lie in (0, 1], given 0.0",
        ),
        (
            put("cells", 0, "links", 0, "sign", value="plus"),
            "genome: 'cells[0].links[0].sign' cannot be 'plus'; known: , +, -",
        ),
        (
            put("feedback", value="delay"),
            "genome: 'feedback' cannot be 'delay'; did you mean 'delayed'? (one of: same_step, delayed)",
        ),
        (put("reach", value=4), "genome: cells[0] has 6 links; motif 'MI' with reach 4 takes 10"),
        (
            put("adjacency", value=[[0]]),
            "genome: 'adjacency' must be 2 rows of 2, one per module of 2 cells, given [[0]]",
        ),
        (put("adjacency", 0, 0, value=2), "genome: 'adjacency' holds 0 and 1, given 2"),
        (put("motifs", 0, "name", value="FE"), "genome: motif 'FE' is defined already; give it a name of its own"),
        (put("motifs", value=[]), "genome: cells[2]: unknown motif 'own'; known: FBI, FE, FI, LI, MI, empty"),
        (put("format", value=2), "genome has format 2; this release reads format 1, use the release that wrote it"),
        (drop("format"), "genome has format None; this release reads format 1, use the release that wrote it"),
    ],
)
def test_slips_of_a_hand(edit: Edit, message: str) -> None:
    plain = json.loads(genome().to_json())
    edit(plain)
    with pytest.raises(SettingsError) as caught:
        Genome.from_json(json.dumps(plain))
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_no_genome(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^not a genome: .*; expected JSON written by Genome.to_json$") as caught:
        Genome.from_json(text)
    assert "\n" not in str(caught.value)


def test_random_genomes_survive_json(wide: Callable[..., Space], draw: Callable[..., Vector]) -> None:
    rng = np.random.default_rng(0)
    space = wide()
    for _ in range(200):
        drawn = space.genome(draw(space, rng))
        assert Genome.from_json(drawn.to_json()) == drawn


@pytest.mark.parametrize("seed", range(6))
def test_any_damaged_value_is_one_line(seed: int, wide: Callable[..., Space], draw: Callable[..., Vector]) -> None:
    """Every value of a genome in turn takes a wrong type: SettingsError, in one line, and nothing else."""
    rng = np.random.default_rng(seed)
    space = wide()
    plain = json.loads(space.genome(draw(space, rng)).to_json())
    paths = list(_paths(plain))
    for path in [paths[i] for i in rng.choice(len(paths), 20)]:
        for wrong in (None, {"x": 1}, 1.5, "conv"):
            damaged = json.loads(json.dumps(plain))
            put(*path, value=wrong)(damaged)
            with pytest.raises(SettingsError) as caught:
                Genome.from_json(json.dumps(damaged))
            assert "\n" not in str(caught.value)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


def test_numbers_and_brackets_without_end_are_one_line() -> None:
    for hostile in ('{"format": ' + "9" * 5000 + "}", "[" * 100_000):
        with pytest.raises(SettingsError, match="not a genome"):
            Genome.from_json(hostile)
