"""SECURITY.md names a test for every promise; they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def promises() -> list[tuple[str, list[str]]]:
    """Each promise and the tests that are named behind it."""
    page = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
    table = page.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [
        line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ") and "Held by" not in line
    ]
    return [(row[0].strip(), re.findall(r"`([^`]+)`", row[-1])) for row in rows]


def names_in(path: Path) -> set[str]:
    """Test functions and classes of a file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)}


def test_every_promise_names_tests_that_are_there() -> None:
    found = promises()
    assert len(found) >= 10
    for promise, tests in found:
        assert tests, promise
        for test in tests:
            file, _, name = test.partition("::")
            assert (TESTS / file).is_file(), test
            assert not name or name in names_in(TESTS / file), test
