"""What all charts are made of: figures as plotly takes them, in plain JSON values, and their parts.

Colours are names such as `@series0`; the page turns them into those of its theme. Every text that comes from the run
passes through `safe`, because plotly reads a subset of HTML in its labels.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

SERIES = 6
"""Colours for arms; a seventh arm takes the first again, with another dash and symbol."""


DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
"""One less than colours, so that an arm with the colour of another has another dash."""


SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon", "triangle-down", "hexagon2")


RANKS = [[0.0, "@rank0"], [0.5, "@rank1"], [1.0, "@rank2"]]

Plain = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One figure.

    name: its id on the page. summary: what it shows, in words. note: what of it is not drawn, empty where all is.
    """

    name: str
    summary: str
    data: tuple[Plain, ...]
    layout: Plain
    note: str = ""

    @property
    def height(self) -> int:
        return int(self.layout["height"])

    def figure(self) -> Plain:
        """What `Plotly.newPlot` takes."""
        return {"data": list(self.data), "layout": self.layout}


def line_trace(name: str, x: Sequence[int], y: Sequence[float | None], colour: str, dash: str) -> Plain:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": 2.5, "dash": dash},
        "marker": {"color": colour, "size": 6},
        "hoverinfo": "text",
        "hovertext": [f"{name}<br>{place}: {value}" for place, value in zip(x, y, strict=True)],
    }


def plain_layout(height: int, **axes: Plain) -> Plain:
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "@text"},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "hoverlabel": {
            "bgcolor": "@surface",
            "bordercolor": "@line",
            "font": {"color": "@text", "size": 13},
            "align": "left",
        },
        "dragmode": False,
        **axes,
    }


def wide_layout(height: int, **axes: Plain) -> Plain:
    """The layout of the candidates: with a bar that explains their colours."""
    bar = {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "yref": "container",
        "y": 0,
        "yanchor": "bottom",
        "len": 1,
        "thickness": 10,
        "outlinewidth": 0,
        "tickvals": [0.04, 0.5, 0.96],
        "ticktext": ["best", "place in its generation", "worst"],
        "ticks": "",
    }
    coloraxis = {"cmin": 0, "cmax": 1, "colorscale": RANKS, "colorbar": bar}
    return {**plain_layout(height, **axes), "coloraxis": coloraxis}


def axis_of(title: str = "") -> Plain:
    return {
        "title": {"text": safe(title), "standoff": 10},
        "automargin": True,
        "fixedrange": True,
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zeroline": False,
        "showline": True,
    }


def count_axis(title: str, numbers: Iterable[int]) -> Plain:
    """An axis of whole numbers; every one is marked when they are few."""
    known = sorted(set(numbers))
    few = {"tickvals": known} if len(known) <= 12 else {}
    pad = max(0.03 * (known[-1] - known[0]), 0.3)
    return {**axis_of(title), "range": [known[0] - pad, known[-1] + pad], **few}


def journey(what: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{what} from {known[0]:.3g} to {known[-1]:.3g}." if known else f"{what}: none."


def safe(text: str) -> str:
    """Text that plotly shows as it is."""
    return html.escape(str(text), quote=False)


def in_lines(text: str, most: int = 14) -> str:
    """A name beside an axis, in lines of at most so many characters."""
    return "<br>".join(map(safe, wrap(text, most))) or safe(text)


def short(value: float | None) -> float | None:
    """Six digits are enough for a screen; what is not finite is left out."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def evenly(count: int, most: int) -> list[int]:
    """Places of `count` things of which at most about `most` are drawn: the first, every so many-th, and the last."""
    return sorted({*range(0, count, -(-count // most)), count - 1}) if count else []


def finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
