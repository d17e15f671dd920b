"""Writes checkpoints and records again and again, with one call to the operating system going wrong each time.

    LD_PRELOAD=faults.so python crash_writes.py FOLDER KIND ...

A program of its own, because `faults.c` has to be loaded before Python is, and because every attempt is a process that
dies. For each subject and each kind of fault the faulty call moves from the first to the last one of the write; what is
there afterwards is read by a process that is whole. Prints one JSON object per subject and kind.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from evospike.core.errors import RunError
from evospike.core.lock import RunLock
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.folder import read_record, write_record
from evospike.training.checkpoint import Checkpoint, discard_leftovers, load_checkpoint, save_checkpoint

FAULTS = ctypes.CDLL(None)
FAULTS.faults_arm.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_long)
FAULTS.faults_count.restype = ctypes.c_long

DONE, REFUSED, NOT_REACHED = 0, 3, 4
MOST_CALLS = 1000

GENOTYPES = [Genotype(("a",), (0.1 * k,)) for k in range(3)]


def arm(folder: Path, kind: str, number: int) -> None:
    FAULTS.faults_arm(str(folder).encode(), kind.encode(), number)


@dataclass(frozen=True)
class Subject:
    """Something that is written. state: what a whole reader finds in the folder: an old state or the new one.

    prepare: brings a folder into the old state. begin: what comes before the write and goes right; its value is given
    to `write`. again: the same write once more, by a whole process.
    """

    name: str
    prepare: Callable[[Path], None]
    begin: Callable[[Path], object]
    write: Callable[[object], None]
    state: Callable[[Path], str]
    old: str
    new: str


def attempt(subject: Subject, folder: Path, kind: str, number: int) -> str:
    """Write in a process of its own with one faulty call; how it ended: killed, done, refused, not reached or wrong."""
    child = os.fork()
    if child == 0:
        os._exit(faulty(subject, folder, kind, number))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "killed"
    named = {DONE: "done", REFUSED: "refused", NOT_REACHED: "not reached"}
    return named.get(os.WEXITSTATUS(status), "wrong")


def faulty(subject: Subject, folder: Path, kind: str, number: int) -> int:
    try:
        begun = subject.begin(folder)
        arm(folder, kind, number)
        try:
            subject.write(begun)
            code = DONE if FAULTS.faults_count() >= number else NOT_REACHED
        except (OSError, RunError):
            code = REFUSED
        arm(folder, "none", 0)
        if code == REFUSED and kind == "error" and subject.state(folder) != subject.new:
            assert subject.state(folder) == subject.old
            subject.write(begun)  # the cause is gone; the same process goes on
        return code
    except BaseException as error:  # whatever it is, it must not unwind into the parent's code
        print(f"{subject.name}, {kind} at {number}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def try_all(subject: Subject, folder: Path, kind: str) -> dict[str, object]:
    """Move the fault through every call of the write; what was found each time must be the old state or the new one."""
    found = {"old": 0, "new": 0}
    wrong: list[str] = []
    for number in range(1, MOST_CALLS):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        subject.prepare(folder)
        how = attempt(subject, folder, kind, number)
        if how == "not reached":
            break
        state = subject.state(folder)
        if state not in expected(subject, kind, how):
            wrong.append(f"call {number}: {how}, but found {state}")
        found["new" if state == subject.new else "old"] += 1
        if state == subject.old:
            subject.write(subject.begin(folder))
            if subject.state(folder) != subject.new:
                wrong.append(f"call {number}: written again, but found {subject.state(folder)}")
    return {"subject": subject.name, "kind": kind, "calls": number - 1, **found, "wrong": wrong}


def expected(subject: Subject, kind: str, how: str) -> tuple[str, ...]:
    """What may be found; a process that met an error and went on has written what it wanted."""
    if how == "killed":
        return subject.old, subject.new
    if how == "done" or (how == "refused" and kind == "error"):
        return (subject.new,)
    return (subject.old,) if how == "refused" else ()


def checkpoint_subject() -> Subject:
    def checkpoint(step: int) -> Checkpoint:
        return Checkpoint({"w": torch.full((300,), float(step))}, {"m": torch.full((5,), -float(step))}, {"step": step})

    def prepare(folder: Path) -> None:
        for step in (1, 2):
            save_checkpoint(folder, step, checkpoint(step))

    def state(folder: Path) -> str:
        discard_leftovers(folder)
        found = load_checkpoint(folder)
        if found is None:
            return "nothing"
        step = int(found[0].record["step"])
        same = torch.equal(found[0].weights["w"], checkpoint(step).weights["w"])
        whole = same and torch.equal(found[0].state["m"], checkpoint(step).state["m"])
        return f"step {step}" if whole and not list(folder.glob(".*")) else f"something like step {step}"

    def write(folder: object) -> None:
        assert isinstance(folder, Path)
        save_checkpoint(folder, 3, checkpoint(3))

    return Subject("checkpoint", prepare, lambda folder: folder, write, state, "step 2", "step 3")


def record_subject() -> Subject:
    def state(folder: Path) -> str:
        return str(read_record(folder / "result.json")["version"])

    def write(folder: object) -> None:
        assert isinstance(folder, Path)
        write_record(folder / "result.json", {"version": "new", "padding": "x" * 9000})

    def prepare(folder: Path) -> None:
        write_record(folder / "result.json", {"version": "old"})

    return Subject("record", prepare, lambda folder: folder, write, state, "old", "new")


def request(index: int) -> Request:
    return Request("candidate", 0, index, GENOTYPES[index], ("generation", 0))


def row_subject() -> Subject:
    def prepare(folder: Path) -> None:
        with Store.create(folder / "study.sqlite") as store:
            store.record_generation(0, GENOTYPES)
            store.record_score(request(0), Score("ok", terms={"loss": 0.5}))

    def state(folder: Path) -> str:
        with Store.open(folder / "study.sqlite") as store:
            if store.generations() != [tuple(GENOTYPES)]:
                return "other generations"
            return f"{len(store.scores())} scores"

    def write(store: object) -> None:
        assert isinstance(store, Store)
        store.record_score(request(1), Score("ok", "", {"loss": 0.25, **{f"term {k}": 0.5 for k in range(400)}}))

    begin = lambda folder: Store.open(folder / "study.sqlite")  # noqa: E731 - as short as the others
    return Subject("row", prepare, begin, write, state, "1 scores", "2 scores")


def store_subject() -> Subject:
    def state(folder: Path) -> str:
        path = folder / "study.sqlite"
        if not path.exists():
            return "none"
        with Store.open(path) as store:
            return f"{len(store.scores())} scores"

    def write(folder: object) -> None:
        assert isinstance(folder, Path)
        Store.open_or_create(folder / "study.sqlite").close()

    return Subject("new store", lambda folder: None, lambda folder: folder, write, state, "none", "0 scores")


def lock_subject() -> Subject:
    """A lock that is taken and given back; one of a process that died is no lock."""

    def state(folder: Path) -> str:
        with RunLock(folder):
            return "free"

    def write(folder: object) -> None:
        assert isinstance(folder, Path)
        with RunLock(folder) as lock:
            assert lock.path.exists()

    return Subject("lock", lambda folder: None, lambda folder: folder, write, state, "free", "free")


def main() -> None:
    warnings.simplefilter("ignore")  # Python 3.12 warns of fork beside torch's idle threads
    folder, *kinds = sys.argv[1:]
    for make in (checkpoint_subject, record_subject, row_subject, store_subject, lock_subject):
        for kind in kinds:
            print(json.dumps(try_all(make(), Path(folder).absolute() / "work", kind)), flush=True)


if __name__ == "__main__":
    main()
