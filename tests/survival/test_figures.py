"""The figures themselves: gathered from reports of every process, in the order of the list, and put on their page."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evospike.core.errors import RunError

ROOT = Path(__file__).parents[2]


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    return loaded(ROOT / "tests" / "conftest.py")


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return loaded(ROOT / "benchmarks" / "write_soak.py")


def report(plugin: ModuleType, test: str, *figures: tuple[str, str, Any], when: str = "call", outcome: str = "passed"):
    """A report as pytest makes it; those of other processes arrive with the same fields."""
    properties = [(plugin._PROPERTY, {"line": line, "what": what, "value": value}) for line, what, value in figures]
    return pytest.TestReport(
        test, ("file", 0, test), {}, outcome, None, when, user_properties=[*properties, ("other", 1)]
    )


def collected(plugin: ModuleType, tmp_path: Path) -> dict[str, Any]:
    collector = plugin._Collector(str(tmp_path / "soak.json"))
    kills = [("survival 10", "kills", 100), ("survival 2", "steps", 7)]
    for when in ("setup", "call", "teardown"):  # every later report of a test carries what it has said before
        figures = kills if when != "setup" else []
        collector.pytest_runtest_logreport(report(plugin, "test_b", *figures, when=when))
    collector.pytest_runtest_logreport(report(plugin, "test_a", ("survival 2", "a | b", "1 of 2"), outcome="failed"))
    collector.pytest_sessionfinish()
    return json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))


def test_figures_are_in_the_order_of_the_list_and_say_whether_their_test_passed(
    plugin: ModuleType, tmp_path: Path
) -> None:
    document = collected(plugin, tmp_path)
    assert [(figure["line"], figure["what"], figure["outcome"]) for figure in document["figures"]] == [
        ("survival 2", "a | b", "failed"),
        ("survival 2", "steps", "passed"),
        ("survival 10", "kills", "passed"),
    ]
    assert document["failed"] == ["test_a"]
    assert document["tests"] == 2


def test_the_page_shows_every_figure_between_its_marks(plugin: ModuleType, page: ModuleType, tmp_path: Path) -> None:
    document = collected(plugin, tmp_path)
    text = f"# Head\n{page.BEGIN}\nold\n{page.END}\ntail\n"
    written = page.with_figures(text, document)
    assert "old" not in written
    assert written.startswith("# Head\n")
    assert written.endswith("\ntail\n")
    assert "| survival 2 | a \\| b | 1 of 2 **(its test failed)** |" in written
    assert "| survival 10 | kills | 100 |" in written
    assert "2 tests, 1 failed: test_a" in written
    assert page.with_figures(written, document) == written
    for broken in ("no marks", f"{page.BEGIN}\n", f"{text}{page.BEGIN}"):
        with pytest.raises(RunError, match="put these lines where the figures belong"):
            page.with_figures(broken, document)


def test_the_page_has_room_for_the_figures(page: ModuleType) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.count(page.BEGIN) == text.count(page.END) == 1


def test_a_round_is_short_in_the_gate_and_full_with_the_option(soak, request: pytest.FixtureRequest) -> None:
    full = bool(request.config.getoption("soak"))
    assert soak.count(3, 100) == (100 if full else 3)
