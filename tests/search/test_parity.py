"""Decoded cells against the released templates and the canonical circuits, written down here independently.

A cell is evaluated symbolically: a state is the sorted sum of its currents; a current is an input, or a sign, a kernel
and the state whose spikes it carries. Two cells are the same circuit when their states are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from evospike.core.errors import SettingsError
from evospike.models.spec import NetworkSpec
from evospike.search.codec import read_released, write_released
from evospike.search.decode import decode
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import REDUCTION
from evospike.search.settings import MotifSet

Current = tuple[Any, ...]
State = tuple[Current, ...]

NAMES = ["empty", "FE", "FI", "FBI", "LI", "MI"]

# Templates as flat lists of entries: p and n are connections, i passes unchanged, z nothing; the number is the state,
# inputs first. K entries make a node and what is left over makes none. After '=>' the back entries, with their targets.
TEMPLATES = {
    2: [
        "z0 z1 z2",
        "p0 p1 i0 p2",
        "p0 p1 i0 n2 p2 n3",
        "p0 p1 i0 n2 i0 p3 => i2 c3",
        "p0 p1 p0 p1 p2 p3 i0 p4 i0 p4",
        "p0 p1 i0 p2 => i2",
    ],
    3: [
        "z0 z1 z2",
        "p0 p1 p2 z0 p3 z1",
        "p0 p1 p2 z0 n3 z1 p3 n4 z1",
        "p0 p1 p2 z0 p3 z1 z0 p3 z1 => c3 z2",
        "p0 p1 p2 p0 p1 p2 z0 p3 p4 z0 p3 n5 z0 p4 n5",
        "p0 p1 p2 z0 z1 n3 => i3",
    ],
    4: [
        "z0 z1 z2 z3",
        "p0 p1 p2 p3 z0 p4 z1 z2 z0 p5 z1 z2 z0 p5 z1 z2",
        "p0 p1 p2 p3 z0 n4 z1 z2 p4 n5 z1 z2",
        "p0 p1 p2 p3 z0 z2 z1 z3 p4 z0 p4 z1 z2 => c4 z4",
        "p0 p1 p2 p3 p0 z1 n4 z3 z0 p3 n4 z2",
        "p0 p1 p2 p3 z0 z1 z2 n4 z0 z1 n4 n5 z0 z1 n4 n5 => c4 z4 z5",
    ],
}

# The canonical circuits: node = its currents, in order; 'a' every input; => changes a node for those after it.
CIRCUITS = {
    "empty": ["X ="],
    "FE": ["E1 = +a", "E2 = +E1"],
    "FI": ["E1 = +a", "I = +E1", "E2 = +E1 -I"],
    "FBI": ["E1 = +a", "I = +E1", "=> E1 -I", "E2 = +E1"],
    "LI": ["E1 = +a", "E2 = +a", "I = +E1 +E2", "O1 = +E1 -I", "O2 = +E2 -I"],
    "MI": ["E1 = +a", "E2 = +a -E1", "=> E1 -E2"],
}


def released_states(template: str, kernels: Sequence[int], reach: int) -> list[State]:
    """The nodes of a template as the released decoder computes them; kernels: genes 1.. of the cell."""
    forward, _, backward = template.partition("=>")
    entries, back = forward.split(), backward.split()
    states: list[State] = [(("input", i),) for i in range(reach)]
    for node in range(len(entries) // reach):
        total: list[Current] = []
        for place in range(node * reach, (node + 1) * reach):
            kind, source = entries[place][0], states[int(entries[place][1:])]
            if kind == "i":
                total += source
            elif kind != "z":
                total.append((1 if kind == "p" else -1, kernels[place], source))
        state = tuple(sorted(total, key=repr))
        if back and node >= 1:
            kind, target = back[node - 1][0], int(back[node - 1][1:])
            shared = kernels[len(entries) + len(back) - 1]
            added = {"i": state, "z": (), "c": ((1, shared, state),)}[kind]
            states[target] = tuple(sorted([*states[target], *added], key=repr))
        states.append(state)
    return states[reach:]


def canonical_states(circuit: Sequence[str], kernels: Sequence[int], reach: int) -> list[State]:
    states: dict[str, State] = {f"a{i}": (("input", i),) for i in range(reach)}
    given = iter(kernels)
    for line in circuit:
        target, *terms = line.replace("=> ", "").replace(" =", "").split()
        total: list[Current] = list(states.get(target, ()))
        for term in terms:
            sources = [f"a{i}" for i in range(reach)] if term[1:] == "a" else [term[1:]]
            total += [(1 if term[0] == "+" else -1, next(given), states[source]) for source in sources]
        states[target] = tuple(sorted(total, key=repr))
    return [state for name, state in states.items() if not name.startswith("a")]


def decoded_states(spec: NetworkSpec, cell: int, reach: int) -> list[State]:
    """The states that a cell's output joins, by walking the specification back to the cell's inputs."""
    nodes = {node.name: node for node in spec.nodes}

    def state(name: str) -> State:
        node = nodes[name]
        for i in range(reach):
            if node.op == "norm" and name.startswith(f"cell{cell}.a{i + 1}."):
                return (("input", i),)
        if node.op == "zeros":
            return ()
        assert node.op == "add", name
        total: list[Current] = []
        for edge in node.inputs:
            if nodes[edge.source].op == "norm" and ".edge" in edge.source:
                conv = nodes[nodes[edge.source].inputs[0].source]
                neuron = nodes[conv.inputs[0].source]
                assert (conv.op, neuron.op) == ("conv", "neuron")
                total.append((edge.sign, (conv.integer("kernel") - 3) // 2, state(neuron.inputs[0].source)))
            else:
                assert edge.sign == 0
                total += state(edge.source)
        return tuple(sorted(total, key=repr))

    return [state(edge.source) for edge in nodes[f"cell{cell}.output"].inputs]


def released_vector(motif: int, reach: int, rng: np.random.Generator, cells: int = 6) -> list[int]:
    genes = [[motif, *(int(k) for k in rng.integers(0, 2, 19))] for _ in range(cells)]
    return [gene for cell in genes for gene in cell] + [reach]


@pytest.mark.parametrize("reach", [2, 3, 4])
@pytest.mark.parametrize("motif", range(6))
def test_released_templates(motif: int, reach: int) -> None:
    rng = np.random.default_rng(motif)
    for _ in range(20):
        values = released_vector(motif, reach, rng)
        genome = read_released(values)
        spec = decode(genome, (3, 32, 32), 10)
        assert genome.reductions == {1, 3, 4}
        for cell in (0, 2, 5):
            kernels = values[20 * cell + 1 : 20 * cell + 20]
            expected = released_states(TEMPLATES[reach][motif], kernels, reach)
            assert decoded_states(spec, cell, reach) == expected


@pytest.mark.parametrize("reach", [2, 3, 4])
@pytest.mark.parametrize("motif", NAMES)
def test_canonical_circuits(motif: str, reach: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = released_vector(NAMES.index(motif), reach, rng)
        spec = decode(read_released(values, motif_set="canonical"), (3, 32, 32), 10)
        for cell in (0, 2, 5):
            kernels = values[20 * cell + 1 : 20 * cell + 20]
            # Feedback comes last among the slots, wherever the circuit is computed.
            circuit = CIRCUITS[motif]
            ordered = _kernels_in_order_of_computation(circuit, kernels, reach)
            assert decoded_states(spec, cell, reach) == canonical_states(circuit, ordered, reach)


def _kernels_in_order_of_computation(circuit: Sequence[str], kernels: Sequence[int], reach: int) -> list[int]:
    counts = [sum(reach if term[1:] == "a" else 1 for term in line.split() if term[0] in "+-") for line in circuit]
    feedback = [line.startswith("=>") for line in circuit]
    starts: dict[int, int] = {}
    place = 0
    for last in (False, True):
        for line, count in enumerate(counts):
            if feedback[line] == last:
                starts[line] = place
                place += count
    return [kernels[starts[line] + i] for line, count in enumerate(counts) for i in range(count)]


def test_a_hand_written_decoding_with_two_inputs() -> None:
    """FI: the second node keeps the oldest input unchanged and is inhibited through gene 4."""
    values = [0] * 20 * 6 + [2]
    values[:7] = [2, 0, 1, 1, 1, 0, 1]  # slot 2 is the identity: its gene is neutral
    assert read_released(values).cells[0] == Cell(
        "FI", tuple(Link(op) for op in ("conv3", "conv5", "conv5", "conv3", "conv5"))
    )
    assert read_released(values).cells[1] == Cell(REDUCTION)
    spec = decode(read_released(values), (3, 32, 32), 10)
    assert [(edge.source, edge.sign) for edge in spec["cell0.N2"].inputs] == [
        ("cell0.a1.norm", 0),
        ("cell0.edge3.norm", -1),
    ]
    assert spec["cell0.edge3.conv"].args["kernel"] == 5
    assert [(e.source, e.sign) for e in spec["cell0.N3"].inputs] == [("cell0.edge4.norm", 1), ("cell0.edge5.norm", -1)]


def test_a_hand_written_decoding_with_three_inputs() -> None:
    """FBI: feedback is excitatory and reads gene 11, the number of entries with the back entries."""
    values = [0] * 20 * 6 + [3]
    values[0], values[11] = 3, 1
    spec = decode(read_released(values), (3, 32, 32), 10)
    assert [edge.sign for edge in spec["cell0.N1_fed9"].inputs] == [0, 1]
    assert spec["cell0.edge9.conv"].args["kernel"] == 5
    assert all(
        node.args["kernel"] == 3
        for node in spec.nodes
        if node.op == "conv" and node.name.startswith("cell0.edge") and "edge9" not in node.name
    )
    assert [edge.source for edge in spec["cell0.output"].inputs] == ["cell0.N1_fed9", "cell0.N2", "cell0.N3"]


def test_the_spare_gene_is_read_by_the_longest_motif_only() -> None:
    for reach in (2, 3, 4):
        for motif in range(6):
            values = [motif, *[0] * 19] * 6 + [reach]
            changed = [*values]
            changed[19] = 1
            same = read_released(values) == read_released(changed)
            assert same == ((motif, reach) != (5, 4))


@pytest.mark.parametrize("motif_set", ["canonical", "as_coded"])
@pytest.mark.parametrize("rule", ["static", "event"])
def test_round_trip(motif_set: MotifSet, rule: Any) -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        cells = int(rng.integers(4, 9))
        values = [int(g) for _ in range(cells) for g in (rng.integers(0, 6), *rng.integers(0, 2, 19))]
        genome = read_released([*values, int(rng.integers(2, 5))], channels=4, motif_set=motif_set, reductions=rule)
        written = write_released(genome)
        assert len(written) == 20 * cells + 1
        assert read_released(written, channels=4, motif_set=motif_set, reductions=rule) == genome


def with_gene(place: int, value: int) -> list[int]:
    values = [1, *[0] * 19] * 6 + [2]
    values[place] = value
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0] * 120, "a released genome has 20 integers a cell and one more, given 120"),
        ([2], "a released genome has 20 integers a cell and one more, given 1"),
        (with_gene(20, 6), "gene 0 of cell 1 is 6; expected one of 0, 1, 2, 3, 4, 5"),
        (with_gene(23, 2), "gene 3 of cell 1 is 2; expected one of 0, 1"),
        (with_gene(39, 3), "gene 19 of cell 1 is 3; expected one of 0, 1, 2"),
        (with_gene(120, 5), "last gene (K) is 5; expected one of 2, 3, 4"),
    ],
)
def test_bad_vectors(values: list[int], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_released(values)
    assert str(caught.value) == message


def one_cell(**changes: Any) -> Genome:
    fields: Mapping[str, Any] = {
        "cells": (Cell("FE", (Link("conv3"),) * 3), Cell(REDUCTION)),
        "reach": 2,
        "channels": 4,
        "motif_set": "canonical",
        "feedback": "same_step",
    }
    return Genome(**{**fields, **changes})


@pytest.mark.parametrize(
    ("genome", "message"),
    [
        (
            one_cell(module_cells=2, adjacency=((0,),)),
            "the released layout has no modules; search with macro = 'recent'",
        ),
        (
            one_cell(cells=(Cell(REDUCTION), Cell("FE", (Link("conv3"),) * 3))),
            "the released layout has no reductions at cells [0]; use 'static' or 'event'",
        ),
        (
            one_cell(cells=(Cell("FE", (Link("conv3"), Link("sep3"), Link("conv3"))), Cell(REDUCTION))),
            "cell 0, slot 1: the released layout has only conv3 and conv5 with the network's neuron and "
            "the motif's sign",
        ),
    ],
)
def test_what_the_layout_cannot_say(genome: Genome, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        write_released(genome)
    assert str(caught.value) == message
