"""Quantities that runs are compared in: their means over seeds, and how far each run is from the first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from evospike.core.statistics import deviation, half_interval, significant, welch_interval
from evospike.core.units import energy_unit


@dataclass(frozen=True)
class Value:
    """What a run gave. interval: half of the 95 % interval of the mean, None with one seed. seeds: by seed."""

    mean: float
    interval: float | None
    seeds: Mapping[int, float]

    @classmethod
    def over(cls, seeds: Mapping[int, float]) -> Value:
        """The mean over seeds, of which there is at least one, and its interval."""
        values = list(seeds.values())
        return cls(fmean(values), half_interval(values), seeds)

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds, None with one."""
        return deviation(list(self.seeds.values()))


@dataclass(frozen=True)
class Change:
    """A run's mean minus the first run's.

    share: of the first run's mean, None where that is 0. interval: half of the 95 % interval, None where a run has one
    seed. seeds: how many, of two independent runs of the one that has fewer. freedom: degrees of freedom of Welch's
    interval, None where seeds are paired.
    """

    mean: float
    share: float | None
    interval: float | None
    seeds: int
    freedom: float | None

    @property
    def significant(self) -> bool | None:
        """Whether the interval speaks against zero; None where there is no interval."""
        return significant(self.mean, self.interval, self.seeds)

    @property
    def share_text(self) -> str:
        """The share in per cent with its sign, empty without one."""
        if self.share is None:
            return ""
        return f"{round(100 * self.share, 1) + 0.0:+.1f} %".replace("-", "−")

    @property
    def verdict(self) -> str:
        if self.significant is None:
            return "one seed: no interval"
        return "significant" if self.significant else "not significant"


@dataclass(frozen=True)
class Quantity:
    """One quantity of all runs. aim: which way is better, empty where neither is.

    Written as factor times the number, with that many digits behind the point, in `unit`. values: None for a run that
    was not measured.
    """

    key: str
    title: str
    unit: str
    factor: float
    digits: int
    aim: Literal["more", "less", ""]
    values: tuple[Value | None, ...]

    @property
    def name(self) -> str:
        """The title as it stands inside a sentence."""
        return self.title[0].lower() + self.title[1:]

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def known(self) -> int:
        """How many runs have it."""
        return sum(value is not None for value in self.values)

    @property
    def varies(self) -> bool:
        """Whether runs have different means."""
        return len({value.mean for value in self.values if value is not None}) > 1

    def change(self, place: int, paired: bool) -> Change | None:
        """How far the run at a place is from the first; None where either was not measured seed by seed.

        paired: whether equal seeds of the two runs belong together; else their seeds are independent.
        """
        first, value = self.values[0], self.values[place]
        if first is None or value is None or not first.seeds or not value.seeds:
            return None
        share = (value.mean - first.mean) / first.mean if first.mean else None
        if paired and first.seeds.keys() == value.seeds.keys():
            differences = [value.seeds[seed] - own for seed, own in first.seeds.items()]
            return Change(fmean(differences), share, half_interval(differences), len(differences), None)
        interval, freedom = welch_interval(list(first.seeds.values()), list(value.seeds.values())) or (None, None)
        fewer = min(len(first.seeds), len(value.seeds))
        return Change(value.mean - first.mean, share, interval, fewer, freedom)

    def better(self, change: Change | None) -> bool | None:
        """Whether a run is better than the first; None where no way is, or the difference is not significant."""
        if change is None or not change.significant or not self.aim:
            return None
        return (change.mean > 0) == (self.aim == "more")

    def text(self, value: Value | None) -> str:
        """A mean and its interval."""
        return "–" if value is None else self._with(self.number(value.mean), value.interval)

    def change_text(self, change: Change | None) -> str:
        """A difference, with its sign, and its interval."""
        if change is None:
            return "–"
        rounded = round(self.factor * change.mean, self.digits) + 0.0  # no minus before a zero
        return self._with(f"{rounded:+,.{self.digits}f}".replace("-", "−"), change.interval)

    def number(self, value: float) -> str:
        return f"{self.factor * value:,.{self.digits}f}".replace("-", "−")

    def best(self) -> int | None:
        """Place of the best mean, the first of equal ones; None where no way is better or nothing is known."""
        sign = {"more": -1.0, "less": 1.0}.get(self.aim)
        means = [(sign * value.mean, place) for place, value in enumerate(self.values) if value and sign is not None]
        return min(means)[1] if means else None

    def _with(self, mean: str, interval: float | None) -> str:
        return mean if interval is None else f"{mean} ± {self.number(interval)}"


def percentage(key: str, title: str, values: tuple[Value | None, ...]) -> Quantity:
    """Of shares between 0 and 1, more is better."""
    return Quantity(key, title, "%", 100.0, 2, "more", values)


def cost(key: str, title: str, values: tuple[Value | None, ...]) -> Quantity:
    """Of counts of which less is better, with four digits or all that stand before the point."""
    return Quantity(key, title, "", 1.0, _digits(values, 1.0), "less", values)


def score(key: str, title: str, values: tuple[Value | None, ...]) -> Quantity:
    """Of scores of any size and sign of which more is better, with six digits or all that stand before the point."""
    return Quantity(key, title, "", 1.0, _digits(values, 1.0, 6), "more", values)


def energy(key: str, title: str, values: tuple[Value | None, ...]) -> Quantity:
    """Of energies in picojoules, in the unit of the largest."""
    unit = energy_unit([_largest(values)])
    return Quantity(key, title, unit.name, 1 / unit.size, _digits(values, 1 / unit.size), "less", values)


def _largest(values: tuple[Value | None, ...]) -> float:
    return max((abs(value.mean) for value in values if value is not None), default=0.0)


def _digits(values: tuple[Value | None, ...], factor: float, wanted: int = 4) -> int:
    """How many stand behind the point where the largest value is written with as many as wanted."""
    largest = factor * _largest(values)
    return min(max(wanted - 1 - math.floor(math.log10(largest)), 0), 6) if largest > 0 else 0
