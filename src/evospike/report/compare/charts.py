"""Charts of a comparison: accuracy of every run, accuracy against every cost, curves over one another.

A run has one sign in all of them: its number, a colour, and from the seventh on another symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evospike.report.compare.facts import ComparedRun, Comparison
from evospike.report.compare.quantities import Quantity, Value
from evospike.report.evaluation.charts import robustness_chart
from evospike.report.figures import Chart, Plain, axis_of, plain_layout, safe, short
from evospike.report.training.gather import Training
from evospike.report.training.training_charts import arms_chart, curve_chart

WIDEST = 20.0
"""Largest over least cost from which an axis is logarithmic."""


def comparison_charts(facts: Comparison) -> dict[str, Chart]:
    """Every chart that the runs have data for, by name."""
    charts = [
        arms_chart([replace(run.arm, name=run.title) for run in facts.runs]),
        *(cost_chart(facts, place, quantity) for place, quantity in enumerate(facts.costs)),
        *_training_charts(facts.runs),
        *_robustness_charts(facts),
    ]
    return {chart.name: chart for chart in charts}


def cost_chart(facts: Comparison, place: int, quantity: Quantity) -> Chart:
    """Test accuracy over a cost: the mean of every run as its number, with both 95 % intervals."""
    accuracy = facts.quantities["test_accuracy"]
    points = [
        (run, x, y)
        for run, x, y in zip(facts.runs, quantity.values, accuracy.values, strict=True)
        if x is not None and y is not None
    ]
    axis, floor = _cost_axis(quantity, [x for _, x, _ in points])
    data = tuple(_point(run, x, y, quantity, accuracy, floor) for run, x, y in points)
    parts = [
        f"{run.title} {quantity.number(x.mean)} {quantity.unit}, {accuracy.number(y.mean)} %" for run, x, y in points
    ]
    summary = f"Test accuracy over {quantity.name}, mean over seeds: {'; '.join(parts)}."
    layout = plain_layout(330, xaxis=axis, yaxis=axis_of(accuracy.heading))
    return Chart(f"over{place}", summary, data, {**layout, "showlegend": False})


def _robustness_charts(facts: Comparison) -> list[Chart]:
    """Accuracy by the strength of a change, a line and a band per run."""
    arms = [replace(run.evaluation, name=run.title) for run in facts.tried if run.evaluation]
    looks = {run.title: run.number - 1 for run in facts.runs}
    found = [robustness_chart(place, *curve, arms, looks) for place, curve in enumerate(facts.curves)]
    return [_tall(chart, len(arms)) for chart in found]


def _training_charts(runs: Sequence[ComparedRun]) -> list[Chart]:
    """Training curves over one another, the runs in the place of arms."""
    trainings = [training for run in runs for training in _entitled(run)]
    found = [
        curve_chart("training-loss", "loss", "training loss", trainings),
        curve_chart("validation", "validation_accuracy", "validation accuracy (%)", trainings, 100.0),
    ]
    return [_tall(chart, len(runs)) for chart in found if chart is not None]


def _entitled(run: ComparedRun) -> list[Training]:
    """The trainings of a run under its title; one without epochs where the records are gone, to keep its colour."""
    none = Training(run.title, 0, (), {}, ())
    return [replace(training, arm=run.title) for training in run.trainings] or [none]


def _tall(chart: Chart, lines: int) -> Chart:
    """With room for a legend that takes a row for every line."""
    return replace(chart, layout={**chart.layout, "height": 300 + 20 * lines})


def _cost_axis(quantity: Quantity, values: Sequence[Value]) -> tuple[Plain, float]:
    """The axis of a cost, and its lower end: logarithmic where costs differ much, in which no bar reaches zero."""
    axis = axis_of(quantity.heading)
    least, most = min(value.mean for value in values), max(value.mean for value in values)
    if least == most:
        return {**axis, "range": [0, 2 * quantity.factor * most or 1]}, 0.0
    if least <= 0 or most / least < WIDEST:
        return axis, 0.0
    return {**axis, "type": "log", "dtick": 1}, quantity.factor * least / 2


def _point(run: ComparedRun, x: Value, y: Value, over: Quantity, accuracy: Quantity, floor: float) -> Plain:
    colour = run.colour
    across, up = over.factor * x.mean, accuracy.factor * y.mean
    reach = over.factor * (x.interval or 0.0)
    rise = accuracy.factor * (y.interval or 0.0)
    bars = {"type": "data", "symmetric": False, "color": colour, "thickness": 1.5, "width": 4}
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": safe(run.title),
        "x": [short(across)],
        "y": [short(up)],
        "error_x": {**bars, "array": [short(reach)], "arrayminus": [short(min(reach, across - floor))]},
        "error_y": {**bars, "array": [short(min(rise, 100 - up))], "arrayminus": [short(min(rise, up))]},
        "marker": {"color": colour, "size": 20, "symbol": run.symbol},
        "text": [str(run.number)],
        "textposition": "middle center",
        "textfont": {"color": "@surface", "size": 12},
        "hoverinfo": "text",
        "hovertext": [
            f"{safe(run.title)}<br>{safe(over.heading)}: {over.text(x)}<br>{accuracy.heading}: {accuracy.text(y)}"
        ],
    }
