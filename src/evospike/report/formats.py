"""How numbers and texts are written on a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from evospike.core.units import energy_number, energy_text, energy_unit, size_text
from evospike.report.evaluation.facts import Kind, PairedDifference, model_title
from evospike.report.rank.facts import Difference, RankedScore
from evospike.report.training.gather import Arm


class Trusted:
    """Text of our own that goes into the page as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __html__(self) -> str:
        return self._text


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}".replace("%", " %")


def give_or_take(share: float, half: float | None) -> str:
    """A share with its interval or spread, where there is one."""
    return percent(share, 2) if half is None else f"{100 * share:.2f} ± {100 * half:.2f} %"


def accuracy(arm: Arm) -> str:
    return give_or_take(arm.test_accuracy, arm.interval)


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


def amount(value: float | None) -> str:
    """How many of something, on average: four digits, or all that stand before the point."""
    return number(value) if value is None or abs(value) < 1000 else count(value)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    if seconds < 6000:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}\N{NO-BREAK SPACE}min {rest}\N{NO-BREAK SPACE}s"
    return f"{seconds / 3600:.1f}\N{NO-BREAK SPACE}h"


def energy(picojoules: float | None) -> str:
    """Energy in its own unit."""
    return "–" if picojoules is None else energy_text(picojoules)


def size(number: float | None) -> str:
    """Bytes in their own unit."""
    return "–" if number is None else size_text(number)


def measured(value: float | None, kind: Kind) -> str:
    """A number of an evaluation."""
    return _WRITTEN[kind](value)


def changed(difference: PairedDifference, kind: Kind) -> str:
    """A difference between two evaluated networks with half of its interval; of shares in points."""
    write, unit = _written_change(difference, kind)
    sign = "+" if difference.mean >= 0 else "−"
    mean = f"{sign}{write(abs(difference.mean))}"
    return f"{mean if difference.interval is None else f'{mean} ± {write(difference.interval)}'} {unit}".rstrip()


def _written_change(difference: PairedDifference, kind: Kind) -> tuple[Callable[[float], str], str]:
    """How both numbers of a difference are written, and the unit behind them."""
    if kind == "share":
        return lambda share: f"{100 * share:.2f}", ""
    if kind == "energy":
        unit = energy_unit([difference.mean, difference.interval])
        return lambda picojoules: energy_number(picojoules, unit), unit.name
    return _WRITTEN[kind], ""


def signed(value: float) -> str:
    """Three digits behind the point, with a sign where they are not all zero."""
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def interval(found: RankedScore | Difference) -> str:
    """A 95 % interval."""
    return f"{signed(found.low)} to {signed(found.high)}"


def times(number: int, what: str) -> str:
    """A number of things."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """A text with a capital letter and a full stop."""
    return f"{capitalised(text).rstrip('.')}."


_WRITTEN: Mapping[Kind, Callable[[float | None], str]] = {
    "share": partial(percent, digits=2),
    "number": number,
    "count": amount,
    "bytes": size,
    "energy": energy,
}


FILTERS: Mapping[str, Callable[..., Any]] = {
    "percent": percent,
    "accuracy": accuracy,
    "give_or_take": give_or_take,
    "points": points,
    "count": count,
    "amount": amount,
    "number": number,
    "duration": duration,
    "energy": energy,
    "size": size,
    "measured": measured,
    "changed": changed,
    "model_title": model_title,
    "signed": signed,
    "interval": interval,
    "times": times,
    "capitalised": capitalised,
    "sentence": sentence,
}
"""By the names that templates use."""
