"""The connections of a searched genome, one by one and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from evospike.search.decode import decode
from evospike.search.genome import Genome, Link
from evospike.search.motif import MotifEdge

OPERATIONS = {
    "conv3": ("3×3", "3×3 convolution"),
    "conv5": ("5×5", "5×5 convolution"),
    "sep3": ("s3×3", "separable 3×3 convolution"),
    "sep5": ("s5×5", "separable 5×5 convolution"),
    "dil3": ("d3×3", "dilated 3×3 convolution"),
    "dil5": ("d5×5", "dilated 5×5 convolution"),
    "avgpool3": ("avg", "3×3 average pooling"),
    "maxpool3": ("max", "3×3 maximum pooling"),
    "skip": ("skip", "no operation"),
}
"""Of a connection: its label, and what it is called."""

COLUMNS = ("Cell", "From", "To", "Sign", "Operation", "Delay")

NEXT_STEP, SAME_STEP = "feedback in the next step", "feedback in the step"

_SIGNS = {1: ("plus", "excitatory"), -1: ("minus", "inhibitory")}
_UNSIGNED = {"identity": "unchanged", "zero": "nothing passes"}


@dataclass(frozen=True)
class Connection:
    """One line within a cell. sign: in the network. link: what it is made of; None where nothing is computed.

    feedback: when it arrives, empty for one that leads forward.
    """

    edge: MotifEdge
    sign: int
    link: Link | None
    feedback: str

    @property
    def kind(self) -> str:
        """The kind of its line."""
        return _SIGNS[self.sign][0] if self.sign else self.edge.carrier

    @property
    def meaning(self) -> str:
        """What passes."""
        return _SIGNS[self.sign][1] if self.sign else _UNSIGNED[self.edge.carrier]

    @property
    def label(self) -> str:
        """Its operation as it is written in a drawing."""
        return "" if self.link is None else OPERATIONS[self.link.operation][0]

    @property
    def parts(self) -> list[str]:
        """What it is made of."""
        if self.link is None:
            return []
        return [OPERATIONS[self.link.operation][1], *([f"neuron {self.link.neuron}"] if self.link.neuron else [])]

    @property
    def words(self) -> str:
        """All about it."""
        told = [f"{self.edge.source} to {self.edge.target}: {self.meaning}", *self.parts]
        return ", ".join([*told, *([self.feedback] if self.feedback else [])])


def connections_of(genome: Genome) -> dict[int, tuple[Connection, ...]]:
    """Of every cell that has a motif, in the order of its wiring."""
    signs = _signs(genome)
    cells = (index for index in range(len(genome.cells)) if index not in genome.reductions)
    return {index: tuple(_cell(genome, index, signs)) for index in cells}


def reads(index: int, reach: int) -> dict[str, int]:
    """What each input of a cell is, oldest first: 0 the stem, c + 1 cell c (methods 4.5)."""
    return {f"a{reach - back}": max(0, index - back) for back in reversed(range(reach))}


def rows_of(genome: Genome) -> tuple[tuple[str, ...], ...]:
    """Every connection as a row under `COLUMNS`, from the stem to the classifier, modules last."""
    return (*_rows(genome), *_module_rows(genome))


def cell_name(genome: Genome, place: int) -> str:
    """0 the stem, c + 1 cell c, behind the last one the classifier."""
    if place == 0:
        return "Stem"
    return "Classifier" if place > len(genome.cells) else f"Cell {place - 1}: {genome.cells[place - 1].motif}"


def _rows(genome: Genome) -> Iterator[tuple[str, ...]]:
    wired = connections_of(genome)
    for index in range(len(genome.cells)):
        name = cell_name(genome, index + 1)
        if index not in wired:
            yield name, cell_name(genome, index), name, "unchanged", "halves the image", "none"
            continue
        inputs = {port: f"{port} ({_short(genome, place)})" for port, place in reads(index, genome.reach).items()}
        dead = {node: f"{node} (never fires)" for node in genome.motif(index).dead}
        names = {**inputs, **dead}
        for one in wired[index]:
            ends = (names.get(end, end) for end in (one.edge.source, one.edge.target))
            made = [f"{text} ({one.label})" if place == 0 else text for place, text in enumerate(one.parts)]
            yield name, *ends, one.meaning, ", ".join(made) or "none", one.feedback or "none"
    ends = (cell_name(genome, len(genome.cells) + back) for back in (0, 1))
    yield "Classifier", *ends, "unchanged", "global average pool, linear", "none"


def _module_rows(genome: Genome) -> Iterator[tuple[str, ...]]:
    for source, row in enumerate(genome.adjacency):
        for target, joined in enumerate(row):
            if joined:
                ends = f"module {source}", f"module {target}"
                yield "between modules", *ends, "unchanged", "1×1 convolution, resized where sizes differ", "1 step"


def _short(genome: Genome, place: int) -> str:
    return cell_name(genome, place).partition(":")[0].lower()


def _cell(genome: Genome, index: int, signs: dict[str, int]) -> Iterator[Connection]:
    links = dict(zip(genome.motif(index).slots(genome.reach), genome.cells[index].links, strict=True))
    arrives = NEXT_STEP if genome.feedback == "delayed" else SAME_STEP
    for edge in genome.motif(index).wiring(genome.reach):
        link = links[edge.slot] if edge.carrier == "connection" else None
        yield Connection(edge, _sign(index, edge, link, signs), link, arrives if edge.feedback else "")


def _sign(index: int, edge: MotifEdge, link: Link | None, signs: dict[str, int]) -> int:
    """The sign in the network; of a connection that no score depends on, the written one."""
    if link is None:
        return 0
    written = {"+": 1, "-": -1}.get(link.sign, edge.sign)
    return signs.get(f"cell{index}.edge{edge.place}.norm", written)


def _signs(genome: Genome) -> dict[str, int]:
    """The sign of every connection by the name of its last node, as decoded: free signs may have been mended."""
    side = 4 * 2 ** len(genome.reductions)
    spec = decode(genome, (1, side, side), 2)
    return {edge.source: edge.sign for node in spec.nodes for edge in node.inputs}
