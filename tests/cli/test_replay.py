"""`evospike replay`: a new run with the settings of another, one line that says whether it came out the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import evospike.jobs.conduct as conduct_module
from evospike.core.errors import MissingExtra
from evospike.jobs.folder import open_run


def refused(said: Any, message: str) -> None:
    assert (said.code, said.out) == (2, "")
    assert len(said.lines) == 1
    assert said.lines[0].startswith("evospike: ")
    assert message in said.lines[0]


def stored(run: str) -> dict[str, Any]:
    document = json.loads(Path(run, "result.json").read_text())
    document.pop("checksum")
    return document


def test_a_replay_ends_with_the_digest_of_the_run(evospike, finished: Path) -> None:
    digest = stored(str(finished))["digest"]
    said = evospike("replay", finished, "-o", "again", "--workers", 2, "--quiet")
    assert (said.code, said.err) == (0, "run folder: again\n")
    line = f"same digest as {finished}: {digest}"
    assert said.out.splitlines()[-2:] == ["more: evospike report again", line]
    resumed = evospike("resume", "again", "--json")
    assert (resumed.code, resumed.document) == (0, stored("again"))
    assert resumed.document["replay"] == {"of": str(finished), "digest": digest, "same": True, "differences": []}
    assert open_run("again").recipe.run.workers == 2
    assert evospike("resume", "again").out.splitlines()[-1] == line


def test_another_digest_is_another_exit_code(evospike, finished: Path) -> None:
    shutil.copytree(finished, "of")
    run = open_run("of")
    run.write("result.json", {**stored("of"), "digest": "f" * 32})
    said = evospike("replay", "of", "--json", "--quiet")
    (again,) = Path("runs").iterdir()
    assert again.name.startswith("tiny-")
    assert (said.code, said.document) == (1, stored(str(again)))
    facts = {"of": "of", "digest": "f" * 32, "same": False, "differences": []}
    assert (said.document["replay"], said.document["digest"]) == (facts, stored(str(finished))["digest"])
    shutil.rmtree("of")
    text = evospike("resume", again)
    assert (text.code, text.err) == (1, "")
    assert text.out.splitlines()[-1].startswith(f"digest differs from of: {'f' * 32}, here {said.document['digest']};")


def test_what_cannot_be_replayed_is_one_line(evospike, finished: Path, tmp_path: Path) -> None:
    refused(evospike("replay", "nowhere"), "'nowhere' does not exist; give a folder that evospike printed")
    refused(evospike("replay", "."), "'.' is no run folder (it has no run.json)")
    refused(evospike("replay", finished, "-o", finished), f"'{finished}' exists and is not empty; give -o a new folder")
    said = evospike("replay", finished, "-o", "again", "--genes", 9, "--set", "training.rate=1", "--workers", 3)
    given = "encoding.genes: 4 -> 9; training.rate: 0.005 -> 1.0"
    refused(said, f"a run is replayed with its own settings, given {given}; start a new run for others")
    refused(evospike("replay", finished, "--threads", 3), "given run.threads: 1 -> 3; start a new run for others")
    refused(evospike("replay", finished, "--set", "training.rat=1"), "unknown field 'training.rat'")
    shutil.copytree(finished, "of")
    Path("of", "run.json").write_text("{}")
    refused(evospike("replay", "of", "-o", "again"), "has no checksum; the file was altered")
    assert [path.name for path in tmp_path.iterdir()] == ["of"]


def test_a_replay_that_cannot_begin_leaves_no_folder(
    evospike, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object) -> None:
        raise MissingExtra("ray", "ray", "--executor ray")

    monkeypatch.setattr(conduct_module, "check_executor", without)
    refused(evospike("replay", finished, "-o", "again", "--executor", "ray"), "--executor ray needs 'ray'")
    assert list(tmp_path.iterdir()) == []
