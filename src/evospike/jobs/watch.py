"""What a run is doing, as a block of text that follows it: `evospike watch RUN`. Imports no torch."""

from __future__ import annotations

import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from evospike.core.errors import Interrupted
from evospike.core.settings import require
from evospike.jobs.folder import open_run
from evospike.jobs.run_state import CandidateState, Progress, RunState, StudyState, TrainingState, state_of
from evospike.jobs.worker_file import WorkerLine

MOST_OF_THE_TIME = 5
"""A look at the run is followed by a pause of at least this many times its length."""

NARROWEST, WIDEST = 20, 200


def watch(path: str | Path, *, once: bool = False, interval: float = 2.0, out: TextIO | None = None) -> None:
    """Show a run until it is finished: redrawn in place on a terminal, elsewhere a block for every change.

    once: show it once and return. interval: seconds between two looks.
    Raises: RunError when it is no run folder; SettingsError for an interval of 0 or less; Interrupted on Ctrl-C.
    """
    require(interval > 0, f"'interval' must be positive, given {interval:g}; give seconds between two looks")
    run = open_run(path)
    screen = _Screen(out or sys.stdout)
    try:
        while True:
            started = time.monotonic()
            state = state_of(run)
            screen.show(state)
            if once or state.phase == "finished":
                return
            time.sleep(max(interval, MOST_OF_THE_TIME * (time.monotonic() - started)))
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT) from None


def render(state: RunState, width: int = 100) -> str:
    """The state as lines of at most `width` characters (20 or more), the most important ones first."""
    lines = [f"evospike {state.verb} {state.recipe}: {state.path}", _phase_line(state)]
    if state.progress is not None:
        lines.append(_progress_line(state.progress))
    if state.result is not None:
        lines += [f"{name.replace('_', ' ')}: {_number(name, value)}" for name, value in state.result.items()]
    lines += [f"problem: {problem}" for problem in state.problems]
    lines += [_worker_line(worker) for worker in state.doing]
    for study in state.studies:
        lines += ["", *_study_lines(study, named=len(state.studies) > 1)]
    if state.trainings:
        lines += ["", *_training_lines(state.trainings)]
    return "\n".join(part for line in lines for part in _wrapped(_clean(line), max(width, NARROWEST)))


class _Screen:
    """Where the state is shown; on a terminal each block replaces the one before."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._terminal = out, out.isatty()
        self._shown: list[str] = []

    def show(self, state: RunState) -> None:
        lines = self._fitted(state)
        if lines == self._shown:
            return
        back = f"\x1b[{len(self._shown)}F\x1b[J" if self._terminal and self._shown else ""
        gap = "" if self._terminal else "\n"
        self._out.write(back + "".join(f"{line}\n" for line in lines) + gap)
        self._out.flush()
        self._shown = lines

    def _fitted(self, state: RunState) -> list[str]:
        """On a terminal only what it has room for, since it cannot be taken back once it has scrolled away."""
        if not self._terminal:
            return render(state, WIDEST).split("\n")
        size = shutil.get_terminal_size()
        return render(state, size.columns - 1).split("\n")[: size.lines - 1]


def _phase_line(state: RunState) -> str:
    holder = state.holder
    if state.phase == "finished":
        return f"finished; more: evospike report {state.path}"
    if holder is None or holder.state == "stale":
        gone = f" (process {holder.pid} is gone)" if holder is not None else ""
        return f"{state.phase}{gone}; go on with: evospike resume {state.path}"
    asked = ", which this host cannot ask" if holder.state == "elsewhere" else ""
    workers = f"{state.workers} worker{'s' if state.workers > 1 else ''}"
    return f"{state.phase}: process {holder.pid} on {holder.host}{asked}, since {holder.since}, {workers}"


def _progress_line(progress: Progress) -> str:
    share = progress.done / max(progress.total, 1)
    filled = round(24 * min(share, 1.0))
    line = f"[{'#' * filled}{'-' * (24 - filled)}] {progress.done:g} of {progress.total} {progress.unit}"
    if progress.rate is None or progress.seconds_left is None:
        return line
    return f"{line}, {_rate(progress.rate, progress.unit)}, about {_duration(progress.seconds_left)} left"


def _worker_line(worker: WorkerLine) -> str:
    since = time.strftime("%H:%M:%S", time.localtime(worker.since))
    return f"  worker {worker.pid}: {worker.doing}, since {since}"


def _study_lines(study: StudyState, *, named: bool) -> list[str]:
    lines = [study.name] if named else []
    if not study.generation:
        return [*lines, f"before the first of {study.generations} generations"]
    lines.append(
        f"generation {study.generation} of {study.generations}: {study.scored} of {study.asked} scored, "
        f"{study.failed} failed, {study.pending} pending"
    )
    if study.best is not None:
        lines.append(f"best {study.measure} so far: {study.best:.5g}")
    return lines + [_candidate_line(candidate) for candidate in study.latest]


def _candidate_line(candidate: CandidateState) -> str:
    kind = "finalist" if candidate.finalist else "candidate"
    name = f"generation {candidate.generation + 1}, {kind} {candidate.index + 1}"
    value = "" if candidate.value is None else f"{candidate.value:.5g}"
    return f"  {name:<30} {candidate.status:<9} {value:>10} {candidate.seconds:>7.1f} s  {candidate.reason}"


def _training_lines(trainings: Sequence[TrainingState]) -> list[str]:
    lines = [f"{'training':<16} {'state':<9} {'epoch':>11} {'done':>6} {'loss':>9} {'validation':>11} {'test':>8}"]
    for one in trainings:
        epoch = f"{one.epoch} of {one.epochs}"
        row = f"{f'{one.arm}, seed {one.repeat}':<16} {one.state:<9} {epoch:>11} {one.share:>6.1%}"
        loss = "" if one.loss is None else f"{one.loss:.4f}"
        lines.append(f"{row} {loss:>9} {_percent(one.validation_accuracy):>11} {_percent(one.test_accuracy):>8}")
    return lines


def _number(name: str, value: Any) -> str:
    if name == "test_accuracy":
        return _percent(value)
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _rate(rate: float, unit: str) -> str:
    for name, seconds in (("second", 1), ("minute", 60), ("hour", 3600)):
        if rate * seconds >= 1:
            return f"{rate * seconds:.1f} {unit} a {name}"
    return f"{rate * 86400:.1f} {unit} a day"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="    ") if len(line) > width else [line.rstrip()]


def _clean(line: str) -> str:
    """Without what could command a terminal: names and reasons come from files."""
    return "".join(character if character.isprintable() else "?" for character in line)
