"""Figures and tables for papers: whole files, the numbers of the run, the same bytes every time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from statistics import fmean, stdev
from xml.etree import ElementTree

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evospike.core.errors import MissingExtra, RunError
from evospike.jobs.folder import read_record, write_record
from evospike.report.evaluation.facts import Curve
from evospike.report.paper import write as paper
from evospike.report.paper.evaluation import robustness_figure
from evospike.report.paper.figures import accuracy_figure, arm_looks, layers_figure
from evospike.report.paper.study_tables import rank_tables, search_tables
from evospike.report.paper.style import COLOURS, NOTE_CHARACTERS, looks, paper_style, plain_text
from evospike.report.paper.tables import Column, Table, tables_markdown, tables_tex
from evospike.report.paper.text import MISSING, count_unit, latex, markdown, one_line
from evospike.report.paper.training_tables import training_tables
from evospike.report.paper.write import write_figures
from evospike.report.rank.facts import gather_ranking
from evospike.report.search.facts import gather_search
from evospike.report.training.gather import gather

SVG = "{http://www.w3.org/2000/svg}"
ARMS = ("genetic", "dense", "random")
NASTY = r"_a&b%$x^2#{~}\cmd|<b>[1]*--''`" + '"\x00\ud800\n'
"""A name that every format would take for something else."""


def gids(path):
    """Ids of what is drawn, after the file was parsed."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return [element.get("id") for element in root.iter(f"{SVG}g") if element.get("id")]


def drawn(path, pattern):
    return sorted(gid for gid in gids(path) if re.fullmatch(pattern, gid))


def texts(path):
    return ["".join(element.itertext()) for element in ElementTree.parse(path).getroot().iter(f"{SVG}text")]


def check_pdf(data):
    """A PDF whose table of contents leads to every object, with one page and embedded TrueType fonts only."""
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    start = int(re.search(rb"startxref\s+(\d+)\s+%%EOF", data)[1])
    first, count = map(int, re.match(rb"xref\n(\d+) (\d+)\n", data[start:]).groups())
    rows = re.findall(rb"(\d{10}) (\d{5}) ([nf]) ?\n", data[start:])
    assert (first, len(rows)) == (0, count)
    for number, (offset, _, kind) in enumerate(rows):
        if kind == b"n":
            assert data[int(offset) :].startswith(b"%d 0 obj" % number)
    assert data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") == 1
    assert b"/CreationDate" not in data
    assert b"/Type3" not in data
    assert data.count(b"/FontFile2") >= 1


def check_tex(text):
    """What a LaTeX run needs: braces and environments that close, cells as many as columns, no stray specials."""
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert_balanced(re.sub(r"\\[{}]", "", bare))
    stack = []
    for verb, name in re.findall(r"\\(begin|end)\{([^}]*)\}", bare):
        if verb == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    for align, body in re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", bare, re.DOTALL):
        lines = body.strip().splitlines()
        assert [lines[0], lines[2], lines[-1]] == [r"\toprule", r"\midrule", r"\bottomrule"]
        for row in [lines[1], *lines[3:-1]]:
            assert row.endswith(r" \\")
            assert not row.startswith(("[", "*"))
            assert len(re.findall(r"(?<!\\)&", row)) == len(align) - 1
    words = re.sub(r"\$\\(pm|times|tau|mu)\$|\$-\$|\\[&%$#_{}]", "", bare)
    words = re.sub(r"(?<=[a-z} ]) & |\\\\$", "", words, flags=re.MULTILINE)
    assert not re.search(r"[%$#_~^]", re.sub(r"\\label\{[^}]*\}", "", words))


def assert_balanced(text):
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0


def rows_of(markdown_text, caption):
    """The table below a caption: its head, and its rows as mappings of head to cell."""
    block = markdown_text.split(f"**{caption}", 1)[1].split("**", 1)[1].strip().splitlines()
    table = [line for line in block if line.startswith("|")]
    first = next((k for k, line in enumerate(block) if not line.startswith("|")), len(block))
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table[:first]]
    head, rule, *rows = [[cell.strip() for cell in row] for row in cells]
    assert all(re.fullmatch(r"-{3}:?", cell) for cell in rule)
    return [dict(zip(head, row, strict=True)) for row in rows]


def write(run, folder=None):
    """The folder of the figures and tables of a run."""
    folder = folder or run.path.parent / "paper"
    assert sorted(write_figures(run.path, folder)) == sorted(folder.iterdir())
    return folder


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Writes the folder of a run that several tests look at, for the first of them."""
    folders = {}

    def written(name, run):
        if name not in folders:
            folders[name] = write(run, tmp_path_factory.mktemp("papers") / name)
        return folders[name]

    return written


@pytest.fixture
def evolved(make_run, once):
    """A run of evolve, and its figures and tables."""
    run = make_run()
    return run, once("evolved", run)


@pytest.fixture
def evaluated(make_evaluated, once):
    """An evaluated run, and its figures and tables."""
    run = make_evaluated(arms=ARMS[:2], robustness="full")
    return run, once("evaluated", run)


def stems(folder):
    """Names of the figures in a folder, all of which, like its tables, are whole."""
    names = {path.stem for path in folder.glob("*.svg")}
    assert names == {path.stem for path in folder.glob("*.pdf")}
    for name in names:
        check_pdf((folder / f"{name}.pdf").read_bytes())
        root = ElementTree.parse(folder / f"{name}.svg").getroot()
        width, height = (float(root.get(side).removesuffix("pt")) / 72 for side in ("width", "height"))
        assert any(width == pytest.approx(wanted) for wanted in (3.35, 7.0))
        assert height <= 8.5
        assert texts(folder / f"{name}.svg")
    check_tex((folder / "tables.tex").read_text())
    return names


def rewrite(path, change):
    content = read_record(path)
    change(content)
    write_record(path, content)


def extent(path, gid):
    """Left, top, right and bottom of what is drawn under an id, in points of the page."""
    root = ElementTree.parse(path).getroot()
    (group,) = (element for element in root.iter(f"{SVG}g") if element.get("id") == gid)
    numbers = [
        [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", element.get("d"))]
        for element in group.findall(f"{SVG}path")
    ]
    xs = [x for row in numbers for x in row[::2]]
    ys = [y for row in numbers for y in row[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def tables_of(run):
    """The tables of a run as Markdown, without its figures."""
    facts = {"search": gather_search, "rank": gather_ranking}.get(run.folder.verb, gather)(run.folder)
    make = {"search": search_tables, "rank": rank_tables}.get(run.folder.verb, training_tables)
    return tables_markdown(make(facts))


def as_number(cell):
    return float(cell.replace("−", "-").replace(",", "").split(" ")[0])


def test_an_evolution_is_drawn_series_by_series(evolved):
    run, folder = evolved
    assert (folder / "tables.md").read_text() == tables_of(run)
    assert stems(folder) == {"evolution", "accuracy-parameters", "training", "firing-rates"}
    by_arm = range(len(ARMS))
    assert drawn(folder / "accuracy-parameters.svg", "arm-.*") == sorted(
        f"arm-{k}{part}" for k in by_arm for part in ("", "-seeds")
    )
    curves = ("loss", "validation_accuracy")
    seeds = ["", "-seed-0", "-seed-1", "-seed-2"]
    assert drawn(folder / "training.svg", "(loss|validation).*") == sorted(
        f"{curve}-{k}{seed}" for curve in curves for k in by_arm for seed in seeds
    )
    assert drawn(folder / "firing-rates.svg", "rate-.*") == sorted(f"rate-{k}-{j}" for k in by_arm for j in (0, 1))
    parts = ["best", "chosen", "failed", "losses", "median", "varied"]
    assert drawn(folder / "evolution.svg", "|".join(parts)) == parts


def test_an_evaluation_is_drawn_series_by_series(evaluated):
    run, folder = evaluated
    assert (folder / "tables.md").read_text() == tables_of(run)
    drawings = {"cost-by-layer", "energy", "accuracy-by-step", "confusion", "robustness"}
    assert stems(folder) == drawings | {"accuracy-parameters", "training", "firing-rates"}
    assert drawn(folder / "cost-by-layer.svg", "layer-.*") == [f"layer-{k}" for k in range(4)]
    assert drawn(folder / "accuracy-by-step.svg", "steps-.*") == ["steps-0", "steps-1"]
    lines = sorted(f"robustness-{kind}-{arm}" for kind in range(3) for arm in range(2))
    assert drawn(folder / "robustness.svg", r"robustness-\d-\d") == lines
    bands = [f"{line}-band" for line in lines if not line.startswith("robustness-2")]  # fewer bits: nothing is random
    assert drawn(folder / "robustness.svg", ".*-band") == bands
    cells = ElementTree.parse(folder / "confusion.svg").getroot().find(f".//{SVG}g[@id='confusion']")
    assert len(list(cells.iter(f"{SVG}path"))) == 10 * 10
    energies = run.folder.read("evaluation.json")["energy"].values()
    parts = list(dict.fromkeys(part for energy in energies for part in energy["parts"]))
    wanted = {
        f"energy-{number}-{arm}-{bar}"
        for number, energy in enumerate(energies)
        for arm in range(2)
        for bar in ["dense", *map(parts.index, energy["parts"])]
    }
    assert set(drawn(folder / "energy.svg", r"energy-\d-\d-(\d|dense)")) == wanted


def test_bars_are_as_long_as_the_numbers(evaluated):
    run, folder = evaluated
    document = run.folder.read("evaluation.json")
    boxes = [extent(folder / "cost-by-layer.svg", f"layer-{k}") for k in range(4)]
    scales = [
        (right - left) / layer["effective"]
        for (left, _, right, _), layer in zip(boxes, document["layers"], strict=True)
    ]
    assert scales == pytest.approx([scales[0]] * 4, rel=1e-4)
    assert [top for _, top, _, _ in boxes] == sorted(top for _, top, _, _ in boxes)
    heights = []
    for k, arm in enumerate(document["arms"]):
        energy = arm["energy"]["memory"]
        box = extent(folder / "energy.svg", f"energy-3-{k}-dense")
        heights.append((box[3] - box[1]) / energy["dense_picojoules"])
        stacked = [extent(folder / "energy.svg", f"energy-3-{k}-{j}") for j in (0, 3, 4, 5)]
        heights.append((max(b[3] for b in stacked) - min(b[1] for b in stacked)) / energy["picojoules"])
    assert heights == pytest.approx([heights[0]] * 4, rel=1e-4)


def test_lines_pass_through_the_numbers(evaluated):
    run, folder = evaluated
    path = folder / "accuracy-by-step.svg"
    values = [value for arm in run.folder.read("evaluation.json")["arms"] for value in arm["accuracy_by_step"]]
    root = ElementTree.parse(path).getroot()
    heights = []
    for k in (0, 1):
        line = root.find(f".//{SVG}g[@id='steps-{k}']/{SVG}path").get("d")
        heights += [float(y) for _, y in re.findall(r"[ML] (\S+) (\S+)", line)]
    slope = (heights[3] - heights[0]) / (values[3] - values[0])
    assert slope < 0  # the page's heights grow downwards
    assert heights == pytest.approx([heights[0] + slope * (value - values[0]) for value in values], abs=0.01)


def test_networks_of_one_size_stand_at_it(evolved):
    path = evolved[1] / "accuracy-parameters.svg"
    root = ElementTree.parse(path).getroot()
    places = []
    for k in range(3):
        (mark,) = root.find(f".//{SVG}g[@id='arm-{k}']").iter(f"{SVG}use")
        places.append((float(mark.get("x")), float(mark.get("y"))))
    (own, own_y), (dense, dense_y), (random, random_y) = places
    assert random == own
    assert dense > random
    assert own_y == pytest.approx(random_y, abs=0.01)
    assert dense_y < own_y


def test_names_of_strengths_stay_within_their_panels(make_evaluated):
    evaluation = gather(make_evaluated(arms=ARMS[:1], robustness="full").folder).evaluation
    arm = evaluation.arms[0]
    names = [("contrast", "of the contrast removed"), ("threshold jitter", "of the threshold"), ("weight bits", "bits")]
    curves = [Curve(name, unit, (0.0, 0.1), (0.9, 0.8), (None, None)) for name, unit in names * 2]
    curves = [replace(curve, name=f"{curve.name}{'s' * (k // 3)}") for k, curve in enumerate(curves)]
    told = replace(evaluation, arms=(replace(arm, robustness=replace(arm.robustness, curves=tuple(curves))),))
    with paper_style():
        figure = robustness_figure(told, looks([arm.name]))
        figure.draw_without_rendering()
        boxes = [axes.xaxis.label.get_window_extent() for axes in figure.axes]
        assert all(0 <= box.x0 < box.x1 <= figure.bbox.width for box in boxes)
        assert all(left.x1 < right.x0 for row in (boxes[:3], boxes[3:]) for left, right in pairwise(row))
    assert [axes.get_ylim() for axes in figure.axes] == [(0, 102)] * 6


def test_fewer_bits_stand_beside_one_another(make_evaluated):
    evaluation = gather(make_evaluated(arms=ARMS[:1], robustness="full").folder).evaluation
    arm = evaluation.arms[0]
    curve = Curve("weight bits", "bits", (32.0, 8.0, 2.0), (0.9, 0.9, 0.1), (None, None, None))
    told = replace(evaluation, arms=(replace(arm, robustness=replace(arm.robustness, curves=(curve,))),))
    with paper_style():
        (axes,) = robustness_figure(told, looks([arm.name])).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "8", "2"]
    assert list(axes.get_lines()[0].get_xdata()) == [0, 1, 2]


def test_networks_of_very_different_sizes_stand_on_a_logarithmic_axis(make_run):
    facts = gather(make_run("train").folder)
    arms = [replace(arm, parameters=10**k) for arm, k in zip(facts.arms, (3, 4, 5), strict=True)]
    with paper_style():
        (axes,) = accuracy_figure(replace(facts, arms=tuple(arms)), arm_looks(facts)).axes
    assert axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    assert low < 1e3 < 1e5 < high
    assert [axes.xaxis.get_major_formatter()(value) for value in (1e3, 1e4, 1e5)] == ["1k", "10k", "100k"]


def test_a_figure_of_many_layers_fits_a_page():
    with paper_style():
        figure = layers_figure("rate", "rate", {"a": {f"layer {k}": 0.1 for k in range(70)}}, looks(["a"]))
    assert tuple(figure.get_size_inches()) == (3.35, 8.5)


def test_sparse_runs_show_densities_and_rewiring(make_sparse):
    run = make_sparse()
    folder = write(run)
    assert stems(folder) == {"accuracy-parameters", "training", "firing-rates", "density", "rewiring"}
    assert drawn(folder / "density.svg", "density-.*") == sorted(f"density-{k}-{j}" for k in range(3) for j in range(3))
    assert drawn(folder / "rewiring.svg", "(born|lost)-.*") == ["born-0", "lost-0"]  # the others never rewire
    assert "parameters that exist" in texts(folder / "accuracy-parameters.svg")


def test_searches_have_figures_of_their_own(make_search):
    folder = write(make_search())
    assert stems(folder) == {"scores", "front"}
    assert drawn(folder / "scores.svg", "candidates|best|median") == ["best", "candidates", "median"]
    assert drawn(folder / "front.svg", "candidates|front|chosen") == ["candidates", "chosen", "front"]


def test_a_search_tells_its_winner_and_its_front(make_search):
    run = make_search()
    result = run.folder.read("result.json")
    (found,) = rows_of(tables_of(run), "What the search found")
    assert as_number(found["Score"]) == result["score"]
    assert as_number(found["Param."]) == result["parameters"]
    assert as_number(found["Operations"]) == result["operations"]
    assert found["Firing rate"] == MISSING
    rows = rows_of(tables_of(run), "Architectures found on digits")
    motifs = " ".join(cell["motif"] for cell in result["winner"]["genome"]["cells"])
    assert rows[0]["Architecture"] == motifs
    assert as_number(rows[0]["Score"]) == result["winner"]["terms"]["score"]
    sizes = [as_number(row["Param."]) for row in rows]
    assert len(rows) > 1
    assert sizes[1:] == sorted(sizes[1:], reverse=True)
    assert {row["Accuracy (%)"] for row in rows} == {MISSING}


def test_several_searches_have_a_row_each_and_their_mean(make_search):
    run = make_search()
    seeds = [{"seed": 0, "score": 1370.5}, {"seed": 1, "score": 1372.5}]

    def repeat(result):
        common = {"parameters": 11100, "operations": 70610, "firing_rate": 0.25, "candidates": 18}
        result["seeds"] = [{**seed, **common} for seed in seeds]
        result.update(score=1371.5, interval=12.706, firing_rate=0.25, winner_seed=1)

    rewrite(run.path / "result.json", repeat)
    rewrite(run.path / "run.json", lambda record: record["recipe"]["search"].update(seeds=2))
    (run.path / "study-1.sqlite").write_bytes(run.folder.store_path.read_bytes())
    text = tables_of(run)
    rows = rows_of(text, "What the search found")
    assert [(row["Seed"], row["Score"]) for row in rows] == [
        ("0", "1370.5"),
        ("1", "1372.5"),
        ("mean", "1371.5 ± 12.7"),
    ]
    assert "by the best of 2 searches" in text


def test_a_ranking_tells_tau_and_what_it_is_against(make_ranking):
    run = make_ranking()
    folder = write(run)
    assert stems(folder) == {"taus"}
    scores = run.folder.read("result.json")["scores"]
    assert drawn(folder / "taus.svg", "tau-.*") == [f"tau-{k}" for k in range(len(scores))]
    rows = rows_of(tables_of(run), "Scores against the accuracy on digits")
    assert [row["Score"] for row in rows] == [score["score"] for score in scores]
    assert [as_number(row["Kendall's τ"]) for row in rows] == pytest.approx([score["tau"] for score in scores])
    assert rows[0]["95 % interval"] == "+0.400 to +0.700"
    assert rows[0]["minus parameters"] == "+0.250 (+0.100 to +0.500)"
    assert rows[2]["minus random"] == "+0.250 (−0.300 to +0.400) n.s."
    assert rows[1]["minus random"] == MISSING


def test_results_are_those_of_the_run(make_run):
    run = make_run()
    arms = run.folder.read("result.json")["arms"]
    rows = rows_of(tables_of(run), "Test accuracy on digits")
    assert list(rows[0]) == ["Method", "Network", "Param.", "T", "Accuracy (%)"]
    for row, arm in zip(rows, arms, strict=True):
        seeds = arm["seeds"]
        half = 4.30265 * stdev(seeds) / len(seeds) ** 0.5
        assert (row["Method"], row["Network"], row["T"]) == (arm["arm"], "small8", str(run.recipe.model.steps))
        assert row["Accuracy (%)"] == f"{100 * fmean(seeds):.2f} ± {100 * half:.2f}"
        assert as_number(row["Param."]) == arm["parameters"]


def test_densities_lose_against_the_dense_network_over_paired_seeds(make_sparse):
    run = make_sparse()
    arms = {arm["arm"]: arm for arm in run.folder.read("result.json")["arms"]}
    rows = {row["Method"]: row for row in rows_of(tables_of(run), "Sparse networks on digits")}
    assert rows["dense"]["Loss (points)"] == MISSING
    for name in ("sparse", "static", "one-shot"):
        lost = [100 * (a - b) for a, b in zip(arms["dense"]["seeds"], arms[name]["seeds"], strict=True)]
        half = 4.30265 * stdev(lost) / 3**0.5
        assert rows[name]["Loss (points)"] == f"{fmean(lost):.2f} ± {half:.2f}"
        assert as_number(rows[name]["Density (%)"]) == 100 * arms[name]["density"]
        assert as_number(rows[name]["Conn. (%)"]) == pytest.approx(100 * arms[name]["connection_density"], abs=0.005)
        assert as_number(rows[name]["Param. present"]) == arms[name]["active_parameters"]


def test_without_a_dense_network_there_is_no_loss_against_it(make_sparse):
    run = make_sparse(overrides=['final.arms=["sparse","static"]'])
    rows = rows_of(tables_of(run), "Sparse networks on digits")
    assert [row["Loss (points)"] for row in rows] == [MISSING, MISSING]


def test_costs_are_those_of_the_evaluation(make_evaluated):
    run = make_evaluated(arms=ARMS[:2], robustness="protocol")
    document = run.folder.read("evaluation.json")
    text = tables_of(run)
    heads = {
        "Firing rate": "firing_rate",
        "Spikes": "spikes_per_sample",
        "SOPs": "synaptic_operations",
        "AC": "accumulates",
        "MAC": "multiply_accumulates",
    }
    rows = rows_of(text, "Activity and operations of a sample")
    assert [row["Method"] for row in rows] == list(ARMS[:2])
    for row, arm in zip(rows, document["arms"], strict=True):
        for head, key in heads.items():
            assert as_number(row[head]) == pytest.approx(arm[key], rel=1e-3 if key == "firing_rate" else 0, abs=0.5)
    layers = rows_of(text, "Layers of the genetic network")
    for row, layer in zip(layers, document["layers"], strict=True):
        here, there = ("AC", "MAC") if layer["input_kind"] == "binary" else ("MAC", "AC")
        assert as_number(row[here]) == pytest.approx(layer["effective"], abs=0.5)
        assert row[there] == MISSING
        assert (row["Layer"], row["Input"]) == (layer["name"], layer["input_kind"])
        assert as_number(row["Density (%)"]) == 100 * layer["density"]
    noisy = rows_of(text, "Accuracy under noise")
    for row, arm in zip(noisy, document["arms"], strict=True):
        found = arm["robustness"]
        seen = (row["Clean (%)"], row["Noisy (%)"], row["Drop (points)"])
        assert seen == (f"{100 * found['clean']:.2f}", f"{100 * found['noisy']:.2f} ± 1.86", "20.00")


def test_break_even_above_one_and_means_of_real_inputs_are_not_told_as_rates(make_evaluated):
    run = make_evaluated(arms=ARMS[:1])

    def change(document):
        arm = document["arms"][0]
        arm["break_even"]["45nm"]["firing_rate"] = 1.7
        arm["layers"][0] |= {"input_rate": -0.0155, "input_activity": 0.98}

    rewrite(run.path / "evaluation.json", change)
    text = tables_of(run)
    first = rows_of(text, "Energy of a sample by model")[0]
    assert (first["Energy model"], first["Break-even rate"]) == ("45nm", "always")
    layer = rows_of(text, "Layers of the genetic network")[0]
    assert (layer["Input"], layer["Input rate"]) == ("real", "0.98")


MODELS = ("45nm", "45nm_with_encoding", "chip", "memory")
POWERS = {"pJ": 1, "nJ": 1e3, "µJ": 1e6, "mJ": 1e9}


def test_every_energy_stands_beside_its_model_and_its_unit(evaluated):
    run, folder = evaluated
    document = run.folder.read("evaluation.json")
    text = tables_of(run)
    rows = iter(rows_of(text, "Energy of a sample by model"))
    for model in document["energy"]:
        for arm in document["arms"]:
            row, energy = next(rows), arm["energy"][model]
            assert (row["Energy model"], row["Method"]) == (model.replace("_", " "), arm["arm"])
            for head, key in (("Energy", "picojoules"), ("Dense twin", "dense_picojoules")):
                number, unit = row[head].split()
                assert float(number) * POWERS[unit] == pytest.approx(energy[key], rel=1e-3)
            assert as_number(row["Of its twin (%)"]) == pytest.approx(
                100 * energy["picojoules"] / energy["dense_picojoules"], abs=0.05
            )
            even = arm["break_even"].get(model)
            rate = None if even is None else even["firing_rate"]
            assert row["Break-even rate"] == (MISSING if even is None else "none" if rate is None else f"{rate:.4g}")
            assert energy["assumptions"] in one_line(text).replace("\\_", "_")
    assert next(rows, None) is None
    results = rows_of(text, "Test accuracy on digits")
    assert [row["Energy, 45nm (nJ)"] for row in results] == ["110.001", "137.501", MISSING]
    titles = texts(folder / "energy.svg")
    assert [title for title in titles if title.endswith(" model")] == [f"{m.replace('_', ' ')} model" for m in MODELS]
    assert sum(title.startswith("energy per sample (") for title in titles) == len(MODELS)


@pytest.mark.parametrize("maker", ["make_evaluated", "make_search", "make_ranking"])
def test_every_figure_and_every_caption_says_that_its_data_is_simulated(request, monkeypatch, maker):
    monkeypatch.setattr(paper, "KINDS", ("svg",))
    events = ['data.source="digits-events"', "data.events.frames=4", "model.steps=4"]
    folder = write(request.getfixturevalue(maker)(overrides=events))
    figures = list(folder.glob("*.svg"))
    assert figures
    for path in figures:
        assert "data: digits-events, simulated recordings" in texts(path), path.name
    captions = re.findall(r"^\*\*(.*)\*\*$", (folder / "tables.md").read_text(), re.MULTILINE)
    assert len(captions) >= {"make_evaluated": 5, "make_search": 2, "make_ranking": 1}[maker]
    for caption in captions:
        assert "digits-events, simulated recordings" in caption


def test_a_long_name_of_the_data_is_cut_to_the_width_of_a_figure(make_run, monkeypatch):
    monkeypatch.setattr(paper, "KINDS", ("svg",))
    folder = write(make_run(overrides=[f"data.source=imagefolder:{'deep' * 50}"]))
    for path in folder.glob("*.svg"):
        (note,) = [text for text in texts(path) if text.startswith("data: imagefolder:deep")]
        assert note.endswith("…")
        assert len(note) <= 7.0 * NOTE_CHARACTERS


def test_an_evaluation_of_other_weights_is_left_out_and_said(make_evaluated):
    run = make_evaluated(digest="0" * 32, overrides=['final.arms=["genetic"]', "final.seeds=1"])
    assert stems(write(run)) == {"accuracy-parameters", "training", "firing-rates"}
    assert "of other weights and left out" in tables_of(run)
    assert "Energy" not in tables_of(run)


def test_hostile_names_stay_text(make_evaluated, monkeypatch):
    monkeypatch.setattr(paper, "KINDS", ("svg",))
    run = make_evaluated(hostile=True, robustness="full", arms=ARMS[:2])

    def rename(document):
        document["classes"] = [NASTY] * len(document["classes"])
        document["arms"][1]["arm"] = NASTY
        document["arms"][0]["layers"][0]["name"] = NASTY

    rewrite(run.path / "evaluation.json", rename)
    rewrite(run.path / "result.json", lambda result: result["arms"][1].update(arm=NASTY))
    folder = write(run)
    for path in folder.glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert not [element for element in root.iter() if element.tag.rpartition("}")[2] in ("script", "img", "b")]
    names = texts(folder / "accuracy-by-step.svg")
    assert f" {one_line(NASTY)}" in names  # a space keeps it in the legend, whose names must not begin with _
    assert "genetic<script>alert(1)</script>" in names
    assert plain_text(NASTY, 28).strip() in [text.strip() for text in texts(folder / "cost-by-layer.svg")]
    text = (folder / "tables.tex").read_text()
    check_tex(text)
    assert rf"Layers of the {latex('genetic<script>alert(1)</script>')} network" in text
    rows = rows_of(tables_of(run), "Activity and operations of a sample")
    assert [row["Method"] for row in rows] == [r"genetic\<script\>alert(1)\</script\>", markdown(NASTY)]


SCRIPT = """
import sys
from pathlib import Path
import evospike.report.paper.write as paper
assert not {"torch", "matplotlib", "plotly"} & set(sys.modules)
paper.write_figures(Path(sys.argv[1]), Path(sys.argv[2]))
assert "matplotlib.pyplot" not in sys.modules
"""


def test_the_same_run_gives_the_same_bytes_whoever_asks(evaluated, tmp_path):
    run, folder = evaluated
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nfont.family: serif\naxes.facecolor: red\n")
    environment = {**os.environ, "PYTHONHASHSEED": "77", "SOURCE_DATE_EPOCH": "1", "MATPLOTLIBRC": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(run.path), str(tmp_path / "other")]
    subprocess.run(command, env={**environment, "OMP_NUM_THREADS": "1"}, check=True, timeout=120)
    assert stems(folder) == stems(tmp_path / "other")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


def test_settings_of_matplotlib_are_left_as_they_were(make_ranking, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 23.0)
    before = dict(matplotlib.rcParams)
    write(make_ranking())
    assert dict(matplotlib.rcParams) == before


def test_an_unfinished_run_shows_what_is_there(make_run):
    run = make_run(scores=5, finals=0)
    folder = write(run)
    assert stems(folder) == {"evolution"}
    assert "chosen" not in gids(folder / "evolution.svg")
    assert (folder / "tables.md").read_text() == ""


@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_varied_things_has_a_row_each(count, make_run):
    names = tuple(f"log10 spread of block{k}" for k in range(count))
    folder = write(make_run(names=names, finals=0))
    assert set(texts(folder / "evolution.svg")) >= {f"block{k}" for k in range(count)}
    assert "log₁₀ spread" in texts(folder / "evolution.svg")


def test_a_run_without_anything_to_show_is_refused(make_run, tmp_path):
    run = make_run(plan=False, finals=0)
    with pytest.raises(RunError, match=r"has nothing to show yet; .*evospike resume"):
        write_figures(run.path, tmp_path / "paper")
    assert not (tmp_path / "paper").exists()


def test_a_folder_that_holds_something_is_refused(make_ranking, tmp_path):
    run = make_ranking()
    folder = tmp_path / "paper"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    with pytest.raises(RunError, match="exists and is not an empty folder; give --figures a new one"):
        write_figures(run.path, folder)
    with pytest.raises(RunError, match="exists and is not an empty folder"):
        write_figures(run.path, folder / "mine.txt")
    assert [path.read_text() for path in folder.iterdir()] == ["kept"]
    (folder / "mine.txt").unlink()
    write(run, folder)


def test_a_folder_that_cannot_be_written_is_one_line(make_ranking, tmp_path):
    run = make_ranking()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write to '.*' \(Not a directory\); give --figures a folder"):
        write_figures(run.path, tmp_path / "file" / "paper")


def test_without_matplotlib_the_extra_is_named(make_run, tmp_path, monkeypatch):
    run = make_run()
    monkeypatch.delitem(sys.modules, "evospike.report.paper.style")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"needs 'matplotlib'; install it with: pip install 'evospike\[figures\]'"):
        write_figures(run.path, tmp_path / "paper")
    assert not (tmp_path / "paper").exists()


def test_an_altered_record_is_one_line(make_evaluated, tmp_path):
    run = make_evaluated()
    rewrite(run.path / "evaluation.json", lambda document: document["arms"][0].pop("layers"))
    with pytest.raises(RunError, match=r"unexpected form \(KeyError: 'layers'\)"):
        write_figures(run.path, tmp_path / "paper")


def test_series_have_the_colours_of_the_page():
    from importlib.resources import files

    page = files("evospike.report").joinpath("templates", "base.html").read_text()
    light = re.search(r"--series0:.*", page)[0]
    assert tuple(re.findall(r"--series\d: (#\w{6})", light)) == COLOURS


def test_nine_networks_are_told_apart_without_colour_twice_over():
    found = looks(f"arm {k}" for k in range(9))
    assert len({(look.colour, look.marker) for look in found.values()}) == 9
    assert len({(look.colour, str(look.dash)) for look in found.values()}) == 9
    assert len({(look.colour, look.fill["hatch"]) for look in found.values()}) == 9
    assert [found["arm 0"].colour, found["arm 6"].colour] == [COLOURS[0], COLOURS[0]]


def test_counts_are_millions_only_where_all_are():
    assert count_unit([12.6e6, 4.4e6, None, 0]).name == "M"
    assert count_unit([12.6e6, 4.4e5]).name == ""


WRITTEN = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", r"{\char34}": '"', r"{\char96}": "`", "{[}": "[", "{*}": "*",
    r"$\pm$": "±", "$-$": "−", r"$\times$": "×", r"$\tau$": "τ", r"$\mu$": "µ", r"\ldots{}": "…",
    r"\textendash{}": "–", **{f"\\{character}": character for character in "&%$#_{}"},
}  # fmt: skip
"""What LaTeX prints, written down a second time."""

CHARACTERS = st.text(st.one_of(st.sampled_from("\\~^<>|\"`'[]*-&%$#_{}±−×τµ…–’ \n!?"), st.characters()), max_size=12)


def printed(text):
    """What LaTeX would print."""
    pattern = "|".join(map(re.escape, sorted(WRITTEN, key=len, reverse=True)))
    return re.sub(pattern, lambda found: WRITTEN[found[0]], re.sub(r"(?<=[-'])\{\}(?=[-'])", "", text))


@given(CHARACTERS)
def test_latex_prints_any_text_as_it_is(text):
    written = latex(text)
    assert printed(written) == one_line(text).replace("’", "'")
    assert not re.search("--|''", written)
    assert_balanced(re.sub(r"\\[{}]", "", written))


@given(st.lists(st.lists(st.none() | CHARACTERS, min_size=2, max_size=2), min_size=1, max_size=4), CHARACTERS)
def test_tables_of_any_text_keep_their_shape(rows, note):
    columns = [Column(f"head {k}", [row[k] for row in rows], words=k == 0) for k in range(2)]
    table = Table("name", "Caption.", tuple(columns), (note,))
    check_tex(tables_tex([table]))
    found = rows_of(tables_markdown([table]), "Caption.")
    for row, cells in zip(found, rows, strict=True):
        plain = [MISSING if cell is None else one_line(cell) for cell in cells]
        assert [re.sub(r"\\(.)", r"\1", cell) for cell in row.values()] == plain


@given(st.text(), st.integers(2, 50))
def test_plain_text_is_one_printable_line_that_legends_keep(text, most):
    line = plain_text(text, most)
    assert line.isprintable()
    assert len(line) <= most
    assert not line.startswith("_")
