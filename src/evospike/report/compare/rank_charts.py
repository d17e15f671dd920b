"""The chart of rankings side by side: Kendall's tau of every score in every run."""

from __future__ import annotations

from evospike.report.compare.marks import Mark, marks_trace, row_axis
from evospike.report.compare.rankings import ComparedRanking, RankComparison
from evospike.report.figures import Chart, axis_of, plain_layout, safe

SPREAD = 0.7
"""Share of a row over which the runs are spread."""


def rank_comparison_charts(facts: RankComparison) -> dict[str, Chart]:
    """tau of every score, a row for each, with its interval in every run."""
    data = [marks_trace(run, _marks(run, facts)) for run in facts.runs]
    axes = {
        "xaxis": {**axis_of("Kendall’s τ"), "zeroline": True, "zerolinecolor": "@line"},
        "yaxis": row_axis(facts.names),
    }
    parts = [f"{run.title} {found.tau:+.3f}" for run in facts.runs if (found := run.of(facts.names[0]))]
    summary = f"Kendall’s tau of {len(facts.names)} scores; of {facts.names[0]}: {'; '.join(parts)}."
    height = 110 + 20 * len(facts.runs) + len(facts.names) * (14 + 10 * len(facts.runs))
    return {"taus": Chart("taus", summary, tuple(data), plain_layout(height, **axes))}


def _marks(run: ComparedRanking, facts: RankComparison) -> list[Mark]:
    """A run is at the same place in every row."""
    shift = SPREAD * ((run.number - 0.5) / len(facts.runs) - 0.5)
    return [
        Mark(
            row + shift,
            found.tau,
            found.low,
            found.high,
            f"{safe(run.title)}<br>{safe(name)}<br>τ {found.tau:+.3f}, 95 % from {found.low:+.3f} to {found.high:+.3f}",
        )
        for row, name in enumerate(facts.names)
        if (found := run.of(name)) is not None
    ]
