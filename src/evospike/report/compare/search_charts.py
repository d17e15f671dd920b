"""Charts of searches side by side: the winners' scores, the best score on the way to them, and the fronts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean

from evospike.core.statistics import deviation
from evospike.report.compare.alike import Entry
from evospike.report.compare.charts import WIDEST
from evospike.report.compare.marks import Mark, marks_trace, row_axis
from evospike.report.compare.searches import ComparedSearch, Scale, SearchComparison
from evospike.report.figures import Chart, Plain, axis_of, count_axis, evenly, line_trace, plain_layout, safe, short
from evospike.report.search.charts import TITLES
from evospike.report.search.facts import Search, term_of

MOST_POINTS = 400
"""About as many generations of a curve are drawn."""

Progress = list[tuple[int, float, float]]
"""Where, the mean of the best score so far, and its standard deviation over the searches of a run."""


def search_comparison_charts(facts: SearchComparison) -> dict[str, Chart]:
    """Every chart that the searches have data for, by name."""
    found = [
        *(winners_chart(place, scale) for place, scale in enumerate(facts.scales)),
        *(progress_chart(place, scale, by_candidates=facts.by_candidates) for place, scale in enumerate(facts.scales)),
        *(fronts_chart(place, runs) for place, runs in enumerate(facts.planes)),
    ]
    return {chart.name: chart for chart in found if chart is not None}


def winners_chart(place: int, scale: Scale) -> Chart | None:
    """Scores of the winners: a row for every run with the mean, its 95 % interval and each search; None without any."""
    known = [(run, value) for run in scale.runs if (value := scale.quantity.values[run.number - 1]) is not None]
    if not known:
        return None
    data: list[Plain] = []
    for row, (run, value) in enumerate(known):
        reach, text = value.interval or 0.0, f"{safe(run.title)}<br>{scale.quantity.text(value)}"
        mark = Mark(row, value.mean, value.mean - reach, value.mean + reach, text)
        data += [marks_trace(run, [mark]), _ticks(run, row, list(value.seeds.values()))]
    axes = {
        "xaxis": {**axis_of(_score_title(scale)), "nticks": 5, "tickangle": 0},
        "yaxis": row_axis([run.title for run, _ in known]),
    }
    parts = [f"{run.title} {scale.quantity.text(value)}" for run, value in known]
    summary = f"Score of the winners ({scale.name}), mean over searches: {'; '.join(parts)}."
    layout = {**plain_layout(90 + 44 * len(known), **axes), "showlegend": False}
    return Chart(f"winners-{place}", summary, tuple(data), layout)


def progress_chart(place: int, scale: Scale, *, by_candidates: bool) -> Chart | None:
    """The best score so far by generation or by candidates: mean over the searches of a run, with a band of one
    standard deviation; None without any."""
    curves = [(run, _progress(run, by_candidates=by_candidates)) for run in scale.runs]
    known = [(run, curve) for run, curve in curves if curve]
    if not known:
        return None
    data = [trace for run, curve in known for trace in _band_and_line(run, curve)]
    parts = [f"{run.title} from {curve[0][1]:.6g} to {curve[-1][1]:.6g}" for run, curve in known]
    unit = "candidates" if by_candidates else "generation"
    summary = f"Best score so far ({scale.name}) by {unit}, mean over searches: {'; '.join(parts)}."
    places = [place for _, curve in known for place, _, _ in curve]
    axes = {"xaxis": count_axis(unit, places), "yaxis": axis_of(f"best {_score_title(scale)}")}
    note = f"Long curves: about {MOST_POINTS} generations of each are drawn, evenly." if _thins(scale) else ""
    return Chart(f"progress-{place}", summary, tuple(data), plain_layout(320 + 20 * len(parts), **axes), note)


def fronts_chart(place: int, runs: Sequence[ComparedSearch]) -> Chart | None:
    """The front of every search in the plane of two terms, with its winner; None without any."""
    up, across = runs[0].facts.objectives[:2]
    data: list[Plain] = []
    parts: list[str] = []
    for run in runs:
        traces = [_front(run, one, across, up) for one in run.facts.searches]
        fronts = [trace for trace in traces if trace["x"]]
        data += [{**trace, "showlegend": trace is fronts[0]} for trace in fronts]
        data += [ring for one in run.facts.searches if (ring := _ring(run, one, across, up))["x"]]
        parts.append(f"{run.title} {', '.join(str(len(trace['x'])) for trace in traces)}")
    if not data:
        return None
    summary = f"Fronts in {TITLES[up]} over {TITLES[across]}; candidates of each: {'; '.join(parts)}."
    axes = {"xaxis": _across(TITLES[across], data), "yaxis": axis_of(TITLES[up])}
    return Chart(f"fronts-{place}", summary, tuple(data), plain_layout(420 + 20 * len(runs), **axes))


def _progress(run: ComparedSearch, *, by_candidates: bool) -> Progress:
    """A search that ended before the others of its run keeps its best."""
    curves = [_best_so_far(search) for search in run.facts.searches]
    length = max(map(len, curves))
    counts = list(accumulate(run.facts.recipe.search.sizes)) if by_candidates else range(1, length + 1)
    found = []
    for place in evenly(length, MOST_POINTS):
        known = [best for curve in curves if curve and (best := curve[min(place, len(curve) - 1)]) is not None]
        if known:
            found.append((counts[place], fmean(known), deviation(known) or 0.0))
    return found


def _thins(scale: Scale) -> bool:
    """Whether a curve has more generations than are drawn."""
    return any(len(search.generations) > MOST_POINTS for run in scale.runs for search in run.facts.searches)


def _best_so_far(search: Search) -> list[float | None]:
    """By generation; None before there is a usable score."""
    best = [generation.best_of("score") for generation in search.generations]
    return list(accumulate(best, lambda a, b: max((one for one in (a, b) if one is not None), default=None)))


def _band_and_line(run: Entry, curve: Progress) -> list[Plain]:
    x = [place for place, _, _ in curve]
    upper, lower = [mean + std for _, mean, std in curve], [mean - std for _, mean, std in curve]
    band = {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *x[::-1]],
        "y": list(map(short, [*upper, *lower[::-1]])),
        "fill": "toself",
        "fillcolor": run.colour,
        "line": {"color": run.colour, "width": 0},
        "opacity": 0.2,
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": str(run.number),
    }
    line = {
        **line_trace(safe(run.title), x, [short(mean) for _, mean, _ in curve], run.colour, run.dash),
        "legendgroup": str(run.number),
        "mode": "lines+markers" if len(x) <= 15 else "lines",
    }
    return [band, line] if any(std for _, _, std in curve) else [line]


def _front(run: ComparedSearch, search: Search, across: str, up: str) -> Plain:
    """The front of one search; in a plane of exactly its objectives it is a line."""
    points = sorted(
        (x, y, f"generation {one.generation + 1}, candidate {one.index + 1}")
        for one in search.front
        if (x := term_of(one, across)) is not None and (y := term_of(one, up)) is not None
    )
    return {
        **_points(run, search, points, (across, up)),
        "mode": "lines+markers" if len(run.facts.objectives) == 2 else "markers",
        "line": {"color": run.colour, "width": 1.5, "dash": run.dash},
        "marker": {"color": run.colour, "size": 8, "symbol": run.symbol},
    }


def _ring(run: ComparedSearch, search: Search, across: str, up: str) -> Plain:
    """Around the winner of a search."""
    terms = {} if search.chosen is None else search.chosen.score.terms
    x, y = terms.get(across), terms.get(up)
    points = [] if x is None or y is None else [(x, y, "winner")]
    ring = {"symbol": "circle-open", "size": 18, "color": run.colour, "line": {"width": 2.5}}
    return {**_points(run, search, points, (across, up)), "mode": "markers", "marker": ring, "showlegend": False}


def _points(run: Entry, search: Search, points: Sequence[tuple[float, float, str]], terms: tuple[str, str]) -> Plain:
    across, up = (TITLES[name] for name in terms)
    return {
        "type": "scatter",
        "name": safe(run.title),
        "legendgroup": str(run.number),
        "x": [short(x) for x, _, _ in points],
        "y": [short(y) for _, y, _ in points],
        "hoverinfo": "text",
        "text": [
            f"{safe(run.title)}, seed {search.number}<br>{what}<br>{up} {y:,.6g}<br>{across} {x:,.6g}"
            for x, y, what in points
        ],
    }


def _ticks(run: Entry, row: int, values: Sequence[float]) -> Plain:
    """Every search of a run."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "one search",
        "x": list(map(short, values)),
        "y": [row] * len(values),
        "marker": {"color": "@text", "size": 9, "symbol": "line-ns-open", "line": {"width": 1.5}},
        "hoverinfo": "text",
        "text": [f"{safe(run.title)}, one search<br>{value:,.6g}" for value in values],
    }


def _across(title: str, data: Sequence[Plain]) -> Plain:
    """The axis of fronts, logarithmic where they are far apart."""
    values = [x for trace in data for x in trace["x"]]
    wide = min(values) > 0 and max(values) / min(values) >= WIDEST
    return {**axis_of(title), **({"type": "log", "dtick": 1} if wide else {})}


def _score_title(scale: Scale) -> str:
    return f"score ({scale.name})"
