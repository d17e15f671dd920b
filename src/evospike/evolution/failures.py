"""Candidates that fail: how many and in which ways, and when the run is stopped because of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, get_args

from evospike.core.errors import RunError
from evospike.evolution.records import FAILURES, Score, Status


class Scored(Protocol):
    """A generation with its scores."""

    @property
    def number(self) -> int:
        """Its place in the run."""

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score per candidate."""


def count_failures(statuses: Iterable[str]) -> dict[str, int]:
    """How many scores are not usable, by status, in the order in which `Status` names them; of none, nothing."""
    counts = Counter(statuses)
    return {status: counts[status] for status in get_args(Status) if status != "ok" and counts[status]}


def failures_in_words(counts: Mapping[str, int]) -> str:
    """What `count_failures` gave, as in `2 timeout, 1 error`; empty without any."""
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def stop_when_failing(history: Sequence[Scored], remedy: str) -> None:
    """Raise RunError when more than half of the candidates failed twice in a row, or two generations brought nothing
    but refusals; silent ones are no failures.
    """
    last = history[-2:]
    if len(history) == 2 and all(_all_refused(generation.scores) for generation in history):
        raise RunError(f"every candidate of the first two generations was refused; {advice(last, remedy)}")
    if len(last) == 2 and all(_mostly_failed(generation.scores) for generation in last):
        numbers = " and ".join(str(generation.number) for generation in last)
        raise RunError(f"more than half of the candidates failed in generations {numbers}; {advice(last, remedy)}")


def advice(history: Sequence[Scored], remedy: str) -> str:
    """The most frequent reason in the history, and what to do."""
    reason = most_common([score for generation in history for score in generation.scores])
    return f"most often: {reason}; {remedy}"


def most_common(scores: Sequence[Score]) -> str:
    """The most frequent status and reason among unusable scores, the earliest on a tie."""
    counts = Counter(f"{score.status}: {score.reason}" for score in scores if not score.ok)
    return counts.most_common(1)[0][0] if counts else "unknown"


def _all_refused(scores: Sequence[Score]) -> bool:
    return all(score.status == "refused" for score in scores)


def _mostly_failed(scores: Sequence[Score]) -> bool:
    return 2 * sum(score.status in FAILURES for score in scores) > len(scores)
