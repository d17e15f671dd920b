"""Settings: frozen, validated records read from TOML and from `section.field=value` overrides.

A settings record is a frozen dataclass whose fields are bool, int, float, str, `Literal` choices, tuples of those, or
other settings records. `validate` may refuse combinations. Nothing here imports torch: a recipe is read and checked
before any slow import.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import re
import tomllib
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from evospike.core.errors import SettingsError
from evospike.core.limits import LARGEST_WHOLE, MOST_DEPTH, MOST_ITEMS, MOST_SETTINGS_BYTES, check_depth
from evospike.core.text import LONGEST, shortened, shown

T = TypeVar("T")

_TEXT_OR_COMMENT = re.compile(
    r"""  "{3} (?:\\.|[^\\])*? (?:"{3}|\\?\Z)  |  '{3} .*? (?:'{3}|\Z)  |  " (?:\\.|[^"\\\n])* "?  |  ' [^'\n]* '?
    |  \# [^\n]*""",
    re.DOTALL | re.VERBOSE,
)
"""A text that is never closed ends with its line or with all, so that the search takes one pass."""

_STRUCTURE = re.compile(r"[=\[\]{},\n]")


class Settings:
    """Base of every settings record: subclass it with `@dataclass(frozen=True)`.

    Choices are checked however a record is made, types where it is read (`read_settings`).
    """

    def __post_init__(self) -> None:
        for name, hint in _choices(type(self)).items():  # type: ignore[arg-type]
            convert(getattr(self, name), hint, name)
        self.validate()

    def validate(self) -> None:
        """Refuse values that cannot work together; raise SettingsError."""


@functools.cache
def _choices(cls: type) -> dict[str, Any]:
    """The fields of a record that take one of some values, and which."""
    return {name: hint for name, hint in get_type_hints(cls).items() if get_origin(hint) is Literal}


def require(condition: bool, message: str) -> None:
    """Raise SettingsError unless the condition holds."""
    if not condition:
        raise SettingsError(message)


def nearest(name: str, known: list[str], *, listed: bool = False) -> str:
    """A hint naming the closest known name, or all of them when none is close. listed: all of them in any case."""
    close = difflib.get_close_matches(name[:LONGEST], known, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?" + (f" (one of: {', '.join(known)})" if listed else "")
    return f"known: {', '.join(sorted(known))}"


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Look a name up in a registry; an unknown one is a SettingsError with the nearest name."""
    if name not in known:
        raise SettingsError(f"unknown {kind} '{shortened(name)}'; {nearest(name, list(known))}")
    return known[name]


def read_settings(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the settings record `cls` from plain values (as TOML or JSON gives them).

    Raises: SettingsError naming the field for an unknown key, a wrong type or a refused value.
    """
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in names:
            raise SettingsError(f"unknown field '{where}{shortened(key)}'; {nearest(key, names)}")
    converted = {key: convert(value, hints[key], f"{where}{key}") for key, value in values.items()}
    try:
        return cls(**converted)
    except SettingsError as error:
        raise SettingsError(
            f"[{where.rstrip('.')}] {error}" if where and not str(error).startswith("[") else str(error)
        ) from None


def plain(record: Any) -> Any:
    """The settings record as plain JSON values, every field included."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, tuple):
        return [plain(item) for item in record]
    return record


def merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of `extra` laid over `base`."""
    merged = dict(base)
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def parse_override(text: str) -> dict[str, Any]:
    """`section.field=value` as nested values; the value is read as TOML, or as text when it is no TOML."""
    path, equals, value = text.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys) or len(keys) > MOST_DEPTH:
        raise SettingsError(f"cannot read override '{shortened(text)}'; expected section.field=value")
    nested: Any = _read_value(value.strip())
    for key in reversed(keys):
        nested = {key: nested}
    return dict(nested)


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises: ValueError when it is no TOML, or nested deeper than `MOST_DEPTH`. Names of many parts are refused unread:
    the parser takes the square of their number.
    """
    structure = _TEXT_OR_COMMENT.sub("_", text)
    if any(part.count(".") >= MOST_DEPTH for part in _STRUCTURE.split(structure)):
        raise ValueError(f"a name of more than {MOST_DEPTH} parts between dots")
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MOST_DEPTH}") from None
    check_depth(tables)
    return tables


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    """Lines `field: old -> new` for every field in which two plain settings differ."""
    lines: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{where}{key}.")
        elif before != after:
            lines.append(f"{where}{key}: {json.dumps(before)} -> {json.dumps(after)}")
    return lines


def _read_value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:  # no TOML, a number of thousands of digits, brackets without end
        return text


def convert(value: Any, hint: Any, where: str) -> Any:
    """A plain value as what a type says. where: its name in messages. Raises: SettingsError when it is none."""
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise SettingsError(
                f"'{where}' is a section, given {shown(value)}; set its fields, as in {where}.field=value"
            )
        return read_settings(hint, value, f"{where}.")
    if origin is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        if value not in get_args(hint):
            raise SettingsError(f"'{where}' cannot be {shown(value)}; {nearest(shown(value), choices, listed=True)}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SettingsError(f"'{where}' wants a list, given {shown(value)}")
        if len(value) > MOST_ITEMS:
            raise SettingsError(f"'{where}' has {len(value)} entries; a list has at most {MOST_ITEMS}")
        return tuple(convert(item, get_args(hint)[0], f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return None if value is None else convert(value, options[0], where)
    return _convert_scalar(value, hint, where)


def _convert_scalar(value: Any, hint: type, where: str) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise SettingsError(f"'{where}' wants a number of at most 63 bits, given {shown(value)}")
    if hint is float and number:
        if not math.isfinite(value):
            raise SettingsError(f"'{where}' wants a finite number, given {value}")
        return float(value)
    if hint is int and number and isinstance(value, int):
        return value
    if hint is str and isinstance(value, str) and len(value) > MOST_SETTINGS_BYTES:
        raise SettingsError(f"'{where}' has {len(value)} characters; a text has at most {MOST_SETTINGS_BYTES}")
    if hint in (bool, str) and isinstance(value, hint):
        return value
    wanted = {float: "a number", int: "a whole number", bool: "true or false", str: "text"}.get(hint, str(hint))
    raise SettingsError(f"'{where}' wants {wanted}, given {shown(value)}")
