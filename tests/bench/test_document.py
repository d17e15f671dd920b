"""The document: its JSON form and schema, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from evospike.bench import document as module
from evospike.bench.document import (
    SCHEMA,
    AbsentResult,
    Document,
    from_plain,
    read_document,
    spread_of,
    to_plain,
    turn_ratios,
    write_document,
)
from evospike.bench.growth import Fit
from evospike.core.errors import RunError

VALIDATOR = Draft202012Validator(json.loads(SCHEMA.read_text()))

RECORDS = {
    "spread": module.Spread,
    "machine": module.Machine,
    "versions": module.Versions,
    "peer": module.PeerResult,
    "contestant": module.ContestantResult,
    "absent": module.AbsentResult,
    "case": module.CaseResult,
    "fit": Fit,
    "point": module.GrowthPoint,
    "growth": module.GrowthResult,
    "target": module.TargetResult,
}


@pytest.fixture
def document(case_of, growth_of, document_of) -> Document:
    rows = {"base": ("limit", [2, 4, 8]), "ours": ("evospike", [3, 4, 4])}
    case = case_of("train-vgg-small", rows, [AbsentResult("gone", "beta", "not installed")], reference="base")
    settled = dataclasses.replace(case.contestants[1], settings={"layout": "contiguous", "blocks": 2, "bits": True})
    case = dataclasses.replace(case, contestants=(case.contestants[0], settled))
    growth = growth_of("grows", {1: [1.0, 2.0], 2: [3.0], 4: [9.0], 8: "too many"})
    return document_of([case, case_of("empty", {}, reason="worker died")], growths=(growth,))


def refused_by_both(value: Any) -> bool:
    """Refused by the schema and by the reader; fails where only one of them notices."""
    complaint = ""
    try:
        from_plain(json.loads(json.dumps(value)))
    except RunError as error:
        complaint = str(error)
    assert VALIDATOR.is_valid(value) == (not complaint), next(VALIDATOR.iter_errors(value), complaint)
    return bool(complaint) and "\n" not in complaint


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def inside(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def test_the_schema_is_one_and_has_the_fields_of_the_records() -> None:
    Draft202012Validator.check_schema(VALIDATOR.schema)
    described = {"document": (VALIDATOR.schema, Document)}
    described |= {name: (VALIDATOR.schema["$defs"][name], record) for name, record in RECORDS.items()}
    assert set(VALIDATOR.schema["$defs"]) == set(RECORDS)
    for name, (schema, record) in described.items():
        fields = [field.name for field in dataclasses.fields(record)]
        assert list(schema["properties"]) == schema["required"] == fields, name
        assert schema["additionalProperties"] is False, name


def test_a_document_goes_through_its_file_unharmed(document: Document, document_of, tmp_path: Path) -> None:
    for one in (document, document_of(peers=None), document_of(complete=False, quick=True)):
        VALIDATOR.validate(to_plain(one))
        write_document(tmp_path / "bench.json", one)
        assert read_document(tmp_path / "bench.json") == one
        assert json.loads((tmp_path / "bench.json").read_text()) == to_plain(one)


def test_no_field_can_go_or_come(document: Document) -> None:
    value = to_plain(document)
    records = [path for path in places(value) if isinstance(inside(value, path), dict) and path[-1] != "settings"]
    assert len(records) > 20
    for path in [(), *records]:
        for key in inside(value, path):
            changed = copy.deepcopy(value)
            del inside(changed, path)[key]
            assert refused_by_both(changed), (path, key)
        changed = copy.deepcopy(value)
        inside(changed, path)["further"] = 1
        assert refused_by_both(changed), path


def test_no_value_can_be_of_another_type(document: Document) -> None:
    value = to_plain(document)
    for path in places(value):
        for other in ([[]], {"a": {}}):
            changed = copy.deepcopy(value)
            inside(changed, path[:-1])[path[-1]] = other
            assert refused_by_both(changed), path


@pytest.mark.parametrize(
    ("path", "other"),
    [
        (("format",), 2),
        (("complete",), 1),
        (("quick",), None),
        (("seconds",), "1"),
        (("machine", "cores"), 2.5),
        (("versions", "torch"), 2),
        (("peers",), False),
        (("cases", 0, "unit"), "minutes"),
        (("cases", 0, "contestants", 0, "figures", 1), "4"),
        (("cases", 0, "contestants", 0, "figures", 1), None),
        (("cases", 0, "contestants", 0, "figures", 1), True),
        (("cases", 0, "contestants", 0, "spread"), None),
        (("cases", 0, "contestants", 1, "settings", "layout"), None),
        (("targets", 0, "state"), "nearly"),
        (("growths", 0, "points", 0, "value"), "one"),
    ],
)
def test_no_value_can_be_one_that_is_not_meant(document: Document, path: tuple[Any, ...], other: object) -> None:
    value = to_plain(document)
    inside(value, path[:-1])[path[-1]] = other
    assert refused_by_both(value)


@pytest.mark.parametrize(
    "path",
    [
        ("cases", 0, "contestants", 1, "figures", 0),
        ("cases", 0, "contestants", 0, "figures", 2),
        ("cases", 0, "contestants", 1, "spread", "median"),
        ("cases", 0, "contestants", 1, "ratio", "high"),
        ("growths", 0, "points", 1, "figures", 0),
        ("growths", 0, "fit", "slope"),
    ],
)
def test_what_does_not_follow_from_the_figures_is_refused(document: Document, path: tuple[Any, ...]) -> None:
    value = to_plain(document)
    inside(value, path[:-1])[path[-1]] *= 1.001
    with pytest.raises(RunError, match="do not follow from the figures"):
        from_plain(value)


def test_contestants_of_a_case_have_as_many_turns(document: Document) -> None:
    value = to_plain(document)
    value["cases"][0]["contestants"][1]["figures"].append(1.0)
    with pytest.raises(RunError, match="'train-vgg-small' differ in their number of turns"):
        from_plain(value)


def test_files_that_are_no_document_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    with pytest.raises(RunError, match=r"cannot read .*bench\.json"):
        read_document(path)
    for text, wanted in (
        ("{", "cannot read"),
        ("[]", "wants exactly the fields"),
        ('"bench"', "wants exactly the fields"),
        ('{"format": 1}', "'document' wants exactly the fields"),
        ('{"format": 7}', "has format 7; this release reads format 1"),
    ):
        path.write_text(text)
        with pytest.raises(RunError, match=wanted) as caught:
            read_document(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


FIGURES = st.lists(st.floats(0.001, 1000), min_size=1, max_size=9)


@settings(max_examples=50, deadline=None)
@given(FIGURES)
def test_a_spread_is_the_median_and_the_medians_of_the_halves(figures: list[float]) -> None:
    """Inclusive quartiles: each half holds the middle value of an odd number... which is Tukey's hinge for 4k + 1."""
    spread = spread_of(figures)
    assert spread.median == median(figures)
    assert min(figures) <= spread.low <= spread.median <= spread.high <= max(figures)
    if len(figures) % 4 == 1:
        ordered, middle = sorted(figures), len(figures) // 2
        assert spread.low == pytest.approx(median(ordered[: middle + 1]))
        assert spread.high == pytest.approx(median(ordered[middle:]))


def test_ratios_are_formed_within_a_turn(case_of: Callable[..., Any]) -> None:
    """A machine that becomes ten times slower in the middle changes no ratio."""
    base = [1.0, 1.2, 10.0, 12.0, 11.0]
    case = case_of("x", {"base": ("limit", base), "ours": ("evospike", [3 * b for b in base])}, reference="base")
    ratios = [one.ratio for one in case.contestants]
    assert ratios[0] == spread_of([1.0])
    assert [ratios[1].low, ratios[1].median, ratios[1].high] == pytest.approx([3, 3, 3])
    assert turn_ratios([6.0, 1.0], [2.0, 4.0]) == (3.0, 0.25)
    assert turn_ratios([6.0], [0.0]) is None
    without = case_of("x", {"base": ("limit", [0.0]), "ours": ("evospike", [1.0])}, reference="base")
    assert [one.ratio for one in without.contestants] == [None, None]
    assert all(one.ratio is None for one in case_of("x", {"a": ("limit", [1.0])}).contestants)
