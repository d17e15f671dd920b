"""Settings: what is accepted, what is refused and in which words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from evospike.core.errors import SettingsError
from evospike.core.settings import (
    Settings,
    choose,
    differences,
    merge,
    nearest,
    parse_override,
    plain,
    read_settings,
    require,
)


@dataclass(frozen=True)
class Engine(Settings):
    power: float = 1.5
    cylinders: int = 4
    fuel: Literal["petrol", "diesel"] = "petrol"

    def validate(self) -> None:
        require(self.cylinders > 0, f"'cylinders' must be positive, given {self.cylinders}")


@dataclass(frozen=True)
class Car(Settings):
    name: str = "car"
    doors: tuple[int, ...] = (2, 4)
    open: bool = False
    limit: float | None = None
    engine: Engine = field(default_factory=Engine)


def test_nested_values_become_the_record() -> None:
    car = read_settings(Car, {"name": "a", "doors": [3], "open": True, "limit": 2, "engine": {"power": 2}})
    assert car == Car("a", (3,), True, 2.0, Engine(power=2.0))
    assert isinstance(car.engine.power, float)
    assert isinstance(car.limit, float)


def test_plain_and_read_are_inverse() -> None:
    car = Car("b", (1, 2, 3), True, 0.5, Engine(3.0, 6, "diesel"))
    assert plain(car) == {
        "name": "b",
        "doors": [1, 2, 3],
        "open": True,
        "limit": 0.5,
        "engine": {"power": 3.0, "cylinders": 6, "fuel": "diesel"},
    }
    assert read_settings(Car, plain(car)) == car


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nam": "x"}, "unknown field 'nam'; did you mean 'name'?"),
        ({"zzz": 1}, "unknown field 'zzz'; known: doors, engine, limit, name, open"),
        ({"engine": {"powr": 1.0}}, "unknown field 'engine.powr'; did you mean 'power'?"),
        ({"name": 3}, "'name' wants text, given 3"),
        ({"open": 1}, "'open' wants true or false, given 1"),
        ({"engine": {"cylinders": 4.0}}, "'engine.cylinders' wants a whole number, given 4.0"),
        ({"engine": {"cylinders": True}}, "'engine.cylinders' wants a whole number, given True"),
        ({"engine": {"power": "2"}}, "'engine.power' wants a number, given '2'"),
        ({"engine": {"power": False}}, "'engine.power' wants a number, given False"),
        ({"engine": {"power": float("nan")}}, "'engine.power' wants a finite number, given nan"),
        ({"engine": {"power": float("inf")}}, "'engine.power' wants a finite number, given inf"),
        (
            {"engine": {"fuel": "desel"}},
            "'engine.fuel' cannot be 'desel'; did you mean 'diesel'? (one of: petrol, diesel)",
        ),
        ({"engine": 3}, "'engine' is a section, given 3; set its fields, as in engine.field=value"),
        ({"doors": 3}, "'doors' wants a list, given 3"),
        ({"doors": [1, "a"]}, "'doors[1]' wants a whole number, given 'a'"),
        ({"engine": {"cylinders": 0}}, "[engine] 'cylinders' must be positive, given 0"),
    ],
)
def test_refusals_name_the_field(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(Car, values)
    assert str(caught.value) == message


def test_top_level_refusal_has_no_section() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(Engine, {"cylinders": -1})
    assert str(caught.value) == "'cylinders' must be positive, given -1"


def test_records_are_validated_when_made_directly() -> None:
    with pytest.raises(SettingsError, match="'cylinders' must be positive, given 0"):
        Engine(cylinders=0)
    with pytest.raises(SettingsError, match=r"^'fuel' cannot be 'disel'; did you mean 'diesel'\?"):
        Engine(fuel="disel")  # type: ignore[arg-type]


def test_nearest_and_choose() -> None:
    assert nearest("resnet1", ["vgg16", "resnet18"]) == "did you mean 'resnet18'?"
    assert nearest("qqq", ["b", "a"]) == "known: a, b"
    assert choose("thing", "a", {"a": 5}) == 5
    with pytest.raises(SettingsError, match="unknown thing 'aa'; did you mean 'a'\\?"):
        choose("thing", "aa", {"a": 5})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1", {"a": {"b": 1}}),
        ("a.b = 1.5", {"a": {"b": 1.5}}),
        ("a=true", {"a": True}),
        ("a.b.c=[1, 2]", {"a": {"b": {"c": [1, 2]}}}),
        ('a="x y"', {"a": "x y"}),
        ("a=plain text", {"a": "plain text"}),
        ("a=x=y", {"a": "x=y"}),
        ("a=", {"a": ""}),
        ("a=1e-3", {"a": 0.001}),
    ],
)
def test_overrides_are_read_as_toml_or_as_text(text: str, value: dict[str, object]) -> None:
    assert parse_override(text) == value


@pytest.mark.parametrize("text", ["a.b", "=3", "a..b=3", ".a=3", ""])
def test_broken_overrides_are_refused(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_override(text)
    assert str(caught.value) == f"cannot read override '{text}'; expected section.field=value"


def test_merge_lays_nested_values_over_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    extra = {"a": {"y": 5}, "b": {"z": 1}, "c": 4}
    assert merge(base, extra) == {"a": {"x": 1, "y": 5}, "b": {"z": 1}, "c": 4}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}
    assert extra == {"a": {"y": 5}, "b": {"z": 1}, "c": 4}


def test_differences_name_every_changed_field() -> None:
    old = plain(Car())
    new = plain(Car(name="z", engine=Engine(power=2.0)))
    assert differences(old, new) == ["engine.power: 1.5 -> 2.0", 'name: "car" -> "z"']
    assert differences(old, old) == []
    assert differences({"a": 1}, {"b": 2}) == ["a: 1 -> null", "b: null -> 2"]
