"""Figures for papers of a run of evolve or train: its networks compared, their training, their neurons and synapses.

Every drawn series has an id of its own (`gid`), so that a figure can be restyled by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from evospike.report.paper.style import (
    COLUMN,
    MUTED,
    PAGE,
    Look,
    count_ticks,
    looks,
    new_figure,
    plain_text,
    share_legend,
    whole_numbers,
)
from evospike.report.training.gather import Arm, Training, TrainingFacts
from evospike.report.training.training_charts import by_arm, curve_of, mean_curve, mean_rates

_WIDE_RANGE = 20
"""Networks whose sizes differ by more than this factor stand on a logarithmic axis."""

_NESTED = 2.5
"""Points by which the ends of a bar reach beyond those of the next network of equal size, drawn over it."""


def training_figures(facts: TrainingFacts) -> dict[str, Figure]:
    """Every figure that the final trainings have data for, by the name of its file."""
    styles = arm_looks(facts)
    found = {
        "accuracy-parameters": accuracy_figure(facts, styles),
        "training": curves_figure(facts.trainings, styles),
        "firing-rates": rates_figure(facts.trainings, styles),
        "density": density_figure(facts, styles),
        "rewiring": rewiring_figure(facts.trainings, styles),
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def arm_looks(facts: TrainingFacts) -> dict[str, Look]:
    """The looks of the networks of a run, the same in all of its figures."""
    evaluated = () if facts.evaluation is None else facts.evaluation.arms
    names = [arm.name for arm in facts.arms] + [arm.name for arm in evaluated]
    return looks(names + [training.arm for training in facts.trainings])


def accuracy_figure(facts: TrainingFacts, styles: Mapping[str, Look]) -> Figure | None:
    """Test accuracy of every network against its parameters, those that exist: mean, 95 % interval, and each seed.

    Networks of equal size stand one over the other, the ends of the later bars narrower: what is moved
    aside would be read as of another size.
    """
    if not facts.arms:
        return None
    figure, (axes,) = new_figure(COLUMN, 2.5)
    sizes = [arm.active_parameters if facts.sparse else arm.parameters for arm in facts.arms]
    if max(sizes) > _WIDE_RANGE * min(sizes):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    count_ticks(axes.xaxis)
    axes.margins(0.15, 0.08)
    for k, arm in enumerate(facts.arms):
        _arm_point(axes, arm, sizes[k], styles[arm.name], sizes[k + 1 :].count(sizes[k]), f"arm-{k}")
    axes.set_xlabel("parameters that exist" if facts.sparse else "parameters")
    axes.set_ylabel("test accuracy (%)")
    share_legend(figure, axes)
    return figure


def curves_figure(trainings: Sequence[Training], styles: Mapping[str, Look]) -> Figure | None:
    """Training loss and validation accuracy per epoch: a thin line per seed, a thick one for their mean."""
    quantities = [("loss", "training loss", 1.0), ("validation_accuracy", "validation accuracy (%)", 100.0)]
    shown = [(key, title, factor) for key, title, factor in quantities if any(curve_of(t, key) for t in trainings)]
    if not shown:
        return None
    figure, panels = new_figure(PAGE if len(shown) > 1 else COLUMN, 2.4, columns=len(shown))
    for axes, (key, title, factor) in zip(panels, shown, strict=True):
        for k, (arm, own) in enumerate(by_arm(trainings).items()):
            _curves(axes, own, key, factor, styles[arm], f"{key}-{k}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(title)
        whole_numbers(axes)
    share_legend(figure, panels[0])
    return figure


def rates_figure(trainings: Sequence[Training], styles: Mapping[str, Look]) -> Figure | None:
    """Firing rate of every layer on the test samples, mean over seeds."""
    rates = {arm: mean_rates(own) for arm, own in by_arm(trainings).items()}
    return layers_figure("rate", "spikes per unit and step", rates, styles)


def density_figure(facts: TrainingFacts, styles: Mapping[str, Look]) -> Figure | None:
    """Density of every layer of the sparse networks, mean over seeds."""
    values = {arm: {layer.name: 100 * layer.density for layer in own} for arm, own in facts.structures.items()}
    return layers_figure("density", "density (%)", values, styles)


def rewiring_figure(trainings: Sequence[Training], styles: Mapping[str, Look]) -> Figure | None:
    """Synapses born (upwards) and lost (downwards) per epoch, mean over seeds, of every network that rewires."""
    born = {arm: mean_curve([curve_of(t, "born") for t in own]) for arm, own in by_arm(trainings).items()}
    lost = {arm: mean_curve([curve_of(t, "lost", -1.0) for t in own]) for arm, own in by_arm(trainings).items()}
    rewired = [arm for arm, curve in born.items() if any(curve.values())]
    if not rewired:
        return None
    figure, (axes,) = new_figure(COLUMN, 2.4)
    for k, arm in enumerate(rewired):
        _line(axes, born[arm], styles[arm], f"born-{k}", label=plain_text(arm))
        _line(axes, lost[arm], styles[arm], f"lost-{k}")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_xlabel("epoch")
    axes.set_ylabel("synapses lost (−), born (+)")
    whole_numbers(axes)
    count_ticks(axes.yaxis)
    share_legend(figure, axes)
    return figure


def layers_figure(
    gid: str, title: str, values: Mapping[str, Mapping[str, float]], styles: Mapping[str, Look]
) -> Figure | None:
    """A quantity of every layer as bars, the first layer on top. values: by network, then by layer."""
    known = {arm: own for arm, own in values.items() if own}
    layers = list(dict.fromkeys(layer for own in known.values() for layer in own))
    if not layers:
        return None
    figure, (axes,) = new_figure(COLUMN, 0.7 + len(layers) * (0.1 + 0.09 * len(known)))
    thickness = 0.8 / len(known)
    for k, (arm, own) in enumerate(known.items()):
        places = [layers.index(layer) - 0.4 + (k + 0.5) * thickness for layer in own]
        bars = axes.barh(places, list(own.values()), thickness, label=plain_text(arm), **styles[arm].fill)
        for j, bar in enumerate(bars):
            bar.set_gid(f"{gid}-{k}-{j}")
    name_rows(axes, layers)
    axes.set_xlabel(title)
    share_legend(figure, axes)
    return figure


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names along the left side, the first on top."""
    axes.set_yticks(range(len(names)), [plain_text(name, 28) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _interval(arm: Arm) -> tuple[float, float]:
    """How far the interval reaches below and above the mean; no accuracy is less than 0 or more than 1."""
    half = arm.interval or 0.0
    return min(half, arm.test_accuracy), min(half, 1 - arm.test_accuracy)


def _arm_point(axes: Axes, arm: Arm, size: int, look: Look, above: int, gid: str) -> None:
    """One network. above: how many of equal size are drawn over it."""
    accuracies = [100 * value for value in arm.seeds]
    (seeds,) = axes.plot([size] * len(accuracies), accuracies, "_", color=look.colour, alpha=0.6)
    seeds.set_gid(f"{gid}-seeds")
    ends = [[100 * end] for end in _interval(arm)]
    drawn = axes.errorbar(
        [size],
        [100 * arm.test_accuracy],
        yerr=None if arm.interval is None else ends,
        fmt=look.marker,
        color=look.colour,
        markeredgecolor="white",
        markeredgewidth=0.4,
        elinewidth=1.0,
        capsize=_NESTED * (1 + above),
        label=plain_text(arm.name),
    )
    drawn.lines[0].set_gid(gid)


def _curves(axes: Axes, trainings: Sequence[Training], key: str, factor: float, look: Look, gid: str) -> None:
    """The seeds of one network, and their mean where there is more than one."""
    curves = [curve for training in trainings if (curve := curve_of(training, key, factor))]
    if not curves:
        return
    if len(curves) > 1:
        for j, curve in enumerate(curves):
            (thin,) = axes.plot(list(curve), list(curve.values()), color=look.colour, linewidth=0.5, alpha=0.4)
            thin.set_gid(f"{gid}-seed-{j}")
    _line(axes, mean_curve(curves), look, gid, label=plain_text(trainings[0].arm))


def _line(axes: Axes, curve: Mapping[int, float], look: Look, gid: str, label: str = "_nolegend_") -> None:
    marker = look.marker if len(curve) <= 15 else ""
    (line,) = axes.plot(
        list(curve), list(curve.values()), color=look.colour, linestyle=look.dash, marker=marker, label=label
    )
    line.set_gid(gid)
