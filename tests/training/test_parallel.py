"""Two processes train as one does: equal gradients, losses, statistics and masks; they end together, too.

The two are started once, by torchrun on loopback, and go through all cases; this process does the same alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from evospike.core.errors import SettingsError
from evospike.core.files import load_tensors, read_json
from evospike.core.launch import Launch, check_launch, launched
from evospike.training.parallel import ALONE, joined

sys.path.insert(0, str(Path(__file__).parent))

import parallel_cases as cases

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote."""
    folder = tmp_path_factory.mktemp("together")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*LAUNCH, cases.__file__, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def written(folder: Path, name: str, rank: int) -> tuple[Mapping[str, torch.Tensor], list[float]]:
    return load_tensors(folder / f"{name}-{rank}.safetensors")[0], read_json(folder / f"{name}-{rank}.json")


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference as a share of the largest value."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    if one.numel() == 0 or not one.is_floating_point():
        return 0.0 if torch.equal(one, other) else 1.0
    return float((one - other).abs().max() / one.abs().max().clamp_min(1e-12))


@pytest.mark.parametrize("name", [name for name in cases.CASES if "precision" not in name])
def test_two_processes_take_the_steps_of_one(together: Path, name: str) -> None:
    tensors, losses = cases.work_through(ALONE, **cases.CASES[name])
    found, seen = written(together, name, 0)
    assert found.keys() == tensors.keys()
    gradients = [key for key in tensors if key.startswith("1 gradient")]
    assert gradients
    assert max(distance(tensors[key], found[key]) for key in gradients) < 1e-10
    assert any(tensors[key].abs().max() > 1e-3 for key in gradients)
    assert max((distance(tensors[key], found[key]), key) for key in tensors)[0] < 1e-7
    assert seen == pytest.approx(losses, rel=1e-9)
    assert len(set(losses[:3])) == 3


def test_in_single_precision_the_first_gradients_agree_to_its_rounding(together: Path) -> None:
    tensors, losses = cases.work_through(ALONE, **cases.CASES["single precision"])
    found, seen = written(together, "single precision", 0)
    for key in tensors:
        if key.startswith("1 gradient"):
            assert distance(tensors[key], found[key]) < 1e-3, key
    assert seen == pytest.approx(losses, rel=0.02)


def test_in_half_precision_the_losses_agree_to_its_rounding(together: Path) -> None:
    _, losses = cases.work_through(ALONE, **cases.CASES["half precision"])
    _, seen = written(together, "half precision", 0)
    assert seen[0] == pytest.approx(losses[0], rel=0.02)
    assert seen == pytest.approx(losses, rel=0.1)


@pytest.mark.parametrize("name", cases.CASES)
def test_both_processes_have_the_same_bits_after_every_step(together: Path, name: str) -> None:
    (first, seen), (second, seen_too) = written(together, name, 0), written(together, name, 1)
    assert first.keys() == second.keys()
    assert all(first[key].numpy().tobytes() == second[key].numpy().tobytes() for key in first)
    assert seen == seen_too


def test_the_sparse_cases_rewire(together: Path) -> None:
    """Else their masks would agree for nothing."""
    for name in ("sparse", "sparse, momentum", "sparse, adam", "sparse encodings"):
        before = cases.training(ALONE, **cases.CASES[name]).net.state_dict()
        after, _ = written(together, name, 0)
        masks = [key for key in before if key.endswith("mask")]
        assert masks
        assert any(not torch.equal(before[key], after[f"final {key}"]) for key in masks), name


def test_both_diverge_in_the_step_in_which_one_sees_what_is_not_finite(together: Path) -> None:
    alone = cases.outcome(cases.training(ALONE, broken=cases.broken_at()).run)
    assert alone.startswith("Diverged: a gradient is not finite at step 0")
    assert [read_json(together / f"ends-{rank}.json")["diverged"] for rank in (0, 1)] == [alone, alone]


def test_both_stop_after_the_step_in_which_one_is_asked_to_and_go_on_to_the_same_bits(together: Path) -> None:
    assert [read_json(together / f"ends-{rank}.json")["stopped"] for rank in (0, 1)] == [
        "Interrupted: interrupted by signal 15"
    ] * 2
    unbroken, _ = written(together, "dense", 0)
    for rank in (0, 1):
        resumed, _ = load_tensors(together / f"resumed-{rank}.safetensors")
        assert all(torch.equal(tensor, unbroken[f"final {key}"]) for key, tensor in resumed.items())


def test_a_checkpoint_of_two_processes_is_continued_by_one(together: Path) -> None:
    made = cases.training(ALONE, folder=together / "stopped")
    made.run()
    assert made.step == 6
    assert made.processes == {1, 2}
    unbroken, _ = written(together, "dense", 0)
    assert max(distance(tensor, unbroken[f"final {key}"]) for key, tensor in made.net.state_dict().items()) < 1e-7


def test_a_network_that_differs_in_a_bit_is_noticed_by_both(together: Path) -> None:
    for rank in (0, 1):
        said = read_json(together / f"ends-{rank}.json")["different"]
        assert said.startswith("RunError: the processes of this training have different networks at step 0")


def test_what_two_processes_cannot_do_is_refused_by_both(together: Path) -> None:
    for rank in (0, 1):
        ends = read_json(together / f"ends-{rank}.json")
        assert ends["too many"].startswith("SettingsError: 2 processes cannot share a batch of 1 samples; start fewer")
        assert ends["foreign norm"].startswith("SettingsError: BatchNorm2d cannot normalise over the samples")


def test_in_the_first_step_the_others_wait_for_one_that_compiles(together: Path) -> None:
    for rank in (0, 1):
        ends = read_json(together / f"ends-{rank}.json")
        assert ends["late in the first step"] == "ended"
        assert ends["late in the second step"].startswith("PeerLost: another process of this training ended or does")


def test_the_others_hear_what_the_first_one_tells(together: Path) -> None:
    assert read_json(together / "ends-1.json")["heard"] == "100000"


def test_one_process_alone_exchanges_nothing() -> None:
    with joined(Launch()) as ranks:
        assert ranks is ALONE
    positions = np.arange(5)
    assert ALONE.part(positions) is positions
    assert ALONE.mean({"a": 1.5}, 0.5) == {"a": 1.5}
    assert not torch.distributed.is_initialized()


def test_torchrun_is_recognised_by_its_environment() -> None:
    given = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}
    assert launched(given) == Launch(3, 1, 4)
    assert launched({name: text for name, text in given.items() if name != "TORCHELASTIC_RUN_ID"}) == Launch()
    assert launched({**given, "RANK": "three"}) == Launch()


@pytest.mark.parametrize("command", ["evolve", "search", "rank", "report", "bench"])
def test_several_processes_share_a_training_and_nothing_else(command: str) -> None:
    check_launch(Launch(), command)
    check_launch(Launch(1, 1, 2), "train")
    with pytest.raises(SettingsError, match=f"torchrun started 2 processes, but '{command}' is for one"):
        check_launch(Launch(0, 0, 2), command)
