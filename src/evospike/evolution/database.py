"""SQLite files that may be anyone's.

A database can lead to other files and can make reading as long as it likes. So no file is followed that one names, and
reading takes no more work and memory than the size of the file explains. SQLite's errors become one line of ours.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from evospike.core.errors import EvospikeError, RunError, StoreError
from evospike.core.limits import require_memory
from evospike.core.text import shortened

WAIT_S = 10.0
"""Seconds for which a database that another process writes is waited for."""

_GROWTH = 48
"""What is read of a record takes at most so many times the bytes of its file."""

_SLACK = 1 << 20
"""Bytes that a record may have gained since its size was looked at, beside as many as it had."""

_STEP = 10_000
_STEPS_PER_BYTE = 10
"""Instructions of SQLite's machine: after how many it asks whether to go on, and how many a byte of a file is worth.
Reading and checking a row of a hundred bytes takes about a hundred."""

_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_BESIDE = ("-journal", "-wal", "-shm")
"""How the names of the files end that SQLite looks for beside a database."""


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a record. mode: `rw` or `ro`, as SQLite reads it. Raises: StoreError, RunError."""
    if not path.is_file():
        raise StoreError(f"no run record at {path}; expected a file written by evospike, check the run folder")
    with explained(path):
        _check_files(path)
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=WAIT_S)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
    return connection


def _check_files(path: Path) -> None:
    """Refuse what would lead SQLite to other files, or keep it waiting.

    That are links and pipes, a write-ahead log, and a journal that ends in the magic number. Such a journal is left by
    a transaction over several databases; it names a file, which SQLite deletes when it rolls the journal back.
    """
    for file in (path, *(path.with_name(path.name + ending) for ending in _BESIDE)):
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(file.lstat().st_mode):
                raise StoreError(f"{file} is a link or no plain file; put the file itself into the run folder")
    if 2 in _bytes_at(path, 18, 2):
        raise StoreError(f"{path} asks for a write-ahead log, as evospike never does; restore it or start a new run")
    journal = path.with_name(f"{path.name}-journal")
    with contextlib.suppress(FileNotFoundError):
        if _bytes_at(journal, -len(_JOURNAL_MAGIC), len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC:
            raise StoreError(
                f"{journal} names another file to be deleted, as evospike never does; trust nothing in this folder, "
                "or delete the journal"
            )


def _bytes_at(path: Path, place: int, count: int) -> bytes:
    """place: from the end of the file where it is negative."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(place if place >= 0 else max(0, size + place))
        return file.read(count)


@contextlib.contextmanager
def restrained(connection: sqlite3.Connection, path: Path) -> Iterator[int]:
    """What is read inside takes no more work, and no text in it is longer, than the size of the file explains.

    Gives the most bytes that all of it can have. Raises: StoreError where they would not fit into memory.
    """
    with explained(path):
        size = path.stat().st_size
        most = _SLACK + 2 * size
        require_memory(_GROWTH * size, f"reading {path}", "use a machine with more memory", StoreError)
        steps = iter(range(_STEPS_PER_BYTE * most // _STEP))
        before = connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most)
    connection.set_progress_handler(lambda: next(steps, None) is None, _STEP)
    try:
        yield most
    finally:
        connection.set_progress_handler(None, 0)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)


def check_whole(connection: sqlite3.Connection, path: Path) -> None:
    """Raises: StoreError where SQLite finds the file damaged."""
    with explained(path):
        problems = [line for (line,) in connection.execute("PRAGMA integrity_check(1)")]
    if problems != ["ok"]:
        raise damaged(path, problems[0].splitlines()[-1])


def damaged(path: Path, detail: str) -> StoreError:
    """The error for a record that cannot be read as a whole."""
    return StoreError(f"run record {path} is damaged ({printable(detail)}); restore a copy or start a new run folder")


def printable(text: str) -> str:
    """What a damaged file may have put into a message, so that a terminal can show it."""
    return shortened("".join(character if character.isprintable() else "?" for character in text))


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into one line of ours; SQLite has rolled the transaction back."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(path, error) from None
    except OSError as error:
        raise RunError(
            f"cannot read {path} ({error.strerror}); check the folder's permissions, then run again"
        ) from None
    except UnicodeDecodeError as error:  # SQLite's own complaint about a damaged file quotes it
        raise damaged(path, str(error)) from None


def _translate(path: Path, error: sqlite3.Error) -> EvospikeError:
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return RunError(f"{path} was left in the middle of a write; resuming its run repairs it")
    primary = code & 0xFF
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RunError(f"run record {path} is in use by another process ({error}); wait for it or stop it")
    if primary == sqlite3.SQLITE_FULL:
        return RunError(
            f"no space left to write {path} ({error}); free space and run again, what was recorded is intact"
        )
    if primary in (
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    ):
        return RunError(
            f"cannot read or write {path} ({error}); check the disk and the folder's permissions, then run again"
        )
    if primary == sqlite3.SQLITE_INTERRUPT:
        return damaged(path, "reading it takes more work than its size explains")
    return damaged(path, str(error))
