"""One JSON document on standard output, everything else on standard error; nothing slow before it is needed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evospike as package
from evospike.data.settings import DataSettings
from evospike.jobs.recipe import read_recipe, recipe_from_plain, shipped_recipes

FINAL_KEYS = {
    *("run", "test_accuracy", "parameters", "dense_parameters", "density"),
    *("firing_rate", "wall_seconds", "digest"),
}


def test_train_prints_one_document_and_progress_apart(evospike, recipe) -> None:
    said = evospike("train", recipe, "-o", "run", "--json", "--set", "training.epochs=1")
    assert said.code == 0
    document = said.document
    assert set(document) >= FINAL_KEYS
    assert 0 <= document["test_accuracy"] <= 1
    assert 0 <= document["firing_rate"] <= 1
    assert 0 < document["parameters"] < document["dense_parameters"]
    assert document["density"] == 1.0
    assert document["run"] == "run"
    assert "run folder: run" in said.err
    assert "train genetic" in said.err


def test_resume_of_a_finished_run_prints_its_result(evospike, finished, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    said = evospike("resume", "copy", "--json", "--workers", 3)
    stored = json.loads((finished / "result.json").read_text())
    stored.pop("checksum")
    assert (said.code, said.document) == (0, stored)
    text = evospike("resume", "copy")
    assert f"digest {stored['digest']}" in text.out
    assert text.err == ""


def test_evaluate_prints_exactly_its_keys(evospike, finished) -> None:
    said = evospike("evaluate", finished, "--json", "--device", "cpu")
    assert set(said.document) >= FINAL_KEYS
    stored = json.loads((finished / "result.json").read_text())
    assert said.document["firing_rate"] == pytest.approx(stored["firing_rate"], rel=1e-12)
    same = FINAL_KEYS - {"run", "wall_seconds", "firing_rate"}
    assert {key: said.document[key] for key in same} == {key: stored[key] for key in same}


def test_inspect_names_layers_of_recipes_and_runs(evospike, finished, recipe) -> None:
    of_recipe, of_run = evospike("inspect", recipe, "--json"), evospike("inspect", finished, "--json")
    assert of_recipe.document == of_run.document
    assert set(of_run.document) >= {"parameters", "dense_parameters", "layers"}
    assert sum(layer["dense_parameters"] for layer in of_run.document["layers"]) == of_run.document["dense_parameters"]
    assert of_run.document["parameters"] == json.loads((finished / "result.json").read_text())["parameters"]
    more = evospike("inspect", finished, "--json", "--genes", 9).document
    assert more["gene_parameters"] == 81
    idle = evospike("inspect", finished, "--set", "sparse.grow=random")
    assert (idle.code, "sparse.grow: without effect" in idle.err) == (2, True)
    text = evospike("inspect", finished)
    assert "conv2.conv" in text.out
    assert text.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "digits"],
        ["recipes"],
        ["recipes", "digits"],
        ["data", "list"],
        ["data", "info", "digits"],
        ["evolve", "digits", "--dry-run"],
        ["train", "cifar10-cpu", "--dry-run"],
    ],
    ids=" ".join,
)
def test_json_is_pure_and_the_text_form_is_there(evospike, tmp_path: Path, arguments: list[str]) -> None:
    said = evospike(*arguments, "--json")
    assert said.code == 0
    assert said.document
    assert all(line.startswith("notice: planned from what is known of 'cifar10'") for line in said.lines)
    text = evospike(*arguments)
    assert text.code == 0
    assert text.out.strip()
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_a_cache_is_built_with_the_data_settings_of_a_recipe(evospike, monkeypatch: pytest.MonkeyPatch) -> None:
    import evospike.data.catalogue as catalogue

    wanted: list[DataSettings] = []
    for name in ("build_cache", "describe"):
        monkeypatch.setattr(catalogue, name, lambda settings: {"nothing": wanted.append(settings)})
    own = read_recipe("digits-events-sparse").data
    assert own.simulator.sensor != DataSettings().simulator.sensor
    for action in ("cache", "info"):
        assert evospike("data", action, "--recipe", "digits-events-sparse").code == 0
        assert wanted.pop() == own
    more = ("--set", "data.events.split=number", "--folder", "here", "--image-size", 8)
    evospike("data", "cache", "cifar10-events", "--recipe", "digits-events-sparse", *more)
    events = dataclasses.replace(own.events, split="number")
    evospike("data", "cache", *more, "--recipe", "digits-events-sparse", "cifar10-events")
    assert wanted == 2 * [dataclasses.replace(own, source="cifar10-events", folder="here", image_size=8, events=events)]


def test_frames_in_files_are_cached_by_their_own_number(evospike, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for number in range(2):
                frames = np.full((4, 2, 6, 6), number, np.float32)
                np.savez(tmp_path / "set" / split / label / f"{number}.npz", frames=frames)
    source = f"frames:{tmp_path / 'set'}"
    assert "set data.events.frames=4" in evospike("data", "cache", source).err
    said = evospike("data", "cache", source, "--set", "data.events.frames=4", "--json")
    assert said.document["cache_bytes"] >= 8 * 4 * 2 * 6 * 6


def test_settings_of_other_verbs_are_said_to_have_no_effect(evospike) -> None:
    sets = ("--set", "search.in_flight=4", "--set", "space.cells=4", "--set", "evolution.generations=2")
    said = evospike("evolve", "digits", *sets, "--dry-run", "--json")
    assert said.document["verb"] == "evolve"
    assert said.lines == [
        "notice: search.in_flight=4 has no effect on evolve: [search] is read by search alone",
        "notice: space.cells=4 has no effect on evolve: [space] is read by search and rank alone",
    ]
    said = evospike("train", "digits", "--set", "run.executor=ray", "--set", "run.threads=1", "--dry-run", "--json")
    assert said.lines == [
        "notice: run.executor=ray has no effect on train: run.executor is read by evolve, search and rank alone"
    ]
    said = evospike("search", "digits-search", "--set", "wiring.kind=random", "--genes", 99, "--dry-run", "--json")
    assert said.lines == [
        "notice: wiring.kind=random has no effect on search: [wiring] is read by evolve and train alone",
        "notice: encoding.genes=99 has no effect on search: [encoding] is read by evolve and train alone",
    ]


def test_what_is_simulated_is_said_before_any_number(evospike, recipe) -> None:
    told = "digits-events (simulated recordings), split: stratified 80/20, fixed"
    events = ("--data", "digits-events", "--set", "data.events.frames=2", "--set", "data.simulator.sensor=8")
    assert f"data: {told}" in evospike("inspect", recipe, *events).out.splitlines()
    assert evospike("inspect", recipe, *events, "--json").document["data"]["simulated"] is True
    for verb in ("train", "search"):
        assert f"data: {told}" in evospike(verb, recipe, *events, "--dry-run").out.splitlines()
    said = evospike("train", recipe, *events, "-o", "run", "--epochs", 1)
    assert said.lines.index(f"notice: data: {told}") < min(k for k, line in enumerate(said.lines) if "steps" in line)
    assert f"data: {told}" in said.out.splitlines()
    assert f"data: {told}" in evospike("watch", "run", "--once").out.splitlines()


def test_one_training_step_of_a_recipe(evospike) -> None:
    said = evospike("recipes", "digits", "--try", "--json")
    assert (said.code, said.err) == (0, "")
    (tried,) = said.document["recipes"]
    assert (tried["recipe"], tried["images"], tried["input_shape"]) == ("digits", 2, [1, 8, 8])


def test_recipes_shows_what_can_be_read_back(evospike, tmp_path: Path) -> None:
    listed = evospike("recipes", "--json").document["recipes"]
    assert sorted(listed) == shipped_recipes()
    shown = evospike("recipes", "digits", "--json").document
    assert recipe_from_plain(shown).name == "digits"
    (tmp_path / "copy.toml").write_text(evospike("recipes", "digits").out)
    assert evospike("recipes", "copy.toml", "--json").document == shown


def test_quiet_shows_no_progress(evospike, recipe) -> None:
    said = evospike("train", recipe, "-o", "run", "--quiet", "--set", "training.epochs=1")
    assert said.err == "run folder: run\n"
    assert "test accuracy" in said.out


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    from evospike.cli.main import main

    for arguments, wanted in ((["--help"], "evolve"), (["train", "--help"], "--genes"), (["--version"], "evospike ")):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 0
        assert wanted in capsys.readouterr().out
    assert package.__version__


def test_a_reader_that_goes_away_is_no_error(recipe: Path) -> None:
    command = f'"{sys.executable}" -m evospike.cli.main recipes digits | head -n 1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'name = "digits"\n'


HEAVY = ("torch", "numpy", "sqlite3", "safetensors", "cmaes", "tqdm", "pyarrow", "PIL", "plotly")


@pytest.mark.parametrize(
    "statement",
    [
        "import evospike",
        "import evospike; evospike.NeuronSettings(); dir(evospike)",
        "import evospike.cli.main",
        "import evospike.cli.main as m\ntry: m.main(['--help'])\nexcept SystemExit: pass",
        "import evospike.cli.main as m; assert m.main(['train', 'digts']) == 2",
        "import evospike.cli.main as m; assert m.main(['evolve', 'digits', '--set', 'encoding.gens=1']) == 2",
        "import evospike.cli.main as m; assert m.main(['train', '--genes', '0']) == 2",
        "import evospike.cli.main as m; assert m.main(['resume', 'nowhere']) == 2",
        "import evospike.cli.main as m; assert m.main(['recipes']) == 0",
    ],
)
def test_torch_is_not_imported_before_it_is_needed(statement: str) -> None:
    code = f"import sys\n{statement}\nheavy = [n for n in {HEAVY} if n in sys.modules]\nassert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_public_name_loads() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="module 'evospike' has no attribute 'evolv'"):
        _ = package.evolv
