"""What a strategy is: it proposes vectors and is told how they ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evospike.core.errors import SettingsError

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Box:
    """The box that vectors lie in (bounds included) and where to start; all tuples have one entry per
    dimension.
    """

    lower: Vector
    upper: Vector
    start: Vector


class Strategy(Protocol):
    """Proposes one generation after another, or vectors one by one.

    A strategy is never saved: told the same ranks from the start, one made with the same seed asks for the
    same vectors, in any process.
    """

    def ask(self) -> list[Vector]:
        """The vectors of the next generation, inside the box, always as many as the population."""

    def ask_one(self) -> Vector:
        """One vector, from what was told so far."""

    def tell(self, vectors: Sequence[Vector], ranks: Sequence[int]) -> None:
        """Take the outcome of as many vectors as the population: rank 0 is best, equal ranks are equally bad.

        They are those of the last `ask`, or of `ask_one`, whenever they were asked for.
        """


def check_told(population: int, vectors: Sequence[Vector], ranks: Sequence[int]) -> None:
    """Refuse an outcome that is not a whole generation; raise SettingsError."""
    if not len(vectors) == len(ranks) == population:
        raise SettingsError(
            f"told {len(vectors)} vectors and {len(ranks)} ranks; expected {population} of each, a whole generation"
        )
