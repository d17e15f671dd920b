"""Reading motifs: what is refused, what can fire, which slots they take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.core.errors import SettingsError
from evospike.search.motif import (
    FEWEST_SLOTS,
    Motif,
    MotifEdge,
    can_fire,
    choose_motif,
    own_motifs,
    parse_motifs,
    read_motif_file,
    shipped,
)
from evospike.search.settings import MotifSet, SpaceSettings


def motif(*edges: str, nodes: tuple[str, ...] = ("E1", "E2"), **changes: Any) -> Motif:
    fields: dict[str, Any] = {"name": "own", "circuit": "A test.", "inputs": (2,), "nodes": nodes, "edges": edges}
    return Motif(**{**fields, **changes})


@pytest.mark.parametrize("motif_set", ["canonical", "as_coded"])
def test_shipped_sets_have_every_motif_for_every_number_of_inputs(motif_set: MotifSet) -> None:
    for name in ("empty", "FE", "FI", "FBI", "LI", "MI"):
        for reach in (2, 3, 4):
            found = choose_motif(name, reach, shipped(motif_set))
            wiring = found.wiring(reach)
            assert found.circuit.endswith(".")
            assert [edge.place for edge in wiring] == list(range(len(wiring)))
            assert max(found.slots(reach), default=0) < FEWEST_SLOTS
            assert {edge.target for edge in wiring if not edge.feedback} == set(found.nodes)


def test_only_canonical_motifs_have_no_dead_nodes() -> None:
    assert {m.name for m in shipped("canonical") if m.dead} == {"empty"}
    dead = {(m.name, m.inputs): m.dead for m in shipped("as_coded") if m.dead and m.name != "empty"}
    assert dead == {
        ("FI", (3,)): ("N2",),
        ("MI", (3,)): ("N2",),
        ("FI", (4,)): ("N2",),
        ("FBI", (4,)): ("N2",),
        ("MI", (4,)): ("N2", "N3", "N4"),
    }


def test_wiring_writes_every_input_out_and_puts_feedback_last() -> None:
    edges = motif("a -> E1 +", "a2 -> E2 identity", "E1 -> E2 -", "E2 => E1 -").wiring(2)
    assert [(e.source, e.target, e.carrier, e.sign, e.feedback, e.slot) for e in edges] == [
        ("a1", "E1", "connection", 1, False, 0),
        ("a2", "E1", "connection", 1, False, 1),
        ("a2", "E2", "identity", 0, False, 2),
        ("E1", "E2", "connection", -1, False, 3),
        ("E2", "E1", "connection", -1, True, 4),
    ]
    assert motif("a -> E1 +", "a2 -> E2 identity", "E1 -> E2 -", "E2 => E1 -").slots(2) == (0, 1, 3, 4)


def test_shared_feedback_takes_the_last_place_behind_stray_ones() -> None:
    own = motif("a -> E1 +", "E1 -> E2 +", "E2 => E1 -", "E2 => E1 zero", stray=2, shared_feedback=True)
    assert [edge.slot for edge in own.wiring(2)] == [0, 1, 2, 6, 6]
    assert own.slots(2) == (0, 1, 2, 6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: motif("a -> E1 +", "E1 -> EE2 +"),
            "has an edge 'E1 -> EE2 +' with unknown node 'EE2' for 2 inputs; did you mean 'E2'?",
        ),
        (
            lambda: motif("a3 -> E1 +", "E1 -> E2 +"),
            "has an edge 'a3 -> E1 +' with unknown node 'a3' for 2 inputs; did you mean 'a2'?",
        ),
        (
            lambda: motif("a -> E1 +", "a -> E2 +", "E2 -> E1 +"),
            "has an edge 'E2 -> E1 +' that closes a cycle; write '=>' for feedback, or reorder 'nodes'",
        ),
        (
            lambda: motif("a -> E1 +", "a -> E2 +", "E1 -> E1 +"),
            "has an edge 'E1 -> E1 +' that closes a cycle; write '=>' for feedback, or reorder 'nodes'",
        ),
        (
            lambda: motif("a -> E1 +", "E1 -> E2 +", "E1 => E2 -"),
            "has feedback 'E1 => E2 -' that points forward; feedback leaves a node for one before it or itself",
        ),
        (
            lambda: motif("a -> E1 +", "E1 -> E2 +", "a => E2 -"),
            "has feedback 'a => E2 -' that points forward; feedback leaves a node for one before it or itself",
        ),
        (
            lambda: motif("a -> E1 +", "E1 -> E2 +", "E1 -> a1 +"),
            "has an edge 'E1 -> a1 +' into an input; only feedback '=>' reaches inputs",
        ),
        (
            lambda: motif("E2 => E1 -", "a -> E1 +", "E1 -> E2 +"),
            "has feedback before other edges; write all '=>' edges last",
        ),
        (
            lambda: motif("a -> E1 +", "E1 -> E2 -"),
            "has a node 'E2' that can never fire with 2 inputs, as nothing positive reaches it; "
            "give it a '+' edge, or name it in 'dead'",
        ),
        (
            lambda: motif("a -> E1 zero", "E1 -> E2 +"),
            "has a node 'E1' that can never fire with 2 inputs, as nothing positive reaches it; "
            "give it a '+' edge, or name it in 'dead'",
        ),
        (lambda: motif("a -> E1 +"), "has nothing but feedback into node 'E2'; give it an edge '-> E2'"),
        (
            lambda: motif("a -> E1 +", "a -> E2 +", dead=("E2",)),
            "calls node 'E2' dead, which can fire; take it out of 'dead'",
        ),
        (lambda: motif("a -> E1 +", "a -> E2 +", dead=("E9",)), "calls unknown node 'E9' dead; did you mean 'E2'?"),
        (
            lambda: motif("a -> E1 +", *["a -> E2 +"] * 50),
            "has 102 edges with 2 inputs; a cell carries at most 99",
        ),
        (lambda: motif("a -> E1 +", "a -> E2 +", inputs=(5,)), "is for 5 inputs; a cell has 2, 3 or 4"),
        (lambda: motif("a -> E1 +", nodes=("E1", "E1")), "names node 'E1' twice"),
        (
            lambda: motif("a -> a1 +", nodes=("a1",)),
            "has a node 'a1'; a node is a capital letter, then letters and digits",
        ),
        (lambda: motif("a -> E1 +", name="reduction"), "needs a name other than 'reduction'"),
        (lambda: motif(nodes=()), "has no nodes; name at least one"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make()
    name = "reduction" if "other than" in message else "own"
    assert str(caught.value) == f"motif '{name}' {message}"


@pytest.mark.parametrize("text", ["a E1 +", "a -> E1", "a -> E1 *", "a -> E1 + -", "-> E1 +", "a → E1 +"])
def test_unreadable_edges(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^motif 'own': cannot read edge '.*'; expected 'E1 -> E2 \+' or '=>', "):
        motif(text)


def test_feedback_to_itself_and_into_an_input_is_allowed() -> None:
    assert len(motif("a -> E1 +", "a -> E2 +", "E1 => E1 -", "E2 => a1 -").wiring(2)) == 6


def naive_firing(edges: list[MotifEdge], name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether some path of positive edges leads from an input to a node."""
    if name.startswith("a"):
        return True
    return any(
        naive_firing(edges, edge.source, seen | {name})
        for edge in edges
        if edge.target == name and edge.source not in seen | {name} and (edge.sign == 1 or edge.carrier == "identity")
    )


NODES = ["N0", "N1", "N2", "N3", "N4"]
some_edges = st.lists(
    st.builds(
        lambda source, target, kind: MotifEdge(source, target, *kind, feedback=False),
        st.sampled_from(["a1", "a2", *NODES]),
        st.sampled_from(NODES),
        st.sampled_from([("connection", 1), ("connection", -1), ("connection", -1), ("identity", 0), ("zero", 0)]),
    ),
    max_size=8,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(edges=some_edges)
def test_what_can_fire_is_what_a_positive_path_reaches(edges: list[MotifEdge]) -> None:
    found = can_fire(edges)
    assert {name for name in NODES if naive_firing(edges, name)} == {name for name in found if name in NODES}


TABLE = """
[[motif]]
name = "own"
circuit = "A test."
inputs = [2, 3]
nodes = ["E1"]
edges = ["a -> E1 +"]
"""


def test_a_users_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(TABLE)
    assert read_motif_file(path) == TABLE
    (own,) = own_motifs(SpaceSettings(motif_file=str(path)))
    assert (own.name, own.inputs, own.nodes, own.edges) == ("own", (2, 3), ("E1",), ("a -> E1 +",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds nothing; expected [[motif]] tables and nothing else"),
        (TABLE.replace("[[motif]]", "[[motifs]]"), "holds motifs; expected [[motif]] tables and nothing else"),
        (TABLE.replace("[[motif]]", "[motif]"), "holds motif; expected [[motif]] tables and nothing else"),
        (TABLE.replace("nodes", "node"), "unknown field 'motif[0].node'; did you mean 'nodes'?"),
        (
            TABLE.replace('circuit = "A test."\n', ""),
            "lacks field 'motif[0].circuit'; known: name, circuit, inputs, nodes, edges, dead, stray, shared_feedback",
        ),
        (TABLE.replace("[2, 3]", "2"), "'motif[0].inputs' wants a list, given 2"),
        (TABLE.replace('["E1"]', "[1]"), "'motif[0].nodes[0]' wants text, given 1"),
        (TABLE + TABLE, "motif 'own' for 2 inputs is there twice"),
        (
            TABLE.replace("E1 +", "E1 -"),
            "[motif[0]] motif 'own' has a node 'E1' that can never fire with 2 inputs, as "
            "nothing positive reaches it; give it a '+' edge, or name it in 'dead'",
        ),
    ],
)
def test_bad_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_motif_file(path)
    assert str(caught.value) == f"motif file '{path}': {message}"


def test_no_toml_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^no TOML: .*; expected \[\[motif\]\] tables$"):
        parse_motifs("[[motif")
    with pytest.raises(SettingsError, match=r"^no motif file at '.*none.toml'; give the path"):
        read_motif_file(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"^cannot read motif '.*binary.toml': 'utf-8' codec"):
        read_motif_file(tmp_path / "binary.toml")


def test_choosing() -> None:
    with pytest.raises(SettingsError, match=r"^unknown motif 'FEE'; did you mean 'FE'\?$"):
        choose_motif("FEE", 2, shipped("canonical"))
    with pytest.raises(SettingsError, match=r"^motif 'own' is not for 3 inputs, only for 2$"):
        choose_motif("own", 3, [motif("a -> E1 +", "a -> E2 +")])
