"""Results made by hand, the cases of `bench_fake_cases.py` as if they were the whole suite, and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from evospike.bench import registry
from evospike.bench.document import (
    FORMAT,
    AbsentResult,
    CaseResult,
    ContestantResult,
    Document,
    GrowthPoint,
    GrowthResult,
    Machine,
    PeerResult,
    Versions,
    spread_of,
    with_fit,
    with_spreads,
)
from evospike.bench.targets import assess
from evospike.cli.main import main

FAKES = "bench_fake_cases"


@dataclass(frozen=True)
class Said:
    """What a command returned and printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake cases are the suite, here and in the processes that measure."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(registry, "MODULES", (FAKES,))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`evospike bench` with arguments, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = main(["bench", *map(str, arguments)])
        return Said(code, *capsys.readouterr())

    return call


Rows = Mapping[str, tuple[str, Sequence[float]]]


@pytest.fixture
def case_of() -> Callable[..., CaseResult]:
    """A case from `{name: (by, figures)}`; further fields by name."""

    def make(name: str, rows: Rows, absent: Sequence[AbsentResult] = (), **changes: Any) -> CaseResult:
        reference = changes.get("reference", "")
        contestants = [
            ContestantResult(row, by, {}, tuple(map(float, figures)), spread_of(figures), None)
            for row, (by, figures) in rows.items()
        ]
        case = CaseResult(name, "Group", f"about {name}", "ms", "", False, 1.5, "", (), tuple(absent))
        return replace(case, contestants=with_spreads(contestants, reference), **changes)

    return make


@pytest.fixture
def growth_of() -> Callable[..., GrowthResult]:
    """A growth curve from `{value: figures}`; a text instead of figures is the reason for none."""

    def make(name: str, points: Mapping[int, Sequence[float] | str]) -> GrowthResult:
        made = tuple(
            GrowthPoint(value, (), None, found)
            if isinstance(found, str)
            else GrowthPoint(value, tuple(found), None, "")
            for value, found in points.items()
        )
        return with_fit(GrowthResult(name, f"about {name}", "T", "ms", 0.5, "", made, None))

    return make


@pytest.fixture
def document_of() -> Callable[..., Document]:
    """A whole run on a CPU with these cases; further fields by name."""

    def make(cases: Sequence[CaseResult] = (), **changes: Any) -> Document:
        document = Document(
            format=FORMAT,
            quick=False,
            complete=True,
            started="2026-01-02T03:04:05+0000",
            seconds=600.0,
            machine=Machine("cpu", "A processor", "A processor", "AVX512", 2, 2, 8 * 2**30, "Linux"),
            versions=Versions("3.11.7", "2.13.0", "2.4.6", "0.1.0", "0" * 40),
            peers=(PeerResult("alpha", "1.0", "", ""), PeerResult("beta", "", "", "not installed: no beta")),
            cases=tuple(cases),
            growths=(),
            targets=(),
        )
        changed = replace(document, **changes)
        return replace(changed, targets=assess(changed))

    return make
