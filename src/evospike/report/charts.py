"""Charts as plotly figures in plain JSON values, each with the sentence that stands in for it when it cannot be seen.

Colours are names such as `@series0`; the page turns them into those of its theme. Every text that comes from the run
passes through `_safe`, because plotly reads a subset of HTML in its labels.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evospike.report.gather import Arm, Facts, Training
from evospike.report.history import Candidate, Generation, History

SERIES = 6
"""Colours for arms; a seventh arm takes the first again, with another dash and symbol."""

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "pentagon", "hexagon", "triangle-down", "hexagon2")
_RANKS = [[0.0, "@rank0"], [0.5, "@rank1"], [1.0, "@rank2"]]

Plain = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One figure. name: its id on the page; summary: what it shows, in words."""

    name: str
    summary: str
    data: tuple[Plain, ...]
    layout: Plain

    @property
    def height(self) -> int:
        return int(self.layout["height"])

    def figure(self) -> Plain:
        """What `Plotly.newPlot` takes."""
        return {"data": list(self.data), "layout": self.layout}


def make_charts(facts: Facts) -> dict[str, Chart]:
    """Every chart that the run has data for, by name."""
    charts: list[Chart] = []
    if sum(len(arm.seeds) for arm in facts.arms) > 1:
        charts.append(arms_chart(facts.arms))
    if facts.history is not None and facts.history.candidates:
        charts += evolution_charts(facts.history)
    if facts.trainings:
        charts += training_charts(facts.trainings)
    return {chart.name: chart for chart in charts}


def arms_chart(arms: Sequence[Arm]) -> Chart:
    """Test accuracy of every arm: mean with its 95 % interval, and each seed."""
    names = [_safe(arm.name) for arm in arms]
    means = {
        "type": "scatter",
        "mode": "markers",
        "name": "mean, 95 % interval",
        "x": [_short(100 * arm.test_accuracy) for arm in arms],
        "y": names,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [_short(100 * min(arm.interval or 0.0, 1 - arm.test_accuracy)) for arm in arms],
            "arrayminus": [_short(100 * min(arm.interval or 0.0, arm.test_accuracy)) for arm in arms],
            "color": "@accent",
            "thickness": 2,
            "width": 6,
        },
        "marker": {"color": "@accent", "size": 11},
        "hoverinfo": "text",
        "text": [f"{_safe(arm.name)}<br>{100 * arm.test_accuracy:.2f} %" for arm in arms],
    }
    seeds = {
        "type": "scatter",
        "mode": "markers",
        "name": "one seed",
        "x": [_short(100 * value) for arm in arms for value in arm.seeds],
        "y": [name for name, arm in zip(names, arms, strict=True) for _ in arm.seeds],
        "marker": {"color": "@text", "size": 9, "symbol": "line-ns-open", "line": {"width": 1.5}},
        "hoverinfo": "text",
        "text": [f"{_safe(arm.name)}, one seed<br>{100 * value:.2f} %" for arm in arms for value in arm.seeds],
    }
    values = [100 * value for arm in arms for value in arm.seeds]
    ends = [100 * (arm.test_accuracy + side * (arm.interval or 0.0)) for arm in arms for side in (-1, 1)]
    low, high = max(min(values + ends), 0.0), min(max(values + ends), 100.0)
    pad = max(0.06 * (high - low), 0.5)
    axes = {
        "xaxis": {**_axis("test accuracy (%)"), "range": [low - pad, high + pad]},
        "yaxis": {**_axis(), "type": "category", "categoryorder": "array", "categoryarray": names[::-1]},
    }
    parts = [f"{arm.name} {100 * arm.test_accuracy:.2f} %" for arm in arms]
    summary = f"Test accuracy by network, mean over seeds: {'; '.join(parts)}."
    return Chart("arms", summary, (means, seeds), _layout(110 + 44 * len(arms), **axes))


def evolution_charts(history: History) -> list[Chart]:
    """The candidates, then the raw terms and the weights by generation."""
    plane = plane_chart(history) if len(history.labels) == 2 else strips_chart(history)
    terms = [
        term_chart("loss", history.generations[0].loss_term, "lower is better", history, with_best=True),
        term_chart("temporal", "temporal", "higher is better", history),
        term_chart("entropy", "entropy", "higher is better", history),
    ]
    return [plane, *(chart for chart in terms if chart is not None), weights_chart(history)]


def plane_chart(history: History) -> Chart:
    """Candidates in the plane of the two things that are varied."""
    across, up = history.labels

    def place(candidate: Candidate) -> list[tuple[float, float]]:
        return [(candidate.values[across], candidate.values[up])]

    axes = {
        "xaxis": _value_axis(across, history, [c.values[across] for c in history.candidates]),
        "yaxis": _value_axis(up, history, [c.values[up] for c in history.candidates]),
    }
    return Chart("candidates", _candidates_summary(history), _candidate_traces(history, place), _wide(480, **axes))


def strips_chart(history: History) -> Chart:
    """Candidates with one strip per dimension, generations one below the other in it; for any number but two."""
    count = max(len(history.generations), 1)

    def place(candidate: Candidate) -> list[tuple[float, float]]:
        offset = 0.64 * ((candidate.generation + 0.5) / count - 0.5)
        return [(candidate.values[label], k + offset) for k, label in enumerate(history.labels)]

    everything = [value for candidate in history.candidates for value in candidate.values.values()]
    rows = len(history.labels)
    axes = {
        "xaxis": _value_axis("spread", history, everything),
        "yaxis": {
            **_axis(),
            "tickvals": list(range(rows)),
            "ticktext": [_safe(label.removeprefix("spread of ")) for label in history.labels],
            "range": [rows - 0.5, -0.5],
            "showgrid": False,
        },
    }
    height = 260 + 80 * rows
    return Chart("candidates", _candidates_summary(history), _candidate_traces(history, place), _wide(height, **axes))


def term_chart(name: str, term: str, note: str, history: History, *, with_best: bool = False) -> Chart | None:
    """A raw term by generation: every usable candidate, their median, and the least one if asked."""
    numbers = [generation.number + 1 for generation in history.generations]
    dots = [(generation.number + 1, value) for generation in history.generations for value in generation.measured(term)]
    if not dots:
        return None
    medians = [_short(generation.median_of(term)) for generation in history.generations]
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "candidates",
            "x": [x for x, _ in dots],
            "y": [_short(y) for _, y in dots],
            "marker": {"color": "@muted", "size": 6, "opacity": 0.55},
            "hovertemplate": "generation %{x}<br>%{y:.4g}<extra></extra>",
        },
        _line("median", numbers, medians, "@series0", "solid"),
    ]
    if with_best:
        best = [_short(generation.best_loss) for generation in history.generations]
        data.append(_line("best", numbers, best, "@series1", "dash"))
    summary = f"Raw {name} term by generation ({note}). {_journey('Median', medians)}"
    axes = {"xaxis": _count_axis("generation", numbers), "yaxis": _axis(term.replace("_", " "))}
    return Chart(name, summary, tuple(data), _layout(270, **axes))


def weights_chart(history: History) -> Chart:
    """The weights of both terms by generation."""
    numbers = [generation.number + 1 for generation in history.generations]
    temporal = [_short(generation.weights.temporal) for generation in history.generations]
    entropy = [_short(generation.weights.entropy) for generation in history.generations]
    data = (
        _line("λ temporal", numbers, temporal, "@series0", "solid"),
        _line("λ entropy", numbers, entropy, "@series1", "dot"),
    )
    summary = f"Weights of both terms by generation. {_journey('Temporal', temporal)} {_journey('Entropy', entropy)}"
    axes = {
        "xaxis": _count_axis("generation", numbers),
        "yaxis": {**_axis("weight λ"), "rangemode": "tozero"},
    }
    return Chart("weights", summary, data, _layout(270, **axes))


def training_charts(trainings: Sequence[Training]) -> list[Chart]:
    """Curves of the final trainings and the firing rates of their layers."""
    found = [
        curve_chart("training-loss", "loss", "training loss", trainings, lambda value: value),
        curve_chart(
            "validation", "validation_accuracy", "validation accuracy (%)", trainings, lambda value: 100 * value
        ),
        rates_chart(trainings),
    ]
    return [chart for chart in found if chart is not None]


def curve_chart(
    name: str, key: str, title: str, trainings: Sequence[Training], scale: Callable[[float], float]
) -> Chart | None:
    """One quantity per epoch: a thin line per seed, a thick one for their mean."""
    data: list[Plain] = []
    ends: list[str] = []
    epochs: list[int] = []
    for k, (arm, own) in enumerate(_by_arm(trainings).items()):
        curves = [curve for training in own if (curve := _curve(training, key, scale))]
        if not curves:
            continue
        colour, dash = f"@series{k % SERIES}", _DASHES[k % len(_DASHES)]
        if len(curves) > 1:
            data += [_seed_line(arm, curve, colour) for curve in curves]
        everywhere = sorted({epoch for curve in curves for epoch in curve})
        means = [_short(fmean(curve[epoch] for curve in curves if epoch in curve)) for epoch in everywhere]
        data.append({**_line(_safe(arm), everywhere, means, colour, dash), "legendgroup": _safe(arm)})
        ends.append(f"{arm} ends at {means[-1]}")
        epochs += everywhere
    if not data:
        return None
    marks = "lines+markers" if len(set(epochs)) <= 15 else "lines"
    for trace in data:
        trace["mode"] = marks if trace.get("showlegend", True) else "lines"
    summary = f"{title.capitalize()} per epoch, mean over seeds: {'; '.join(ends)}."
    axes = {"xaxis": _count_axis("epoch", epochs), "yaxis": _axis(title)}
    return Chart(name, summary, tuple(data), _layout(340, **axes))


def rates_chart(trainings: Sequence[Training]) -> Chart | None:
    """Firing rate of every layer on the test images, mean over seeds, arms side by side."""
    groups = _by_arm(trainings)
    layers = list(dict.fromkeys(layer for training in trainings for layer in training.layer_rates))
    if not layers:
        return None
    data: list[Plain] = []
    parts: list[str] = []
    for k, (arm, own) in enumerate(groups.items()):
        rates = []
        for layer in layers:
            seen = [training.layer_rates[layer] for training in own if layer in training.layer_rates]
            rates.append(_short(fmean(seen)) if seen else None)
        known = [(rate, layer) for rate, layer in zip(rates, layers, strict=True) if rate is not None]
        if known:
            parts.append(f"{arm} from {min(known)[0]} in {min(known)[1]} to {max(known)[0]} in {max(known)[1]}")
        data.append(
            {
                "type": "bar",
                "name": _safe(arm),
                "x": [_safe(layer) for layer in layers],
                "y": rates,
                "marker": {"color": f"@series{k % SERIES}"},
                "hoverinfo": "text",
                "hovertext": [
                    f"{_safe(arm)}, {_safe(layer)}<br>{rate}" for layer, rate in zip(layers, rates, strict=True)
                ],
            }
        )
    axes = {
        "xaxis": {**_axis(), "type": "category", "showgrid": False},
        "yaxis": {**_axis("spikes per unit and step"), "rangemode": "tozero"},
    }
    layout = {**_layout(360, **axes), "barmode": "group", "bargap": 0.25}
    return Chart("rates", f"Firing rate by layer: {'; '.join(parts)}.", tuple(data), layout)


def _candidate_traces(history: History, place: Callable[[Candidate], list[tuple[float, float]]]) -> tuple[Plain, ...]:
    """One trace per generation, one for what failed, one ring around the winner."""
    data = [_generation_trace(generation, place) for generation in history.generations]
    failed = [candidate for candidate in history.candidates if not candidate.ok]
    if failed:
        points = [(point, candidate) for candidate in failed for point in place(candidate)]
        cross = {"symbol": "x", "size": 9, "color": "@bad", "line": {"color": "@surface", "width": 1}}
        data.append({**_points("no usable score", points), "marker": cross})
    if history.winner is not None:
        points = [(point, history.winner) for point in place(history.winner)]
        ring = {"symbol": "circle-open", "size": 24, "color": "@winner", "line": {"width": 3}}
        data.append({**_points("winner", points), "marker": ring})
    return tuple(trace for trace in data if trace["x"])


def _generation_trace(generation: Generation, place: Callable[[Candidate], list[tuple[float, float]]]) -> Plain:
    usable = [candidate for candidate in generation.candidates if candidate.ok]
    points = [(point, candidate) for candidate in usable for point in place(candidate)]
    marker = {
        "symbol": _SYMBOLS[generation.number % len(_SYMBOLS)],
        "size": 12,
        "color": [_short(candidate.share) for _, candidate in points],
        "coloraxis": "coloraxis",
        "line": {"color": "@text", "width": 1},
    }
    return {**_points(f"generation {generation.number + 1}", points), "marker": marker}


def _points(name: str, points: Sequence[tuple[tuple[float, float], Candidate]]) -> Plain:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [_short(x) for (x, _), _ in points],
        "y": [_short(y) for (_, y), _ in points],
        "hoverinfo": "text",
        "text": [_hover(candidate) for _, candidate in points],
    }


def _hover(candidate: Candidate) -> str:
    lines = [f"generation {candidate.generation + 1}, candidate {candidate.index + 1}"]
    if candidate.place is None:
        lines.append(_safe(f"{candidate.status}: {candidate.reason}"))
    else:
        lines.append(f"place {candidate.place} of its generation, F = {candidate.fitness:.4f}")
    lines += [f"{_safe(label)} {value:.4g}" for label, value in candidate.values.items()]
    terms = ("loss", "validation_loss", "temporal", "entropy", "firing_rate")
    known = {name: candidate.terms.get(name) for name in terms}
    lines += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in known.items() if value is not None]
    return "<br>".join(lines)


def _candidates_summary(history: History) -> str:
    candidates = history.candidates
    failed = sum(not candidate.ok for candidate in candidates)
    lines = [
        f"{len(candidates)} candidates of {len(history.generations)} generations, {failed} without a usable score."
    ]
    if history.winner is not None:
        where = ", ".join(f"{label} {value:.3g}" for label, value in history.winner.values.items())
        lines.append(f"The winner has {where}.")
    return " ".join(lines)


def _by_arm(trainings: Iterable[Training]) -> dict[str, list[Training]]:
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        groups.setdefault(training.arm, []).append(training)
    return groups


def _curve(training: Training, key: str, scale: Callable[[float], float]) -> dict[int, float]:
    return {int(epoch["epoch"]) + 1: scale(epoch[key]) for epoch in training.epochs if _finite(epoch.get(key))}


def _seed_line(arm: str, curve: Mapping[int, float], colour: str) -> Plain:
    return {
        "type": "scatter",
        "x": list(curve),
        "y": [_short(value) for value in curve.values()],
        "line": {"color": colour, "width": 1},
        "opacity": 0.35,
        "showlegend": False,
        "legendgroup": _safe(arm),
        "hoverinfo": "skip",
    }


def _line(name: str, x: Sequence[int], y: Sequence[float | None], colour: str, dash: str) -> Plain:
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


def _layout(height: int, **axes: Plain) -> Plain:
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


def _wide(height: int, **axes: Plain) -> Plain:
    """The layout of the candidates: with a bar that explains their colours."""
    bar = {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": -0.16,
        "yanchor": "top",
        "len": 1,
        "thickness": 10,
        "outlinewidth": 0,
        "tickvals": [0.04, 0.96],
        "ticktext": ["best", "worst"],
        "ticks": "",
        "title": {"text": "place by fitness in its generation", "side": "top", "font": {"size": 12}},
    }
    coloraxis = {"cmin": 0, "cmax": 1, "colorscale": _RANKS, "colorbar": bar}
    return {**_layout(height, **axes), "coloraxis": coloraxis}


def _axis(title: str = "") -> Plain:
    return {
        "title": {"text": _safe(title), "standoff": 10},
        "automargin": True,
        "fixedrange": True,
        "gridcolor": "@grid",
        "linecolor": "@line",
        "zeroline": False,
        "showline": True,
    }


def _count_axis(title: str, numbers: Iterable[int]) -> Plain:
    """An axis of whole numbers; every one is marked when they are few."""
    known = sorted(set(numbers))
    few = {"tickvals": known} if len(known) <= 12 else {}
    pad = max(0.03 * (known[-1] - known[0]), 0.3)
    return {**_axis(title), "range": [known[0] - pad, known[-1] + pad], **few}


def _value_axis(label: str, history: History, values: Sequence[float]) -> Plain:
    """An axis of what is varied, with ticks that can be read also within one decade."""
    axis = _axis(label + (" (log scale)" if history.logarithmic else ""))
    if not history.logarithmic:
        return axis
    low, high = math.log10(min(values)), math.log10(max(values))
    pad = max(0.08 * (high - low), 0.05)
    low, high = low - pad, high + pad
    ticks = _log_ticks(low, high)
    return {
        **axis,
        "type": "log",
        "range": [_short(low), _short(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two powers of ten: the coarsest choice that gives at least three, else the finest."""
    found: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), tuple(k / 10 for k in range(10, 100))):
        decades = range(math.floor(low), math.ceil(high) + 1)
        found = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        found = [tick for tick in found if low <= math.log10(tick) <= high]
        if len(found) >= 3:
            break
    return found


def _journey(what: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{what} from {known[0]:.3g} to {known[-1]:.3g}." if known else f"{what}: none."


def _safe(text: str) -> str:
    """Text that plotly shows as it is."""
    return html.escape(str(text), quote=False)


def _short(value: float | None) -> float | None:
    """Six digits are enough for a screen; what is not finite is left out."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
