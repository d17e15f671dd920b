"""What charts of several runs are drawn with: rows of means and intervals, in the colours of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evospike.report.compare.alike import Entry
from evospike.report.figures import Plain, axis_of, in_lines, safe, short


@dataclass(frozen=True)
class Mark:
    """A mean and its interval, from `low` to `high`, at the height of a row. text: what it says when pointed at."""

    row: float
    mean: float
    low: float
    high: float
    text: str


def row_axis(names: Sequence[str]) -> Plain:
    """An axis of rows, the first on top; row k is at the height k."""
    places = list(range(len(names)))
    return {
        **axis_of(),
        "range": [len(names) - 0.5, -0.5],
        "tickvals": places,
        "ticktext": list(map(in_lines, names)),
        "showgrid": False,
    }


def marks_trace(run: Entry, marks: Sequence[Mark]) -> Plain:
    """The marks of one run, with bars that are their intervals."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(run.title),
        "legendgroup": str(run.number),
        "x": [short(mark.mean) for mark in marks],
        "y": [mark.row for mark in marks],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [short(mark.high - mark.mean) for mark in marks],
            "arrayminus": [short(mark.mean - mark.low) for mark in marks],
            "color": run.colour,
            "thickness": 2,
            "width": 5,
        },
        "marker": {"color": run.colour, "size": 10, "symbol": run.symbol},
        "hoverinfo": "text",
        "text": [mark.text for mark in marks],
    }
