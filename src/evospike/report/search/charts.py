"""Charts of a search: its score by generation, and its candidates in the plane of two terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evospike.evolution.population import Candidate
from evospike.evolution.settings import MAXIMISED
from evospike.report.figures import (
    Chart,
    Plain,
    axis_of,
    count_axis,
    journey,
    line_trace,
    plain_layout,
    safe,
    short,
)
from evospike.report.search.facts import SearchFacts, term_of

TITLES = {
    "score": "score",
    "accuracy": "validation accuracy",
    "parameters": "parameters",
    "operations": "operations per sample",
    "energy": "energy per sample (pJ)",
    "spikes": "spikes per sample",
    "firing_rate": "firing rate",
}
"""What the axis of a term is called."""

Point = tuple[float, float, Candidate]
"""Across, up, and whose it is."""


def search_charts(facts: SearchFacts) -> dict[str, Chart]:
    """Every chart that the search has data for, by name."""
    if not facts.candidates:
        return {}
    charts = [scores_chart(facts), plane_chart(facts)]
    return {chart.name: chart for chart in charts if chart is not None}


def scores_chart(facts: SearchFacts) -> Chart | None:
    """The score of every candidate by generation, with the best and the median of each; None without any score."""
    known = [value for candidate in facts.candidates if (value := term_of(candidate, "score")) is not None]
    if not known:
        return None
    generations = [generation for generation in facts.generations if generation.candidates]
    numbers = [generation.number + 1 for generation in generations]
    best = [short(generation.best_of("score")) for generation in generations]
    medians = [short(generation.median_of("score")) for generation in generations]
    points = [(c.generation + 1, _level(c, "score", floor=min(known)), c) for c in facts.candidates]
    data = [
        _dots(points),
        line_trace("median", numbers, medians, "@series0", "solid"),
        line_trace("best", numbers, best, "@series1", "dash"),
        _crosses(points),
        _ring(points, facts),
    ]
    kinds = f" ({facts.failures})" if facts.failed else ""
    summary = (
        f"{_whose(facts)}Score of {len(facts.candidates)} candidates by generation, {facts.failed} without a usable "
        f"score{kinds}. {journey('Best', best)} {journey('Median', medians)}"
    )
    axes = {"xaxis": count_axis("generation", numbers), "yaxis": axis_of(TITLES["score"])}
    return Chart("scores", summary, _shown(data), plain_layout(380, **axes))


def plane_chart(facts: SearchFacts) -> Chart | None:
    """Every candidate by the second objective (across) and the first (up), with the front; None without any."""
    up, across = facts.objectives[:2]
    placed = [
        (x, y, candidate)
        for candidate in facts.candidates
        if (x := term_of(candidate, across)) is not None and (y := term_of(candidate, up)) is not None
    ]
    if not placed:
        return None
    front = sorted((point for point in placed if point[2] in facts.front), key=lambda point: point[:2])
    data = [
        _dots(placed),
        _front_trace(front, joined=len(facts.objectives) == 2),
        _crosses(placed),
        _ring(placed, facts),
    ]
    summary = (
        f"{_whose(facts)}{_better(up)} against {_better(across)}: {len(placed)} candidates, of which {len(front)} form "
        "the front."
    )
    axes = {"xaxis": axis_of(TITLES[across]), "yaxis": axis_of(TITLES[up])}
    return Chart("plane", summary, _shown(data), plain_layout(440, **axes))


def hover(candidate: Candidate) -> str:
    """What a dot says of its candidate."""
    score = candidate.score
    lines = [f"generation {candidate.generation + 1}, candidate {candidate.index + 1}"]
    if not score.ok:
        lines.append(safe(f"{score.status}: {score.reason}"))
    lines += [
        f"{safe(name.replace('_', ' '))} {value:,.6g}" for name, value in score.terms.items() if value is not None
    ]
    return "<br>".join(lines)


def _level(candidate: Candidate, term: str, *, floor: float) -> float:
    """The measured value; what has none stands on the floor."""
    value = term_of(candidate, term)
    return floor if value is None else value


def _dots(points: Sequence[Point]) -> Plain:
    """The usable ones."""
    usable = [point for point in points if point[2].score.ok]
    return {**_points("candidates", usable), "marker": {"color": "@muted", "size": 6, "opacity": 0.5}}


def _crosses(points: Sequence[Point]) -> Plain:
    """Those that failed."""
    failed = [point for point in points if not point[2].score.ok]
    cross = {"symbol": "x", "size": 8, "color": "@bad", "line": {"color": "@surface", "width": 1}}
    return {**_points("no usable score", failed), "marker": cross}


def _front_trace(points: Sequence[Point], *, joined: bool) -> Plain:
    """The front; in a plane of exactly its objectives it is a line."""
    marker = {"color": "@accent", "size": 10, "symbol": "diamond", "line": {"color": "@surface", "width": 1}}
    trace = {**_points("front", points), "marker": marker}
    return {**trace, "mode": "lines+markers", "line": {"color": "@accent", "width": 1.5}} if joined else trace


def _ring(points: Sequence[Point], facts: SearchFacts) -> Plain:
    """Around the winner, before there is one around the best so far."""
    chosen = [point for point in points if point[2] == facts.chosen]
    ring = {"symbol": "circle-open", "size": 20, "color": "@winner", "line": {"width": 3}}
    return {**_points("winner" if facts.finished else "best so far", chosen), "marker": ring}


def _points(name: str, points: Sequence[Point]) -> Plain:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [short(x) for x, _, _ in points],
        "y": [short(y) for _, y, _ in points],
        "hoverinfo": "text",
        "text": [hover(candidate) for _, _, candidate in points],
    }


def _shown(traces: Iterable[Plain]) -> tuple[Plain, ...]:
    """Without those that have no point."""
    return tuple(trace for trace in traces if trace["x"])


def _whose(facts: SearchFacts) -> str:
    """Which of several searches a chart is of."""
    return f"Seed {facts.drawn}: " if len(facts.seeds) > 1 else ""


def _better(term: str) -> str:
    return f"{TITLES[term]} ({'more' if term in MAXIMISED else 'less'} is better)"
