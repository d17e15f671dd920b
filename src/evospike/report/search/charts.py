"""Charts of a search: its score by generation, and its candidates in the plane of two terms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

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
    short,
)
from evospike.report.search.dots import brief, drawn_candidates, label_table, thinning
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

TABLE = "candidates"
"""Name of the table that the labels of all dots come from."""


@dataclass(frozen=True)
class Point:
    """A candidate in a chart. row: its own in the table of labels."""

    x: float
    y: float
    candidate: Candidate
    row: int


def search_charts(facts: SearchFacts) -> dict[str, Chart]:
    """Every chart that the search has data for, by name; the first one carries the table of labels for all."""
    if not facts.candidates:
        return {}
    found = [chart for chart in (scores_chart(facts), plane_chart(facts)) if chart is not None]
    table = {"meta": {TABLE: label_table(drawn_candidates(facts))}}
    charts = [replace(chart, layout={**chart.layout, **table}) if chart is found[0] else chart for chart in found]
    return {chart.name: chart for chart in charts}


def scores_chart(facts: SearchFacts) -> Chart | None:
    """The score of every candidate by generation, with the best and the median of each; None without any score."""
    known = [value for candidate in facts.candidates if (value := term_of(candidate, "score")) is not None]
    if not known:
        return None
    generations = [generation for generation in facts.generations if generation.candidates]
    numbers = [generation.number + 1 for generation in generations]
    best = [short(generation.best_of("score")) for generation in generations]
    medians = [short(generation.median_of("score")) for generation in generations]
    floor = min(known)
    points = [
        Point(one.generation + 1, floor if (value := term_of(one, "score")) is None else value, one, row)
        for row, one in enumerate(drawn_candidates(facts))
    ]
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
    return Chart("scores", summary, _shown(data), plain_layout(380, **axes), thinning(facts))


def plane_chart(facts: SearchFacts) -> Chart | None:
    """Every candidate by the second objective (across) and the first (up), with the front; None without any."""
    up, across = facts.objectives[:2]
    placed = list(_placed(facts, across, up))
    if not placed:
        return None
    members = {(one.generation, one.index) for one in facts.front}
    front = [point for point in placed if (point.candidate.generation, point.candidate.index) in members]
    front.sort(key=lambda point: (point.x, point.y))
    data = [
        _dots(placed),
        _front_trace(front, joined=len(facts.objectives) == 2),
        _crosses(placed),
        _ring(placed, facts),
    ]
    summary = (
        f"{_whose(facts)}{_better(up)} against {_better(across)}: {_measured(facts, across, up)} candidates, of which "
        f"{len(front)} form the front."
    )
    axes = {"xaxis": axis_of(TITLES[across]), "yaxis": axis_of(TITLES[up])}
    return Chart("plane", summary, _shown(data), plain_layout(440, **axes), thinning(facts))


def _placed(facts: SearchFacts, across: str, up: str) -> Iterator[Point]:
    """What is drawn and has both terms."""
    for row, candidate in enumerate(drawn_candidates(facts)):
        x, y = term_of(candidate, across), term_of(candidate, up)
        if x is not None and y is not None:
            yield Point(x, y, candidate, row)


def _measured(facts: SearchFacts, *terms: str) -> int:
    """How many candidates have all of these terms."""
    return sum(all(term_of(candidate, term) is not None for term in terms) for candidate in facts.candidates)


def _dots(points: Sequence[Point]) -> Plain:
    """The usable ones."""
    usable = [point for point in points if point.candidate.score.ok]
    return {**_points("candidates", usable), "marker": {"color": "@muted", "size": 6, "opacity": 0.5}}


def _crosses(points: Sequence[Point]) -> Plain:
    """Those that failed."""
    failed = [point for point in points if not point.candidate.score.ok]
    cross = {"symbol": "x", "size": 8, "color": "@bad", "line": {"color": "@surface", "width": 1}}
    return {**_points("no usable score", failed), "marker": cross}


def _front_trace(points: Sequence[Point], *, joined: bool) -> Plain:
    """The front; in a plane of exactly its objectives it is a line."""
    marker = {"color": "@accent", "size": 10, "symbol": "diamond", "line": {"color": "@surface", "width": 1}}
    trace = {**_points("front", points), "marker": marker}
    return {**trace, "mode": "lines+markers", "line": {"color": "@accent", "width": 1.5}} if joined else trace


def _ring(points: Sequence[Point], facts: SearchFacts) -> Plain:
    """Around the winner, before there is one around the best so far."""
    chosen = [point for point in points if point.candidate == facts.chosen]
    ring = {"symbol": "circle-open", "size": 20, "color": "@winner", "line": {"width": 3}}
    return {**_points("winner" if facts.finished else "best so far", chosen), "marker": ring}


def _points(name: str, points: Sequence[Point]) -> Plain:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": brief(point.x for point in points),
        "y": brief(point.y for point in points),
        "hoverinfo": "text",
        "meta": TABLE,
        "customdata": [point.row for point in points],
    }


def _shown(traces: Iterable[Plain]) -> tuple[Plain, ...]:
    """Without those that have no point."""
    return tuple(trace for trace in traces if trace["x"])


def _whose(facts: SearchFacts) -> str:
    """Which of several searches a chart is of."""
    return f"Seed {facts.drawn}: " if len(facts.seeds) > 1 else ""


def _better(term: str) -> str:
    return f"{TITLES[term]} ({'more' if term in MAXIMISED else 'less'} is better)"
