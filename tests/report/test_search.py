"""What the page of a search is made of: candidates, front, winner, and its charts."""

from __future__ import annotations

import json
import re
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evospike.core.errors import RunError, SettingsError
from evospike.core.statistics import half_interval
from evospike.evolution.population import Candidate
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.folder import read_record, write_record
from evospike.report.page import write_report
from evospike.report.search.charts import plane_chart, search_charts
from evospike.report.search.facts import front_of, gather_search, image_side, plane_objectives, term_of
from evospike.search.space import Space

MAXIMISED = {"score"}


def candidate(index, terms, status="ok"):
    return Candidate(0, index, Genotype(("gene",), (0.0,)), Score(status, "", terms))


def dominates(a, b, objectives):
    def cost(one, name):
        return -term_of(one, name) if name in MAXIMISED else term_of(one, name)

    pairs = [(cost(a, name), cost(b, name)) for name in objectives]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


POINTS = st.lists(
    st.tuples(*[st.integers(0, 6)] * 3, st.sampled_from(["ok", "ok", "ok", "silent"])), min_size=0, max_size=30
)


@given(POINTS, st.sampled_from([("score", "parameters"), ("energy", "score"), ("score", "parameters", "energy")]))
def test_the_front_is_what_no_candidate_dominates(points, objectives):
    everyone = [
        candidate(k, {"score": float(a), "parameters": float(b), "energy": float(c)}, status)
        for k, (a, b, c, status) in enumerate(points)
    ]
    usable = [one for one in everyone if one.score.ok]
    found = front_of(everyone, objectives)
    values = [tuple(term_of(one, name) for name in objectives) for one in found]
    free = [one for one in usable if not any(dominates(other, one, objectives) for other in usable)]
    assert set(values) == {tuple(term_of(one, name) for name in objectives) for one in free}
    assert len(set(values)) == len(values)
    assert all(one in free for one in found)
    firsts = [term_of(one, objectives[0]) for one in found]
    assert firsts == sorted(firsts, reverse=objectives[0] in MAXIMISED)


def test_a_candidate_that_lacks_an_objective_is_not_on_the_front():
    with_both, without = candidate(0, {"score": 1.0, "energy": 1.0}), candidate(1, {"score": 9.0})
    assert front_of([with_both, without], ("score", "energy")) == (with_both,)


@pytest.mark.parametrize(
    ("own", "plane"),
    [
        (["score"], ("score", "parameters")),
        (["parameters"], ("parameters", "score")),
        (["energy"], ("energy", "parameters")),
        (["score", "energy"], ("score", "energy")),
        (["energy", "score", "spikes"], ("energy", "score", "spikes")),
    ],
)
def test_the_plane_is_of_the_searchs_own_objectives(make_search, own, plane):
    recipe = make_search(overrides=[f"search.objectives={json.dumps(own)}"], plan=False).recipe
    assert plane_objectives(recipe) == plane


def test_a_finished_search(make_search):
    run = make_search()
    facts = gather_search(run.folder)
    with Store.open(run.path / "study.sqlite") as store:
        recorded = store.scores("candidate")
        winner = store.values()["winner"]
    assert [(c.genotype, c.score) for c in facts.candidates] == [(r.request.genotype, r.score) for r in recorded]
    assert (facts.chosen.generation, facts.chosen.index) == (winner["generation"], winner["candidate"])
    assert facts.finished
    result = read_record(run.path / "result.json")
    assert json.loads(facts.genome.to_json()) == result["winner"]["genome"]
    assert facts.failed == 6
    assert [len(generation.candidates) for generation in facts.generations] == [6, 6, 6]
    assert facts.side == (8, 8)


def test_best_and_median_leave_out_what_failed(make_search):
    for generation in gather_search(make_search().folder).generations:
        scores = sorted(c.score.terms["score"] for c in generation.candidates if c.score.ok)
        assert len(scores) == 4
        assert generation.best_of("score") == scores[-1]
        assert generation.median_of("score") == (scores[1] + scores[2]) / 2
        sizes = [c.score.terms["parameters"] for c in generation.candidates if c.score.ok]
        assert generation.best_of("parameters") == min(sizes)
        assert generation.failed == 2


def test_an_unfinished_search_draws_the_best_so_far(make_search):
    run = make_search(scores=8)
    facts = gather_search(run.folder)
    usable = [c for c in facts.candidates if c.score.ok]
    assert not facts.finished
    assert len(facts.candidates) == 8
    assert facts.chosen.score.terms["score"] == max(c.score.terms["score"] for c in usable)
    vector = [int(value) for value in facts.chosen.genotype.values]
    assert facts.genome == Space(run.recipe.space).genome(vector)
    assert [len(g.candidates) for g in facts.generations] == [6, 2]
    assert [g.asked for g in facts.generations] == [6, 6]


@pytest.mark.parametrize("parts", [{"plan": False}, {"scores": 0}])
def test_a_search_that_has_scored_nothing(make_search, parts):
    facts = gather_search(make_search(**parts).folder)
    assert (facts.candidates, facts.front, facts.chosen, facts.genome) == ([], (), None, None)
    assert search_charts(facts) == {}


def test_images_of_unknown_data_have_no_size(make_search):
    recipe = make_search(plan=False, overrides=["data.source=imagefolder:there"]).recipe
    assert image_side(recipe) is None
    sized = make_search(plan=False, overrides=["data.source=imagefolder:there", "data.image_size=24"]).recipe
    assert image_side(sized) == (24, 24)


def test_simulated_recordings_are_as_large_as_their_sensor(make_search):
    events = ["data.source=digits-events", "data.events.frames=4", "model.steps=4", "data.simulator.sensor=20"]
    assert image_side(make_search(plan=False, overrides=events).recipe) == (20, 20)


@pytest.mark.parametrize("content", [{}, {"winner": {}}, {"winner": 3}])
def test_a_result_without_its_winner_is_refused_in_one_line(make_search, content):
    run = make_search()
    write_record(run.path / "result.json", content)
    with pytest.raises(RunError, match=r"unexpected form .* restore it or start a new run$"):
        gather_search(run.folder)


def test_a_result_whose_genome_is_none_is_refused_in_one_line(make_search):
    run = make_search()
    write_record(run.path / "result.json", {"winner": {"genome": {"format": 1, "cells": []}}})
    with pytest.raises(SettingsError, match=r"^genome: "):
        gather_search(run.folder)


def fill(run, number, count, best):
    """Score `count` random genomes of one generation as search `number`, the last one highest: at `best`."""
    space = Space(run.recipe.space)
    rng = np.random.default_rng(number)
    drawn = [tuple(rng.integers(0, np.array(space.upper) + 1)) for _ in range(6)]
    genotypes = [Genotype(space.names, genes) for genes in drawn]
    with Store.open_or_create(run.path / f"study-{number}.sqlite") as store:
        store.record_generation(0, genotypes)
        for index, genotype in enumerate(genotypes[:count]):
            terms = {"score": best - count + 1 + index, "parameters": 7000.0 + 10 * number + index}
            terms |= {"operations": 80000.0 + number, "firing_rate": 0.1 * number}
            store.record_score(Request("candidate", 0, index, genotype, ("search",)), Score("ok", terms=terms))
    return genotypes


@pytest.fixture
def make_several(make_search):
    """Make the folder of three searches; the best is the second. finished: with its result, else without, the third
    search not begun."""

    def make(*, finished=True):
        run = make_search(overrides=["search.seeds=3"])
        genotypes = fill(run, 1, 6, best=90000.0)
        if not finished:
            (run.path / "result.json").unlink()
            return run
        with Store.open(run.path / "study-1.sqlite") as store:
            store.record_value("winner", {"generation": 0, "candidate": 5, "genotype": genotypes[5].to_json()})
        fill(run, 2, 6, best=50.0)
        result = read_record(run.path / "result.json")
        seeds = [
            {"seed": 0, "score": 2000.5, "parameters": 9000, "operations": 70000, "firing_rate": 0.25},
            {"seed": 1, "score": 90001.5, "parameters": 7015, "operations": 80001, "firing_rate": 0.1},
            {"seed": 2, "score": 49.5, "parameters": 7025, "operations": 80002, "firing_rate": 0.2},
        ]
        scores = [seed["score"] for seed in seeds]
        result |= {name: fmean(seed[name] for seed in seeds) for name in seeds[0] if name != "seed"}
        result |= {"score_std": stdev(scores), "interval": half_interval(scores), "winner_seed": 1, "seeds": seeds}
        result["winner"]["genome"] = json.loads(Space(run.recipe.space).genome(genotypes[5].values).to_json())
        write_record(run.path / "result.json", result)
        return run

    return make


def test_of_several_searches_the_one_that_the_result_names_is_drawn(make_several):
    run = make_several()
    facts = gather_search(run.folder)
    assert (facts.drawn, facts.chosen.index, facts.chosen.score.terms["score"]) == (1, 5, 90000.0)
    assert len(facts.candidates) == 6
    assert json.loads(facts.genome.to_json()) == facts.result["winner"]["genome"]
    assert facts.genome == Space(run.recipe.space).genome([int(gene) for gene in facts.chosen.genotype.values])
    assert [(seed.number, seed.candidates, seed.score) for seed in facts.seeds] == [
        (0, 18, 2000.5),
        (1, 6, 90001.5),
        (2, 6, 49.5),
    ]
    assert (facts.scored, facts.asked) == (30, 54)
    assert all(chart.summary.startswith("Seed 1: ") for chart in search_charts(facts).values())


def test_of_unfinished_searches_the_best_so_far_is_drawn(make_several):
    run = make_several(finished=False)
    facts = gather_search(run.folder)
    assert (facts.drawn, facts.chosen.score.terms["score"]) == (1, 90000.0)
    assert (facts.seeds[2].candidates, facts.seeds[2].score) == (0, None)
    assert (facts.scored, facts.asked) == (24, 54)
    (run.path / "study-1.sqlite").unlink()
    without = gather_search(run.folder)
    assert (without.drawn, without.scored) == (0, 18)
    assert facts.seeds[0] == without.seeds[0]
    assert facts.seeds[0].score == max(c.score.terms["score"] for c in without.candidates if c.score.ok)


def page_of(run):
    for module in ("plotly", "jinja2"):
        pytest.importorskip(module, reason="needs the extra 'report'")
    return write_report(run.path, None).read_text(encoding="utf-8")


def cells(page, section):
    """Rows of the tables of a section, as texts of their cells."""
    (body,) = re.findall(rf'<section class="card" id="{section}".*?</section>', page, re.DOTALL)
    rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_the_page_of_several_searches_has_a_row_each_and_their_mean(make_several):
    run = make_several()
    page = page_of(run)
    head, *rows, mean = cells(page, "seeds")
    assert head == ["Seed", "Score", "Parameters", "Operations", "Firing rate", "Candidates scored", "Drawn"]
    assert rows == [
        ["0", "2000.5", "9,000", "70,000", "0.25", "18", "–"],
        ["1", "90001.5", "7,015", "80,001", "0.1", "6", "drawn"],
        ["2", "49.5", "7,025", "80,002", "0.2", "6", "–"],
    ]
    half = 4.30265 * stdev([2000.5, 90001.5, 49.5]) / 3**0.5
    assert mean[:5] == ["Mean ± 95 % interval", f"30683.8 ± {half:.3g}", "7,680", "76,668", "0.183"]
    assert f"<dd>30683.8 ± {half:.3g}<small>mean over 3 searches, 95 % interval</small>" in page
    assert "The winner of seed 1: generation 1, candidate 6." in page
    assert "Seed 1: 6 candidates of 1 generation" in page
    assert "<caption>Seed 1. Candidates that no other beats" in page


def test_the_page_of_unfinished_searches_says_so(make_several):
    page = page_of(make_several(finished=False))
    _, *rows = cells(page, "seeds")
    assert [row[0] for row in rows] == ["0", "1", "2"]
    assert rows[1][1:] == ["90000", "7,015", "80,001", "0.1", "6", "drawn"]
    assert rows[2][1:] == ["–", "–", "–", "–", "0", "–"]
    assert "Seed 1 has the best score so far" in page
    assert "The best so far of seed 1: generation 1, candidate 6." in page


def test_the_page_of_one_search_has_no_table_of_seeds(make_search):
    page = page_of(make_search())
    assert 'id="seeds"' not in page
    assert "of seed" not in page


@pytest.mark.parametrize("change", [{"winner_seed": 3}, {"seeds": []}, {"seeds": [{"score": 1.0}]}, {"seeds": 4}])
def test_a_result_without_one_of_its_searches_is_refused_in_one_line(make_several, change):
    run = make_several()
    result = read_record(run.path / "result.json")
    write_record(run.path / "result.json", result | change)
    with pytest.raises(RunError, match=r"unexpected form .* restore it or start a new run$"):
        gather_search(run.folder)


def traces(chart):
    return {trace["name"]: trace for trace in chart.data}


def test_every_candidate_is_a_dot_by_generation_and_failures_are_crosses(make_search):
    facts = gather_search(make_search().folder)
    found = traces(search_charts(facts)["scores"])
    assert list(found) == ["candidates", "median", "best", "no usable score", "winner"]
    assert found["candidates"]["x"] == [k for k in (1, 2, 3) for _ in range(4)]
    assert found["candidates"]["y"] == pytest.approx([c.score.terms["score"] for c in facts.candidates if c.score.ok])
    assert found["best"]["y"] == pytest.approx([g.best_of("score") for g in facts.generations])
    assert found["median"]["y"] == pytest.approx([g.median_of("score") for g in facts.generations])
    crosses = found["no usable score"]
    assert (crosses["marker"]["symbol"], len(crosses["x"])) == ("x", 6)
    known = [c.score.terms["score"] for c in facts.candidates if "score" in c.score.terms]
    assert crosses["y"][1::2] == pytest.approx([min(known)] * 3)  # measured nothing: at the lower edge
    table = search_charts(facts)["scores"].layout["meta"]["candidates"]
    reasons = [table["reasons"][table["failures"][str(row)]] for row in crosses["customdata"]]
    assert "silent: '&lt;script&gt;" in reasons[0]
    assert "diverged: loss of '&lt;script&gt;" in reasons[1]
    assert found["winner"]["y"] == [facts.chosen.score.terms["score"]]


def test_the_plane_has_a_dot_per_candidate_and_the_front_from_left_to_right(make_search):
    facts = gather_search(make_search().folder)
    chart = plane_chart(facts)
    found = traces(chart)
    assert (chart.layout["xaxis"]["title"]["text"], chart.layout["yaxis"]["title"]["text"]) == ("parameters", "score")
    assert len(found["candidates"]["x"]) == 12
    assert len(found["no usable score"]["x"]) == 3  # those that measured something
    front = sorted((c.score.terms["parameters"], c.score.terms["score"]) for c in facts.front)
    assert list(zip(found["front"]["x"], found["front"]["y"], strict=True)) == front
    assert found["front"]["mode"] == "lines+markers"


def test_a_front_of_three_objectives_is_no_line(make_search):
    run = make_search(overrides=['search.objectives=["energy","score","parameters"]'])
    chart = plane_chart(gather_search(run.folder))
    assert chart.layout["yaxis"]["title"]["text"] == "energy per sample (pJ)"
    assert chart.layout["xaxis"]["title"]["text"] == "score"
    assert traces(chart)["front"]["mode"] == "markers"


def test_when_everything_failed_there_is_no_front_and_the_charts_say_so(make_search):
    run = make_search(scores=0)
    with Store.open(run.path / "study.sqlite") as store:
        names, genes = Space(run.recipe.space).names, Space(run.recipe.space).lower
        genotype = Genotype(names, genes)
        store.record_generation(0, [genotype, genotype])
        request = Request("candidate", 0, 0, genotype, ("search",))
        store.record_score(request, Score("silent", "quiet", {"score": 3.0, "parameters": 4.0}))
    facts = gather_search(run.folder)
    charts = search_charts(facts)
    assert (facts.front, facts.chosen) == ((), None)
    assert list(traces(charts["plane"])) == ["no usable score"]
    assert "no usable score" in traces(charts["scores"])


def test_plotly_accepts_the_charts(make_search):
    go = pytest.importorskip("plotly.graph_objects", reason="needs the extra 'report'")
    for chart in search_charts(gather_search(make_search(hostile=True).folder)).values():
        text = json.dumps(chart.figure(), allow_nan=False)
        assert "<script" not in text
        go.Figure(json.loads(re.sub(r'"@[a-z0-9]+"', '"#123456"', text)))  # raises for an unknown property
