"""Energies and sizes as text, everywhere in the same units and with the same digits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_JOULES = ("pJ", "nJ", "µJ", "mJ", "J")

_DIGITS = 3
"""Behind the point."""


@dataclass(frozen=True)
class Unit:
    """size: how many of what was measured it holds."""

    name: str
    size: float

    def of(self, value: float) -> float:
        """A measured value in this unit."""
        return value / self.size


def energy_unit(picojoules: Iterable[float | None]) -> Unit:
    """The largest unit in which the largest of these energies is written as at least 1; pJ without any."""
    largest = max((abs(value) for value in picojoules if value is not None), default=0.0)
    powers = range(1, len(_JOULES))
    power = sum(round(largest / 1000.0 ** (k - 1), _DIGITS) >= 1000 for k in powers)
    return Unit(_JOULES[power], 1000.0**power)


def energy_text(picojoules: float) -> str:
    """An energy in its own unit, with three digits behind the point."""
    unit = energy_unit([picojoules])
    return f"{energy_number(picojoules, unit)} {unit.name}"


def energy_number(picojoules: float, unit: Unit) -> str:
    """An energy in a unit whose name stands elsewhere."""
    return f"{unit.of(picojoules):,.{_DIGITS}f}"


def size_text(number: float) -> str:
    """Bytes in the unit that leaves one to three digits before the point."""
    if number < 999.5:
        return f"{number:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:,.1f} PB"
