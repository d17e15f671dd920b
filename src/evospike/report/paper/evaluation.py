"""Figures for papers of what trained networks cost and how they hold up, from the evaluation of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill as wrap_text

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from evospike.core.units import energy_unit
from evospike.report.evaluation.facts import CostedLayer, Curve, EvaluatedArm, Evaluation, model_title
from evospike.report.paper.figures import name_rows
from evospike.report.paper.style import (
    CHARACTERS_PER_INCH,
    COLUMN,
    PAGE,
    TEXT,
    Look,
    count_ticks,
    fill,
    legend_above,
    new_figure,
    plain_text,
    share_legend,
    whole_numbers,
)

_WRITTEN, _NAMED = 12, 24
"""Up to so many classes, the numbers of a confusion matrix are written into it; its classes are named."""


def evaluation_figures(evaluation: Evaluation, styles: Mapping[str, Look]) -> dict[str, Figure]:
    """Every figure of an evaluation, by the name of its file. styles: of its networks, by their names."""
    first = evaluation.arms[0]
    found = {
        "cost-by-layer": layers_figure(first.layers),
        "energy": energy_figure(evaluation),
        "accuracy-by-step": steps_figure(evaluation.arms, styles),
        "confusion": confusion_figure(first.confusion, evaluation.classes),
        "robustness": robustness_figure(evaluation, styles),
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def layers_figure(layers: Sequence[CostedLayer]) -> Figure | None:
    """Operations of every layer of the first network: accumulates where it reads spikes, else multiply-accumulates."""
    if not layers:
        return None
    figure, (axes,) = new_figure(COLUMN, 0.8 + 0.19 * len(layers))
    for j, (label, spiking) in enumerate((("accumulates", True), ("multiply-accumulates", False))):
        rows = [k for k, layer in enumerate(layers) if layer.accumulates == spiking]
        if not rows:
            continue
        bars = axes.barh(rows, [layers[k].effective for k in rows], 0.7, label=label, **fill(j))
        for k, bar in zip(rows, bars, strict=True):
            bar.set_gid(f"layer-{k}")
    name_rows(axes, [layer.name for layer in layers])
    axes.set_xlabel("effective operations")
    count_ticks(axes.xaxis)
    share_legend(figure, axes)
    return figure


def energy_figure(evaluation: Evaluation) -> Figure | None:
    """Energy of a sample under every model, by part, beside that of the same network with all synapses, stored."""
    arms, models = evaluation.arms, evaluation.models
    if not models:
        return None
    parts = list(dict.fromkeys(part for arm in arms for energy in arm.energies for part in energy.parts))
    columns = min(len(models), 4)
    rows = math.ceil(len(models) / columns)
    figure, panels = new_figure(PAGE * max(columns, 2) / 4, 2.5 * rows, rows, columns)
    for number, model in enumerate(models):
        _energy_panel(panels[number], arms, model, parts, f"energy-{number}")
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    _energy_legend(figure, parts)
    return figure


def steps_figure(arms: Sequence[EvaluatedArm], styles: Mapping[str, Look]) -> Figure:
    """Accuracy of the mean over the first t steps, mean over seeds."""
    figure, (axes,) = new_figure(COLUMN, 2.3)
    for k, arm in enumerate(arms):
        look, values = styles[arm.name], [100 * value for value in arm.accuracy_by_step]
        (line,) = axes.plot(
            range(1, len(values) + 1),
            values,
            color=look.colour,
            linestyle=look.dash,
            marker=look.marker,
            label=plain_text(arm.name),
        )
        line.set_gid(f"steps-{k}")
    axes.set_xlabel("simulation steps")
    axes.set_ylabel("test accuracy (%)")
    whole_numbers(axes)
    share_legend(figure, axes)
    return figure


def confusion_figure(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure | None:
    """Share of every true class (rows) that is told to be each class (columns), of the first network."""
    if not counts:
        return None
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    figure, (axes,) = new_figure(COLUMN, 2.9)
    places = range(len(counts))
    cells = axes.pcolormesh(
        places, places, shares, shading="nearest", cmap="Blues", vmin=0, vmax=1, edgecolors="face", linewidth=0.2
    )
    cells.set_gid("confusion")
    axes.invert_yaxis()
    axes.set_aspect("equal")
    if len(counts) <= _WRITTEN:
        _write_counts(axes, counts, shares)
    if len(counts) <= _NAMED:
        names = [plain_text(name, 12) for name in classes]
        upright = all(len(name) <= 2 for name in names)
        axes.set_xticks(places, names, rotation=0 if upright else 90)
        axes.set_yticks(places, names)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    bar = figure.colorbar(cells, ax=axes, label="share of the true class", shrink=0.85)
    bar.outline.set_visible(False)
    return figure


def robustness_figure(evaluation: Evaluation, styles: Mapping[str, Look]) -> Figure | None:
    """Accuracy by the strength of every kind of change: mean over noise and seeds, and their spread as a band."""
    kinds = evaluation.curves
    if not kinds:
        return None
    columns = min(len(kinds), 3)
    rows = math.ceil(len(kinds) / columns)
    width = COLUMN if columns == 1 else PAGE
    across = int(CHARACTERS_PER_INCH * (width / columns - 0.4))
    figure, panels = new_figure(width, 2.05 * rows + 0.4, rows, columns)
    for number, (axes, (kind, unit)) in enumerate(zip(panels, kinds, strict=False)):
        for k, arm in enumerate(evaluation.arms):
            for curve in arm.robustness.curves if arm.robustness else ():
                if (curve.name, curve.unit) == (kind, unit):
                    _robustness_curve(axes, curve, arm.name, styles[arm.name], f"robustness-{number}-{k}")
        axes.set_xlabel(_strength_name(kind, unit, across))
        axes.set_ylim(0, 102)
        if number % columns == 0:
            axes.set_ylabel("accuracy (%)")
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    share_legend(figure, panels[0])
    return figure


def _strength_name(kind: str, unit: str, most: int) -> str:
    """What an axis of strengths is called, such as: noise (share of the input's norm); in lines of so many letters."""
    kind, unit = plain_text(kind), plain_text(unit)
    if unit in kind.split():
        return wrap_text(kind, most)
    bracket = f"({f'share {unit}' if unit.startswith('of ') else unit})"
    whole = f"{kind} {bracket}"
    return whole if len(whole) <= most else f"{wrap_text(kind, most)}\n{wrap_text(bracket, most)}"


def _energy_panel(axes: Axes, arms: Sequence[EvaluatedArm], model: str, parts: Sequence[str], gid: str) -> None:
    known = [(k, energy) for k, arm in enumerate(arms) for energy in arm.energies if energy.model == model]
    highest = max(value for _, energy in known for value in (energy.picojoules, energy.dense_picojoules))
    unit = energy_unit([highest])
    for k, energy in known:
        bottom = 0.0
        for part, picojoules in energy.parts.items():
            j, height = parts.index(part), unit.of(picojoules)
            (bar,) = axes.bar([k - 0.2], [height], 0.38, bottom, **fill(j))
            bar.set_gid(f"{gid}-{k}-{j}")
            bottom += height
        (twin,) = axes.bar([k + 0.2], [unit.of(energy.dense_picojoules)], 0.34, fill=False, ec=TEXT, lw=0.8)
        twin.set_gid(f"{gid}-{k}-dense")
    names = [plain_text(arm.name, 12) for arm in arms]
    tilted = len(arms) > 1
    side = "right" if tilted else "center"
    axes.set_xticks(range(len(arms)), names, rotation=35 if tilted else 0, ha=side, rotation_mode="anchor")
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.set_ylim(0, 1.06 * unit.of(highest) or 1.0)
    axes.grid(visible=False, axis="x")
    axes.set_title(f"{model_title(model)} model")
    axes.set_ylabel(f"energy per sample ({unit.name})")


def _energy_legend(figure: Figure, parts: Sequence[str]) -> None:
    handles = [Patch(**fill(j)) for j, _ in enumerate(parts)] + [Patch(fill=False, edgecolor=TEXT, linewidth=0.8)]
    legend_above(figure, handles, [*map(plain_text, parts), "dense twin: all synapses, stored"])


def _write_counts(axes: Axes, counts: Sequence[Sequence[int]], shares: Sequence[Sequence[float]]) -> None:
    size = 7 if max(map(max, counts)) < 1000 else 5
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if count:
                colour = "white" if shares[y][x] > 0.5 else TEXT
                axes.text(x, y, str(count), ha="center", va="center", fontsize=size, color=colour)


def _robustness_curve(axes: Axes, curve: Curve, arm: str, look: Look, gid: str) -> None:
    strengths = range(len(curve.strengths)) if curve.falls else curve.strengths
    mean = [100 * value for value in curve.mean]
    spread = [100 * (value or 0.0) for value in curve.std]
    if any(spread):
        low = [value - width for value, width in zip(mean, spread, strict=True)]
        high = [value + width for value, width in zip(mean, spread, strict=True)]
        band = axes.fill_between(strengths, low, high, color=look.colour, alpha=0.2, linewidth=0)
        band.set_gid(f"{gid}-band")
    (line,) = axes.plot(
        strengths, mean, color=look.colour, linestyle=look.dash, marker=look.marker, ms=3, label=plain_text(arm)
    )
    line.set_gid(gid)
    if curve.falls or len(strengths) <= 4:
        axes.set_xticks(strengths, [f"{strength:g}" for strength in curve.strengths])
