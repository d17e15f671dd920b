"""Records of which every field must be given: `read_settings`, which alone would leave a missing one to its caller."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from evospike.core.errors import SettingsError
from evospike.core.settings import nearest, read_settings
from evospike.core.text import shortened, shown

T = TypeVar("T")


def read_record(cls: type[T], values: Any, where: str = "") -> T:
    """Build a settings record from plain values.

    Raises: SettingsError as `read_settings` does, and naming a field without a default that is missing, at any depth.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"'{where.rstrip('.') or cls.__name__}' is a table of named fields, given {shown(values)}")
    _check_complete(cls, values, where)
    return read_settings(cls, values, where)


def _check_complete(cls: type, values: Mapping[str, Any], where: str) -> None:
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    for key in values:
        if key not in names:
            raise SettingsError(f"unknown field '{where}{shortened(key)}'; {nearest(key, names)}")
    for field in dataclasses.fields(cls):
        if field.name not in values:
            if field.default is dataclasses.MISSING:
                raise SettingsError(f"lacks field '{where}{field.name}'; known: {', '.join(names)}")
            continue
        inner, value = next(iter(get_args(hints[field.name])), None), values[field.name]
        if dataclasses.is_dataclass(inner) and isinstance(inner, type) and isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, Mapping):
                    _check_complete(inner, item, f"{where}{field.name}[{i}].")
