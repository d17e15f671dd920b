"""Charts of an evaluation: work by layer, spikes, energy by model, accuracy by step, confusion, robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evospike.report.evaluation.facts import (
    CostedLayer,
    Curve,
    Encoding,
    Energy,
    EvaluatedArm,
    Evaluation,
    model_title,
)
from evospike.report.figures import DASHES, SERIES, Chart, Plain, axis_of, line_trace, plain_layout, safe, short
from evospike.report.formats import amount, count, energy, number, percent, times

MOST_CELLS = 30_000
"""Cells of confusion matrices that a page has room for; networks behind them have none drawn."""

LONGEST = 20
"""Characters of a name beside an axis."""

HATCHED = {"shape": "/", "fgcolor": "@surface", "fillmode": "overlay", "solidity": 0.35}

SCALE = [[0.0, "@rank2"], [0.5, "@rank1"], [1.0, "@rank0"]]
"""From little to much."""

RARE = [[0.0, "@surface"], [1e-9, "@rank2"], [0.1, "@rank1"], [1.0, "@rank0"]]
"""The same, with most of the colours for the tenth that is least: errors are rare."""

WRITTEN = 12
"""Up to so many classes the counts of a confusion are written into it."""


def evaluation_charts(evaluation: Evaluation, arms: Sequence[str]) -> dict[str, Chart]:
    """Every chart that the evaluation has data for, by name. arms: those of the whole page, which give the colours."""
    looks = {arm.name: _place(arm.name, arms) for arm in evaluation.arms}
    charts = [cost_chart(evaluation.arms, looks), energy_chart(evaluation)]
    if max(arm.steps for arm in evaluation.arms) > 1:
        charts.append(steps_chart(evaluation.arms, looks))
    most = max(
        (spikes / layer.units for arm in evaluation.arms for layer in arm.neurons for spikes in layer.spikes_by_step),
        default=0.0,
    )
    for place, arm in enumerate(evaluation.arms):
        charts.append(spikes_chart(arm, place, most))
        if (place + 1) * len(evaluation.classes) ** 2 <= MOST_CELLS:
            charts.append(confusion_chart(arm, place, evaluation.classes))
    for place, (name, unit) in enumerate(evaluation.curves):
        charts.append(robustness_chart(place, name, unit, evaluation.arms, looks))
    return {chart.name: chart for chart in charts}


def cost_chart(arms: Sequence[EvaluatedArm], looks: Mapping[str, int]) -> Chart:
    """Operations of every layer on a sample, networks side by side; hatched where they are multiply-accumulates."""
    data = [trace for arm in arms for trace in _work(arm, looks[arm.name], alone=len(arms) == 1)]
    layers = list(dict.fromkeys(layer.name for arm in arms for layer in arm.layers))
    axes = {"xaxis": {**axis_of("operations"), "rangemode": "tozero"}, "yaxis": _rows(layers)}
    parts = [
        f"{arm.name} {amount(arm.numbers['accumulates'])} accumulates and "
        f"{amount(arm.numbers['multiply_accumulates'])} multiply-accumulates"
        for arm in arms
    ]
    layout = plain_layout(110 + len(layers) * (16 * len(arms) + 12), **axes)
    summary = f"Operations per sample by layer; in all: {'; '.join(parts)}."
    return Chart("cost", summary, tuple(data), {**layout, "barmode": "group", "bargap": 0.3})


def spikes_chart(arm: EvaluatedArm, place: int, most: float) -> Chart:
    """Spikes per unit of every layer of neurons at every step, as a field of colours from none to `most`."""
    rates = [[short(spikes / layer.units) for spikes in layer.spikes_by_step] for layer in arm.neurons]
    trace = {
        **_field([str(step + 1) for step in range(arm.steps)], [layer.name for layer in arm.neurons], rates),
        "zmin": 0.0,
        "zmax": short(most) or 1.0,
        "customdata": [[amount(spikes) for spikes in layer.spikes_by_step] for layer in arm.neurons],
        "hovertemplate": "%{y}, step %{x}<br>%{customdata} spikes per sample<br>%{z:.4~g} per unit<extra></extra>",
    }
    axes = {
        "xaxis": {**axis_of("step"), "type": "category", "showgrid": False},
        "yaxis": _rows([layer.name for layer in arm.neurons]),
    }
    parts = [f"{layer.name} {number(layer.rate)}" for layer in arm.neurons]
    summary = f"Spikes of {arm.name} per unit by layer and step; on average over the steps: {'; '.join(parts)}."
    return Chart(f"spikes-{place}", summary, (trace,), plain_layout(max(86 + 34 * len(arm.neurons), 180), **axes))


def energy_chart(evaluation: Evaluation) -> Chart:
    """Energy under every model, by what it is spent on, as a share of the dense network's under the same model."""
    several = len(evaluation.arms) > 1
    rows = [
        ("\n".join([*([arm.name] if several else []), model_title(one.model), energy(one.picojoules)]), one)
        for model in evaluation.models
        for arm in evaluation.arms
        for one in arm.energies
        if one.model == model and one.dense_picojoules
    ]
    names = list(dict.fromkeys(part for _, one in rows for part in one.parts))
    data = [_spent(part, place, rows) for place, part in enumerate(names)]
    most = max((100 * one.picojoules / one.dense_picojoules for _, one in rows), default=0.0)
    axes = {
        "xaxis": {**axis_of("% of its dense twin"), "range": [0, 1.06 * max(most, 100)]},
        "yaxis": _rows([row for row, _ in rows]),
    }
    parts = [f"{_one_line(row)}, {percent(one.share)} of its dense twin’s" for row, one in rows]
    layout = plain_layout(90 + 20 * len(names) + (60 if several else 44) * len(rows), **axes)
    layout = {**layout, "barmode": "stack", "bargap": 0.35, "shapes": [_upright(100.0)]}
    layout["legend"] = {**layout["legend"], "traceorder": "normal"}
    return Chart("energy", f"Energy per sample by model: {'; '.join(parts)}.", tuple(data), layout)


def steps_chart(arms: Sequence[EvaluatedArm], looks: Mapping[str, int]) -> Chart:
    """Accuracy of the answer after the first t steps."""
    data = []
    for arm in arms:
        place = looks[arm.name]
        steps = list(range(1, arm.steps + 1))
        found = [short(100 * value) for value in arm.accuracy_by_step]
        line = line_trace(safe(arm.name), steps, found, _colour(place), DASHES[place % len(DASHES)])
        labels = [
            f"{safe(arm.name)}<br>{times(step, 'step')}: {percent(value, 2)}"
            for step, value in zip(steps, arm.accuracy_by_step, strict=True)
        ]
        data.append({**line, "hovertext": labels, "showlegend": len(arms) > 1})
    longest = max(arm.steps for arm in arms)
    ticks = {"tickvals": list(range(1, longest + 1))} if longest <= 12 else {}
    axes = {"xaxis": {**axis_of("steps that the answer is read from"), **ticks}, "yaxis": axis_of("test accuracy (%)")}
    parts = [
        f"{arm.name} {percent(arm.accuracy_by_step[0], 2)} to {percent(arm.accuracy_by_step[-1], 2)}" for arm in arms
    ]
    return Chart("steps", f"Test accuracy by steps: {'; '.join(parts)}.", tuple(data), plain_layout(320, **axes))


def confusion_chart(arm: EvaluatedArm, place: int, classes: Sequence[str]) -> Chart:
    """How often every class was answered with which, as a share of the class."""
    totals = [sum(row) for row in arm.confusion]
    shares = [
        [round(100 * cell / total, 2) if total else 0.0 for cell in row]
        for row, total in zip(arm.confusion, totals, strict=True)
    ]
    trace = {
        **_field(classes, classes, shares),
        "zmin": 0.0,
        "zmax": 100.0,
        "colorscale": RARE,
        "text": [[str(cell) if cell and len(classes) <= WRITTEN else "" for cell in row] for row in arm.confusion],
        "texttemplate": "%{text}",
        "customdata": [list(row) for row in arm.confusion],
        "hovertemplate": "is %{y}, answered %{x}<br>%{customdata}, %{z:.3g} % of its class<extra></extra>",
        "colorbar": {**_BAR, "ticksuffix": " %"},
    }
    axes = {
        "xaxis": {**_names(classes), **_title("answer")},
        "yaxis": {**_rows(classes), **_title("true class")},
    }
    right = sum(row[k] for k, row in enumerate(arm.confusion))
    summary = f"Answers of {arm.name} by true class; {right:,} of {sum(totals):,} are right."
    return Chart(f"confusion-{place}", summary, (trace,), plain_layout(min(170 + 26 * len(classes), 560), **axes))


def robustness_chart(place: int, name: str, unit: str, arms: Sequence[EvaluatedArm], looks: Mapping[str, int]) -> Chart:
    """Accuracy under one kind of change, networks side by side: the mean, and a band of one standard deviation."""
    data: list[Plain] = []
    parts: list[str] = []
    marks: set[float] = set()
    falling = False
    for arm in arms:
        for curve in () if arm.robustness is None else arm.robustness.curves:
            if (curve.name, curve.unit) == (name, unit):
                data += _band_and_line(arm.name, curve, looks[arm.name], alone=len(arms) == 1)
                parts.append(f"{arm.name} from {percent(curve.mean[0], 2)} to {percent(curve.mean[-1], 2)}")
                marks |= set(curve.strengths)
                falling = falling or curve.falls
    few = {"tickvals": sorted(marks)} if len(marks) <= 8 else {}
    axes = {
        "xaxis": {**axis_of(unit), **({"type": "category"} if falling else few)},
        "yaxis": {**axis_of("accuracy (%)"), "range": [0, 102]},
    }
    summary = f"Accuracy under {name} ({unit}): {'; '.join(parts)}."
    return Chart(f"robustness-{place}", summary, tuple(data), plain_layout(280, **axes))


def _band_and_line(arm: str, curve: Curve, place: int, *, alone: bool) -> list[Plain]:
    colour, dash = _colour(place), DASHES[place % len(DASHES)]
    x: list[float | str] = [f"{one:g}" for one in curve.strengths] if curve.falls else list(curve.strengths)
    spread = [value or 0.0 for value in curve.std]
    upper = [short(100 * (mean + std)) for mean, std in zip(curve.mean, spread, strict=True)]
    lower = [short(100 * (mean - std)) for mean, std in zip(curve.mean, spread, strict=True)]
    band = {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *x[::-1]],
        "y": [*upper, *lower[::-1]],
        "fill": "toself",
        "fillcolor": colour,
        "line": {"color": colour, "width": 0},
        "opacity": 0.2,
        "hoverinfo": "skip",
        "showlegend": False,
    }
    line = {
        **line_trace(safe(arm), [], [], colour, dash),
        "x": x,
        "y": [short(100 * mean) for mean in curve.mean],
        "hovertext": [
            f"{safe(arm)}<br>{safe(curve.name)} {strength:g} ({safe(curve.unit)})<br>{percent(mean, 2)}"
            f"{'' if std is None else f' ± {100 * std:.2f}'}"
            for strength, mean, std in zip(curve.strengths, curve.mean, curve.std, strict=True)
        ],
        "showlegend": not alone,
    }
    return [band, line] if any(spread) else [line]


def _work(arm: EvaluatedArm, place: int, *, alone: bool) -> list[Plain]:
    """Bars of the layers that accumulate and of those that multiply; the legend tells kinds apart, or networks."""
    traces: list[Plain] = []
    for kind, accumulates in (("accumulates", True), ("multiply-accumulates", False)):
        layers = [layer for layer in arm.layers if layer.accumulates is accumulates]
        if layers:
            bars = {
                **_bars(kind if alone else arm.name, _colour(place), hatched=not accumulates),
                "offsetgroup": str(place),
                "legendgroup": kind if alone else str(place),
                "showlegend": alone or not traces,
                "y": [safe(layer.name) for layer in layers],
                "x": [short(layer.effective) for layer in layers],
                "hovertext": [_work_label(arm.name, layer, kind) for layer in layers],
            }
            traces.append(bars)
    return traces


def _bars(name: str, colour: str, *, hatched: bool) -> Plain:
    return {
        "type": "bar",
        "orientation": "h",
        "name": safe(name),
        "marker": {"color": colour, **({"pattern": HATCHED} if hatched else {})},
        "hoverinfo": "text",
        "textposition": "none",
    }


def _spent(part: str, place: int, rows: Sequence[tuple[str, Energy]]) -> Plain:
    """Bars of one part of the energy."""
    priced = [(row, one, one.parts[part]) for row, one in rows if part in one.parts]
    return {
        **_bars(part, _colour(place), hatched=place >= SERIES),
        "y": [safe(row) for row, _, _ in priced],
        "x": [short(100 * spent / one.dense_picojoules) for _, one, spent in priced],
        "hovertext": [
            f"{safe(_one_line(row))}<br>{safe(part)}: {energy(spent)} by {safe(model_title(one.model))}<br>"
            f"{percent(spent / one.dense_picojoules)} of what its dense twin takes"
            for row, one, spent in priced
        ],
    }


def _work_label(arm: str, layer: CostedLayer, kind: str) -> str:
    lines = [
        f"{arm}, {layer.name}",
        f"{amount(layer.effective)} {kind}",
        f"input: {layer.input_kind}, rate {number(layer.rate)}",
        f"density {percent(layer.density)}, {number(layer.passes)} of {count(layer.dense_macs)} dense",
    ]
    if layer.encoding is not None:
        lines.append(_encoding_label(layer.encoding))
    return "<br>".join(map(safe, lines))


def _encoding_label(encoding: Encoding) -> str:
    extra = (f"forming {count(encoding.forming)}", f"second stage {count(encoding.second_stage)}")
    return f"besides, {encoding.order.replace('_', '-')}: {', '.join(extra)} multiply-accumulates"


_BAR: Plain = {"thickness": 10, "outlinewidth": 0, "len": 1}


def _field(columns: Sequence[str], rows: Sequence[str], values: Sequence[Sequence[float | None]]) -> Plain:
    return {
        "type": "heatmap",
        "x": [safe(name) for name in columns],
        "y": [safe(name) for name in rows],
        "z": [list(row) for row in values],
        "colorscale": SCALE,
        "colorbar": _BAR,
        "xgap": 1,
        "ygap": 1,
    }


def _rows(names: Sequence[str]) -> Plain:
    """An axis of names from top to bottom; long ones are cut, and a line break stays one."""
    labels = ["<br>".join(safe(_cut(line)) for line in name.split("\n")) for name in names]
    return {**_names(names), "tickvals": [safe(name) for name in names], "ticktext": labels, "autorange": "reversed"}


def _names(names: Sequence[str]) -> Plain:
    """An axis of names."""
    order = {"type": "category", "categoryorder": "array", "categoryarray": [safe(name) for name in names]}
    return {**axis_of(), **order, "showgrid": False}


def _title(text: str) -> Plain:
    return {"title": axis_of(text)["title"]}


def _one_line(row: str) -> str:
    return row.replace("\n", ", ")


def _cut(name: str) -> str:
    """A name without its middle where it is long."""
    half = LONGEST // 2
    return name if len(name) <= LONGEST else f"{name[:half]}…{name[-half:]}"


def _upright(x: float) -> Plain:
    """A line across the whole height."""
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "@text", "width": 1.5, "dash": "dash"},
    }


def _place(name: str, arms: Sequence[str]) -> int:
    """The arm's among those of the page, whose colour it has; behind them all for another."""
    return arms.index(name) if name in arms else len(arms)


def _colour(place: int) -> str:
    return f"@series{place % SERIES}"
