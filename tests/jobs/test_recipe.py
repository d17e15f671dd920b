"""Recipes: what is shipped validates, `like` inherits, overrides lie on top, mistakes name the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evospike.core.errors import SettingsError
from evospike.core.limits import MOST_SETTINGS_BYTES
from evospike.core.settings import merge
from evospike.data.locate import given_folder
from evospike.data.settings import DataSettings
from evospike.genetic.encode import encode_with
from evospike.jobs.attempt import attempt
from evospike.jobs.inspection import dry_run, inspect_recipe, spec_of
from evospike.jobs.recipe import read_recipe, recipe_from_plain, recipe_text, shipped_recipes
from evospike.jobs.workshop import parameter_count
from evospike.models.build import build
from evospike.models.counts import count_layers
from evospike.sparse.settings import SparseSettings


@pytest.fixture
def write(tmp_path: Path):
    def make(text: str, name: str = "mine.toml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return make


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_validates_and_its_network_can_be_inspected(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.about
    assert recipe_from_plain(recipe.to_plain()) == recipe
    document = inspect_recipe(recipe)
    assert document["parameters"] > 0
    assert sum(layer["dense_parameters"] for layer in document["layers"]) == document["dense_parameters"]
    with torch.device("meta"):
        net = encode_with(build(spec_of(recipe), recipe.neuron, steps=recipe.model.steps), recipe.encoding)
    assert parameter_count(net) == document["parameters"]


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_builds_and_trains_a_step_at_its_real_size(name: str) -> None:
    recipe = read_recipe(name)
    tried = attempt(recipe, images=3 if name == "digits" else 2)
    assert (tried["recipe"], tried["images"]) == (name, 3 if name == "digits" else 2)
    assert tried["parameters"] == inspect_recipe(recipe)["parameters"]
    assert tried["input_shape"] == list(spec_of(recipe).input_shape)
    assert 0 < tried["loss"] < 100
    assert tried["memory"] > 1 << 20


def test_a_file_lies_over_the_shipped_recipe_it_is_like(write) -> None:
    path = write('like = "digits"\n[encoding]\ngenes = 7\n')
    mine, base = read_recipe(path), read_recipe("digits")
    assert (mine.name, mine.about, mine.encoding.genes) == ("mine", "", 7)
    assert (mine.model, mine.training, mine.evolution) == (base.model, base.training, base.evolution)


def test_overrides_lie_over_the_file_and_flags_over_both(write) -> None:
    path = write("[encoding]\ngenes = 7\n[training]\nepochs = 3\nbatch = 10\n")
    recipe = read_recipe(path, ["encoding.genes=8", "training.epochs=4", "name=other"], {"training": {"epochs": 5}})
    assert (recipe.encoding.genes, recipe.training.epochs, recipe.training.batch) == (8, 5, 10)
    assert recipe.name == "other"
    assert recipe_from_plain(recipe.to_plain()) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "cannot read recipe '.*mine.toml'"),
        ("x = " + "[" * 3000, "cannot read recipe '.*mine.toml'"),
        ('like = "digitss"', "recipe 'mine' is like 'digitss', which is not shipped; did you mean 'digits'?"),
        ("like = 3", "is like '3', which is not shipped"),
        ("[encodin]\ngenes = 3", "unknown field 'encodin'; did you mean 'encoding'?"),
        ("[encoding]\ngene = 3", "unknown field 'encoding.gene'; did you mean 'genes'?"),
        ("[encoding]\ngenes = 0", "zero genes"),
        ("[encoding]\ngenes = -2", "genes is -2; expected at least 1"),
        ("[encoding]\ngenes = 2.5", "'encoding.genes' wants a whole number, given 2.5"),
        ('[encoding]\nkind = "egde"', "'encoding.kind' cannot be 'egde'; did you mean 'edge'?"),
        ("[wiring]\nencoding_spread = -0.1", "encoding_spread is -0.1; expected a number above 0"),
        ("[wiring]\nstage_spreads = [0.1, -1]", r"stage_spreads\[1\] is -1.0; expected a number above 0"),
        ("[training]\nrate = nan", "'training.rate' wants a finite number, given nan"),
        ("encoding = 3", "'encoding' is a section, given 3"),
        ("[final]\narms = []", "'arms' is empty"),
        ('[final]\narms = ["dense", "dense"]', "'arms' names one twice"),
        ('[final]\narms = ["svd"]', "arm 'svd' starts from the trained arm 'dense'; add it"),
        ('[final]\narms = "dense"', "'final.arms' wants a list, given 'dense'"),
        ("[final]\nseeds = 0", "'seeds' must be at least 1, given 0"),
        ('[wiring]\nkind = "svd"', "starts from the trained dense twin; add 'dense' to final.arms"),
        ("[run]\nworkers = 0", "'workers' must be at least 1, given 0"),
        ("[run]\nthreads = -1", "'threads' must not be negative, given -1"),
        ("[run]\nseed = -1", "'seed' must not be negative"),
        ('[run]\ndevice = "gpu"', "'device' must be auto, cpu, cuda or cuda:N, given 'gpu'"),
        ('[data]\nsource = "digit"', "unknown data source 'digit'; did you mean 'digits'?"),
        ("[evolution]\npopulation = 3", "population=3 is too small to rank; give 4 or more"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_in_one_line(write, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        read_recipe(write(text))
    assert "\n" not in str(caught.value)


def test_unknown_missing_and_huge_recipes(write, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown recipe 'digit'; did you mean 'digits'?"):
        read_recipe("digit")
    with pytest.raises(
        SettingsError, match=r"no recipe file at '.*nothing.toml'; give a path to a TOML file, or one of"
    ):
        read_recipe(str(tmp_path / "nothing.toml"))
    huge = write("#" * (MOST_SETTINGS_BYTES + 1))
    message = f"has {MOST_SETTINGS_BYTES + 1} bytes; a recipe has at most {MOST_SETTINGS_BYTES}"
    with pytest.raises(SettingsError, match=message):
        read_recipe(huge)
    Path(huge).write_bytes(b"name = '\xff'")
    with pytest.raises(SettingsError, match=r"cannot read recipe"):
        read_recipe(huge)


def test_the_dry_run_counts_what_will_be_trained(tiny) -> None:
    evolving, training = dry_run(tiny(), "evolve"), dry_run(tiny(), "train")
    assert evolving["candidate_epochs"] == 4 * 2 + 1
    assert evolving["final_epochs"] == training["final_epochs"] == 2 * 2
    assert training["candidate_epochs"] == 0
    assert evolving["training_samples"] == 160


@pytest.mark.parametrize(("grow", "averages"), [("momentum", 1), ("adam", 2)])
def test_estimates_count_what_growth_averages(tiny, grow: str, averages: int) -> None:
    sparse = ["sparse.density=0.3", "final.arms=['sparse']"]
    recipe = tiny(*sparse, f"sparse.grow={grow}")
    assert recipe.run.workers == recipe.final.seeds == 1
    plain, averaging = dry_run(tiny(*sparse), "train"), dry_run(recipe, "train")
    numbers = averages * sum(layer.parameters for layer in count_layers(spec_of(recipe)))
    assert averaging["estimated_memory_bytes"] - plain["estimated_memory_bytes"] == 4 * numbers
    assert averaging["estimated_disk_bytes"] - plain["estimated_disk_bytes"] == 2 * 4 * numbers, "of two checkpoints"
    static = dry_run(tiny(*sparse, f"sparse.grow={grow}", "sparse.method=static"), "train")
    assert static["estimated_memory_bytes"] == plain["estimated_memory_bytes"]


@pytest.mark.parametrize("source", ["digits-events", "nmnist", "dvsgesture", "tonic:NMNIST", "tonic:DVSGesture"])
def test_a_flip_that_changes_the_label_is_refused(source: str) -> None:
    given = [f"data.source={source}", "model.steps=10", "data.augment.kind=basic"]
    with pytest.raises(SettingsError, match=f"flipped samples of '{source}' have another label; set it to 0"):
        read_recipe("digits", given)
    read_recipe("digits", [*given, "data.augment.flip=0"])
    read_recipe("digits", [*given, "data.augment.kind=none"])
    read_recipe("digits", ["data.source=cifar10dvs", "model.steps=10", "data.augment.kind=basic"])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (['sparse.layers=["*=0.1"]'], "sparse.layers"),
        (["sparse.method=static", "sparse.grow=random"], "sparse.method, sparse.grow"),
        (["sparse.density=1", "sparse.freeze=0.5"], "sparse.freeze"),
    ],
)
def test_settings_of_synapses_without_a_density_are_refused(given: list[str], named: str) -> None:
    message = f"^{named}: without effect, for at density 1 every synapse exists; .*, as with --density 0.1"
    with pytest.raises(SettingsError, match=message):
        read_recipe("digits", given)
    assert read_recipe("digits", given, {"sparse": {"density": 0.1}}).sparse.active


def test_a_duration_of_frames_that_are_cut_otherwise_is_refused() -> None:
    frames = ["data.source=cifar10dvs", "model.steps=10", "data.augment.kind=basic", "data.events.duration_ms=20"]
    with pytest.raises(
        SettingsError, match=r"^data.events.duration_ms is 20, without effect on frames of equal number"
    ):
        read_recipe("digits", frames)
    assert read_recipe("digits", [*frames, "data.events.split=duration"]).data.events.duration_ms == 20


def test_a_density_of_one_turns_off_what_a_recipe_says_of_synapses(write) -> None:
    path = write('like = "digits"\n[sparse]\ndensity = 0.2\ngrow = "random"\nlayers = ["classifier=1"]\n')
    assert read_recipe(path).sparse.grow == "random"
    for overrides, flags in ((["sparse.density=1"], {}), ([], {"sparse": {"density": 1.0}})):
        assert read_recipe(path, overrides, flags).sparse == SparseSettings()
    with pytest.raises(SettingsError, match=r"^sparse.grow: without effect"):
        read_recipe(path, ["sparse.density=1", "sparse.grow=random"])
    assert read_recipe("digits-sparse", [], {"sparse": {"density": 1.0}, "final": {"arms": ["dense"]}})


def test_records_of_earlier_runs_may_say_what_is_refused_now() -> None:
    layers = {"sparse": {"layers": ["*=0.1"]}}
    flipped = {"data": {"source": "tonic:NMNIST"}, "model": {"steps": 10}}
    for values in (layers, flipped):
        with pytest.raises(SettingsError):
            read_recipe("digits", ["data.augment.kind=basic"], values)
    recorded = recipe_from_plain(merge(read_recipe("digits").to_plain(), layers))
    assert inspect_recipe(recorded)["density"] == 1
    assert recipe_from_plain(flipped).data.augment.flip == 0.5


def test_a_recipe_that_is_changed_is_not_what_its_line_says() -> None:
    told = read_recipe("digits").about
    assert read_recipe("digits", ["run.workers=1"], {"run": {"seed": 3}}).about == told
    assert read_recipe("digits", ["training.epochs=1"]).about == ""
    assert read_recipe("digits", flags={"data": {"source": "cifar10"}}).about == ""


@pytest.mark.parametrize("source", ["cifar10", "cifar10-events"])
def test_a_dry_run_says_that_the_data_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, source: str
) -> None:
    recipe = read_recipe("digits", flags={"data": {"source": source}, "model": {"steps": 10}})
    for given, why in ((tmp_path / "none", "which is not a folder"), (tmp_path, f"no folder {tmp_path / 'cifar10'}")):
        monkeypatch.setenv("EVOSPIKE_DATA", str(given))
        assert dry_run(recipe, "train")["training_samples"] == 45_000
        assert f"planned from what is known of '{source}', which is not there: " in (said := capsys.readouterr().err)
        assert why in said
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "train.parquet").touch()
    dry_run(recipe, "train")
    assert capsys.readouterr().err == ""


def test_data_under_a_relative_path_are_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def data(source: str, folder: str = "") -> tuple[str, str]:
        found = read_recipe("digits", flags={"data": {"source": source, "folder": folder}}).data
        return found.source, found.folder

    monkeypatch.chdir(tmp_path)
    assert data("imagefolder:own") == (f"imagefolder:{tmp_path}/own", "")
    assert data("parquet:/own") == ("parquet:/own", "")
    assert data("imagefolder:own", "sets") == ("imagefolder:own", f"{tmp_path}/sets")
    assert data("cifar10") == ("cifar10", "")
    assert data("cifar10", "/data") == ("cifar10", "/data")
    (tmp_path / "sets" / "own").mkdir(parents=True)
    (tmp_path / "sets" / "own" / "x").touch()
    (tmp_path / "own").mkdir()
    assert given_folder(DataSettings("imagefolder:own", str(tmp_path / "sets"))) == tmp_path / "sets" / "own"


def test_a_recipe_is_read_back_from_its_text(tmp_path: Path) -> None:
    motifs = '# \U0001f600 "quoted" \t\x7f\n[[motif]]\nname = "X"\ncircuit = "x"\ninputs = [2]\nnodes = ["E1"]\n'
    (tmp_path / "mine.toml").write_text(motifs.replace("\x7f", "") + 'edges = ["a -> E1 +"]\n')
    recipe = read_recipe("digits-search", [f"space.motif_file={tmp_path}/mine.toml", "name='a\\u2028b'"])
    (tmp_path / "page.toml").write_text(recipe_text(recipe.to_plain()))
    assert read_recipe(str(tmp_path / "page.toml")) == recipe
