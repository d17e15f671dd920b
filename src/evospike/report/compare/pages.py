"""What each kind of comparison has on its page: a template over the common frame, the facts, the charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evospike.jobs.folder import RunFolder, reading
from evospike.report.compare.alike import KINDS, open_alike
from evospike.report.compare.charts import comparison_charts
from evospike.report.compare.facts import Comparison, gather_comparison
from evospike.report.compare.rank_charts import rank_comparison_charts
from evospike.report.compare.rankings import RankComparison, gather_rankings
from evospike.report.compare.search_charts import search_comparison_charts
from evospike.report.compare.searches import SearchComparison, gather_searches
from evospike.report.figures import Chart


@dataclass(frozen=True)
class ComparisonPage:
    """template: its file."""

    template: str
    facts: Comparison | SearchComparison | RankComparison
    charts: Mapping[str, Chart]


def make_comparison(paths: Sequence[Path]) -> ComparisonPage:
    """The page of several runs of one kind. Raises: RunError when they cannot be compared, or naming the file that was
    altered; StoreError likewise."""
    folders = open_alike(paths)
    with reading("a result of these runs"):
        return _PAGES[KINDS[folders[0].verb]](folders)


def _trainings(folders: Sequence[RunFolder]) -> ComparisonPage:
    facts = gather_comparison(folders)
    return ComparisonPage("compare.html", facts, comparison_charts(facts))


def _searches(folders: Sequence[RunFolder]) -> ComparisonPage:
    facts = gather_searches(folders)
    return ComparisonPage("compare_searches.html", facts, search_comparison_charts(facts))


def _rankings(folders: Sequence[RunFolder]) -> ComparisonPage:
    facts = gather_rankings(folders)
    return ComparisonPage("compare_rankings.html", facts, rank_comparison_charts(facts))


_PAGES: Mapping[str, Callable[[Sequence[RunFolder]], ComparisonPage]] = {
    "trainings": _trainings,
    "searches": _searches,
    "rankings": _rankings,
}
