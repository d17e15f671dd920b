"""Genomes in the released layout: 20 integers a cell and one more (methods 4.6).

    gene 0       motif: 0 empty, 1 FE, 2 FI, 3 FBI, 4 LI, 5 MI
    gene 1+s     kernel of slot s: 0 for 3x3, 1 for 5x5; slot 18, gene 19, is only reached by the longest motif
    last gene    K, once

The genes of a reduction cell are ignored. Channels, the rule of reductions and the meaning of feedback are not in the
layout: they were constants of the released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from evospike.core.errors import SettingsError
from evospike.core.files import parse_json
from evospike.core.settings import require
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import FEWEST_SLOTS, REDUCTION, choose_motif, shipped
from evospike.search.settings import EMPTY, REACHES, Feedback, MotifSet, Operation, reduction_cells

MOTIFS = (EMPTY, "FE", "FI", "FBI", "LI", "MI")
KERNELS: tuple[Operation, ...] = ("conv3", "conv5")
GENES_PER_CELL = 1 + FEWEST_SLOTS


def read_released(
    values: Sequence[int],
    *,
    channels: int = 48,
    motif_set: MotifSet = "as_coded",
    feedback: Feedback = "same_step",
    reductions: Literal["static", "event"] = "static",
) -> Genome:
    """The genome of a vector in the released layout.

    channels: C; 48 is the released default. Raises: SettingsError naming the gene that cannot be.
    """
    require(
        len(values) > GENES_PER_CELL and len(values) % GENES_PER_CELL == 1,
        f"a released genome has {GENES_PER_CELL} integers a cell and one more, given {len(values)}",
    )
    reach = _gene(values, len(values) - 1, REACHES)
    cells = len(values) // GENES_PER_CELL
    reducing = reduction_cells(reductions, cells)
    read = [_read_cell(values, index, reach, motif_set) for index in range(cells)]
    filled = tuple(Cell(REDUCTION) if index in reducing else cell for index, cell in enumerate(read))
    return Genome(filled, reach, channels, motif_set, feedback)


def read_released_json(text: str) -> Genome:
    """The genome of a JSON list in the released layout, with the released constants (see `read_released`).

    Raises: SettingsError for a text that is no list of integers, and as `read_released` does.
    """
    try:
        values = parse_json(text)
    except ValueError as error:
        raise SettingsError(f"not a genome: {error}; expected a JSON list of integers") from None
    require(
        isinstance(values, list) and all(type(value) is int for value in values),
        "not a genome: a released one is a JSON list of integers alone",
    )
    return read_released(values)


def write_released(genome: Genome) -> list[int]:
    """The vector of a genome in the released layout, with unused genes 0.

    Raises: SettingsError when the genome has what the layout cannot say.
    """
    require(not genome.module_cells, "the released layout has no modules; search with macro = 'recent'")
    rules: tuple[Literal["static", "event"], ...] = ("static", "event")
    require(
        any(genome.reductions == reduction_cells(rule, len(genome.cells)) for rule in rules),
        f"the released layout has no reductions at cells {sorted(genome.reductions)}; use 'static' or 'event'",
    )
    values = [gene for index in range(len(genome.cells)) for gene in _write_cell(genome, index)]
    return [*values, genome.reach]


def _read_cell(values: Sequence[int], index: int, reach: int, motif_set: MotifSet) -> Cell:
    start = index * GENES_PER_CELL
    motif = choose_motif(MOTIFS[_gene(values, start, range(len(MOTIFS)))], reach, shipped(motif_set))
    # The spare last gene was drawn from 0..2; it is a kernel only where a motif reads it.
    kernels = {slot: _gene(values, start + 1 + slot, range(2)) for slot in range(FEWEST_SLOTS - 1)}
    used = motif.slots(reach)
    kernels[FEWEST_SLOTS - 1] = _gene(values, start + FEWEST_SLOTS, range(2 if FEWEST_SLOTS - 1 in used else 3))
    return Cell(motif.name, tuple(Link(KERNELS[kernels[slot]]) for slot in used))


def _gene(values: Sequence[int], place: int, allowed: Sequence[int]) -> int:
    if values[place] not in allowed:
        name = "last gene (K)" if place == len(values) - 1 else f"gene {place % GENES_PER_CELL}"
        where = "" if place == len(values) - 1 else f" of cell {place // GENES_PER_CELL}"
        raise SettingsError(f"{name}{where} is {values[place]}; expected one of {', '.join(map(str, allowed))}")
    return int(values[place])


def _write_cell(genome: Genome, index: int) -> list[int]:
    genes = [0] * GENES_PER_CELL
    cell = genome.cells[index]
    if cell.motif == REDUCTION:
        return genes
    require(
        cell.motif in MOTIFS,
        f"the released layout has no motif '{cell.motif}', only {', '.join(MOTIFS)}",
    )
    genes[0] = MOTIFS.index(cell.motif)
    for slot, link in zip(genome.motif(index).slots(genome.reach), cell.links, strict=True):
        require(
            link.operation in KERNELS and not link.neuron and not link.sign,
            f"cell {index}, slot {slot}: the released layout has only conv3 and conv5 with the network's neuron and "
            "the motif's sign",
        )
        genes[1 + slot] = KERNELS.index(link.operation)
    return genes
