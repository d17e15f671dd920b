"""How a figure grows with a variable: a straight line and a power law through the medians. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression

FEWEST = 3
"""Points below which a fit would say nothing: a line meets any two of them."""


@dataclass(frozen=True)
class Fit:
    """Least squares through points (x, y).

    `y = intercept + slope * x`; and `y` proportional to `x ** exponent`, a line through the logarithms, whose share of
    explained variance is `r_squared`. Both None where a value is not positive; r_squared also where y never changes.
    """

    intercept: float
    slope: float
    exponent: float | None
    r_squared: float | None


def fit(points: Sequence[tuple[float, float]]) -> Fit | None:
    """The fit through points with different x; None for fewer than three."""
    if len(points) < FEWEST:
        return None
    xs, ys = zip(*points, strict=True)
    slope, intercept = linear_regression(xs, ys)
    if min(*xs, *ys) <= 0:
        return Fit(intercept, slope, None, None)
    across, up = [math.log(x) for x in xs], [math.log(y) for y in ys]
    line = linear_regression(across, up)
    return Fit(intercept, slope, line.slope, _explained(across, up, line.slope, line.intercept))


def _explained(xs: Sequence[float], ys: Sequence[float], slope: float, intercept: float) -> float | None:
    """Share of the variance of y that the line explains."""
    mean = fmean(ys)
    total = sum((y - mean) ** 2 for y in ys)
    left = sum((y - intercept - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return None if total == 0 else 1 - left / total
