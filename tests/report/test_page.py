from __future__ import annotations

import base64
import builtins
import hashlib
import html.parser
import json
import re
import sys

import pytest

from evospike.core.errors import MissingExtra, RunError
from evospike.report.page import write_report

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
    assert str(json.loads((run.path / "result.json").read_text())["digest"]) in text


def test_every_candidate_is_in_the_table_with_its_fitness(make_run):
    run = make_run()
    text = Reader(report(run)[1]).text
    for generation in run.study.history:
        for value in generation.fitness:
            assert value is None or f"{value:.4g}" in text


def test_the_page_asks_nothing_of_any_network(make_run):
    _, page = report(make_run())
    reader = Reader(page)
    own = page
    (library,) = [text for kind, text in reader.scripts if "plotly.js" in text[:500]]
    own = own.replace(library, "")
    assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]|@import|fetch\(|XMLHttpRequest|sendBeacon|import\(", own)
    assert not [a for a in reader.all("script", "img", "iframe", "object", "embed", "source") if "src" in a]
    links = [a["href"] for a in reader.all("link", "a")]
    assert all(href.startswith("#") or href == "data:," for href in links)


def test_the_policy_allows_the_two_scripts_of_the_page_and_no_request(make_run):
    reader = Reader(report(make_run())[1])
    (policy,) = [a["content"] for a in reader.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    scripts = [text for kind, text in reader.scripts if kind == ""]
    assert len(scripts) == 2
    for text in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe-inline'" not in policy


def test_the_page_stays_below_six_megabytes(make_run):
    assert report(make_run())[0].stat().st_size < 6_000_000


def test_names_that_hold_markup_are_shown_and_inert(make_run):
    _, page = report(make_run(hostile=True))
    reader = Reader(page)
    assert [kind for kind, _ in reader.scripts] == ["application/json", "", ""]
    assert "<script>alert(1)" not in page
    assert reader.all("img") == []
    assert not [a for _, a in reader.elements if any(name.startswith("on") for name in a)]
    assert "<script>alert(1)</script>" in reader.text
    assert "'digits<script>alert(1)</script>'" in reader.text  # quoted for the shell
    figures = json.loads(reader.scripts[0][1])
    assert "<script" not in json.dumps(figures)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in json.dumps(figures)


def test_headings_landmarks_tables_and_charts_can_be_read_aloud(make_run):
    reader = Reader(report(make_run())[1])
    tags = [tag for tag, _ in reader.elements]
    assert (tags.count("h1"), tags.count("main"), tags.count("header"), tags.count("footer")) == (1, 1, 1, 1)
    assert tags.count("table") == tags.count("caption") == 6
    assert all(a.get("scope") in ("col", "row") for a in reader.all("th"))
    charts = [a for a in reader.all("div") if a.get("class") == "chart"]
    assert len(charts) == 9
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in charts)
    assert all(a.get("tabindex") == "0" and a["aria-label"] for a in reader.all("div") if a.get("class") == "scroll")
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in reader.all("a")} <= set(ids)
    assert {a["aria-labelledby"] for a in reader.all("section")} <= set(ids)


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
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**record, "verb": "evolve"}))
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


def test_the_same_run_gives_the_same_page(make_run):
    run = make_run()
    assert report(run)[1] == report(run)[1]


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
