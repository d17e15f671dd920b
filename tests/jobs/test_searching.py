"""Whole searches: their document, their determinism, and the way of a winner into a training."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from evospike.core.errors import EvospikeError, Interrupted, RunError, SettingsError, StoreError
from evospike.core.files import digest_json
from evospike.evolution.ledger import Event
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.settings import PopulationSettings
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.genomes import read_model
from evospike.jobs.inspection import dry_run, inspect_recipe
from evospike.jobs.load import load
from evospike.jobs.plan import Plan
from evospike.jobs.recipe import read_recipe, recipe_text
from evospike.jobs.results import describe
from evospike.jobs.scoring import score_architecture
from evospike.jobs.searching import PROBES, root_of, show_scores, with_own_draws
from evospike.jobs.spaces import estimate
from evospike.jobs.workshop import Workshop
from evospike.models.counts import dense_parameters
from evospike.search.codec import read_released
from evospike.search.decode import decode
from evospike.search.genome import Genome
from evospike.search.settings import SpaceSettings
from evospike.search.space import Space
from evospike.sparse.masks import summarise


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, tiny):
    """Two finished searches of one run, and their result."""
    recipe = tiny("search.seeds=2")
    run = create_run("search", recipe, str(tmp_path_factory.mktemp("runs") / "twice"))
    return run, conduct(run, recipe, quiet=True)


def records(run: RunFolder, seed: int):
    with Store.open(run.store_path_of(seed)) as store:
        return store.scores(), store.values(), store.digest()


def test_the_document(searched) -> None:
    run, result = searched
    assert run.read("result.json") == result
    assert (result["candidates"], result["draws"]) == (8, 4)
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
    assert (result["score_std"], result["interval"], result["winner_seed"]) == (None, None, 0)
    (seed,) = result["seeds"]
    shared = ("score", "parameters", "operations", "density", "firing_rate", "candidates", "draws", "digest")
    assert result["density"] == 1
    assert seed == {"seed": 0, "winner": result["winner"]["genome"], **{name: result[name] for name in shared}}


def test_the_first_of_several_searches_is_the_search_alone(searched, twice) -> None:
    run, result = searched
    assert twice[1]["seeds"][0] == result["seeds"][0]
    assert records(twice[0], 0)[1:] == records(run, 0)[1:]
    assert records(run, 0)[2] == result["digest"]


def test_a_record_does_not_say_how_many_searches_there_are(twice) -> None:
    """Records of releases that knew one search only are gone on with."""
    names = PopulationSettings().definition.keys()
    for seed in (0, 1):
        assert records(twice[0], seed)[1]["study"]["settings"].keys() == names


def test_the_document_of_several_searches(twice) -> None:
    run, result = twice
    first, second = result["seeds"]
    for name in ("score", "parameters", "operations", "firing_rate"):
        assert result[name] == pytest.approx((first[name] + second[name]) / 2)
    spread = abs(first["score"] - second["score"])
    assert result["score_std"] == pytest.approx(spread / 2**0.5)
    assert result["interval"] == pytest.approx(12.7062 * spread / 2)
    best = result["seeds"][result["winner_seed"]]
    assert best["score"] == max(first["score"], second["score"])
    assert best["winner"] == result["winner"]["genome"]
    assert [first["digest"], second["digest"]] == [records(run, seed)[2] for seed in (0, 1)]
    assert result["digest"] == digest_json([first["digest"], second["digest"]])
    genome = Genome.from_json(read_model(run.path))
    spec = decode(genome, (1, 8, 8), 10)
    assert (spec.digest(), dense_parameters(spec)) == (result["winner"]["network"], best["parameters"])
    candidates = [one.score.terms for one in records(run, result["winner_seed"])[0] if one.request.kind == "candidate"]
    assert [member["terms"] for member in result["front"]] == [max(candidates, key=lambda terms: terms["score"])]


def test_the_density_is_that_at_which_candidates_are_trained(tiny, tmp_path: Path, monkeypatch) -> None:
    def evaluate(requests):
        for request in requests:
            yield request, Score("ok", terms={"score": float(request.index)}), 1

    monkeypatch.setattr("evospike.jobs.searching.pool", lambda *_: nullcontext())
    monkeypatch.setattr("evospike.jobs.searching.evaluate_with", lambda *_: evaluate)
    recipe = tiny("scoring.score=training", "sparse.density=0.1", "search.generations=1", "search.seeds=2")
    run = create_run("search", recipe, str(tmp_path / "run"))
    result = conduct(run, recipe, quiet=True)
    shop = Workshop.open(recipe, Plan.from_plain(run.read("plan.json")))
    densities = []
    for seed in result["seeds"]:
        net = shop.stored_network(decode(Genome.from_json(json.dumps(seed["winner"])), (1, 8, 8), 10), ("any",))
        shop.structure(net, recipe.sparse, ("any",))
        densities.append(summarise(net, recipe.sparse).density)
    assert [seed["density"] for seed in result["seeds"]] == densities == pytest.approx([0.1, 0.1], abs=1e-3)
    assert result["density"] == sum(densities) / 2
    assert "; trained with 0.1 of the synapses\n" in describe(result)


def test_searches_are_independent_but_see_the_same_batches(twice) -> None:
    (one, facts, _), (other, others, _) = records(twice[0], 0), records(twice[0], 1)
    assert facts[PROBES] == others[PROBES]
    assert facts["study"]["seed"] != others["study"]["seed"]
    assert not {item.request.genotype.values for item in one[:4]} & {item.request.genotype.values for item in other[:4]}


def test_a_further_search_draws_initial_values_of_its_own(twice) -> None:
    run, _ = twice
    recorded = records(run, 1)[0][0]
    shop = Workshop.open(run.recipe, Plan.from_plain(run.read("plan.json")))
    own = replace(recorded.request, draw_key=(*recorded.request.draw_key, "search", 1))
    assert score_architecture(shop, own).terms == recorded.score.terms
    assert score_architecture(shop, recorded.request).terms["score"] != recorded.score.terms["score"]


def test_requests_are_renamed_for_the_evaluation_alone() -> None:
    genotype = Genotype(("gene",), (0.0,))
    requests = [Request("finalist", 2, k, genotype, ("finalist", k)) for k in range(3)]
    seen: list[tuple[str | int, ...]] = []

    def evaluate(asked):
        for request in reversed(asked):
            seen.append(request.draw_key)
            yield request, Score("ok", terms={"score": float(request.index)}), 1

    given = list(with_own_draws(evaluate, 7)(requests))
    assert seen == [("finalist", k, "search", 7) for k in (2, 1, 0)]
    assert [(request, score.terms["score"]) for request, score, _ in given] == [(requests[k], k) for k in (2, 1, 0)]
    assert with_own_draws(evaluate, 0) is evaluate


@pytest.mark.parametrize(
    "scored", [pytest.param(0, marks=pytest.mark.slow), 3, pytest.param(9, marks=pytest.mark.slow)]
)
def test_a_stop_in_the_second_search_changes_nothing(
    twice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scored: int
) -> None:
    done, result = twice
    run = _copy(done, tmp_path / "stopped")
    run.store_path_of(1).unlink()
    record, left = Store.record_score, iter(range(scored))

    def record_some(store: Store, *what) -> None:
        if next(left, None) is None:
            raise Interrupted(signal.SIGTERM)
        record(store, *what)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "record_score", record_some)
        with pytest.raises(Interrupted):
            conduct(run, run.recipe, quiet=True)
    assert len(records(run, 1)[0]) == scored
    again = conduct(run, run.recipe, quiet=True)
    assert {name: again[name] for name in ("digest", "seeds", "winner", "front", "winner_seed", "interval")} == {
        name: result[name] for name in ("digest", "seeds", "winner", "front", "winner_seed", "interval")
    }


def test_a_search_does_not_go_on_with_the_record_of_another(twice, tmp_path: Path) -> None:
    run = _copy(twice[0], tmp_path / "copy")
    shutil.copy(run.store_path_of(0), run.store_path_of(1))
    with pytest.raises(StoreError, match=r"study-1\.sqlite belongs to another study \(seed: 0 -> \d+\)"):
        conduct(run, run.recipe, quiet=True)
    run.store_path_of(1).write_bytes(b"not a record")
    with pytest.raises(StoreError, match=r"study-1\.sqlite"):
        conduct(run, run.recipe, quiet=True)


@pytest.mark.slow
def test_workers_do_not_change_several_searches(twice, tiny, tmp_path: Path) -> None:
    recipe = tiny("search.seeds=2", "run.workers=2")
    two = conduct(create_run("search", recipe, str(tmp_path / "two")), recipe, quiet=True)
    assert (two["digest"], two["seeds"]) == (twice[1]["digest"], twice[1]["seeds"])


@pytest.mark.slow
def test_the_best_search_is_the_best_in_the_first_objective(tiny, tmp_path: Path) -> None:
    few = ("search.objectives=['energy']", "search.generations=1", "search.finalists=0")
    recipe = tiny("search.seeds=3", "run.seed=1", *few)
    run = create_run("search", recipe, str(tmp_path / "run"))
    result = conduct(run, recipe, quiet=True)
    least = [min(item.score.terms["energy"] for item in records(run, seed)[0]) for seed in range(3)]
    assert result["winner_seed"] == least.index(min(least))
    assert result["winner"]["terms"]["energy"] == min(least)


@pytest.mark.parametrize("root", [0, 1])
def test_a_search_of_every_seed_can_be_read_again(root: int, tmp_path: Path) -> None:
    """Roots of further searches have 64 bits, half of them more than fit a signed number."""
    roots = [root_of(root, seed) for seed in range(6)]
    assert max(roots) >= 1 << 63
    for seed, value in enumerate(roots):
        path = tmp_path / f"{seed}.sqlite"
        with Store.create(path) as store:
            store.record_value("study", {"root": value})
        with Store.open(path) as store:
            assert store.values()["study"] == {"root": value}


class Position:
    """A bar that remembers where it was moved."""

    def __init__(self) -> None:
        self.places: list[float] = []
        self.replayed = 0.0

    def reach(self, done: float, *, replayed: bool = False) -> None:
        self.places.append(done)
        self.replayed = max(self.replayed, done * replayed)

    def say(self, **facts: str) -> None:
        self.said = facts


def test_the_bar_counts_what_is_recorded_and_what_arrives() -> None:
    bar = Position()
    show = show_scores(bar, "score")
    show(Event("generation", 0, 4, 4, replayed=True))
    for done in (3, 4):  # two of four were recorded
        show(Event("score", 1, done, 4, score=Score("ok", terms={"score": float(done)})))
    show(Event("generation", 1, 4, 4))
    show(Event("winner", 1, 1, 1, replayed=True))
    show(Event("score", 0, 1, 4, score=Score("ok", terms={"score": 2.0})))  # of the next search
    assert (bar.places, bar.replayed) == ([4, 7, 8, 8, 9], 4)
    assert bar.said == {"generation": "0", "best": "4"}
    show(Event("score", 0, 2, 4, score=Score("timeout")))
    assert bar.said == {"generation": "0", "best": "4", "failed": "1"}


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


def test_a_run_holds_the_motifs_of_a_file(tiny, tmp_path: Path) -> None:
    motifs = tmp_path / "mine.toml"
    text = '# mine\n[[motif]]\nname = "X"\ncircuit = "x"\ninputs = [2, 3]\nnodes = ["E1"]\nedges = ["a -> E1 +"]\n'
    motifs.write_text(text)
    recipe = tiny(f"space.motif_file={motifs}", "space.motifs=['X']", "search.generations=1", "search.finalists=0")
    motifs.unlink()
    run = create_run("search", recipe, str(tmp_path / "run"))
    result = conduct(run, open_run(run.path).recipe, quiet=True)
    assert result["winner"]["genome"]["motifs"][0]["edges"] == ["a -> E1 +"]
    assert open_run(run.path).recipe.space.own_motifs == text
    toml = tmp_path / "again.toml"
    toml.write_text(recipe_text(recipe.to_plain()))
    assert read_recipe(str(toml)).space == recipe.space
    with pytest.raises(SettingsError, match="'motif_file' and 'own_motifs' both define motifs"):
        read_recipe(str(toml), ["space.motif_file=other.toml"])
    with pytest.raises(SettingsError, match="own_motifs: no TOML"):
        Space(SpaceSettings(own_motifs="[["))


def test_another_file_of_motifs_is_refused_where_a_recipe_names_one(tiny, tmp_path: Path) -> None:
    """As recipes of earlier releases do, and those that are made by a call."""
    motifs = tmp_path / "mine.toml"
    text = '[[motif]]\nname = "X"\ncircuit = "x"\ninputs = [2, 3]\nnodes = ["E1"]\nedges = ["a -> E1 +"]\n'
    motifs.write_text(text)
    read = tiny(f"space.motif_file={motifs}", "space.motifs=['X']", "search.generations=1", "search.finalists=0")
    recipe = replace(read, space=replace(read.space, motif_file=str(motifs), own_motifs=""))
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


def test_a_list_in_the_released_layout_is_a_model(tmp_path: Path) -> None:
    values = [2, *[1] * 19, *([1] + [0] * 19) * 5, 3]
    (tmp_path / "released.json").write_text(f" {values}\n")
    assert Genome.from_json(read_model(tmp_path / "released.json")) == read_released(values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "not a genome: .*; expected a JSON list of integers"),
        ("[[1], 2]", "not a genome: a released one is a JSON list of integers alone"),
        ("[true, 2.0]", "not a genome: a released one is a JSON list of integers alone"),
        ("[1, 2]", "a released genome has 20 integers a cell and one more, given 2"),
    ],
)
def test_a_list_that_is_no_genome_says_so(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "released.json").write_text(text)
    with pytest.raises(SettingsError, match=rf"cannot read genome .*released\.json': {said}"):
        read_model(tmp_path / "released.json")


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


def test_estimates_are_of_all_searches(tiny) -> None:
    once, thrice = (dry_run(tiny(f"search.seeds={seeds}"), "search") for seeds in (1, 3))
    for name, factor in {"candidates": 3, "estimated_disk_bytes": 3, "estimated_memory_bytes": 1}.items():
        assert thrice[name] == factor * once[name]
    seconds = [estimate(tiny(f"search.seeds={n}"), (1, 8, 8), 10, 160, ranking=False).seconds for n in (1, 3)]
    assert seconds[1] == pytest.approx(3 * seconds[0])
    assert dry_run(tiny("search.seeds=3"), "rank")["candidates"] == 5


def test_no_search_at_all_is_refused(tiny) -> None:
    with pytest.raises(SettingsError, match=r"\[search\] 'seeds' must be at least 1, given 0"):
        tiny("search.seeds=0")


def _copy(run: RunFolder, path: Path) -> RunFolder:
    """A copy of a finished run without its result."""
    shutil.copytree(run.path, path)
    (path / "result.json").unlink()
    return open_run(path)
