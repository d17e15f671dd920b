"""The page of an evaluated run: what it shows equals the document of `evospike evaluate`, and it says what it is of."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evospike.core.errors import RunError
from evospike.core.statistics import half_interval
from evospike.jobs.folder import read_record
from evospike.report import page as page_module
from evospike.report.evaluation.charts import evaluation_charts
from evospike.report.evaluation.facts import MEASURES, SEED_MEASURES, EvaluatedArm, PairedDifference
from evospike.report.evaluation.reader import read_evaluation
from evospike.report.formats import amount, changed, energy, give_or_take, sentence, size
from evospike.report.page import write_report
from evospike.report.training.charts import make_charts
from evospike.report.training.gather import gather

pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("jinja2", reason="needs the extra 'report'")

SECTIONS = ("cost", "energy", "answers", "robustness")
UNITS = {"B": 1.0, "kB": 1e3, "MB": 1e6, "pJ": 1.0, "nJ": 1e3, "µJ": 1e6, "mJ": 1e9, "%": 0.01}
JOULES = re.compile(r"\d [pnµm]?J\b")


@pytest.fixture(autouse=True)
def _light(monkeypatch):
    """Pages without the library of their charts, whose five megabytes take long to take apart."""
    monkeypatch.setattr(page_module, "_plotly_js", lambda: "plotly.js")


class Page(html.parser.HTMLParser):
    """A page taken apart. tables: by caption, rows of texts, headers first; terms: of definition lists, with their
    texts; text: everything outside scripts, styles; levels: of the headings in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: dict[str, list[list[str]]] = {}
        self.terms: list[tuple[str, str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.levels: list[int] = []
        self.scripts: list[str] = []
        self._texts: list[str] = []
        self._rows: list[list[str]] = []
        self._hidden = False
        self._whole: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self._whole).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th", "caption", "dt", "dd", "summary"):
            self._texts = []
        elif re.fullmatch(r"h\d", tag):
            self.levels.append(int(tag[1]))
        self._hidden = tag in ("script", "style")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        text = " ".join(" ".join(self._texts).split())
        if tag in ("td", "th"):
            self._rows[-1].append(text)
        elif tag == "caption":
            self._caption = text
        elif tag == "table":
            assert self._caption not in self.tables
            self.tables[self._caption] = self._rows
        elif tag == "dt":
            self.terms.append((text, ""))
        elif tag == "dd":
            self.terms[-1] = (self.terms[-1][0], text)
        self._hidden = False

    def handle_data(self, data):
        if self._hidden:
            self.scripts and self.scripts.__setitem__(-1, self.scripts[-1] + data)
        else:
            self._texts.append(data)
            self._whole.append(data)

    def table(self, beginning: str) -> list[list[str]]:
        (found,) = [rows for caption, rows in self.tables.items() if caption.startswith(beginning)]
        return found

    @property
    def figures(self):
        (found,) = [json.loads(text) for text in self.scripts if text.startswith('{"')]
        return found


def page_of(run) -> Page:
    return Page(write_report(run.path, None).read_text(encoding="utf-8"))


def document_of(run):
    return read_record(run.path / "evaluation.json")


SHOWN: dict[str, tuple[Page, dict]] = {}


@pytest.fixture
def shown(make_evaluated):
    """Gives the page of an evaluated run and its document; made once for the same wishes."""

    def show(**parts):
        key = repr(sorted(parts.items()))
        if key not in SHOWN:
            run = make_evaluated(**parts)
            SHOWN[key] = page_of(run), document_of(run)
        return SHOWN[key]

    return show


def rewrite(run, change):
    document = document_of(run)
    change(document)
    run.folder.write("evaluation.json", {key: value for key, value in document.items() if key != "checksum"})


def value_of(text: str) -> float | None:
    """The first number of a text in its unit."""
    if text == "–":
        return None
    found = re.match(r"([+−-]?[\d.,e+-]+) ?(\S*)", text.replace("±", " ± "))
    return float(found[1].replace(",", "").replace("−", "-")) * UNITS.get(found[2], 1.0)


def same(text: str, value: float | None) -> bool:
    """Whether a text is a number as far as it is written out."""
    seen = value_of(text)
    if value is None or seen is None:
        return value is seen is None
    written = len(re.sub(r"\D", "", re.match(r"[+−-]?[\d.,]+", text)[0]).lstrip("0"))
    share = text.split("±")[0].strip().endswith("%") or " %" in text
    return seen == pytest.approx(value, rel=0.51 * 10.0 ** (1 - max(written, 1)), abs=6e-5 if share else 1e-12)


def test_texts_and_numbers_are_told_apart():
    assert same("91.00 ± 2.48 %", 91.0)
    assert same("1,234", 1234.4)
    assert not same("1,234", 1236.0)
    assert same("110.0 nJ", 110_000.5)
    assert not same("110.0 nJ", 111_000.0)
    assert same("–", None)
    assert not same("–", 0.0)
    assert same("0.00 %", 0.0)


def test_every_number_of_every_network_is_in_the_page(shown):
    page, document = shown(arms=("genetic", "dense", "random"), robustness="full")
    head, *rows = page.table("Means over seeds.")[0:]
    assert head == ["Number", "genetic", "dense", "random"]
    arms = document["arms"]
    assert [row[0] for row in rows] == [measure.label for measure in MEASURES]
    for measure, (_, *cells) in zip(MEASURES, rows, strict=True):
        for arm, cell in zip(arms, cells, strict=True):
            assert same(cell, arm[measure.key]), (measure.key, cell, arm[measure.key])


def test_the_measures_are_those_of_the_document(make_evaluated):
    document = document_of(make_evaluated())
    numbers = {key for key, value in document.items() if value is None or isinstance(value, (int, float))}
    assert numbers - {measure.key for measure in MEASURES} == {"samples", "steps", "wall_seconds"}
    seed = document["seeds"][0]
    assert {measure.key for measure in SEED_MEASURES} <= set(seed)


def test_the_tiles_are_of_the_first_network(shown):
    page, document = shown(arms=("dense", "genetic"))
    tiles = dict(page.terms)
    assert same(tiles["Test accuracy, dense"], document["test_accuracy"])
    assert "± 2.48 % over 3 seeds" in tiles["Test accuracy, dense"]
    assert same(tiles["Spikes per sample"], document["spikes_per_sample"])
    assert same(tiles["Synaptic operations"], document["synaptic_operations"])
    assert same(tiles["Energy, 45nm"], document["energy"]["45nm"]["picojoules"])
    assert same(tiles["Density"], document["density"])
    assert same(tiles["Size on disk"], document["bytes_on_disk"])


def test_layers_and_their_encodings_are_in_the_tables(shown):
    page, document = shown(arms=("genetic", "dense"))
    for arm in document["arms"]:
        _, *rows = page.table(f"{arm['arm']}. Rate")
        for row, layer in zip(rows, arm["layers"], strict=True):
            assert row[:3] == [layer["name"], layer["op"], layer["input_kind"]]
            rate = "input_activity" if layer["input_kind"] == "real" else "input_rate"
            names = (rate, "input_activity", "passes", "dense_macs", "weights", "density", "effective")
            for cell, name in zip(row[3:], (*names, "synaptic_operations", "parameters"), strict=True):
                assert same(cell, layer[name]), (name, cell)
            assert row[9].split()[1] == ("AC" if layer["input_kind"] == "binary" else "MAC")
        _, *rows = page.table(f"{arm['arm']}: what generating")
        works = [layer["encoding"] for layer in arm["layers"] if layer["encoding"]]
        for row, work in zip(rows, works, strict=True):
            assert row[1] == work["order"].replace("_", "-")
            for cell, name in zip(row[2:], ("forming", "first_stage", "second_stage"), strict=True):
                assert same(cell, work[name])


def test_neurons_are_in_the_table_step_by_step(shown):
    page, document = shown()
    _, *rows, together = page.table("genetic. Dead")
    for row, layer in zip(rows, document["neurons"], strict=True):
        assert row[0] == layer["name"]
        for cell, name in zip((*row[1:4], *row[5:]), ("units", "rate", "spikes", "dead", "saturated"), strict=True):
            assert same(cell, layer[name])
        for text, spikes in zip(row[4].split(", "), layer["spikes_by_step"], strict=True):
            assert same(text, spikes)
    assert together[:2] == ["Together", "3,328"]
    assert same(together[3], document["spikes_per_sample"])


def test_every_seed_is_in_its_table(shown):
    page, document = shown(arms=("genetic", "dense"))
    head, *rows = page.table("Every seed")
    seeds = [(arm["arm"], seed) for arm in document["arms"] for seed in arm["seeds"]]
    models = [title.removeprefix("Energy, ") for title in head if title.startswith("Energy, ")]
    assert models == ["45nm", "45nm with encoding", "chip", "memory"]
    for row, (arm, seed) in zip(rows, seeds, strict=True):
        assert row[:2] == [arm, str(seed["seed"])]
        values = [seed[measure.key] for measure in SEED_MEASURES] + list(seed["energy"].values())
        assert all(same(cell, value) for cell, value in zip(row[2:], values, strict=True))


def test_energy_is_in_the_table_with_its_parts_assumptions_and_source(shown):
    page, document = shown(arms=("genetic", "dense"))
    arms = document["arms"]
    _, *rows = page.table("Energy per sample")
    expected = [(model, arm) for model in arms[0]["energy"] for arm in arms]
    told = dict(page.terms)
    for row, (model, arm) in zip(rows, expected, strict=True):
        priced = arm["energy"][model]
        assert row[:2] == [model.replace("_", " "), arm["arm"]]
        assert same(row[2], priced["picojoules"])
        assert same(row[3], priced["dense_picojoules"])
        assert same(row[4], priced["picojoules"] / priced["dense_picojoules"])
        for text, (part, spent) in zip(row[5].split(", "), priced["parts"].items(), strict=True):
            assert text.startswith(part + " ")
            assert same(text.removeprefix(part + " "), spent)
        assert f"{priced['source']}." in page.text
        assert priced["assumptions"][1:] in page.text
    assert told["chip"].startswith("Operations at 45 nm, chip. Source: Horowitz")


def test_a_model_that_only_a_later_network_has_is_explained_too(make_evaluated):
    run = make_evaluated(arms=("dense", "genetic"))
    rewrite(run, lambda document: document["arms"][0]["energy"].pop("45nm_with_encoding"))
    page = page_of(run)
    assert dict(page.terms)["45nm with encoding"].startswith("Operations at 45 nm")
    assert [row[:2] for row in page.table("Energy per sample") if row[0] == "45nm with encoding"] == [
        ["45nm with encoding", "genetic"]
    ]


def test_the_break_even_rate_is_told_with_its_assumptions(shown):
    page, document = shown()
    head, *rows = page.table("The firing rate")
    assert head == ["Model", "Its rate", "Break-even", "Times its rate", "Quantised network", "Bits"]
    for row, (model, told) in zip(rows, document["break_even"].items(), strict=True):
        assert row[0] == model
        assert same(row[1], document["firing_rate"])
        assert row[2] == "none" if told["firing_rate"] is None else same(row[2], told["firing_rate"])
        assert same(row[3], told["scale"])
        assert same(row[4], told["quantised_picojoules"])
        assert row[5] == "3"
    assert "The quantised network runs once." in page.text


def test_a_break_even_above_one_spike_per_unit_and_step_is_always(make_evaluated):
    run = make_evaluated()
    rates = {"45nm": 1.0, "memory": 1.001}
    rewrite(
        run, lambda document: [one.update(firing_rate=rates[m]) for m, one in arm_of(document)["break_even"].items()]
    )
    _, *rows = page_of(run).table("The firing rate")
    assert [row[2] for row in rows] == ["1", "always"]


def test_a_real_input_has_no_negative_rate(make_evaluated):
    """Its mean says nothing about how many operations it causes; the share that is not zero does."""
    run = make_evaluated()
    rewrite(run, lambda document: arm_of(document)["layers"][0].update(input_rate=-0.0155, input_activity=0.98))
    page = page_of(run)
    _, first, *_ = page.table("genetic. Rate")
    assert first[2:5] == ["real", "0.98", "98.0 %"]
    assert "0.0155" not in page.text


def arm_of(document):
    return document["arms"][0]


@pytest.mark.parametrize("arms", [("genetic",), ("genetic", "dense")])
def test_no_energy_stands_without_the_name_of_its_model(shown, arms):
    page, document = shown(arms=arms)
    models = [name.replace("_", " ") for name in document["energy"]]
    named = 0
    for rows in page.tables.values():
        for row in rows[1:]:
            for title, cell in zip(rows[0], row, strict=True):
                if JOULES.search(cell):
                    assert any(model in f"{title} {row[0]}" for model in models), row
                    named += len(JOULES.findall(cell))
    for term, text in page.terms:
        if JOULES.search(text):
            assert any(model in term for model in models), term
            named += len(JOULES.findall(text))
    assert named == len(JOULES.findall(page.text)) > 20
    for trace in page.figures["energy"]["data"]:
        assert all(any(f"J by {model}<br>" in label for model in models) for label in trace["hovertext"])
    (label,) = [a["aria-label"] for _, a in page.elements if a.get("id") == "chart-energy"]
    assert all(any(model in part for model in models) for part in label.split(";"))


def test_bars_of_layers_are_the_operations_that_met(shown):
    page, document = shown(arms=("genetic", "dense"))
    traces = page.figures["cost"]["data"]
    for place, arm in enumerate(document["arms"]):
        solid, hatched = [trace for trace in traces if trace["offsetgroup"] == str(place)]
        drawn = dict(zip(solid["y"] + hatched["y"], solid["x"] + hatched["x"], strict=True))
        assert drawn == {layer["name"]: pytest.approx(layer["effective"], rel=1e-5) for layer in arm["layers"]}
        assert solid["y"] == [layer["name"] for layer in arm["layers"] if layer["input_kind"] == "binary"]
        assert "pattern" in hatched["marker"]
        assert "pattern" not in solid["marker"]
        assert (solid["showlegend"], hatched["showlegend"]) == (True, False)
    label = traces[1]["hovertext"][1]
    assert label.startswith("genetic, conv3.conv<br>12,964 multiply-accumulates<br>input: counts, rate 0.375<br>")
    assert "density 50.0 %, 4 of 55,296 dense<br>besides, two-stage: forming 4,321, second stage 210,987" in label


def test_fields_of_spikes_share_their_colours(shown):
    page, document = shown(arms=("genetic", "dense"))
    figures = page.figures
    most = 0.0
    for place, arm in enumerate(document["arms"]):
        (trace,) = figures[f"spikes-{place}"]["data"]
        assert trace["y"] == [layer["name"] for layer in arm["neurons"]]
        for row, layer in zip(trace["z"], arm["neurons"], strict=True):
            assert row == pytest.approx([spikes / layer["units"] for spikes in layer["spikes_by_step"]], rel=1e-5)
            most = max(most, *row)
    assert {figures[f"spikes-{place}"]["data"][0]["zmax"] for place in (0, 1)} == {most}
    assert figures["spikes-0"]["data"][0]["customdata"][1] == ["102.4", "153.6", "204.8", "256"]


def test_bars_of_energy_add_up_to_the_share_of_the_dense_network(shown):
    page, document = shown(arms=("genetic", "dense"))
    figure = page.figures["energy"]
    drawn: dict[str, float] = {}
    for trace in figure["data"]:
        for row, share in zip(trace["y"], trace["x"], strict=True):
            drawn[row] = drawn.get(row, 0.0) + share
    assert drawn == {
        f"{arm['arm']}\n{model.replace('_', ' ')}\n{energy(priced['picojoules'])}": pytest.approx(
            100 * priced["picojoules"] / priced["dense_picojoules"], rel=1e-4
        )
        for arm in document["arms"]
        for model, priced in arm["energy"].items()
    }
    assert figure["layout"]["xaxis"]["range"][1] > max(drawn.values())
    assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [100.0]


def test_accuracy_by_step_is_drawn_and_written(shown):
    page, document = shown(arms=("genetic", "dense"))
    arms = document["arms"]
    _, *rows = page.table("Test accuracy by the number of steps")
    for row, trace, arm in zip(rows, page.figures["steps"]["data"], arms, strict=True):
        assert all(same(cell, value) for cell, value in zip(row[1:], arm["accuracy_by_step"], strict=True))
        assert trace["x"] == [1, 2, 3, 4]
        assert trace["y"] == pytest.approx([100 * value for value in arm["accuracy_by_step"]], rel=1e-5)


def test_the_confusion_is_drawn_and_written(shown):
    page, document = shown(arms=("genetic", "dense"))
    for place, arm in enumerate(document["arms"]):
        (trace,) = page.figures[f"confusion-{place}"]["data"]
        assert trace["customdata"] == arm["confusion"]
        for shares, row in zip(trace["z"], arm["confusion"], strict=True):
            assert shares == pytest.approx([100 * cell / sum(row) for cell in row], abs=0.005)
        _, *rows = page.table(f"{arm['arm']}: true classes")
        assert [[int(cell) for cell in row[1:]] for row in rows] == arm["confusion"]
    assert "Most frequent errors of genetic: 0 taken for 1 (1), " in page.text


def test_noise_is_told_with_its_interval(shown):
    page = shown(arms=("genetic", "dense"))[0]
    _, own, other = page.table("Accuracy on clean")
    assert own == ["genetic", "91.00 %", "71.00 ± 1.86 %", "1.50 %", "20.00"]
    assert other[2] == "76.00 ± 1.86 % −3.00 ± 1.00 , significant"
    assert (
        "Gaussian noise of 0.5 of the norm of each input (normalised), 5 draws, on 359 fixed test samples." in page.text
    )
    assert "Four shifts." in page.text


def test_curves_have_a_line_and_a_band_of_one_standard_deviation(shown):
    page, document = shown(arms=("genetic", "dense"), robustness="full")
    arms = document["arms"]
    cells = page.table("Mean accuracy ± standard deviation")[1:]
    for place, drawn in enumerate(arms[0]["robustness"]["curves"]):
        traces = page.figures[f"robustness-{place}"]["data"]
        bands = {trace["line"]["color"]: trace for trace in traces if "fill" in trace}
        lines = [trace for trace in traces if "fill" not in trace]
        assert [line["name"] for line in lines] == ["genetic", "dense"]
        for line, arm in zip(lines, arms, strict=True):
            curve = arm["robustness"]["curves"][place]
            assert [float(x) for x in line["x"]] == curve["strengths"]
            assert line["y"] == pytest.approx([100 * mean for mean in curve["mean"]], rel=1e-5)
            if not any(curve["std"]):
                assert bands == {}
                continue
            band = bands[line["line"]["color"]]
            half = len(curve["mean"])
            upper, lower = band["y"][:half], band["y"][half:][::-1]
            assert [(u + v) / 2 for u, v in zip(upper, lower, strict=True)] == pytest.approx(line["y"], abs=1e-3)
            spread = [(u - v) / 200 for u, v in zip(upper, lower, strict=True)]
            assert spread == pytest.approx(curve["std"], abs=1e-5)
        title = page.figures[f"robustness-{place}"]["layout"]["xaxis"]["title"]["text"]
        assert title == drawn["unit"]
    curves = [(arm, curve) for k in range(3) for arm in arms for curve in [arm["robustness"]["curves"][k]]]
    expected = [
        [curve["name"], strength, curve["unit"], arm["arm"], f"{100 * mean:.2f} ± {100 * std:.2f} %"]
        for arm, curve in curves
        for strength, mean, std in zip(curve["strengths"], curve["mean"], curve["std"], strict=True)
    ]
    assert [[row[0], float(row[1]), *row[2:]] for row in cells] == expected
    assert page.figures["robustness-2"]["data"][0]["x"] == ["32", "8", "4", "2"]
    assert page.figures["robustness-2"]["layout"]["xaxis"]["type"] == "category"
    assert "type" not in page.figures["robustness-0"]["layout"]["xaxis"]


def test_robustness_that_was_not_measured_is_said_to_be_so(make_evaluated):
    run = make_evaluated(robustness="none")
    page = page_of(run)
    assert f"Not measured. To measure it: evospike evaluate {run.path} --robustness protocol" in page.text
    assert not [name for name in page.figures if name.startswith("robustness")]


def test_differences_say_whether_they_are_significant(shown):
    page = shown(arms=("genetic", "dense"))[0]
    head, *rows = page.table("Means over seeds; below them")
    assert head == ["Per sample", "genetic", "dense"]
    found = {row[0]: row[1:] for row in rows}
    assert found["Test accuracy"] == ["91.00 %", "96.00 % +5.00 ± 0.20 , significant"]
    assert found["Spikes per sample"] == ["1,234", "1,543 −12 ± 40, not significant"]
    assert found["Noisy accuracy"] == ["71.00 %", "76.00 % −3.00 ± 1.00 , significant"]
    assert found["Energy, 45nm"] == ["110.001 nJ", "137.501 nJ +34.375 ± 2.000 nJ , significant"]
    assert list(found)[-4:] == ["Energy, 45nm", "Energy, 45nm with encoding", "Energy, chip", "Energy, memory"]


def test_what_generates_weights_is_compared_with_what_stores_them(make_evaluated):
    """Whose energy by 45nm with encoding is that by 45nm: nothing is generated."""
    run = make_evaluated(arms=("genetic", "dense"))

    def store(document):
        own, dense = document["arms"]
        for one in (dense, *dense["seeds"]):
            del one["energy"]["45nm_with_encoding"]
        del dense["difference"]["energy.45nm_with_encoding"]
        for seed, (first, second) in enumerate(zip(own["seeds"], dense["seeds"], strict=True)):
            first["energy"]["45nm_with_encoding"] = 5000.0
            second["energy"]["45nm"] = 5000.0 + 1000.0 * (seed + 1)

    rewrite(run, store)
    seeds = len(document_of(run)["arms"][0]["seeds"])
    evaluation = read_evaluation(run.folder)[0]
    differences = [1000.0 * (seed + 1) for seed in range(seeds)]
    found = evaluation.arms[1].differences["energy.45nm_with_encoding"]
    assert (found.mean, found.interval, found.seeds) == (fmean(differences), half_interval(differences), seeds)
    assert evaluation.arms[1].value("energy.45nm_with_encoding") == evaluation.arms[1].value("energy.45nm")
    _, *rows = page_of(run).table("Means over seeds; below them")
    assert [row[0] for row in rows][-4:-2] == ["Energy, 45nm", "Energy, 45nm with encoding"]


def test_counts_are_written_into_the_confusion_of_few_classes(shown):
    page, document = shown(arms=("genetic",))
    (trace,) = page.figures["confusion-0"]["data"]
    counts = document["arms"][0]["confusion"]
    assert trace["text"] == [[str(count) if count else "" for count in row] for row in counts]


def test_less_is_better_of_all_but_accuracies(make_evaluated):
    run = make_evaluated(arms=("genetic", "dense"))
    page = write_report(run.path, None).read_text(encoding="utf-8")
    colours = {text: kind for kind, text in re.findall(r'<span class="(better|worse)">([+−][^<]*)</span>', page)}
    assert colours["+5.00 ± 0.20"] == "better"
    assert colours["−3.00 ± 1.00"] == "worse"
    assert colours["+19,136 ± 1,234"] == "worse"
    assert "−12 ± 40" not in colours


def test_one_seed_has_no_interval_and_no_verdict(shown):
    page = shown(arms=("genetic", "dense"), overrides=["final.seeds=1"])[0]
    found = {row[0]: row[1:] for row in page.table("Means over seeds; below them")}
    assert found["Test accuracy"] == ["90.00 %", "95.00 % +5.00, one seed"]
    assert dict(page.terms)["Test accuracy, genetic"] == "90.00 % one seed"


def test_one_network_is_not_compared(shown):
    page = shown()[0]
    assert "Networks side by side" not in page.text
    assert "difference to genetic" not in page.text
    assert [trace["name"] for trace in page.figures["cost"]["data"]] == ["accumulates", "multiply-accumulates"]


def test_an_arm_has_the_colour_it_has_elsewhere(shown):
    page = shown(arms=("random", "genetic"), robustness="full")[0]
    figures = page.figures
    curves = {t["name"]: t["line"]["color"] for t in figures["validation"]["data"] if t.get("showlegend", True)}
    steps = {trace["name"]: trace["line"]["color"] for trace in figures["steps"]["data"]}
    bars = {t["name"]: t["marker"]["color"] for t in figures["cost"]["data"]}
    assert steps == bars == {name: curves[name] for name in ("random", "genetic")}


def test_a_run_that_was_not_evaluated_says_how_to(make_run):
    run = make_run("train")
    page = page_of(run)
    assert page.text.count(f"are not measured yet. To measure them: evospike evaluate {run.path}") == 1
    assert not {a.get("id") for _, a in page.elements} & set(SECTIONS)


def test_an_unfinished_run_is_not_asked_to_be_evaluated(make_run):
    run = make_run("train", finals=2)
    assert "evospike evaluate" not in page_of(run).text


@pytest.mark.parametrize("parts", [{"digest": "f" * 32}, {"finals": 2}])
def test_an_evaluation_of_other_weights_is_said_and_not_shown(make_evaluated, parts):
    run = make_evaluated(**parts)
    facts = gather(run.folder)
    assert (facts.evaluation, facts.outdated) == (None, True)
    page = page_of(run)
    assert (
        "but of other weights than the result’s, so it is not shown. To evaluate these: evospike evaluate" in page.text
    )
    assert not {a.get("id") for _, a in page.elements} & set(SECTIONS)
    assert "76,543" not in page.text


def test_paths_are_quoted_for_the_shell(make_evaluated, tmp_path):
    run = make_evaluated(robustness="none")
    moved = run.path.rename(tmp_path / "my run; ls")
    run.path = moved
    assert f"evospike evaluate '{moved}' --robustness protocol" in page_of(run).text


def test_names_with_markup_are_shown_and_inert(make_evaluated):
    run = make_evaluated(hostile=True, arms=("genetic", "dense"), robustness="full")
    text = write_report(run.path, None).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script>alert(1)" not in text
    assert len(page.scripts) == 3
    assert "<script" not in json.dumps(page.figures)
    names = {"conv1.conv", "conv1.neuron", "shift", "real inputs", "45nm", "0"}
    assert all(f"{name}<script>alert(1)</script>" in page.text for name in names)
    charts = ("cost", "spikes-0", "energy", "steps", "confusion-1", "robustness-1")
    assert all("&lt;script&gt;alert(1)&lt;/script&gt;" in json.dumps(page.figures[name]) for name in charts)


def test_the_page_can_be_read_aloud(shown):
    page = shown(arms=("genetic", "dense", "random"), robustness="full")[0]
    assert page.levels[0] == 1
    assert page.levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.levels, page.levels[1:], strict=False))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") == len(page.tables)
    assert all(a.get("scope") in ("col", "row") for tag, a in page.elements if tag == "th")
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert set(SECTIONS) <= set(ids)
    charts = [a for _, a in page.elements if a.get("class") == "chart"]
    assert {a["id"] for a in charts} == {f"chart-{name}" for name in page.figures}
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in charts)
    regions = [a for _, a in page.elements if a.get("role") == "region"]
    assert all(a["tabindex"] == "0" for a in regions)
    assert len({a["aria-label"] for a in regions}) == len(regions)
    links = {a["href"] for tag, a in page.elements if tag == "a"}
    assert {f"#{name}" for name in SECTIONS} <= links


def test_simulated_recordings_are_called_so_beside_their_costs(shown):
    overrides = ['data.source="digits-events"', "data.events.frames=4", "model.steps=4"]
    page = shown(overrides=overrides)[0]
    assert "359 recordings of the test split" in page.text
    for beginning in ("Energy per sample", "genetic. Rate", "Accuracy on clean", "Every seed"):
        (caption,) = [caption for caption in page.tables if caption.startswith(beginning)]
        assert caption.endswith("simulated recordings")
    assert dict(page.terms)["Energy, 45nm"].endswith("simulated recordings")


@pytest.mark.parametrize(
    ("classes", "drawn", "written"), [(20, [0, 1], True), (21, [0, 1], False), (123, [0], False), (174, [], False)]
)
def test_many_classes_are_drawn_or_left_out(shown, classes, drawn, written):
    page = shown(arms=("genetic", "dense"), classes=classes)[0]
    assert [name for name in page.figures if name.startswith("confusion")] == [f"confusion-{k}" for k in drawn]
    assert (f"With {classes} classes, not every network’s matrix is drawn." in page.text) is (len(drawn) < 2)
    assert ("Confusion of genetic as a table" in page.text) is written
    assert "Most frequent errors of dense" in page.text


def test_the_largest_page_stays_below_six_megabytes(make_evaluated, monkeypatch):
    monkeypatch.undo()  # with its library
    arms = ("genetic", "dense", "random", "sparse", "static", "one-shot")
    run = make_evaluated(arms=arms, robustness="full", classes=100)

    def deepen(document):
        for arm in document["arms"]:
            arm["layers"] = [{**arm["layers"][k % 4], "name": f"stage{k}.block1.conv2.conv"} for k in range(110)]
            arm["neurons"] = [{**arm["neurons"][k % 3], "name": f"stage{k}.block1.conv2.neuron"} for k in range(110)]
            arm["confusion"] = [[123] * 100 for _ in range(100)]

    rewrite(run, deepen)
    assert write_report(run.path, None).stat().st_size < 6_000_000


def broken(document, *path, value):
    """Another document, in which a value is replaced, or left out for `KeyError`."""
    changed_document = json.loads(json.dumps(document))
    place = changed_document
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed_document


def test_a_document_of_another_form_is_refused_in_one_line(make_evaluated):
    run = make_evaluated(robustness="full")
    whole = {key: value for key, value in document_of(run).items() if key != "checksum"}
    first = ("arms", 0)
    for path, value in (
        (("arms",), []),
        (("arms",), 3),
        (("classes",), ["a"]),
        (("wall_seconds",), KeyError),
        ((*first, "test_accuracy"), "high"),
        ((*first, "spikes_per_sample"), True),
        ((*first, "density"), KeyError),
        ((*first, "confusion", 2), [1, 2]),
        ((*first, "energy", "45nm", "parts"), ["spikes"]),
        ((*first, "layers", 1, "encoding", "order"), KeyError),
        ((*first, "layers", 1), None),
        ((*first, "neurons", 0, "spikes_by_step"), [0.1, "x", 0.1, 0.1]),
        ((*first, "neurons", 0, "spikes_by_step"), [0.1]),
        ((*first, "neurons", 0, "units"), 0),
        ((*first, "accuracy_by_step"), [0.1]),
        ((*first, "robustness", "curves", 0, "std"), []),
        ((*first, "robustness", "curves", 0, "strengths"), KeyError),
        ((*first, "seeds", 0, "energy"), 7),
    ):
        run.folder.write("evaluation.json", broken(whole, *path, value=value))
        told = r"evaluation.json has an unexpected form .* write it anew: evospike evaluate \S+$"
        with pytest.raises(RunError, match=told):
            gather(run.folder)
    run.folder.write("evaluation.json", whole)
    assert gather(run.folder).evaluation is not None


def test_an_evaluation_whose_checksum_is_wrong_is_refused(make_evaluated):
    run = make_evaluated()
    path = run.path / "evaluation.json"
    path.write_text(path.read_text().replace("1234.5", "1.5"))
    with pytest.raises(RunError, match=r"checksum of .*evaluation.json does not match"):
        write_report(run.path, None)


def test_reading_an_evaluation_imports_no_torch(make_evaluated):
    run = make_evaluated(plan=False)
    code = (
        "import sys; from evospike.jobs.folder import open_run; from evospike.report.page import make_page; "
        f"page = make_page(open_run({str(run.path)!r})); print('cost' in page.charts, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "True False\n"


def test_plotly_accepts_every_chart(make_evaluated):
    go = pytest.importorskip("plotly.graph_objects", reason="needs the extra 'report'")
    run = make_evaluated(arms=("genetic", "dense", "random"), robustness="full", hostile=True)
    evaluation, outdated = read_evaluation(run.folder)
    assert not outdated
    charts = evaluation_charts(evaluation, ["dense"])
    expected = ["cost", "energy", "steps", *(f"{kind}-{k}" for k in range(3) for kind in ("spikes", "confusion"))]
    assert list(charts) == [*expected, "robustness-0", "robustness-1", "robustness-2"]
    assert not set(charts) & set(make_charts(gather(run.folder)))
    for chart in charts.values():
        text = json.dumps(chart.figure(), allow_nan=False)
        go.Figure(json.loads(re.sub(r'"@[a-z0-9]+"', '"#123456"', text)))  # raises for an unknown property
        assert chart.summary.endswith(".")


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=n, max_size=n)
    )
)
def test_mistakes_are_the_largest_cells_beside_the_diagonal(confusion):
    arm = EvaluatedArm("a", 1, 1, {}, (), tuple(map(tuple, confusion)), (), (), (), (), None, (), {})
    found = arm.mistakes(4)
    cells = [(confusion[i][j], i, j) for i in range(len(confusion)) for j in range(len(confusion)) if i != j]
    largest = sorted((cell for cell, _, _ in cells if cell), reverse=True)[:4]
    assert [often for _, _, often in found] == largest
    assert len({(right, answer) for right, answer, _ in found}) == len(found)
    assert all(confusion[right][answer] == often and right != answer for right, answer, often in found)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "–"),
        (0.0, "0 B"),
        (999.0, "999 B"),
        (999.6, "1.0 kB"),
        (123456.0, "123.5 kB"),
        (5e7, "50.0 MB"),
        (2e10, "20.0 GB"),
    ],
)
def test_sizes_have_the_unit_that_suits_them(number, text):
    assert size(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.012345, "0.01235"), (12.0, "12"), (999.4, "999.4"), (65536.0, "65,536"), (-2000.4, "-2,000")],
)
def test_amounts_are_never_written_with_an_exponent(value, text):
    assert amount(value) == text


def test_differences_have_a_sign_and_shares_are_in_points():
    assert changed(PairedDifference(-0.0123, 0.004, 3), "share") == "−1.23 ± 0.40"
    assert changed(PairedDifference(0.0, None, 1), "share") == "+0.00"
    assert changed(PairedDifference(-1500.0, 20.0, 3), "energy") == "−1.500 ± 0.020 nJ"
    assert changed(PairedDifference(70000.0, 1234.0, 3), "count") == "+70,000 ± 1,234"
    assert (PairedDifference(1.0, None, 1).significant, PairedDifference(-2.0, 1.0, 3).significant) == (None, True)
    assert PairedDifference(-1.0, 1.0, 3).significant is False
    assert (PairedDifference(1.0, 0.0, 2).significant, PairedDifference(1.0, 0.0, 3).significant) == (False, True)


def test_spreads_and_sentences():
    assert (give_or_take(0.5, None), give_or_take(0.5, 0.015)) == ("50.00 %", "50.00 ± 1.50 %")
    assert (sentence("of an end."), sentence("a"), sentence("")) == ("Of an end.", "A.", ".")
