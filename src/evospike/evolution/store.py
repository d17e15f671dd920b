"""The record of a run: one SQLite file, written by the driver alone.

Every row, or every group of scores that depend on each other, is one transaction. A row carries a checksum of its
contents; whenever something is read, the checksums of all rows are verified, and that none is missing which the index
knows. A rollback journal and full synchronisation keep the file whole on a crash or a full disk, also on network file
systems, where SQLite's write-ahead log must not be used.

A file may be anyone's (see `evolution.database`): nothing beside our two tables is allowed in it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from evospike.core.errors import UNEXPECTED_FORM, EvospikeError, RunError, StoreError
from evospike.core.files import canonical_json, digest_json, make_folder, parse_json, sync_folder
from evospike.core.limits import KEY_BITS
from evospike.evolution.database import WAIT_S, check_whole, connect, damaged, explained, printable, restrained
from evospike.evolution.records import Genotype, Request, Score

FORMAT = 1
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE records (
    kind TEXT NOT NULL, name TEXT NOT NULL, content TEXT NOT NULL, checksum TEXT NOT NULL, PRIMARY KEY (kind,
    name)
);
"""

_OBJECTS = "SELECT type, name, sql FROM sqlite_master LIMIT 9"
_OURS = {
    *(("table", sql.split()[2], " ".join(sql.split())) for sql in _TABLES.split(";")[:-1]),
    *(("index", f"sqlite_autoindex_{table}_1", "") for table in ("meta", "records")),
}
"""All that is in a record: kind, name and definition."""

_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?)"
_EVERY_ROW = """
SELECT kind, name, content, checksum, (SELECT count(name) FROM records INDEXED BY sqlite_autoindex_records_1)
FROM records NOT INDEXED
"""
"""Neither SQLite's sorter nor `count(*)` is in it: both take what they are given as a whole, however much that is."""


@dataclass(frozen=True)
class Recorded:
    """One score as the store holds it; attempts counts how often its evaluation was started."""

    request: Request
    score: Score
    attempts: int


class Store:
    """The record of one run; make it with `Store.create`, `Store.open` or `Store.open_or_create`.

    Use it from one thread, and let one process write (see `core.lock.RunLock`); others may open it to read.
    Raises: StoreError when the file cannot be trusted, RunError when the file system will not write or is
    busy.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path, told: Sequence[str] = ()) -> Store:
        """Start a new record; StoreError when there is one already. A crash leaves no half-made file.

        told: keys in the order in which a steady-state evolution is to be told its candidates, as far as it is known.
        """
        if path.exists():
            raise StoreError(f"{path} exists already; open it to go on, or choose a new run folder")
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            make_folder(path.parent)
            temporary.unlink(missing_ok=True)
            _write_new(temporary, path, told)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except OSError as error:
            raise RunError(f"cannot create {path} ({error.strerror}); free space or choose another folder") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open a record and check it as a whole."""
        connection = connect(path, "rw")
        try:
            _prepare(connection, path)
            with restrained(connection, path):
                _check_format(connection, path)
                check_whole(connection, path)
        except BaseException:
            connection.close()
            raise
        return cls(path, connection)

    @classmethod
    def view(cls, path: Path) -> Store:
        """Open a record beside the run that writes it, to read only: nothing is written, not even by SQLite.

        Rows are checked as they are read, the file as a whole is not: that would keep the writer waiting.
        Raises: StoreError, RunError; also when the run was killed in the middle of a write and has not gone on yet.
        """
        connection = connect(path, "ro")
        try:
            with restrained(connection, path):
                _check_format(connection, path)
        except BaseException:
            connection.close()
            raise
        connection.isolation_level = None
        return cls(path, connection)

    @classmethod
    def open_or_create(cls, path: Path) -> Store:
        """Open the record, or start one where there is none."""
        return cls.open(path) if path.exists() else cls.create(path)

    def close(self) -> None:
        """Close the file; everything recorded is on disk already."""
        self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def record_generation(self, number: int, genotypes: Sequence[Genotype]) -> None:
        """Record what generation `number` asked for, before any of it is evaluated."""
        self._insert("generation", f"{number:04d}", [genotype.to_json() for genotype in genotypes])

    def record_score(self, request: Request, score: Score, attempts: int = 1) -> None:
        """Record one score as it arrives."""
        content = {"request": request.to_json(), "score": score.to_json(), "attempts": attempts}
        self._insert("score", request.key, content)

    def record_scores(self, scores: Iterable[tuple[Request, Score, int]]) -> None:
        """Record several scores with their attempts in one transaction: all of them, or none."""
        with self._all_or_none():
            self._record_each(scores)

    def record_told(self, turn: int, key: str, scores: Iterable[tuple[Request, Score, int]] = ()) -> None:
        """Record which candidate of a steady-state evolution is told at this turn, by the key of its request, together
        with scores that arrived for it.
        """
        with self._all_or_none():
            self._record_each(scores)
            self._insert("told", _turn_name(turn), key)

    def record_value(self, name: str, value: Any) -> None:
        """Record a fact about the run as JSON; it enters the run's digest, so let it hold no times and no
        paths.
        """
        self._insert("value", name, value)

    def generations(self) -> list[tuple[Genotype, ...]]:
        """The genotypes of every recorded generation; StoreError when one is missing in between."""
        result: list[tuple[Genotype, ...]] = []
        for number, (name, content) in enumerate(self._select("generation")):
            if name != f"{number:04d}":
                raise StoreError(f"{self.path} lacks generation {number}; the file was altered, start a new run")
            with self._reading("generation", name):
                result.append(tuple(_named(Genotype.from_json(item)) for item in content))
        return result

    def told(self) -> list[str]:
        """The keys of what a steady-state evolution was told, in that order; StoreError when one is missing."""
        result: list[str] = []
        for turn, (name, key) in enumerate(self._select("told")):
            if name != _turn_name(turn) or not isinstance(key, str):
                raise StoreError(f"{self.path} lacks turn {turn}; the file was altered, start a new run")
            result.append(key)
        return result

    def scores(self, kind: str | None = None, generation: int | None = None) -> list[Recorded]:
        """Recorded scores in the order of their keys, all or those of one kind and one generation."""
        result: list[Recorded] = []
        for name, content in self._select("score"):
            with self._reading("score", name):
                result.append(_recorded(name, content))
        return [
            item
            for item in result
            if kind in (None, item.request.kind) and generation in (None, item.request.generation)
        ]

    def values(self) -> dict[str, Any]:
        """Recorded facts about the run by name."""
        return dict(self._select("value"))

    def digest_payload(self) -> dict[str, Any]:
        """The history without times, wording, attempts and workers: equal runs give equal payloads."""
        told = self.told()
        return {
            "format": FORMAT,
            "generations": [[genotype.to_json() for genotype in group] for group in self.generations()],
            "scores": [[item.request.to_json(), item.score.outcome()] for item in self.scores()],
            "values": self.values(),
            **({"told": told} if told else {}),
        }

    def digest(self) -> str:
        """32 hex digits of `digest_payload`."""
        return digest_json(self.digest_payload())

    def _record_each(self, scores: Iterable[tuple[Request, Score, int]]) -> None:
        for request, score, attempts in scores:
            self.record_score(request, score, attempts)

    @contextlib.contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """What is written inside is there when it ends well, and is not when it does not."""
        with explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with explained(self.path):
                self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled it back already
                self._connection.execute("ROLLBACK")
            raise

    def _insert(self, kind: str, name: str, content: Any) -> None:
        row = _row(kind, name, content)
        with explained(self.path):
            try:
                self._connection.execute(_INSERT, row)
            except sqlite3.IntegrityError:
                raise StoreError(
                    f"{kind} '{name}' is recorded already in {self.path}; a record is never written twice, "
                    "check that one driver uses this run folder"
                ) from None

    def _select(self, kind: str) -> list[tuple[str, Any]]:
        return [(name, self._content(of, name, text)) for of, name, text in self._whole_rows() if of == kind]

    def _whole_rows(self) -> list[tuple[str, str, str]]:
        """Kind, name and content of every row, sorted, once all of them are checked."""
        rows = self._every_row()
        for of, name, text, checksum in rows:
            whole = all(isinstance(part, str) for part in (of, name, text)) and checksum == _checksum(of, name, text)
            if not whole:
                named = printable(f"{of} '{name}'")
                raise StoreError(
                    f"checksum of {named} in {self.path} does not match its contents; "
                    "the file was altered, restore it or start a new run"
                )
        return sorted((of, name, text) for of, name, text, _ in rows)

    def _every_row(self) -> list[Any]:
        rows, known = [], 0
        with restrained(self._connection, self.path) as left, explained(self.path):
            for row in self._connection.execute(_EVERY_ROW):
                known = row[-1]
                rows.append(row[:-1])
                left -= sum(len(part) for part in row[:-1] if isinstance(part, str | bytes))
                if left < 0:
                    raise damaged(self.path, "it holds more than its size explains")
        if len(rows) != known:
            raise damaged(self.path, f"{len(rows)} of {known} records can be read")
        return rows

    def _content(self, kind: str, name: str, text: str) -> Any:
        with self._reading(kind, name):
            return parse_json(text, KEY_BITS)  # the root of a further search is such a key

    @contextlib.contextmanager
    def _reading(self, kind: str, name: str) -> Iterator[None]:
        """Turn a row of the wrong form into a StoreError that names it."""
        try:
            yield
        except (*UNEXPECTED_FORM, EvospikeError) as error:
            reason = printable(f"{type(error).__name__}: {error}")
            raise StoreError(
                f"{printable(kind)} '{printable(name)}' in {self.path} has an unexpected form ({reason}); "
                "open it with the evospike version that wrote it"
            ) from None


def _checksum(kind: str, name: str, text: str) -> str:
    return digest_json([kind, name, text])


def _row(kind: str, name: str, content: Any) -> tuple[str, str, str, str]:
    try:
        text = canonical_json(content)
    except (TypeError, ValueError) as error:
        raise StoreError(f"cannot record {kind} '{name}' ({error}); give plain JSON with finite numbers") from None
    return kind, name, text, _checksum(kind, name, text)


def _named(genotype: Genotype) -> Genotype:
    if not all(isinstance(name, str) for name in genotype.names):
        raise TypeError("a name is no text")
    return genotype


def _recorded(name: str, content: Any) -> Recorded:
    """A score from its row. Raises: what values of another form lead to."""
    request, attempts = Request.from_json(content["request"]), content["attempts"]
    _named(request.genotype)
    if not all(type(part) in (int, str) for part in (*request.draw_key, request.generation, request.index)):
        raise TypeError("it names its draw or its place by other things than numbers and texts")
    if request.key != name:
        raise ValueError(f"it is the score of '{request.key}'")
    if type(attempts) is not int or attempts < 0:
        raise ValueError(f"it was attempted '{attempts}' times")
    return Recorded(request, Score.from_json(content["score"]), attempts)


def _turn_name(turn: int) -> str:
    return f"{turn:08d}"


def _write_new(path: Path, shown: Path, told: Sequence[str]) -> None:
    rows = [_row("told", _turn_name(turn), key) for turn, key in enumerate(told)]
    with explained(shown), contextlib.closing(sqlite3.connect(path, timeout=WAIT_S)) as connection:
        _prepare(connection, shown)
        connection.executescript(f"BEGIN; {_TABLES} INSERT INTO meta VALUES ('format', '{FORMAT}');")
        connection.executemany(_INSERT, rows)
        connection.execute("COMMIT")


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.isolation_level = None  # every statement is its own transaction
    with explained(path):
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA synchronous=EXTRA")


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse another format, and whatever is in the database beside our tables: a trigger would run when we write."""
    with explained(path):
        found = {(kind, name, _in_one_form(sql)) for kind, name, sql in connection.execute(_OBJECTS)}
        ours = found >= _OURS
        meta = dict(connection.execute("SELECT name, value FROM meta WHERE name = 'format'")) if ours else {}
    if "format" not in meta:
        raise StoreError(f"{path} is not an evospike run record; point to the file that evospike wrote")
    if meta["format"] != str(FORMAT):
        raise StoreError(
            f"{path} has format {printable(str(meta['format']))}, this evospike reads format {FORMAT}; "
            "go on with the evospike version that wrote it, or start a new run folder"
        )
    if more := sorted(f"{kind} '{name}'" for kind, name, _ in found - _OURS):
        raise StoreError(
            f"{path} holds what evospike never writes: {printable(', '.join(more))}; the file was altered, "
            "restore it or start a new run"
        )


def _in_one_form(sql: Any) -> str:
    return " ".join(sql.split()) if isinstance(sql, str) else ""
