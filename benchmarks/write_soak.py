"""Write the page of survival and hostile input, docs/results/soak.md, from the figures that `make soak` found.

python benchmarks/write_soak.py benchmarks/results/soak.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from evospike.core.errors import RunError
from evospike.core.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results" / "soak.md"
BEGIN, END = "<!-- soak: figures -->", "<!-- soak: end -->"


def table(document: Mapping[str, Any]) -> str:
    """The figures of a session as a Markdown table, and what they were found with."""
    rows = ["| Line | What | Figure |", "|---|---|---|"]
    survival_first = sorted(document["figures"], key=lambda figure: figure["line"].startswith("hostile"))
    for line, figures in groupby(survival_first, key=lambda figure: figure["line"]):
        for number, figure in enumerate(figures):
            failed = "" if figure["outcome"] == "passed" else " **(its test failed)**"
            rows.append(f"| {'' if number else line} | {_cell(figure['what'])} | {_cell(figure['value'])}{failed} |")
    return "\n".join([*rows, "", _made_with(document)])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _made_with(document: Mapping[str, Any]) -> str:
    named = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    failed = document["failed"]
    ended = f"{len(failed)} failed: {', '.join(failed)}" if failed else "none failed"
    return (
        f"{document['tests']} tests, {ended}; {document['seconds'] / 60:.0f} minutes. "
        f"Commit {document['commit'] or 'unknown'}, {document['created'][:10]}, {named}."
    )


def with_figures(page: str, document: Mapping[str, Any]) -> str:
    """The page with the block between the marks replaced. Raises: RunError when the marks are not there once each."""
    return with_block(page, BEGIN, END, table(document))


def with_block(page: str, begin: str, end: str, block: str) -> str:
    """The page with what stands between two lines replaced. Raises: RunError when they are not there once each."""
    head, found_begin, rest = page.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end) or begin in tail or end in tail:
        raise RunError(
            f"the page has not one block from '{begin}' to '{end}'; put these lines where the figures belong"
        )
    return f"{head}{begin}\n{block}\n{end}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("document", type=Path)
    document = json.loads(parser.parse_args().document.read_text(encoding="utf-8"))
    write_atomic(PAGE, with_figures(PAGE.read_text(encoding="utf-8"), document).encode())
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
