"""What a training records about itself. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class History:
    """One record per finished epoch: epoch, loss, rate, what structure and validation gave, and seconds."""

    epochs: list[dict[str, float]] = field(default_factory=list)


def without_times(epochs: Iterable[Mapping[str, float]]) -> list[dict[str, float]]:
    """The records of a history as equal runs share them."""
    return [{key: value for key, value in record.items() if key != "seconds"} for record in epochs]
