"""Points and curves of a drawing. Coordinates are pixels, y grows downwards."""

from __future__ import annotations

import math
from typing import NamedTuple


class Point(NamedTuple):
    """A place, or a step between two."""

    x: float
    y: float

    def plus(self, step: Point, factor: float = 1.0) -> Point:
        return Point(self.x + factor * step.x, self.y + factor * step.y)

    def to(self, other: Point) -> Point:
        """The step from here to there."""
        return Point(other.x - self.x, other.y - self.y)

    def distance(self, other: Point) -> float:
        return math.hypot(other.x - self.x, other.y - self.y)

    def unit(self) -> Point:
        length = math.hypot(self.x, self.y)
        return Point(self.x / length, self.y / length)


class Curve(NamedTuple):
    """A cubic Bézier curve."""

    start: Point
    first: Point
    second: Point
    end: Point

    def at(self, t: float) -> Point:
        """The point at t in 0..1."""
        s = 1 - t
        weights = (s**3, 3 * s * s * t, 3 * s * t * t, t**3)
        return Point(
            sum(w * p.x for w, p in zip(weights, self, strict=True)),
            sum(w * p.y for w, p in zip(weights, self, strict=True)),
        )

    def points(self) -> list[Point]:
        """Twenty-one points from start to end."""
        return [self.at(k / 20) for k in range(21)]

    @property
    def heading(self) -> Point:
        """The direction, of length 1, in which it ends."""
        return self.second.to(self.end).unit()
