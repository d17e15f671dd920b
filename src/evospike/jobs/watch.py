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

from evospike.core.errors import Interrupted, RunError
from evospike.core.settings import require
from evospike.evolution.failures import failures_in_words
from evospike.jobs.folder import open_run
from evospike.jobs.results import data_in_words
from evospike.jobs.run_state import CandidateState, Progress, RunState, StudyState, TrainingState, state_of
from evospike.jobs.worker_file import WorkerLine

PAUSE_TO_LOOK = 5
"""A look at the run is followed by a pause of at least this many times its length."""

LONGEST_INTERVAL = 86_400
"""Seconds between two looks."""

NARROWEST, WIDEST = 20, 200

WIDEST_BAR, NARROWEST_BAR = 24, 6

_AT_WORK_FIRST = ("training", "stopped", "waiting", "finished")
"""States of trainings in the order in which these are listed."""


def watch(path: str | Path, *, once: bool = False, interval: float = 2.0, out: TextIO | None = None) -> None:
    """Show a run until it is finished: redrawn in place on a terminal, elsewhere a block for every change.

    A run that was stopped is shown until it is resumed and finished. once: show it once and return. interval: seconds
    between two looks.
    Raises: RunError when it is no run folder, or, unless `once`, its result is damaged; SettingsError for an interval
    of 0 or less; Interrupted on Ctrl-C.
    """
    require(interval > 0, f"'interval' must be positive, given {interval:g}; give seconds between two looks")
    require(interval <= LONGEST_INTERVAL, f"'interval' must be at most {LONGEST_INTERVAL}, given {interval:g}")
    run = open_run(path)
    screen = _Screen(out or sys.stdout)
    try:
        while True:
            started = time.monotonic()
            state = state_of(run)
            screen.show(state, follows=not once)
            if once or state.phase == "finished":
                return
            if state.phase == "damaged":
                raise RunError(state.problems[0])
            time.sleep(max(interval, PAUSE_TO_LOOK * (time.monotonic() - started)))
    except KeyboardInterrupt:
        raise Interrupted(signal.SIGINT) from None


def render(state: RunState, width: int = 100, *, brief: bool = False, follows: bool = False) -> str:
    """The state as lines of at most `width` characters (20 or more), the most important ones first.

    brief: of the trainings list those at work and sum up the others, and of a finished study only its best.
    follows: whether a watcher goes on looking.
    """
    width = max(width, NARROWEST)
    lines = [*_head_lines(state, width, follows=follows), *_section_lines(state, brief=brief)]
    return "\n".join(part for line in lines for part in _wrapped(_clean(line), width))


def _head_lines(state: RunState, width: int, *, follows: bool) -> list[str]:
    data = f"data: {data_in_words(state.data)}"  # before any number, so that no window shows one without it
    lines = [f"evospike {state.verb} {state.recipe}: {state.path}", _phase_line(state), data]
    if follows and state.phase in ("stopped", "not started"):
        lines.append("waiting for it to go on; Ctrl-C ends this")
    if state.in_flight:
        lines.append(_steady_line(state))
    if state.progress is not None:
        lines.append(_progress_line(state.progress, width, stopped=state.phase == "stopped"))
    if state.phase == "evolving" and state.trainings:
        epochs = _plural(state.trainings[0].epochs, "epoch")
        lines.append(f"then {_plural(len(state.trainings), 'training')} of {epochs}")
    if state.result is not None:
        lines += [f"{name.replace('_', ' ')}: {_number(name, value)}" for name, value in state.result.items()]
    lines += [f"problem: {problem}" for problem in state.problems]
    return lines + [_worker_line(worker) for worker in state.doing]


def _section_lines(state: RunState, *, brief: bool) -> list[str]:
    """Studies and trainings, those first that the run is at."""
    studies = [
        ["", *_study_lines(study, named=len(state.studies) > 1, latest=not (brief and study.finished))]
        for study in state.studies
    ]
    trainings = [["", *_training_lines(state.trainings, brief=brief)]] if state.trainings else []
    searched = all(study.finished for study in state.studies)
    sections = [*trainings, *studies] if searched else [*studies, *trainings]
    return [line for section in sections for line in section]


class _Screen:
    """Where the state is shown; on a terminal each block replaces the one before."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._terminal = out, out.isatty()
        self._shown: list[str] = []

    def show(self, state: RunState, *, follows: bool) -> None:
        lines = self._fitted(state, follows=follows)
        if lines == self._shown:
            return
        back = f"\x1b[{len(self._shown)}F\x1b[J" if self._terminal and self._shown else ""
        gap = "" if self._terminal else "\n"
        self._out.write(back + "".join(f"{line}\n" for line in lines) + gap)
        self._out.flush()
        self._shown = lines

    def _fitted(self, state: RunState, *, follows: bool) -> list[str]:
        """On a terminal only what it has room for, since it cannot be taken back once it has scrolled away."""
        if not self._terminal:
            return render(state, WIDEST, follows=follows).split("\n")
        size = shutil.get_terminal_size()
        width, room = size.columns - 1, max(size.lines - 1, 1)
        lines = render(state, width, follows=follows).split("\n")
        if len(lines) > room:
            lines = render(state, width, brief=True, follows=follows).split("\n")
        if len(lines) <= room:
            return lines
        hidden = f"({_plural(len(lines) - room + 1, 'more line')} in a higher window)"
        return [*lines[: room - 1], hidden[:width]]


def _phase_line(state: RunState) -> str:
    holder = state.holder
    if state.phase == "finished":
        return f"finished; more: evospike report {state.path}"
    if state.phase == "damaged":
        return "damaged: its result cannot be read"
    if holder is None or holder.state == "stale":
        gone = f" (process {holder.pid} is gone)" if holder is not None else ""
        shared = any(max(one.processes, default=1) > 1 for one in state.trainings)
        return f"{state.phase}{gone}; go on{' under torchrun' if shared else ''} with: evospike resume {state.path}"
    asked = ", which this host cannot ask" if holder.state == "elsewhere" else ""
    workers = _plural(state.workers, "worker")
    return f"{state.phase}: process {holder.pid} on {holder.host}{asked}, since {holder.since}, {workers}"


def _steady_line(state: RunState) -> str:
    workers = ", for workers as they were asked for" if state.doing else ""
    return f"steady state, at most {state.in_flight} in flight; candidates are numbered as they were told{workers}"


def _progress_line(progress: Progress, width: int, *, stopped: bool) -> str:
    """Behind a bar of what is left of the width; without one where little is. A run that was stopped has no rate."""
    text = f"{progress.done:g} of {progress.total} {progress.unit}"
    if not stopped and progress.rate is not None and progress.seconds_left is not None:
        text += f", {_rate(progress.rate, progress.unit)}, about {_duration(progress.seconds_left)} left"
    cells = min(WIDEST_BAR, width - len(text) - len("[] "))
    if cells < NARROWEST_BAR:
        return text
    filled = round(cells * min(progress.done / max(progress.total, 1), 1.0))
    return f"[{'#' * filled}{'-' * (cells - filled)}] {text}"


def _worker_line(worker: WorkerLine) -> str:
    since = time.strftime("%H:%M:%S", time.localtime(worker.since))
    return f"  worker {worker.pid}: {worker.doing}, since {since}"


def _study_lines(study: StudyState, *, named: bool, latest: bool) -> list[str]:
    lines = [study.name] if named else []
    if not study.generation:
        return [*lines, f"before the first of {study.generations} generations"]
    lines.append(
        f"generation {study.generation} of {study.generations}: {study.scored} of {study.asked} scored, "
        f"{study.failed} failed, {study.pending} pending"
    )
    if study.best is not None:
        lines.append(f"best {study.measure} so far: {study.best:.5g}")
    if study.failures:
        lines.append(f"not usable so far: {failures_in_words(study.failures)}")
    if latest and study.done > len(study.latest):
        lines.append(f"the last {len(study.latest)} of {study.done}:")
    return lines + [_candidate_line(candidate) for candidate in study.latest if latest]


def _candidate_line(candidate: CandidateState) -> str:
    kind = "finalist" if candidate.finalist else "candidate"
    name = f"generation {candidate.generation + 1}, {kind} {candidate.index + 1}"
    value = "" if candidate.value is None else f"{candidate.value:.5g}"
    return f"  {name:<30} {candidate.status:<9} {value:>10} {candidate.seconds:>7.1f} s  {candidate.reason}"


def _training_lines(trainings: Sequence[TrainingState], *, brief: bool) -> list[str]:
    """A row for each, those at work first. brief: the others are one line."""
    head = f"{'training':<16} {'state':<9} {'epoch':>11} {'done':>6} {'loss':>9} {'validation':>11} {'test':>8}"
    if not brief:
        ordered = sorted(trainings, key=lambda one: _AT_WORK_FIRST.index(one.state))
        return [head, *map(_training_line, ordered)]
    at_work = [one for one in trainings if one.state == "training"]
    others = ", ".join(filter(None, (_of_state(trainings, state) for state in _AT_WORK_FIRST[1:])))
    table = [head, *map(_training_line, at_work)] if at_work else []
    return [*table, f"trainings: {others}"] if others else table


def _training_line(one: TrainingState) -> str:
    epoch = f"{one.epoch} of {one.epochs}"
    row = f"{f'{one.arm}, seed {one.repeat}':<16} {one.state:<9} {epoch:>11} {one.share:>6.1%}"
    loss = "" if one.loss is None else f"{one.loss:.4f}"
    return f"{row} {loss:>9} {_percent(one.validation_accuracy):>11} {_percent(one.test_accuracy):>8}"


def _of_state(trainings: Sequence[TrainingState], state: str) -> str:
    """How many trainings are in a state, and what the finished ones reached."""
    found = [one for one in trainings if one.state == state]
    tests = [one.test_accuracy for one in found if one.test_accuracy is not None]
    reached = f" (test {_percent(min(tests))} to {_percent(max(tests))})" if tests else ""
    return f"{len(found)} {state}{reached}" if found else ""


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


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="    ") if len(line) > width else [line.rstrip()]


def _clean(line: str) -> str:
    """Without what could command a terminal: names and reasons come from files."""
    return "".join(character if character.isprintable() else "?" for character in line)
