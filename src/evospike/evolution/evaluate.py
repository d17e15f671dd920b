"""From requests to scores through an executor: the `evaluate` of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from evospike.core.errors import EvospikeError
from evospike.evolution.executors.base import Executor, Outcome
from evospike.evolution.records import Request, Score

Evaluate = Callable[[Sequence[Request]], Iterator[tuple[Request, Score, int]]]


def evaluate_with(executor: Executor, check: Callable[[], None] | None = None) -> Evaluate:
    """An `evaluate` whose function gets `Request.to_json()` as payload and gives `Score.to_json()` back.

    check: called several times a second while scores are awaited; may raise to stop the run.
    """

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        for index, outcome in executor.run([request.to_json() for request in requests], check):
            yield requests[index], score_of(outcome), outcome.attempts

    return evaluate


def score_of(outcome: Outcome) -> Score:
    """The score in an outcome; an error of the function or of its worker is a score with a status."""
    if outcome.error is not None:
        return Score("error", outcome.error)
    try:
        return Score.from_json(outcome.value)
    except (EvospikeError, KeyError, TypeError, ValueError, AttributeError) as error:
        return Score("error", f"evaluation gave no score ({type(error).__name__}: {error})")
