"""What the page of a ranking is made of: scores with tau, differences to the controls, and its charts."""

from __future__ import annotations

import json
import re

import pytest

from evospike.core.errors import RunError
from evospike.jobs.folder import write_record
from evospike.report.rank.charts import rank_charts
from evospike.report.rank.facts import Difference, gather_ranking


def traces(chart):
    return {trace["name"]: trace for trace in chart.data}


def test_scores_are_those_of_the_result(make_ranking):
    facts = gather_ranking(make_ranking().folder)
    assert [score.name for score in facts.scores] == ["hamming", "parameters", "cosine, depth", "random"]
    assert [score.control for score in facts.scores] == [False, True, False, True]
    assert facts.controls == ["parameters", "random"]
    best = facts.scores[0]
    assert (best.tau, best.low, best.high) == pytest.approx((0.6, 0.4, 0.7))
    assert best.against["parameters"] == Difference(pytest.approx(0.25), pytest.approx(0.1), pytest.approx(0.5))
    assert len(facts.usable) == 5


@pytest.mark.parametrize(
    ("low", "high", "significant"), [(0.1, 0.5, True), (-0.5, -0.1, True), (-0.1, 0.1, False), (0.0, 0.2, False)]
)
def test_a_difference_is_significant_when_its_interval_leaves_out_zero(low, high, significant):
    assert Difference(0.1, low, high).significant is significant


def test_before_the_end_the_measured_terms_are_shown(make_ranking):
    facts = gather_ranking(make_ranking(scores=4).folder)
    assert (facts.scores, len(facts.architectures)) == ((), 4)
    assert facts.names == ["cosine, depth", "hamming", "parameters", "random"]
    assert list(rank_charts(facts)) == ["scatter"]


@pytest.mark.parametrize("parts", [{"plan": False}, {"scores": 0}])
def test_a_ranking_that_has_scored_nothing(make_ranking, parts):
    facts = gather_ranking(make_ranking(**parts).folder)
    assert (facts.architectures, facts.names, rank_charts(facts)) == ((), [], {})


@pytest.mark.parametrize("content", [{}, {"scores": [{"score": "a", "tau": 1.0}]}, {"scores": [3]}])
def test_a_result_without_its_fields_is_refused_in_one_line(make_ranking, content):
    run = make_ranking()
    write_record(run.path / "result.json", content)
    with pytest.raises(RunError, match=r"unexpected form .* restore it or start a new run$"):
        gather_ranking(run.folder)


def test_bars_have_their_intervals_and_controls_a_look_of_their_own(make_ranking):
    facts = gather_ranking(make_ranking().folder)
    chart = rank_charts(facts)["taus"]
    scores, controls = chart.data
    assert (scores["y"], controls["y"]) == (["hamming", "cosine, depth"], ["parameters", "random"])
    assert scores["x"] == pytest.approx([0.6, 0.1])
    assert scores["error_x"]["array"] == pytest.approx([0.1, 0.1])
    assert scores["error_x"]["arrayminus"] == pytest.approx([0.2, 0.2])
    assert "pattern" in controls["marker"]
    assert "pattern" not in scores["marker"]
    assert chart.layout["yaxis"]["categoryarray"] == ["random", "cosine, depth", "parameters", "hamming"]


def test_the_scatter_has_a_trace_per_score_and_shows_the_best(make_ranking):
    facts = gather_ranking(make_ranking().folder)
    chart = rank_charts(facts)["scatter"]
    assert [trace["visible"] for trace in chart.data] == [True, False, False, False]
    assert chart.layout["xaxis"]["title"]["text"] == "hamming"
    third = traces(chart)["cosine, depth"]
    assert third["x"] == [2.0, 4.0, 5.0, 6.0, 7.0]  # without the second architecture, which is silent
    assert third["y"] == pytest.approx([50.0, 60.0, 65.0, 70.0, 75.0])


def test_names_are_inert_and_plotly_accepts_the_charts(make_ranking):
    go = pytest.importorskip("plotly.graph_objects", reason="needs the extra 'report'")
    charts = rank_charts(gather_ranking(make_ranking(hostile=True).folder))
    assert list(charts) == ["taus", "scatter"]
    for chart in charts.values():
        text = json.dumps(chart.figure(), allow_nan=False)
        assert "hamming&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "<script" not in text
        go.Figure(json.loads(re.sub(r'"@[a-z0-9]+"', '"#123456"', text)))  # raises for an unknown property
