"""The page of several searches, and of several rankings: what is compared, what is not, and its charts."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evospike.core.errors import RunError
from evospike.jobs.folder import read_record
from evospike.report.compare.alike import open_alike
from evospike.report.compare.rank_charts import rank_comparison_charts
from evospike.report.compare.rankings import gather_rankings
from evospike.report.compare.search_charts import search_comparison_charts
from evospike.report.compare.searches import gather_searches
from evospike.report.page import write_comparison

pytest.importorskip("jinja2", reason="needs the extra 'report'")
go = pytest.importorskip("plotly.graph_objects", reason="needs the extra 'report'")

_spec = importlib.util.spec_from_file_location("compare_runs", Path(__file__).with_name("compare_runs.py"))
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

HOSTILE = "<img src=x onerror=alert(3)>"
FIRST, SECOND = (2000.5, 1990.25, 2010.0), (2100.0, 2091.0, 2120.5)
SIMILARITY = "scoring.score=similarity"


@pytest.fixture
def searches(make_search, tmp_path):
    return made.Searches(make_search, tmp_path)


@pytest.fixture
def rankings(make_ranking, tmp_path):
    """Make the folder of a ranking of that name; takes what `make_ranking` takes."""

    def make(name, **parts):
        path = tmp_path / name
        shutil.move(make_ranking(**parts).path, path)
        return path

    return make


def page_of(paths, folder):
    page = write_comparison(paths, folder / "page.html").read_text(encoding="utf-8")
    return page, made.Tables(page)


def gather(paths):
    return gather_searches(open_alike(paths))


def test_what_was_found_is_what_the_results_say(searches, tmp_path):
    paths = [searches("a", FIRST), searches("b", SECOND, grown=2.0)]
    _, page = page_of(paths, tmp_path)
    result = read_record(paths[0] / "result.json")
    row = page.row("1 a", "Standard deviation")
    assert row["Score"] == f"{result['score']:,.2f} ± {result['interval']:.2f}"
    assert row["Standard deviation"] == f"{result['score_std']:.2f}"
    assert row["Parameters"] == f"{result['parameters']:,.0f} ± {stats.t.ppf(0.975, 2) * 10 / 3**0.5:.0f}"
    assert row["Operations"].startswith(f"{result['operations']:,.0f} ± ")
    assert row["Energy (µJ)"].startswith("2.001 ± ")
    assert page.row("2 b", "Standard deviation")["Energy (µJ)"].startswith("4.002 ± ")
    assert row["Firing rate"].startswith(f"{result['firing_rate']:.3f} ± ")
    assert row["Front"] == "4 ± 0"
    work = page.row("2 b", "Candidates")
    assert (work["Candidates"], work["Not usable"], work["Of which"]) == ("54", "18", "9 silent, 9 diverged")
    assert (work["Candidates a second"], work["Time of the last start"]) == ("12.34", "61.0 s")
    assert "highest: 2 b" in page.text
    assert "lowest: 1 a" in page.text


def test_differences_are_those_of_independent_seeds(searches, tmp_path):
    paths = [searches("a", FIRST), searches("b", SECOND), searches("c", SECOND[:2])]
    _, page = page_of(paths, tmp_path)
    row = page.row("Score, dissimilarity", "Quantity")
    for name, scores in (("2 b", SECOND), ("3 c", SECOND[:2])):
        expected = stats.ttest_ind(scores, FIRST, equal_var=False)
        low, high = expected.confidence_interval(0.95)
        verdict = "significant" if low > 0 else "not significant"
        mean = np.mean(scores) - np.mean(FIRST)
        assert row[name] == f"+{mean:.2f} ± {(high - low) / 2:.2f} {verdict}, ν = {expected.df:.1f}"
    assert "nothing is paired" in page.text


def test_a_difference_whose_interval_covers_zero_is_not_significant(searches, tmp_path):
    paths = [searches("a", FIRST), searches("b", (2005.0, 1980.0, 2008.0))]
    cell = page_of(paths, tmp_path)[1].row("Score, dissimilarity", "Quantity")["2 b"]
    assert re.fullmatch(r"−2\.58 ± \d+\.\d\d not significant, ν = \d\.\d", cell)


def test_one_search_gives_no_interval(searches, tmp_path):
    _, page = page_of([searches("a", FIRST), searches("b", (2100.0,))], tmp_path)
    assert page.row("Score, dissimilarity", "Quantity")["2 b"] == "+99.75 one seed: no interval"
    row = page.row("2 b", "Standard deviation")
    assert (row["Score"], row["Standard deviation"], row["Front"]) == ("2,100.00", "–", "4")


@pytest.mark.parametrize(
    ("first", "other", "fields"),
    [
        ([], [SIMILARITY], ("scoring.score",)),
        (
            [],
            ["dissimilarity.distance=cosine", "dissimilarity.batch=48"],
            ("dissimilarity.distance", "dissimilarity.batch"),
        ),
        ([], ["data.train_limit=500"], ("data.train_limit",)),
        ([], ["data.source=imagefolder:there"], ("data.source",)),
        ([], ["model.steps=7"], ("model.steps",)),
        (["scoring.score=training"], ["scoring.score=training", "scoring.epochs=3"], ("scoring.epochs",)),
    ],
)
def test_scores_of_different_kinds_are_not_compared(searches, tmp_path, first, other, fields):
    paths = [searches("a", FIRST, overrides=first), searches("b", SECOND, overrides=other)]
    facts = gather(paths)
    assert facts.runs[1].otherwise == fields
    assert facts.scales[0].quantity.change(1, paired=False) is None
    _, page = page_of(paths, tmp_path)
    row = next(row for table in page.tables if table[0][0] == "Quantity" for row in table if row[0].startswith("Score"))
    assert row[1] == "not compared scored otherwise"
    assert page.row("Parameters", "Quantity")["2 b"].startswith("+0 ± ")
    assert "Scored otherwise than run 1, so that no difference of scores is given" in page.text
    assert f"2 differs in {facts.runs[1].otherwise[0]}" in page.text
    assert "highest" not in page.text


@pytest.mark.parametrize(
    "other",
    [
        ["search.strategy=random", "space.cells=6", "scoring.max_parameters=90000", "run.seed=3"],
        ["data.folder=elsewhere", "training.rate=0.5"],
    ],
)
def test_other_searches_of_the_same_score_are_compared(searches, other):
    facts = gather([searches("a", FIRST), searches("b", SECOND, overrides=other)])
    assert facts.runs[1].otherwise == ()
    assert len(facts.scales) == 1
    assert facts.scales[0].quantity.change(1, paired=False).significant
    assert set(facts.fields) >= {text.partition("=")[0] for text in other}


def test_charts_show_every_search(searches):
    facts = gather([searches("a", FIRST), searches("b", SECOND)])
    charts = search_comparison_charts(facts)
    assert list(charts) == ["winners-0", "progress-0", "fronts-0"]
    mean, ticks = charts["winners-0"].data[:2]
    assert (mean["x"], mean["y"], ticks["x"]) == ([pytest.approx(2000.25)], [0], list(FIRST))
    assert mean["error_x"]["array"] == [pytest.approx(stats.t.ppf(0.975, 2) * np.std(FIRST, ddof=1) / 3**0.5, rel=1e-4)]
    band, line = charts["progress-0"].data[:2]
    assert (line["x"], line["name"]) == ([1, 2, 3], "1 a")
    assert line["y"] == pytest.approx([2000.25 - 60, 2000.25 - 30, 2000.25])
    assert band["y"][2] - line["y"][2] == pytest.approx(np.std(FIRST, ddof=1), rel=1e-3)
    assert charts["progress-0"].layout["xaxis"]["title"]["text"] == "generation"
    fronts = [trace for trace in charts["fronts-0"].data if trace["mode"] == "lines+markers"]
    rings = [trace for trace in charts["fronts-0"].data if trace["mode"] == "markers"]
    assert [len(trace["x"]) for trace in fronts] == [4] * 6
    assert (fronts[0]["x"], fronts[0]["y"]) == ([7500, 8100, 8700, 9000], [1975.5, 1985.5, 1995.5, 2000.5])
    assert [trace["showlegend"] for trace in fronts] == [True, False, False] * 2
    assert [(ring["x"], ring["y"]) for ring in rings[:2]] == [([9000], [2000.5]), ([9010], [1990.25])]


def test_scores_of_different_kinds_have_charts_of_their_own(searches):
    paths = [searches("a", FIRST), searches("b", (-0.5, -0.25), overrides=[SIMILARITY]), searches("c", SECOND)]
    facts = gather(paths)
    assert [[run.number for run in scale.runs] for scale in facts.scales] == [[1, 3], [2]]
    charts = search_comparison_charts(facts)
    assert list(charts) == [f"{what}-{k}" for what in ("winners", "progress", "fronts") for k in range(2)]
    assert [trace["name"] for trace in charts["progress-1"].data if "name" in trace] == ["2 b"]
    assert facts.score(facts.runs[1]).text(facts.score(facts.runs[1]).values[1]).startswith("−0.375000 ± ")


def test_a_search_that_ended_early_keeps_its_best(searches):
    path = searches("a", (100.0, 200.0))
    shorter = searches("b", (100.0,), overrides=["search.generations=1"])
    shutil.copyfile(shorter / "study.sqlite", path / "study-1.sqlite")
    line = search_comparison_charts(gather([path, shorter]))["progress-0"].data[1]
    assert line["y"] == pytest.approx([(40.0 + 100.0) / 2, (70.0 + 100.0) / 2, 100.0])


def test_candidates_are_counted_where_generations_are_of_different_sizes(searches, tmp_path):
    paths = [searches("a", FIRST), searches("b", SECOND, overrides=["search.population=9", "search.offspring=4"])]
    chart = search_comparison_charts(gather(paths))["progress-0"]
    assert chart.layout["xaxis"]["title"]["text"] == "candidates"
    assert [trace["x"] for trace in chart.data if "name" in trace] == [[6, 12, 18], [9, 13, 17]]
    assert "candidates are counted, of each search" in page_of(paths, tmp_path)[1].text


def test_fronts_far_apart_stand_on_a_logarithmic_axis(searches):
    charts = search_comparison_charts(gather([searches("a", FIRST), searches("b", SECOND, grown=40.0)]))
    assert charts["fronts-0"].layout["xaxis"]["type"] == "log"


def test_different_data_sets_are_all_named(searches, tmp_path):
    other = {**made.DATA, "name": "mnist", "split": "its own", "simulated": True}
    paths = [searches("a", FIRST), searches("b", SECOND, overrides=["data.source=imagefolder:there"], data=other)]
    _, page = page_of(paths, tmp_path)
    assert "digits, mnist" in page.text
    assert "split:" not in page.text
    assert "recordings that a simulator made" in page.text


@pytest.mark.parametrize("plotted", ["searches", "rankings"])
def test_plotly_knows_every_property(searches, rankings, plotted):
    if plotted == "searches":
        charts = search_comparison_charts(gather([searches("a", FIRST), searches("b", SECOND)]))
    else:
        charts = rank_comparison_charts(gather_rankings(open_alike([rankings("a"), rankings("b")])))
    for chart in charts.values():
        assert chart.summary.endswith(".")
        text = json.dumps(chart.figure(), allow_nan=False)
        go.Figure(json.loads(re.sub(r'"@[a-z0-9]+"', '"#123456"', text)))  # raises for an unknown property


def refusal(paths, folder):
    with pytest.raises(RunError) as caught:
        write_comparison(paths, folder / "page.html")
    assert not (folder / "page.html").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_search_beside_a_ranking_is_refused(searches, rankings, tmp_path):
    paths = [searches("a", FIRST), rankings("b")]
    assert f"'{paths[0]}' is a run of search and '{paths[1]}' is one of rank" in refusal(paths, tmp_path)


def test_an_unfinished_search_is_refused(searches, tmp_path):
    paths = [searches("a", FIRST), searches("b", FIRST)]
    (paths[1] / "result.json").unlink()
    assert f"'{paths[1]}' is not finished; finish it first" in refusal(paths, tmp_path)


def test_a_result_of_another_form_names_its_run(searches, tmp_path):
    paths = [searches("a", FIRST), searches("b", FIRST)]
    made.rewrite(paths[1] / "result.json", lambda told: {**told, "seeds": []})
    assert f"'{paths[1]}' has an unexpected form" in refusal(paths, tmp_path)


def test_a_recipe_that_cannot_be_read_names_its_run(searches, tmp_path):
    paths = [searches("a", FIRST), searches("b", FIRST)]
    made.rewrite(paths[1] / "run.json", lambda record: {**record, "recipe": {**record["recipe"], "unheard": 1}})
    assert f"'{paths[1]}': unknown field 'unheard'" in refusal(paths, tmp_path)


def test_names_that_hold_markup_are_shown_and_do_nothing(searches, rankings, tmp_path):
    kinds = [
        [searches(HOSTILE, FIRST, hostile=True), searches(f"{HOSTILE}2", SECOND, hostile=True)],
        [rankings(f"{HOSTILE}3", hostile=True), rankings(f"{HOSTILE}4", hostile=True)],
    ]
    for place, paths in enumerate(kinds):
        (tmp_path / str(place)).mkdir()
        page, read = page_of(paths, tmp_path / str(place))
        assert HOSTILE in read.text
        assert "<script>alert(1)</script>" in read.text
        assert len([tag for tag, _ in read.elements if tag == "script"]) == 3
        assert not [tag for tag, _ in read.elements if tag == "img"]
        assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
        figures = json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)[1])
        assert not re.findall(r"<(?!br>)", " ".join(made.strings(figures)))


def test_rankings_stand_side_by_side(rankings, tmp_path):
    paths = [rankings("a"), rankings("b", overrides=["scoring.epochs=5"])]
    change = {"score": "firing_rate", "tau": -0.25, "interval": [-0.5, 0.1]}
    made.rewrite(paths[1] / "result.json", lambda told: {**told, "scores": [*told["scores"][1:], change]})
    _, page = page_of(paths, tmp_path)
    assert page.row("hamming", "Score") == {"Score": "hamming", "1 a": "+0.600 +0.400 to +0.700", "2 b": "–"}
    both = page.row("parameters control", "Score")
    assert both["1 a"] == both["2 b"] == "+0.350 +0.150 to +0.450"
    assert page.row("firing_rate control", "Score")["2 b"] == "−0.250 −0.500 to +0.100"
    runs = page.row("2 b", "Architectures")
    assert (runs["Architectures"], runs["Not usable"], runs["Mean accuracy"]) == ("5", "1", "65.00 %")
    (table,) = [table for table in page.tables if table[0][0] == "Field"]
    assert [row[0] for row in table[1:]] == ["scoring.epochs"]


def test_taus_are_drawn_with_their_intervals_the_runs_apart_in_a_row(rankings):
    facts = gather_rankings(open_alike([rankings("a"), rankings("b")]))
    first, second = rank_comparison_charts(facts)["taus"].data
    assert first["x"] == second["x"] == pytest.approx([0.6, 0.35, 0.1, -0.15])
    assert first["error_x"]["array"] == pytest.approx([0.1] * 4)
    assert first["error_x"]["arrayminus"] == pytest.approx([0.2] * 4)
    assert [round(b - a, 3) for a, b in zip(first["y"], second["y"], strict=True)] == [0.35] * 4
    assert all(abs(y - row) < 0.5 for row, y in enumerate(first["y"]))
