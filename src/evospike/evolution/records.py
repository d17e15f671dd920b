"""The records that travel between study, store and evaluation: genotype, request, score.

Each has a JSON form that gives back an equal record, floats to the last bit. A number that is not finite is
never stored as a number: it is None, and the status says what happened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from evospike.core.errors import SettingsError, StoreError

Status = Literal["ok", "silent", "refused", "diverged", "timeout", "error"]
Kind = Literal["candidate", "finalist"]

FAILURES: frozenset[Status] = frozenset({"diverged", "timeout", "error"})
"""Statuses that point at a broken set-up; a silent network is a legitimate bad candidate."""

LONGEST_SECONDS = 1e9
"""No evaluation takes longer: 30 years."""


LOG = "log10 "
"""What the name of a logarithm begins with, so that people are shown the number itself."""


@dataclass(frozen=True)
class Genotype:
    """What a strategy varies: one finite number per name (for STE, `LOG` of a standard deviation)."""

    names: tuple[str, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        if len(self.names) != len(self.values) or len(set(self.names)) != len(self.names):
            raise SettingsError(
                f"genotype has names {list(self.names)} and {len(self.values)} values; give one value per distinct name"
            )
        if not all(math.isfinite(value) for value in self.values):
            raise SettingsError(f"genotype holds {list(self.values)}; every value must be a finite number")

    def as_mapping(self) -> dict[str, float]:
        """Values by name."""
        return dict(zip(self.names, self.values, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"names": list(self.names), "values": list(self.values)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Genotype:
        """Read what `to_json` gave."""
        return cls(tuple(data["names"]), tuple(data["values"]))


def finalist_index(place: int, draw: int, draws: int) -> int:
    """The index of a finalist's request."""
    return place * draws + draw


def finalist_place(index: int, draws: int) -> int:
    """Which finalist an index belongs to."""
    return index // draws


@dataclass(frozen=True)
class Request:
    """One evaluation to be made.

    index:    place of the candidate in its generation; for a finalist, its place and draw (`finalist_index`).
    draw_key: names the noise of the random draw. All candidates of a generation share it (common random
              numbers), finalists have one per draw, so that every finalist meets the same draws.
    """

    kind: Kind
    generation: int
    index: int
    genotype: Genotype
    draw_key: tuple[str | int, ...]

    @property
    def key(self) -> str:
        """The name of this request in the store; sorts in the order of the run."""
        return f"{self.kind}/{self.generation:04d}/{self.index:04d}"

    def __str__(self) -> str:
        return f"{self.kind} {self.index} of generation {self.generation}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "generation": self.generation,
            "index": self.index,
            "genotype": self.genotype.to_json(),
            "draw_key": list(self.draw_key),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        """Read what `to_json` gave."""
        genotype = Genotype.from_json(data["genotype"])
        return cls(data["kind"], data["generation"], data["index"], genotype, tuple(data["draw_key"]))


@dataclass(frozen=True)
class Score:
    """What an evaluation gives back.

    status:  ok, silent (a layer hardly fires), refused (outside a bound), diverged (a number that is not finite),
             timeout (ended because it took too long) or error.
    reason:  one line; empty when ok.
    terms:   raw measurements by name: `loss`, `validation_loss`, `temporal` and `entropy` (both: more is
             better), `firing_rate`, `accuracy`, ... A term that is not finite becomes None and turns ok into
             diverged.
    seconds: how long the evaluation took, up to `LONGEST_SECONDS`; no part of the run's digest.
    """

    status: Status
    reason: str = ""
    terms: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise StoreError(f"score has status {self.status!r}; expected one of {', '.join(get_args(Status))}")
        terms = {name: _finite_or_none(value) for name, value in self.terms.items()}
        lost = sorted(name for name, value in terms.items() if value is None)
        if self.status == "ok" and lost:
            object.__setattr__(self, "status", "diverged")
            object.__setattr__(self, "reason", f"{', '.join(lost)} not finite")
        object.__setattr__(self, "reason", " ".join(self.reason.split()))
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "seconds", _finite_or_none(self.seconds) or 0.0)
        if not 0 <= self.seconds <= LONGEST_SECONDS:
            raise StoreError(f"score took {self.seconds:g} seconds; expected 0 to {LONGEST_SECONDS:g}")

    @property
    def ok(self) -> bool:
        """Whether the terms can be ranked."""
        return self.status == "ok"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, time included."""
        return {**self.outcome(), "reason": self.reason, "seconds": self.seconds}

    def outcome(self) -> dict[str, Any]:
        """What repeats exactly from run to run: status and terms, without time and wording."""
        return {"status": self.status, "terms": dict(self.terms)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Score:
        """Read what `to_json` gave."""
        return cls(data["status"], data.get("reason", ""), data.get("terms", {}), data.get("seconds", 0.0))


def _finite_or_none(value: float | None) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None
