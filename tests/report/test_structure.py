"""What the page tells of sparse networks: how much of them exists, how they were rewired, which synapses are left."""

from __future__ import annotations

import html
import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evospike.core.errors import RunError
from evospike.jobs.folder import read_record, write_record
from evospike.report.training.charts import make_charts
from evospike.report.training.connectivity import FAINTEST, LEVELS, SIDE, describe, draw_layer, levels
from evospike.report.training.gather import gather
from evospike.report.training.structure_facts import LayerPicture, SparseLayer, mean_layers


def rewrite(path, change):
    content = read_record(path)
    change(content)
    write_record(path, content)


def test_arms_say_how_much_of_them_exists(make_sparse):
    facts = gather(make_sparse().folder)
    seen = {a.name: (a.density, a.synapse_density, a.connection_density, a.active_parameters) for a in facts.arms}
    assert seen["sparse"] == (0.1, 0.1, pytest.approx(0.13), 6938)
    assert seen["dense"] == (1.0, 1.0, 1.0, 65834)
    assert [arm.sparse for arm in facts.arms] == [True, False, True, True]
    assert (facts.sparse, facts.masks_storage) == (True, False)


def test_an_unfinished_run_says_the_same_of_the_seeds_it_has(make_sparse):
    (arm,) = gather(make_sparse(finals=2).folder).arms
    assert (arm.density, arm.connection_density, arm.active_parameters) == (0.1, pytest.approx(0.125), 6938)


def test_a_record_from_before_structure_learning_is_of_dense_networks(make_run):
    run = make_run("train")
    names = ("density", "synapse_density", "connection_density", "active_parameters")

    def strip(content):
        for part in (content, *content.get("arms", ())):
            for name in (*names, "structure"):
                part.pop(name, None)

    for path in (run.path / "result.json", *run.path.glob("final/*/result.json")):
        rewrite(path, strip)
    facts = gather(run.folder)
    assert [(arm.density, arm.active_parameters) for arm in facts.arms] == [(1.0, a.parameters) for a in facts.arms]
    assert (facts.sparse, facts.structures, facts.connectivity) == (False, {}, None)


def test_layers_are_the_mean_over_seeds(make_sparse):
    facts = gather(make_sparse().folder)
    assert list(facts.structures) == ["sparse", "static", "one-shot"]
    assert facts.structures["static"] == (
        SparseLayer("conv1.conv", 288, 288.0, 0.0),
        SparseLayer("conv2.conv", 1080, 100.0, 1.0),
        SparseLayer("conv3.conv", 1080, 101.0, 1.0),
    )
    assert facts.structures["static"][2].density == 101 / 1080


LAYERS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(0, 9)), min_size=1, max_size=4)


@given(st.lists(LAYERS, min_size=1, max_size=4))
def test_means_are_those_of_each_layer_or_the_trainings_are_refused(trainings):
    made = [[SparseLayer("layer", w, float(a), float(u)) for w, a, u in training] for training in trainings]
    shapes = {tuple(w for w, _, _ in training) for training in trainings}
    if len(shapes) > 1:
        with pytest.raises(ValueError):  # noqa: PT011 - of zip or ours; both become a RunError
            mean_layers(made)
        return
    for place, layer in enumerate(mean_layers(made)):
        rows = [training[place] for training in trainings]
        assert layer.weights == rows[0][0]
        assert layer.active == pytest.approx(sum(row[1] for row in rows) / len(rows))
        assert layer.unfed == pytest.approx(sum(row[2] for row in rows) / len(rows))


def test_the_picture_is_of_the_first_sparse_training(make_sparse):
    run = make_sparse(overrides=['final.arms=["dense","static","sparse"]'])
    drawn = gather(run.folder).connectivity
    assert (drawn.arm, drawn.repeat) == ("static", 0)
    stored = json.loads((run.path / "final" / "static-0" / "connectivity.json").read_text())["layers"]
    assert [layer.name for layer in drawn.layers] == ["conv2.conv", "conv3.conv"]
    for layer, record in zip(drawn.layers, stored, strict=True):
        assert [list(row) for row in layer.share] == record["share"]
    assert (drawn.layers[0].density, drawn.layers[0].empty_columns) == (100 / 1080, 1)


def test_a_run_without_its_picture_has_none(make_sparse):
    run = make_sparse()
    (run.path / "final" / "sparse-0" / "connectivity.json").unlink()
    assert gather(run.folder).connectivity is None


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.update(share=[]),
        lambda layer: layer.update(share=[[]]),
        lambda layer: layer.update(share=[[0.1, 0.2], [0.3]]),
        lambda layer: layer.update(share=[[1.5]]),
        lambda layer: layer.update(share=[["much"]]),
        lambda layer: layer.update(share=3),
        lambda layer: layer.update(name="unknown"),
        lambda layer: layer.pop("inputs"),
    ],
)
def test_a_picture_of_another_form_is_refused_in_one_line(make_sparse, change):
    run = make_sparse()
    path = run.path / "final" / "sparse-0" / "connectivity.json"
    rewrite(path, lambda content: change(content["layers"][0]))
    with pytest.raises(RunError, match=r"^a result or the plan in .* has an unexpected form .*start a new run$"):
        gather(run.folder)


def test_trainings_of_one_arm_that_disagree_are_refused(make_sparse):
    run = make_sparse()
    path = run.path / "final" / "static-1" / "result.json"
    rewrite(path, lambda content: content["structure"][1].update(weights=7))
    with pytest.raises(RunError, match=r"disagree about layer 'conv2.conv'"):
        gather(run.folder)


def test_a_dense_run_has_no_chart_of_structure(make_run):
    facts = gather(make_run().folder)
    assert (facts.sparse, facts.structures, facts.connectivity) == (False, {}, None)
    assert not {"rewiring", "exploration", "density"} & set(make_charts(facts))


def test_charts_of_structure_follow_the_records(make_sparse):
    charts = make_charts(gather(make_sparse().folder))
    born, lost = charts["rewiring"].data
    assert (born["name"], born["x"], born["y"]) == ("sparse", [1, 2, 3], [301.0, 201.0, 101.0])
    assert lost["y"] == [-301.0, -201.0, -101.0]
    assert lost["hovertext"][0] == "sparse<br>epoch 1: 301 lost"
    assert "sparse 603 born and 603 lost in all" in charts["rewiring"].summary
    explored = {t["name"]: t["y"] for t in charts["exploration"].data if t.get("showlegend", True)}
    assert explored == {"sparse": [20.0, 30.0, 40.0], "static": [10.0] * 3, "one-shot": [100.0] * 3}
    bars = {trace["name"]: trace for trace in charts["density"].data}
    assert list(bars) == ["sparse", "static", "one-shot"]
    assert bars["static"]["x"] == ["conv1.conv", "conv2.conv", "conv3.conv"]
    assert bars["static"]["y"] == pytest.approx([100.0, 100 * 100 / 1080, 100 * 101 / 1080], rel=1e-5)


def test_an_arm_has_the_same_colour_in_every_chart(make_sparse):
    charts = make_charts(gather(make_sparse().folder))
    bars = {trace["name"]: trace["marker"]["color"] for trace in charts["density"].data}
    lines = {t["name"]: t["line"]["color"] for t in charts["exploration"].data if t.get("showlegend", True)}
    curves = {t["name"]: t["line"]["color"] for t in charts["validation"].data if t.get("showlegend", True)}
    assert bars == lines == {name: curves[name] for name in bars}


def test_where_nothing_is_rewired_there_is_no_chart_of_it(make_sparse):
    run = make_sparse(overrides=['final.arms=["static","one-shot"]'])
    charts = make_charts(gather(run.folder))
    assert "rewiring" not in charts
    assert {"exploration", "density"} <= set(charts)


def test_plotly_accepts_the_charts_and_names_are_inert(make_sparse):
    go = pytest.importorskip("plotly.graph_objects", reason="needs the extra 'report'")
    charts = make_charts(gather(make_sparse(hostile=True).folder))
    for name in ("rewiring", "exploration", "density"):
        text = json.dumps(charts[name].figure(), allow_nan=False)
        assert "sparse&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "<script" not in text
        go.Figure(json.loads(re.sub(r'"@[a-z0-9]+"', '"#123456"', text)))  # raises for an unknown property


def picture(share, name="conv2.conv", outputs=None, inputs=None):
    rows = tuple(tuple(row) for row in share)
    return LayerPicture(name, outputs or len(rows), inputs or len(rows[0]), rows, 0.125)


@st.composite
def shares(draw):
    rows, columns = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    value = st.one_of(st.just(0.0), st.integers(1, 1000).map(lambda k: k / 1000))
    return draw(st.lists(st.lists(value, min_size=columns, max_size=columns), min_size=rows, max_size=rows))


@given(shares())
def test_strengths_keep_the_order_and_only_what_is_missing_is_empty(share):
    pairs = [(v, s) for row, strong in zip(share, levels(share), strict=True) for v, s in zip(row, strong, strict=True)]
    most = max(value for value, _ in pairs)
    for value, strength in pairs:
        assert (strength == 0) == (value == 0)
        assert 0 <= strength <= LEVELS
        assert (strength == LEVELS) or value < most or most == 0
        assert all(other <= strength for smaller, other in pairs if smaller <= value)


@given(shares())
def test_the_strokes_cover_every_block_once_with_its_strength(share):
    svg = ElementTree.fromstring(draw_layer(picture(share), 0))
    (frame,) = svg.findall("g")
    assert frame.get("transform").endswith(f"scale({SIDE / len(share[0]):.6g} {SIDE / len(share):.6g})")
    covered = [[0] * len(row) for row in share]
    for path in frame.findall("path"):
        strength = round(1 + (float(path.get("stroke-opacity")) - FAINTEST) / (1 - FAINTEST) * (LEVELS - 1))
        for x, y, length in re.findall(r"M(\d+) (\d+)\.5h(\d+)", path.get("d")):
            for column in range(int(x), int(x) + int(length)):
                assert covered[int(y)][column] == 0
                covered[int(y)][column] = strength
    assert covered == levels(share)


@given(shares())
def test_empty_rows_and_columns_are_counted(share):
    seen = picture(share)
    columns = [[row[k] for row in share] for k in range(len(share[0]))]
    assert seen.empty_rows == sum(sum(row) == 0 for row in share)
    assert seen.empty_columns == sum(sum(column) == 0 for column in columns)
    assert (seen.fullest, seen.blocks) == (max(v for row in share for v in row), False)


def test_a_picture_is_told_in_words_too():
    layer = picture([[0.0, 0.5], [0.0, 0.25], [0.0, 0.0]], "a<b>\"'&", outputs=6, inputs=2)
    assert layer.blocks
    told = "6 outputs by 2 inputs, of whose synapses 12.5 % exist. Empty are 1 of 3 rows and 1 of 2 columns; "
    assert describe(layer) == told + "the fullest block has 50 %."
    text = draw_layer(layer, 3)
    svg = ElementTree.fromstring(text)
    named = {part.get("id"): part.text for part in svg if part.get("id")}
    assert svg.get("aria-labelledby").split() == list(named)
    assert list(named.values()) == ["Synapses of a<b>\"'&", describe(layer)]
    assert "<b>" not in text
    assert "a<b>" in html.unescape(text)
