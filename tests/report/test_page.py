from __future__ import annotations

import base64
import builtins
import hashlib
import html.parser
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from evospike.core.errors import MissingExtra, RunError
from evospike.evolution.store import Store
from evospike.jobs.folder import read_record, write_record
from evospike.jobs.recipe import Recipe
from evospike.report.page import write_report
from evospike.report.pages import arm_text
from evospike.report.search.facts import gather_search
from evospike.sparse.settings import SparseSettings

pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(html.parser.HTMLParser):
    """What a browser sees: elements in order, text outside scripts and styles, scripts by kind."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []
        self.text = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type") or "", ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] == ["script"]:
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._open[-1:] != ["style"]:
            self._text.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(params=["make_run", "make_sparse", "make_search", "make_ranking"])
def make_any(request):
    """Makes a run of each kind in turn."""
    return request.getfixturevalue(request.param)


def report(run, output=None):
    path = write_report(run.path, output)
    return path, path.read_text(encoding="utf-8")


def test_the_page_of_a_finished_run_shows_its_values(make_run):
    run = make_run()
    path, page = report(run)
    assert path == run.path / "report.html"
    text = Reader(page).text
    for value in (
        "evospike evolve digits --seeds 3",
        "91.00 ± 2.48 %",
        "96.00 ± 2.48 %",
        "+5.00 ± 0.00 significant",
        "+0.00 ± 2.48 not significant",
        "27,962",
        "42.5 %",
        "0.210",
        "12 min 34 s",
        "abc123+",
        "2.13.0",
        "AVX512",
        "fused",
        "Threads of each 7",
        "Seed 0",
        "2026-01-02T03:04:05",
        "conv3.conv conv edge two-stage",
        "never compared across generations",
        "winner",
    ):
        assert value in text, value
    assert "unfinished" not in text
    assert str(read_record(run.path / "result.json")["digest"]) in text


def test_every_candidate_is_in_the_table_with_its_fitness(make_run):
    run = make_run()
    text = Reader(report(run)[1]).text
    for generation in run.study.history:
        for value in generation.fitness:
            assert value is None or f"{value:.4g}" in text


def test_the_page_asks_nothing_of_any_network(make_any):
    _, page = report(make_any())
    reader = Reader(page)
    own = page
    (library,) = [text for kind, text in reader.scripts if "plotly.js" in text[:500]]
    own = own.replace(library, "")
    assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]|@import|fetch\(|XMLHttpRequest|sendBeacon|import\(", own)
    assert not [a for a in reader.all("script", "img", "iframe", "object", "embed", "source") if "src" in a]
    links = [a["href"] for a in reader.all("link", "a")]
    assert all(href.startswith("#") or href == "data:," for href in links)


def test_the_policy_allows_the_two_scripts_of_the_page_and_no_request(make_any):
    reader = Reader(report(make_any())[1])
    (policy,) = [a["content"] for a in reader.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    scripts = [text for kind, text in reader.scripts if kind == ""]
    assert len(scripts) == 2
    for text in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy


def test_the_page_stays_below_six_megabytes(make_any):
    assert report(make_any())[0].stat().st_size < 6_000_000


def test_names_that_hold_markup_are_shown_and_inert(make_run):
    _, page = report(make_run(hostile=True))
    reader = Reader(page)
    assert [kind for kind, _ in reader.scripts] == ["application/json", "", ""]
    assert "<script>alert(1)" not in page
    assert reader.all("img") == []
    assert not [a for _, a in reader.elements if any(name.startswith("on") for name in a)]
    assert "<script>alert(1)</script>" in reader.text
    figures = json.loads(reader.scripts[0][1])
    assert "<script" not in json.dumps(figures)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in json.dumps(figures)


@pytest.mark.parametrize(
    ("maker", "tables", "charts"),
    [("make_run", 7, 9), ("make_sparse", 7, 7), ("make_search", 7, 2), ("make_ranking", 4, 2)],
)
def test_headings_landmarks_tables_and_charts_can_be_read_aloud(request, maker, tables, charts):
    reader = Reader(report(request.getfixturevalue(maker)())[1])
    tags = [tag for tag, _ in reader.elements]
    assert (tags.count("h1"), tags.count("main"), tags.count("header"), tags.count("footer")) == (1, 1, 1, 1)
    assert tags.count("table") == tags.count("caption") == tables
    assert all(a.get("scope") in ("col", "row") for a in reader.all("th"))
    drawn = [a for a in reader.all("div") if a.get("class") == "chart"]
    assert len(drawn) == charts
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in drawn)
    assert all(a.get("tabindex") == "0" and a["aria-label"] for a in reader.all("div") if a.get("class") == "scroll")
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in reader.all("a")} <= set(ids)
    assert {name for a in reader.all("section", "svg") for name in a["aria-labelledby"].split()} <= set(ids)


def test_the_page_of_a_preset_draws_its_blocks(make_run):
    reader = Reader(report(make_run("train", overrides=["neuron.kind=if"]))[1])
    (drawing,) = [a for a in reader.all("svg") if a["class"] == "architecture"]
    assert drawing["role"] == "img"
    for value in (
        "small8, the same in every network of this run.",
        "conv2 32 channels, 4×4 3×3 convolution · norm · IF · 2×2 average pool",
        "All 5 connections as a table",
        "conv4 classifier global average pool, linear 10 features unchanged none",
    ):
        assert value in reader.text, value


def test_the_page_of_a_trained_genome_draws_what_the_search_drew(make_search, make_run):
    search = make_search()
    genome = gather_search(search.folder).genome
    found = Reader(report(search)[1])
    shutil.rmtree(search.path)
    run = make_run("train", overrides=[f"model.genome={json.dumps(genome.to_json())}"])
    reader = Reader(report(run)[1])
    assert [a["data-box"] for a in found.all("g") if a.get("data-box")] == [
        a["data-box"] for a in reader.all("g") if a.get("data-box")
    ]
    assert "A searched architecture, the same in every network of this run." in reader.text
    table = reader.text[reader.text.index("Cell From To Sign Operation Delay") :]
    assert found.text[found.text.index("Cell From To Sign Operation Delay") :][:500] == table[:500]
    started = Reader(report(make_run("train", overrides=[f"model.genome={genome.to_json()}"], plan=False, finals=0))[1])
    assert "Cell From To Sign Operation Delay" in started.text


def test_a_run_that_is_not_planned_has_no_drawing_of_a_preset(make_run):
    reader = Reader(report(make_run("train", plan=False, finals=0))[1])
    assert not [a for a in reader.all("svg") if a["class"] == "architecture"]
    assert "Architecture" not in reader.text


def test_an_architecture_that_is_too_large_says_so(make_search, monkeypatch):
    monkeypatch.setattr("evospike.report.architecture.facts.MOST_LINES", 3)
    reader = Reader(report(make_search())[1])
    assert "It has too many connections to be drawn." in reader.text
    assert not reader.all("svg")


@pytest.mark.parametrize(
    ("settings", "arm", "said"),
    [
        ({}, "sparse", "the recipe’s own network, rewired while it learns"),
        ({"freeze": 0.0}, "sparse", "the recipe’s own network, under a first random graph that never changes"),
        ({"method": "static"}, "sparse", "the recipe’s own network, under a first random graph that never changes"),
        ({"method": "static"}, "genetic", "the recipe’s own encoding, under a first random graph that never changes"),
        ({"method": "one_shot", "one_shot_at": 0.0}, "sparse", "network, pruned by magnitude before its first step"),
        ({"one_shot_at": 1.0}, "one-shot", "trained with all synapses and pruned by magnitude after the last step"),
        ({}, "one-shot", "pruned by magnitude after 75 % of the training; what is left learns on"),
        ({}, "static", "the recipe’s own network, under a first random graph that never changes"),
        ({"density": 1.0}, "genetic", "the recipe’s own encoding"),
        ({}, "dense", "trained with every weight stored"),
    ],
)
def test_what_a_network_is_follows_the_recipe(settings, arm, said):
    recipe = Recipe(sparse=SparseSettings(**{"density": 0.1, **settings}))
    assert arm_text(arm, recipe).endswith(said)


def test_the_page_says_of_each_network_what_became_of_its_synapses(make_sparse):
    text = Reader(report(make_sparse(overrides=["sparse.method=static"]))[1]).text
    assert "rewired while it learns" not in text
    assert text.count("own network, under a first random graph that never changes.") == 2


def test_candidates_outside_the_front_are_listed(make_search, monkeypatch):
    run = make_search()
    facts = gather_search(run.folder)
    listed = [*facts.front, *facts.others]
    usable = [one for one in facts.candidates if one.score.ok]
    assert len(listed) == len(usable)
    assert all(one in listed for one in usable)
    scores = [one.score.terms["score"] for one in facts.others]
    assert scores == sorted(scores, reverse=True)
    text = Reader(report(run)[1]).text
    assert f"{len(facts.others)} candidates outside the front" in text
    assert f"All {len(facts.others)} that some other beats, by score" in text
    assert all(f"{one.generation + 1}.{one.index + 1} {one.score.terms['score']:.6g}" in text for one in facts.others)
    monkeypatch.setattr("evospike.report.pages.MOST_OTHERS", 2)
    text = Reader(report(run)[1]).text
    assert f"The best 2 of {len(facts.others)} that some other beats, by score" in text
    part = text[text.index("outside the front") : text.index("Settings What")]
    names = [f" {one.generation + 1}.{one.index + 1} " for one in facts.others]
    assert [name in part for name in names] == [place < 2 for place in range(len(names))]


def test_a_train_run_has_no_evolution(make_run):
    text = Reader(report(make_run("train"))[1]).text
    assert "Evolution" not in text
    assert "Final trainings" in text


def test_one_network_is_compared_with_nothing(make_run):
    text = Reader(report(make_run("train", overrides=['final.arms=["genetic"]', "final.seeds=1"]))[1]).text
    assert "One network, nothing to compare it with. Network Test accuracy Parameters" in text
    assert "genetic 90.00 % 27,962" in text


def test_mode_random_says_that_nothing_was_evolved(make_run):
    run = make_run("train", overrides=["evolution.mode=random"])
    record = read_record(run.path / "run.json")
    write_record(run.path / "run.json", {**record, "verb": "evolve"})
    assert "nothing was evolved" in Reader(report(run)[1]).text


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"plan": False, "finals": 0}, "nothing is planned yet; 0 of 18 candidates are scored; 0 of 9 final"),
        ({"scores": 0, "finals": 0}, "0 of 18 candidates are scored; 0 of 9 final trainings are done"),
        ({"scores": 8, "finals": 0}, "8 of 18 candidates are scored; 0 of 9 final trainings are done"),
        ({"scores": 20, "finals": 0}, "18 of 18 candidates are scored; 0 of 9 final trainings are done"),
        ({"finals": 4}, "18 of 18 candidates are scored; 4 of 9 final trainings are done"),
    ],
)
def test_an_unfinished_run_says_so_and_shows_what_is_there(make_run, parts, said):
    run = make_run(**parts)
    text = Reader(report(run)[1]).text
    assert f"This run is unfinished: {said}" in text
    assert f"evospike resume {run.path}" in text


def test_spreads_per_stage_are_shown(make_run):
    names = ("log10 spread of encoding.a", "log10 spread of encoding.b", "log10 spread of genes")
    assert "spread of encoding.b" in Reader(report(make_run(names=names))[1]).text


def test_the_same_run_gives_the_same_page(make_any):
    run = make_any()
    assert report(run)[1] == report(run)[1]


@pytest.mark.parametrize("maker", ["make_search", "make_ranking"])
def test_names_with_markup_are_inert_on_the_pages_of_search_and_rank(request, maker):
    _, page = report(request.getfixturevalue(maker)(hostile=True))
    reader = Reader(page)
    assert [kind for kind, _ in reader.scripts] == ["application/json", "", ""]
    assert "<script>alert(1)" not in page
    assert reader.all("img") == []
    assert not [a for _, a in reader.elements if any(name.startswith("on") for name in a)]
    assert reader.text.count("<script>alert(1)</script>") > 3
    assert "<script" not in json.dumps(json.loads(reader.scripts[0][1]))


def test_the_page_of_a_search_shows_the_winner_the_front_and_the_bounds(make_search):
    run = make_search(overrides=["scoring.max_spikes=4000"])
    _, page = report(run)
    text = Reader(page).text
    facts = gather_search(run.folder)
    for value in (
        "evospike search",
        f"generation {facts.chosen.generation + 1}, candidate {facts.chosen.index + 1}",
        f"evospike train RECIPE --model {run.path}",
        "multiples of 8",
        "mean of 2 further draws",
        "18 candidates of 3 generations, scored by dissimilarity, untrained; 6 without a usable score",
        "12.34 candidates a second",
        "no lower bound to 180,000",
        "at most 4,000 per sample",
        "6, then 6 in each later one of 3 generations",
        "silent: '<script>alert(1)</script>' hardly fires",
        "2.000 µJ",
        "4" * 32,
        "5" * 32,
    ):
        assert value in text, value
    for one in facts.front:
        assert f"{one.generation + 1}.{one.index + 1} {one.score.terms['score']:.6g}" in text
    for index, cell in enumerate(facts.genome.cells):
        assert f"Cell {index}: {cell.motif}" in text
    assert "unfinished" not in text


def test_a_winner_beside_the_front_is_in_its_table(make_search):
    run = make_search()
    facts = gather_search(run.folder)
    other = next(c for c in facts.candidates if c.score.ok and c not in facts.front)
    with closing(sqlite3.connect(run.path / "study.sqlite")) as connection, connection:
        connection.execute("DELETE FROM records WHERE name = 'winner'")
    with Store.open(run.path / "study.sqlite") as store:
        store.record_value("winner", {"generation": other.generation, "candidate": other.index})
    text = Reader(report(run)[1]).text
    assert "in score and in parameters, and the winner, as scored" in text
    row = text.index(f"{other.generation + 1}.{other.index + 1} {other.score.terms['score']:.6g}")
    assert text.index("Outcome") < row < text.index("winner", row)


@pytest.mark.parametrize(
    ("parts", "said", "shown", "hidden"),
    [
        ({"plan": False}, "nothing is planned yet; 0 of 18 candidates", "No candidate is scored yet", "Best score"),
        ({"scores": 0}, "0 of 18 candidates are scored", "No candidate is scored yet", "Architecture"),
        ({"scores": 1}, "1 of 18 candidates are scored", "The best so far: generation 1, candidate 1", "RECIPE"),
        ({"scores": 17}, "17 of 18 candidates are scored", "So far. Candidates that no other beats", "RECIPE"),
    ],
)
def test_an_unfinished_search_shows_what_is_there(make_search, parts, said, shown, hidden):
    run = make_search(**parts)
    text = Reader(report(run)[1]).text
    assert f"This run is unfinished: {said}" in text
    assert f"evospike resume {run.path}" in text
    assert shown in text
    assert hidden not in text


def test_the_page_of_a_ranking_shows_tau_and_the_differences(make_ranking):
    text = Reader(report(make_ranking())[1]).text
    for value in (
        "Best score hamming τ +0.600",
        "65.00 % from 50.00 % to 75.00 %",
        "1 without a usable score",
        "hamming +0.600 +0.400 to +0.700 +0.250 +0.100 to +0.500 +0.750 +0.200 to +0.900",
        "parameters control +0.350 +0.150 to +0.450 – –",
        "cosine, depth +0.100 −0.100 to +0.200 −0.250 −0.400 to 0.000",
        "5 random architectures; accuracy: mean over 1 short training of 1 epoch.",
        "2,000 bootstrap resamples",
        "silent: '<script>alert(1)</script>' hardly fires",
    ):
        assert value in text, value


@pytest.mark.parametrize(
    ("parts", "said", "shown"),
    [
        ({"plan": False}, "nothing is planned yet; 0 of 6 architectures", "No architecture is scored and trained yet"),
        ({"scores": 0}, "0 of 6 architectures are scored and trained", "No architecture is scored and trained yet"),
        ({"scores": 4}, "4 of 6 architectures are scored and trained", "3 random architectures"),
    ],
)
def test_an_unfinished_ranking_shows_what_is_there(make_ranking, parts, said, shown):
    run = make_ranking(**parts)
    text = Reader(report(run)[1]).text
    assert f"This run is unfinished: {said}" in text
    assert shown in text
    assert "Kendall" not in text


def test_the_page_of_sparse_networks_shows_their_structure(make_sparse):
    run = make_sparse()
    reader = Reader(report(run)[1])
    for value in (
        "Density, sparse 10.0 % 6,938 parameters present",
        "Of dense twin Density connections Present Firing rate",
        "sparse 95.00 ± 2.48 % – 65,834 100.0 % 10.0 % 13.0 % 6,938 0.210",
        "dense 96.00 ± 2.48 % +1.00 ± 2.48 not significant 65,834 100.0 % 100.0 % 100.0 % 65,834",
        "After training, 10.0 % of the synapses exist, allocated to the layers by Erdős–Rényi with kernel sides (ERK).",
        "loses synapses by magnitude and grows as many where the gradient is largest",
        "from 50.0 % to 0.5 %, and after 75 % of the training the graph stays",
        "conv1.conv 288 288 100.0 % 0",
        "conv3.conv 1,080 101 9.4 % 1",
        "Together 2,448 489 20.0 % 2",
        "sparse, seed 0, after training: outputs from top to bottom",
        "conv2.conv 40 × 3 in 32 × 3 blocks 9.3 %, fullest",
        "and 1 of 3 columns; the fullest block has",
    ):
        assert value in reader.text, value
    assert len([a for a in reader.all("svg") if a["class"] == "synapses"]) == 2
    assert len(reader.all("details")) == 6  # of three sparse networks, the drawing, the network, and the recipe
    assert "weights 10.0 %" not in reader.text


def test_masks_on_encodings_are_counted_by_what_is_stored_and_what_is_computed_with(make_sparse):
    run = make_sparse(overrides=['sparse.on="encodings"'])
    result = read_record(run.path / "result.json")
    for arm in result["arms"]:
        if arm["arm"] != "dense":
            arm["synapse_density"] = 0.25
    write_record(run.path / "result.json", result)
    text = Reader(report(run)[1]).text
    assert "Density weights connections Present" in text
    assert "10.0 % 25.0 % 13.0 % 6,938" in text
    assert "10.0 % of the entries of encodings and of stored weights exist" in text
    assert "Layer Entries Entries that exist Density" in text


@pytest.mark.parametrize("maker", ["make_run", "make_search", "make_ranking"])
def test_a_page_without_sparse_networks_has_no_trace_of_them(request, maker):
    reader = Reader(report(request.getfixturevalue(maker)())[1])
    for name in ("Structure", "Density", "Present", "Connectivity", "synapses"):
        assert name not in reader.text
    assert not [a for _, a in reader.elements if a.get("id") == "structure" or a.get("class") == "synapses"]


def test_many_layers_collapse_and_the_page_stays_small(make_sparse):
    path, page = report(make_sparse(masked=60))
    reader = Reader(page)
    assert len([a for a in reader.all("svg") if a["class"] == "synapses"]) == 60
    assert "50 more layers" in reader.text
    places = [k for k, (tag, a) in enumerate(reader.elements) if a.get("class") in ("synapses", "pictures")]
    groups = [k for k, place in enumerate(places) if reader.elements[place][1]["class"] == "pictures"]
    assert groups == [0, 11]
    assert reader.elements[places[11] - 2][0] == "details"
    assert len([a for a in reader.all("details") if "open" in a]) == 1  # that of the network
    assert path.stat().st_size < 6_000_000


def test_the_largest_pictures_of_many_layers_fit_the_page(make_sparse):
    run = make_sparse(masked=60)
    path = run.path / "final" / "sparse-0" / "connectivity.json"
    layers = read_record(path)["layers"]
    for layer in layers:  # no two neighbours alike, which is the most that a picture can take
        share = [[((x + y) % 5 + 1) / 5 for x in range(32)] for y in range(32)]
        layer.update(outputs=512, inputs=512, share=share)
    write_record(path, {"layers": layers})
    assert report(run)[0].stat().st_size < 6_000_000


def test_layers_that_hold_markup_are_shown_and_inert(make_sparse):
    _, page = report(make_sparse(hostile=True))
    reader = Reader(page)
    assert [kind for kind, _ in reader.scripts] == ["application/json", "", ""]
    assert "<script>alert(1)" not in page
    assert reader.all("img") == []
    assert "Synapses of conv2.conv<script>alert(1)</script>" in reader.text
    assert "conv3.conv<script>alert(1)</script> 1,080 101" in reader.text


FILMED = {"name": "digits-events", "split": "a fixed split", "simulated": True, "notes": ["filmed by nobody"]}
EVENTS = ['data.source="digits-events"', "data.events.frames=4", "model.steps=4"]
LABEL = "simulated recordings"


def test_what_the_result_says_of_the_data_stands_beside_the_results(make_run):
    data = {"name": "digits", "split": "stratified <80/20>", "simulated": False, "notes": ["a note & more"]}
    reader = Reader(report(make_run("train", data=data))[1])
    assert "judged once on the test images (split: stratified <80/20>). Intervals" in reader.text
    for value in ("Data set digits", "Its splits stratified <80/20>", "About it a note & more"):
        assert value in reader.text, value
    assert LABEL not in reader.text


def test_simulated_recordings_are_called_so_wherever_a_number_is_shown(make_run):
    reader = Reader(report(make_run("train", overrides=EVENTS, data=FILMED))[1])
    for value in (
        f"± 2.48 % over 3 seeds {LABEL}",
        f"spikes per unit and step {LABEL}",
        f"Ticks: the seeds. {LABEL}",
        f"in points of accuracy. {LABEL} Network Test accuracy",
        f"Thin lines: single seeds. {LABEL}",
        "judged once on the test recordings (split: a fixed split). Intervals",
        "on the test recordings, mean over seeds",
        "About it filmed by nobody",
    ):
        assert value in reader.text, value
    assert "images." not in reader.text.replace("test recordings", "").replace("made from images,", "")


@pytest.mark.parametrize(("data", "called"), [(None, True), ({**FILMED, "simulated": False}, False)])
def test_the_recipe_tells_of_a_simulator_where_the_result_does_not(make_run, data, called):
    assert (LABEL in Reader(report(make_run("train", overrides=EVENTS, data=data))[1]).text) is called


def test_an_unfinished_run_of_simulated_recordings_says_so(make_run):
    text = Reader(report(make_run("train", overrides=EVENTS, finals=2))[1]).text
    assert f"over 2 seeds {LABEL}" in text
    assert "(split: stratified 80/20, fixed)" in text


@pytest.mark.parametrize("maker", ["make_search", "make_ranking"])
def test_searches_and_rankings_of_simulated_recordings_say_so(request, maker):
    make = request.getfixturevalue(maker)
    text = Reader(report(make(overrides=EVENTS))[1]).text
    tile = {"make_search": "further draws", "make_ranking": "from 50.00 % to 75.00 %"}[maker]
    assert f"{tile} {LABEL}" in text
    assert text.count(LABEL) >= 4


@pytest.mark.parametrize("data", [3, {"notes": 3}, ["digits"]])
def test_data_of_another_form_is_refused_in_one_line(make_run, data):
    run = make_run("train")
    result = read_record(run.path / "result.json")
    write_record(run.path / "result.json", {**result, "data": data})
    with pytest.raises(RunError, match=r"unexpected form .* restore it or start a new run$"):
        write_report(run.path, None)


def test_an_output_that_exists_is_refused(make_run, tmp_path):
    run = make_run("train")
    taken = tmp_path / "taken.html"
    taken.write_text("mine")
    with pytest.raises(RunError, match=rf"^'{taken}' exists; give -o a new file, or leave -o out to write .*html$"):
        write_report(run.path, taken)
    assert taken.read_text() == "mine"


def test_a_new_output_is_written_and_nothing_else(make_run, tmp_path):
    run = make_run("train")
    path = write_report(run.path, tmp_path / "new" / "page.html")
    assert path.stat().st_size > 1_000_000
    assert [entry.name for entry in path.parent.iterdir()] == ["page.html"]
    assert not (run.path / "report.html").exists()


def test_an_output_that_cannot_be_written_is_one_line(make_run, tmp_path):
    run = make_run("train")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^cannot write '.*' \(.*\); give -o a file on a disk with room$"):
        write_report(run.path, tmp_path / "file" / "page.html")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        write_report(tmp_path, None)


def test_the_gate_keeps_the_pictures_of_the_pages(tmp_path):
    root = Path(__file__).parents[2]
    for name, text in (("make", 'echo "$EVOSPIKE_ARTIFACTS"'), ("chromium", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    told = {}
    for named in ("", str(tmp_path / "own")):
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "EVOSPIKE_ARTIFACTS": named}
        gate = subprocess.run([root / ".ci" / "run"], env=env, capture_output=True, text=True, check=True)
        told[named] = gate.stdout.strip()
    assert told == {"": str(root / "artifacts"), str(tmp_path / "own"): str(tmp_path / "own")}
    assert "artifacts/" in (root / ".gitignore").read_text().split()


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_without_the_extra_the_message_says_what_to_install(make_run, monkeypatch, package):
    run = make_run("train")
    real = builtins.__import__

    def refuse(name, *rest, **named):
        if name.split(".")[0] == package:
            raise ImportError(name)
        return real(name, *rest, **named)

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=rf"^a report needs '{package}'; install it with: pip install 'evospike"):
        write_report(run.path, None)
