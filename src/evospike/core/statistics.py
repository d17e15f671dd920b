"""What a few numbers of equal standing say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import stdev, variance

import numpy as np

from evospike.core.settings import require

_ROUNDING = 1e-9
"""Share of a difference below which its interval is that of equal values, computed with rounding."""


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation; None for fewer than two values."""
    return stdev(values) if len(values) > 1 else None


def half_interval(values: Sequence[float]) -> float | None:
    """Half width of the 95 % confidence interval of the mean (Student's t); None for fewer than two values."""
    if len(values) < 2:
        return None
    return student_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def significant(difference: float, interval: float | None, count: int) -> bool | None:
    """Whether the 95 % interval of a mean difference excludes 0; None where there is no interval.

    interval: half its width. count: of the values it is from; of two independent groups, of the smaller. Two values
    that agree have an interval of nothing, which is no evidence: accuracies come in steps of one sample, and two steps
    are often alike by chance. Such a difference is not significant; three equal ones are.
    """
    if interval is None:
        return None
    if count < 3 and interval <= _ROUNDING * abs(difference):
        return False
    return abs(difference) > interval


@cache
def student_quantile(freedom: float) -> float:
    """The t that holds 95 % of Student's distribution within ±t; degrees of freedom may be any number from 1.

    With t = sqrt(freedom) * tan(a), the share within ±t is an integral of cos(a)**(freedom - 1), here by Gauss and
    Legendre. Raises: SettingsError for fewer degrees of freedom.
    """
    require(freedom >= 1, f"degrees of freedom must be at least 1, given {freedom}")
    nodes, weights = np.polynomial.legendre.leggauss(64)
    scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)

    def within(t: float) -> float:
        angle = math.atan(t / math.sqrt(freedom))
        return scale * angle * float(weights @ np.cos(angle * (nodes + 1) / 2) ** (freedom - 1))

    low, high = 1.9, 12.8
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < 0.95 else (low, middle)
    return high


def welch_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """Half width of the 95 % interval of the difference of two independent means, and its degrees of freedom.

    Welch's, with degrees of freedom by Welch and Satterthwaite: the two variances may differ. None where either side
    has fewer than two values. Where nothing varies the width is 0, at the degrees of freedom of one common variance.
    """
    if min(len(first), len(second)) < 2:
        return None
    parts = [(variance(values) / len(values), len(values) - 1) for values in (first, second)]
    total = sum(part for part, _ in parts)
    if total == 0:
        return 0.0, float(sum(freedom for _, freedom in parts))
    freedom = 1 / sum((part / total) ** 2 / own for part, own in parts)
    return student_quantile(freedom) * math.sqrt(total), freedom
