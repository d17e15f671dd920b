"""A run folder: what is in it, how it is made and opened. Imports no torch.

A run folder may be anyone's. What evospike reads, writes and deletes by name in it are plain files and folders: a link
among them, which would lead elsewhere, is refused.

RUN/run.json          verb, recipe, command, versions, commit; of a replay what it replays; written before anything slow
RUN/plan.json         what was decided once: device, threads, neuron path, contraction orders, digests of the data
RUN/study.sqlite      every generation and score of an evolution, a search or a ranking
RUN/study-K.sqlite    the same of the K-th further search of a run, K from 1
RUN/final/ARM-K/      the K-th training of an arm (evolve, train): checkpoints, `progress`, weights.safetensors,
                      result.json and, of a sparse network, a coarse picture of its synapses in connectivity.json
RUN/result.json       the result of the finished run
RUN/nodes.json        how machines that scored candidates differ from the driver's, if they do
RUN/workers.json      what each worker process did last, for `evospike watch`
RUN/evaluation.json   what `evospike evaluate` measured of it
RUN/tensorboard/      event files, with `--tensorboard`
RUN/report.html       the page of `evospike report`, unless it is told another place
RUN/run.lock          which process writes here, while one does; `.run.lock.guard` orders those that ask

Every JSON document carries a checksum of itself under `checksum`, which readers do not see.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import evospike
from evospike.core import lock
from evospike.core.errors import UNEXPECTED_FORM, EvospikeError, RunError, StoreError
from evospike.core.files import digest_json, is_leftover, make_folder, read_json, write_json
from evospike.core.text import shortened, shown
from evospike.jobs.recipe import Recipe, recipe_from_plain

FORMAT = 1
VERBS = ("evolve", "train", "search", "rank")
LONGEST_NAME = 100
"""Characters of a recipe's name that become part of a run folder's."""

RECORD = "run.json"
PLAN = "plan.json"
RESULT = "result.json"
NODES = "nodes.json"
WORKERS = "workers.json"
EVALUATION = "evaluation.json"
WEIGHTS = "weights.safetensors"
CONNECTIVITY = "connectivity.json"
"""Names of the files above."""

_SEAL = "checksum"
_REMEDY = "restore it or start a new run"
_REMEDIES = {
    RESULT: "delete it and make it again: evospike resume {run}",
    EVALUATION: "evaluate again: evospike evaluate {run}",
}
"""What to do about a document of a run that was altered and can be made again."""

_OF_THE_LOCK = {lock.NAME, lock.GUARD}
_BEFORE_THE_FIRST_SCORE = {RECORD, PLAN, WORKERS, NODES, *_OF_THE_LOCK}

_OURS = re.compile(r"\.?run\.lock.*|.+\.json|study.*\.sqlite.*|\..+\.tmp.*|final|tensorboard")
"""Names in a run folder that evospike reads, writes or deletes; in the folders of trainings and curves all are."""


@dataclass(frozen=True)
class RunFolder:
    """An existing run folder and its record."""

    path: Path
    record: Mapping[str, Any]

    @property
    def verb(self) -> str:
        return str(self.record["verb"])

    @property
    def trains(self) -> bool:
        """Whether the run ends in trained networks."""
        return self.verb in ("evolve", "train")

    @cached_property
    def recipe(self) -> Recipe:
        return recipe_from_plain(self.record["recipe"])

    @property
    def store_path(self) -> Path:
        return self.store_path_of(0)

    def store_path_of(self, seed: int) -> Path:
        """Record of one of the searches of a run."""
        return self.path / (f"study-{seed}.sqlite" if seed else "study.sqlite")

    def final_path(self, arm: str, repeat: int) -> Path:
        """Folder of one final training."""
        return self.path / "final" / f"{arm}-{repeat}"

    def read(self, name: str) -> dict[str, Any] | None:
        """A JSON document of the folder, None when it is not there yet. Raises: RunError when it was altered."""
        remedy = _REMEDIES.get(name, _REMEDY).format(run=self.path)
        return read_record(self.path / name, remedy) if (self.path / name).is_file() else None

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON document of the folder, atomically."""
        write_record(self.path / name, value)


def create_run(verb: str, recipe: Recipe, output: str | None) -> RunFolder:
    """Make a new run folder with its record; `output` names it, else it is `runs/NAME-time`.

    Raises: SettingsError for a recipe that the verb has no use for; RunError when the folder exists and is not empty,
    or cannot be made.
    """
    run = new_run(verb, recipe, output)
    with starting(run):
        record_run(run)
    return run


def new_run(verb: str, recipe: Recipe, output: str | None, **facts: Any) -> RunFolder:
    """What `create_run` makes, before anything is written: while it is `starting`, `record_run` makes it a run. Without
    `output` its folder is there, so that the name is its own. facts: further ones of its record, plain JSON.
    """
    recipe.check_for(verb)
    name = f"runs/{_as_name(recipe)}-{time.strftime('%Y%m%d-%H%M%S')}"
    path = Path(output) if output else _new_folder(name)
    _require_new(path)
    record = {
        "format": FORMAT,
        "verb": verb,
        "recipe": recipe.to_plain(),
        "command": sys.argv[1:],
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "evospike": evospike.__version__,
        "commit": source_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **facts,
    }
    return RunFolder(path, record)


def _new_folder(name: str) -> Path:
    """Make a folder of this name, or with a number behind it, that no other process has made."""
    while True:
        path = unused_path(name)
        with _making(path):
            make_folder(path.parent)
            try:
                path.mkdir()
                return path
            except FileExistsError:
                continue


def _require_new(path: Path) -> None:
    """Refuse what is there already; what a start that was killed at once has left is nothing."""
    if not path.exists():
        return
    if not path.is_dir():
        raise RunError(f"'{path}' is a file; give -o a new folder")
    if not all(entry.name in _OF_THE_LOCK or is_leftover(entry.name) for entry in path.iterdir()):
        go_on = f", or continue it: evospike resume {path}" if (path / RECORD).is_file() else ""
        raise RunError(f"'{path}' exists and is not empty; give -o a new folder{go_on}")


@contextlib.contextmanager
def starting(run: RunFolder) -> Iterator[None]:
    """Inside, a new run folder belongs to this process alone; what was written into it is taken back on an error.

    Raises: RunError when another process was faster, or the folder cannot be made.
    """
    with lock.RunLock(run.path):
        _require_new(run.path)
        try:
            yield
        except BaseException:
            _discard(run)
            raise


def record_run(run: RunFolder) -> None:
    """Write the record of a new run. Raises: RunError when its folder cannot be made."""
    with _making(run.path):
        run.write(RECORD, run.record)


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write to '{path}' ({error.strerror}); give -o a folder on a disk with room") from None


def _as_name(recipe: Recipe) -> str:
    """The name of a recipe as part of a folder's: a recipe may be anyone's, and no name leads out of `runs`."""
    return re.sub(r"[^\w.+-]+", "-", recipe.name).strip("-.")[:LONGEST_NAME] or "run"


@contextlib.contextmanager
def reading(what: str, remedy: str = _REMEDY) -> Iterator[None]:
    """Turn what a document of the wrong form leads to into a RunError that names it."""
    try:
        yield
    except EvospikeError:
        raise
    except UNEXPECTED_FORM as error:
        raise RunError(
            f"{what} has an unexpected form ({type(error).__name__}: {error}); the file was altered, {remedy}"
        ) from None


def open_run(path: str | Path) -> RunFolder:
    """Open an existing run folder. Raises: RunError when it is none, or one of another format."""
    path = Path(path)
    _require_plain(path)
    if not os.path.isfile(path / RECORD):  # never raises, whatever the name holds
        what = "does not exist" if not os.path.exists(path) else "is no run folder (it has no run.json)"
        raise RunError(f"'{path}' {what}; give a folder that evospike printed")
    record = read_record(path / RECORD)
    if record.get("format") != FORMAT:
        writer = (
            f"evospike {shortened(record['evospike'])}" if isinstance(record.get("evospike"), str) else "the release"
        )
        raise RunError(
            f"'{path}' has format {shown(record.get('format'))}; this release reads format {FORMAT}, run it anew "
            f"or open it with {writer}, which wrote it"
        )
    known = record.get("verb") in VERBS and isinstance(record.get("recipe"), dict)
    if not known or not isinstance(record.get("command", []), list):
        raise RunError(f"{path / RECORD} names no verb, recipe or command; the file was altered, restore it")
    return RunFolder(path, record)


def _require_plain(path: Path) -> None:
    """Refuse a run folder in which a link or a pipe stands for something of ours, wherever it would lead."""
    try:
        found = [entry for entry in _entries(path) if _OURS.fullmatch(entry.name)]
        inside = [entry.path for entry in found if entry.is_dir(follow_symlinks=False)]
        while inside:
            entries = _entries(inside.pop())
            inside += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            found += entries
        other = [entry.path for entry in found if not _is_plain(entry)]
    except PermissionError as error:
        raise RunError(f"cannot look into '{error.filename}' ({error.strerror}); make it readable") from None
    if other:
        raise RunError(f"'{other[0]}' is a link or no plain file; put what belongs there into the run folder itself")


def _entries(path: str | Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where there is none, or none any more."""
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except PermissionError:
        raise
    except (OSError, ValueError):  # also for a name that cannot be one
        return []


def _is_plain(entry: os.DirEntry[str]) -> bool:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:  # a temporary file, since
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def discard_unstarted(run: RunFolder) -> None:
    """Take back a new run folder in which nothing was scored or trained yet, so that its name is free again.

    One that belongs to another process is left alone.
    """
    if run.path.is_dir():
        with contextlib.suppress(RunError), lock.RunLock(run.path):
            _discard(run)


def _discard(run: RunFolder) -> None:
    """For whoever holds its lock."""
    entries = list(run.path.iterdir())
    if all(
        entry.name in _BEFORE_THE_FIRST_SCORE or is_leftover(entry.name) or _is_empty_study(entry) for entry in entries
    ):
        with contextlib.suppress(OSError):
            for entry in entries:
                entry.unlink()
            run.path.rmdir()


def _is_empty_study(path: Path) -> bool:
    """Whether a file is the record of a study without a score; one that cannot be read is none."""
    if not (path.match("study*.sqlite") and path.is_file()):
        return False
    from evospike.evolution.store import Store  # with sqlite3, which a command that is refused has no use for

    try:
        with Store.view(path) as store:
            return not store.scores()
    except StoreError:
        return False


def source_commit() -> str:
    """Commit of the checkout the package runs from, with `+` when it has changes; empty outside a checkout."""
    root = Path(evospike.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        git = ["git", "-C", str(root), "--no-optional-locks"]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")


def unused_path(name: str, ending: str = "") -> Path:
    """A path of this name that does not exist: itself, or with a number from 2 on before its ending."""
    path, count = Path(f"{name}{ending}"), 1
    while os.path.lexists(path):
        count += 1
        path = Path(f"{name}-{count}{ending}")
    return path


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON document with its checksum, atomically."""
    write_json(path, {**value, _SEAL: digest_json(dict(value))})


def read_record(path: Path, remedy: str = _REMEDY) -> dict[str, Any]:
    """Read what `write_record` wrote. Raises: RunError with the remedy when it cannot be read or was altered."""
    try:
        value = read_json(path)
        seal = value.pop(_SEAL, None) if isinstance(value, dict) else None
        whole = seal == digest_json(value)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path} ({error}); the file was altered, {remedy}") from None
    if not isinstance(value, dict):
        raise RunError(f"{path} holds no record; the file was altered, {remedy}")
    if seal is None:
        raise RunError(f"{path} has no checksum; the file was altered, {remedy}")
    if not whole:
        raise RunError(f"checksum of {path} does not match; the file was altered, {remedy}")
    return value
