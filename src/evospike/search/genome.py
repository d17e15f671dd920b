"""A genome: everything that decides a searched architecture, as a record and as JSON (methods 4.6).

Only what is used is written: a cell has one link for each slot of its motif that holds an operation, a reduction cell
has none. `search.space` gives the same as a vector of integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from evospike.core.errors import SettingsError
from evospike.core.files import canonical_json, parse_json
from evospike.core.settings import Settings, plain, require
from evospike.core.text import shown
from evospike.search.motif import REDUCTION, Motif, choose_motif, shipped
from evospike.search.record import read_record
from evospike.search.settings import MOST_CELLS, MOST_MODULES, REACHES, Feedback, MotifSet, Operation, parse_neuron

FORMAT = 1

Sign = Literal["", "+", "-"]


@dataclass(frozen=True)
class Link(Settings):
    """What one connection is made of.

    neuron: `kind:decay:threshold` of the neuron in front; empty: the network's own. sign: empty: the motif's.
    """

    operation: Operation
    neuron: str = ""
    sign: Sign = ""

    def validate(self) -> None:
        if self.neuron:
            parse_neuron(self.neuron)


@dataclass(frozen=True)
class Cell(Settings):
    """A motif and one link for each of its slots that holds an operation; a reduction cell has neither."""

    motif: str
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Genome(Settings):
    """An architecture but for the size of its images and its classes.

    cells: in order; reach: K, how many preceding cells each reads; channels: C, a node's width before any reduction.
    module_cells, adjacency: cells per module, and 1 where module i (row) feeds module j (column) one step later;
        without modules 0 and empty.
    motifs: definitions of the motifs that do not come with evospike.
    """

    cells: tuple[Cell, ...]
    reach: int
    channels: int
    motif_set: MotifSet
    feedback: Feedback
    module_cells: int = 0
    adjacency: tuple[tuple[int, ...], ...] = ()
    motifs: tuple[Motif, ...] = ()

    def validate(self) -> None:
        require(bool(self.cells), "a genome has at least one cell, given none")
        require(len(self.cells) <= MOST_CELLS, f"a genome has at most {MOST_CELLS} cells, given {len(self.cells)}")
        require(self.reach in REACHES, f"'reach' must be 2, 3 or 4, given {self.reach}")
        require(self.channels >= 1, f"'channels' must be at least 1, given {self.channels}")
        names = {motif.name for motif in shipped(self.motif_set)}
        for motif in self.motifs:
            require(motif.name not in names, f"motif '{motif.name}' is defined already; give it a name of its own")
            names.add(motif.name)
        for index in range(len(self.cells)):
            self._validate_cell(index)
        self._validate_modules()

    def _validate_cell(self, index: int) -> None:
        cell = self.cells[index]
        if cell.motif == REDUCTION:
            require(not cell.links, f"cells[{index}] is a reduction and takes no links, given {len(cell.links)}")
            return
        try:
            wanted = len(self.motif(index).slots(self.reach))
        except SettingsError as error:
            raise SettingsError(f"cells[{index}]: {error}") from None
        require(
            len(cell.links) == wanted,
            f"cells[{index}] has {len(cell.links)} links; motif '{cell.motif}' with reach {self.reach} takes {wanted}",
        )

    def _validate_modules(self) -> None:
        require(self.module_cells >= 0, f"'module_cells' must not be negative, given {self.module_cells}")
        modules = self.modules
        require(modules <= MOST_MODULES, f"a genome has at most {MOST_MODULES} modules, given {modules}")
        require(
            len(self.adjacency) == modules and all(len(row) == modules for row in self.adjacency),
            f"'adjacency' must be {modules} rows of {modules}, one per module of {self.module_cells} cells, "
            f"given {shown([list(row) for row in self.adjacency])}",
        )
        for row in self.adjacency:
            for entry in row:
                require(entry in (0, 1), f"'adjacency' holds 0 and 1, given {entry}")

    def motif(self, index: int) -> Motif:
        """The motif of a cell that is no reduction. Raises: SettingsError with the nearest name."""
        return choose_motif(self.cells[index].motif, self.reach, (*shipped(self.motif_set), *self.motifs))

    @property
    def modules(self) -> int:
        """Number of modules; 0 without."""
        return -(-len(self.cells) // self.module_cells) if self.module_cells else 0

    @property
    def reductions(self) -> frozenset[int]:
        """Indices of the reduction cells."""
        return frozenset(i for i, cell in enumerate(self.cells) if cell.motif == REDUCTION)

    def to_json(self) -> str:
        """The genome as JSON text, equal for equal genomes."""
        return canonical_json({"format": FORMAT, **plain(self)})

    @classmethod
    def from_json(cls, text: str) -> Genome:
        """Read what `to_json` wrote, or a person edited. Raises: SettingsError naming the field."""
        values = _read_object(text)
        found = values.pop("format", None)
        if found != FORMAT:
            raise SettingsError(
                f"genome has format {shown(found)}; this release reads format {FORMAT}, use the release that wrote it"
            )
        try:
            return read_record(cls, values)
        except SettingsError as error:
            raise SettingsError(f"genome: {error}") from None


def _read_object(text: str) -> dict[str, Any]:
    try:
        values = parse_json(text)
    except ValueError as error:
        raise SettingsError(f"not a genome: {error}; expected JSON written by Genome.to_json") from None
    if not isinstance(values, dict):
        raise SettingsError(f"not a genome: {type(values).__name__}; expected JSON written by Genome.to_json")
    return values
