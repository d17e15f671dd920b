"""A table for a paper, and how it is written as LaTeX (with booktabs) and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evospike.report.facts import RunFacts
from evospike.report.paper.text import count_text, count_unit, latex, markdown

Cell = str | None

_NARROW = 229
"""Points that a column of a page has (article, 10 pt, two columns); wider tables span both."""

_POINTS_A_CHARACTER, _POINTS_A_COLUMN = 5, 12
"""Of a table in 10 pt, on average; the second is the space around a column."""


@dataclass(frozen=True)
class Column:
    """One column: its head and its cells from top to bottom, None where a number is missing."""

    head: str
    cells: Sequence[Cell]
    words: bool = False


@dataclass(frozen=True)
class Table:
    """One table. name: part of its label. notes: what a reader has to know beside the numbers."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        return list(zip(*(column.cells for column in self.columns), strict=True))

    @property
    def points(self) -> int:
        """How wide it is in print, about."""
        widest = (max(len(cell or "") for cell in (column.head, *column.cells)) for column in self.columns)
        return sum(_POINTS_A_CHARACTER * characters + _POINTS_A_COLUMN for characters in widest)


def tables_tex(tables: Iterable[Table]) -> str:
    """All tables as one file that a document with booktabs takes by `input`."""
    head = "% Written by evospike; needs \\usepackage{booktabs}; names beyond Latin script, XeLaTeX or LuaLaTeX.\n"
    return head + "\n".join(map(_latex_table, tables))


def tables_markdown(tables: Iterable[Table]) -> str:
    """All tables as one file."""
    return "\n".join(map(_markdown_table, tables))


def words(head: str, cells: Sequence[Cell]) -> Column:
    """A column of words, which stand at its left side."""
    return Column(head, cells, words=True)


def counts(head: str, values: Sequence[float | None]) -> Column:
    """Counts in one unit, which the head names."""
    unit = count_unit(values)
    return Column(f"{head} ({unit.name})" if unit.name else head, [count_text(value, unit) for value in values])


def data_name(facts: RunFacts) -> str:
    """What networks were measured on, as a caption says it."""
    return f"{facts.data.name}, simulated recordings" if facts.data.simulated else facts.data.name


def _latex_table(table: Table) -> str:
    kind = "table*" if table.points > _NARROW else "table"
    align = "".join("l" if column.words else "r" for column in table.columns)
    rows = [[column.head for column in table.columns], *table.rows]
    head, *body = (" & ".join(map(latex, row)) + r" \\" for row in rows)
    notes = [rf"\par {latex(note)}" for note in table.notes]
    lines = [
        rf"\begin{{{kind}}}[t]",
        r"\centering",
        rf"\caption{{{latex(table.caption)}}}",
        rf"\label{{tab:evospike-{table.name}}}",
        rf"\begin{{tabular}}{{{align}}}",
        *(r"\toprule", head, r"\midrule", *body, r"\bottomrule"),
        r"\end{tabular}",
        *(["{\\footnotesize", *notes, "\\par}"] if notes else []),
        rf"\end{{{kind}}}",
    ]
    return "\n".join(lines) + "\n"


def _markdown_table(table: Table) -> str:
    rule = ["---" if column.words else "---:" for column in table.columns]
    rows = [[markdown(column.head) for column in table.columns], rule, *([*map(markdown, row)] for row in table.rows)]
    lines = [f"**{markdown(table.caption)}**", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join([*lines, *(f"{markdown(note)}\n" for note in table.notes)])
