"""Choosing samples class by class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def shares(counts: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """`total` shared out in proportion to `counts` by largest remainder; each class gets one where possible."""
    least: Indices = np.full_like(counts, int(total >= len(counts)))
    room = counts - least
    exact = room * ((total - int(least.sum())) / max(int(room.sum()), 1))
    given: Indices = np.floor(exact).astype(np.int64)
    order = np.argsort(-(exact - given), kind="stable")
    given[order[: total - int(least.sum()) - int(given.sum())]] += 1
    given += least
    return given


def stratified(labels: NDArray[Any], count: int, random: np.random.Generator) -> Indices:
    """Positions of `count` samples, with the classes in proportion, in rising order."""
    classes, counts = np.unique(labels, return_counts=True)
    chosen = [
        random.permutation(np.flatnonzero(labels == name))[:wanted]
        for name, wanted in zip(classes, shares(counts.astype(np.int64), count), strict=True)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def held_out(labels: NDArray[Any], fraction: float, random: np.random.Generator) -> tuple[Indices, Indices]:
    """Positions (kept, held out); no class is held out whole."""
    held = stratified(labels, round(fraction * len(labels)), random)
    lost = np.setdiff1d(labels, np.delete(labels, held))
    if lost.size:
        held = held[~(np.isin(labels[held], lost) & _first_of_class(labels[held]))]
    return np.setdiff1d(np.arange(len(labels)), held), held


def _first_of_class(labels: NDArray[Any]) -> NDArray[np.bool_]:
    first = np.zeros(len(labels), dtype=np.bool_)
    first[np.unique(labels, return_index=True)[1]] = True
    return first
