"""What a run has recorded so far, read beside it: candidates by generation, epochs of trainings. Imports no torch.

Nothing here locks or writes, so a run may be read while it goes on; what is half written is not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from evospike.core.errors import RunError
from evospike.core.text import shown
from evospike.evolution.fitness import judge, term
from evospike.evolution.recorded import RecordedCandidate, read_recorded, told_sizes
from evospike.evolution.records import LOG, Genotype, Score
from evospike.evolution.settings import MAXIMISED, EvolutionSettings
from evospike.evolution.store import Recorded, Store
from evospike.jobs.folder import RECORD, RESULT, RunFolder, read_record, reading
from evospike.training.checkpoint import saved_record


@dataclass(frozen=True)
class Objective:
    """What candidates are compared by."""

    name: str
    maximised: bool


@dataclass(frozen=True)
class Candidate(RecordedCandidate):
    """One scored candidate. values: its objectives in order, None when it is not usable."""

    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Generation:
    """One generation. asked: candidates it has in the end; candidates: those that are scored, in order.

    In a steady state, candidates are numbered as they were told, and those that were not told yet do not count.
    """

    number: int
    asked: int
    candidates: tuple[Candidate, ...]

    @property
    def complete(self) -> bool:
        return len(self.candidates) == self.asked

    @property
    def usable(self) -> list[Candidate]:
        return [candidate for candidate in self.candidates if candidate.values is not None]

    def best(self, objective: Objective, place: int = 0) -> Candidate | None:
        """The best usable candidate in one objective, given with its place among the values; the earliest on a tie."""
        return min(self.usable, key=lambda candidate: _cost(candidate, objective, place), default=None)


@dataclass(frozen=True)
class StudyRecord:
    """An evolution, a search or a ranking as far as it is recorded.

    name: of its file, without the ending. finalists: scores on fresh draws. winner: generation and index of the one
    that was chosen, None before that.
    """

    name: str
    generations: tuple[Generation, ...]
    finalists: tuple[Recorded, ...]
    winner: tuple[int, int] | None

    @property
    def candidates(self) -> list[Candidate]:
        return [candidate for generation in self.generations for candidate in generation.candidates]


@dataclass(frozen=True)
class TrainingRecord:
    """A final training. epochs: records of the finished ones (see `training.history`); result: None before its end.
    processes: how many trained it together, each number that occurred."""

    epochs: tuple[Mapping[str, float], ...]
    result: Mapping[str, Any] | None
    processes: tuple[int, ...] = (1,)


def created(run: RunFolder) -> datetime:
    """When a run was created; of a record that does not say it, or names no year of ours, when that was written."""
    with suppress(KeyError, ValueError):
        said = datetime.fromisoformat(str(run.record["created"]))
        if 2000 < said.year < 3000:
            return said
    return datetime.fromtimestamp((run.path / RECORD).stat().st_mtime).astimezone()


def read_studies(run: RunFolder) -> list[StudyRecord]:
    """Every study of a run, in the order of its seeds; none before the first is begun. Raises: StoreError, RunError."""
    return [read_study(run, path) for path in study_paths(run)]


def study_paths(run: RunFolder) -> list[Path]:
    """The stores of a run that are there."""
    paths = [run.store_path_of(seed) for seed in range(study_count(run))]
    return [path for path in paths if path.is_file()]


def study_count(run: RunFolder) -> int:
    """How many studies a run has in the end: one, or as many as a search has seeds; none where nothing is searched."""
    if run.verb == "search":
        return run.recipe.search.seeds
    return int(run.verb == "rank" or (run.verb == "evolve" and run.recipe.evolution.mode != "random"))


def read_study(run: RunFolder, path: Path) -> StudyRecord:
    """One study of a run. Raises: StoreError, RunError for a record that cannot be trusted."""
    recipe = run.recipe
    sizes = told_sizes(recipe.search) if run.verb == "search" else told_sizes(recipe.evolution)
    with Store.view(path) as store:
        study = read_recorded(store, sizes if in_flight_of(run) else None)
    found = objective_values(run, [[one.score for one in generation.candidates] for generation in study.generations])
    generations = tuple(
        Generation(one.number, one.asked, tuple(map(_with_values, one.candidates, values)))
        for one, values in zip(study.generations, found, strict=True)
    )
    return StudyRecord(path.stem, generations, study.finalists, study.winner)


def _with_values(one: RecordedCandidate, values: tuple[float, ...] | None) -> Candidate:
    return Candidate(one.generation, one.index, one.recorded, values)


def in_flight_of(run: RunFolder) -> int:
    """Of a run in a steady state, how many candidates are in flight at most; 0 for one by generations."""
    return run.recipe.in_flight(run.verb)


def objectives_of(run: RunFolder) -> tuple[Objective, ...]:
    """What the candidates of a run are compared by: their fitness, the search's objectives, or their accuracy."""
    if run.verb == "search":
        return tuple(Objective(name, name in MAXIMISED) for name in run.recipe.search.objectives)
    return (Objective("accuracy", True),) if run.verb == "rank" else (Objective("fitness", False),)


def objective_values(run: RunFolder, generations: Sequence[Sequence[Score]]) -> list[list[tuple[float, ...] | None]]:
    """The objectives of every score; None for one that is not usable. Raises: RunError for a term that is missing."""
    if run.verb == "evolve":
        return _fitnesses(generations, run.recipe.evolution)
    names = [objective.name for objective in objectives_of(run)]
    return [
        [tuple(term(score, name) for name in names) if score.ok else None for score in scores] for scores in generations
    ]


def numbers_of(genotype: Genotype) -> dict[str, float]:
    """What was varied, by name; what the strategy varies as log10 is given as the number itself.

    Raises: RunError for a number that is too large for that.
    """
    with reading("a genotype in the record of the run"):
        return {
            name.removeprefix(LOG): 10.0**value if name.startswith(LOG) else value
            for name, value in genotype.as_mapping().items()
        }


def read_training(run: RunFolder, arm: str, repeat: int) -> TrainingRecord:
    """A final training: its result, else what its newest checkpoint says. Raises: RunError for an altered result."""
    folder = run.final_path(arm, repeat)
    result = read_record(folder / RESULT) if (folder / RESULT).is_file() else None
    record = saved_record(folder) if result is None else result
    history, processes = (record or {}).get("history", []), (record or {}).get("processes", [1])
    if not isinstance(history, list) or not all(map(_is_epoch, history)):
        raise RunError(f"the history in {folder} has an unexpected form; the file was altered, train it again")
    if not isinstance(processes, list) or not all(type(one) is int for one in processes):
        raise RunError(f"'processes' in {folder} is {shown(processes)}; the file was altered, train it again")
    return TrainingRecord(tuple(history), result, tuple(processes))


def _is_epoch(value: object) -> bool:
    """Whether this is a record of an epoch: numbers by name, its seconds among them."""
    return isinstance(value, dict) and "seconds" in value and all(type(one) in (int, float) for one in value.values())


def _fitnesses(
    generations: Sequence[Sequence[Score]], settings: EvolutionSettings
) -> list[list[tuple[float, ...] | None]]:
    """Each under the weights of its own generation."""
    judged = [judge(settings, generations[: number + 1]) for number in range(len(generations))]
    return [[None if value is None else (value,) for value in one.fitnesses] for one in judged]


def _cost(candidate: Candidate, objective: Objective, place: int) -> float:
    assert candidate.values is not None
    return -candidate.values[place] if objective.maximised else candidate.values[place]
