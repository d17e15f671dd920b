"""How well scores put items in the order of a truth: Kendall's tau, with intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def _signs(x: Values) -> Values:
    """(n, n): which of every two is larger."""
    return np.sign(x[:, None] - x[None, :])


def _taus(a: Values, b: Values, samples: NDArray[np.int64]) -> Values:
    """tau-b of two sign matrices on every row of indices (R, n), which may repeat."""
    taus = []
    for rows in samples:
        x, y = a[np.ix_(rows, rows)], b[np.ix_(rows, rows)]
        norm = np.sqrt((x * x).sum() * (y * y).sum())
        taus.append((x * y).sum() / norm if norm else 0.0)
    return np.array(taus)


def compare_scores(
    truth: Sequence[float],
    scores: Mapping[str, Sequence[float]],
    controls: Collection[str],
    *,
    resamples: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """tau of every score against the truth, best first, as plain records.

    truth, scores: one number per item. controls: names of scores that the others have to beat.
    `interval`: 95 % percentile interval of a bootstrap over items; `against`: of a score that is no control, its
    difference to each control, with the interval of the difference on the same resamples.
    """
    n = len(truth)
    samples = rng.integers(0, n, (resamples, n))
    true_signs = _signs(np.asarray(truth, float))
    signs = {name: _signs(np.asarray(values, float)) for name, values in scores.items()}
    everything = np.arange(n)[None]
    whole = {name: float(_taus(own, true_signs, everything)[0]) for name, own in signs.items()}
    drawn = {name: _taus(own, true_signs, samples) for name, own in signs.items()}
    rows = []
    for name in sorted(whole, key=lambda name: -whole[name]):
        row: dict[str, Any] = {"score": name, "tau": whole[name], "interval": _interval(drawn[name])}
        if name not in controls:
            row["against"] = {
                control: {
                    "difference": whole[name] - whole[control],
                    "interval": _interval(drawn[name] - drawn[control]),
                }
                for control in controls
                if control in whole
            }
        rows.append(row)
    return rows


def _interval(values: Values) -> list[float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return [float(low), float(high)]
