"""Kills runs with SIGKILL at random moments, resumes them, and compares with a run that was never killed.

    python benchmarks/soak_kill.py --kills 20

Uses the public command line only. A round is one run, killed up to three times and then left to finish; kills take
turns between evolution and final training. A moment is a point of the run's progress (transactions of the record,
checkpointed steps, results) plus a random delay, so that the same seed aims at the same moments on any machine. The
figures: kills and their moments, and for every round whether digest, weights and records equal those of the unbroken
run and whether a worker outlived its driver. Exit code 1 when any differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = [sys.executable, "-m", "evospike.cli.main"]
KILLS_PER_ROUND = 3
LONGEST_DELAY_S = 0.05
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
checkpoint_minutes = 0.0  # one after every step, so that kills fall into the writing of them
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
[run]
device = "cpu"
path = "eager"
"""


@dataclass(frozen=True)
class Outcome:
    """What two equal runs share."""

    digest: str
    weights: dict[str, str]
    records: int
    unique_records: int


@dataclass(frozen=True)
class Kill:
    """One kill: the progress it waited for, the delay after that, what was there when it struck."""

    phase: str
    target: int
    delay_s: float
    found: int


@dataclass
class Figures:
    """What the soak found; `differences` has a line for everything that is not as it must be."""

    reference: Outcome
    total: int
    kills: list[Kill] = field(default_factory=list)
    rounds: int = 0
    missed: int = 0
    orphans: int = 0
    equal: int = 0
    differences: list[str] = field(default_factory=list)


def progress(run: Path) -> tuple[int, int]:
    """How far a run is, in countable steps: (of the evolution, of the final trainings)."""
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


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start a command that prints its document to a pipe; its progress goes nowhere."""
    command = [*COMMAND, *arguments, "--json", "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen[str], run: Path) -> Outcome:
    """Wait for a run's end and read what it left. Raises: RuntimeError when it failed."""
    printed, _ = process.communicate(timeout=PATIENCE_S)
    if process.returncode:
        raise RuntimeError(f"a run ended with code {process.returncode}; its folder is {run}")
    with closing(sqlite3.connect(f"{run.as_uri()}/study.sqlite?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT kind, name FROM records").fetchall()
    weights = {
        path.parent.name: hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        for path in sorted(run.glob("final/*/weights.safetensors"))
    }
    return Outcome(json.loads(printed)["digest"], weights, len(rows), len(set(rows)))


def kill_at(process: subprocess.Popen[str], run: Path, moment: tuple[str, int, float]) -> Kill | None:
    """Kill a driver, and only the driver, once the run has come that far; None when it ended before."""
    phase, target, delay = moment
    while _reached(run, phase) < target:
        if process.poll() is not None:
            return None
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    process.communicate()
    return Kill(phase, target, delay, _reached(run, phase)) if process.returncode < 0 else None


def _reached(run: Path, phase: str) -> int:
    evolved, trained = progress(run)
    return evolved if phase == "evolution" else trained


def workers_of(driver: int) -> list[int]:
    """Worker processes of a driver that are still there; on Linux, elsewhere none can be found."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            zombie = (entry / "stat").read_text().rpartition(")")[2].split()[:1] == ["Z"]
        except OSError:
            continue
        if not zombie and any("executors.worker" in argument for argument in arguments) and str(driver) in arguments:
            found.append(int(entry.name))
    return found


def outlived(driver: int, patience_s: float = 10.0) -> int:
    """How many workers are there some seconds after their driver died."""
    until = time.monotonic() + patience_s
    while (left := workers_of(driver)) and time.monotonic() < until:
        time.sleep(0.1)
    return len(left)


def moments(kills: int, ends: tuple[int, int], seed: int) -> list[list[tuple[str, int, float]]]:
    """Rounds of moments in the order of the run: even kills in the evolution, odd ones in the final training."""
    chance = random.Random(seed)
    evolution_end, final_end = ends
    drawn: list[tuple[str, int, float]] = []
    for number in range(kills):
        phase, end = (("evolution", evolution_end), ("final", final_end))[number % 2]
        drawn.append((phase, chance.randint(1, end - 1), chance.uniform(0, LONGEST_DELAY_S)))
    rounds = [drawn[i : i + KILLS_PER_ROUND] for i in range(0, kills, KILLS_PER_ROUND)]
    return [sorted(one) for one in rounds]


def soak(folder: Path, kills: int, seed: int = 0, workers: int = 2) -> Figures:
    """Run once unbroken, then in rounds with kills; every round must end as the unbroken run did."""
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "soak.toml"
    recipe.write_text(RECIPE)
    options = ["evolve", str(recipe), "--workers", str(workers), "-o"]
    reference = finish(start([*options, str(folder / "unbroken")]), folder / "unbroken")
    ends = progress(folder / "unbroken")
    figures = Figures(reference, sum(ends))
    for number, aims in enumerate(moments(kills, ends, seed)):
        run = folder / f"round-{number}"
        process = start([*options, str(run)])
        for aim in aims:
            struck = kill_at(process, run, aim)
            if struck is None:
                figures.missed += 1
                break
            figures.kills.append(struck)
            figures.orphans += outlived(process.pid)
            process = start(["resume", str(run)])
        _compare(figures, number, _end(process, run))
    return figures


def _end(process: subprocess.Popen[str], run: Path) -> Outcome:
    """The run's outcome; one that ended before it could be killed prints it when it is resumed."""
    if process.poll() is not None:
        process.communicate()
        process = start(["resume", str(run)])
    return finish(process, run)


def _compare(figures: Figures, number: int, outcome: Outcome) -> None:
    found = list(_differences(figures.reference, outcome))
    figures.rounds += 1
    figures.equal += not found
    figures.differences += [f"round {number}: {line}" for line in found]


def _differences(wanted: Outcome, found: Outcome) -> Iterator[str]:
    if found.digest != wanted.digest:
        yield f"digest {found.digest}, unbroken {wanted.digest}"
    if found.weights != wanted.weights:
        yield f"weights {found.weights}, unbroken {wanted.weights}"
    if found.records != found.unique_records:
        yield f"{found.records - found.unique_records} records are there twice"
    if found.records != wanted.records:
        yield f"{found.records} records, unbroken {wanted.records}"


def report(figures: Figures, seconds: float) -> str:
    """The figures as lines of text."""
    lines = [f"unbroken run: digest {figures.reference.digest}, {figures.total} countable steps"]
    lines += [
        f"kill {i}: {kill.phase} at {kill.found} (aimed at {kill.target} + {kill.delay_s:.2f} s)"
        for i, kill in enumerate(figures.kills, 1)
    ]
    in_evolution = sum(kill.phase == "evolution" for kill in figures.kills)
    lines += [
        f"kills: {len(figures.kills)}, {in_evolution} of them in the evolution, the others in the final training",
        f"aims missed because the run was over: {figures.missed}",
        f"rounds equal to the unbroken run, bit for bit: {figures.equal} of {figures.rounds}",
        f"workers that outlived their driver: {figures.orphans}",
        f"seconds: {seconds:.0f}",
    ]
    return "\n".join([*lines, *figures.differences])


def main() -> int:
    """Soak and print; 1 when anything differs."""
    parser = argparse.ArgumentParser(description="kill and resume runs, compare with an unbroken one")
    parser.add_argument("--kills", type=int, default=20, help="how many kills (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of every run (default: 2)")
    parser.add_argument("--folder", help="keep the runs in this folder (default: a temporary one)")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        figures = soak(Path(arguments.folder or temporary), arguments.kills, arguments.seed, arguments.workers)
    print(report(figures, time.monotonic() - started))
    return 1 if figures.differences or figures.orphans else 0


if __name__ == "__main__":
    sys.exit(main())
