"""Circuit motifs: small graphs of populations, read from TOML in the notation of methods 4.4.

    a -> E1 +         every input of the cell excites E1; a1 is the oldest input, aK the most recent
    I => E1 -         feedback, whose target lies before its source or is its source
    a1 -> E2 identity the state passes unchanged; `zero` instead: nothing passes

A connection (`+` or `-`) has an operation, which the genome chooses in the connection's slot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from evospike.core.errors import SettingsError
from evospike.core.files import read_text
from evospike.core.limits import MOST_SETTINGS_BYTES
from evospike.core.settings import Settings, nearest, parse_toml, require
from evospike.core.text import shortened
from evospike.search.record import read_record
from evospike.search.settings import REACHES, MotifSet, SpaceSettings

Carrier = Literal["connection", "identity", "zero"]

FEWEST_SLOTS = 19
"""Slots of a cell in the released layout; a cell never has fewer."""

MOST_SLOTS = 99
"""A motif of more edges is refused."""

REDUCTION = "reduction"
"""Stands in a genome where a reduction cell has no motif; no motif is called so."""

_EDGE = re.compile(r"(\w+)\s*(->|=>)\s*(\w+)\s+(\+|-|identity|zero)")
_NODE = re.compile(r"[A-Z][A-Za-z0-9]*")
_CARRIERS: dict[str, tuple[Carrier, int]] = {
    "+": ("connection", 1),
    "-": ("connection", -1),
    "identity": ("identity", 0),
    "zero": ("zero", 0),
}


@dataclass(frozen=True)
class MotifEdge:
    """One edge of a motif for a known number of inputs.

    source: an input a1..aK or a node. sign: +1 or -1 of a connection, else 0.
    place: of the edge among all edges of the motif, from 0. slot: of its operation in the cell; edges may share one.
    """

    source: str
    target: str
    carrier: Carrier
    sign: int
    feedback: bool
    place: int = 0
    slot: int = 0


@dataclass(frozen=True)
class Motif(Settings):
    """A circuit of populations.

    nodes: in the order in which they are computed; a cell gives all of them. edges: in the notation above; they take
    slots in this order, feedback last. inputs: values of K it is for.
    dead: nodes that are known never to fire, because nothing positive reaches them; any other such node is refused.
    stray, shared_feedback: of the released templates only: unused places between forward and feedback edges, and
    feedback connections that all share the last slot (methods 4.6).
    """

    name: str
    circuit: str
    inputs: tuple[int, ...]
    nodes: tuple[str, ...]
    edges: tuple[str, ...]
    dead: tuple[str, ...] = ()
    stray: int = 0
    shared_feedback: bool = False

    def validate(self) -> None:
        self._check(bool(self.name) and self.name != REDUCTION, f"needs a name other than '{REDUCTION}'")
        self._check(bool(self.inputs), "is for no number of inputs; give inputs = [2, 3, 4]")
        for reach in self.inputs:
            self._check(reach in REACHES, f"is for {reach} inputs; a cell has 2, 3 or 4")
        self._check(bool(self.nodes), "has no nodes; name at least one")
        self._check(0 <= self.stray <= MOST_SLOTS, f"has stray = {self.stray}; expected 0 to {MOST_SLOTS}")
        for what, names in (("nodes", self.nodes), ("edges", self.edges), ("dead nodes", self.dead)):
            self._check(len(names) <= MOST_SLOTS, f"has {len(names)} {what}; a cell carries at most {MOST_SLOTS}")
        for node in self.nodes:
            self._check(
                _NODE.fullmatch(node) is not None,
                f"has a node '{node}'; a node is a capital letter, then letters and digits",
            )
            self._check(self.nodes.count(node) == 1, f"names node '{node}' twice")
        for node in self.dead:
            if node not in self.nodes:
                self._check(False, f"calls unknown node '{shortened(node)}' dead; {nearest(node, list(self.nodes))}")
        for reach in self.inputs:
            self._validate_wiring(reach)

    def _validate_wiring(self, reach: int) -> None:
        edges = self.wiring(reach)
        self._check(
            len(edges) + self.stray <= MOST_SLOTS,
            f"has {len(edges) + self.stray} edges with {reach} inputs; a cell carries at most {MOST_SLOTS}",
        )
        for node in self.nodes:
            self._check(
                any(edge.target == node and not edge.feedback for edge in edges),
                f"has nothing but feedback into node '{node}'; give it an edge '-> {node}'",
            )
        firing = can_fire(edges)
        for node in self.nodes:
            if node in self.dead:
                self._check(node not in firing, f"calls node '{node}' dead, which can fire; take it out of 'dead'")
            else:
                self._check(
                    node in firing,
                    f"has a node '{node}' that can never fire with {reach} inputs, as nothing positive reaches it; "
                    "give it a '+' edge, or name it in 'dead'",
                )

    def wiring(self, reach: int) -> tuple[MotifEdge, ...]:
        """The edges for `reach` inputs, those of `a` written out, in slot order. Raises: SettingsError."""
        return _wiring(self, reach)

    def slots(self, reach: int) -> tuple[int, ...]:
        """The slots that hold an operation, in order."""
        return tuple(sorted({edge.slot for edge in self.wiring(reach) if edge.carrier == "connection"}))

    def parse(self, text: str, reach: int) -> list[MotifEdge]:
        """The edges that one text stands for, not yet in slots. Raises: SettingsError."""
        found = _EDGE.fullmatch(text.strip())
        if found is None:
            raise SettingsError(
                f"motif '{shortened(self.name)}': cannot read edge '{shortened(text)}'; expected 'E1 -> E2 +' or '=>', "
                "ending in +, -, identity or zero"
            )
        source, arrow, target, ending = found.groups()
        carrier, sign = _CARRIERS[ending]
        inputs = [f"a{i + 1}" for i in range(reach)]
        for name in (source, target):
            if name not in ("a", *inputs, *self.nodes):
                near = nearest(name, [*inputs, *self.nodes])
                self._check(
                    False,
                    f"has an edge '{shortened(text)}' with unknown node '{shortened(name)}' for {reach} inputs; {near}",
                )
        feedback = arrow == "=>"
        self._check_direction(text, source, target, feedback)
        return [
            MotifEdge(one, other, carrier, sign, feedback)
            for one in (inputs if source == "a" else [source])
            for other in (inputs if target == "a" else [target])
        ]

    def _check_direction(self, text: str, source: str, target: str, feedback: bool) -> None:
        order = {node: i for i, node in enumerate(self.nodes)}
        before, after = order.get(source, -1), order.get(target, -1)
        if feedback:
            self._check(
                source in order and after <= before,
                f"has feedback '{text}' that points forward; feedback leaves a node for one before it or itself",
            )
            return
        self._check(target in order, f"has an edge '{text}' into an input; only feedback '=>' reaches inputs")
        self._check(
            before < after,
            f"has an edge '{text}' that closes a cycle; write '=>' for feedback, or reorder 'nodes'",
        )

    def _check(self, condition: bool, complaint: str) -> None:
        require(condition, f"motif '{shortened(self.name)}' {complaint}")


@cache
def _wiring(motif: Motif, reach: int) -> tuple[MotifEdge, ...]:
    parsed = [edge for text in motif.edges for edge in motif.parse(text, reach)]
    ordered = sorted(parsed, key=lambda edge: edge.feedback)
    require(parsed == ordered, f"motif '{motif.name}' has feedback before other edges; write all '=>' edges last")
    last = len(parsed) + motif.stray - 1
    return tuple(
        replace(edge, place=place, slot=last if edge.feedback and motif.shared_feedback else place)
        for place, edge in enumerate(parsed)
    )


def can_fire(edges: Iterable[MotifEdge]) -> set[str]:
    """Nodes that something positive can reach: an input or a firing node through a `+` connection or unchanged."""
    edges = [edge for edge in edges if edge.carrier == "identity" or edge.sign > 0]
    firing: set[str] = {edge.source for edge in edges if edge.source.startswith("a")}
    while True:
        reached = {edge.target for edge in edges if edge.source in firing}
        if reached <= firing:
            return firing
        firing |= reached


@cache
def shipped(motif_set: MotifSet) -> tuple[Motif, ...]:
    """The motifs of a set that comes with evospike."""
    text = files("evospike.search").joinpath("motifs", f"{motif_set}.toml").read_text(encoding="utf-8")
    return parse_motifs(text)


def read_motif_file(path: str | Path) -> str:
    """The text of a user's file of motifs, which are sound. Raises: SettingsError naming the file and the motif."""
    path = Path(path)
    if not os.path.isfile(path):  # never raises, whatever the name holds
        raise SettingsError(f"no motif file at '{path}'; give the path of a TOML file with [[motif]] tables")
    text = read_text(path, "motif", MOST_SETTINGS_BYTES, SettingsError)
    try:
        parse_motifs(text)
    except SettingsError as error:
        raise SettingsError(f"motif file '{path}': {error}") from None
    return text


def own_motifs(settings: SpaceSettings) -> tuple[Motif, ...]:
    """The motifs of a space that do not come with evospike. Raises: SettingsError."""
    if settings.motif_file:
        return parse_motifs(read_motif_file(settings.motif_file))
    try:
        return parse_motifs(settings.own_motifs) if settings.own_motifs else ()
    except SettingsError as error:
        raise SettingsError(f"own_motifs: {error}") from None


def parse_motifs(text: str) -> tuple[Motif, ...]:
    """The `[[motif]]` tables of a TOML text. Raises: SettingsError."""
    try:
        tables = parse_toml(text)
    except ValueError as error:
        raise SettingsError(f"no TOML: {error}; expected [[motif]] tables") from None
    if list(tables) != ["motif"] or not isinstance(tables["motif"], list):
        raise SettingsError(
            f"holds {shortened(', '.join(tables)) or 'nothing'}; expected [[motif]] tables and nothing else"
        )
    motifs = tuple(read_record(Motif, table, f"motif[{i}].") for i, table in enumerate(tables["motif"]))
    taken: set[tuple[str, int]] = set()
    for motif in motifs:
        for reach in motif.inputs:
            require((motif.name, reach) not in taken, f"motif '{motif.name}' for {reach} inputs is there twice")
            taken.add((motif.name, reach))
    return motifs


def choose_motif(name: str, reach: int, motifs: Iterable[Motif]) -> Motif:
    """The motif of a name for `reach` inputs. Raises: SettingsError with the nearest name."""
    motifs = list(motifs)
    for motif in motifs:
        if motif.name == name and reach in motif.inputs:
            return motif
    names = list(dict.fromkeys(motif.name for motif in motifs))
    if name in names:
        known = sorted({k for motif in motifs if motif.name == name for k in motif.inputs})
        raise SettingsError(f"motif '{name}' is not for {reach} inputs, only for {', '.join(map(str, known))}")
    raise SettingsError(f"unknown motif '{shortened(name)}'; {nearest(name, names)}")
