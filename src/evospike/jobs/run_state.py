"""The state of a run, read from its folder alone. Imports no torch.

Nothing is locked or written, so a run can be looked at while it goes on, and one that was killed too. What cannot be
read becomes a line among the problems; the rest is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeVar

from evospike.core.errors import UNEXPECTED_FORM, EvospikeError
from evospike.core.lock import NAME as LOCK
from evospike.core.lock import Holder, holder_of
from evospike.core.text import shown
from evospike.evolution.failures import count_failures
from evospike.evolution.fitness import LOSS_TERMS
from evospike.evolution.records import Score
from evospike.jobs.folder import PLAN, RESULT, WEIGHTS, WORKERS, RunFolder
from evospike.jobs.progress import PROGRESS, read_progress
from evospike.jobs.recipe import Recipe
from evospike.jobs.records import (
    Objective,
    StudyRecord,
    TrainingRecord,
    in_flight_of,
    objectives_of,
    read_study,
    read_training,
    study_count,
    study_paths,
)
from evospike.jobs.results import told_data
from evospike.jobs.worker_file import WorkerLine, read_workers

Phase = Literal[
    "not started", "starting", "evolving", "searching", "ranking", "training", "stopped", "finished", "damaged"
]
"""`damaged`: it has a result that cannot be read, so nothing more will happen to it by itself."""


LATEST = 5
"""How many of the last candidates a state holds."""

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """How far a phase is. rate: units a second; seconds_left: at that rate. Both None while nothing is measured."""

    done: float
    total: int
    unit: str
    rate: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class CandidateState:
    """One score of a study. value: what `StudyState.best` is of; None when it was not measured.

    generation, index: of a candidate in a steady state, as it was told.
    """

    generation: int
    index: int
    finalist: bool
    status: str
    reason: str
    value: float | None
    seconds: float


@dataclass(frozen=True)
class StudyState:
    """An evolution, a search or a ranking.

    generation: the last one begun, from 1, of `generations`; asked, scored, failed, pending: of its candidates, how
    many. done, expected: scores so far and of the whole study. measure: what `best`, the best value so far, is of.
    seconds: mean of a score. finished: it has its winner, or every score. failures: how many of all its scores are not
    usable, by status.
    """

    name: str
    generation: int
    generations: int
    asked: int
    scored: int
    failed: int
    pending: int
    done: int
    expected: int
    measure: str
    best: float | None
    seconds: float | None
    latest: tuple[CandidateState, ...]
    finished: bool
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingState:
    """One final training. share: of its steps; epoch: how many are finished; loss, validation_accuracy: after the last.

    seconds: mean of an epoch, None before the first is finished. processes: how many trained it together, each number
    that occurred up to the last checkpoint.
    """

    arm: str
    repeat: int
    state: Literal["waiting", "training", "stopped", "finished"]
    epoch: int
    epochs: int
    share: float
    loss: float | None
    validation_accuracy: float | None
    test_accuracy: float | None
    seconds: float | None
    processes: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class RunState:
    """Everything a watcher sees.

    doing: what each worker process does, while their driver is alive; nothing where the driver does it all itself.
    result: the headline numbers of a finished run. problems: what could not be read. in_flight: of a steady state, how
    many candidates are in flight at most; 0 for a run by generations. data: `name` of the data set, `split` in words
    (empty where it is not known yet) and whether it is `simulated`.
    """

    path: str
    verb: str
    recipe: str
    phase: Phase
    holder: Holder | None
    workers: int
    doing: tuple[WorkerLine, ...]
    progress: Progress | None
    studies: tuple[StudyState, ...]
    trainings: tuple[TrainingState, ...]
    result: dict[str, Any] | None
    problems: tuple[str, ...]
    data: Mapping[str, Any]
    in_flight: int = 0


def state_of(run: RunFolder) -> RunState:
    """The state of a run as its folder shows it; a damaged file is a problem of the state, not an error."""
    return _Reader(run).state()


class _Reader:
    """Reads one run; what fails is kept as a problem."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._problems: list[str] = []

    def state(self) -> RunState:
        run = self._run
        recipe = run.recipe
        result = self._try(lambda: run.read(RESULT), None)
        damaged = bool(self._problems)
        holder = self._try(lambda: holder_of(run.path), None)
        studies = self._studies(recipe)
        alive = holder is not None and holder.state != "stale"
        trainings = self._trainings(recipe, alive) if run.trains else ()
        phase: Phase = "damaged" if damaged else self._phase(result is not None, alive, studies)
        if phase == "finished" and run.trains:
            self._miss_weights(recipe)
        return RunState(
            path=str(run.path),
            verb=run.verb,
            recipe=recipe.name,
            phase=phase,
            holder=holder,
            workers=recipe.run.workers,
            doing=read_workers(run) if alive and _touched_since(run.path / WORKERS, run.path / LOCK) else (),
            progress=_progress(run, phase, studies, trainings),
            studies=studies,
            trainings=trainings,
            result=None if result is None else self._try(lambda: _headline(result), None),
            data=self._try(lambda: told_data(recipe, result), told_data(recipe, None)),
            problems=tuple(dict.fromkeys(self._problems)),
            in_flight=in_flight_of(run),
        )

    def _try(self, read: Callable[[], T], default: T) -> T:
        try:
            return read()
        except (EvospikeError, OSError) as error:
            self._problems.append(" ".join(str(error).split()))
        except UNEXPECTED_FORM as error:
            self._problems.append(f"a record has an unexpected form ({type(error).__name__}: {error})")
        return default

    def _miss_weights(self, recipe: Recipe) -> None:
        """Say which networks of a finished run are no longer there."""
        for arm, seed in recipe.final.trainings:
            if not (self._run.final_path(arm, seed) / WEIGHTS).is_file():
                again = f"make them again with: evospike resume {self._run.path}"
                self._problems.append(f"the weights of '{arm}' (seed {seed}) are gone; {again}")

    def _phase(self, finished: bool, alive: bool, studies: Sequence[StudyState]) -> Phase:
        begun = (self._run.path / PLAN).is_file()
        if finished or not alive:
            return "finished" if finished else "stopped" if begun else "not started"
        if not begun:
            return "starting"
        if self._run.verb == "search":
            return "searching"
        if self._run.verb == "rank":
            return "ranking"
        return "training" if _all_finished(self._run, studies) else "evolving"

    def _studies(self, recipe: Recipe) -> tuple[StudyState, ...]:
        read = [self._try(partial(self._study, recipe, path), None) for path in study_paths(self._run)]
        return tuple(study for study in read if study is not None)

    def _study(self, recipe: Recipe, path: Path) -> StudyState | None:
        record = read_study(self._run, path)
        measure = _measure(self._run)
        last = record.generations[-1] if record.generations else None
        scored = [] if last is None else last.candidates
        seen = [*(candidate.recorded for candidate in record.candidates), *record.finalists]
        values = [value for one in seen if one.score.ok and (value := one.score.terms.get(measure.name)) is not None]
        expected = _expected(self._run.verb, recipe)
        return StudyState(
            name=record.name,
            generation=len(record.generations),
            generations=_generations(self._run.verb, recipe),
            asked=0 if last is None else last.asked,
            scored=len(scored),
            failed=sum(candidate.values is None for candidate in scored),
            pending=0 if last is None else last.asked - len(scored),
            done=len(seen),
            expected=expected,
            measure=measure.name,
            best=(max if measure.maximised else min)(values, default=None),
            seconds=fmean(one.score.seconds for one in seen) if seen else None,
            latest=_latest(record, measure.name),
            finished=record.winner is not None or len(seen) == expected,
            failures=count_failures(one.score.status for one in seen),
        )

    def _trainings(self, recipe: Recipe, alive: bool) -> tuple[TrainingState, ...]:
        return tuple(self._training(recipe, arm, repeat, alive) for arm, repeat in recipe.final.trainings)

    def _training(self, recipe: Recipe, arm: str, repeat: int, alive: bool) -> TrainingState:
        folder = self._run.final_path(arm, repeat)
        record = self._try(lambda: read_training(self._run, arm, repeat), TrainingRecord((), None))
        epochs, result = record.epochs, record.result
        last = epochs[-1] if epochs else {}
        share = max(read_progress(folder), len(epochs) / recipe.training.epochs)
        return TrainingState(
            arm=arm,
            repeat=repeat,
            state="finished" if result else self._stage(folder, share, alive),
            epoch=len(epochs),
            epochs=recipe.training.epochs,
            share=1.0 if result else min(share, 1.0),
            loss=last.get("loss"),
            validation_accuracy=last.get("validation_accuracy"),
            test_accuracy=_number((result or {}).get("test_accuracy")),
            seconds=fmean(epoch["seconds"] for epoch in epochs) if epochs else None,
            processes=record.processes,
        )

    def _stage(self, folder: Path, share: float, alive: bool) -> Literal["waiting", "training", "stopped"]:
        """What an unfinished training does; under a live driver, one of an earlier sitting waits for its turn."""
        if alive:
            return "training" if _touched_since(folder / PROGRESS, self._run.path / LOCK) else "waiting"
        return "stopped" if share > 0 else "waiting"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _touched_since(path: Path, lock: Path) -> bool:
    """Whether a file was written after the run was taken by the driver that holds it."""
    try:
        return path.stat().st_mtime >= lock.stat().st_mtime
    except OSError:
        return False


def _measure(run: RunFolder) -> Objective:
    """What the best candidate is best in; fitnesses are not compared across generations, losses are."""
    if run.verb == "evolve":
        return Objective(LOSS_TERMS[run.recipe.evolution.loss_from], False)
    return objectives_of(run)[0]


def _generations(verb: str, recipe: Recipe) -> int:
    if verb == "rank":
        return 1
    return recipe.search.generations if verb == "search" else recipe.evolution.generations


def _expected(verb: str, recipe: Recipe) -> int:
    """Scores of a whole study, finalists' draws included."""
    if verb == "rank":
        return recipe.rank.genomes
    if verb == "search":
        return recipe.search.scores
    return recipe.evolution.scores


def _latest(record: StudyRecord, measure: str) -> tuple[CandidateState, ...]:
    """The last scores, finalists after all candidates."""

    def state(generation: int, index: int, score: Score, *, finalist: bool) -> CandidateState:
        value = score.terms.get(measure)
        return CandidateState(generation, index, finalist, score.status, score.reason, value, score.seconds)

    candidates = [state(one.generation, one.index, one.score, finalist=False) for one in record.candidates]
    draws = [state(one.request.generation, one.request.index, one.score, finalist=True) for one in record.finalists]
    return tuple([*candidates, *draws][-LATEST:])


def _progress(
    run: RunFolder, phase: Phase, studies: Sequence[StudyState], trainings: Sequence[TrainingState]
) -> Progress | None:
    """Of the phase at hand; of a run that was stopped, of the phase it was in."""
    if phase in ("not started", "starting", "finished", "damaged"):
        return None
    if trainings and _all_finished(run, studies):
        return _training_progress(run.recipe, trainings)
    return _study_progress(run, studies)


def _all_finished(run: RunFolder, studies: Sequence[StudyState]) -> bool:
    """Whether nothing is left to search; also where there never was."""
    return len(studies) == study_count(run) and all(study.finished for study in studies)


def _study_progress(run: RunFolder, studies: Sequence[StudyState]) -> Progress:
    total = study_count(run) * _expected(run.verb, run.recipe)
    done = sum(study.expected if study.finished else study.done for study in studies)
    seconds = _weighted_mean([(study.seconds, study.done) for study in studies])
    workers = run.recipe.run.workers
    side_by_side = min(workers, in_flight_of(run) or workers)
    return _measured(done, total, "scores", seconds, side_by_side)


def _training_progress(recipe: Recipe, trainings: Sequence[TrainingState]) -> Progress:
    epochs = recipe.training.epochs
    done, total = sum(training.share for training in trainings) * epochs, len(trainings) * epochs
    seconds = _weighted_mean([(training.seconds, training.epoch) for training in trainings])
    side_by_side = min(recipe.run.workers, max(sum(training.share < 1 for training in trainings), 1))
    return _measured(round(done, 1), total, "epochs", seconds, side_by_side)


def _weighted_mean(means: Sequence[tuple[float | None, int]]) -> float | None:
    """The mean of everything that parts with their own means and counts hold; None where nothing is measured."""
    measured = [(mean, count) for mean, count in means if mean is not None]
    return sum(mean * count for mean, count in measured) / sum(count for _, count in measured) if measured else None


def _measured(done: float, total: int, unit: str, seconds: float | None, workers: int) -> Progress:
    """seconds: of one unit on one worker."""
    rate = workers / seconds if seconds else None
    return Progress(done, total, unit, rate, max(total - done, 0) / rate if rate else None)


def _headline(result: dict[str, Any]) -> dict[str, Any]:
    names = ("test_accuracy", "score", "architectures", "parameters", "firing_rate", "digest")
    found = {name: result[name] for name in names if result.get(name) is not None}
    for name, value in found.items():
        if type(value) not in ((str,) if name == "digest" else (int, float)):
            raise TypeError(f"'{name}' is {shown(value)}")
    return found
