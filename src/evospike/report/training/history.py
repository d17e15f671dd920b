"""The evolution of a run, read from its store: candidates with their rank, generations, finalists, winner.

Fitness and ranks are computed anew from the raw terms; the store holds neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from evospike.evolution.failures import count_failures, failures_in_words
from evospike.evolution.fitness import LOSS_TERMS, TermWeights, judge
from evospike.evolution.recorded import RecordedCandidate, RecordedGeneration, RecordedStudy, read_recorded, told_sizes
from evospike.evolution.records import LOG, Score, finalist_place
from evospike.evolution.settings import EvolutionSettings
from evospike.evolution.store import Recorded, Store
from evospike.jobs.folder import RunFolder
from evospike.jobs.records import numbers_of


@dataclass(frozen=True)
class Candidate:
    """One candidate. place: rank by fitness within its own generation, from 1; None when it cannot be ranked.

    generation, index: in a steady state, as it was told.
    values: what was varied, by label; numbers that the strategy varies as log10 are shown as the number itself.
    share: that rank from 0 (best of its generation) to 1 (worst usable one), for colours.
    """

    generation: int
    index: int
    values: Mapping[str, float]
    status: str
    reason: str
    terms: Mapping[str, float | None]
    fitness: float | None
    place: int | None
    share: float | None

    @property
    def ok(self) -> bool:
        return self.place is not None


@dataclass(frozen=True)
class Generation:
    """One generation as far as it is recorded; the weights hold for it alone."""

    number: int
    asked: int
    candidates: tuple[Candidate, ...]
    weights: TermWeights
    loss_term: str

    @property
    def complete(self) -> bool:
        return len(self.candidates) == self.asked

    @property
    def failed(self) -> int:
        """How many gave no usable score."""
        return sum(not candidate.ok for candidate in self.candidates)

    @property
    def failures(self) -> str:
        """The same by status, in words."""
        return _failures(self.candidates)

    @property
    def losses(self) -> list[float]:
        return self.measured(self.loss_term)

    @property
    def best_loss(self) -> float | None:
        return min(self.losses, default=None)

    def measured(self, term: str) -> list[float]:
        """A raw term of the usable candidates."""
        values = [candidate.terms.get(term) for candidate in self.candidates if candidate.ok]
        return [value for value in values if value is not None]

    def median_of(self, term: str) -> float | None:
        values = self.measured(term)
        return median(values) if values else None


@dataclass(frozen=True)
class Finalist:
    """A candidate of the last usable generation on fresh draws.

    validation_loss: mean over usable draws, None without any.
    """

    generation: int
    candidate: int
    values: Mapping[str, float]
    losses: tuple[float | None, ...]
    validation_loss: float | None
    winner: bool

    @property
    def failed(self) -> int:
        return sum(loss is None for loss in self.losses)


@dataclass(frozen=True)
class History:
    """The whole evolution. labels: the dimensions in order; logarithmic: their axes are."""

    settings: EvolutionSettings
    labels: tuple[str, ...]
    logarithmic: bool
    generations: tuple[Generation, ...]
    finalists: tuple[Finalist, ...]
    winner: Candidate | None

    @property
    def candidates(self) -> list[Candidate]:
        return [candidate for generation in self.generations for candidate in generation.candidates]

    @property
    def failures(self) -> str:
        """How many candidates gave no usable score, by status, in words; empty when all did."""
        return _failures(self.candidates)


def read_history(run: RunFolder, settings: EvolutionSettings) -> History | None:
    """The evolution of a run, None when it has none yet. Raises: StoreError, RunError for a record that was altered."""
    if not run.store_path.is_file():
        return None
    with Store.view(run.store_path) as store:
        study = read_recorded(store, told_sizes(settings))
    generations = _generations(study.generations, settings)
    place = study.winner
    names = study.generations[0].names if study.generations else ()
    everyone = [candidate for generation in generations for candidate in generation.candidates]
    return History(
        settings=settings,
        labels=tuple(_label(name) for name in names),
        logarithmic=bool(names) and all(name.startswith(LOG) for name in names),
        generations=generations,
        finalists=_finalists(study, settings),
        winner=next((c for c in everyone if (c.generation, c.index) == place), None),
    )


def _generations(recorded: Sequence[RecordedGeneration], settings: EvolutionSettings) -> tuple[Generation, ...]:
    result: list[Generation] = []
    seen: list[list[Score]] = []
    for one in recorded:
        seen.append([item.score for item in one.candidates])
        judged = judge(settings, seen)
        usable = sum(value is not None for value in judged.fitnesses)
        candidates = tuple(
            _candidate(item, value, place, usable)
            for item, value, place in zip(one.candidates, judged.fitnesses, judged.ranks, strict=True)
        )
        result.append(Generation(one.number, one.asked, candidates, judged.weights, LOSS_TERMS[settings.loss_from]))
    return tuple(result)


def _failures(candidates: Sequence[Candidate]) -> str:
    return failures_in_words(count_failures(candidate.status for candidate in candidates))


def _candidate(item: RecordedCandidate, value: float | None, place: int, usable: int) -> Candidate:
    score = item.score
    return Candidate(
        generation=item.generation,
        index=item.index,
        values=numbers_of(item.genotype),
        status=score.status,
        reason=score.reason,
        terms=score.terms,
        fitness=value,
        place=None if value is None else place + 1,
        share=None if value is None else place / max(usable - 1, 1),
    )


def _finalists(study: RecordedStudy, settings: EvolutionSettings) -> tuple[Finalist, ...]:
    """In the order of their candidates' loss."""
    groups: dict[int, list[Recorded]] = {}
    for item in study.finalists:
        groups.setdefault(finalist_place(item.request.index, settings.finalist_seeds), []).append(item)
    result = []
    for group in groups.values():
        request = group[0].request
        peers = [one for one in study.candidates if one.generation == request.generation]
        index = next((one.index for one in peers if one.genotype == request.genotype), -1)
        losses = tuple(item.score.terms.get("validation_loss") if item.score.ok else None for item in group)
        usable = [loss for loss in losses if loss is not None]
        mean = fmean(usable) if usable else None
        chosen = (request.generation, index) == study.winner
        result.append(Finalist(request.generation, index, numbers_of(request.genotype), losses, mean, chosen))
    return tuple(result)


def _label(name: str) -> str:
    return name.removeprefix(LOG)
