"""`evospike bench` as it is called: what it lists, prints, writes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evospike.bench.document import from_plain, read_document
from evospike.bench.registry import MODULES, entries


def test_the_suite_is_listed_without_torch() -> None:
    code = """
import sys
from evospike.cli.main import main
assert main(["bench", "--list"]) == 0
assert main(["bench", "no-such-case"]) == 2
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert listed == list(entries())
    assert {entry.module for entry in entries().values()} <= set(MODULES)


def test_fakes_are_listed(fakes, bench) -> None:
    said = bench("--list", "--json")
    assert (said.code, said.err) == (0, "")
    names = [row["name"] for row in said.document["cases"]]
    assert names == ["steady", "looking", "killed", "broken", "twins", "nested", "grows", "whole-only"]
    first = {"name": "steady", "group": "Fakes", "about": "about steady", "unit": "ms", "quick": True}
    assert said.document["cases"][0] == first
    quick = bench("--list", "--quick")
    assert quick.out == ("steady   about steady (ms)\nlooking  about looking (ms)\ngrows    about grows (s)\n")
    assert bench("steady", "--list").out == "steady  about steady (ms)\n"
    assert list(Path.cwd().iterdir()) == []


def test_a_run_prints_its_tables_and_writes_its_document(fakes, bench) -> None:
    said = bench(
        "steady", "grows", "--quick", "--device", "cpu", "--threads", 1, "--repeats", 4, "-o", "out/bench.json"
    )
    assert said.code == 0
    document = read_document(Path("out/bench.json"))
    assert (document.complete, document.quick, document.peers, document.machine.threads) == (True, True, None, 1)
    (case,), (growth,) = document.cases, document.growths
    assert {len(one.figures) for one in case.contestants} == {4}
    assert [len(point.figures) for point in growth.points] == [4, 4]
    head, *rows = said.out.splitlines()
    assert head == "steady: about steady"
    assert rows[2].split() == ["double", "9.000", "7.500", "to", "10.50", "2.00", "2.00", "to", "2.00"]
    assert "grows: about grows" in rows
    assert rows[-1] == "document: out/bench.json"
    assert said.err.startswith("document: out/bench.json\n")
    assert "1/2 steady: 100%" in said.err
    assert "2/2 grows: 100%" in said.err

    again = bench("steady", "-o", "out/bench.json")
    assert (again.code, again.out) == (2, "")
    assert again.err == "evospike: 'out/bench.json' exists; give -o a new file, or --force to replace it\n"

    forced = bench("steady", "-o", "out/bench.json", "--force", "--json", "--quiet", "--device", "cpu", "--repeats", 1)
    assert forced.code == 0
    assert from_plain(forced.document) == read_document(Path("out/bench.json")) != document
    assert forced.err == "document: out/bench.json\n"
    assert sorted(path.name for path in Path.cwd().rglob("*.json")) == ["bench.json"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["stedy"], "unknown case 'stedy'; did you mean 'steady'?"),
        (["steady", "xyzzy"], "unknown case 'xyzzy'; known: "),
        (["--list", "stedy"], "unknown case 'stedy'"),
        (["steady", "--peers", "nowhere"], "no folder of peers at 'nowhere'; give --peers a folder"),
        (["steady", "--peers", "empty"], "'empty' holds no adapter (*.py)"),
        (["steady", "--repeats", "-1"], "'repeats' must not be negative, given -1"),
        (["steady", "--repeats", "many"], "invalid int value: 'many'"),
        (["steady", "--threads", "-2"], "'threads' must not be negative, given -2"),
        (["steady", "--device", "tpu"], "'device' must be auto, cpu, cuda or cuda:N, given 'tpu'"),
        (["steady", "-o", "empty"], "'empty' exists; give -o a new file"),
        (["steady", "-o", "file/bench.json"], "cannot write 'file/bench.json'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_in_one_line(fakes, bench, arguments: list[str], wanted: str) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    said = bench(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("evospike: ")
    assert wanted in said.err
    assert said.err.count("\n") == 1
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["empty", "file"]


def test_what_the_measuring_process_refuses_is_one_line(fakes, bench) -> None:
    """A device that is not there, and two adapters of one name, are found out in a process of their own."""
    import torch

    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    said = bench("steady", "--device", f"cuda:{devices}", "--quiet", "-o", "bench.json")
    assert (said.code, said.out) == (2, "")
    begun, line = said.err.splitlines()
    assert (begun, line[:10]) == ("document: bench.json", "evospike: ")
    assert f"'cuda:{devices}'" in line
    assert "Error" not in line
    Path("peers").mkdir()
    for name in ("a", "b"):
        Path(f"peers/{name}.py").write_text("from evospike.bench.case import Absent\nPEER = Absent('x', 'x', 'none')")
    said = bench("steady", "--peers", "peers", "--device", "cpu", "--quiet", "-o", "bench.json")
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("evospike: two adapters in 'peers' are named 'x'")
    assert not Path("bench.json").exists()


def test_json_and_text_agree_on_the_list(fakes, bench) -> None:
    names = [row["name"] for row in json.loads(bench("--list", "--json").out)["cases"]]
    assert [line.split()[0] for line in bench("--list").out.splitlines()] == names
