"""How numbers and texts are written on a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from evospike.report.gather import Arm
from evospike.report.rank_facts import Difference, RankedScore


class Trusted:
    """Text of our own that goes into the page as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __html__(self) -> str:
        return self._text


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}".replace("%", " %")


def accuracy(arm: Arm) -> str:
    mean = f"{100 * arm.test_accuracy:.2f}"
    return f"{mean} %" if arm.interval is None else f"{mean} ± {100 * arm.interval:.2f} %"


def points(arm: Arm) -> str:
    """The difference to the first arm, in points of accuracy."""
    if arm.difference is None:
        return "–"
    mean = f"{100 * arm.difference:+.2f}".replace("-", "−")
    return mean if arm.difference_interval is None else f"{mean} ± {100 * arm.difference_interval:.2f}"


def count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds / 3600:.1f} h"


def energy(picojoules: float | None) -> str:
    """Energy in the unit that leaves one to three digits before the point."""
    if picojoules is None:
        return "–"
    for unit in ("pJ", "nJ", "µJ", "mJ"):
        if abs(picojoules) < 999.95:
            return f"{picojoules:.1f} {unit}"
        picojoules /= 1000
    return f"{picojoules:.1f} J"


def signed(value: float) -> str:
    """Three digits behind the point, with a sign where they are not all zero."""
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def interval(found: RankedScore | Difference) -> str:
    """A 95 % interval."""
    return f"{signed(found.low)} to {signed(found.high)}"


def times(number: int, what: str) -> str:
    """A number of things."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "accuracy": accuracy,
    "points": points,
    "count": count,
    "number": number,
    "duration": duration,
    "energy": energy,
    "signed": signed,
    "interval": interval,
    "times": times,
}
"""By the names that templates use."""
