"""What every test shares: one thread per process, so that parallel test processes do not fight over two cores, and the
option `--soak`, with which the tests of survival and of hostile input run at full length and their figures are shown.
"""

from __future__ import annotations

import platform
import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy
import pytest
import torch

import evospike
from evospike.core.files import write_json
from evospike.jobs.folder import source_commit

torch.set_num_threads(1)

_PROPERTY = "soak figure"
_FORMAT = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "survival and hostile input at full length")
    group.addoption("--soak", action="store_true", help="run every round of these tests and print their figures")
    group.addoption("--soak-figures", metavar="FILE", help="with --soak: also write the figures there, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    """Examples of properties are the same in every run of the gate, others at full length; no clock judges them."""
    hypothesis.settings.register_profile("gate", deadline=None, derandomize=True)
    hypothesis.settings.register_profile("soak", deadline=None)
    hypothesis.settings.load_profile("soak" if config.getoption("soak") else "gate")
    if config.getoption("soak") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Collector(config.getoption("soak_figures")), "soak figures")


class Soak:
    """How long a test of survival or of hostile input is, and what it found."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._full = bool(request.config.getoption("soak"))
        self._properties = request.node.user_properties

    def count(self, short: int, full: int) -> int:
        """How many rounds to run: `short` in the gate, `full` with --soak."""
        return full if self._full else short

    def figure(self, line: str, what: str, value: int | float | str) -> None:
        """State a figure of a line of the list, as `survival 3` or `hostile 2`."""
        self._properties.append((_PROPERTY, {"line": line, "what": what, "value": value}))


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> Soak:
    return Soak(request)


@dataclass(frozen=True)
class _Figure:
    """One figure and the test that stated it. outcome: whether that test passed."""

    line: str
    what: str
    value: int | float | str
    test: str
    outcome: str


class _Collector:
    """Gathers the figures from the reports, which come from every process of a distributed session too."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._found: dict[str, list[dict[str, Any]]] = {}
        self._failed: set[str] = set()
        self._started = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._found[report.nodeid] = [value for name, value in report.user_properties if name == _PROPERTY]
        if report.failed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        if self._path:
            write_json(Path(self._path), self._document())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("figures")
        figures = self._figures()
        widest = max((len(figure.what) for figure in figures), default=0)
        for figure in figures:
            mark = "" if figure.outcome == "passed" else f"  ({figure.outcome}: {figure.test})"
            terminalreporter.write_line(f"{figure.line:<12} {figure.what:<{widest}}  {figure.value}{mark}")

    def _figures(self) -> list[_Figure]:
        """By line, then by test, then as they were stated."""
        return sorted(self._each(), key=lambda figure: (_natural(figure.line), figure.test))

    def _each(self) -> Iterator[_Figure]:
        for test, values in self._found.items():
            outcome = "failed" if test in self._failed else "passed"
            yield from (_Figure(**value, test=test, outcome=outcome) for value in values)

    def _document(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "evospike": evospike.__version__,
            "commit": source_commit(),
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": numpy.__version__,
                "sqlite": sqlite3.sqlite_version,
                "cpu": torch.backends.cpu.get_cpu_capability(),
            },
            "platform": platform.platform(),
            "seconds": round(time.monotonic() - self._started),
            "tests": len(self._found),
            "failed": sorted(self._failed),
            "figures": [asdict(figure) for figure in self._figures()],
        }


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts `line 10` behind `line 9`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]
