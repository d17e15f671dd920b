"""Bad input: one clear line on standard error, exit code 2, no traceback, nothing lost or overwritten."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evospike.core.lock import RunLock


def refused(said, message: str) -> None:
    """One line, on standard error, with the message."""
    assert said.code == 2, said
    assert said.out == ""
    complaints = [line for line in said.lines if not line.startswith(("run folder: ", "notice: "))]
    assert len(complaints) == 1, said.err
    assert complaints[0].startswith("evospike: ")
    assert message in complaints[0]
    assert "Traceback" not in said.err


TABLE: list[tuple[list[str], str]] = [
    ([], "the following arguments are required: COMMAND; see evospike --help"),
    (["evlove"], "invalid choice: 'evlove'"),
    (["train", "--epoch", "x"], "see evospike train --help"),
    (["train", "digits", "--wrong"], "unrecognized arguments: --wrong"),
    (["train", "digits", "--genes", "many"], "argument --genes: invalid int value: 'many'"),
    (["train", "digts"], "unknown recipe 'digts'; did you mean 'digits'?"),
    (["evolve", "missing.toml"], "no recipe file at 'missing.toml'"),
    (["inspect", "digts"], "unknown recipe 'digts'; did you mean 'digits'?"),
    (["recipes", "digts"], "unknown recipe 'digts'; did you mean 'digits'?"),
    (["train", "digits", "--set", "encodng.genes=3"], "unknown field 'encodng'; did you mean 'encoding'?"),
    (["train", "digits", "--set", "encoding.gens=3"], "unknown field 'encoding.gens'; did you mean 'genes'?"),
    (["train", "digits", "--set", "encoding.kind=egde"], "'encoding.kind' cannot be 'egde'; did you mean 'edge'?"),
    (["train", "digits", "--set", "genes"], "cannot read override 'genes'; expected section.field=value"),
    (["train", "digits", "--set", "training=3"], "'training' is a section, given 3"),
    (["train", "digits", "--set", "training.rate=fast"], "'training.rate' wants a number, given 'fast'"),
    (["train", "digits", "--set", "training.rate=nan"], "'training.rate' wants a finite number"),
    (["train", "digits", "--genes", "0"], "zero genes cannot express a weight"),
    (["train", "digits", "--genes", "-4"], "genes is -4; expected at least 1"),
    (["train", "digits", "--set", "wiring.gene_spread=-0.1"], "gene_spread is -0.1; expected a number above 0"),
    (["train", "digits", "--set", "wiring.stage_spreads=[0.1,-2]"], "stage_spreads[1] is -2.0"),
    (["evolve", "digits", "--set", "evolution.population=1"], "population=1 is too small to rank; give 4 or more"),
    (["evolve", "digits", "--set", "evolution.lower=1"], "lower=1.0 is not below upper=0.5"),
    (["train", "digits", "--epochs", "0"], "'epochs' must be at least 1, given 0"),
    (["train", "digits", "--batch", "1"], "'batch' must be at least 2"),
    (["train", "digits", "--steps", "0"], "'steps' must be at least 1, given 0"),
    (["train", "digits", "--seeds", "0"], "'seeds' must be at least 1, given 0"),
    (["train", "digits", "--workers", "0"], "'workers' must be at least 1, given 0"),
    (["train", "digits", "--seed", "-1"], "'seed' must not be negative, given -1"),
    (["train", "digits", "--device", "gpu"], "'device' must be auto, cpu, cuda or cuda:N, given 'gpu'"),
    (["train", "digits", "--set", "sparse.method=static"], "sparse.method: without effect, for at density 1"),
    (["inspect", "digits", "--set", 'sparse.layers=["*=0.1"]'], "sparse.layers: without effect, for at density 1"),
    (["train", "digits", "--arms", "genetc"], "did you mean 'genetic'?"),
    (["train", "digits", "--arms", "svd"], "arm 'svd' starts from the trained arm 'dense'; add it"),
    (["train", "digits", "--data", "digit"], "unknown data source 'digit'; did you mean 'digits'?"),
    (["train", "digits", "--data", "parquet"], "data source 'parquet' needs a place; write parquet:WHERE"),
    (["train", "digits", "--set", "data.image_size=3"], "data.image_size is 0 or 4 to 4096, given 3"),
    (["train", "digits", "--set", "data.validation=1.0"], "data.validation is a fraction below 1, given 1.0"),
    (["inspect", "digits", "--set", "model.preset=small9"], "unknown preset 'small9'; did you mean 'small8'?"),
    (["resume", "nowhere"], "'nowhere' does not exist; give a folder that evospike printed"),
    (["resume", "."], "'.' is no run folder (it has no run.json)"),
    (["evaluate", "nowhere"], "'nowhere' does not exist"),
    (["data", "lst"], "invalid choice: 'lst' (choose from"),
    (["data"], "the following arguments are required: ACTION; see evospike data --help"),
    (["data", "info"], "data info needs a data set, as in: evospike data info digits"),
    (["data", "info", "imagefolder:nowhere"], "no folder nowhere"),
    (["data", "cache", "digits", "--set", "data.event.frames=4"], "unknown field 'data.event'; did you mean 'events'?"),
    (["data", "cache", "digits", "--set", "events.frames=4"], "unknown field 'events'; known: data"),
    (["data", "cache", "--set", "data=4"], "'data' is a section, given 4"),
    (["data", "info", "nmnist", "--set", "data.events.duration_ms=9"], "data.events.duration_ms is 9, without effect"),
    (["data", "cache", "--recipe", "digits-evnts"], "unknown recipe 'digits-evnts'; did you mean 'digits-events'?"),
    (["train", "digits", "--executor", "ray"], "it goes with evolve, search, rank, resume and replay; see evospike tr"),
    (["train", "--ray-address=a:1"], "--ray-address says where candidates are scored, of which 'train' has none"),
    (["train", "-o", ""], "argument -o/--output: the name is empty; give one, or leave the option out"),
    (["report", "run", "-o", " "], "argument -o/--output: the name is empty; give one, or leave the option out"),
    (["report", "run", "--figures", ""], "argument --figures: the name is empty"),
    (["bench", "-o", ""], "argument -o/--output: the name is empty"),
    (["recipes", "digits", "--try", "--try-batch", "0"], "'batch' must be at least 2"),
]


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[" ".join(row[0]) or "nothing" for row in TABLE])
def test_bad_arguments(evospike, tmp_path: Path, arguments: list[str], message: str) -> None:
    refused(evospike(*arguments), message)
    assert [path.name for path in tmp_path.iterdir()] == [], "nothing is made for a command that cannot work"


def test_a_size_the_network_cannot_take_names_the_layer(evospike) -> None:
    message = "cannot take a 1-pixel side; use larger images (data.image_size)"
    said = evospike("train", "cifar10-gee-vgg16-small", "--data", "digits", "-o", "run")
    refused(said, message)
    assert "layer 'conv" in said.err
    said = evospike("inspect", "cifar10-gee-vgg16-small", "--data", "digits")
    refused(said, message)


def test_a_device_that_is_not_there(evospike, recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(evospike("train", recipe, "--device", "cuda", "-o", "run"), "there is no CUDA device; use auto or cpu")


def test_memory_that_is_not_there(evospike, recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nstack of C++")

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", full)
    refused(evospike("train", recipe, "-o", "run", "--quiet"), "out of memory; lower training.batch")


class TestData:
    """Data sets that are missing, empty or broken."""

    @pytest.fixture
    def folder(self, tmp_path: Path):
        """An image folder: {split/class: images}, an image being a seed or raw bytes."""
        image = pytest.importorskip("PIL.Image")

        def make(content: dict[str, list]) -> str:
            for place, items in content.items():
                (tmp_path / "set" / place).mkdir(parents=True, exist_ok=True)
                for number, item in enumerate(items):
                    data = item
                    if isinstance(item, int):
                        pixels = np.random.default_rng(item).integers(0, 255, (8, 8, 3), dtype=np.uint8)
                        stream = io.BytesIO()
                        image.fromarray(pixels).save(stream, format="PNG")
                        data = stream.getvalue()
                    (tmp_path / "set" / place / f"{number}.png").write_bytes(data)
            return f"imagefolder:{tmp_path / 'set'}"

        return make

    def train(self, evospike, recipe: Path, source: str):
        limits = ["--set", "data.train_limit=0", "--set", "data.test_limit=0"]
        return evospike("train", recipe, "--data", source, "-o", "run", "--quiet", *limits)

    def test_no_folder_is_known(self, evospike) -> None:
        said = evospike("train", "cifar10-cpu", "-o", "run")
        refused(said, "no data folder is set; set data.folder or the environment variable EVOSPIKE_DATA")
        assert len(said.lines) == 1, "no folder is named that is not there"
        assert not Path("run").exists()

    def test_a_missing_folder(self, evospike, recipe) -> None:
        refused(self.train(evospike, recipe, "imagefolder:nowhere"), f"no folder {Path.cwd() / 'nowhere'}")

    def test_an_empty_folder(self, evospike, recipe, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        refused(self.train(evospike, recipe, f"imagefolder:{tmp_path / 'set'}"), "is empty; put the data set's files")

    def test_a_corrupt_image_is_named(self, evospike, recipe, folder) -> None:
        source = folder({"train/cat": [1, b"no image", 3], "train/dog": [4, 5, 6]})
        refused(self.train(evospike, recipe, source), "1.png")

    def test_one_class(self, evospike, recipe, folder) -> None:
        refused(self.train(evospike, recipe, folder({"train/cat": [1, 2, 3]})), "one class only")

    def test_labels_out_of_range(self, evospike, recipe, tmp_path: Path) -> None:
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        image = pytest.importorskip("PIL.Image")
        stream = io.BytesIO()
        image.fromarray(np.zeros((8, 8), np.uint8)).save(stream, format="PNG")
        rows = [{"bytes": stream.getvalue(), "path": None}] * 6
        (tmp_path / "set").mkdir()
        for labels, message in (([0, 1, 0, 1, -3, 1], "label -3 is outside 0..1"), ([0, 1, 0, 1, 4, 1], "no training")):
            table = arrow.table({"img": rows, "label": labels})
            parquet.write_table(table, tmp_path / "set" / "train-0.parquet")
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            refused(self.train(evospike, recipe, f"parquet:{tmp_path / 'set'}"), message)

    def test_fewer_images_than_classes(self, evospike, recipe) -> None:
        said = evospike("train", recipe, "-o", "run", "--set", "data.train_limit=5")
        refused(said, "data.train_limit is 5, below the 10 classes of 'digits'; raise it")


class TestFolders:
    """Folders that are no run, are not empty, belong to another process or were altered."""

    @pytest.fixture
    def copy(self, finished: Path, tmp_path: Path) -> Path:
        shutil.copytree(finished, tmp_path / "copy")
        return tmp_path / "copy"

    def test_a_folder_that_is_not_empty_is_left_alone(self, evospike, recipe, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("kept")
        for command in ("train", "evolve"):
            refused(evospike(command, recipe, "-o", "mine"), "'mine' exists and is not empty; give -o a new folder")
        assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == {"notes.txt": "kept"}

    def test_a_file_is_no_run_to_continue(self, evospike, recipe, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text("kept")
        said = evospike("evolve", recipe, "-o", "README.md")
        refused(said, "'README.md' is a file; give -o a new folder")
        assert "resume" not in said.err

    def test_a_finished_run_is_not_overwritten(self, evospike, recipe, copy) -> None:
        before = (copy / "result.json").read_bytes()
        refused(evospike("train", recipe, "-o", copy), f"or continue it: evospike resume {copy}")
        assert (copy / "result.json").read_bytes() == before

    def test_a_place_that_cannot_be_written(self, evospike, recipe, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        refused(evospike("train", recipe, "-o", "file/run"), "cannot write to 'file/run'")

    def test_another_process_has_it(self, evospike, copy) -> None:
        with RunLock(copy):
            refused(evospike("resume", copy), f"process {os.getpid()}")

    def test_other_settings_are_refused_with_the_difference(self, evospike, copy) -> None:
        said = evospike("resume", copy, "--genes", 9, "--set", "training.rate=1")
        refused(said, "encoding.genes: 4 -> 9; training.rate: 0.005 -> 1.0; start a new run for others")

    @pytest.mark.parametrize("name", ["run.json", "plan.json", "result.json"])
    @pytest.mark.parametrize("damage", ["cut", "altered", "empty", "replaced"])
    def test_an_altered_record(self, evospike, copy, name: str, damage: str) -> None:
        if name == "plan.json":
            (copy / "result.json").unlink()
        text = (copy / name).read_text()
        value = json.loads(text)
        changed = json.dumps({**value, next(key for key in value if key != "checksum"): 77})
        (copy / name).write_text({"cut": text[:50], "altered": changed, "empty": "", "replaced": "[1]"}[damage])
        refused(evospike("resume", copy), name)

    def test_damaged_checkpoints(self, evospike, copy) -> None:
        folder = copy / "final" / "genetic-0"
        for path in (copy / "result.json", folder / "result.json", folder / "weights.safetensors"):
            path.unlink()
        for path in folder.glob("step-*"):
            path.write_bytes(path.read_bytes()[:-9])
        before = {path: path.read_bytes() for path in folder.glob("step-*")}
        refused(evospike("resume", copy, "--quiet"), "no whole checkpoint in")
        assert {path: path.read_bytes() for path in before} == before

    def test_a_damaged_newest_checkpoint_is_a_notice(self, evospike, copy, finished) -> None:
        folder = copy / "final" / "genetic-0"
        for path in (copy / "result.json", folder / "result.json", folder / "weights.safetensors"):
            path.unlink()
        newest = folder / "step-000000016.weights.safetensors"
        newest.write_bytes(newest.read_bytes()[:-9])
        said = evospike("resume", copy, "--json")
        assert said.code == 0
        assert "checkpoint of step 16 passed over" in said.err
        assert said.document["digest"] == json.loads((finished / "result.json").read_text())["digest"]

    def test_damaged_weights(self, evospike, copy) -> None:
        weights = copy / "final" / "genetic-0" / "weights.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        refused(evospike("evaluate", copy), "weights.safetensors")

    def test_a_watch_of_a_damaged_result_ends(self, evospike, copy) -> None:
        (copy / "result.json").write_text("{")
        said = evospike("watch", copy)
        assert said.code == 2
        assert "damaged: its result cannot be read" in said.out
        assert said.lines[-1].endswith(f"delete it and make it again: evospike resume {copy}")

    def test_an_evaluation_is_not_replaced_by_less_unless_forced(self, evospike, copy) -> None:
        few = ["--samples", 10, "--noise-seeds", 1]
        (copy / "evaluation.json").unlink(missing_ok=True)
        assert evospike("evaluate", copy, "--quiet", *few).code == 0
        message = "this would lose its robustness (protocol); ask for as much, keep a copy of the file elsewhere, or"
        refused(evospike("evaluate", copy, "--quiet", "--robustness", "none"), message)
        refused(evospike("evaluate", copy, "--robustness", "none", *few), "leave them out, or ask for 'protocol'")
        assert evospike("evaluate", copy, "--quiet", "--robustness", "none", "--force").code == 0
        assert json.loads((copy / "evaluation.json").read_text())["robustness"] is None

    def test_a_running_run_cannot_be_evaluated(self, evospike, copy) -> None:
        (copy / "result.json").unlink()
        with RunLock(copy):
            refused(evospike("evaluate", copy), f"; watch it with: evospike watch {copy}")

    def test_an_unfinished_run_cannot_be_evaluated(self, evospike, copy) -> None:
        (copy / "result.json").unlink()
        refused(evospike("evaluate", copy), f"is not finished; continue it with: evospike resume {copy}")


@pytest.mark.parametrize(("call", "at"), [("fsync", 0), ("replace", 0), ("replace", 1), ("fsync", 9), ("replace", 5)])
def test_a_full_disk(evospike, recipe, finished, monkeypatch: pytest.MonkeyPatch, call: str, at: int) -> None:
    calls, original = iter(range(1000)), getattr(os, call)

    def full(*arguments: object) -> None:
        if next(calls) >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        said = evospike("train", recipe, "-o", "run", "--quiet")
    assert said.code == 2
    assert "disk" in said.lines[-1]
    assert "None" not in said.err
    assert "Traceback" not in said.err
    if Path("run/run.json").exists():
        again = evospike("resume", "run", "--quiet", "--json")
        assert again.document["digest"] == json.loads((finished / "result.json").read_text())["digest"]


def test_in_its_own_process_too(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evospike.cli.main"]
    for arguments, message in (
        (["resume", str(tmp_path)], "is no run folder"),
        (["train", "digits", "--genes", "0"], "zero genes"),
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
