"""Charts of sparse trainings: synapses born and lost, positions explored, and the density of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evospike.report.figures import (
    DASHES,
    SERIES,
    Chart,
    Plain,
    axis_of,
    count_axis,
    line_trace,
    plain_layout,
    safe,
    short,
)
from evospike.report.training.gather import Training
from evospike.report.training.structure_facts import SparseLayer
from evospike.report.training.training_charts import by_arm, curve_chart, curve_of, layers_chart, mean_curve


def structure_charts(trainings: Sequence[Training], structures: Mapping[str, Sequence[SparseLayer]]) -> list[Chart]:
    """Every chart that the trainings have data for. structures: layers of the sparse networks by arm."""
    found = [
        rewiring_chart(trainings),
        curve_chart("exploration", "exploration", "exploration rate (%)", trainings, 100.0),
        density_chart(trainings, structures),
    ]
    return [chart for chart in found if chart is not None]


def rewiring_chart(trainings: Sequence[Training]) -> Chart | None:
    """Synapses born (upwards) and lost (downwards) per epoch, mean over seeds, of every arm that rewires."""
    data: list[Plain] = []
    parts: list[str] = []
    epochs: set[int] = set()
    for k, (arm, own) in enumerate(by_arm(trainings).items()):
        born, lost = (mean_curve([curve_of(t, key) for t in own]) for key in ("born", "lost"))
        if not any(born.values()):
            continue
        data += _changes(safe(arm), born, lost, f"@series{k % SERIES}", DASHES[k % len(DASHES)])
        parts.append(f"{arm} {sum(born.values()):,.0f} born and {sum(lost.values()):,.0f} lost in all")
        epochs |= set(born)
    if not data:
        return None
    summary = f"Synapses born and lost per epoch, mean over seeds: {'; '.join(parts)}."
    upright = {**axis_of("synapses born, lost (−)"), "zeroline": True, "zerolinecolor": "@line"}
    layout = plain_layout(340, xaxis=count_axis("epoch", epochs), yaxis=upright)
    return Chart("rewiring", summary, tuple(data), layout)


def density_chart(trainings: Sequence[Training], structures: Mapping[str, Sequence[SparseLayer]]) -> Chart | None:
    """Density of every layer, mean over seeds, sparse arms side by side in the colours of their curves."""
    values = {arm: {layer.name: 100 * layer.density for layer in structures.get(arm, ())} for arm in by_arm(trainings)}
    return layers_chart("density", "Density by layer in per cent", "density (%)", values)


def _changes(name: str, born: Mapping[int, float], lost: Mapping[int, float], colour: str, dash: str) -> list[Plain]:
    up = line_trace(name, list(born), [short(value) for value in born.values()], colour, dash)
    down = line_trace(name, list(lost), [short(-value) for value in lost.values()], colour, dash)
    return [
        {**up, "legendgroup": name, "hovertext": _labels(name, born, "born")},
        {**down, "legendgroup": name, "hovertext": _labels(name, lost, "lost"), "showlegend": False},
    ]


def _labels(name: str, changes: Mapping[int, float], what: str) -> list[str]:
    return [f"{name}<br>epoch {epoch}: {value:,.0f} {what}" for epoch, value in changes.items()]
