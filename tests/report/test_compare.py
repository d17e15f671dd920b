from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from evospike.core.errors import RunError
from evospike.jobs.folder import open_run, read_record, write_record
from evospike.models.presets import make_spec
from evospike.report.compare.alike import open_alike
from evospike.report.compare.charts import comparison_charts
from evospike.report.compare.facts import gather_comparison
from evospike.report.compare.quantities import Change, Quantity, Value, cost, energy
from evospike.report.page import write_comparison

pytest.importorskip("jinja2", reason="needs the extra 'report'")
go = pytest.importorskip("plotly.graph_objects", reason="needs the extra 'report'")

_spec = importlib.util.spec_from_file_location("compare_runs", Path(__file__).with_name("compare_runs.py"))
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)

HOSTILE = "<script>alert(1)</script>"
FIRST, SECOND = (0.90, 0.92, 0.91), (0.95, 0.96, 0.96)
STORED = 'encoding.kind="dense"'


@pytest.fixture
def runs(make_run, tmp_path):
    return made.Runs(make_run, tmp_path)


def gather(paths):
    return gather_comparison(open_alike(paths))


def page_of(paths, folder):
    output = folder / "page.html"
    assert write_comparison(paths, output) == output
    page = output.read_text(encoding="utf-8")
    return page, made.Tables(page)


def change_of(paths, key="test_accuracy", place=1):
    facts = gather(paths)
    return facts.quantities[key].change(place, not facts.runs[place].apart)


def test_seeds_are_paired_where_root_seed_count_and_data_agree(runs, tmp_path):
    elsewhere = "data.folder='/another/copy'"
    paths = [runs("a", FIRST), runs("b", SECOND, overrides=[STORED, "training.epochs=2", elsewhere])]
    change = change_of(paths)
    expected = stats.ttest_rel(SECOND, FIRST).confidence_interval(0.95)
    assert (change.mean - change.interval, change.mean + change.interval) == pytest.approx(expected, rel=1e-3)
    assert change.freedom is None
    half = (expected.high - expected.low) / 2
    _, page = page_of(paths, tmp_path)
    row = page.row("Test accuracy (points)", "Quantity")
    assert row["2 b paired"] == f"+4.67 ± {100 * half:.2f} significant"


@pytest.mark.parametrize(
    ("other", "accuracies", "reason"),
    [
        (["run.seed=1"], SECOND, "another root seed"),
        ([], (0.95, 0.96), "another number of seeds"),
        (["data.validation=0.2"], SECOND, "another data section"),
        (["data.validation=0.2", "run.seed=1"], SECOND[:2], "another root seed, another number of seeds, another data"),
    ],
)
def test_other_seeds_are_independent_and_compared_by_welch(runs, tmp_path, other, accuracies, reason):
    paths = [runs("a", FIRST), runs("b", accuracies, overrides=other)]
    change = change_of(paths)
    expected = stats.ttest_ind(accuracies, FIRST, equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert (change.mean - change.interval, change.mean + change.interval) == pytest.approx((low, high), rel=1e-9)
    assert change.freedom == pytest.approx(expected.df, rel=1e-9)
    _, page = page_of(paths, tmp_path)
    row = page.row("Test accuracy (points)", "Quantity")
    (heading,) = [heading for heading in row if heading.startswith("2 b independent (Welch): ")]
    assert reason in heading
    verdict = "significant" if low > 0 else "not significant"
    mean = 100 * (np.mean(accuracies) - np.mean(FIRST))
    assert row[heading] == f"+{mean:.2f} ± {100 * (high - low) / 2:.2f} {verdict}, ν = {expected.df:.1f}"


def test_a_difference_whose_interval_covers_zero_is_not_significant(runs, tmp_path):
    paths = [runs("a", FIRST), runs("b", (0.93, 0.89, 0.90))]
    assert change_of(paths).significant is False
    cell = page_of(paths, tmp_path)[1].row("Test accuracy (points)", "Quantity")["2 b paired"]
    assert cell.startswith("−0.33 ± ")
    assert cell.endswith(" not significant")


@pytest.mark.parametrize(("first", "second"), [((0.9,), (0.95,)), (FIRST, (0.95,)), ((0.9,), SECOND)])
def test_one_seed_gives_no_interval(runs, tmp_path, first, second):
    paths = [runs("a", first), runs("b", second)]
    change = change_of(paths)
    assert (change.interval, change.significant) == (None, None)
    assert change.mean == pytest.approx(np.mean(second) - np.mean(first))
    row = page_of(paths, tmp_path)[1].row("Test accuracy (points)", "Quantity")
    (cell,) = [text for heading, text in row.items() if heading.startswith("2 b")]
    assert cell == f"+{100 * change.mean:.2f} one seed: no interval"


def test_results_stand_in_the_table_as_the_runs_have_them(runs, tmp_path):
    paths = [runs("a", FIRST), runs("b", SECOND, overrides=[STORED])]
    _, page = page_of(paths, tmp_path)
    half = stats.t.ppf(0.975, 2) * np.std(FIRST, ddof=1) / 3**0.5
    row = page.row("1 a", "Of dense")
    assert row["Test accuracy"] == f"91.00 ± {100 * half:.2f} %"
    assert (row["Parameters"], row["Of dense"]) == ("27,962", "42.5 %")
    assert row["Firing rate"] == f"0.291 ± {0.1 * half:.3f}"
    assert page.row("2 b", "Of dense")["Parameters"] == "65,834"
    assert "highest: 2 b" in page.text
    assert "lowest: 1 a" in page.text


def test_only_fields_that_differ_are_shown_with_the_value_of_every_run(runs, tmp_path):
    paths = [runs("a", FIRST), runs("b", FIRST, overrides=["training.rate=0.5"]), runs("c", FIRST, verb="evolve")]
    _, page = page_of(paths, tmp_path)
    (table,) = [table for table in page.tables if table[0][0] == "Field"]
    assert table == [["Field", "1 a", "2 b", "3 c"], ["training.rate", "0.01", "0.5", "0.01"]]
    same = [runs("d", FIRST), runs("e", SECOND)]
    assert gather(same).fields == {}


def test_sparse_runs_show_what_is_present(runs, tmp_path):
    settings = [STORED, "sparse.density=0.1"]
    paths = [runs("a", FIRST), runs("b", SECOND, arm="sparse", overrides=settings)]
    _, page = page_of(paths, tmp_path)
    row = page.row("2 b", "Present")
    assert (row["Parameters"], row["Density"], row["Present"]) == ("65,834", "10.0 %", "6,938")
    values = gather(paths).quantities["parameters"].values
    assert [value.mean for value in values] == [27962, 6938]


OPERATIONS = {"a": (15000.0, 16000.0, 17000.0), "b": (9000.0, 9900.0, 12000.0)}


def test_costs_are_those_of_the_evaluations(runs, tmp_path):
    paths = [runs("a", FIRST), runs("b", SECOND)]
    for path in paths:
        made.evaluate(path, OPERATIONS[path.name], noisy=[value - 0.2 for value in FIRST])
    _, page = page_of(paths, tmp_path)
    row = page.row("1 a", "Spikes per sample")
    half = stats.t.ppf(0.975, 2) * 1000 / 3**0.5
    assert row["Synaptic operations per sample"] == f"16,000 ± {half:,.0f}"
    assert row["Spikes per sample"] == f"8,000 ± {half / 2:,.0f}"
    assert row["Energy, 45nm (nJ)"] == f"14.40 ± {0.0009 * half:.2f}"
    assert row["Accuracy with noise (%)"].startswith("71.00 ± ")
    difference = stats.ttest_rel(OPERATIONS["b"], OPERATIONS["a"]).confidence_interval(0.95)
    half = (difference.high - difference.low) / 2
    cell = page.row("Energy, 45nm (nJ)", "Quantity")["2 b paired"]
    share = 100 * (10300 / 16000 - 1)
    assert cell == f"−5.13 ± {0.0009 * half:.2f} −{-share:.1f} % significant"
    assert page.row("Accuracy with noise (points)", "Quantity")["2 b paired"] == "+0.00 ± 0.00 not significant"
    assert "Assumptions of chip. (Somebody on chip.)" in page.text
    assert not re.search(r"\d (pJ|nJ|µJ|mJ)", re.sub(r"Energy, 45nm \d+\.\d+ nJ", "", page.text))


def test_models_state_their_assumptions_once_each(runs):
    paths = [runs("a", FIRST), runs("b", SECOND), runs("c", FIRST)]
    for path, models in zip(paths, (("45nm",), ("45nm", "memory"), ("memory",)), strict=True):
        made.evaluate(path, OPERATIONS["a"], models=models)
    facts = gather(paths)
    assert {title: len(texts) for title, texts in facts.assumptions.items()} == {"45nm": 1, "memory": 1}
    assert [value is None for value in facts.quantities["energy.memory"].values] == [True, False, False]
    assert facts.quantities["energy.memory"].change(1, True) is None


def test_a_network_that_generates_no_weights_costs_as_much_with_encoding_as_without(runs):
    paths = [runs("a", FIRST), runs("b", SECOND, overrides=[STORED])]
    made.evaluate(paths[0], OPERATIONS["a"], models=("45nm", "45nm_with_encoding"))
    made.evaluate(paths[1], OPERATIONS["b"], models=("45nm", "chip"))
    quantities = gather(paths).quantities
    generating, stored = quantities["energy.45nm_with_encoding"].values
    assert stored == quantities["energy.45nm"].values[1]
    assert generating.mean > quantities["energy.45nm"].values[0].mean
    assert quantities["energy.chip"].values[0] is None


def test_a_run_without_a_usable_evaluation_is_named_with_the_reason(runs, tmp_path):
    names = ("a", "none", "old", "part way")
    paths = [runs(name, FIRST) for name in names]
    made.evaluate(paths[0], OPERATIONS["a"])
    made.evaluate(paths[2], OPERATIONS["a"], digest="of other weights")
    made.evaluate(paths[3], OPERATIONS["a"])
    made.rewrite(paths[3] / "evaluation.json", lambda told: {**told, "arms": [{**told["arms"][0], "arm": "dense"}]})
    page, read = page_of(paths, tmp_path)
    assert f"not evaluated; write it with evospike evaluate {paths[1]}" in read.text
    assert f"its evaluation is of other weights; write it with evospike evaluate {paths[2]}" in read.text
    assert f"its evaluation leaves out 'genetic'; write it with evospike evaluate '{paths[3]}'" in read.text
    assert [read.row(f"{k + 1} {name}", "Spikes per sample")["Spikes per sample"] for k, name in enumerate(names)][
        1:
    ] == ["–", "–", "–"]
    assert 'id="chart-over1"' not in page


def test_noise_of_another_strength_is_not_compared(runs, tmp_path):
    paths = [runs(name, FIRST) for name in "abc"]
    for path, strength in zip(paths, (0.5, 0.25, 0.5), strict=True):
        made.evaluate(path, OPERATIONS["a"], noisy=FIRST, strength=strength)
    _, page = page_of(paths, tmp_path)
    assert "Robustness of run 2 was measured on other samples" in page.text
    assert page.row("2 b", "Spikes per sample")["Accuracy with noise (%)"] == "–"
    assert page.row("3 c", "Spikes per sample")["Accuracy with noise (%)"].startswith("91.00 ± ")


@pytest.mark.parametrize(
    ("digests", "seeds", "alike"),
    [
        (("d1", "d1"), (0, 1), True),
        (("d1", "d2"), (0, 0), False),
        (("d1", None), (0, 0), False),
        ((None, None), (0, 0), True),
        ((None, None), (0, 1), False),
    ],
)
def test_noise_is_compared_on_the_same_samples_only(runs, tmp_path, digests, seeds, alike):
    paths = [runs(name, FIRST, overrides=[f"run.seed={seed}"]) for name, seed in zip("ab", seeds, strict=True)]
    curves = [made.curve("noise", "of the norm", (0.9, 0.5))]
    for path, digest in zip(paths, digests, strict=True):
        made.evaluate(path, OPERATIONS["a"], noisy=FIRST, samples_digest=digest, curves=curves)
    facts = gather(paths)
    assert facts.unlike == (() if alike else (2,))
    assert (facts.quantities["noisy_accuracy"].values[1] is None) is not alike
    assert facts.curves == ((("noise", "of the norm"),) if alike else ())


def test_curves_of_what_was_tried_otherwise_are_left_out(runs):
    paths = [runs("a", FIRST), runs("b", SECOND), runs("c", FIRST)]
    curves = [made.curve("noise", "of the norm", (0.9, 0.5))]
    for path, digest in zip(paths, ("d1", "d2", "d1"), strict=True):
        made.evaluate(path, OPERATIONS["a"], noisy=FIRST, samples_digest=digest, curves=curves)
    facts = gather(paths)
    named = {line["name"] for line in comparison_charts(facts)["robustness-0"].data if line.get("name")}
    assert named >= {facts.runs[0].title, facts.runs[2].title}
    assert facts.runs[1].title not in named


def test_charts_show_the_runs_at_their_values(runs):
    paths = [runs("a", FIRST), runs("b", SECOND)]
    for path in paths:
        made.evaluate(path, OPERATIONS[path.name], noisy=FIRST, curves=[made.curve("noise", "of the norm", (0.9, 0.5))])
    charts = comparison_charts(gather(paths))
    assert list(charts) == ["arms", *(f"over{k}" for k in range(5)), "training-loss", "validation", "robustness-0"]
    for chart in charts.values():
        go.Figure(_resolved(chart.figure()))  # raises for a property that plotly does not know
        json.dumps(chart.figure(), allow_nan=False)
        assert chart.summary.endswith(".")
    first, second = charts["over2"].data
    assert charts["over2"].layout["xaxis"]["title"]["text"] == "Synaptic operations per sample"
    assert (first["x"], first["y"], first["text"]) == ([16000], [91], ["1"])
    assert (second["x"], second["y"], second["text"]) == ([10300], pytest.approx([95.6667]), ["2"])
    half = stats.t.ppf(0.975, 2) / 3**0.5
    assert first["error_x"]["array"] == pytest.approx([half * 1000], rel=1e-3)
    assert first["error_y"]["array"] == pytest.approx([half * 1], rel=1e-3)
    assert [trace["name"] for trace in charts["robustness-0"].data if trace.get("name")] == ["1 a", "2 b"]
    assert [trace["name"] for trace in charts["validation"].data if "name" in trace] == ["1 a", "2 b"]


def _resolved(value):
    """The figure with some colour for each name of a colour."""
    if isinstance(value, dict):
        return {key: _resolved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    return "#123456" if isinstance(value, str) and value.startswith("@") else value


def test_equal_costs_stand_in_the_middle_and_no_run_is_said_to_have_the_lowest(runs):
    facts = gather([runs("a", FIRST), runs("b", SECOND)])
    assert comparison_charts(facts)["over0"].layout["xaxis"]["range"] == [0, 2 * 27962]
    assert [quantity.key for quantity in facts.headlines] == ["test_accuracy"]


def test_costs_far_apart_stand_on_a_logarithmic_axis_whose_bars_stay_above_zero(runs):
    paths = [runs("a", FIRST), runs("b", SECOND)]
    made.evaluate(paths[0], (100.0, 9000.0, 100.0))
    made.evaluate(paths[1], (1e6, 1.1e6, 1.2e6))
    chart = comparison_charts(gather(paths))["over2"]
    assert chart.layout["xaxis"]["type"] == "log"
    low = [trace["x"][0] - trace["error_x"]["arrayminus"][0] for trace in chart.data]
    mean = 9200 / 3
    assert low[0] == pytest.approx(mean / 2, rel=1e-5)
    assert low[1] == pytest.approx(1.1e6 - stats.t.ppf(0.975, 2) * 1e5 / 3**0.5, rel=1e-3)


def test_bars_of_accuracy_stay_within_its_bounds(runs):
    facts = gather([runs("a", (0.99, 1.0)), runs("b", (0.0, 0.05))])
    for trace in comparison_charts(facts)["over0"].data:
        (mean,), (up,), (down,) = trace["y"], trace["error_y"]["array"], trace["error_y"]["arrayminus"]
        assert mean + up <= 100 + 1e-4
        assert mean - down >= -1e-4


def test_the_seventh_run_has_another_symbol_and_dash_than_the_first(runs):
    charts = comparison_charts(gather([runs(f"r{k}", (0.9 + 0.01 * k,)) for k in range(8)]))
    looks = [(trace["marker"]["color"], trace["marker"]["symbol"]) for trace in charts["over0"].data]
    assert len(set(looks)) == 8
    lines = [(trace["line"]["color"], trace["line"]["dash"]) for trace in charts["validation"].data]
    assert len(set(lines)) == 8


def test_a_run_whose_training_records_are_gone_keeps_the_colours_of_the_others(runs):
    paths = [runs(name, (0.9,)) for name in "abc"]
    (paths[1] / "final" / "genetic-0" / "result.json").unlink()
    data = comparison_charts(gather(paths))["validation"].data
    assert [(trace["name"], trace["line"]["color"]) for trace in data] == [("1 a", "@series0"), ("3 c", "@series2")]


def test_labels_are_the_shortest_ends_of_paths_that_differ(runs):
    assert [run.label for run in gather([runs("x/run1", FIRST), runs("x/run2", FIRST)]).runs] == [
        "run1",
        "run2",
    ]
    paths = [runs("m/k/one", FIRST), runs("n/k/one", FIRST), runs("n/k/two", FIRST)]
    assert [run.label for run in gather(paths).runs] == ["m/k/one", "n/k/one", "n/k/two"]


def refusal(paths, folder):
    with pytest.raises(RunError) as caught:
        write_comparison(paths, folder / "page.html")
    assert not (folder / "page.html").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_comparison_is_of_two_to_eight_runs(runs, tmp_path):
    path = runs("a", FIRST)
    assert "2 to 8 runs, given 1" in refusal([path], tmp_path)
    assert "2 to 8 runs, given 9" in refusal([path] * 9, tmp_path)


def test_a_folder_given_twice_is_refused_however_it_is_written(runs, tmp_path):
    path = runs("a", FIRST)
    (tmp_path / "link").symlink_to(path)
    for again in (path, tmp_path / "a" / ".." / "a", tmp_path / "link"):
        assert f"'{again}' is '{path}' again; give every run once" in refusal([path, again], tmp_path)


@pytest.mark.parametrize("place", [0, 1])
def test_runs_of_different_kinds_are_refused(runs, make_search, tmp_path, place):
    path = runs("a", FIRST)
    paths = [path, make_search().path]
    told = refusal(paths[::-1] if place else paths, tmp_path)
    kinds = [(path, "train"), (paths[1], "search")]
    (first, verb), (other, theirs) = kinds[::-1] if place else kinds
    assert f"'{first}' is a run of {verb} and '{other}' is one of {theirs}" in told
    assert "compare trainings (train, evolve) with trainings, searches with searches" in told


def test_an_unfinished_run_is_refused(runs, tmp_path):
    paths = [runs("a", FIRST), runs("b", FIRST)]
    (paths[1] / "result.json").unlink()
    assert f"'{paths[1]}' is not finished; finish it first: evospike resume {paths[1]}" in refusal(paths, tmp_path)


def test_what_is_no_run_is_refused(runs, tmp_path):
    assert "does not exist" in refusal([runs("a", FIRST), tmp_path / "nothing"], tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "mnist"}, 'different data sets ("digits" and "mnist")'),
        ({"split": "another"}, 'different splits ("stratified 80/20, fixed" and "another")'),
    ],
)
def test_other_data_are_refused(runs, tmp_path, change, told):
    paths = [runs("a", FIRST), runs("b", FIRST, data={**made.DATA, **change})]
    assert told in refusal(paths, tmp_path)


@pytest.mark.parametrize(
    ("shape", "classes", "told"),
    [
        ((1, 16, 16), 10, "different sizes of input ([1, 8, 8] and [1, 16, 16])"),
        ((1, 8, 8), 11, "different numbers of classes (10 and 11)"),
    ],
)
def test_networks_for_other_samples_are_refused(runs, tmp_path, shape, classes, told):
    paths = [runs("a", FIRST), runs("b", FIRST)]
    spec = make_spec(open_run(paths[1]).recipe.model, shape, classes).to_json()
    made.rewrite(paths[1] / "plan.json", lambda plan: {**plan, "spec": spec})
    assert told in refusal(paths, tmp_path)


def test_a_recipe_that_cannot_be_read_names_its_run(runs, tmp_path):
    paths = [runs("a", FIRST), runs("b", FIRST)]
    made.rewrite(paths[1] / "run.json", lambda record: {**record, "recipe": {**record["recipe"], "unheard": 1}})
    assert f"cannot read the recipe of '{paths[1]}': unknown field 'unheard'" in refusal(paths, tmp_path)


def test_an_evaluation_of_another_form_names_its_file(runs, tmp_path):
    paths = [runs("a", FIRST), runs("b", FIRST)]
    digest = read_record(paths[1] / "result.json")["digest"]
    write_record(paths[1] / "evaluation.json", {"digest": digest, "classes": [], "arms": [{}]})
    assert f"{paths[1] / 'evaluation.json'} has an unexpected form" in refusal(paths, tmp_path)


def test_a_file_that_exists_is_never_replaced(runs, tmp_path, monkeypatch):
    paths = [runs("a", FIRST), runs("b", SECOND)]
    monkeypatch.chdir(tmp_path)
    assert write_comparison(paths, None) == Path("report-comparison.html")
    before = Path("report-comparison.html").read_bytes()
    with pytest.raises(RunError, match=r"'report-comparison\.html' exists; give -o a new file"):
        write_comparison(paths, None)
    with pytest.raises(RunError, match=r"exists; give -o a new file"):
        write_comparison(paths, tmp_path / "a")
    assert Path("report-comparison.html").read_bytes() == before


def test_names_that_hold_markup_are_shown_and_do_nothing(runs, tmp_path):
    folder = "<img src=x onerror=alert(3)>"
    paths = [runs(folder, FIRST, hostile=True), runs(f"{folder}2", SECOND, hostile=True)]
    for path in paths:
        made.rewrite(
            path / "result.json", lambda told: {**told, "arms": [{**told["arms"][0], "arm": "genetic" + HOSTILE}]}
        )
        curves = [made.curve(HOSTILE, folder, (0.9, 0.5))]
        made.evaluate(path, OPERATIONS["a"], noisy=FIRST, models=("45nm", HOSTILE), curves=curves)
    page, read = page_of(paths, tmp_path)
    assert folder in read.text
    assert HOSTILE in read.text
    assert len([tag for tag, _ in read.elements if tag == "script"]) == 3
    assert not [tag for tag, _ in read.elements if tag == "img"]
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    figures = json.loads(re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.S)[1])
    assert not re.findall(r"<(?!br>)", " ".join(made.strings(figures)))


def test_the_page_is_one_small_file_that_asks_nothing_of_any_network(runs, tmp_path):
    paths = [runs(f"run{k}", SECOND, overrides=[f"encoding.genes={k + 2}"]) for k in range(8)]
    for path in paths:
        made.evaluate(path, OPERATIONS["a"], noisy=FIRST, curves=[made.curve("noise", "of the norm", (0.9, 0.5))])
    page, read = page_of(paths, tmp_path)
    assert len(page.encode()) < 6_000_000
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]|@import|url\(", own)
    assert not [attributes for _, attributes in read.elements if "src" in attributes]
    hrefs = [attributes["href"] for _, attributes in read.elements if attributes.get("href")]
    assert all(href.startswith("#") or href == "data:," for href in hrefs)
    targets = {attributes["id"] for _, attributes in read.elements if attributes.get("id")}
    assert {href[1:] for href in hrefs if href.startswith("#")} <= targets
    assert [tag for tag, _ in read.elements].count("h1") == 1


def test_the_modules_of_a_comparison_import_no_torch():
    code = "import sys, evospike.report.page; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False"


def value(mean):
    return Value(mean, None, {0: mean})


@pytest.mark.parametrize(
    ("picojoules", "unit", "text"),
    [
        (0.5, "pJ", "0.5000"),
        (999.0, "pJ", "999.0"),
        (1000.0, "nJ", "1.000"),
        (3.1e9, "mJ", "3.100"),
        (5e12, "J", "5.000"),
    ],
)
def test_energies_are_written_in_the_unit_of_the_largest(picojoules, unit, text):
    quantity = energy("energy.45nm", "Energy, 45nm", (value(picojoules / 100), None, value(picojoules)))
    assert quantity.unit == unit
    assert quantity.text(quantity.values[2]) == text
    assert quantity.text(None) == "–"


def test_differences_have_a_sign_but_nothing_has_none():
    quantity = cost("x", "X", (value(1234567.0), value(1234566.8)))
    assert quantity.change_text(quantity.change(1, True)) == "+0"
    assert quantity.change_text(Change(-1234.4, None, 12.6, 3, None)) == "−1,234 ± 13"
    assert Change(-1.0, -0.00001, None, 1, None).share_text == "+0.0 %"


def test_what_is_better_depends_on_the_quantity_and_needs_significance():
    more = Quantity("a", "A", "%", 100.0, 2, "more", ())
    less = Quantity("a", "A", "", 1.0, 0, "less", ())
    neither = Quantity("a", "A", "", 1.0, 0, "", ())
    rise, vague, alone = (
        Change(2.0, None, 1.0, 3, None),
        Change(2.0, None, 3.0, 3, None),
        Change(2.0, None, None, 1, None),
    )
    assert [quantity.better(rise) for quantity in (more, less, neither)] == [True, False, None]
    assert [quantity.better(change) for quantity in (more, less) for change in (vague, alone, None)] == [None] * 6


def test_the_best_of_equal_means_is_the_first_and_missing_ones_do_not_count():
    assert cost("x", "X", (None, value(2.0), value(1.0), value(1.0))).best() == 2
    assert Quantity("x", "X", "", 1.0, 0, "more", (value(2.0), None, value(3.0))).best() == 2
    assert Quantity("x", "X", "", 1.0, 0, "", (value(2.0),)).best() is None
