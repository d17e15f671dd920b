"""How figures for papers look, and how they become files that are the same whenever they are made.

matplotlib without pyplot, its reader's own settings, mathematical markup in names, or dates.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from evospike.report.paper.text import one_line

COLUMN, PAGE = 3.35, 7.0
"""Inches: the width of a column, and of both."""

TALLEST = 8.5
"""Inches that no figure exceeds in height."""

COLOURS = ("#0a66a8", "#c2500a", "#008060", "#a8437f", "#8a6400", "#5a5fc7")
"""Told apart by every kind of colour vision; the series of the page in its light theme."""

TEXT, MUTED, GRID, BAD, WINNER = "#1b2430", "#55606e", "#e6eaef", "#c23b00", "#d0316f"

CHARACTERS_PER_INCH, CHARACTERS_OF_HANDLE = 17, 6
"""About how wide text is, and what stands before each name of a legend."""

NOTE: Mapping[str, Any] = {"fontsize": 6, "color": MUTED}
NOTE_CHARACTERS = 20
"""How a note looks, and about how many of its characters an inch holds."""

MARKERS = ("o", "s", "D", "^", "p")

DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1.5)))

HATCHES = ("", "////", "....", "xxxx", "----")
"""One less of these than colours, so that a series with the colour of another has another marker, dash and hatching."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "evospike",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "errorbar.capsize": 2.5,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Look:
    """How one series is told from the others, in colour and without."""

    colour: str
    marker: str
    dash: Any
    fill: Mapping[str, Any]


@contextlib.contextmanager
def paper_style() -> Iterator[None]:
    """Within it, figures are made and saved in the style of this module; the settings of before come back after it."""
    with style.context("default"), matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # such a name is still text in the SVG
        yield


def looks(names: Iterable[str]) -> dict[str, Look]:
    """One look per name, in their order."""
    return {
        name: Look(COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)], DASHES[k % len(DASHES)], fill(k))
        for k, name in enumerate(dict.fromkeys(names))
    }


def fill(k: int) -> dict[str, Any]:
    """How the bars of the k-th series are filled."""
    hatch = HATCHES[k % len(HATCHES)]
    return {"facecolor": COLOURS[k % len(COLOURS)], "hatch": hatch, "edgecolor": "white", "linewidth": 0}


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of that size in inches, and its axes row by row."""
    figure = Figure(figsize=(width, min(height, TALLEST)))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def share_legend(figure: Figure, axes: Axes) -> None:
    """A legend of the series of `axes` above all axes of the figure; none for a single series."""
    handles, names = axes.get_legend_handles_labels()
    if len(handles) > 1:
        legend_above(figure, handles, names)


def legend_above(figure: Figure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """A legend above all axes, in as many columns as its names leave room for."""
    room = figure.get_figwidth() * CHARACTERS_PER_INCH
    widths = [len(name) + CHARACTERS_OF_HANDLE for name in names]
    columns = len(names) if sum(widths) <= room else max(int(room // max(widths)), 1)
    figure.legend(handles, names, loc="outside upper center", ncols=columns)


def note_below(figure: Figure, text: str) -> None:
    """A small line at the lower left of a figure, below all axes."""
    figure.supxlabel(plain_text(text, int(figure.get_figwidth() * NOTE_CHARACTERS)), x=0.01, ha="left", **NOTE)


def whole_numbers(axes: Axes) -> None:
    """Mark whole numbers only, across."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def count_ticks(axis: Any) -> None:
    """Write 20000 as 20k."""
    axis.set_major_formatter(EngFormatter(sep=""))


def plain_text(text: object, most: int = 40) -> str:
    """A name as one line that every format can hold: nothing that cannot be printed, and not too long.

    One that begins with an underscore gets a space before it, because legends leave such names out.
    """
    line = one_line(text)
    line = f" {line}" if line.startswith("_") else line
    return line if len(line) <= most else line[: most - 1] + "…"


def file_bytes(figure: Figure, kind: str, title: str) -> bytes:
    """The figure as `pdf` or `svg`, without the time of its making. Call it within `paper_style`."""
    metadata: Mapping[str, Any] = {"Title": title, "CreationDate" if kind == "pdf" else "Date": None}
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=dict(metadata))
    return stream.getvalue()
