"""A run whose training two processes share: its record, its end when one dies, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from evospike.cli.main import main
from evospike.core.files import read_json
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.results import describe, identity

EPOCHS = "training.epochs=8"
WITHIN_SECONDS = 60.0
PATIENCE_SECONDS = 600.0

LEARNS = (EPOCHS, "training.rate=2e-2", "final.arms=['dense']", "data.train_limit=400", "data.test_limit=300")
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
NOTICED_SOON = str(Path(__file__).parent / "noticed_soon.py")
SLOW_PHASE = str(Path(__file__).parents[1] / "survival" / "slow_phase.py")


def started(*arguments: str, program: Sequence[str] = ("-m", "evospike")) -> subprocess.Popen[str]:
    """evospike in two processes; its own session, so that none of it outlives the test."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*LAUNCH, *program, *arguments]
    return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)


def wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert path.exists()


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code and output; what still runs after the time limit is killed."""
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in ranks_of(process).values():
            os.kill(pid, signal.SIGKILL)
        process.kill()
        out, err = process.communicate()
    return process.returncode, out, err


def ranks_of(process: subprocess.Popen[str]) -> dict[int, int]:
    """Process numbers by rank, of the children that torchrun has."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return {rank: int(pid) for pid in children for rank in _rank(int(pid))}


def _rank(pid: int) -> Iterator[int]:
    for entry in Path(f"/proc/{pid}/environ").read_text().split("\0"):
        if entry.startswith("RANK="):
            yield int(entry.removeprefix("RANK="))


def said(err: str) -> list[str]:
    """What evospike wrote, without what torchrun did."""
    return [line for line in err.splitlines() if line.startswith(("evospike:", "notice:"))]


@pytest.fixture(scope="module")
def options(tiny_file: Path) -> list[str]:
    return [str(tiny_file), "--quiet", "--json", *(part for text in LEARNS for part in ("--set", text))]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> tuple[RunFolder, dict]:
    """A run in two processes from its start to its end, and the document that it printed."""
    path = tmp_path_factory.mktemp("runs") / "shared"
    code, out, err = ended(started("train", *options, "-o", str(path)))
    assert code == 0, err
    return open_run(path), json.loads(out)  # one document: only the first process prints


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny) -> tuple[RunFolder, dict]:
    recipe = tiny(*LEARNS)
    run = create_run("train", recipe, str(tmp_path_factory.mktemp("runs") / "alone"))
    return run, conduct(run, recipe, quiet=True)


def test_a_run_says_how_many_processes_trained_it(shared, alone) -> None:
    _, document = shared
    assert (document["processes"], document["bit_identical"], document["node_differences"]) == ([2], False, [])
    assert "not bit-identical to a run in one process, trained by 2 processes together" in describe(document)
    _, single = alone
    assert (single["processes"], single["bit_identical"]) == ([1], True)
    assert "bit-identical" not in describe(single)
    assert identity([], [1, 2])["bit_identical"] is False


def test_two_processes_learn_what_one_does(shared, alone) -> None:
    (run, document), (single_run, single) = shared, alone
    both = [read_json(folder.final_path("dense", 0) / "result.json") for folder in (run, single_run)]
    first = [result["history"][0] for result in both]
    assert first[0]["loss"] == pytest.approx(first[1]["loss"], rel=1e-3)
    assert [epoch["rate"] for epoch in both[0]["history"]] == [epoch["rate"] for epoch in both[1]["history"]]
    accuracy = single["test_accuracy"]
    assert accuracy > 0.3, "of ten classes"
    noise = 3 * (2 * accuracy * (1 - accuracy) / both[0]["test_samples"]) ** 0.5
    assert abs(document["test_accuracy"] - accuracy) < noise


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on_to_the_same_digest(
    shared, options: list[str], soak, tmp_path: Path, killed: int
) -> None:
    run = tmp_path / "run"
    process = started("train", *options, "-o", str(run), "--set", "training.checkpoint_minutes=0")
    wait_for(run / "final" / "dense-0" / "progress")
    pids = ranks_of(process)
    os.kill(pids[killed], signal.SIGKILL)
    at = time.monotonic()
    code, out, err = ended(process)
    assert time.monotonic() - at < WITHIN_SECONDS
    assert (code != 0, out) == (True, "")
    assert not (run / "result.json").exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    (line,) = said(err)
    assert "another process of this training ended or does not answer" in line
    assert line.startswith("evospike: " if killed == 1 else "notice: process 1 of 2: ")
    if killed in range(soak.count(1, 2)):
        goes_on_to_the_same_digest(run, shared[1])


def goes_on_to_the_same_digest(run: Path, document: dict) -> None:
    code, out, err = ended(started("resume", str(run), "--json", "--quiet"))
    assert code == 0, err
    assert json.loads(out)["digest"] == document["digest"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("phase", ["before the first step", "validating", "judging"])
def test_a_process_is_killed_between_the_steps(
    shared, options: list[str], soak, tmp_path: Path, phase: str, killed: int
) -> None:
    """While the others wait for it, or it for nobody; the first one judges alone."""
    if not soak.count(0, 1):
        pytest.skip("at full length only")
    run, mark = tmp_path / "run", tmp_path / "mark"
    process = started("train", *options, "-o", str(run), program=(SLOW_PHASE, phase, str(mark)))
    wait_for(mark)
    pids = ranks_of(process)
    os.kill(pids[killed], signal.SIGKILL)
    at = time.monotonic()
    code, out, _ = ended(process)
    seconds = time.monotonic() - at
    assert seconds < WITHIN_SECONDS
    soak.figure("survival 6", f"process {killed} of 2 killed {phase}: s to the end of all", round(seconds, 1))
    assert (code != 0, out) == (True, "")
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
    assert not (run / "result.json").exists()
    goes_on_to_the_same_digest(run, shared[1])


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("suspended", [0, 1])
def test_a_process_that_vanishes_without_a_word_is_missed_by_the_others(
    shared, options: list[str], soak, tmp_path: Path, suspended: int
) -> None:
    """A suspended process closes no connection, as a machine without power. In the gate it is missed sooner; at full
    length the first one judges meanwhile, for which the second would wait an hour.
    """
    if suspended not in range(2 - soak.count(1, 2), 2):
        pytest.skip("at full length only")
    patience, run, mark = soak.count(4, 45), tmp_path / "run", tmp_path / "mark"
    slow = soak.count(0, 1)
    program = (SLOW_PHASE, "judging", str(mark)) if slow else (NOTICED_SOON, str(patience))
    process = started("train", *options, "-o", str(run), program=program)
    wait_for(mark if slow else run / "final" / "dense-0" / "progress")
    pids = ranks_of(process)
    at = time.monotonic()
    os.kill(pids[suspended], signal.SIGSTOP)
    while not has_ended(pids[1 - suspended]):
        time.sleep(0.05)
        assert time.monotonic() - at < WITHIN_SECONDS
    seconds = time.monotonic() - at
    os.kill(pids[suspended], signal.SIGKILL)  # torchrun would, half a minute later
    code, out, err = ended(process)
    assert seconds > patience / 2
    soak.figure("survival 6", f"process {suspended} of 2 suspended: s to the end of the other", round(seconds, 1))
    assert (code != 0, out) == (True, "")
    line = f"another process of this training ended or does not answer (no sign of life from process {suspended} for "
    (told,) = said(err)
    assert told.startswith(("evospike: ", "notice: process 1 of 2: ")[1 - suspended] + line)
    if slow:
        goes_on_to_the_same_digest(run, shared[1])


def test_asked_to_stop_all_processes_stop_after_the_same_step_with_their_state_on_disk(
    options: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = started("train", *options, "-o", str(run), "--set", "training.epochs=400")
    wait_for(run / "final" / "dense-0" / "progress")
    process.terminate()
    _, out, err = ended(process)
    assert out == ""
    assert said(err) == [f"notice: stopped; what is done is on disk, go on under torchrun with: evospike resume {run}"]
    steps = [path.name for path in (run / "final" / "dense-0").glob("step-*.state.safetensors")]
    assert steps
    assert not (run / "run.lock").exists()


@pytest.mark.parametrize("verb", ["evolve", "search", "rank"])
def test_torchrun_is_refused_for_what_no_two_processes_share(
    verb: str, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, str(value))
        assert main([verb, str(tiny_file), "-o", str(tmp_path / "run")]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == (1 if rank == 0 else 0)
        assert not lines or lines[0].startswith(f"evospike: torchrun started 2 processes, but '{verb}' is for one")
    assert not (tmp_path / "run").exists()


def test_a_run_that_evolves_is_not_resumed_under_torchrun(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create_run("evolve", tiny(), str(tmp_path / "run"))
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert main(["resume", str(run.path)]) == 2
    assert "but 'evolve' is for one" in capsys.readouterr().err
