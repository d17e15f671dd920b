"""What the tests of survival share: runs small enough to be broken often, and the ways to break them.

Runs are started as a user starts them, by the command line in processes of their own, and read from their folders.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import evospike
from evospike.cli.main import main

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as under nohup; runs that the tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

HERE = Path(__file__).parent
PATIENCE_S = 600.0

RECIPE = """
[data]
source = "digits"
train_limit = 200
test_limit = 60
validation = 0.2
[data.augment]
kind = "basic"
crop_padding = 1
flip = 0.0
[model]
preset = "small8"
steps = 2
channels = [4, 4, 8, 8]
[encoding]
genes = 4
skip_growing = false
[training]
epochs = 2
batch = 20
rate = 5e-3
warmup_epochs = 0.5
ema = 0.9
checkpoint_minutes = 0.0  # one after every step, so that faults fall into the writing of them
[evolution]
population = 4
generations = 2
proxy_epochs = 1
proxy_samples = 80
finalists = 1
finalist_seeds = 2
start_mean = 0.0
start_step = 0.2
[final]
arms = ["genetic", "dense"]
[space]
cells = 4
channels = 2
[search]
population = 4
offspring = 4
generations = 2
finalists = 2
finalist_seeds = 2
[dissimilarity]
batch = 20
[scoring]
samples = 80
[run]
device = "cpu"
path = "eager"
"""


@dataclass(frozen=True)
class Case:
    """A kind of run: its command and the settings it adds to the recipe."""

    name: str
    verb: str
    settings: tuple[str, ...] = ()

    def arguments(self, recipe: Path, *more: object) -> list[str]:
        sets = [part for setting in self.settings for part in ("--set", setting)]
        return [self.verb, str(recipe), *sets, *map(str, more)]


CASES = {
    case.name: case
    for case in (
        Case("evolve", "evolve", ("sparse.density=0.3",)),
        Case("search", "search"),
        Case("structure", "train", ("sparse.density=0.2", 'encoding.kind="dense"', 'final.arms=["sparse","one-shot"]')),
        Case("train", "train", ("sparse.density=0.3", 'final.arms=["genetic"]')),
    )
}
"""Evolution and the training of sparse genetic networks; a search; structure learning and its control, side by side;
one training of a sparse genetic network, which the driver does itself."""

STEADY_CASES = {
    case.name: case
    for case in (
        Case("steady evolve", "evolve", ("evolution.in_flight=3", 'final.arms=["genetic"]', "training.epochs=1")),
        Case("steady search", "search", ("search.in_flight=3",)),
    )
}
"""The same with a record that depends on what arrives first."""


@dataclass(frozen=True)
class Outcome:
    """What two equal runs share."""

    digest: str
    weights: Mapping[str, str]
    records: tuple[str, ...]


class Runs:
    """Starts runs, and reads what they leave."""

    def __init__(self, recipe: Path) -> None:
        self.recipe = recipe
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: object, env: Mapping[str, str] | None = None, program: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """Start a command; program: what is run instead of the command line itself."""
        command = [sys.executable, *(program or ("-m", "evospike.cli.main")), *map(str, arguments)]
        whole = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=whole)
        self._started.append(process)
        return process

    def end_all(self) -> None:
        """End what a test has left running."""
        for process in self._started:
            process.kill()
            with process:
                pass
        self._started.clear()

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str, str]:
        """Wait for a command: exit code, output and errors."""
        out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, err

    def do(self, *arguments: object, env: Mapping[str, str] | None = None) -> str:
        """Run a command that must work, and give its output."""
        code, out, err = self.finish(self.start(*arguments, env=env))
        assert code == 0, err
        return out

    def outcome(self, run: Path) -> Outcome:
        """What a finished run left."""
        document = json.loads((run / "result.json").read_text(encoding="utf-8"))
        weights = {
            path.parent.name: hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
            for path in sorted(run.glob("final/*/weights.safetensors"))
        }
        return Outcome(document["digest"], weights, self.recorded(run))

    def recorded(self, run: Path) -> tuple[str, ...]:
        """Kind and name of every row of a run's record, one that was cut off in the middle of a write included."""
        path = run / "study.sqlite"
        if not path.exists():
            return ()
        copy = run.parent / f"{run.name}-copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for part in run.glob("study.sqlite*"):  # with the journal, so that reading it rolls back what was not finished
            shutil.copy(part, copy / part.name)
        with closing(sqlite3.connect(copy / path.name)) as connection:
            rows = connection.execute("SELECT kind, name FROM records ORDER BY kind, name").fetchall()
        return tuple(f"{kind} {name}" for kind, name in rows)

    def progress(self, run: Path) -> tuple[int, int]:
        """How far a run is, in countable steps: transactions of its record, and steps and results of trainings."""
        final = run / "final"
        folders = list(final.iterdir()) if final.is_dir() else []
        return _transactions(run / "study.sqlite"), sum(_trained(folder) for folder in folders)


def _transactions(record: Path) -> int:
    """SQLite counts the transactions of a file in the four bytes at offset 24 of its header."""
    try:
        with open(record, "rb") as file:
            file.seek(24)
            return int.from_bytes(file.read(4), "big")
    except OSError:
        return 0


def _trained(folder: Path) -> int:
    steps = [int(path.name[5:14]) for path in folder.glob("step-*.state.safetensors")]
    return max(steps, default=0) + (folder / "result.json").exists()


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOSPIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(evospike.__file__).parents[1]))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("survival") / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def runs(recipe: Path) -> Iterator[Runs]:
    runs = Runs(recipe)
    yield runs
    runs.end_all()


@pytest.fixture(scope="session")
def unbroken(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an unbroken run of a case with one worker; made once, in this process."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("unbroken") / name
            assert main(CASES[name].arguments(recipe, "-o", made[name], "--quiet")) == 0
        return made[name]

    return make


@pytest.fixture
def cases() -> Mapping[str, Case]:
    return CASES


@pytest.fixture(params=STEADY_CASES.values(), ids=STEADY_CASES.keys())
def steady_case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Environment of a process in which calls to the operating system go wrong; see `faults.c`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("faults are put between a process and its C library on Linux, with a C compiler")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "faults.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)

    def environment(folder: Path | None = None, kind: str = "none", at: int = 0, gate: Path | None = None) -> Any:
        found = {"LD_PRELOAD": str(library), "FAULTS_KIND": kind, "FAULTS_AT": str(at)}
        found |= {} if folder is None else {"FAULTS_FOLDER": str(folder)}
        return found if gate is None else {**found, "FAULTS_GATE": str(gate)}

    return environment


@pytest.fixture
def evospike_command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, output and errors. Whatever it does not expect is raised here."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def complaint() -> Callable[[str], str]:
    """The one line in which a command said why it stopped; notices and progress aside."""

    def read(err: str) -> str:
        assert "Traceback" not in err, err
        (line,) = [line for line in err.strip().splitlines() if line.startswith("evospike: ")]
        return line

    return read


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for something, as long as a busy machine may need for it."""

    def wait(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
        last = time.monotonic() + PATIENCE_S
        while not condition():
            assert process is None or process.poll() is None, process.communicate()
            assert time.monotonic() < last
            time.sleep(0.01)

    return wait


@pytest.fixture
def workers_of() -> Callable[[int], list[int]]:
    """Worker processes of a driver that are still there; on Linux, elsewhere none can be found."""

    def find(driver: int) -> list[int]:
        return [pid for pid, arguments in _processes() if _is_worker_of(arguments, driver)]

    return find


def _is_worker_of(arguments: Sequence[str], driver: int) -> bool:
    return str(driver) in arguments and any("executors.worker" in argument for argument in arguments)


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Every process that is not dead yet, with its arguments."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[:1] == ["Z"]
        except OSError:
            continue
        if not zombie:
            yield int(entry.name), arguments
