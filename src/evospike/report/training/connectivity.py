"""The picture of a layer's synapses: outputs from top to bottom, inputs from left to right, filled where they exist.

Its colour is set by classes in the page's style; how strong it is says how much of a block exists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from evospike.report.training.structure_facts import LayerPicture

SIDE, GUTTER = 160, 17
"""Of the square that a layer fills, and of the room for a label beside and above it."""

LEVELS = 5
"""Strengths of the colour, beside none."""

FAINTEST = 0.28
"""Opacity of the weakest strength; the strongest has 1."""


def draw_layer(picture: LayerPicture, number: int) -> str:
    """A layer as an `svg` element. number: tells it from the others of the page."""
    size = SIDE + GUTTER
    name = f"synapses-{number}"
    svg = Element(
        "svg",
        {
            "class": "synapses",
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-about",
            "viewBox": f"0 0 {size} {size}",
        },
    )
    SubElement(svg, "title", {"id": f"{name}-title"}).text = f"Synapses of {picture.name}"
    SubElement(svg, "desc", {"id": f"{name}-about"}).text = describe(picture)
    _label(svg, "inputs →", f"translate({GUTTER} {GUTTER - 4})")
    _label(svg, "← outputs", f"translate({GUTTER - 4} {size}) rotate(-90)")
    _cells(svg, picture)
    return tostring(svg, encoding="unicode")


def describe(picture: LayerPicture) -> str:
    """What a picture shows, in words."""
    return (
        f"{picture.outputs} outputs by {picture.inputs} inputs, of whose synapses {100 * picture.density:.3g} % exist. "
        f"Empty are {picture.empty_rows} of {picture.rows} rows and {picture.empty_columns} of {picture.columns} "
        f"columns; the fullest block has {100 * picture.fullest:.3g} %."
    )


def levels(share: Sequence[Sequence[float]]) -> list[list[int]]:
    """Strength of the colour of every block: 0 where nothing exists, `LEVELS` for the largest share of the layer."""
    most = max(map(max, share))
    return [[math.ceil(LEVELS * (value / most)) if value else 0 for value in row] for row in share]


def _cells(svg: Element, picture: LayerPicture) -> None:
    """The blocks, one path per strength, in units of a block."""
    place = f"translate({GUTTER} {GUTTER}) scale({SIDE / picture.columns:.6g} {SIDE / picture.rows:.6g})"
    frame = SubElement(svg, "g", {"transform": place})
    SubElement(frame, "rect", {"width": str(picture.columns), "height": str(picture.rows)})
    strengths = levels(picture.share)
    for level in range(1, LEVELS + 1):
        path = "".join(_runs(strengths, level))
        if path:
            opacity = FAINTEST + (1 - FAINTEST) * (level - 1) / (LEVELS - 1)
            SubElement(frame, "path", {"d": path, "stroke-opacity": f"{opacity:.2f}"})


def _runs(strengths: Sequence[Sequence[int]], level: int) -> list[str]:
    """Strokes through the middle of all blocks of one strength, those side by side in one."""
    strokes = []
    for y, row in enumerate(strengths):
        x = 0
        while x < len(row):
            length = next((k for k, other in enumerate(row[x:]) if other != level), len(row) - x)
            if length:
                strokes.append(f"M{x} {y}.5h{length}")
            x += length + 1
    return strokes


def _label(svg: Element, text: str, place: str) -> None:
    SubElement(svg, "text", {"transform": place, "aria-hidden": "true"}).text = text
