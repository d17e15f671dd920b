"""Charts of a ranking: Kendall's tau of every score, and the scores against the accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from evospike.report.figures import Chart, Plain, axis_of, plain_layout, safe, short
from evospike.report.rank.facts import ACCURACY, RankedScore, RankFacts
from evospike.report.search.facts import term_of


def rank_charts(facts: RankFacts) -> dict[str, Chart]:
    """Every chart that the ranking has data for, by name."""
    charts = []
    if facts.scores:
        charts.append(taus_chart(facts.scores))
    if facts.names:
        charts.append(scatter_chart(facts))
    return {chart.name: chart for chart in charts}


def taus_chart(scores: Sequence[RankedScore]) -> Chart:
    """tau of every score as a bar with its interval, best on top; controls in a colour and hatching of their own."""
    names = [safe(score.name) for score in scores]
    data = [
        _bars("scores", [score for score in scores if not score.control], {"color": "@series0"}),
        _bars(
            "controls, which look at no spike",
            [score for score in scores if score.control],
            {
                "color": "@series1",
                "pattern": {"shape": "/", "fgcolor": "@surface", "fillmode": "overlay", "solidity": 0.3},
            },
        ),
    ]
    axes = {
        "xaxis": {**axis_of("Kendall’s τ"), "zeroline": True, "zerolinecolor": "@line"},
        "yaxis": {
            **axis_of(),
            "type": "category",
            "categoryorder": "array",
            "categoryarray": names[::-1],
            "showgrid": False,
        },
    }
    parts = [f"{score.name} {score.tau:+.3f}" for score in scores]
    summary = f"Kendall’s tau of every score with the accuracy, best first: {'; '.join(parts)}."
    layout = {**plain_layout(110 + 27 * len(scores), **axes), "bargap": 0.35, "barmode": "overlay"}
    return Chart("taus", summary, tuple(trace for trace in data if trace["x"]), layout)


def scatter_chart(facts: RankFacts) -> Chart:
    """Accuracy over one score, a trace per score of which the first is seen; a menu of the page shows another."""
    first = facts.names[0]
    data = tuple(_cloud(facts, name, visible=name == first) for name in facts.names)
    axes = {"xaxis": axis_of(first), "yaxis": axis_of("validation accuracy after a short training (%)")}
    summary = f"Accuracy of {len(facts.usable)} architectures against a score, at first {first}."
    return Chart("scatter", summary, data, {**plain_layout(420, **axes), "showlegend": False})


def _bars(name: str, scores: Sequence[RankedScore], marker: Plain) -> Plain:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "x": [short(score.tau) for score in scores],
        "y": [safe(score.name) for score in scores],
        "marker": marker,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [short(score.high - score.tau) for score in scores],
            "arrayminus": [short(score.tau - score.low) for score in scores],
            "color": "@text",
            "thickness": 1.5,
            "width": 4,
        },
        "hoverinfo": "text",
        "hovertext": [
            f"{safe(score.name)}<br>τ {score.tau:+.3f}, 95 % from {score.low:+.3f} to {score.high:+.3f}"
            for score in scores
        ],
        "textposition": "none",
    }


def _cloud(facts: RankFacts, name: str, *, visible: bool) -> Plain:
    points = [
        (x, y, one)
        for one in facts.usable
        if (x := term_of(one, name)) is not None and (y := term_of(one, ACCURACY)) is not None
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(name),
        "visible": visible,
        "x": [short(x) for x, _, _ in points],
        "y": [short(100 * y) for _, y, _ in points],
        "marker": {"color": "@series0", "size": 9, "opacity": 0.75, "line": {"color": "@surface", "width": 1}},
        "hoverinfo": "text",
        "text": [
            f"architecture {one.index + 1}<br>{safe(name)} {x:.6g}<br>accuracy {100 * y:.2f} %" for x, y, one in points
        ],
    }
