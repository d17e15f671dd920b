"""How machines are compared, and what of the data travels to them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import evospike.jobs.shared_task as shared_task
from evospike.core.errors import DataError, RunError
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import create_run
from evospike.jobs.nodes import Difference, Nodes, different_facts, instruction_sets, machine_facts, node_differences
from evospike.jobs.recipe import Recipe
from evospike.jobs.shared_task import SHARED, share, unshare
from evospike.jobs.workers import score
from evospike.jobs.workshop import Workshop, as_context

X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu sse2 avx2 avx amx_int8 fma\n\nflags : avx512f\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd sve i8mm\n"


def test_instruction_sets_are_those_of_the_first_processor() -> None:
    assert instruction_sets(X86) == "GenuineIntel amx_int8 avx avx2 fma"
    assert instruction_sets(ARM) == "asimd i8mm sve"
    assert instruction_sets("") == ""


def test_differences_name_the_fact_and_both_machines() -> None:
    own = {"torch": "2.13", "instructions": "GenuineIntel avx avx2", "gpu": "A"}
    theirs = {"torch": "2.12", "instructions": "AuthenticAMD avx", "gpu": "A", "motifs": "12"}
    found = different_facts(own, theirs, "far")
    assert found == [
        Difference("instructions", "GenuineIntel avx2", "AuthenticAMD", "far"),
        Difference("motifs", "", "12", "far"),
        Difference("torch", "2.13", "2.12", "far"),
    ]
    assert [str(one) for one in found] == [
        "instructions: AuthenticAMD on far, GenuineIntel avx2 here",
        "motifs: 12 on far, nothing more here",
        "torch: 2.12 on far, 2.13 here",
    ]
    assert different_facts(own, dict(own), "far") == []


def test_each_kind_of_difference_is_told_and_kept_once(
    tiny: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create_run("evolve", tiny(), str(tmp_path / "run"))
    assert node_differences(run) == []
    nodes = Nodes(run, {"torch": "2.13"})
    nodes("a", {"torch": "2.13"})
    assert not (run.path / "nodes.json").exists()
    nodes("b", {"torch": "2.12"})
    nodes("c", {"torch": "2.12"})
    Nodes(run, {"torch": "2.13"})("d", {"torch": "2.12"})  # a later sitting
    nodes("e", {"torch": "2.11"})
    assert [str(one) for one in node_differences(run)] == [
        "torch: 2.12 on b, 2.13 here",
        "torch: 2.11 on e, 2.13 here",
    ]
    assert capsys.readouterr().err.count("notice: not bit-identical:") == 2


def test_a_machine_says_what_numbers_depend_on(workshop: Callable[..., Workshop], tmp_path: Path) -> None:
    shop = workshop()
    found = machine_facts(shop.plan)
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert {"python", "evospike", "machine", "cpu", "instructions"} <= found.keys()


def test_a_shared_task_is_the_task_without_its_test_split(workshop: Callable[..., Workshop]) -> None:
    task = workshop().task
    shared = share(task)
    assert shared is not None
    buffers: list[pickle.PickleBuffer] = []
    packed = pickle.dumps(shared, protocol=5, buffer_callback=buffers.append)
    sizes = sorted(buffer.raw().nbytes for buffer in buffers)
    assert sizes[-1] == task.train.images.nbytes
    assert sum(size == task.train.images.nbytes for size in sizes) == 1  # both splits lie in one array
    assert len(packed) < 10_000
    again = unshare(pickle.loads(packed, buffers=[buffer.raw().toreadonly() for buffer in buffers]))
    assert again.digests() == task.digests()
    assert again.test_opener is None
    assert (again.name, again.classes, again.shape, again.mean, again.std) == (
        *(task.name, task.classes, task.shape),
        *(task.mean, task.std),
    )
    positions = torch.tensor([3, 0, 7])
    for mine, theirs in ((again.train, task.train), (again.validation, task.validation)):
        assert all(torch.equal(a, b) for a, b in zip(mine.take(positions), theirs.take(positions), strict=True))


def test_a_task_that_is_too_large_is_not_sent(
    workshop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = workshop().task
    monkeypatch.setattr(shared_task, "MOST_BYTES", task.train.images.nbytes - 1)
    assert share(task) is None
    monkeypatch.setattr(shared_task, "MOST_BYTES", task.train.images.nbytes)
    assert share(task) is not None


def test_a_worker_with_other_data_refuses(workshop: Callable[..., Workshop]) -> None:
    shop, other = workshop(), workshop("run.seed=1")
    context = {**as_context(shop.recipe, shop.plan, ""), SHARED: share(other.task)}
    with pytest.raises(DataError, match=r"the data on this machine are not those of the run .train: "):
        score({}, context)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"differences": 3},
        {"differences": [{"a": 1}]},
        {"differences": [3]},
        {"differences": [{"fact": 1, "here": "", "there": "", "host": ""}]},
    ],
)
def test_an_altered_document_is_refused_before_anything_is_done(
    tiny: Callable[..., Recipe], tmp_path: Path, content: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run("search", tiny(), str(tmp_path / "run"))
    run.write("nodes.json", content)
    monkeypatch.setattr("evospike.jobs.conduct._open_workshop", lambda *_: pytest.fail("the run began"))
    with pytest.raises(RunError, match=r"nodes\.json has an unexpected form .* the file was altered"):
        conduct(run, run.recipe, quiet=True)
