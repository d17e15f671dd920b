"""The elements that drawings of architectures are made of. Colours and lines are set by classes in the page's style.

Shapes carry the meaning and colours repeat it: an excitatory connection ends in an arrow, an inhibitory one in a bar,
a state that passes unchanged in a ring; feedback and delays are dashed.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

from evospike.report.architecture.geometry import Curve, Point


def svg(width: float, height: float, title: str, about: str, name: str) -> Element:
    """An empty picture. title, about: what is read aloud. name: its class, and the start of its ids."""
    element = Element("svg", {"class": name, "role": "img", "aria-labelledby": f"{name}-title {name}-about"})
    resize(element, width, height)
    SubElement(element, "title", {"id": f"{name}-title"}).text = title
    SubElement(element, "desc", {"id": f"{name}-about"}).text = about
    return element


def resize(element: Element, width: float, height: float) -> None:
    """Give a picture its size in pixels."""
    for name, value in (("width", width), ("height", height)):
        element.set(name, number(value))
    element.set("viewBox", f"0 0 {number(width)} {number(height)}")


def legend(rows: Iterable[tuple[str, str]]) -> str:
    """What lines mean, as an `svg` element. rows: kinds of line and their meaning."""
    told = list(rows)
    picture = svg(320.0, 26.0 * len(told), "Legend", "What the lines of the drawing mean.", "legend")
    for k, (kind, meaning) in enumerate(told):
        y = 13.0 + 26.0 * k
        start, end = Point(4.0, y), Point(60.0, y)
        line(picture, Curve(start, start.plus(Point(18.0, 0.0)), start.plus(Point(38.0, 0.0)), end), kind)
        text(picture, Point(76.0, y), meaning, "")
    return tostring(picture, encoding="unicode")


def detour(span: int) -> float:
    """How far the handles of a wire reach that passes `span - 1` others."""
    return 20.0 + 18.0 * span


def box(parent: Element, kind: str, name: str, corner: Point, width: float, height: float) -> Element:
    """A group with a frame of round corners."""
    group = SubElement(parent, "g", {"class": f"box {kind}", "data-box": name})
    place = {"x": number(corner.x), "y": number(corner.y), "rx": "10"}
    SubElement(group, "rect", {**place, "width": number(width), "height": number(height)})
    return group


def line(parent: Element, curve: Curve, kind: str) -> None:
    """A curve and, by its kind, the shape in which it ends."""
    SubElement(parent, "path", {"class": f"line {kind}", "d": f"M{pair(curve.start)} C{pairs(*curve[1:])}"})
    end, ahead = curve.end, curve.heading
    side = Point(-ahead.y, ahead.x)
    first = kind.partition(" ")[0]
    if first in ("plus", "wire", "plain"):
        base = end.plus(ahead, -8.0)
        corners = pairs(end, base.plus(side, 4.5), base.plus(side, -4.5))
        SubElement(parent, "path", {"class": f"head {first}", "d": f"M{corners} Z"})
    elif first == "minus":
        place = f"M{pair(end.plus(side, 7.0))} L{pair(end.plus(side, -7.0))}"
        SubElement(parent, "path", {"class": "bar", "d": place})
    elif first == "identity":
        SubElement(parent, "circle", {"class": "ring", "cx": number(end.x), "cy": number(end.y), "r": "4"})


def text(parent: Element, point: Point, content: str, kind: str) -> None:
    place = {"x": number(point.x), "y": number(point.y), "dy": "0.35em"}
    SubElement(parent, "text", {**place, **({"class": kind} if kind else {})}).text = content


def pairs(*points: Point) -> str:
    return " ".join(map(pair, points))


def pair(point: Point) -> str:
    return f"{number(point.x)} {number(point.y)}"


def number(value: float) -> str:
    """A tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0") if round(value, 1) else "0"
