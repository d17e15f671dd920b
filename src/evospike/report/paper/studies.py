"""Figures for papers of what was tried: an evolution, a search, a ranking."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from evospike.evolution.population import Candidate as Genotyped
from evospike.report.paper.figures import name_rows
from evospike.report.paper.style import (
    BAD,
    COLOURS,
    COLUMN,
    MUTED,
    PAGE,
    WINNER,
    count_ticks,
    new_figure,
    plain_text,
    share_legend,
    whole_numbers,
)
from evospike.report.rank.facts import RankedScore, RankFacts
from evospike.report.search.charts import TITLES
from evospike.report.search.facts import SearchFacts, term_of
from evospike.report.training.history import Candidate, History

Point = tuple[float, float]


def evolution_figures(history: History | None) -> dict[str, Figure]:
    """The evolution, where there is one."""
    return {} if history is None or not history.candidates else {"evolution": evolution_figure(history)}


def search_figures(facts: SearchFacts) -> dict[str, Figure]:
    """Every figure that the search has data for, by the name of its file."""
    up, across = facts.objectives[:2]
    found = {"scores": scores_figure(facts, up), "front": front_figure(facts, up, across)}
    return {name: figure for name, figure in found.items() if figure is not None}


def rank_figures(facts: RankFacts) -> dict[str, Figure]:
    """Kendall's tau of the scores, once they are ranked."""
    return {"taus": taus_figure(facts.scores)} if facts.scores else {}


def evolution_figure(history: History) -> Figure:
    """Loss by generation, and the candidates by what is varied, coloured by generation.

    The loss, and not the fitness: its weights change with the generation, so that it does not compare across them.
    """
    figure, (left, right) = new_figure(PAGE, 2.6 + 0.12 * max(len(history.labels) - 4, 0), columns=2)
    _losses(left, history)
    _varied(figure, right, history)
    return figure


def scores_figure(facts: SearchFacts, term: str) -> Figure | None:
    """The first objective of every candidate by generation, with the best and the median of each."""
    generations = [generation for generation in facts.generations if generation.measured(term)]
    if not generations:
        return None
    figure, (axes,) = new_figure(COLUMN, 2.4)
    usable = [(g.number + 1.0, value) for g in generations for value in g.measured(term)]
    _dots(axes, usable, "candidates", "candidates")
    numbers = [generation.number + 1 for generation in generations]
    _journey(axes, numbers, [_known(generation.median_of(term)) for generation in generations], "median", 0)
    _journey(axes, numbers, [_known(generation.best_of(term)) for generation in generations], "best", 1)
    axes.set_xlabel("generation")
    axes.set_ylabel(TITLES.get(term, term))
    whole_numbers(axes)
    share_legend(figure, axes)
    return figure


def front_figure(facts: SearchFacts, up: str, across: str) -> Figure | None:
    """Usable candidates by the second objective (across) and the first (up), the front, and what was chosen."""
    placed = _places([one for one in facts.candidates if one.score.ok], across, up)
    if not placed:
        return None
    figure, (axes,) = new_figure(COLUMN, 2.5)
    _dots(axes, placed, "candidates", "candidates")
    front = sorted(_places(facts.front, across, up))
    line = "-" if len(facts.objectives) == 2 else ""
    (drawn,) = axes.plot(*zip(*front, strict=True), "D", linestyle=line, color=COLOURS[0], label="front")
    drawn.set_gid("front")
    chosen = _places([one for one in (facts.chosen,) if one is not None], across, up)
    _ring(axes, chosen, "winner" if facts.finished else "best so far")
    axes.set_xlabel(TITLES.get(across, across))
    axes.set_ylabel(TITLES.get(up, up))
    count_ticks(axes.xaxis)
    share_legend(figure, axes)
    return figure


def taus_figure(scores: Sequence[RankedScore]) -> Figure:
    """Kendall's tau of every score with its 95 % interval, best on top; controls hollow."""
    figure, (axes,) = new_figure(COLUMN, 0.7 + 0.2 * len(scores))
    axes.axvline(0, color=MUTED, linewidth=0.8)
    for k, score in enumerate(scores):
        drawn = axes.errorbar(
            [score.tau],
            [k],
            xerr=[[max(score.tau - score.low, 0.0)], [max(score.high - score.tau, 0.0)]],
            fmt="s" if score.control else "o",
            color=COLOURS[1] if score.control else COLOURS[0],
            markerfacecolor="white" if score.control else COLOURS[0],
        )
        drawn.lines[0].set_gid(f"tau-{k}")
    _explain(axes, scores)
    name_rows(axes, [score.name for score in scores])
    axes.set_xlabel("Kendall’s τ with the accuracy")
    share_legend(figure, axes)
    return figure


def _explain(axes: Axes, scores: Sequence[RankedScore]) -> None:
    """Entries of the legend, for kinds of scores that there are."""
    kinds = {score.control for score in scores}
    if False in kinds:
        axes.plot([], [], "o", color=COLOURS[0], label="scores")
    if True in kinds:
        axes.plot([], [], "s", color=COLOURS[1], markerfacecolor="white", label="controls, which look at no spike")


def _losses(axes: Axes, history: History) -> None:
    """Every usable candidate, and the median and the least of each generation."""
    term = history.generations[0].loss_term
    known = [generation for generation in history.generations if generation.measured(term)]
    _dots(axes, [(g.number + 1.0, value) for g in known for value in g.measured(term)], "candidates", "losses")
    numbers = [generation.number + 1 for generation in known]
    _journey(axes, numbers, [_known(generation.median_of(term)) for generation in known], "median", 0)
    _journey(axes, numbers, [_known(generation.best_loss) for generation in known], "best", 1)
    axes.set_xlabel("generation")
    axes.set_ylabel(f"{history.settings.loss_from} loss (lower is better)")
    whole_numbers(axes)
    axes.legend()


def _varied(figure: Figure, axes: Axes, history: History) -> None:
    """The candidates in the plane of two varied things, else one row per varied thing."""
    count = len(history.generations)
    colours, norm = _generation_colours(count)
    usable = [(point, c.generation + 1) for c in history.candidates if c.ok for point in _points(c, history)]
    dots = axes.scatter(
        [x for (x, _), _ in usable],
        [y for (_, y), _ in usable],
        c=[generation for _, generation in usable],
        cmap=colours,
        norm=norm,
        s=14,
        edgecolors="white",
        linewidths=0.3,
    )
    dots.set_gid("varied")
    failed = [point for c in history.candidates if not c.ok for point in _points(c, history)]
    if failed:
        (crosses,) = axes.plot(*zip(*failed, strict=True), "x", color=BAD, label="no usable score")
        crosses.set_gid("failed")
    if history.winner is not None:
        _ring(axes, _points(history.winner, history), "winner")
    _name_varied(axes, history)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=True, framealpha=0.8, edgecolor="none")
    ticks = list(range(1, count + 1, math.ceil(count / 8)))
    bar = figure.colorbar(dots, ax=axes, label="generation", ticks=ticks)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, which="both")


def _generation_colours(count: int) -> tuple[ListedColormap, BoundaryNorm]:
    """One colour per generation, numbered from 1, dark to light; none too light for white paper."""
    shades = colormaps["viridis"]([0.85 * k / max(count - 1, 1) for k in range(count)])
    return ListedColormap(shades), BoundaryNorm([k + 0.5 for k in range(count + 1)], count)


def _points(candidate: Candidate, history: History) -> list[Point]:
    """Where a candidate stands: once in a plane, else in every row, later generations lower in it."""
    values = [_scaled(candidate.values[label], history) for label in history.labels]
    if len(values) == 2:
        return [(values[0], values[1])]
    offset = 0.6 * ((candidate.generation + 0.5) / len(history.generations) - 0.5)
    return [(value, row + offset) for row, value in enumerate(values)]


def _scaled(value: float, history: History) -> float:
    return math.log10(value) if history.logarithmic else value


def _name_varied(axes: Axes, history: History) -> None:
    prefix = "log₁₀ " if history.logarithmic else ""
    if len(history.labels) == 2:
        axes.set_xlabel(prefix + plain_text(history.labels[0]))
        axes.set_ylabel(prefix + plain_text(history.labels[1]))
    else:
        name_rows(axes, [label.removeprefix("spread of ") for label in history.labels])
        axes.set_xlabel(prefix + "spread")


def _places(candidates: Sequence[Genotyped], across: str, up: str) -> list[Point]:
    """Where candidates stand in the plane of two terms; those that lack one are left out."""
    found = [(term_of(one, across), term_of(one, up)) for one in candidates]
    return [(x, y) for x, y in found if x is not None and y is not None]


def _dots(axes: Axes, points: Sequence[Point], label: str, gid: str) -> None:
    places = [x for x, _ in points], [y for _, y in points]
    (dots,) = axes.plot(*places, "o", ms=3.2, color=MUTED, alpha=0.45, markeredgewidth=0, label=label)
    dots.set_gid(gid)


def _ring(axes: Axes, points: Sequence[Point], label: str) -> None:
    places = [x for x, _ in points], [y for _, y in points]
    (ring,) = axes.plot(*places, "o", ms=9, mfc="none", mec=WINNER, mew=1.5, label=label)
    ring.set_gid("chosen")


def _journey(axes: Axes, x: Sequence[int], y: Sequence[float], label: str, k: int) -> None:
    (line,) = axes.plot(x, y, color=COLOURS[k], linestyle="-" if k == 0 else "--", marker="os"[k], label=label)
    line.set_gid(label)


def _known(value: float | None) -> float:
    return math.nan if value is None else value
