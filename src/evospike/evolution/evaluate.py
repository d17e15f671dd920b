"""From requests to scores through an executor: the `evaluate` of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from evospike.core.errors import EvospikeError
from evospike.evolution.executors.base import Executor, Outcome, Payload
from evospike.evolution.records import Request, Score

Arrival = tuple[Request, Score, int]
"""A request, its score, and how often its evaluation was started."""

EvaluateEach = Callable[[Sequence[Request]], Iterator[Arrival]]

Evaluate = Callable[[Sequence[Request]], Iterator[Arrival | list[Arrival]]]
"""From requests to scores as they arrive; of those that arrive in a list all are recorded, or none."""


def evaluate_with(executor: Executor, check: Callable[[], None] | None = None) -> EvaluateEach:
    """An `evaluate` whose function gets `Request.to_json()` as payload and gives `Score.to_json()` back.

    Requests may be added while scores are taken.

    check: called several times a second while scores are awaited; may raise to stop the run.
    """

    def evaluate(requests: Sequence[Request]) -> Iterator[Arrival]:
        payloads = [request.to_json() for request in requests]
        for index, outcome in executor.run(payloads, check):
            yield requests[index], score_of(outcome), outcome.attempts
            payloads += [request.to_json() for request in requests[len(payloads) :]]

    return evaluate


def evaluate_together(executor: Executor, size: int, check: Callable[[], None] | None = None) -> Evaluate:
    """The same for a function that scores several requests at once, as results then depend on which these are.

    A generation is cut at every `size`-th index, wherever a run was stopped. The function gets `Request.to_json()` of
    each, in a list under `requests`, and gives as long a list of `Score.to_json()` back. A group that fails as a whole
    is scored once more, one by one: one of its members may have ended the worker.
    """

    def evaluate(requests: Sequence[Request]) -> Iterator[list[Arrival]]:
        cut = groupby(requests, key=lambda request: (request.kind, request.generation, request.index // size))
        groups = [list(group) for _, group in cut]
        failed: list[tuple[list[Request], int]] = []
        for index, outcome in executor.run([_payload(group) for group in groups], check):
            if outcome.error is not None and len(groups[index]) > 1:
                failed.append((groups[index], outcome.attempts))
            else:
                yield _arrivals(groups[index], outcome)
        for group, attempts in failed:
            alone = dict(executor.run([_payload([request]) for request in group], check))
            yield [one for k, request in enumerate(group) for one in _arrivals([request], alone[k], attempts)]

    return evaluate


def _payload(group: Sequence[Request]) -> Payload:
    return {"requests": [request.to_json() for request in group]}


def _arrivals(group: Sequence[Request], outcome: Outcome, attempts: int = 0) -> list[Arrival]:
    """What became of a group. attempts: that were made before."""
    scores = _scores_of(outcome, len(group))
    return [(request, score, attempts + outcome.attempts) for request, score in zip(group, scores, strict=True)]


def _scores_of(outcome: Outcome, count: int) -> list[Score]:
    """The scores in an outcome; what went wrong with all of them is the score of each."""
    if outcome.error is not None:
        return [score_of(outcome)] * count
    if not isinstance(outcome.value, list) or len(outcome.value) != count:
        return [Score("error", f"evaluation gave no list of {count} scores")] * count
    return [score_of(replace(outcome, value=value)) for value in outcome.value]


def score_of(outcome: Outcome) -> Score:
    """The score in an outcome; an error of the function or of its worker is a score with a status."""
    if outcome.timed_out:
        return Score("timeout", outcome.error or "")
    if outcome.error is not None:
        return Score("error", outcome.error)
    try:
        return Score.from_json(outcome.value)
    except (EvospikeError, KeyError, TypeError, ValueError, AttributeError) as error:
        return Score("error", f"evaluation gave no score ({type(error).__name__}: {error})")
