from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from evospike.jobs.folder import read_record, write_record
from evospike.report.training.charts import make_charts
from evospike.report.training.evolution_charts import log_ticks
from evospike.report.training.gather import gather
from evospike.report.training.training_charts import curve_chart

go = pytest.importorskip("plotly.graph_objects", reason="needs the extra 'report'")

EVERY = ["arms", "candidates", "loss", "temporal", "entropy", "weights", "training-loss", "validation", "rates"]


def resolved(value):
    """The figure with some colour for each name of a colour."""
    if isinstance(value, dict):
        return {key: resolved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item) for item in value]
    return "#123456" if isinstance(value, str) and value.startswith("@") else value


def traces(chart):
    return {trace.get("name"): trace for trace in chart.data}


def test_a_whole_run_has_every_chart_and_plotly_accepts_them(make_run):
    charts = make_charts(gather(make_run().folder))
    assert list(charts) == EVERY
    for chart in charts.values():
        figure = chart.figure()
        go.Figure(resolved(figure))  # raises for a property that plotly does not know
        json.dumps(figure, allow_nan=False)
        assert chart.summary.endswith(".")


def test_candidates_stand_at_their_spreads_with_the_winner_ringed_and_failures_crossed(make_run):
    run = make_run()
    facts = gather(run.folder)
    found = traces(make_charts(facts)["candidates"])
    assert list(found) == ["generation 1", "generation 2", "generation 3", "no usable score", "winner"]
    assert [len(found[f"generation {k}"]["x"]) for k in (1, 2, 3)] == [5, 5, 5]
    assert found["generation 1"]["marker"]["color"].count(0.0) == 1
    assert len(found["no usable score"]["x"]) == 3
    assert found["no usable score"]["marker"]["symbol"] == "x"
    assert "silent: layer '&lt;script&gt;alert(1)" in found["no usable score"]["text"][0]
    encoding, genes = (10**value for value in run.study.genotype.values)
    assert found["winner"]["x"] == pytest.approx([encoding], rel=1e-5)
    assert found["winner"]["y"] == pytest.approx([genes], rel=1e-5)
    layout = make_charts(facts)["candidates"].layout
    assert (layout["xaxis"]["type"], layout["yaxis"]["type"]) == ("log", "log")
    assert len(layout["xaxis"]["tickvals"]) >= 3


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.65, 1.8, [0.8, 1.0, 1.2, 1.4, 1.6, 1.8]),
        (0.95, 1.2, [0.95, 1.0, 1.05, 1.1, 1.15]),
        (0.009, 0.04, [0.01, 0.02, 0.03]),
        (0.31, 20.0, [1.0, 3.0, 10.0]),
        (1e-9, 2e5, [1e-9, 1e-7, 1e-5, 1e-3, 0.1, 10.0, 1000.0, 1e5]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_few_and_round(low, high, ticks):
    assert log_ticks(math.log10(low), math.log10(high)) == pytest.approx(ticks)


def test_every_logarithmic_axis_has_three_to_eight_ticks():
    starts = [-6.013 + 0.037 * k for k in range(270)]
    counts = {len(log_ticks(low, low + 0.1 * 1.07**k)) for low in starts for k in range(70)}
    assert counts == {3, 4, 5, 6, 7, 8}


def test_long_trainings_are_thinned_evenly_and_say_so(make_run):
    training = gather(make_run("train").folder).trainings[0]
    epochs = tuple({"epoch": epoch, "loss": 1 / (epoch + 1)} for epoch in range(600))
    short, other = replace(training, epochs=epochs[:596]), replace(training, repeat=1, epochs=epochs)
    chart = curve_chart("training-loss", "loss", "training loss", [short, other])
    assert [(len(trace["x"]), trace["x"][-1]) for trace in chart.data] == [(299, 596), (301, 600), (301, 600)]
    assert chart.data[1]["x"][:3] == [1, 3, 5]
    assert chart.note == "Drawn: 301 of 600 epochs, evenly."
    assert "ends at 0.00166667" in chart.summary
    assert curve_chart("training-loss", "loss", "training loss", [replace(short, epochs=epochs[:300])]).note == ""


def test_eight_runs_of_five_seeds_and_many_epochs_take_little_of_a_page(make_run):
    training = gather(make_run("train").folder).trainings[0]
    epochs = tuple({"epoch": epoch, "loss": 2.3 / (epoch + 1.7)} for epoch in range(600))
    many = [replace(training, arm=f"run {k}", repeat=seed, epochs=epochs) for k in range(8) for seed in range(5)]
    chart = curve_chart("training-loss", "loss", "training loss", many)
    assert len(chart.data) == 48
    assert len(json.dumps(chart.figure(), separators=(",", ":"))) < 400_000


def test_spreads_per_stage_get_one_strip_each(make_run):
    names = ("log10 spread of encoding.a", "log10 spread of encoding.b", "log10 spread of genes")
    chart = make_charts(gather(make_run(names=names).folder))["candidates"]
    assert chart.layout["yaxis"]["ticktext"] == ["encoding.a", "encoding.b", "genes"]
    assert len(traces(chart)["generation 1"]["x"]) == 15
    assert {round(y) for y in traces(chart)["generation 2"]["y"]} == {0, 1, 2}


def test_terms_by_generation_are_raw(make_run):
    run = make_run()
    charts = make_charts(gather(run.folder))
    best = [min(score.terms["loss"] for score in g.scores if score.ok) for g in run.study.history]
    assert traces(charts["loss"])["best"]["y"] == pytest.approx(best, rel=1e-5)
    weights = [g.weights.entropy for g in run.study.history]
    assert traces(charts["weights"])["λ entropy"]["y"] == pytest.approx(weights, rel=1e-5)


def test_curves_have_a_thin_line_per_seed_and_a_thick_mean(make_run):
    chart = make_charts(gather(make_run().folder))["validation"]
    shown = [trace for trace in chart.data if trace.get("showlegend", True)]
    assert [trace["name"] for trace in shown] == ["genetic", "dense", "random"]
    assert len(chart.data) - len(shown) == 9
    assert shown[0]["x"] == [1, 2, 3]
    assert shown[0]["y"] == pytest.approx([81, 86, 100 * (0.91 - 0.1 / 3)], rel=1e-5)


def test_bars_show_the_rate_of_every_layer(make_run):
    chart = make_charts(gather(make_run().folder))["rates"]
    assert chart.data[0]["x"] == ["conv1.neuron", "conv2.neuron"]
    assert chart.data[0]["y"] == [0.1, 0.3]


def test_intervals_end_at_none_and_all_correct(make_run):
    chart = make_charts(gather(make_run(overrides=["final.seeds=2"]).folder))["arms"]
    bars, mean = chart.data[0]["error_x"], chart.data[0]["x"]
    assert all(value + up <= 100 + 1e-9 for value, up in zip(mean, bars["array"], strict=True))
    assert all(value - down >= -1e-9 for value, down in zip(mean, bars["arrayminus"], strict=True))


def test_names_are_inert_in_labels(make_run):
    charts = make_charts(gather(make_run(hostile=True).folder))
    assert list(charts) == EVERY
    assert charts["rates"].data[0]["name"] == "genetic&lt;script&gt;alert(1)&lt;/script&gt;"
    assert "<script" not in json.dumps([chart.figure() for chart in charts.values()])


def test_a_training_without_validation_or_study_has_fewer_charts(make_run):
    run = make_run("train")
    for path in run.path.glob("final/*/result.json"):
        result = read_record(path)
        for epoch in result["history"]:
            del epoch["validation_accuracy"]
        write_record(path, result)
    assert list(make_charts(gather(run.folder))) == ["arms", "training-loss", "rates"]


def test_one_number_needs_no_chart(make_run):
    run = make_run("train", overrides=['final.arms=["genetic"]', "final.seeds=1"])
    assert list(make_charts(gather(run.folder))) == ["training-loss", "validation", "rates"]


def test_nothing_recorded_gives_no_chart(make_run):
    assert make_charts(gather(make_run(plan=False, finals=0).folder)) == {}
