"""The dots of a search, at the sizes that searches have: what they say, how many there are, how large the page is."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evospike.evolution.population import Candidate
from evospike.evolution.records import Score
from evospike.report.page import render
from evospike.report.pages import make_page
from evospike.report.search.charts import search_charts
from evospike.report.search.dots import MOST, brief, drawn_candidates, label_table
from evospike.report.search.facts import SearchGeneration, gather_search

pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")


def score_of(generation: int, index: int) -> Score:
    """Numbers with all their digits; every seventh candidate has a reason of its own for no score."""
    place = 1.0 + (7919 * (generation + 1) + 104729 * index) % 9973 / 9973
    terms = {"score": 19649.342105263 * place, "dissimilarity": 19649.342105263 * place, "energy": 58739.399999 * place}
    terms |= {"spikes": 1154.075 * place, "firing_rate": 0.271164238 / place}
    terms |= {"operations": float(round(176576 * place)), "parameters": float(round(15548 / place) + index)}
    if index % 7 == 3:
        return Score("silent", f"layer 'cell{index}' fires {0.001 * place:.6f} times a step, of at least 0.01", terms)
    return Score("ok", "", terms)


@pytest.fixture
def run(make_search):
    """The folder of a small search."""
    return make_search().folder


@pytest.fixture
def searched(run):
    """The facts of a search of so many candidates in each of so many generations."""
    facts = gather_search(run)
    genotype = facts.candidates[0].genotype

    def made(count, generations):
        found = [
            SearchGeneration(
                number, count, tuple(Candidate(number, k, genotype, score_of(number, k)) for k in range(count))
            )
            for number in range(generations)
        ]
        front = tuple(generation.candidates[k % 3] for k, generation in enumerate(found))
        return replace(facts, generations=tuple(found), front=front, chosen=front[0])

    return made


@pytest.fixture
def page_of(monkeypatch, run):
    """The page of such facts."""

    def page(facts):
        monkeypatch.setattr("evospike.report.pages.gather_search", lambda run: facts)
        return render(make_page(run))

    return page


def rows_of(chart):
    """Rows of the table of labels that the dots and crosses of a chart have."""
    return sorted(
        row for trace in chart.data if trace["name"] in ("candidates", "no usable score") for row in trace["customdata"]
    )


def test_a_search_of_the_default_size_fits_a_page_with_every_candidate(searched, page_of):
    facts = searched(50, 100)
    charts = search_charts(facts)
    assert all(rows_of(chart) == list(range(5000)) for chart in charts.values())
    assert [chart.note for chart in charts.values()] == ["", ""]
    page = page_of(facts)
    assert len(page.encode()) < 5.6e6, len(page.encode())


def test_a_larger_search_is_thinned_and_says_so(searched, page_of):
    facts = searched(100, 200)
    drawn = drawn_candidates(facts)
    assert 0.9 * MOST < len(drawn) < 1.1 * MOST
    assert len({(one.generation, one.index) for one in drawn}) == len(drawn)
    assert sorted(drawn, key=lambda one: (one.generation, one.index)) == drawn
    # the latest generations whole, of the earlier ones a few of each, and whatever stands out
    counts = [sum(one.generation == number for one in drawn) for number in range(200)]
    assert counts[175:] == [100] * 25
    assert all(14 <= count <= 17 for count in counts[:175])
    kept = {(one.generation, one.index) for one in drawn}
    for generation in facts.generations:
        usable = [one for one in generation.candidates if one.score.ok]
        best = max(usable, key=lambda one: one.score.terms["score"])
        assert (best.generation, best.index) in kept
    assert {(one.generation, one.index) for one in facts.front} <= kept

    page = page_of(facts)
    assert len(page.encode()) < 5.7e6, len(page.encode())
    note = f"Dots: {len(drawn):,} of 20,000 candidates, which are every candidate from generation 176 on, one in 7 of"
    assert page.count(note) == 2
    assert "By generation and place in it: the latest 1,000 of 2,800." in page
    assert '<th scope="row">200.95</th><td class="words reason">silent: ' in page
    assert "Score of 20000 candidates by generation" in page


def test_one_huge_generation_is_thinned_too(searched):
    facts = searched(9000, 1)
    drawn = drawn_candidates(facts)
    assert 4500 <= len(drawn) <= 4502
    assert search_charts(facts)["scores"].note.endswith("one in 2 of all, the best of each generation and the front.")


def test_the_labels_stand_once_and_say_everything_of_a_candidate(run):
    facts = gather_search(run)
    charts = search_charts(facts)
    assert list(charts["scores"].layout["meta"]) == ["candidates"]
    assert "meta" not in charts["plane"].layout
    table = charts["scores"].layout["meta"]["candidates"]
    assert table == label_table(facts.candidates)
    assert all(len(values) == len(facts.candidates) == len(table["generations"]) for _, values in table["terms"])
    assert len(table["reasons"]) == 2
    for row, candidate in enumerate(facts.candidates):
        assert (table["generations"][row], table["numbers"][row]) == (candidate.generation + 1, candidate.index + 1)
        told = {name: values[row] for name, values in table["terms"] if values[row] is not None}
        assert told == {
            name.replace("_", " "): pytest.approx(value, rel=1e-5) for name, value in candidate.score.terms.items()
        }
        assert (str(row) in table["failures"]) == (not candidate.score.ok)
    assert all(trace["meta"] == "candidates" for trace in charts["plane"].data)


def test_numbers_are_brief():
    assert json.dumps(brief([15548.0, 0.2711642387, None, 1234567.0, float("nan")])) == (
        "[15548, 0.271164, null, 1234570, null]"
    )
