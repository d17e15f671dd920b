"""Names from recipes, runs and data sets that hold commands: of a terminal, of HTML, of LaTeX, of Markdown."""

from __future__ import annotations

import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import hostile_inputs as inputs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evospike.bench.document import AbsentResult, CaseResult
from evospike.bench.tables import case_table, text_of
from evospike.cli.main import main
from evospike.core.progress import bar, tell
from evospike.core.text import harmless
from evospike.jobs.folder import RunFolder, create_run, write_record
from evospike.jobs.recipe import read_recipe
from evospike.report.formats import FILTERS
from evospike.report.paper.tables import Table, tables_markdown, tables_tex, words
from evospike.report.paper.text import latex, markdown

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e\r\x08<script>alert(1)</script>\\input{/etc/passwd}|`x`|\ud800"
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shows_no_commands(text: str) -> None:
    assert COMMANDS.search(text) is None, text[:300].encode("unicode_escape")


@given(st.text(st.characters(), max_size=30))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_what_reaches_a_terminal(text: str) -> None:
    shown = harmless(text)
    shows_no_commands(shown)
    assert len(shown) == len(text)
    assert shown == text or any(one != other for one, other in zip(shown, text, strict=True))


def test_what_people_write_stays_as_it_is() -> None:
    text = "Größe: 0.5 ± 0.1 µJ, 日本語, a\tb\nc, 1\N{NO-BREAK SPACE}s – …"
    assert harmless(text) == text


class TestTerminal:
    @pytest.mark.parametrize("name", [text for text in (*inputs.TEXTS, EVIL) if text.strip() and "\x00" not in text])
    def test_refusals(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
        monkeypatch.chdir(tmp_path)
        commands = [
            ["train", name],
            ["resume", name],
            ["inspect", "digits", "--set", f"name={name}", "--set", "model.preset=" + name],
            ["inspect", "digits", "--set", name],
            ["train", "digits", "--model", name],
            ["data", "info", "imagefolder:" + name],
            ["recipes", name],
            [name],
        ]
        for command in commands:
            assert main(command) == 2
            said = capsys.readouterr()
            assert said.out == ""
            shows_no_commands(said.err)
            assert said.err.count("\n") == 1
            assert len(said.err) < 8000
        assert list(tmp_path.iterdir()) == []

    def test_results(self, trained: RunFolder, tmp_path: Path, capsys) -> None:
        """A finished run whose names were altered: what `resume` prints of it."""
        import shutil

        shutil.copytree(trained.path, tmp_path / "run")
        for name in ("run.json", "result.json"):
            document = json.loads((tmp_path / "run" / name).read_text())
            del document["checksum"]
            if name == "run.json":
                document["recipe"]["name"] = EVIL
            else:
                document |= {"recipe": EVIL, "run": EVIL, "digest": EVIL}
                document["arms"][0]["arm"] = EVIL
                document["data"] |= {"name": EVIL, "split": EVIL}
            write_record(tmp_path / "run" / name, document)
        for command in ("resume", "watch"):
            assert main([command, str(tmp_path / "run")]) == 0
            said = capsys.readouterr()
            assert "red" in said.out
            shows_no_commands(said.out + said.err)

    def test_notices_and_bars(self, capsys: pytest.CaptureFixture[str]) -> None:
        tell(EVIL)
        with bar("work", 2, "steps", quiet=True) as shown:
            shown.note(EVIL)
        said = capsys.readouterr().err
        assert said.count("red") == 2
        shows_no_commands(said.replace("\r", ""))

    def test_tables_of_the_suite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        case = CaseResult(EVIL, EVIL, EVIL, "ms", "", False, 1.0, EVIL, (), (AbsentResult(EVIL, EVIL, EVIL),))
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        from evospike.cli.commands import _show

        _show(text_of(case_table(case)))
        assert "red" in out.getvalue()
        shows_no_commands(out.getvalue())

    def test_a_new_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        run = create_run("train", read_recipe("digits", [f"name={json.dumps(EVIL[:60])}"]), None)
        shows_no_commands(str(run.path))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)


class TestPages:
    def test_html(self, trained: RunFolder, tmp_path: Path) -> None:
        """A page of a run whose names hold markup has the same elements as one whose names do not."""
        import shutil

        pytest.importorskip("plotly")
        found = []
        for name in ("plain", EVIL[:50] + "\"'><img src=x onerror=alert(2)>"):
            folder = tmp_path / str(len(found))
            shutil.copytree(trained.path, folder)
            for document in ("run.json", "result.json", "evaluation.json"):
                value = json.loads((folder / document).read_text().replace('"digits"', json.dumps(name)))
                value.pop("checksum")
                if document == "run.json":
                    value["recipe"]["data"]["source"] = "digits"
                write_record(folder / document, value)
            assert main(["report", str(folder), "-o", str(tmp_path / f"{len(found)}.html")]) == 0
            page = _Tags()
            page.feed(
                re.sub(
                    r"<script.*?</script>",
                    "<script></script>",
                    (tmp_path / f"{len(found)}.html").read_text(),
                    flags=re.S,
                )
            )
            found.append(page.tags)
        assert found[0] == found[1]
        assert "img" not in found[1]

    def test_filters_give_text(self) -> None:
        """None of them marks what it is given as markup of ours."""
        for name in ("capitalised", "sentence", "model_title"):
            assert not hasattr(FILTERS[name](EVIL), "__html__")


@given(st.text(max_size=40))
@settings(max_examples=60, derandomize=True, deadline=None)
def test_latex_and_markdown_print_a_name_as_it_is(text: str) -> None:
    tables = [Table("t", text, (words(text, [text]),), (text,))]
    tex, md = tables_tex(tables), tables_markdown(tables)
    shows_no_commands(tex + md)
    assert tex.count("\\\\") == 2, "a name ends no row"
    assert len(tex.splitlines()) == len(tables_tex([Table("t", "x", (words("x", ["x"]),), ("x",))]).splitlines())
    rows = [line for line in md.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [2, 2, 2]


@pytest.mark.parametrize(
    "name", [EVIL, "\\input{x}", "a & b", "x % y", "$x$", "{", "^^M", "a|b", "[x](http://y)", "<b>"]
)
def test_names_that_would_be_commands(name: str) -> None:
    tex, md = latex(name), markdown(name)
    assert "\\input" not in tex
    assert re.search(r"(?<!\\)[%#&_]|(?<!\\)\$(?!\\|-)", tex.replace(r"$\pm$", "").replace("$-$", "")) is None
    assert re.search(r"(?<!\\)[<`\[|]", md) is None
