"""Line 3: files that were cut short or altered are detected, or read as if they had not been.

A mutation is drawn from a seed: the file is truncated, or one to eight of its bits are flipped, or a piece of it is
overwritten. Reading it then either refuses, with one of our errors in one line, or gives exactly what was written.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evospike.core.errors import EvospikeError, SpecError
from evospike.core.files import digest_tensors
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.folder import open_run, read_record
from evospike.models.presets import make_spec
from evospike.models.settings import ModelSettings
from evospike.models.spec import NetworkSpec
from evospike.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

SHORT, FULL = 60, 1000


def mutated(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """One mutation and its name."""
    kind = chance.choice(["truncation", "bit flips", "bit flips", "overwriting"])
    if kind == "truncation":
        return kind, data[: chance.randrange(len(data))]
    altered = bytearray(data)
    if kind == "bit flips":
        for place in chance.sample(range(8 * len(data)), chance.choice([1, 1, 2, 8])):
            altered[place // 8] ^= 1 << place % 8
    else:
        start, length = chance.randrange(len(data)), chance.choice([1, 16, 512])
        altered[start : start + length] = chance.randbytes(len(altered[start : start + length]))
    return kind, bytes(altered)


class Tally:
    """Mutates one file again and again, and counts what reading it gave."""

    def __init__(self, soak, what: str) -> None:
        self.soak, self.what = soak, what
        self.count = soak.count(SHORT, FULL)
        self.kinds: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    def run(self, path: Path, read: Callable[[], Any], wanted: Any) -> None:
        """read: what the file says; must give `wanted` or raise one of our errors."""
        whole = path.read_bytes()
        chance = random.Random(self.what)
        for _ in range(self.count):
            kind, data = mutated(whole, chance)
            self.kinds[kind] += 1
            path.write_bytes(data)
            self.judge(read, wanted)
        path.write_bytes(whole)
        assert read() == wanted
        self.report()

    def judge(self, read: Callable[[], Any], wanted: Any) -> None:
        refusal = ""
        try:
            found = read()
        except EvospikeError as error:
            refusal = str(error)
        self.seen["detected" if refusal else "without effect"] += 1
        assert "\n" not in refusal
        assert refusal or found == wanted

    def report(self) -> None:
        seen = ", ".join(f"{count} {what}" for what, count in sorted(self.seen.items()))
        self.soak.figure("survival 3", f"{self.what}: mutations", self.seen.total())
        self.soak.figure("survival 3", f"{self.what}: what became of them", seen)


def test_mutations_are_seeded_and_change_the_file() -> None:
    data = bytes(range(200))
    drawn = [mutated(data, random.Random(seed)) for seed in range(300)]
    assert drawn == [mutated(data, random.Random(seed)) for seed in range(300)]
    assert {kind for kind, _ in drawn} == {"truncation", "bit flips", "overwriting"}
    assert sum(altered == data for _, altered in drawn) <= 3  # a byte may be overwritten with itself


def test_checkpoints(soak, tmp_path: Path) -> None:
    """The newest pair is altered; what is loaded is that pair, or the one before, and then a line says so."""
    generator = torch.Generator().manual_seed(0)

    def checkpoint(step: int) -> Checkpoint:
        weights = {"w": torch.randn(40, 30, generator=generator), "n": torch.tensor(step)}
        return Checkpoint(weights, {"m": torch.randn(40, generator=generator)}, {"step": step, "history": [{"a": 0.5}]})

    pairs = {step: checkpoint(step) for step in (1, 2)}
    for step, pair in pairs.items():
        save_checkpoint(tmp_path, step, pair)
    digests = {step: contents(pair) for step, pair in pairs.items()}
    for part in ("weights", "state"):
        path = tmp_path / f"step-000000002.{part}.safetensors"
        tally = Tally(soak, f"checkpoint, {part}")

        def read(name: str = path.name, tally: Tally = tally) -> str:
            found = load_checkpoint(tmp_path)
            assert found is not None
            pair, passed_over = found
            if passed_over:
                (line,) = passed_over
                assert line.startswith("checkpoint of step 2 passed over: ")
                assert name in line or "are not a pair" in line
                assert contents(pair) == digests[1]
                raise EvospikeError("the previous one is used, and said so")
            return contents(pair)

        tally.run(path, read, digests[2])


def contents(pair: Checkpoint) -> str:
    return digest_tensors({**pair.weights, **pair.state}) + json.dumps(pair.record, sort_keys=True)


@pytest.mark.parametrize("way", ["open", "view"])
def test_the_store(soak, tmp_path: Path, way: str) -> None:
    genotypes = [Genotype(("a", "b"), (0.1 * k, 1 / (k + 3))) for k in range(12)]
    path = tmp_path / "study.sqlite"
    with Store.create(path) as store:
        for number in range(3):
            store.record_generation(number, genotypes)
            for index, genotype in enumerate(genotypes):
                request = Request("candidate", number, index, genotype, ("generation", number))
                store.record_score(request, Score("ok", terms={"loss": 0.1 * index}, seconds=1.0))
        store.record_value("winner", {"generation": 2})

    def read() -> Any:
        with getattr(Store, way)(path) as store:
            return store.generations(), store.scores(), store.values(), store.digest()

    wanted = read()

    def read_alone() -> Any:
        for other in tmp_path.glob("study.sqlite-*"):  # of a mutation that looked like one that keeps a log
            other.unlink()
        return read()

    Tally(soak, f"store, {way}").run(path, read_alone, wanted)


@pytest.mark.parametrize("name", ["run.json", "plan.json", "result.json", "final/genetic-0/result.json"])
def test_documents_of_a_run(
    soak, unbroken: Callable[[str], Path], evospike_command, complaint, tmp_path: Path, name: str
) -> None:
    """Read as such; and where the command line reads them first, by it: one line, exit code 2."""
    run = tmp_path / "run"
    shutil.copytree(unbroken("train"), run)
    path = run / name
    Tally(soak, name.rpartition("/")[2] if "final" not in name else "result.json of a training").run(
        path, lambda: read_record(path), read_record(path)
    )
    whole, chance = path.read_bytes(), random.Random(name)
    for _ in range(soak.count(3, 100)):
        path.write_bytes(mutated(whole, chance)[1])
        code, _, err = evospike_command("watch", run, "--once")
        assert code in (0, 2)
        if code == 2:
            assert name in complaint(err)
        if name == "run.json":
            code, _, err = evospike_command("inspect", run)
            assert code in (0, 2)


def test_specifications(soak, tmp_path: Path) -> None:
    """A specification has no checksum of its own, for people write some: an altered one is refused, or is another
    network, which its digest says; those of runs stand in documents with a checksum.
    """
    spec = make_spec(ModelSettings(preset="small8"), (1, 8, 8), 10)
    whole = spec.to_json().encode()
    chance, seen = random.Random(0), Counter[str]()
    for _ in range(soak.count(SHORT, FULL)):
        text = mutated(whole, chance)[1].decode("utf-8", "surrogateescape")
        try:
            found = NetworkSpec.from_json(text)
        except SpecError:
            seen["detected"] += 1
            continue
        same = found == spec
        assert same == (found.to_json() == spec.to_json())
        assert same or found.name != spec.name or found.digest() != spec.digest()
        seen["without effect" if same else "another network with another digest"] += 1
    soak.figure("survival 3", "specification: mutations", seen.total())
    words = ", ".join(f"{count} {what}" for what, count in sorted(seen.items()))
    soak.figure("survival 3", "specification: what became of them", words)


def test_a_run_refuses_an_altered_specification(unbroken: Callable[[str], Path], tmp_path: Path) -> None:
    """Also one that is still a network."""
    run = tmp_path / "run"
    shutil.copytree(unbroken("train"), run)
    text = (run / "plan.json").read_text(encoding="utf-8")
    altered = text.replace('\\"channels\\":4', '\\"channels\\":5')
    assert altered != text
    (run / "plan.json").write_text(altered, encoding="utf-8")
    with pytest.raises(EvospikeError, match=r"checksum of .*plan\.json does not match"):
        open_run(run).read("plan.json")


def test_a_damaged_newest_checkpoint_costs_no_training(
    soak, unbroken: Callable[[str], Path], evospike_command, tmp_path: Path, runs
) -> None:
    """Through the command line: the previous checkpoint is used and said so, and the end is the same."""
    wanted = runs.outcome(unbroken("train"))
    chance, told = random.Random(0), 0
    rounds = soak.count(1, 20)
    for number in range(rounds):
        run = tmp_path / f"run-{number}"
        shutil.copytree(unbroken("train"), run)
        folder = run / "final" / "genetic-0"
        for path in (run / "result.json", folder / "result.json", folder / "weights.safetensors"):
            path.unlink()
        newest = max(folder.glob("step-*"), key=lambda path: (path.name.split(".")[0], chance.random()))
        newest.write_bytes(mutated(newest.read_bytes(), chance)[1])
        code, _, err = evospike_command("resume", run, "--quiet")
        assert code == 0, err
        told += "passed over" in err
        assert runs.outcome(run) == wanted
    assert told
    soak.figure("survival 3", "trainings resumed from the checkpoint before a damaged one, with the same end", rounds)
