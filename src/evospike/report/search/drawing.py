"""The drawing of a searched architecture: cells in order from stem to classifier, each motif with its signed edges.

Shapes carry the meaning and colours repeat it: an excitatory connection ends in an arrow, an inhibitory one in a bar,
a state that passes unchanged in a ring; feedback is dashed. Colours and lines are set by classes in the page's style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from evospike.report.search.motif_layout import RADIUS, Curve, MotifLayout, PlacedEdge, Point, lay_out
from evospike.search.decode import STEM_FACTOR, decode
from evospike.search.genome import Genome, Link
from evospike.search.motif import MotifEdge

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

_KINDS = {1: ("plus", "excitatory"), -1: ("minus", "inhibitory")}

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
    return _Drawing(genome, side, title).text()


def legend() -> str:
    """What the lines mean, as an `svg` element."""
    rows = (
        ("plus", "excitatory: lets positive currents pass"),
        ("minus", "inhibitory: lets negative currents pass"),
        ("identity", "the state passes unchanged"),
        ("zero", "nothing passes"),
        ("plus feedback", "feedback (any line that is dashed)"),
    )
    svg = _svg(320.0, 26.0 * len(rows), "Legend", "What the lines of the drawing mean.", "legend")
    for k, (kind, text) in enumerate(rows):
        y = 13.0 + 26.0 * k
        start, end = Point(4.0, y), Point(60.0, y)
        _line(svg, Curve(start, start.plus(Point(18.0, 0.0)), start.plus(Point(38.0, 0.0)), end), kind)
        _text(svg, Point(76.0, y), text, "")
    return tostring(svg, encoding="unicode")


def reads(index: int, reach: int) -> dict[str, int]:
    """What each input of a cell is, oldest first: 0 the stem, c + 1 cell c (methods 4.5)."""
    return {f"a{reach - back}": max(0, index - back) for back in reversed(range(reach))}


class _Drawing:
    """Draws one genome from top to bottom."""

    def __init__(self, genome: Genome, side: Side | None, title: str) -> None:
        self._genome, self._side = genome, side
        self._layouts = {
            index: lay_out(genome.motif(index), genome.reach)
            for index in range(len(genome.cells))
            if index not in genome.reductions
        }
        self._signs = _signs(genome)
        widest = max((layout.right for layout in self._layouts.values()), default=0.0)
        self._left = 0.75 * _detour(genome.reach) + MARGIN  # a curve goes three quarters as far as its handles
        self._width = max(NARROWEST, INSET + PORT_WIDTH + widest + 20.0)
        self._boxes: list[_Box] = []
        self._svg = _svg(0.0, 0.0, title, _describe(genome), "architecture")
        self._wires = Element("g")
        self._bottom = 2.0

    def text(self) -> str:
        genome = self._genome
        self._plain_box("Stem", f"3×3 convolution, {self._shape(0, STEM_FACTOR * genome.channels)}", {})
        for index in range(len(genome.cells)):
            if index in genome.reductions:
                self._reduction(index)
            else:
                self._cell(index)
        self._plain_box("Classifier", "global average pool, linear", {"a1": len(self._boxes) - 1})
        self._svg.append(self._wires)  # above the cells, which they enter
        self._modules()
        joined = any(map(any, genome.adjacency))
        right = self._right + (0.75 * _detour(genome.modules) if joined else 0.0) + MARGIN
        self._svg.set("width", _number(right))
        self._svg.set("height", _number(self._bottom))
        self._svg.set("viewBox", f"0 0 {_number(right)} {_number(self._bottom)}")
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
        group = SubElement(self._svg, "g", {"class": f"box {kind}", "data-box": name})
        corner = {"x": _number(self._left), "y": _number(self._bottom), "rx": "10"}
        SubElement(group, "rect", {**corner, "width": _number(self._width), "height": _number(height)})
        line = self._bottom + PLAIN_HEIGHT / 2
        _text(group, Point(self._left + INSET, line), name, "name")
        _text(group, Point(self._right - INSET, line), note, "note end")
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
        self._plain_box(f"Cell {index}: reduction", note, {"a1": index}, "reduction")

    def _cell(self, index: int) -> None:
        genome, layout = self._genome, self._layouts[index]
        motif, halvings = genome.motif(index), self._halvings(index)
        width = genome.channels << halvings
        height = HEADER + layout.bottom - layout.top + FOOT
        name = f"Cell {index}: {motif.name}"
        note = f"{self._size(halvings)}, {len(motif.nodes)} × {width} channels"
        group = self._open(name, note, height, "cell")
        origin = Point(self._left + INSET + PORT_WIDTH, self._bottom + HEADER - layout.top)
        inner = SubElement(group, "g", {"transform": f"translate({_number(origin.x)} {_number(origin.y)})"})
        sources = reads(index, genome.reach)
        self._motif(inner, index, layout, {port: self._boxes[source].name for port, source in sources.items()})
        ends = {port: origin.plus(point).plus(Point(-PORT_WIDTH, 0.0)) for port, point in layout.ports.items()}
        self._close(name, height, ends, sources)

    def _motif(self, parent: Element, index: int, layout: MotifLayout, sources: Mapping[str, str]) -> None:
        genome = self._genome
        motif, links = genome.motif(index), _links(genome, index)
        for placed in layout.edges:
            self._edge(parent, index, placed, links.get(placed.edge.slot))
        for port, point in layout.ports.items():
            _port(parent, port, point, sources[port].partition(":")[0])
        for node, point in layout.nodes.items():
            _node(parent, node, point, dead=node in motif.dead)

    def _edge(self, parent: Element, index: int, placed: PlacedEdge, link: Link | None) -> None:
        edge = placed.edge
        sign = self._sign(index, edge, link)
        kind, words = _KINDS.get(sign, (edge.carrier, "unchanged" if edge.carrier == "identity" else "nothing passes"))
        shape = f"{kind} feedback" if edge.feedback else kind
        group = SubElement(parent, "g", {"class": f"edge {kind}", "data-edge": f"{edge.source} {edge.target}"})
        parts = [f"{edge.source} to {edge.target}: {words}"]
        if edge.carrier == "connection" and link is not None:
            parts.append(OPERATIONS[link.operation][1])
            parts += [f"neuron {link.neuron}"] if link.neuron else []
        if edge.feedback:
            parts.append("feedback in the next step" if self._genome.feedback == "delayed" else "feedback in the step")
        SubElement(group, "title").text = ", ".join(parts)
        _line(group, placed.curve, shape)
        if placed.label is not None and link is not None:
            _text(group, placed.label, OPERATIONS[link.operation][0], "operation")

    def _sign(self, index: int, edge: MotifEdge, link: Link | None) -> int:
        """The sign in the network; of a connection that no score depends on, the written one."""
        if edge.carrier != "connection":
            return 0
        written = {"+": 1, "-": -1}.get(link.sign if link else "", edge.sign)
        return self._signs.get(f"cell{index}.edge{edge.place}.norm", written)

    def _wire(self, source: _Box, span: int, end: Point) -> None:
        """From the output of a box to an input of one `span` boxes below, the further the wider around."""
        start, away = Point(self._left, source.leaving), _detour(span)
        curve = Curve(start, start.plus(Point(-away, 0.0)), Point(self._left - away, end.y), end)
        group = SubElement(self._wires, "g")
        SubElement(group, "title").text = f"output of {source.name}"
        _line(group, curve, "wire")

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
        outside = Point(_detour(abs(i - j) + 1), 0.0)
        _line(group, Curve(start, start.plus(outside), end.plus(outside), end), "plain feedback")


def _signs(genome: Genome) -> dict[str, int]:
    """The sign of every connection by the name of its last node, as decoded: free signs may have been mended."""
    side = 4 * 2 ** len(genome.reductions)
    spec = decode(genome, (1, side, side), 2)
    return {edge.source: edge.sign for node in spec.nodes for edge in node.inputs}


def _links(genome: Genome, index: int) -> dict[int, Link]:
    """The links of a cell by slot."""
    return dict(zip(genome.motif(index).slots(genome.reach), genome.cells[index].links, strict=True))


def _describe(genome: Genome) -> str:
    cells = ", ".join(f"cell {i} {cell.motif}" for i, cell in enumerate(genome.cells))
    return f"From the stem to the classifier; every cell reads the {genome.reach} outputs before it: {cells}."


def _detour(span: int) -> float:
    """How far the handles of a wire reach that passes `span - 1` others."""
    return 20.0 + 18.0 * span


def _svg(width: float, height: float, title: str, about: str, name: str) -> Element:
    svg = Element(
        "svg",
        {
            "class": name,
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-about",
            "width": _number(width),
            "height": _number(height),
            "viewBox": f"0 0 {_number(width)} {_number(height)}",
        },
    )
    SubElement(svg, "title", {"id": f"{name}-title"}).text = title
    SubElement(svg, "desc", {"id": f"{name}-about"}).text = about
    return svg


def _port(parent: Element, port: str, point: Point, source: str) -> None:
    group = SubElement(parent, "g", {"class": "port", "data-port": port})
    left, top = point.x - PORT_WIDTH, point.y - PORT_HEIGHT / 2
    place = {"x": _number(left), "y": _number(top), "rx": "6"}
    SubElement(group, "rect", {**place, "width": _number(PORT_WIDTH), "height": _number(PORT_HEIGHT)})
    _text(group, Point(left + PORT_WIDTH / 2, point.y), f"{port}  {source.lower()}", "middle")


def _node(parent: Element, node: str, point: Point, *, dead: bool) -> None:
    group = SubElement(parent, "g", {"class": "node dead" if dead else "node", "data-node": node})
    SubElement(group, "title").text = f"{node}, which never fires" if dead else node
    SubElement(group, "circle", {"cx": _number(point.x), "cy": _number(point.y), "r": _number(RADIUS)})
    _text(group, point, node, "middle")


def _line(parent: Element, curve: Curve, kind: str) -> None:
    """A curve and, by its kind, the shape in which it ends."""
    SubElement(parent, "path", {"class": f"line {kind}", "d": f"M{_pair(curve.start)} C{_pairs(*curve[1:])}"})
    end, ahead = curve.end, curve.heading
    side = Point(-ahead.y, ahead.x)
    first = kind.partition(" ")[0]
    if first in ("plus", "wire", "plain"):
        base = end.plus(ahead, -8.0)
        corners = _pairs(end, base.plus(side, 4.5), base.plus(side, -4.5))
        SubElement(parent, "path", {"class": f"head {first}", "d": f"M{corners} Z"})
    elif first == "minus":
        SubElement(
            parent, "path", {"class": "bar", "d": f"M{_pair(end.plus(side, 7.0))} L{_pair(end.plus(side, -7.0))}"}
        )
    elif first == "identity":
        SubElement(parent, "circle", {"class": "ring", "cx": _number(end.x), "cy": _number(end.y), "r": "4"})


def _text(parent: Element, point: Point, content: str, kind: str) -> None:
    place = {"x": _number(point.x), "y": _number(point.y), "dy": "0.35em"}
    SubElement(parent, "text", {**place, **({"class": kind} if kind else {})}).text = content


def _pairs(*points: Point) -> str:
    return " ".join(map(_pair, points))


def _pair(point: Point) -> str:
    return f"{_number(point.x)} {_number(point.y)}"


def _number(value: float) -> str:
    """A tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0") if round(value, 1) else "0"
