"""The drawing of a searched architecture: cells in order from stem to classifier, each motif with its signed edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from evospike.report.architecture.connections import Connection, cell_name, connections_of, reads
from evospike.report.architecture.geometry import Curve, Point
from evospike.report.architecture.motif_layout import RADIUS, MotifLayout, PlacedEdge, lay_out
from evospike.report.architecture.svg import box, detour, line, number, resize, svg, text
from evospike.search.decode import STEM_FACTOR
from evospike.search.genome import Genome

MARGIN = 4.0
"""Room beside the wires."""

NARROWEST = 400.0
HEADER, FOOT, SPACE = 46.0, 14.0, 18.0
"""Heights in a cell above and below its motif, and between cells."""

PLAIN_HEIGHT = 44.0
"""Of stem, reduction and classifier."""

INSET = 14.0
"""Between the frame of a cell and what is in it."""

PORT_WIDTH, PORT_HEIGHT = 74.0, 22.0

Side = tuple[int, int]


@dataclass(frozen=True)
class _Box:
    """Where a cell, the stem or the classifier stands."""

    name: str
    top: float
    height: float

    @property
    def leaving(self) -> float:
        """How far down its output leaves."""
        return self.top + self.height - 10.0


def draw(genome: Genome, side: Side | None, title: str) -> str:
    """A genome as an `svg` element. side: height and width of the images in pixels, where they are known."""
    return _Drawing(genome, side, title).write()


class _Drawing:
    """Draws one genome from top to bottom."""

    def __init__(self, genome: Genome, side: Side | None, title: str) -> None:
        self._genome, self._side = genome, side
        self._layouts = {
            index: lay_out(genome.motif(index), genome.reach)
            for index in range(len(genome.cells))
            if index not in genome.reductions
        }
        self._wired = connections_of(genome)
        widest = max((layout.right for layout in self._layouts.values()), default=0.0)
        self._left = 0.75 * detour(genome.reach) + MARGIN  # a curve goes three quarters as far as its handles
        self._width = max(NARROWEST, INSET + PORT_WIDTH + widest + 20.0)
        self._boxes: list[_Box] = []
        self._svg = svg(0.0, 0.0, title, _describe(genome), "architecture")
        self._wires = Element("g")
        self._bottom = 2.0

    def write(self) -> str:
        genome = self._genome
        self._plain_box(cell_name(genome, 0), f"3×3 convolution, {self._shape(0, STEM_FACTOR * genome.channels)}", {})
        for index in range(len(genome.cells)):
            if index in genome.reductions:
                self._reduction(index)
            else:
                self._cell(index)
        last = len(genome.cells)
        self._plain_box(cell_name(genome, last + 1), "global average pool, linear", {"a1": last})
        self._svg.append(self._wires)  # above the cells, which they enter
        self._modules()
        joined = any(map(any, genome.adjacency))
        right = self._right + (0.75 * detour(genome.modules) if joined else 0.0) + MARGIN
        resize(self._svg, right, self._bottom)
        return tostring(self._svg, encoding="unicode")

    @property
    def _right(self) -> float:
        """Where the cells end."""
        return self._left + self._width

    def _halvings(self, index: int) -> int:
        """How often the image is halved in the cells up to and with `index`."""
        return sum(cell <= index for cell in self._genome.reductions)

    def _shape(self, halvings: int, channels: int) -> str:
        return f"{self._size(halvings)}, {channels} channels"

    def _size(self, halvings: int) -> str:
        if self._side is None:
            return f"1/{2**halvings} of the image" if halvings else "the whole image"
        height, width = self._side
        return f"{height >> halvings}×{width >> halvings}"

    def _open(self, name: str, note: str, height: float, kind: str) -> Element:
        """The frame of the next box, with its name and at the right what it gives."""
        group = box(self._svg, kind, name, Point(self._left, self._bottom), self._width, height)
        middle = self._bottom + PLAIN_HEIGHT / 2
        text(group, Point(self._left + INSET, middle), name, "name")
        text(group, Point(self._right - INSET, middle), note, "note end")
        return group

    def _close(self, name: str, height: float, inputs: Mapping[str, Point], sources: Mapping[str, int]) -> None:
        """The wires into the box, by input, and the place of the next box."""
        for port, source in sources.items():
            self._wire(self._boxes[source], len(self._boxes) - source, inputs[port])
        self._boxes.append(_Box(name, self._bottom, height))
        self._bottom += height + SPACE

    def _plain_box(self, name: str, note: str, sources: Mapping[str, int], kind: str = "plain") -> None:
        self._open(name, note, PLAIN_HEIGHT, kind)
        entry = Point(self._left, self._bottom + 12.0)
        self._close(name, PLAIN_HEIGHT, dict.fromkeys(sources, entry), sources)

    def _reduction(self, index: int) -> None:
        halvings = self._halvings(index)
        channels = STEM_FACTOR * (self._genome.channels << halvings)
        note = f"{self._size(halvings - 1)} → {self._shape(halvings, channels)}"
        self._plain_box(cell_name(self._genome, index + 1), note, {"a1": index}, "reduction")

    def _cell(self, index: int) -> None:
        genome, layout = self._genome, self._layouts[index]
        motif, halvings = genome.motif(index), self._halvings(index)
        width = genome.channels << halvings
        height = HEADER + layout.bottom - layout.top + FOOT
        name = cell_name(genome, index + 1)
        note = f"{self._size(halvings)}, {len(motif.nodes)} × {width} channels"
        group = self._open(name, note, height, "cell")
        origin = Point(self._left + INSET + PORT_WIDTH, self._bottom + HEADER - layout.top)
        inner = SubElement(group, "g", {"transform": f"translate({number(origin.x)} {number(origin.y)})"})
        sources = reads(index, genome.reach)
        self._motif(inner, index, layout, {port: self._boxes[source].name for port, source in sources.items()})
        ends = {port: origin.plus(point).plus(Point(-PORT_WIDTH, 0.0)) for port, point in layout.ports.items()}
        self._close(name, height, ends, sources)

    def _motif(self, parent: Element, index: int, layout: MotifLayout, sources: Mapping[str, str]) -> None:
        for connection, placed in zip(self._wired[index], layout.edges, strict=True):
            self._edge(parent, connection, placed)
        for port, point in layout.ports.items():
            _port(parent, port, point, sources[port].partition(":")[0])
        for node, point in layout.nodes.items():
            _node(parent, node, point, dead=node in self._genome.motif(index).dead)

    def _edge(self, parent: Element, connection: Connection, placed: PlacedEdge) -> None:
        edge, kind = connection.edge, connection.kind
        group = SubElement(parent, "g", {"class": f"edge {kind}", "data-edge": f"{edge.source} {edge.target}"})
        SubElement(group, "title").text = connection.words
        line(group, placed.curve, f"{kind} feedback" if edge.feedback else kind)
        if placed.label is not None:
            text(group, placed.label, connection.label, "operation")

    def _wire(self, source: _Box, span: int, end: Point) -> None:
        """From the output of a box to an input of one `span` boxes below, the further the wider around."""
        start, away = Point(self._left, source.leaving), detour(span)
        curve = Curve(start, start.plus(Point(-away, 0.0)), Point(self._left - away, end.y), end)
        group = SubElement(self._wires, "g")
        SubElement(group, "title").text = f"output of {source.name}"
        line(group, curve, "wire")

    def _modules(self) -> None:
        """Delayed connections between modules, at the right."""
        size = self._genome.module_cells
        for i, row in enumerate(self._genome.adjacency):
            for j, connected in enumerate(row):
                if connected:
                    last = min((i + 1) * size, len(self._genome.cells))
                    self._module_wire(i, j, self._boxes[last], self._boxes[j * size + 1])

    def _module_wire(self, i: int, j: int, source: _Box, target: _Box) -> None:
        start, end = Point(self._right, source.leaving), Point(self._right, target.top + 12.0)
        group = SubElement(self._svg, "g", {"class": "module", "data-module": f"{i} {j}"})
        SubElement(group, "title").text = f"module {i} to module {j}, one step later"
        outside = Point(detour(abs(i - j) + 1), 0.0)
        line(group, Curve(start, start.plus(outside), end.plus(outside), end), "plain feedback")


def _describe(genome: Genome) -> str:
    cells = ", ".join(f"cell {i} {cell.motif}" for i, cell in enumerate(genome.cells))
    return f"From the stem to the classifier; every cell reads the {genome.reach} outputs before it: {cells}."


def _port(parent: Element, port: str, point: Point, source: str) -> None:
    group = SubElement(parent, "g", {"class": "port", "data-port": port})
    left, top = point.x - PORT_WIDTH, point.y - PORT_HEIGHT / 2
    place = {"x": number(left), "y": number(top), "rx": "6"}
    SubElement(group, "rect", {**place, "width": number(PORT_WIDTH), "height": number(PORT_HEIGHT)})
    text(group, Point(left + PORT_WIDTH / 2, point.y), f"{port}  {source.lower()}", "middle")


def _node(parent: Element, node: str, point: Point, *, dead: bool) -> None:
    group = SubElement(parent, "g", {"class": "node dead" if dead else "node", "data-node": node})
    SubElement(group, "title").text = f"{node}, which never fires" if dead else node
    SubElement(group, "circle", {"cx": number(point.x), "cy": number(point.y), "r": number(RADIUS)})
    text(group, point, node, "middle")
