"""The growth curves as one picture, the same bytes whenever it is made. Needs matplotlib (the extra `figures`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from evospike.bench.document import GrowthResult
from evospike.report.paper.style import COLOURS, MUTED, PAGE, file_bytes, new_figure, paper_style

_COLUMNS = 3
_ROW_INCHES = 1.7


def growth_picture(growths: Sequence[GrowthResult]) -> bytes:
    """An SVG with a panel for every growth curve (one or more): medians, quartiles and the fitted line."""
    rows = math.ceil(len(growths) / _COLUMNS)
    with paper_style():
        figure, panels = new_figure(PAGE, _ROW_INCHES * rows, rows, _COLUMNS)
        for panel, growth in zip(panels, growths, strict=False):
            _draw(panel, growth)
        for panel in panels[len(growths) :]:
            panel.set_axis_off()
        return file_bytes(figure, "svg", "growth")


def _draw(panel: Axes, growth: GrowthResult) -> None:
    measured = [(point.value, point.spread) for point in growth.points if point.spread is not None]
    values = [value for value, _ in measured]
    medians = [spread.median for _, spread in measured]
    below = [spread.median - spread.low for _, spread in measured]
    above = [spread.high - spread.median for _, spread in measured]
    panel.errorbar(values, medians, yerr=(below, above), fmt="o", color=COLOURS[0], linewidth=0.8)
    if growth.fit is not None:
        ends = (values[0], values[-1])
        panel.plot(ends, [growth.fit.intercept + growth.fit.slope * x for x in ends], color=MUTED, linewidth=0.8)
    panel.set_ylim(bottom=0)
    panel.set_title(growth.name)
    panel.set_xlabel(growth.variable)
    panel.set_ylabel(growth.unit)
