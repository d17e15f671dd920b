"""What a store holds of a study, generation by generation: the one place that knows how candidates are counted.

By generations, a generation is what was asked for together, and the store says what that is. In a steady state it is
what was told together: the first candidates that were told are generation 0, and so on, whenever they were asked for. A
score that is recorded and not told yet does not count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from evospike.core.errors import RunError, StoreError
from evospike.evolution.ledger import WINNER
from evospike.evolution.records import Genotype, Score
from evospike.evolution.settings import EvolutionSettings, PopulationSettings
from evospike.evolution.store import Recorded, Store


@dataclass(frozen=True)
class RecordedCandidate:
    """The score of one candidate. generation, index: its place; in a steady state, its request names another one."""

    generation: int
    index: int
    recorded: Recorded

    @property
    def genotype(self) -> Genotype:
        return self.recorded.request.genotype

    @property
    def score(self) -> Score:
        return self.recorded.score


@dataclass(frozen=True)
class RecordedGeneration:
    """One generation as far as it is recorded.

    asked: candidates it has in the end. names: what is varied. candidates: those that count so far, by index.
    """

    number: int
    asked: int
    names: tuple[str, ...]
    candidates: tuple[RecordedCandidate, ...]


@dataclass(frozen=True)
class RecordedStudy:
    """A study as far as it is recorded.

    path: of its store. generations: those that are begun. finalists: scores on other draws; their requests name the
    generation that they are from as it is counted here. values: recorded facts by name.
    """

    path: Path
    generations: tuple[RecordedGeneration, ...]
    finalists: tuple[Recorded, ...]
    values: Mapping[str, Any]

    @property
    def candidates(self) -> list[RecordedCandidate]:
        return [candidate for generation in self.generations for candidate in generation.candidates]

    @property
    def winner(self) -> tuple[int, int] | None:
        """Generation and index of the winner, None before there is one. Raises: RunError where that was altered."""
        value = self.values.get(WINNER)
        if value is None:
            return None
        try:
            return int(value["generation"]), int(value["candidate"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise RunError(f"the winner in {self.path} has an unexpected form; restore it or start a new run") from None


def told_sizes(settings: EvolutionSettings | PopulationSettings) -> tuple[int, ...] | None:
    """The `sizes` that `read_recorded` needs; None for a study by generations."""
    return settings.sizes if settings.in_flight else None


def read_recorded(store: Store, sizes: Sequence[int] | None) -> RecordedStudy:
    """Read a store, also beside the run that writes it.

    sizes: of the generations of a steady state; None: the study goes generation by generation.
    Everything is read before what it follows from, so that nothing lacks that: the winner, what was told, the scores,
    what was asked for.
    Raises: StoreError, RunError for a record that cannot be trusted.
    """
    values = store.values()
    told = [] if sizes is None else store.told()
    recorded = store.scores()
    candidates = [one for one in recorded if one.request.kind == "candidate"]
    if sizes is None:
        generations = _as_asked(store.generations(), candidates)
    else:
        over = WINNER in values
        generations = _as_told(_in_order(store.path, told, candidates, sum(sizes), over=over), sizes, over=over)
    finalists = tuple(one for one in recorded if one.request.kind == "finalist")
    return RecordedStudy(store.path, generations, finalists, values)


def _as_asked(asked: Sequence[tuple[Genotype, ...]], candidates: Sequence[Recorded]) -> tuple[RecordedGeneration, ...]:
    groups: list[list[RecordedCandidate]] = [[] for _ in asked]
    for one in candidates:
        number, index = one.request.generation, one.request.index
        if number < len(groups):
            groups[number].append(RecordedCandidate(number, index, one))
    return tuple(
        RecordedGeneration(number, len(genotypes), genotypes[0].names if genotypes else (), tuple(group))
        for number, (genotypes, group) in enumerate(zip(asked, groups, strict=True))
    )


def _as_told(told: Sequence[Recorded], sizes: Sequence[int], *, over: bool) -> tuple[RecordedGeneration, ...]:
    """over: nothing more will be told, so that the last generation has what it has."""
    result: list[RecordedGeneration] = []
    left = iter(told)
    for number, size in enumerate(sizes):
        group = list(islice(left, size))
        if not group:
            break
        candidates = tuple(RecordedCandidate(number, index, one) for index, one in enumerate(group))
        asked = len(group) if over else size
        result.append(RecordedGeneration(number, asked, group[0].request.genotype.names, candidates))
    return tuple(result)


def _in_order(
    path: Path, told: Sequence[str], candidates: Sequence[Recorded], most: int, *, over: bool
) -> list[Recorded]:
    """What was told, in that order; the order of a replay, which is there from the start, as far as it has scores.

    over: nothing more will be told.
    """
    scores = {one.request.key: one for one in candidates}
    scored = list(takewhile(scores.__contains__, told))
    if over and len(scored) < len(told):
        raise StoreError(
            f"{path} tells '{told[len(scored)]}', of which it has no score; the file was altered, start a new run"
        )
    if len(told) > most:
        raise StoreError(f"{path} tells {len(told)} candidates of {most}; the file was altered, start a new run")
    return [scores[key] for key in scored]
