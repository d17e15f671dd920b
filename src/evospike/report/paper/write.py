"""Writes figures and tables about a run for a paper: PDF and SVG, LaTeX and Markdown.

The same run gives the same bytes, whenever and wherever they are written. Imports no matplotlib until it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evospike.core.errors import MissingExtra, RunError
from evospike.core.files import write_atomic
from evospike.jobs.folder import RunFolder, open_run
from evospike.report.facts import RunFacts, reading_of
from evospike.report.paper.study_tables import rank_tables, search_tables
from evospike.report.paper.tables import Table, data_name, tables_markdown, tables_tex
from evospike.report.paper.training_tables import training_tables
from evospike.report.rank.facts import gather_ranking
from evospike.report.search.facts import gather_search
from evospike.report.training.gather import gather

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Paper = tuple[RunFacts, Mapping[str, "Figure"], Sequence[Table]]
"""The run, figures by the name of their file, and tables."""

KINDS = ("pdf", "svg")


def write_figures(run: Path, folder: Path) -> list[Path]:
    """Write every figure and table that the run has data for into a new or empty folder, and return their paths.

    Raises: RunError when `run` is no run folder or holds nothing to show, or when `folder` is not empty or cannot be
    written; StoreError when the record cannot be trusted; MissingExtra without the extra `figures`.
    """
    opened = open_run(run)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"'{folder}' exists and is not an empty folder; give --figures a new one")
    files = _files(opened)
    try:
        for name, content in files.items():
            write_atomic(folder / name, content)
    except OSError as error:
        raise RunError(
            f"cannot write to '{folder}' ({error.strerror}); give --figures a folder on a disk with room"
        ) from None
    return [folder / name for name in files]


def _files(run: RunFolder) -> dict[str, bytes]:
    """Contents of all files by name."""
    try:
        from evospike.report.paper.style import file_bytes, note_below, paper_style
    except ImportError:
        raise MissingExtra("matplotlib", "figures", "a figure for a paper") from None
    with paper_style(), reading_of(run):
        facts, figures, tables = _PAPERS[run.verb](run)
        if not figures and not tables:
            raise RunError(f"'{run.path}' has nothing to show yet; go on with it: evospike resume {run.path}")
        for figure in figures.values():
            note_below(figure, f"data: {data_name(facts)}")
        files = {f"{name}.{kind}": file_bytes(figure, kind, name) for name, figure in figures.items() for kind in KINDS}
    return files | {"tables.tex": tables_tex(tables).encode(), "tables.md": tables_markdown(tables).encode()}


def _training_paper(run: RunFolder) -> Paper:
    from evospike.report.paper.evaluation import evaluation_figures
    from evospike.report.paper.figures import arm_looks, training_figures
    from evospike.report.paper.studies import evolution_figures

    facts = gather(run)
    figures = evolution_figures(facts.history) | training_figures(facts)
    if facts.evaluation is not None:
        figures |= evaluation_figures(facts.evaluation, arm_looks(facts))
    return facts, figures, training_tables(facts)


def _search_paper(run: RunFolder) -> Paper:
    from evospike.report.paper.studies import search_figures

    facts = gather_search(run)
    return facts, search_figures(facts), search_tables(facts)


def _rank_paper(run: RunFolder) -> Paper:
    from evospike.report.paper.studies import rank_figures

    facts = gather_ranking(run)
    return facts, rank_figures(facts), rank_tables(facts)


_PAPERS: Mapping[str, Callable[[RunFolder], Paper]] = {
    "evolve": _training_paper,
    "train": _training_paper,
    "search": _search_paper,
    "rank": _rank_paper,
}
