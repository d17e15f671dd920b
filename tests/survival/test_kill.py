"""Line 1: killed with SIGKILL at random moments, a run ends as if it had not been.

A round is one run, killed up to three times and then left to finish. A moment is a point of the run's progress
(transactions of the record, checkpointed steps, results) plus a random delay, so that a seed aims at the same moments
on any machine.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEED = 0
KILLS_PER_ROUND = 3
LONGEST_DELAY_S = 0.05
MOST_TRIES = 5
IN_THE_GATE = ("search", "train", "steady search")
"""Cases that are killed once in the gate: a record in workers, and the training of a sparse network."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds workers of a dead driver in /proc"),
]

Moment = tuple[int, int, float]
"""Phase (0: the search or evolution, 1: the trainings), the progress in it that is waited for, the delay after that."""


@dataclass
class Tally:
    """What one case came to. differences: a line for everything that is not as in the unbroken run."""

    kills: Counter[int] = field(default_factory=Counter)
    rounds: int = 0
    orphans: int = 0
    repeated_scores: int = 0
    repeated_steps: int = 0
    differences: list[str] = field(default_factory=list)


def moments(kills: int, ends: tuple[int, int], seed: int) -> list[list[Moment]]:
    """Rounds of moments in the order of the run; kills take turns between the phases that the run has."""
    chance = random.Random(seed)
    phases = [phase for phase, end in enumerate(ends) if end > 1]
    drawn: list[Moment] = []
    for number in range(kills):
        phase = phases[number % len(phases)]
        drawn.append((phase, chance.randint(1, ends[phase] - 1), chance.uniform(0, LONGEST_DELAY_S)))
    return [sorted(drawn[i : i + KILLS_PER_ROUND]) for i in range(0, kills, KILLS_PER_ROUND)]


def test_moments_are_seeded_and_take_turns() -> None:
    rounds = moments(20, (15, 34), seed=4)
    assert rounds == moments(20, (15, 34), seed=4)
    assert rounds != moments(20, (15, 34), seed=5)
    flat = [moment for one in rounds for moment in one]
    assert Counter(phase for phase, _, _ in flat) == {0: 10, 1: 10}
    assert all(1 <= target < (15, 34)[phase] for phase, target, _ in flat)
    assert {phase for one in moments(6, (0, 9), seed=4) for phase, _, _ in one} == {1}


def test_killed_at_any_moment_a_run_ends_as_the_unbroken_one(
    case, runs, unbroken: Callable[[str], Path], workers_of: Callable[[int], list[int]], soak, tmp_path: Path
) -> None:
    if not (kills := soak.count(int(case.name in IN_THE_GATE), 25)):
        pytest.skip("at full length only")
    reference = unbroken(case.name)
    workers, ends, wanted = soak.count(1, 2), runs.progress(reference), runs.outcome(reference)
    tally = played(case, runs, workers_of, tmp_path, workers, kills, ends, lambda run: wanted)
    soak.figure("survival 1", f"{case.name}: kills", tally.kills.total())
    soak.figure("survival 1", f"{case.name}: rounds equal to the unbroken run", f"{tally.rounds} of {tally.rounds}")
    soak.figure("survival 1", f"{case.name}: evaluations repeated, at most {workers} a kill", tally.repeated_scores)
    soak.figure("survival 1", f"{case.name}: training steps repeated, at most {workers} a kill", tally.repeated_steps)
    soak.figure("survival 1", f"{case.name}: workers that outlived their driver", tally.orphans)


def test_killed_in_a_steady_state_a_run_ends_as_its_unbroken_replay(
    steady_case, runs, workers_of: Callable[[int], list[int]], soak, tmp_path: Path
) -> None:
    """The order in which scores arrive is chance, also without a kill; followed again, it gives the same again."""
    name = steady_case.name
    if not (kills := soak.count(int(name in IN_THE_GATE), 25)):
        pytest.skip("at full length only")
    workers, transactions = soak.count(1, 2), 10  # that it has at the least

    def replayed(run: Path):
        again = run.with_name(f"{run.name}-again")
        assert json.loads(runs.do("replay", run, "-o", again, "--quiet", "--json"))["replay"]["same"] is True
        return runs.outcome(again)

    tally = played(steady_case, runs, workers_of, tmp_path, workers, kills, (transactions, 0), replayed)
    soak.figure("survival 1", f"{name}: kills", tally.kills.total())
    soak.figure("survival 1", f"{name}: rounds equal to their unbroken replay", tally.rounds)
    soak.figure("survival 1", f"{name}: workers that outlived their driver", tally.orphans)


def played(
    case,
    runs,
    workers_of: Callable[[int], list[int]],
    folder: Path,
    workers: int,
    kills: int,
    ends: tuple[int, int],
    wanted,
) -> Tally:
    """As many rounds of a case as it takes to kill it so often, since a run may be over before its moment.

    wanted: gives the outcome that the run of a round must have.
    """
    tally = Tally()
    for seed in range(SEED, SEED + MOST_TRIES):
        for number, aims in enumerate(moments(kills - tally.kills.total(), ends, seed)):
            Round(runs, folder / f"round-{seed}-{number}", workers_of, tally, workers).play(case, aims, wanted)
    assert tally.differences == []
    assert tally.orphans == 0
    assert tally.kills.total() == kills
    return tally


class Round:
    """One run that is killed, and what it does again because of that."""

    def __init__(self, runs, run: Path, workers_of: Callable[[int], list[int]], tally: Tally, workers: int) -> None:
        self.runs, self.run, self.tally, self.workers = runs, run, tally, workers
        self.log = run.with_suffix(".log")
        self.log.touch()
        self.workers_of = workers_of

    def play(self, case, aims: list[Moment], wanted) -> None:
        """Kill it at its moments and let it end."""
        process = self.start(*case.arguments(self.runs.recipe, "-o", self.run, "--workers", self.workers))
        for aim in aims:
            seen = self.log.read_text().splitlines()
            if not self.killed(process, aim):
                break
            self.check_sitting(seen)
            process = self.start("resume", self.run, "--workers", self.workers)
        seen = self.log.read_text().splitlines()
        code, _, err = self.runs.finish(process)
        assert code == 0, err
        self.check_sitting(seen)
        self.check_end(wanted(self.run))

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        self.known = set(self.runs.recorded(self.run))
        return self.runs.start(*arguments, "--quiet", program=(str(HERE / "counted.py"), str(self.log)))

    def killed(self, process: subprocess.Popen[str], aim: Moment) -> bool:
        """Kill the driver, and only the driver, at a moment; False when it ended before."""
        phase, target, delay = aim
        while self.runs.progress(self.run)[phase] < target:
            if process.poll() is not None:
                return False
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.wait()
        if process.returncode >= 0:
            return False
        process.communicate()
        self.tally.kills[phase] += 1
        self.tally.orphans += self.outlived(process.pid)
        return True

    def outlived(self, driver: int, patience_s: float = 10.0) -> int:
        """How many workers are there some seconds after their driver died."""
        last = time.monotonic() + patience_s
        while (left := self.workers_of(driver)) and time.monotonic() < last:
            time.sleep(0.05)
        return len(left)

    def check_sitting(self, seen: list[str]) -> None:
        """A sitting scores nothing that was recorded before it, and leaves no more unrecorded than it has workers."""
        begun = [line.removeprefix("score ") for line in self.new(seen) if line.startswith("score ")]
        if again := [name for name in begun if f"score {name}" in self.known]:
            self.tally.differences.append(f"{self.run.name}: scored again although recorded: {again}")
        lost = set(begun) - {row.removeprefix("score ") for row in self.runs.recorded(self.run)}
        if len(lost) > self.workers:
            self.tally.differences.append(f"{self.run.name}: {len(lost)} evaluations lost, {self.workers} in flight")

    def new(self, seen: list[str]) -> list[str]:
        return self.log.read_text().splitlines()[len(seen) :]

    def check_end(self, wanted) -> None:
        found = self.runs.outcome(self.run)
        if found != wanted:
            self.tally.differences.append(f"{self.run.name}: {found}, unbroken {wanted}")
        if len(set(found.records)) != len(found.records):
            self.tally.differences.append(f"{self.run.name}: records are there twice")
        self.tally.rounds += 1
        lines = Counter(self.log.read_text().splitlines())
        again = Counter(line.split()[0] for line, count in lines.items() for _ in range(count - 1))
        self.tally.repeated_scores += again["score"]
        self.tally.repeated_steps += again["step"]
        most = self.tally.kills.total() * self.workers
        if max(self.tally.repeated_scores, self.tally.repeated_steps) > most:
            self.tally.differences.append(f"{self.run.name}: more is repeated than was in flight: {again}")
        if leftovers := [path.name for path in self.run.glob("final/*/.*.tmp")]:
            self.tally.differences.append(f"{self.run.name}: left behind: {leftovers}")
