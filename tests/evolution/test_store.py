import json
import os
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from evospike.core.errors import RunError, StoreError
from evospike.core.files import digest_json
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Recorded, Store

GENOTYPES = [Genotype(("a", "b"), (0.1 * k, 1 / (k + 3))) for k in range(4)]


def request(index: int) -> Request:
    return Request("candidate", 0, index, GENOTYPES[index], ("generation", 0))


def score(index: int, seconds: float = 1.0) -> Score:
    return Score("ok", terms={"loss": 0.1 * index}, seconds=seconds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record with one generation, two scores and one fact."""
    with Store.create(tmp_path / "run" / "record.sqlite") as store:
        fill(store)
        return store.path


def fill(store: Store, seconds: float = 1.0, attempts: int = 1, order: tuple[int, ...] = (0, 1)) -> None:
    store.record_generation(0, GENOTYPES)
    for index in order:
        store.record_score(request(index), score(index, seconds), attempts)
    store.record_value("proxy", {"digest": "abc"})


def alter(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_what_is_recorded_is_read_again(path: Path) -> None:
    with Store.open(path) as store:
        assert store.generations() == [tuple(GENOTYPES)]
        assert store.scores() == [Recorded(request(k), score(k), 1) for k in (0, 1)]
        assert store.scores(kind="finalist") == store.scores(generation=1) == []
        assert store.values() == {"proxy": {"digest": "abc"}}


def test_a_record_is_one_file_with_a_rollback_journal(path: Path) -> None:
    with Store.open(path) as store:
        store.record_value("more", 1)
        assert [item.name for item in path.parent.iterdir()] == [path.name]
        assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert store._connection.execute("PRAGMA synchronous").fetchone() == (3,)


def test_the_digest_is_blind_to_time_attempts_and_order_of_arrival(tmp_path: Path) -> None:
    with Store.create(tmp_path / "a") as one, Store.create(tmp_path / "b") as two:
        fill(one)
        fill(two, seconds=9.0, attempts=2, order=(1, 0))
        assert one.digest() == two.digest()
        two.record_value("other", 1)
        assert one.digest() != two.digest()


def test_nothing_is_recorded_twice(path: Path) -> None:
    with Store.open(path) as store:
        before = store.digest()
        with pytest.raises(
            StoreError, match=r"score 'candidate/0000/0001' is recorded already in .*never written twice"
        ):
            store.record_score(request(1), score(1))
        with pytest.raises(StoreError, match="generation '0000' is recorded already"):
            store.record_generation(0, GENOTYPES)
        with pytest.raises(StoreError, match="value 'proxy' is recorded already"):
            store.record_value("proxy", 2)
        assert store.digest() == before


def test_values_must_be_plain_json(path: Path) -> None:
    with Store.open(path) as store, pytest.raises(StoreError, match=r"cannot record value 'bad'.*finite numbers"):
        store.record_value("bad", float("nan"))


def test_an_altered_row_is_named(path: Path) -> None:
    alter(path, "UPDATE records SET content = replace(content, '0.1', '0.2') WHERE name = 'candidate/0000/0001'")
    with (
        Store.open(path) as store,
        pytest.raises(StoreError, match=r"checksum of score 'candidate/0000/0001' in .* does not match"),
    ):
        store.scores()


@pytest.mark.parametrize(
    "statement", ["UPDATE records SET name = 'x' WHERE kind = 'generation'", "UPDATE records SET content = x'00'"]
)
def test_renamed_rows_and_other_types_are_named(path: Path, statement: str) -> None:
    alter(path, statement)
    with Store.open(path) as store, pytest.raises(StoreError, match="checksum of generation"):
        store.generations()


@pytest.mark.parametrize("way", [Store.open, Store.view])
def test_a_row_that_became_of_another_kind_is_not_overlooked(path: Path, way) -> None:
    """One flipped bit hides a score from whoever asks for scores."""
    alter(path, "UPDATE records SET kind = 'rcore' WHERE name = 'candidate/0000/0001'")
    with way(path) as store, pytest.raises(StoreError, match="checksum of rcore 'candidate/0000/0001'"):
        store.scores()


@pytest.mark.parametrize("lost", ["records", "sqlite_autoindex_records_1"])
def test_a_row_that_only_the_index_or_only_the_table_has_is_missed(path: Path, lost: str) -> None:
    cut_last_row(path, lost)
    with pytest.raises(StoreError, match=r"damaged \([A-Z]"):
        read_all(path)
    with Store.view(path) as store, pytest.raises(StoreError, match=r"damaged \(.* records can be read\)"):
        store.scores()


def cut_last_row(path: Path, name: str) -> None:
    """Lower the number of cells of a page, at offset 3 of its header, as damage may: its last row is then not there."""
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    data = bytearray(path.read_bytes())
    place = size * (root - 1) + 3
    cells = int.from_bytes(data[place : place + 2], "big")
    assert cells == 4
    data[place : place + 2] = (cells - 1).to_bytes(2, "big")
    path.write_bytes(data)


def test_a_missing_generation_is_named(path: Path) -> None:
    with Store.open(path) as store:
        store.record_generation(2, GENOTYPES)
        with pytest.raises(StoreError, match="lacks generation 1; the file was altered"):
            store.generations()


def test_a_row_of_another_form_is_named(path: Path) -> None:
    with Store.open(path) as store:
        store._insert("score", "candidate/0000/0002", {"request": {}})
        with pytest.raises(StoreError, match=r"score 'candidate/0000/0002' in .* unexpected form \(KeyError"):
            store.scores()


@pytest.mark.parametrize("size", [0, 10, 100, 5000, 9000])
def test_a_truncated_file_is_one_clear_line(path: Path, size: int) -> None:
    data = path.read_bytes()
    assert len(data) > size
    path.write_bytes(data[:size])
    with pytest.raises(StoreError, match=r"damaged \(|not an evospike run record") as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_damage_inside_the_file_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for start in range(4096, len(data), 512):
        data[start : start + 64] = b"\xff" * 64
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match="damaged"):
        read_all(path)


def read_all(path: Path) -> None:
    with Store.open(path) as store:
        store.digest()


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run record at"):
        Store.open(tmp_path / "absent")
    (tmp_path / "text").write_text("hello, this is no database at all")
    with pytest.raises(StoreError, match="damaged"):
        Store.open(tmp_path / "text")
    alter(tmp_path / "other", "CREATE TABLE meta (name, value)")
    with pytest.raises(StoreError, match="is not an evospike run record"):
        Store.open(tmp_path / "other")


def test_an_unknown_format_names_the_way_out(path: Path) -> None:
    alter(path, "UPDATE meta SET value = '99' WHERE name = 'format'")
    with pytest.raises(StoreError, match=r"format 99, this evospike reads format 1; go on with the evospike version"):
        Store.open(path)


def test_create_refuses_to_overwrite_and_open_or_create_does_not(path: Path) -> None:
    with pytest.raises(StoreError, match="exists already"):
        Store.create(path)
    with Store.open_or_create(path) as store:
        assert len(store.scores()) == 2
    with Store.open_or_create(path.parent / "new") as store:
        assert store.scores() == []


def super_journal(path: Path, victim: Path) -> None:
    """A journal of a transaction over two databases, of which the second is to be taken back: SQLite rolls it back and
    deletes the file that it names."""
    magic, data = bytes.fromhex("d9d505f920a163d7"), path.read_bytes()
    (page,) = struct.unpack(">H", data[16:18])
    name = str(victim.absolute()).encode()
    header = magic + struct.pack(">IIIII", 0, 0, len(data) // page, 512, page)
    mark = struct.pack(">I", 0x40000000 // page + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    path.with_name(f"{path.name}-journal").write_bytes(header.ljust(512, b"\0") + mark)


@pytest.mark.parametrize("way", [Store.open, Store.view, Store.open_or_create])
def test_a_journal_that_names_a_file_to_be_deleted_is_refused(path: Path, tmp_path: Path, way) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("not of this run")
    super_journal(path, victim)
    with pytest.raises(StoreError, match=r"record\.sqlite-journal names another file to be deleted"):
        way(path)
    assert victim.read_text() == "not of this run"


@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_nothing_is_followed_or_waited_for(path: Path, tmp_path: Path, ending: str, kind: str) -> None:
    file, elsewhere = path.with_name(path.name + ending), tmp_path / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    file.unlink(missing_ok=True)
    file.symlink_to(elsewhere) if kind == "link" else os.mkfifo(file)
    for way in (Store.open, Store.view):
        with pytest.raises(StoreError, match=r"is a link or no plain file|no run record at"):
            way(path)


def test_a_write_ahead_log_is_refused(path: Path) -> None:
    alter(path, "PRAGMA journal_mode=WAL")
    for way in (Store.open, Store.view):
        with pytest.raises(StoreError, match="asks for a write-ahead log"):
            way(path)


@pytest.mark.parametrize(
    ("what", "statement"),
    [
        (
            "trigger 'other'",
            "CREATE TRIGGER other BEFORE INSERT ON records BEGIN SELECT count(*) FROM "
            "(WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r); END",
        ),
        ("table 'other'", "CREATE TABLE other (a)"),
        ("view 'other'", "CREATE VIEW other AS SELECT * FROM records"),
        ("index 'other'", "CREATE INDEX other ON records (length(hex(zeroblob(length(name)))))"),
        ("table 'sqlite_stat1'", "ANALYZE"),
    ],
)
def test_what_evospike_never_writes_is_refused(path: Path, what: str, statement: str) -> None:
    alter(path, statement)
    for way in (Store.open, Store.view):
        with pytest.raises(StoreError, match=f"holds what evospike never writes: {what}"):
            way(path)


@pytest.mark.parametrize("change", ["DROP TABLE records", "ALTER TABLE records ADD COLUMN more AS (length(name))"])
def test_tables_of_another_form_are_no_record(path: Path, change: str) -> None:
    alter(path, change)
    with pytest.raises(StoreError, match="is not an evospike run record"):
        Store.open(path)


def resealed(path: Path, content: str, kind: str = "value") -> None:
    """Give a row other contents with the checksum that belongs to them."""
    with closing(sqlite3.connect(path)) as connection:
        for name in [name for (name,) in connection.execute("SELECT name FROM records WHERE kind = ?", (kind,))][:1]:
            row = (content, digest_json([kind, name, content]), kind, name)
            connection.execute("UPDATE records SET content = ?, checksum = ? WHERE kind = ? AND name = ?", row)
        connection.commit()


@pytest.mark.parametrize("content", ["[" * 100_000 + "]" * 100_000, "1" * 5000, "[NaN]", "1e999", "", "{"])
def test_sealed_contents_that_are_no_json_of_ours_are_named(path: Path, content: str) -> None:
    resealed(path, content)
    with Store.view(path) as store, pytest.raises(StoreError, match=r"value 'proxy' in .* unexpected form"):
        store.values()


@pytest.mark.parametrize(
    "change", [{"attempts": "1"}, {"attempts": -1}, {"attempts": True}, {"request": request(1).to_json()}]
)
def test_sealed_scores_of_another_form_are_named(path: Path, change: dict) -> None:
    content = {"request": request(0).to_json(), "score": score(0).to_json(), "attempts": 1}
    resealed(path, json.dumps(content | change), "score")
    with Store.view(path) as store, pytest.raises(StoreError, match=r"score 'candidate/0000/0000' in .* unexpected"):
        store.scores()


def test_pages_that_are_read_again_and_again_have_an_end(path: Path) -> None:
    """Trees whose pages have one child many times over hold more rows than there is time for."""
    with Store.open(path) as store:
        for number in range(400):
            store.record_value(f"{number:03d}", "x" * 100)
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'records'").fetchone()
    data = bytearray(path.read_bytes())
    start = size * (root - 1)
    assert data[start] == 5  # an interior page
    (cells,) = struct.unpack(">H", data[start + 3 : start + 5])
    places = struct.unpack(f">{cells}H", data[start + 12 : start + 12 + 2 * cells])
    child = struct.unpack(">I", data[start + places[0] : start + places[0] + 4])[0]
    for level in range(6):  # further pages of the tree at the end of the file, each with the one before in all cells
        page = bytearray(size)
        count = (size - 100) // 10
        page[:12] = struct.pack(">BHHHBI", 5, 0, count, size - 8 * count & 0xFFFF, 0, child)
        for cell in range(count):
            at = size - 8 * (cell + 1)
            page[12 + 2 * cell : 14 + 2 * cell] = struct.pack(">H", at)
            page[at : at + 5] = struct.pack(">IB", child, level + 1)
        data += page
        child = len(data) // size
    data[start + 8 : start + 12] = struct.pack(">I", child)
    data[28:32] = struct.pack(">I", len(data) // size)
    path.write_bytes(bytes(data))
    started = time.process_time()
    with Store.view(path) as store, pytest.raises(StoreError, match="than its size explains"):
        store.values()
    assert time.process_time() - started < 10
    with pytest.raises(StoreError, match="damaged"):
        Store.open(path)


def test_a_record_that_would_not_fit_into_memory_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(path) as store:
        store.record_value("large", "x" * 1_000_000)
    monkeypatch.setenv("EVOSPIKE_MEMORY", "20MB")
    for way in (Store.open, Store.view):
        with pytest.raises(StoreError, match=r"reading .* would take about .* of memory"):
            way(path)


def test_a_folder_that_cannot_be_made_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot create"):
        Store.create(tmp_path / "file" / "record")


def test_a_full_disk_leaves_what_was_recorded(path: Path) -> None:
    with Store.open(path) as store:
        before = store.digest()
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(RunError, match=r"no space left to write .*what was recorded is intact"):
            store.record_value("large", "x" * 100_000)
        assert store.digest() == before
    with Store.open(path) as store:
        assert store.digest() == before
        store.record_value("large", "x" * 100_000)


def test_a_locked_file_is_a_run_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evospike.evolution.database.WAIT_S", 0.05)
    with Store.open(path) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RunError, match="in use by another process"):
            store.record_value("more", 1)
        other.rollback()
        store.record_value("more", 1)


def test_others_may_read_while_the_driver_writes(path: Path) -> None:
    with Store.open(path) as writer, Store.open(path) as reader:
        writer.record_score(request(2), score(2))
        assert len(reader.scores()) == 3


def test_a_journal_left_by_a_crash_is_rolled_back(path: Path) -> None:
    with Store.open(path) as store:
        before = store.digest()
    subprocess.run([sys.executable, "-c", CRASH_WHILE_WRITING, str(path)], check=False)
    assert path.with_name(f"{path.name}-journal").exists()
    with Store.open(path) as store:
        assert store.digest() == before


CRASH_WHILE_WRITING = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
for number in range(200):
    connection.execute("INSERT INTO records VALUES ('value', ?, ?, 'c')", (str(number), "x" * 500))
os._exit(9)
"""
