"""The LaTeX tables in a document of two columns, set by LaTeX itself where that is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from evospike.report.paper.tables import Column, Table, tables_tex, words
from evospike.report.paper.write import write_figures

DOCUMENT = r"""\documentclass[10pt,twocolumn]{article}
\usepackage{booktabs}
\begin{document}
\input{tables}
\end{document}
"""


def _table(columns: int, cell: str) -> Table:
    heads = [words("Method", ["sparse"])]
    return Table("t", "A caption.", (*heads, *(Column("Accuracy (%)", [cell]) for _ in range(columns))))


@pytest.mark.parametrize(("columns", "kind"), [(1, "table"), (2, "table"), (3, "table*"), (6, "table*")])
def test_a_table_wider_than_a_column_spans_both(columns: int, kind: str) -> None:
    assert f"\\begin{{{kind}}}[t]" in tables_tex([_table(columns, "99.11 ± 0.38")])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_sets_every_table_without_an_error_or_a_line_that_is_too_wide(make_evaluated, tmp_path: Path) -> None:
    write_figures(make_evaluated(robustness="full").path, tmp_path / "paper")
    text = (tmp_path / "paper" / "tables.tex").read_text()
    (tmp_path / "tables.tex").write_text(text)
    (tmp_path / "paper.tex").write_text(DOCUMENT)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert text.count(r"\begin{table") > 2
    assert [line for line in done.stdout.splitlines() if line.startswith("Overfull")] == []
