"""Charts of the final trainings: how the arms compare, their curves, and how often their neurons fire."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import fmean

from evospike.report.figures import (
    DASHES,
    SERIES,
    Chart,
    Plain,
    axis_of,
    count_axis,
    evenly,
    finite,
    in_lines,
    line_trace,
    plain_layout,
    safe,
    short,
)
from evospike.report.training.gather import Arm, Training

MOST_EPOCHS = 300
"""About as many epochs of a curve are drawn, more than a screen can tell apart."""


def arms_chart(arms: Sequence[Arm]) -> Chart:
    """Test accuracy of every arm: mean with its 95 % interval, and each seed."""
    names = [safe(arm.name) for arm in arms]
    means = {
        "type": "scatter",
        "mode": "markers",
        "name": "mean, 95 % interval",
        "x": [short(100 * arm.test_accuracy) for arm in arms],
        "y": names,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [short(100 * min(arm.interval or 0.0, 1 - arm.test_accuracy)) for arm in arms],
            "arrayminus": [short(100 * min(arm.interval or 0.0, arm.test_accuracy)) for arm in arms],
            "color": "@accent",
            "thickness": 2,
            "width": 6,
        },
        "marker": {"color": "@accent", "size": 11},
        "hoverinfo": "text",
        "text": [f"{safe(arm.name)}<br>{100 * arm.test_accuracy:.2f} %" for arm in arms],
    }
    seeds = {
        "type": "scatter",
        "mode": "markers",
        "name": "one seed",
        "x": [short(100 * value) for arm in arms for value in arm.seeds],
        "y": [name for name, arm in zip(names, arms, strict=True) for _ in arm.seeds],
        "marker": {"color": "@text", "size": 9, "symbol": "line-ns-open", "line": {"width": 1.5}},
        "hoverinfo": "text",
        "text": [f"{safe(arm.name)}, one seed<br>{100 * value:.2f} %" for arm in arms for value in arm.seeds],
    }
    values = [100 * value for arm in arms for value in arm.seeds]
    ends = [100 * (arm.test_accuracy + side * (arm.interval or 0.0)) for arm in arms for side in (-1, 1)]
    low, high = max(min(values + ends), 0.0), min(max(values + ends), 100.0)
    pad = max(0.06 * (high - low), 0.5)
    axes = {
        "xaxis": {**axis_of("test accuracy (%)"), "range": [low - pad, high + pad], "nticks": 6, "tickangle": 0},
        "yaxis": {
            **axis_of(),
            "type": "category",
            "categoryorder": "array",
            "categoryarray": names[::-1],
            "tickvals": names[::-1],
            "ticktext": [in_lines(arm.name) for arm in reversed(arms)],
        },
    }
    parts = [f"{arm.name} {100 * arm.test_accuracy:.2f} %" for arm in arms]
    summary = f"Test accuracy by network, mean over seeds: {'; '.join(parts)}."
    return Chart("arms", summary, (means, seeds), plain_layout(110 + 44 * len(arms), **axes))


def training_charts(trainings: Sequence[Training]) -> list[Chart]:
    """Curves of the final trainings and the firing rates of their layers."""
    found = [
        curve_chart("training-loss", "loss", "training loss", trainings),
        curve_chart("validation", "validation_accuracy", "validation accuracy (%)", trainings, 100.0),
        rates_chart(trainings),
    ]
    return [chart for chart in found if chart is not None]


def curve_chart(name: str, key: str, title: str, trainings: Sequence[Training], factor: float = 1.0) -> Chart | None:
    """One quantity per epoch, times `factor`: a thin line per seed, a thick one for their mean.

    Of long trainings the epochs are evenly thinned, the same ones in every curve.
    """
    groups = {arm: [curve_of(training, key, factor) for training in own] for arm, own in by_arm(trainings).items()}
    epochs = sorted({epoch for curves in groups.values() for curve in curves for epoch in curve})
    if not epochs:
        return None
    kept = {epochs[place] for place in evenly(len(epochs), MOST_EPOCHS)}
    data: list[Plain] = []
    ends: list[str] = []
    for k, (arm, curves) in enumerate(groups.items()):
        colour, dash = f"@series{k % SERIES}", DASHES[k % len(DASHES)]
        known = [curve for curve in curves if curve]
        if len(known) > 1:
            data += [_seed_line(arm, _thinned(curve, kept), colour) for curve in known]
        if known:
            means = mean_curve(known)
            ends.append(f"{arm} ends at {short(means[max(means)])}")
            drawn = _thinned(means, kept)
            line = line_trace(safe(arm), list(drawn), [short(mean) for mean in drawn.values()], colour, dash)
            data.append({**line, "legendgroup": safe(arm)})
    marks = "lines+markers" if len(epochs) <= 15 else "lines"
    for trace in data:
        trace["mode"] = marks if trace.get("showlegend", True) else "lines"
    summary = f"{title.capitalize()} per epoch, mean over seeds: {'; '.join(ends)}."
    axes = {"xaxis": count_axis("epoch", epochs), "yaxis": axis_of(title)}
    note = f"Drawn: {len(kept)} of {len(epochs)} epochs, evenly." if len(kept) < len(epochs) else ""
    return Chart(name, summary, tuple(data), plain_layout(340, **axes), note)


def rates_chart(trainings: Sequence[Training]) -> Chart | None:
    """Firing rate of every layer on the test samples, mean over seeds."""
    rates = {arm: mean_rates(own) for arm, own in by_arm(trainings).items()}
    return layers_chart("rates", "Firing rate by layer", "spikes per unit and step", rates)


def layers_chart(name: str, what: str, title: str, values: Mapping[str, Mapping[str, float]]) -> Chart | None:
    """A quantity of every layer as bars, arms side by side.

    what: the quantity, as a sentence begins with it; title: of its axis. values: by arm, then by layer; an arm without
    any keeps its place among the colours.
    """
    layers = list(dict.fromkeys(layer for own in values.values() for layer in own))
    if not layers:
        return None
    data = [
        _bars(arm, {layer: own.get(layer) for layer in layers}, f"@series{k % SERIES}")
        for k, (arm, own) in enumerate(values.items())
        if own
    ]
    axes = {
        "xaxis": {**axis_of(), "type": "category", "showgrid": False},
        "yaxis": {**axis_of(title), "rangemode": "tozero"},
    }
    layout = {**plain_layout(360, **axes), "barmode": "group", "bargap": 0.25}
    parts = [f"{arm} from {_place(own, min)} to {_place(own, max)}" for arm, own in values.items() if own]
    return Chart(name, f"{what}: {'; '.join(parts)}.", tuple(data), layout)


def by_arm(trainings: Iterable[Training]) -> dict[str, list[Training]]:
    """Trainings by arm, both in their order."""
    groups: dict[str, list[Training]] = {}
    for training in trainings:
        groups.setdefault(training.arm, []).append(training)
    return groups


def curve_of(training: Training, key: str, factor: float = 1.0) -> dict[int, float]:
    """A quantity by epoch, from 1, times `factor`; epochs that did not record it are left out."""
    return {int(epoch["epoch"]) + 1: factor * epoch[key] for epoch in training.epochs if finite(epoch.get(key))}


def _thinned(curve: Mapping[int, float], kept: Collection[int]) -> dict[int, float]:
    """A curve at the epochs that are drawn, and at its own last."""
    last = max(curve)
    return {epoch: value for epoch, value in curve.items() if epoch in kept or epoch == last}


def _seed_line(arm: str, curve: Mapping[int, float], colour: str) -> Plain:
    return {
        "type": "scatter",
        "x": list(curve),
        "y": [short(value) for value in curve.values()],
        "line": {"color": colour, "width": 1},
        "opacity": 0.35,
        "showlegend": False,
        "legendgroup": safe(arm),
        "hoverinfo": "skip",
    }


def mean_curve(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The mean of curves at every place that any of them knows."""
    places = sorted({place for curve in curves for place in curve})
    return {place: fmean(curve[place] for curve in curves if place in curve) for place in places}


def mean_rates(trainings: Sequence[Training]) -> dict[str, float]:
    """Firing rate of every layer, mean over the trainings that have it."""
    layers = dict.fromkeys(layer for training in trainings for layer in training.layer_rates)
    return {layer: fmean(t.layer_rates[layer] for t in trainings if layer in t.layer_rates) for layer in layers}


def _bars(arm: str, values: Mapping[str, float | None], colour: str) -> Plain:
    heights = {safe(layer): short(value) for layer, value in values.items()}
    return {
        "type": "bar",
        "name": safe(arm),
        "x": list(heights),
        "y": list(heights.values()),
        "marker": {"color": colour},
        "hoverinfo": "text",
        "hovertext": [f"{safe(arm)}, {layer}<br>{height}" for layer, height in heights.items()],
    }


def _place(values: Mapping[str, float], choose: Callable[..., str]) -> str:
    """The least or the most of some values, and its layer."""
    layer = choose(values, key=values.__getitem__)
    return f"{short(values[layer])} in {layer}"
