"""The architecture of a network as its page shows it: the drawing, what its lines mean, and every line in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evospike.models.spec import NetworkSpec
from evospike.report.architecture import block_drawing, connections, genome_drawing
from evospike.report.architecture.blocks import diagram_of
from evospike.report.architecture.genome_drawing import Side
from evospike.report.architecture.svg import legend
from evospike.report.formats import Trusted
from evospike.search.genome import Genome

MOST_LINES = 800
"""Of a drawing; a page that holds more would be too large."""

GENOME_LINES = (
    ("plus", "excitatory: lets positive currents pass"),
    ("minus", "inhibitory: lets negative currents pass"),
    ("identity", "the state passes unchanged"),
    ("zero", "nothing passes"),
    ("plus feedback", "feedback (any line that is dashed)"),
)


@dataclass(frozen=True)
class Architecture:
    """drawing, legend: as `svg` elements. columns, rows: the table of its connections.

    reach: how many outputs a cell of a searched architecture reads, else 0. circuits: what its motifs do, by name, in
    the order of the cells.
    """

    drawing: Trusted
    legend: Trusted
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    reach: int = 0
    circuits: Mapping[str, str] = field(default_factory=dict)


def of_genome(genome: Genome, side: Side | None, title: str) -> Architecture | None:
    """A searched architecture by its cells; None for one of too many connections.

    side: height and width of the images in pixels, where they are known.
    """
    cells = [index for index in range(len(genome.cells)) if index not in genome.reductions]
    within = sum(len(genome.motif(index).wiring(genome.reach)) for index in cells)
    if within + sum(map(sum, genome.adjacency)) > MOST_LINES:
        return None
    return Architecture(
        Trusted(genome_drawing.draw(genome, side, title)),
        Trusted(legend(GENOME_LINES)),
        connections.COLUMNS,
        connections.rows_of(genome),
        genome.reach,
        {motif.name: motif.circuit for motif in map(genome.motif, cells)},
    )


def of_network(spec: NetworkSpec, neuron: str, title: str) -> Architecture | None:
    """Any network by its blocks; None for one of too many. neuron: its kind where the specification names none.

    Raises: SpecError for layers that do not fit together.
    """
    diagram = diagram_of(spec, neuron)
    if diagram is None or sum(len(block.reads) for block in diagram.blocks) > MOST_LINES:
        return None
    return Architecture(
        Trusted(block_drawing.draw(diagram, title)),
        Trusted(legend(block_drawing.kinds_of(diagram))),
        block_drawing.COLUMNS,
        block_drawing.rows_of(diagram),
    )
