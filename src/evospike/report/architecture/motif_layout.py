"""Where the populations and edges of a motif stand in a drawing: inputs at the left, then each node behind its sources.

Coordinates are pixels, y grows downwards, y = 0 is the middle of the inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evospike.report.architecture.geometry import Curve, Point
from evospike.search.motif import Motif, MotifEdge

RADIUS = 17.0
"""Of a node's circle."""

GAP = 4.0
"""Between a circle and the end of an edge, for its head."""

COLUMN, ROW, PORT_ROW = 108.0, 78.0, 38.0
"""Between nodes side by side, one below the other, and between inputs."""

CLEARANCE = 8.0
"""Least distance of an edge from a circle that it passes."""

LABEL_WIDTH, LABEL_HEIGHT = 28.0, 12.0

_BENDS = (40.0, -40.0, 66.0, -66.0, 92.0, -92.0, 118.0, -118.0)
"""Tried in this order, positive ones away from the middle."""

_LABEL_TIMES = (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82)


@dataclass(frozen=True)
class PlacedEdge:
    """An edge with its curve; label: where the operation of a connection is written."""

    edge: MotifEdge
    curve: Curve
    label: Point | None


@dataclass(frozen=True)
class MotifLayout:
    """A motif for a number of inputs. ports: where inputs enter; right, top, bottom: of the whole."""

    ports: Mapping[str, Point]
    nodes: Mapping[str, Point]
    edges: tuple[PlacedEdge, ...]

    @property
    def right(self) -> float:
        return max(point.x for point in self._outline())

    @property
    def top(self) -> float:
        return min(point.y for point in self._outline())

    @property
    def bottom(self) -> float:
        return max(point.y for point in self._outline())

    def _outline(self) -> Iterator[Point]:
        for centre in (*self.ports.values(), *self.nodes.values()):
            yield from (centre.plus(Point(RADIUS, RADIUS)), centre.plus(Point(-RADIUS, -RADIUS)))
        for placed in self.edges:
            yield from placed.curve.points()


def lay_out(motif: Motif, reach: int) -> MotifLayout:
    """Place a motif; edges keep the order of its wiring."""
    wiring = motif.wiring(reach)
    ports = {f"a{i + 1}": Point(0.0, y) for i, y in enumerate(_spread(reach, PORT_ROW))}
    nodes = _place_nodes(motif, wiring)
    curves = _route(wiring, ports, nodes)
    labels = _place_labels({e.place: curves[e.place] for e in wiring if e.carrier == "connection"}, nodes.values())
    edges = tuple(PlacedEdge(edge, curves[edge.place], labels.get(edge.place)) for edge in wiring)
    return MotifLayout(ports, nodes, edges)


def _spread(count: int, step: float) -> list[float]:
    """`count` numbers at equal steps around 0."""
    return [(k - (count - 1) / 2) * step for k in range(count)]


def _place_nodes(motif: Motif, wiring: Sequence[MotifEdge]) -> dict[str, Point]:
    """One column for each longest way from the inputs over edges that carry something; in it the motif's order."""
    depth: dict[str, int] = {}
    for node in motif.nodes:
        arriving = [e.source for e in wiring if e.target == node and not e.feedback and e.carrier != "zero"]
        depth[node] = 1 + max((depth.get(source, 0) for source in arriving), default=0)
    placed: dict[str, Point] = {}
    for column in sorted(set(depth.values())):
        together = [node for node in motif.nodes if depth[node] == column]
        for node, y in zip(together, _spread(len(together), ROW), strict=True):
            placed[node] = Point(column * COLUMN, y)
    return {node: placed[node] for node in motif.nodes}


def _route(wiring: Sequence[MotifEdge], ports: Mapping[str, Point], nodes: Mapping[str, Point]) -> dict[int, Curve]:
    """A curve by the place of its edge; edges that carry nothing come last and take the room that is left."""
    centres = {**ports, **nodes}
    curves: dict[int, Curve] = {}
    for edge in sorted(wiring, key=lambda edge: edge.carrier == "zero"):
        passed = [centre for name, centre in nodes.items() if name not in (edge.source, edge.target)]
        tried = [_curve(edge, centres, bend) for bend in _bends(edge, centres)]
        clear = (c for c in tried if _is_clear(c, passed) and not _is_taken(c, curves.values()))
        curves[edge.place] = next(clear, tried[-1])
    return curves


def _bends(edge: MotifEdge, centres: Mapping[str, Point]) -> list[float]:
    """How far below the straight line an edge may pass, the best first; forward edges are straight if they can be."""
    middle = centres[edge.source].y + centres[edge.target].y
    upwards = middle < 0 or (middle == 0 and not edge.feedback)
    bends = [-bend if upwards else bend for bend in _BENDS]
    return bends if edge.feedback else [0.0, *bends]


def _curve(edge: MotifEdge, centres: Mapping[str, Point], bend: float) -> Curve:
    """From rim to rim, in the middle `bend` below the straight line; a loop under a node that feeds itself."""
    a, b = centres[edge.source], centres[edge.target]
    if edge.source == edge.target:
        first, second = a.plus(Point(36.0, 20.0 + abs(bend))), a.plus(Point(-36.0, 20.0 + abs(bend)))
    else:
        step = a.to(b)
        across = Point(-step.y, step.x).unit()
        down = across if across.y > 0 or (across.y == 0 and across.x > 0) else Point(-across.x, -across.y)
        first, second = a.plus(step, 1 / 3).plus(down, 4 / 3 * bend), a.plus(step, 2 / 3).plus(down, 4 / 3 * bend)
    leave = 0.0 if _is_input(edge.source) else RADIUS
    arrive = GAP if _is_input(edge.target) else RADIUS + GAP
    start = a.plus(a.to(first).unit(), leave)
    end = b.plus(b.to(second).unit(), arrive)
    return Curve(start, first, second, end)


def _is_input(name: str) -> bool:
    return name.startswith("a")


def _is_clear(curve: Curve, passed: Iterable[Point]) -> bool:
    least = RADIUS + CLEARANCE
    points = curve.points()
    return all(point.distance(centre) > least for centre in passed for point in points)


def _is_taken(curve: Curve, others: Iterable[Curve]) -> bool:
    """Whether another edge runs the same way."""
    times = (0.25, 0.5, 0.75)
    return any(all(curve.at(t).distance(other.at(t)) < 10.0 for t in times) for other in others)


def _place_labels(curves: Mapping[int, Curve], centres: Iterable[Point]) -> dict[int, Point]:
    """A place for each label on its curve where it covers neither a circle nor a label before it, if there is one."""
    placed: dict[int, Point] = {}
    circles = list(centres)
    for place, curve in curves.items():
        tried = [curve.at(t) for t in _LABEL_TIMES]
        free = (p for p in tried if _beside(p, circles) and not any(_overlap(p, q) for q in placed.values()))
        placed[place] = next(free, tried[0])
    return placed


def _overlap(a: Point, b: Point) -> bool:
    return abs(a.x - b.x) < LABEL_WIDTH and abs(a.y - b.y) < LABEL_HEIGHT


def _beside(label: Point, circles: Iterable[Point]) -> bool:
    return all(
        abs(label.x - centre.x) > RADIUS + LABEL_WIDTH / 2 or abs(label.y - centre.y) > RADIUS + LABEL_HEIGHT / 2
        for centre in circles
    )
