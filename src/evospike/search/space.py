"""The space of a search: genomes as vectors of bounded integers, gene by gene.

A gene is the index of a choice. What has one choice only is no gene. Genes that a genome does not use (unused slots,
the motif of a reduction cell) are neutral: `genome` ignores them and `vector` writes 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from evospike.core.errors import SettingsError
from evospike.core.settings import nearest, require
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import FEWEST_SLOTS, REDUCTION, Motif, choose_motif, own_motifs, shipped
from evospike.search.settings import SpaceSettings, reduction_cells

Scale = Literal["micro", "meso", "macro"]
Vector = tuple[int, ...]


class Space:
    """All genomes that the settings allow.

    names: of the genes, as `cell0.motif`, `cell0.slot3.operation`, `reach`; lower, upper: bounds, both included.
    Raises: SettingsError for unknown motifs, or when there is nothing to choose.
    """

    def __init__(self, settings: SpaceSettings) -> None:
        self.settings = settings
        self._own_motifs = own_motifs(settings)
        self._check_names()
        self._motifs: dict[tuple[str, int], Motif] = {
            (name, reach): choose_motif(name, reach, (*shipped(settings.motif_set), *self._own_motifs))
            for name in settings.motifs
            for reach in settings.inputs
        }
        self.slots = max(
            [FEWEST_SLOTS, *(slot + 1 for key, motif in self._motifs.items() for slot in motif.slots(key[1]))]
        )
        self._choices = self._all_choices()
        self.names = tuple(name for name, choices in self._choices.items() if len(choices) > 1)
        require(bool(self.names), "the space holds a single architecture; allow more motifs, operations or inputs")
        self.lower: Vector = (0,) * len(self.names)
        self.upper: Vector = tuple(len(self._choices[name]) - 1 for name in self.names)
        self._index = {name: i for i, name in enumerate(self.names)}

    def _check_names(self) -> None:
        known = {motif.name for motif in shipped(self.settings.motif_set)}
        for motif in self._own_motifs:
            require(
                motif.name not in known,
                f"motif '{motif.name}' comes with evospike and cannot be defined again; give it a name of its own",
            )

    def _all_choices(self) -> dict[str, Sequence[Any]]:
        s = self.settings
        choices: dict[str, Sequence[Any]] = {}
        for cell in range(s.cells):
            choices[f"cell{cell}.motif"] = s.motifs
            for slot in range(self.slots):
                choices |= {f"cell{cell}.slot{slot}.{what}": values for what, values in self._link_choices().items()}
        if s.reductions == "searched":
            choices |= {f"reduction{i}": range(s.cells) for i in range(s.reduction_count)}
        if s.macro == "modules":
            modules = range(-(-s.cells // s.module_cells))
            choices |= {_adjacency(i, j): (0, 1) for i in modules for j in modules}
        choices["cells"] = s.cell_counts
        choices["channels"] = s.widths or (s.channels,)
        choices["reach"] = s.inputs
        return choices

    def _link_choices(self) -> Mapping[str, Sequence[str]]:
        free = self.settings.signs == "free"
        return {
            "operation": self.settings.operations,
            "neuron": self.settings.neurons or ("",),
            "sign": ("+", "-") if free else ("",),
        }

    def scale(self, name: str) -> Scale:
        """What a gene decides: an operation (micro), a motif (meso) or the whole network (macro)."""
        if name not in self._index:
            raise SettingsError(f"unknown gene '{name}'; {nearest(name, list(self.names))}")
        if ".slot" in name:
            return "micro"
        return "meso" if name.endswith(".motif") else "macro"

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Indices of genes that belong together: those of one cell; each macro gene is alone."""
        together: dict[str, list[int]] = {}
        for i, name in enumerate(self.names):
            together.setdefault(name if self.scale(name) == "macro" else name.split(".")[0], []).append(i)
        return tuple(tuple(indices) for indices in together.values())

    def used(self, vector: Sequence[int]) -> tuple[int, ...]:
        """Indices of the genes that `genome(vector)` reads and that can change it."""
        reading = _Reading(self, vector)
        reading.genome()
        return tuple(sorted(self._index[name] for name in reading.read if name in self._index))

    def genome(self, vector: Sequence[int]) -> Genome:
        """The architecture of a vector. Raises: SettingsError for a vector outside the space."""
        return _Reading(self, vector).genome()

    def vector(self, genome: Genome) -> Vector:
        """The vector of a genome, with neutral genes 0. Raises: SettingsError for a genome outside the space."""
        written = {
            "cells": len(genome.cells),
            "channels": genome.channels,
            "reach": genome.reach,
            **self._cell_values(genome),
            **self._reduction_values(genome),
            **{_adjacency(i, j): entry for i, row in enumerate(genome.adjacency) for j, entry in enumerate(row)},
        }
        values = dict.fromkeys(self.names, 0)
        for name, value in written.items():
            choices = self._choices.get(name, ())
            if value not in choices:
                raise SettingsError(
                    f"genome lies outside the space: '{name}' is {value!r}, allowed: "
                    f"{', '.join(map(repr, choices)) or 'nothing'}"
                )
            if name in values:
                values[name] = choices.index(value)
        vector = tuple(values.values())
        require(self.genome(vector) == genome, "genome lies outside the space: its settings are those of another space")
        return vector

    def _cell_values(self, genome: Genome) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for cell, content in enumerate(genome.cells):
            if content.motif == REDUCTION:
                continue
            values[f"cell{cell}.motif"] = content.motif
            slots = genome.motif(cell).slots(genome.reach)
            for slot, link in zip(slots, content.links, strict=True):
                for what in ("operation", "neuron", "sign"):
                    values[f"cell{cell}.slot{slot}.{what}"] = getattr(link, what)
        return values

    def _reduction_values(self, genome: Genome) -> dict[str, int]:
        if self.settings.reductions != "searched":
            return {}
        positions = sorted(genome.reductions)
        count = self.settings.reduction_count
        require(len(positions) <= count, f"genome lies outside the space: {len(positions)} reductions, at most {count}")
        # Fewer reductions: the last position again, or one behind the last cell.
        positions += [positions[-1] if positions else len(genome.cells)] * (count - len(positions))
        return {f"reduction{i}": position for i, position in enumerate(positions)}

    def choice(self, name: str, gene: int | None) -> Any:
        """What a gene of a value stands for; None: the only choice."""
        return self._choices[name][gene or 0]

    def checked(self, vector: Sequence[int]) -> dict[str, int]:
        """A vector by gene names. Raises: SettingsError naming the gene that is out of bounds."""
        require(len(vector) == len(self.names), f"a vector has {len(self.names)} genes, given {len(vector)}")
        for name, value, upper in zip(self.names, vector, self.upper, strict=True):
            if value != int(value) or not 0 <= value <= upper:
                raise SettingsError(f"gene '{name}' must be a whole number from 0 to {upper}, given {value}")
        return {name: int(value) for name, value in zip(self.names, vector, strict=True)}

    def motif(self, name: str, reach: int) -> Motif:
        """A motif of this space."""
        return self._motifs[name, reach]

    def embedded(self, names: Iterable[str], reach: int) -> tuple[Motif, ...]:
        """Definitions, by name, of those motifs that do not come with evospike."""
        own = [self.motif(name, reach) for name in sorted(set(names) - {REDUCTION})]
        return tuple(motif for motif in own if motif in self._own_motifs)


class _Reading:
    """Reads one vector, and remembers which genes were asked for."""

    def __init__(self, space: Space, vector: Sequence[int]) -> None:
        self.space, self.settings = space, space.settings
        self._values = space.checked(vector)
        self.read: set[str] = set()

    def genome(self) -> Genome:
        s = self.settings
        count, reach = self._value("cells"), self._value("reach")
        reductions = self._reductions(count)
        cells = tuple(Cell(REDUCTION) if i in reductions else self._cell(i, reach) for i in range(count))
        module_cells = s.module_cells if s.macro == "modules" else 0
        modules = range(-(-count // module_cells) if module_cells else 0)
        return Genome(
            cells,
            reach,
            self._value("channels"),
            s.motif_set,
            s.feedback,
            module_cells,
            tuple(tuple(self._value(_adjacency(i, j)) for j in modules) for i in modules),
            self.space.embedded((cell.motif for cell in cells), reach),
        )

    def _value(self, name: str) -> Any:
        self.read.add(name)
        return self.space.choice(name, self._values.get(name))

    def _reductions(self, cells: int) -> frozenset[int]:
        if self.settings.reductions != "searched":
            return reduction_cells(self.settings.reductions, cells)
        return frozenset(self._value(f"reduction{i}") for i in range(self.settings.reduction_count))

    def _cell(self, index: int, reach: int) -> Cell:
        motif = self._value(f"cell{index}.motif")
        links = []
        for slot in self.space.motif(motif, reach).slots(reach):
            prefix = f"cell{index}.slot{slot}."
            links.append(Link(*(self._value(prefix + what) for what in ("operation", "neuron", "sign"))))
        return Cell(motif, tuple(links))


def _adjacency(source: int, target: int) -> str:
    return f"module{source}.module{target}"
