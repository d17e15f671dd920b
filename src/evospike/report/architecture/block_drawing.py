"""The drawing of a network by blocks, one below the other: what leads past a block leaves at the left, what arrives in
a later step at the right."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from evospike.report.architecture.blocks import Block, Diagram, Fold, Reading
from evospike.report.architecture.geometry import Curve, Point
from evospike.report.architecture.svg import box, detour, line, resize, svg, text

COLUMNS = ("From", "To", "Operations there", "Gives", "Sign", "Delay")

NARROWEST = 300.0
HEIGHT, SPACE = 48.0, 18.0
"""Of a block, and between blocks."""

INSET, FRAME = 12.0, 8.0
"""Between a block and its texts, and between the frame of a fold and its blocks."""

HEADER = 26.0
"""Of a fold, over its first block."""

ACROSS = 0.7
"""Where a line between neighbours is, as a share of the width; what is written over a fold is left of it."""

WIDEST_DETOUR = 7
"""Blocks that a wire goes further and further around."""

CHARACTER = 6.4
"""Pixels of a character, about."""

LONGEST_NAME = 40

_KINDS = {0: ("wire", "unchanged"), 1: ("plus", "excitatory"), -1: ("minus", "inhibitory")}


def draw(diagram: Diagram, title: str) -> str:
    """A diagram as an `svg` element."""
    return _Drawing(diagram, title).write()


def kinds_of(diagram: Diagram) -> list[tuple[str, str]]:
    """Kinds of line in the drawing and their meaning."""
    readings = [reading for block in diagram.blocks for reading in block.reads]
    signs = {reading.sign for reading in readings}
    rows = [("wire", "what a block gives, unchanged")]
    rows += [("plus", "excitatory: lets positive currents pass")] if 1 in signs else []
    rows += [("minus", "inhibitory: lets negative currents pass")] if -1 in signs else []
    delayed = any(reading.delay for reading in readings)
    return [*rows, *([("wire feedback", "in a later step (any line that is dashed)")] if delayed else [])]


def rows_of(diagram: Diagram) -> tuple[tuple[str, ...], ...]:
    """Every line of the drawing as a row under `COLUMNS`."""
    return tuple(
        (
            diagram.blocks[reading.source].name,
            _told_name(block, diagram.fold_of(place)),
            ", ".join(block.operations),
            block.size,
            _KINDS[reading.sign][1],
            _steps(reading.delay) or "none",
        )
        for place, block in enumerate(diagram.blocks)
        for reading in block.reads
    )


class _Drawing:
    """Draws one diagram from top to bottom."""

    def __init__(self, diagram: Diagram, title: str) -> None:
        self._diagram = diagram
        span = max(
            (k - r.source for k, block in enumerate(diagram.blocks) for r in block.reads if not r.delay), default=1
        )
        delayed = any(reading.delay for block in diagram.blocks for reading in block.reads)
        margin = FRAME + 2.0 if diagram.folds else 2.0
        self._left = margin + (0.75 * _around(span) if span > 1 else 0.0)
        self._right = self._left + max(NARROWEST, *map(_width, diagram.blocks))
        self._width = self._right + margin + (0.75 * _around(WIDEST_DETOUR) + 3 * CHARACTER if delayed else 0.0)
        self._svg = svg(0.0, 0.0, title, _describe(diagram), "architecture")
        self._wires = Element("g")
        self._tops: list[float] = []
        self._bottom = 2.0

    def write(self) -> str:
        for place, block in enumerate(self._diagram.blocks):
            fold = self._diagram.fold_of(place)
            if fold is not None and fold.first == place:
                self._open(fold)
            self._block(block)
            if fold is not None and fold.first + fold.length - 1 == place:
                self._bottom += FRAME
        for place, block in enumerate(self._diagram.blocks):
            for reading in block.reads:
                self._wire(reading, place, block)
        self._svg.append(self._wires)
        resize(self._svg, self._width, self._bottom - SPACE + 2.0)
        return tostring(self._svg, encoding="unicode")

    def _open(self, fold: Fold) -> None:
        """The frame of a fold, which goes on around its blocks."""
        height = HEADER + fold.length * (HEIGHT + SPACE) - SPACE + FRAME
        corner = Point(self._left - FRAME, self._bottom)
        group = box(self._svg, "fold", fold.name, corner, self._right - self._left + 2 * FRAME, height)
        told = f"{fold.times} times, {_short(fold.name)} to {_short(fold.last)}"
        text(group, Point(self._left, self._bottom + HEADER / 2), told, "note")
        self._bottom += HEADER

    def _block(self, block: Block) -> None:
        corner = Point(self._left, self._bottom)
        kind = "weighted" if block.weighted else "plain"
        group = box(self._svg, kind, block.name, corner, self._right - self._left, HEIGHT)
        text(group, corner.plus(Point(INSET, 16.0)), _short(block.name), "name")
        text(group, Point(self._right - INSET, self._bottom + 16.0), block.size, "note end")
        text(group, corner.plus(Point(INSET, 34.0)), _operations(block), "operations")
        self._tops.append(self._bottom)
        self._bottom += HEIGHT + SPACE

    def _wire(self, reading: Reading, place: int, block: Block) -> None:
        source = self._diagram.blocks[reading.source]
        kind, meaning = _KINDS[reading.sign]
        group = SubElement(self._wires, "g", {"class": "reading", "data-reading": f"{reading.source} {place}"})
        told = [f"{source.name} to {block.name}: {meaning}", *([_steps(reading.delay)] if reading.delay else [])]
        SubElement(group, "title").text = ", ".join(told)
        if reading.delay:
            curve = self._beside(reading.source, place, self._right, 1.0)
            line(group, curve, f"{kind} feedback")
            text(group, curve.at(0.5), _steps(reading.delay), "operation")
        elif reading.source == place - 1:
            x = self._left + ACROSS * (self._right - self._left)
            start, end = Point(x, self._tops[reading.source] + HEIGHT), Point(x, self._tops[place])
            line(group, Curve(start, start.plus(start.to(end), 1 / 3), start.plus(start.to(end), 2 / 3), end), kind)
        else:
            line(group, self._beside(reading.source, place, self._left, -1.0), kind)

    def _beside(self, source: int, target: int, x: float, outwards: float) -> Curve:
        """A curve around what lies between two blocks."""
        start, end = Point(x, self._tops[source] + HEIGHT - 12.0), Point(x, self._tops[target] + 12.0)
        away = Point(outwards * _around(abs(target - source)), 0.0)
        return Curve(start, start.plus(away), end.plus(away), end)


def _around(span: int) -> float:
    """How far the handles of a curve reach; the longest ones alike, so that deep networks stay narrow."""
    return detour(min(span, WIDEST_DETOUR))


def _width(block: Block) -> float:
    """Room that the texts of a block take."""
    heading = 1.2 * len(_short(block.name)) + len(block.size) + 2  # a name is bold and larger
    return CHARACTER * max(heading, len(_operations(block))) + 2 * INSET


def _operations(block: Block) -> str:
    return " · ".join(block.operations)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"


def _told_name(block: Block, fold: Fold | None) -> str:
    """The name of a block and, where it stands for several, how many."""
    return block.name if fold is None else f"{block.name} (one of {fold.times})"


def _steps(delay: int) -> str:
    """A delay in words, empty for none."""
    return f"{delay} step{'' if delay == 1 else 's'}" if delay else ""


def _describe(diagram: Diagram) -> str:
    folded = ", ".join(f"{fold.name} to {fold.last} are {fold.times} times the same" for fold in diagram.folds)
    return f"From the input to the class scores, {len(diagram.blocks)} blocks{f'; {folded}' if folded else ''}."
