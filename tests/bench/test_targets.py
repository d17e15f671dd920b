"""Targets: where their figures come from, and when one is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from evospike.bench.document import AbsentResult, CaseResult, TargetResult
from evospike.bench.registry import entries
from evospike.bench.targets import SPIKINGJELLY, TARGETS, AgainstPeers, Finding, LeastOf, Pick, Ratio, Value, Worst

NUMBERS = [
    *("1a", "1b", "2a", "2b", "2c", "2d", "3a", "3b", "4", "5", "6a1", "6a2", "6a3", "6b", "6c"),
    *("7a", "7b", "8a", "8b", "8c", "G1", "G2", "G3"),
]


def of(targets: tuple[TargetResult, ...]) -> Mapping[str, TargetResult]:
    return {target.number: target for target in targets}


def records(value: Any) -> Iterator[Any]:
    """A target's figure and everything inside it."""
    if dataclasses.is_dataclass(value):
        yield value
        for field in dataclasses.fields(value):
            yield from records(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from records(item)


def test_every_target_is_there_once() -> None:
    assert [target.number for target in TARGETS] == NUMBERS
    assert {target.number for target in TARGETS if target.device == "cuda"} == {"G1", "G2", "G3"}
    assert len({target.text for target in TARGETS}) == len(TARGETS)


def test_every_target_is_of_a_case_of_the_suite() -> None:
    known = set(entries())
    for target in TARGETS:
        cases = {record.case for record in records(target.figure) if hasattr(record, "case")}
        assert cases, target.number
        assert target.device == "cuda" or cases <= known, target.number


def test_nothing_is_measured_by_an_empty_document(document_of) -> None:
    for target in document_of().targets:
        assert (target.figure, target.state) == (None, "not measured")
        assert target.note.endswith("was not run") or target.note == "needs a CUDA device"


@pytest.fixture
def training(case_of) -> CaseResult:
    """Two peers; the machine is three times slower in the third turn."""
    rows = {
        "relu": ("limit", [10, 10, 30]),
        "evospike eager": ("evospike", [15, 15, 45]),
        "evospike fused": ("evospike", [10.5, 11, 31.5]),
        f"{SPIKINGJELLY}: a": (SPIKINGJELLY, [21, 22, 63]),
        f"{SPIKINGJELLY}: b": (SPIKINGJELLY, [13.125, 13.75, 39.375]),
        "beta: a": ("beta", [12, 13, 50]),
    }
    return case_of("train-vgg-small", rows, [AbsentResult("gamma", "gamma", "not installed")], reference="relu")


def test_figures_of_the_training_step(training: CaseResult, document_of) -> None:
    found = of(document_of([training]).targets)
    assert found["1a"].figure == pytest.approx(1.05)  # of 1.05, 1.1, 1.05
    assert found["1a"].state == "reached"
    assert found["1a"].wanted == "at most 1.08"
    assert found["1b"].figure == pytest.approx(13 / 11)  # beta: 1.143, 1.182, 1.587; the other 1.25
    assert found["1b"].state == "missed"
    assert found["1b"].note == "worst: beta; not measured: best of gamma: not installed"
    assert {target.state for number, target in found.items() if number not in ("1a", "1b")} == {"not measured"}


def test_a_target_is_not_judged_where_it_does_not_apply(training: CaseResult, document_of) -> None:
    quick = of(document_of([training], quick=True).targets)
    assert {target.state for target in quick.values()} == {"not measured"}
    assert quick["1a"].note == "quick run: sizes are not the reference's"
    machine = dataclasses.replace(document_of().machine, device="cuda:0")
    cuda = of(document_of([training, dataclasses.replace(training, name="train-resnet19")], machine=machine).targets)
    assert (cuda["1a"].figure, cuda["1a"].note) == (None, "needs a run on the CPU")
    assert cuda["G1"].figure == pytest.approx(1 / 1.05)
    assert cuda["G2"].figure == pytest.approx(1.25)
    assert (cuda["G1"].state, cuda["G2"].state) == ("reached", "reached")
    assert cuda["G3"].note == "candidates-batched was not run"


@pytest.mark.parametrize(
    ("factor", "states"),
    [
        (1.8, {"2a": "reached", "2b": "reached", "2d": "reached"}),
        (1.5, {"2a": "missed", "2b": "reached", "2d": "missed"}),
        (1.2, {"2a": "missed", "2b": "missed", "2d": "missed"}),
    ],
)
def test_genetic_networks(case_of, document_of, factor: float, states: dict[str, str]) -> None:
    rows = {
        "dense": ("evospike", [factor, 2 * factor]),
        "genetic, 50 genes": ("evospike", [0.1, 0.2]),
        "genetic, 100 genes": ("evospike", [1, 2]),
        f"{SPIKINGJELLY}: a": (SPIKINGJELLY, [factor, 2 * factor]),
    }
    cases = [case_of(name, rows, reference="dense") for name in ("genetic-cifarnet", "genetic-resnet19w")]
    found = of(document_of(cases).targets)
    assert {number: found[number].state for number in states} == states
    assert [found[number].figure for number in states] == pytest.approx([factor] * 3)
    assert found["2a"].wanted == "at least 1.8, aim 2.4"


def test_every_layer_counts(case_of, document_of) -> None:
    rows = {"256 channels": ("evospike", [1.5]), "512 channels": ("evospike", [0.94]), "other": ("limit", [0.1])}
    case = case_of("genetic-layers", rows, higher=True, unit="x")
    found = of(document_of([case]).targets)["2c"]
    assert (found.figure, found.state, found.note) == (0.94, "missed", "worst: 512 channels")


def test_the_worst_rule_and_the_missing_one(case_of, document_of) -> None:
    rows = {
        "dense": ("evospike", [100, 200]),
        "gradient": ("evospike", [101, 202]),
        "momentum": ("evospike", [103, 206]),
        "adam": ("evospike", [102, 204]),
    }
    absent = [AbsentResult("random", "evospike", "ValueError: no")]
    found = of(document_of([case_of("structure-step", rows, absent, reference="dense")]).targets)["5"]
    assert found.figure == pytest.approx(1.03)
    assert found.note == "worst: momentum; not measured: random: ValueError: no"


def test_values_with_units(case_of, document_of) -> None:
    cases = [
        case_of("start-help", {"python": ("limit", [0.01]), "evospike": ("evospike", [0.2, 0.3, 0.4])}, unit="s"),
        case_of("evolution-overhead", {"1 worker": ("evospike", [1.0]), "2 workers": ("evospike", [2.5])}, unit="%"),
        case_of("evolution-workers", {"2 workers": ("evospike", [1.9])}, unit="x", higher=True),
        case_of("search-scoring", {"score of a digits candidate": ("evospike", [90.0])}),
        case_of("data-first", {}, [AbsentResult("evospike", "evospike", "no CIFAR-10 here")]),
        case_of("data-cached", {}, reason="worker died twice"),
    ]
    found = of(document_of(cases).targets)
    assert (found["7a"].figure, found["7a"].state, found["7a"].wanted) == (0.3, "reached", "at most 0.3 s")
    assert (found["6b"].figure, found["6b"].state, found["6b"].wanted) == (2.5, "missed", "at most 2 %")
    assert (found["6c"].figure, found["6c"].state) == (1.9, "reached")
    assert (found["6a3"].figure, found["6a3"].state) == (90.0, "reached")
    assert found["6a1"].note == "matrices by per-sample loops: did not take part"
    assert found["8a"].note == "best of evospike: no CIFAR-10 here"
    assert found["8b"].note == "best of evospike: worker died twice"


def test_parts_of_which_figures_are_made(case_of, document_of) -> None:
    case = case_of("c", {"a": ("evospike", [4, 6]), "b": ("evospike", [3, 9]), "zero": ("limit", [0, 1])}, higher=True)
    document = document_of([case])
    best = Pick(by="evospike").of(case)
    assert best is not None
    assert best.name == "b"
    assert Value("c", Pick("a")).of(document) == Finding(5.0)
    assert Ratio("c", Pick("a"), Pick("b")).of(document) == Finding((4 / 3 + 6 / 9) / 2)
    assert Ratio("c", Pick("a"), Pick("zero")).of(document) == Finding(None, "zero measured zero")
    assert Ratio("c", Pick("a"), Pick("nobody")).of(document) == Finding(None, "nobody: did not take part")
    assert LeastOf("c", "evospike").of(document) == Finding(5.0, "worst: a")
    assert LeastOf("c", "gamma").of(document) == Finding(None, "nothing took part")
    assert AgainstPeers("c").of(document) == Finding(None, "no peer took part")
    for figure in (Value("d", Pick("a")), Ratio("d", Pick("a"), Pick("b")), LeastOf("d", "x"), AgainstPeers("d")):
        assert figure.of(document) == Finding(None, "d was not run")
    parts = tuple((name, Value("c", Pick(name))) for name in ("a", "b"))
    assert Worst(parts, max).of(document) == Finding(6.0, "worst: b")
    assert Worst((*parts[:1], ("d", Value("d", Pick("a")))), max).of(document) == Finding(
        5.0, "a; not measured: d was not run"
    )
