"""Whole searches: their document, their determinism, and the way of a winner into a training."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from evospike.core.errors import EvospikeError, RunError, SettingsError
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.genomes import read_model
from evospike.jobs.inspection import dry_run, inspect_recipe
from evospike.jobs.load import load
from evospike.models.counts import dense_parameters
from evospike.search.decode import decode
from evospike.search.genome import Genome


def test_the_document(searched) -> None:
    run, result = searched
    assert run.read("result.json") == result
    assert result["candidates"] == 8
    assert result["test_accuracy"] is None
    genome = Genome.from_json(json.dumps(result["winner"]["genome"]))
    spec = decode(genome, (1, 8, 8), 10)
    assert spec.digest() == result["winner"]["network"]
    assert dense_parameters(spec) == result["parameters"]
    with Store.open(run.store_path) as store:
        scores = store.scores()
    assert len(scores) == 8 + 2 * 2
    drawn = [one.score.terms["score"] for one in scores if one.request.kind == "finalist"]
    assert result["score"] == pytest.approx(max(sum(drawn[:2]) / 2, sum(drawn[2:]) / 2))
    (best,) = result["front"]
    assert best["terms"]["score"] == max(one.score.terms["score"] for one in scores if one.request.kind == "candidate")


@pytest.mark.slow
def test_workers_and_kills_do_not_change_the_digest(searched, tiny, tmp_path: Path) -> None:
    _, result = searched
    recipe = tiny("run.workers=2")
    two = conduct(create_run("search", recipe, str(tmp_path / "two")), recipe, quiet=True)
    assert two["digest"] == result["digest"]
    copy = _copy(searched[0], tmp_path / "killed")
    with closing(sqlite3.connect(copy.store_path)) as connection, connection:
        connection.execute("DELETE FROM records WHERE name = 'winner' OR name LIKE 'finalist/%'")
        connection.execute("DELETE FROM records WHERE name IN ('candidate/0001/0001', 'candidate/0001/0003')")
    again = conduct(open_run(copy.path), tiny(), quiet=True)
    assert again["digest"] == result["digest"]
    assert again["winner"] == result["winner"]


def test_a_finished_search_prints_its_result_again(searched, tiny) -> None:
    run, result = searched
    assert conduct(run, tiny(), quiet=True) == result


@pytest.mark.slow
def test_two_objectives_give_a_front(tiny, tmp_path: Path) -> None:
    recipe = tiny("search.objectives=['score','energy']", "search.finalists=0")
    result = conduct(create_run("search", recipe, str(tmp_path / "run")), recipe, quiet=True)
    front = [(member["terms"]["score"], member["terms"]["energy"]) for member in result["front"]]
    assert front == sorted(front, reverse=True)
    assert all(a[1] > b[1] for a, b in itertools.pairwise(front))
    assert result["winner"]["terms"]["score"] == front[0][0]


def test_bounds_hold_and_impossible_ones_say_which(tiny, searched, tmp_path: Path) -> None:
    with Store.open(searched[0].store_path) as store:
        sizes = sorted(one.score.terms["parameters"] for one in store.scores())
    bound = int(sizes[len(sizes) // 2])
    recipe = tiny(f"scoring.max_parameters={bound}", "search.finalists=0", "search.generations=1")
    run = create_run("search", recipe, str(tmp_path / "run"))
    conduct(run, recipe, quiet=True)
    with Store.open(run.store_path) as store:
        assert all(one.score.terms["parameters"] <= bound for one in store.scores())
    recipe = tiny("scoring.max_parameters=10")
    with pytest.raises(SettingsError, match="2000 times: more parameters than max_parameters = 10"):
        conduct(create_run("search", recipe, str(tmp_path / "none")), recipe, quiet=True)


def test_an_image_too_small_for_the_reductions_is_one_line(tiny, tmp_path: Path) -> None:
    recipe = tiny("space.cells=8", "space.reductions=event")  # four reductions of 8x8
    with pytest.raises(EvospikeError, match="halve"):
        conduct(create_run("search", recipe, str(tmp_path / "run")), recipe, quiet=True)


def test_the_score_is_the_score_whatever_comes_first(tiny, tmp_path: Path) -> None:
    recipe = tiny("search.objectives=['energy','score']", "search.generations=1", "search.finalists=1")
    result = conduct(create_run("search", recipe, str(tmp_path / "run")), recipe, quiet=True)
    with Store.open(tmp_path / "run" / "study.sqlite") as store:
        draws = [one.score.terms for one in store.scores() if one.request.kind == "finalist"]
    assert result["score"] == pytest.approx(sum(terms["score"] for terms in draws) / 2)
    assert result["winner"]["terms"]["energy"] == min(member["terms"]["energy"] for member in result["front"])


def test_a_motif_file_that_changed_is_refused(tiny, tmp_path: Path) -> None:
    motifs = tmp_path / "mine.toml"
    text = '[[motif]]\nname = "X"\ncircuit = "x"\ninputs = [2, 3]\nnodes = ["E1"]\nedges = ["a -> E1 +"]\n'
    motifs.write_text(text)
    recipe = tiny(
        f"space.motif_file={motifs}", "space.motifs=['FE', 'X']", "search.generations=1", "search.finalists=0"
    )
    run = create_run("search", recipe, str(tmp_path / "run"))
    conduct(run, recipe, quiet=True)
    (run.path / "result.json").unlink()
    motifs.write_text(text.replace("E1", "E9"))
    with pytest.raises(RunError, match=r"has changed: motifs of space\.motif_file"):
        conduct(run, recipe, quiet=True)


def test_other_objectives_need_another_run(searched, tiny, tmp_path: Path) -> None:
    copy = _copy(searched[0], tmp_path / "copy")
    with pytest.raises(EvospikeError, match="objectives"):
        conduct(copy, tiny("search.objectives=['score','energy']"), quiet=True)


def test_the_winner_trains_like_any_other_network(searched, tiny, tmp_path: Path) -> None:
    run, result = searched
    genome = read_model(run.path)
    recipe = tiny("final.arms=['genetic', 'dense']", f"model.genome='{genome}'", "encoding.skip_growing=true")
    trained = conduct(create_run("train", recipe, str(tmp_path / "trained")), recipe, quiet=True)
    genetic, dense = trained["arms"]
    assert dense["parameters"] == result["parameters"]
    assert genetic["parameters"] < dense["parameters"]
    assert load(tmp_path / "trained").network.spec.digest() == result["winner"]["network"]
    assert read_model(tmp_path / "trained") == genome
    assert inspect_recipe(recipe)["digest"] == result["winner"]["network"]


def test_a_genome_file_is_a_model(searched, tmp_path: Path) -> None:
    genome = read_model(searched[0].path)
    (tmp_path / "genome.json").write_text(genome)
    assert read_model(tmp_path / "genome.json") == genome
    (tmp_path / "edited.json").write_text(genome.replace("conv", "cnv"))
    with pytest.raises(SettingsError, match=r"cannot read genome .*edited.json"):
        read_model(tmp_path / "edited.json")


def test_what_has_no_architecture_says_so(trained, searched, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has preset 'small8', no searched architecture"):
        read_model(trained[0].path)
    with pytest.raises(RunError, match="no run folder or genome file"):
        read_model(tmp_path / "nowhere")
    copy = _copy(searched[0], tmp_path / "copy")
    with pytest.raises(RunError, match="is not finished; continue it with"):
        read_model(copy.path)
    with pytest.raises(RunError, match="has no trained network; train what it found"):
        load(searched[0].path)


def test_a_dry_run_counts_candidates(tiny) -> None:
    plan = dry_run(tiny(), "search")
    assert plan["candidates"] == 4 + 4 + 4
    assert plan["estimated_memory_bytes"] > 0
    assert dry_run(tiny(), "rank")["candidates"] == 5


def _copy(run: RunFolder, path: Path) -> RunFolder:
    """A copy of a finished run without its result."""
    shutil.copytree(run.path, path)
    (path / "result.json").unlink()
    return open_run(path)
