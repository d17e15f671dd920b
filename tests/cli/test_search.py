"""search, rank and --model, as they are typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

SPACE = [
    *("--set", "space.cells=4", "--set", "space.channels=2", "--set", "search.population=3"),
    *("--set", "search.offspring=3", "--set", "search.generations=2", "--set", "search.finalists=1"),
    *("--set", "search.finalist_seeds=1", "--set", "dissimilarity.batch=16"),
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    """A finished search."""
    from evospike.cli.main import main

    run = tmp_path_factory.mktemp("runs") / "found"
    assert main(["search", str(recipe), "-o", str(run), "--quiet", *SPACE]) == 0
    return run


def test_search_prints_the_cells_and_one_document(evospike, recipe: Path, found: Path) -> None:
    said = evospike("resume", found)
    assert said.code == 0
    assert said.out.count("cell ") == 4
    assert "train it: evospike train RECIPE --model" in said.out
    document = evospike("resume", found, "--json").document
    assert set(document) >= {"run", "score", "parameters", "density", "firing_rate", "wall_seconds", "digest"}
    stored = json.loads((found / "result.json").read_text())
    assert document == {key: value for key, value in stored.items() if key != "checksum"}


def test_a_search_without_its_extra_leaves_no_folder_behind(evospike, recipe: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pymoo.algorithms.moo", None)
        said = evospike("search", recipe, "-o", "run", *SPACE)
    assert (said.code, len(said.lines)) == (2, 1)
    assert "needs 'pymoo'; install it with: pip install 'evospike[search]'" in said.err
    assert not Path("run").exists()


def test_the_candidates_and_draws_of_a_search_are_what_its_bar_counts(evospike, found: Path) -> None:
    document = evospike("resume", found, "--json").document
    assert document["candidates"] == 3 + 3
    assert document["draws"] == document["seeds"][0]["draws"] == 1
    assert ", 6 candidates, further draws of the best: 1, " in evospike("resume", found).out


def test_the_same_search_has_the_same_digest(evospike, recipe: Path, found: Path) -> None:
    said = evospike("search", recipe, "-o", "again", "--json", "--quiet", *SPACE)
    assert said.document["digest"] == json.loads((found / "result.json").read_text())["digest"]


def test_several_searches_are_one_document_and_a_table(evospike, recipe: Path, found: Path) -> None:
    document = evospike("search", recipe, "-o", "twice", "--json", "--quiet", *SPACE, "--seeds", "2").document
    first, second = document["seeds"]
    assert first["digest"] == json.loads((found / "result.json").read_text())["digest"]
    assert document["score"] == pytest.approx((first["score"] + second["score"]) / 2)
    said = evospike("resume", "twice")
    assert said.code == 0
    rows = {line.split()[0]: line for line in said.out.splitlines() if line[:4].strip() in ("0", "1", "mean")}
    assert f"{second['score']:.6g}" in rows["1"]
    assert [name for name, row in rows.items() if "the cells above" in row] == [str(document["winner_seed"])]
    assert f"{document['score']:.6g} ± {document['interval']:.3g}" in rows["mean"]


def test_train_takes_the_architecture_and_keeps_the_recipe(evospike, recipe: Path, found: Path) -> None:
    said = evospike("train", recipe, "--model", found, "-o", "run", "--json", "--epochs", 1, "--arms", "dense")
    assert said.code == 0, said.err
    assert said.document["parameters"] == json.loads((found / "result.json").read_text())["parameters"]
    inspected = evospike("inspect", "run", "--json").document
    assert inspected["network"] == "searched"
    assert inspected["digest"] == evospike("inspect", found, "--json").document["digest"]
    assert inspected["digest"] == evospike("inspect", recipe, "--model", found, "--json").document["digest"]


def test_a_found_architecture_transfers_to_other_images(evospike, found: Path) -> None:
    there = evospike("inspect", "cifar100-gee-resnet18-small", "--model", found, "--json").document
    assert (there["input_shape"], there["classes"]) == ([3, 32, 32], 100)
    here = evospike("inspect", found, "--json").document
    body = [layer for layer in here["layers"] if layer["role"] not in ("stem", "classifier")]
    kept = {layer["name"]: layer["dense_parameters"] for layer in there["layers"]}
    assert all(kept[layer["name"]] == layer["dense_parameters"] for layer in body)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "digits-serch"], "unknown recipe 'digits-serch'; did you mean 'digits-search'?"),
        (["search", "--set", "space.motifs=['FE','XY']"], "XY"),
        (["search", "--set", "space.operations=['conv4']"], "'space.operations[0]' cannot be 'conv4'"),
        (["search", "--set", "space.inputs=[5]"], "'inputs' may hold 2, 3 and 4, given 5"),
        (["search", "--set", "search.objectives=['latency']"], "names 'latency', which a search does not measure"),
        (["search", "--set", "search.objectives=['accuracy']"], "names 'accuracy', which a search does not measure"),
        (["search", "--set", "scoring.max_operations=2"], "2000 times: more operations than max_operations = 2"),
        (["search", "--set", "dissimilarity.batch=1"], "batch"),
        (["search", "--set", "data.image_size=9"], "halve an image of 9x9"),
        (["search", "--set", "space.motif_file=nowhere.toml"], "nowhere.toml"),
        (["train", "digits", "--model", "nowhere"], "no run folder or genome file at 'nowhere'"),
        (["search", "--seeds", "0"], "'seeds' must be at least 1, given 0"),
        (["rank", "--set", "rank.genomes=2"], "'genomes' must be at least 3"),
    ],
)
def test_bad_input_is_one_line(evospike, arguments: list[str], message: str) -> None:
    said = evospike(*arguments)
    assert said.code == 2
    assert said.out == ""
    complaints = [line for line in said.lines if not line.startswith(("run folder: ", "notice: "))]
    assert len(complaints) == 1, said.err
    assert message in complaints[0]
    assert not list(Path().glob("runs/*"))


def test_a_motif_with_an_unmarked_cycle_is_one_line(evospike) -> None:
    Path("mine.toml").write_text(
        '[[motif]]\nname = "LOOP"\ncircuit = "a loop"\ninputs = [2, 3]\nnodes = ["E1", "E2"]\n'
        'edges = ["a -> E1 +", "E1 -> E2 +", "E2 -> E1 +"]\n'
    )
    said = evospike("search", "--set", "space.motif_file=mine.toml", "--set", "space.motifs=['FE','LOOP']")
    assert said.code == 2
    assert "LOOP" in said.lines[-1]
    assert "=>" in said.lines[-1]  # how feedback is marked


def test_an_edited_genome_is_one_line(evospike, found: Path, tmp_path: Path) -> None:
    genome = json.loads((found / "result.json").read_text())["winner"]["genome"]
    genome["cells"][0]["motif"] = "FX"
    Path("genome.json").write_text(json.dumps(genome))
    said = evospike("train", "digits", "--model", "genome.json")
    assert said.code == 2
    assert "FX" in said.lines[-1]


@pytest.mark.slow
def test_rank_prints_every_score(evospike, recipe: Path) -> None:
    few = ["--set", "rank.genomes=4", "--set", "rank.resamples=100", "--set", "scoring.samples=60"]
    said = evospike("rank", recipe, "-o", "ranked", "--quiet", *SPACE, *few)
    assert said.code == 0, said.err
    for name in ("hamming", "sahd_logdet", "parameters", "operations", "random"):
        assert f"\n{name} " in f"\n{said.out}"
    assert evospike("resume", "ranked", "--json").document["architectures"] <= 4
