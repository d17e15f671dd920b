"""How long it takes to get going: the command itself, and from it to the first training step."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evospike.bench.case import LIMIT, OURS, Case, Circumstances, Contestant
from evospike.core.errors import RunError
from evospike.jobs.progress import PROGRESS

GROUP = "Start-up"
EVOSPIKE = (sys.executable, "-m", "evospike.cli.main")
"""The command `evospike`, as the interpreter of this process runs it."""

POLL_SECONDS = 0.005
LONGEST_SECONDS = 120.0
"""After which a command that has not come so far is given up."""


def help_text(circumstances: Circumstances) -> Iterator[Contestant]:
    """Seconds of whole processes."""
    yield Contestant("python -c pass", LIMIT, lambda: seconds_of([sys.executable, "-c", "pass"]))
    yield Contestant("evospike --help", OURS, lambda: seconds_of([*EVOSPIKE, "--help"]))


def seconds_of(command: Sequence[str]) -> float:
    """Wall time of a process, from its start to its end. Raises: RunError when it fails."""
    started = time.perf_counter()
    code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False).returncode
    seconds = time.perf_counter() - started
    if code != 0:
        raise RunError(f"'{' '.join(command)}' ended with exit code {code}; run it by hand to see why")
    return seconds


def first_step(circumstances: Circumstances) -> Iterator[Contestant]:
    """Seconds from the start of a command to the end of its first training step."""

    def measure() -> float:
        with tempfile.TemporaryDirectory(dir=circumstances.folder) as folder:
            run = Path(folder) / "run"
            return seconds_until(training_command(run, circumstances), lambda: has_stepped(run))

    name = "evospike train digits"
    yield Contestant(name, OURS, measure, {"options": "--arms genetic --seeds 1 --epochs 1"})


def training_command(run: Path, circumstances: Circumstances) -> list[str]:
    """A short job: one network on the digits, one epoch, in the process of the command."""
    options = ["--arms", "genetic", "--seeds", "1", "--epochs", "1", "--set", "training.warmup_epochs=0", "--quiet"]
    where = ["--threads", str(circumstances.threads), "--device", circumstances.device, "-o", str(run)]
    return [*EVOSPIKE, "train", "digits", *options, *where]


def has_stepped(run: Path) -> bool:
    """Whether a training of a run has finished a step: it notes its progress after the first one."""
    return any(run.glob(f"final/*/{PROGRESS}"))


def seconds_until(command: Sequence[str], reached: Callable[[], bool], longest: float = LONGEST_SECONDS) -> float:
    """Wall time from the start of a process until `reached` says so; then the process is ended.

    Raises: RunError when it ends before, or takes longer than `longest` seconds.
    """
    started = time.perf_counter()
    with _running(command) as process:
        while not reached():
            if process.poll() is not None and not reached():
                raise RunError(f"'{' '.join(command)}' ended (exit code {process.returncode}) before it got so far")
            if time.perf_counter() - started > longest:
                raise RunError(f"'{' '.join(command)}' did not get so far within {longest:g} s")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - started


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is asked to end, and after ten seconds killed, when the block is left."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


CASES: tuple[Case, ...] = (
    Case(
        "start-help",
        GROUP,
        "the command `evospike --help`, beside an interpreter that does nothing",
        "s",
        "",
        help_text,
        repeats=15,
        quick_repeats=5,
        warmup=1,
    ),
    Case(
        "start-first-step",
        GROUP,
        "from the start of `evospike train digits` (one network, one epoch) to the end of its first training step, as "
        "the run's own progress file tells",
        "s",
        "",
        first_step,
        repeats=5,
        quick_repeats=1,
        warmup=0,
    ),
)
