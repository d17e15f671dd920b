"""Records of runs that someone altered and sealed again, read by all that reads one: resume, report, watch,
export-study; and runs of which all is done but the result, resumed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import hostile_inputs as inputs
import pytest
import torch
from hostile_fuzz import refusing, throw
from hypothesis import strategies as st

import evospike.jobs.export_study as export_module
from evospike.core.errors import RunError
from evospike.core.files import digest_bytes, digest_json
from evospike.evolution.executors.base import Outcome
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.records import Score
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.recipe import read_recipe
from evospike.jobs.run_state import state_of
from evospike.jobs.scoring import opposites
from evospike.jobs.watch import render
from evospike.measure.settings import DissimilaritySettings, Distance, Weighting
from evospike.report.pages import make_page

SMALL = [
    *("data.train_limit=60", "data.test_limit=20", "data.validation=0.2", 'run.device="cpu"', 'run.path="eager"'),
    *("dissimilarity.batch=4", "dissimilarity.repeats=1", "rank.genomes=5", "rank.resamples=100", "space.cells=4"),
    *("search.seeds=1", "search.population=4", "search.offspring=4", "search.generations=2", "search.finalists=1"),
    *("search.finalist_seeds=2", "evolution.population=4", "evolution.generations=2", "evolution.proxy_epochs=1"),
    *("evolution.finalists=1", "evolution.finalist_seeds=2", "training.epochs=1", "model.steps=2"),
]
RUNS = {
    "search": ("search", "digits-search", []),
    "steady": ("search", "digits-search", ["search.in_flight=2"]),
    "rank": ("rank", "digits-search", []),
    "evolve": ("evolve", "digits", ["model.channels=[4,4]", "encoding.genes=2", "encoding.skip_growing=false"]),
}


FORMS = {
    distance if weighting == "edges" else f"{distance}, {weighting}": DissimilaritySettings(
        distance=distance, weighting=weighting
    )
    for distance in get_args(Distance)
    for weighting in get_args(Weighting)
}
TERMS = ("score", "parameters", "operations", "firing_rate", "spikes", "energy", "loss", "validation_loss", "accuracy")
TERMS += ("temporal", "entropy", "random")


def _scores(executor: LocalExecutor, payloads: Sequence[Any], check: Any = None) -> Iterator[tuple[int, Outcome]]:
    """In the place of workers: scores that follow from the place of a candidate alone."""
    index = 0
    while index < len(payloads):
        if "arm" in payloads[index]:
            _none()
        number = 1.0 + payloads[index]["index"] + payloads[index]["generation"] / 7
        forms = [*FORMS, *opposites(FORMS)]
        score = Score("ok", "", {name: number * (place + 1) for place, name in enumerate([*TERMS, *forms])}, 0.5)
        if index == 1:
            score = Score("silent", "it hardly fires", {"score": 0.0}, 0.5)
        yield index, Outcome(score.to_json())
        index += 1


def _none(*_: Any, **__: Any) -> Any:
    raise RunError("there is something left to compute")


@contextmanager
def _without_workers(run: Callable[..., Any]) -> Iterator[None]:
    """Nothing is computed: what workers and trainings are asked for is answered by `run`, or refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalExecutor, "run", run)
        patch.setattr("evospike.jobs.finals.train_arm", _none)
        patch.setattr("evospike.jobs.workshop.settle_process", lambda plan: None)
        yield


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunFolder]:
    """Runs with a whole record, by name; of an evolution, the trainings are left."""
    made: dict[str, RunFolder] = {}

    def make(name: str) -> RunFolder:
        if name not in made:
            verb, base, more = RUNS[name]
            recipe = read_recipe(base, [*SMALL, *more])
            run = create_run(verb, recipe, str(tmp_path_factory.mktemp(name) / "run"))
            with _without_workers(_scores), refusing():
                conduct(run, recipe, quiet=True)
            with Store.open(run.store_path) as store:
                assert len(store.scores()) >= 5
            made[name] = run
        return made[name]

    return make


def _resume(run: RunFolder) -> None:
    (run.path / "result.json").unlink(missing_ok=True)
    conduct(run, run.recipe, quiet=True)


def _export(run: RunFolder) -> None:
    if run.verb != "rank":
        export_module.export_study(run, "sqlite:///unused", quiet=True)


def _every_reader(path: Path) -> None:
    """Each may refuse what it is given."""
    for read in (lambda run: render(state_of(run)), make_page, _export, _resume):
        with refusing():
            read(open_run(path))


@contextmanager
def _in_memory(url: str) -> Iterator[Any]:
    from optuna.storages import InMemoryStorage

    yield InMemoryStorage()


STATEMENTS = (
    "CREATE TABLE more (a)",
    "CREATE VIEW more AS SELECT * FROM records",
    "CREATE INDEX more ON records (content)",
    "CREATE INDEX more ON records (length(hex(zeroblob(1000 + length(name)))))",
    "CREATE TRIGGER more BEFORE INSERT ON records BEGIN SELECT count(*) FROM (WITH RECURSIVE r(x) AS "
    "(SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT x FROM r); END",
    "CREATE TRIGGER more AFTER INSERT ON records BEGIN DELETE FROM records; END",
    "DROP TABLE meta",
    "DROP TABLE records",
    "ALTER TABLE records ADD COLUMN more AS (zeroblob(450000000))",
    "ALTER TABLE records RENAME TO other",
    "DELETE FROM meta",
    "UPDATE meta SET value = 10000000000",
    "UPDATE meta SET value = x'00ff'",
    "INSERT INTO meta VALUES ('more', 'x')",
    "DELETE FROM records WHERE kind = 'value'",
    "DELETE FROM records WHERE kind = 'generation'",
    "DELETE FROM records WHERE kind = 'told'",
    "DELETE FROM records WHERE kind = 'score' AND name LIKE 'finalist%'",
    "PRAGMA user_version = 7",
    "ANALYZE",
)
Row = tuple[str, str, str]


@st.composite
def databases(draw: inputs.Draw, sound: bytes) -> bytes:
    """A record in which rows are others, with right checksums, or the database itself is."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(sound)
        rows = connection.execute("SELECT kind, name, content FROM records ORDER BY kind, name").fetchall()
        for _ in range(draw(st.integers(0, 3))):
            _alter(draw, connection, rows[draw(st.integers(0, len(rows) - 1))])
        if draw(st.integers(0, 2)) == 0:  # last, or a trigger would act here
            connection.execute(draw(st.sampled_from(STATEMENTS)))
        connection.commit()
        return connection.serialize()


class _Database(bytes):
    """Shown in a failure in a few characters."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes of digest {digest_bytes(self)}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # what hypothesis asks for
        printer.text(repr(self))


def _databases(sound: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(inputs.damaged(sound), *[databases(sound)] * 4).map(_Database)


def _alter(draw: inputs.Draw, connection: sqlite3.Connection, row: Row) -> None:
    kind, name, content = row
    change = draw(st.integers(0, 7))
    if change == 0:
        statement, values = "DELETE FROM records WHERE kind = ? AND name = ?", (kind, name)
    elif change == 1:
        other = draw(st.sampled_from(["0001", "candidate/0000/0001", "winner", "00000001", "x\x1b[2J\n"]))
        statement = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)"
        values = (kind, other, content, digest_json([kind, other, content]))
    else:
        texts = [*filter(str.isprintable, inputs.TEXTS), "[" * 3000, "1" * 5000, "[NaN]", "1e999", "null", "{}", "[[]]"]
        if change == 2:
            text = draw(st.sampled_from(texts))
        else:
            text = inputs.json_text(inputs.altered(draw, json.loads(content))).decode()
        statement = "UPDATE records SET content = ?, checksum = ? WHERE kind = ? AND name = ?"
        values = (text, digest_json([kind, name, text]), kind, name)
    with suppress(UnicodeEncodeError):  # half of a character
        connection.execute(statement, values)


@pytest.mark.parametrize("name", RUNS)
def test_an_altered_record(
    name: str,
    recorded: Callable[[str], RunFolder],
    outside: Path,
    soak,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    made = recorded(name)
    shutil.copytree(made.path, outside / "run", ignore=shutil.ignore_patterns("*.lock*"))
    monkeypatch.setattr(export_module, "_storage", _in_memory)
    path, sound = outside / "run" / "study.sqlite", made.store_path.read_bytes()

    def read(data: bytes) -> None:
        for left in path.parent.glob("study.sqlite*"):
            left.unlink()
        path.write_bytes(data)
        _every_reader(path.parent)
        with refusing():
            Store.open(path).close()

    with _without_workers(_none):
        read(sound)
        tally = throw(soak.count(8, 10_000 // len(RUNS)), _databases(sound), read, shrink=False)
    assert tally.inputs >= soak.count(8, 10_000 // len(RUNS))
    tally.state(soak, f"record of {name}")


@pytest.mark.parametrize("name", RUNS)
def test_whoever_only_reads_opens_a_record_to_read_only(
    name: str, recorded: Callable[[str], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded(name)
    monkeypatch.setattr(Store, "open", lambda path: pytest.fail("it was opened to be written"))
    monkeypatch.setattr(export_module, "_storage", _in_memory)
    for read in (make_page, lambda run: render(state_of(run)), _export):
        read(run)


DOCUMENTS = {
    "run.json": None,
    "plan.json": None,
    "final/genetic-0/result.json": None,
    "final/genetic-0/connectivity.json": None,
    "nodes.json": {"differences": [{"fact": "torch", "here": "2.13", "there": "2.12", "host": "far"}]},
    "workers.json": [{"pid": 7, "doing": "waiting", "since": 1.7e9}],
}
"""What of a sparse training is altered, and what it holds where the run has none."""


def _sealed(value: Any) -> bytes:
    from test_documents import sealed

    return sealed(value)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_run_that_lacks_only_its_result_is_resumed(
    name: str, sparse: RunFolder, outside: Path, soak, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sparse.path, outside / "run", ignore=shutil.ignore_patterns("step-*", "*.lock*"))
    path, given = outside / "run" / name, DOCUMENTS[name]
    sound = path.read_bytes() if given is None else _sealed(given)
    document = json.loads(sound)
    threads = torch.get_num_threads()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        run = open_run(outside / "run")
        with refusing():
            make_page(run)
        _resume(run)

    with _without_workers(_none):
        read(sound)
        assert (outside / "run" / "result.json").is_file()
        strategy = st.one_of(inputs.damaged(sound), *[inputs.altered_json(document, _sealed)] * 4)
        tally = throw(soak.count(8, 1_000), strategy, read)
    assert tally.inputs >= soak.count(8, 1_000)
    assert torch.get_num_threads() == threads
    tally.state(soak, f"resume, {name}")
