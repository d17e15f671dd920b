"""Every case and growth curve of the suite, by name. Imports no torch, and neither do the modules it lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module

from evospike.bench.case import Case, Growth
from evospike.core.errors import SettingsError
from evospike.core.settings import choose

MODULES: tuple[str, ...] = tuple(
    f"evospike.bench.cases.{name}"
    for name in (
        *("limits", "neuron", "networks", "training", "inference", "memory"),
        *("genetic", "structure", "searching", "evolving", "population", "loading", "starting", "growing"),
    )
)
"""Modules with `CASES`, `GROWTHS` or both, in the order in which they are run and shown."""


@dataclass(frozen=True)
class Entry:
    """A case or growth curve, and the module that a measuring process finds it in."""

    module: str
    item: Case | Growth


def entries() -> dict[str, Entry]:
    """All of them by name, cases before growth curves. Raises: SettingsError when two have one name."""
    found: dict[str, Entry] = {}
    for attribute in ("CASES", "GROWTHS"):
        for module in MODULES:
            for entry in _entries_of(module, attribute):
                if entry.item.name in found:
                    raise SettingsError(f"two cases are named '{entry.item.name}'; give each its own name")
                found[entry.item.name] = entry
    return found


def chosen(names: Sequence[str], *, quick: bool) -> list[Entry]:
    """The entries of those names, each once; without names all that a whole or a quick run includes.

    Raises: SettingsError for an unknown name, with the nearest.
    """
    known = entries()
    if names:
        return [choose("case", name, known) for name in dict.fromkeys(names)]
    return [entry for entry in known.values() if not quick or _in_quick_run(entry.item)]


def find(module: str, name: str) -> Case | Growth:
    """The case or growth curve of a module. Raises: SettingsError when it has none of that name."""
    items = {entry.item.name: entry.item for entry in _entries_of(module, "CASES", "GROWTHS")}
    return choose("case", name, items)


def _entries_of(module: str, *attributes: str) -> Iterable[Entry]:
    loaded = import_module(module)
    return [Entry(module, item) for attribute in attributes for item in getattr(loaded, attribute, ())]


def _in_quick_run(item: Case | Growth) -> bool:
    return item.quick if isinstance(item, Case) else bool(item.quick_values)
