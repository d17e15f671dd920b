from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest

from evospike.core.errors import RunError
from evospike.jobs.folder import read_record, write_record
from evospike.jobs.recipe import recipe_from_plain, recipe_text
from evospike.report.facts import again
from evospike.report.training.gather import gather
from evospike.search.genome import Cell, Genome


def test_arms_are_those_of_the_result(make_run):
    genetic, dense, random = gather(make_run().folder).arms
    assert (genetic.name, genetic.test_accuracy, genetic.difference) == ("genetic", pytest.approx(0.91), None)
    assert genetic.interval == pytest.approx(4.30265 * 0.01 / 3**0.5, rel=1e-5)
    assert (dense.difference, dense.significant) == (pytest.approx(0.05), True)
    assert (random.difference, random.significant) == (pytest.approx(0.0), False)
    assert genetic.share == pytest.approx(27962 / 65834)


def test_one_seed_has_no_interval_and_no_verdict(make_run):
    dense = gather(make_run(overrides=["final.seeds=1"]).folder).arms[1]
    assert (dense.interval, dense.difference_interval, dense.significant) == (None, None, None)


def test_an_unfinished_run_compares_the_seeds_that_both_arms_have(make_run):
    facts = gather(make_run(finals=5).folder)
    assert not facts.finished
    assert [(arm.name, len(arm.seeds)) for arm in facts.arms] == [("genetic", 3), ("dense", 2)]
    assert facts.arms[1].difference == pytest.approx(0.05)


def test_the_layers_add_up_to_the_network(make_run):
    network = gather(make_run().folder).network
    assert (network.parameters, network.dense_parameters) == (27962, 65834)
    assert sum(layer.parameters for layer in network.layers) + network.gene_parameters == 27962
    orders = {layer.name: layer.order for layer in network.layers if layer.order}
    assert orders == {"conv2.conv": "materialise", "conv3.conv": "two_stage", "conv4.conv": "two_stage"}
    assert {layer.encoding for layer in network.layers if layer.order} == {"edge"}


def test_a_run_that_has_only_its_record(make_run):
    facts = gather(make_run(plan=False, finals=0).folder)
    assert (facts.plan, facts.result, facts.history, facts.network) == (None, None, None, None)
    assert (facts.arms, facts.trainings) == ((), ())


def test_the_command_runs_again_in_a_new_folder(make_run):
    command, needs_recipe = again(gather(make_run().folder))
    assert (command, needs_recipe) == ("evospike evolve digits --seeds 3", False)


def commanded(run, *parts):
    """How a run of this command is repeated."""
    record = read_record(run.path / "run.json")
    write_record(run.path / "run.json", {**record, "command": ["train", *parts]})
    return again(gather(run.folder))


@pytest.mark.parametrize(
    "output",
    [["-o", "x"], ["-ox"], ["-o=x"], ["--output", "x"], ["--output=x"], ["--out", "x"], ["--o=x"], ["-o", "a/b.toml"]],
    ids=" ".join,
)
def test_the_folder_of_a_run_is_not_named_again_in_whatever_form(make_run, output):
    run = make_run("train")
    parts = ["--set", "about=<b> -o", "--seeds", "3"]
    expected = ("evospike train digits --set 'about=<b> -o' --seeds 3", False)
    assert commanded(run, "digits", *output, *parts) == expected
    assert commanded(run, "digits", *parts, *output) == expected


def test_a_command_whose_output_lost_its_folder_is_read(make_run):
    assert commanded(make_run("train"), "digits", "-o") == ("evospike train digits", False)


@pytest.mark.parametrize(
    "parts",
    [["mine.toml"], ["./mine"], ["digits", "--set", "space.motif_file=own.toml"], ["digits", "--data", "parquet:/a"]],
)
def test_a_run_of_a_file_is_replayed_as_the_file_may_have_changed(make_run, parts):
    run = make_run("train")
    assert commanded(run, *parts, "-oout") == (f"evospike replay {run.path}", False)


def test_a_run_of_a_searched_architecture_is_replayed(make_run):
    genome = Genome((Cell("reduction"),), 2, 4, "canonical", "same_step").to_json()
    run = make_run("train", overrides=[f"model.genome={json.dumps(genome)}"])
    assert commanded(run, "digits", "--model", "found") == (f"evospike replay {run.path}", False)


def test_a_run_started_from_python_is_repeated_from_its_recipe(make_run):
    run = make_run("train")
    record = read_record(run.path / "run.json")
    write_record(run.path / "run.json", {**record, "command": ["-q"]})
    assert again(gather(run.folder)) == ("evospike train recipe.toml", True)


def test_the_recipe_reads_back_as_itself(make_run):
    run = make_run(hostile=True, overrides=["model.channels=[8, 8, 16, 16]", "training.rate=1e-05"])
    assert recipe_from_plain(tomllib.loads(recipe_text(run.recipe.to_plain()))) == run.recipe


@pytest.mark.parametrize("text", ["\x7f", "é\U0001f600", 'a"b\\c\n\x01'])
def test_any_text_survives_toml(text):
    assert tomllib.loads(recipe_text({"about": text}))["about"] == text


@pytest.mark.parametrize("name", ["result.json", "plan.json", "final/dense-1/result.json"])
def test_a_document_without_its_fields_is_refused_in_one_line(make_run, name):
    run = make_run()
    write_record(run.path / name, {})
    with pytest.raises(RunError, match=r"unexpected form \(KeyError: .* restore it or start a new run$"):
        gather(run.folder)


def test_reading_a_run_without_a_plan_imports_no_torch(make_run):
    run = make_run(plan=False, finals=None)
    code = (
        "import sys; from evospike.jobs.folder import open_run; from evospike.report.training.gather import gather; "
        f"gather(open_run({str(run.path)!r})); print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
