"""The curves of a run as event files for TensorBoard, in RUN/tensorboard (the extra `tensorboard`).

The files mirror what the run records anyway: its studies and the histories of its trainings. Every sitting writes them
anew from the first point and then appends what the records gain, so that a resumed run has no step twice. The mirror
reads files from a thread of its own; the run does not know of it, and its results cannot depend on it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from evospike.core.errors import EvospikeError, MissingExtra
from evospike.core.progress import tell
from evospike.jobs.folder import RunFolder
from evospike.jobs.records import (
    Generation,
    Objective,
    StudyRecord,
    TrainingRecord,
    created,
    objectives_of,
    read_studies,
    read_training,
)
from evospike.jobs.results import data_in_words, told_data

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"

EVERY_SECONDS = 5.0
"""Seconds between two looks at the records, and at least `PAUSE_TO_LOOK` times what a look takes."""

PAUSE_TO_LOOK = 10

_NAMES = {"loss": "training/loss", "rate": "training/learning_rate"}
_NO_CURVES = ("epoch", "seconds")
_UNREADABLE = (EvospikeError, OSError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Point:
    """One step of a curve's sub-run. seconds: of work since its first step; values: by tag."""

    step: int
    seconds: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """One sub-run of TensorBoard. name: its folder; points: in order, and never fewer later."""

    name: str
    points: tuple[Point, ...]


@contextlib.contextmanager
def mirrored(run: RunFolder, every: float = EVERY_SECONDS) -> Iterator[None]:
    """Keep the event files of a run up to date while the run is conducted inside, and complete them at the end.

    every: seconds between two looks at the records. What goes wrong with the files is a notice, and stops no run.
    Raises: MissingExtra on entry without tensorboard.
    """
    mirror, ended = _Mirror(run), threading.Event()
    thread = threading.Thread(target=_follow, args=(mirror, ended, every), name="tensorboard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        try:
            mirror.update()
            mirror.close()
        except _UNREADABLE as error:
            tell(f"the event files in {run.path / FOLDER} are not complete: {error}")


def curves_of(run: RunFolder) -> list[Curve]:
    """Every curve that a run's records hold, those of its studies first.

    Of a study, a step is a complete generation (in a steady state, of candidates as they were told): best and mean of
    each objective over its usable candidates, every term's mean and its value for the best candidate. Of a training, it
    is an epoch; a finished one ends with what the test split gave and the firing rates of its layers. Raises:
    StoreError, RunError.
    """
    objectives = objectives_of(run)
    studies = [Curve(study.name, _generation_points(study, objectives)) for study in read_studies(run)]
    jobs = run.recipe.final.trainings if run.trains else ()
    trainings = [Curve(f"final/{arm}-{repeat}", _epoch_points(read_training(run, arm, repeat))) for arm, repeat in jobs]
    return [curve for curve in (*studies, *trainings) if curve.points]


class _Mirror:
    """Event files and how much of every curve is in them; use it from one thread at a time."""

    def __init__(self, run: RunFolder) -> None:
        self._run, self._make = run, _summary_writer()
        self._began = created(run).timestamp()
        self._data = data_in_words(told_data(run.recipe, None))
        self._writers: dict[str, SummaryWriter] = {}
        self._written: dict[str, int] = {}

    def update(self) -> None:
        """Write every point that is not written yet."""
        for curve in curves_of(self._run):
            written = self._written.setdefault(curve.name, 0)
            for point in curve.points[written:]:
                self._write(self._writer(curve.name), point)
                self._written[curve.name] += 1
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, name: str) -> SummaryWriter:
        """The writer of a sub-run; files of earlier sittings give way to it."""
        if name not in self._writers:
            folder = self._run.path / FOLDER / name
            _remove_events(folder)
            self._writers[name] = self._make(str(folder))
            self._writers[name].add_text("data", self._data, 0, self._began)
        return self._writers[name]

    def _write(self, writer: SummaryWriter, point: Point) -> None:
        for tag, value in point.values.items():
            writer.add_scalar(tag, value, point.step, self._began + point.seconds)


def _follow(mirror: _Mirror, ended: threading.Event, every: float) -> None:
    """Update the mirror now and then; records that cannot be read at one moment are read at the next."""
    pause = every
    while not ended.wait(pause):
        started = time.monotonic()
        with contextlib.suppress(*_UNREADABLE):
            mirror.update()
        pause = max(every, PAUSE_TO_LOOK * (time.monotonic() - started))


def _summary_writer() -> type[SummaryWriter]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra("tensorboard", "tensorboard", "--tensorboard") from None
    return SummaryWriter


def _remove_events(folder: Path) -> None:
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()


def _generation_points(study: StudyRecord, objectives: Sequence[Objective]) -> tuple[Point, ...]:
    points, seconds = [], 0.0
    for generation in study.generations:
        seconds += sum(candidate.score.seconds for candidate in generation.candidates)
        if generation.complete:
            points.append(Point(generation.number, seconds, _generation_values(generation, objectives)))
    return tuple(points)


def _generation_values(generation: Generation, objectives: Sequence[Objective]) -> dict[str, float]:
    usable = generation.usable
    values = {
        "candidates/usable": float(len(usable)),
        "candidates/failed": float(len(generation.candidates) - len(usable)),
    }
    for place, objective in enumerate(objectives):
        best = generation.best(objective, place)
        if best is not None and best.values is not None:
            values[f"objectives/{objective.name}/best"] = best.values[place]
            values[f"objectives/{objective.name}/mean"] = fmean(one.values[place] for one in usable if one.values)
    best = generation.best(objectives[0])
    for name in sorted({name for candidate in usable for name in candidate.score.terms}):
        measured = [value for one in usable if (value := one.score.terms.get(name)) is not None]
        values[f"terms/{name}/mean"] = fmean(measured)
        if best is not None and (own := best.score.terms.get(name)) is not None:
            values[f"terms/{name}/of_best"] = own
    return values


def _epoch_points(training: TrainingRecord) -> tuple[Point, ...]:
    points, seconds = [], 0.0
    for epoch in training.epochs:
        seconds += epoch["seconds"]
        values = {_tag(name): value for name, value in epoch.items() if name not in _NO_CURVES}
        points.append(Point(int(epoch["epoch"]), seconds, values))
    if points and training.result is not None:
        points.append(Point(points[-1].step, seconds, _measured(training.result)))
    return tuple(points)


def _tag(name: str) -> str:
    """The tag of a number in a history: its own, validation's, or one that the structure gave."""
    if name in _NAMES:
        return _NAMES[name]
    kind, _, rest = name.partition("_")
    return f"validation/{rest}" if kind == "validation" else f"structure/{name}"


def _measured(result: Mapping[str, Any]) -> dict[str, float]:
    """What a finished training was judged by, for its last step."""
    return {
        "test/accuracy": result["test_accuracy"],
        "test/loss": result["test_loss"],
        "firing_rates/all": result["firing_rate"],
        **{f"firing_rates/{layer}": rate for layer, rate in result["layer_rates"].items()},
    }
