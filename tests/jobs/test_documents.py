"""Every key of a real document has its line in docs/documents.md, and no line is about a key that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from evospike.jobs.conduct import conduct
from evospike.jobs.evaluation import evaluate_run
from evospike.jobs.folder import RunFolder, create_run

PAGE = Path(__file__).parents[2] / "docs" / "documents.md"

NAMED = {
    "energy": "MODEL",
    "energy.MODEL.parts": "PART",
    "break_even": "MODEL",
    "spread": "NUMBER",
    "difference": "NUMBER",
    "seeds[].energy": "MODEL",
    "winner.genotype": "NAME",
    "winner.spreads": "GROUP",
}
"""Objects whose keys are names, and the word that stands for them."""

COUNTS = {"failures"}
"""Objects that hold a count for each of some names, often for none; described as one key."""

ARMS = ("final.arms=['genetic','dense']", "final.seeds=2", "training.epochs=1", "encoding.kind=edge")


def described(title: str) -> list[str]:
    """The keys of a section's table."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [key for row in rows for key in re.findall(r"`([^`]+)`", row)]


def keys_of(value: Any, where: str = "") -> Iterator[str]:
    """The keys of everything in a document that holds no further object; an object that may be null is one too."""
    if isinstance(value, Mapping) and value and where not in COUNTS:
        for key, inner in value.items():
            name = NAMED.get(where, key)
            yield from keys_of(inner, f"{where}.{name}" if where else name)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for inner in value:
            yield from keys_of(inner, f"{where}[]")
    else:
        yield where


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished evolution of two networks with two seeds."""
    recipe = tiny(*ARMS)
    made = create_run("evolve", recipe, str(tmp_path_factory.mktemp("documents") / "run"))
    conduct(made, recipe, quiet=True)
    return made


def test_every_key_of_a_result_is_described(run: RunFolder) -> None:
    found = set(keys_of(run.read("result.json"))) | {"checksum"}
    listed = described("result.json of `evolve` and `train`")
    assert sorted(listed) == sorted(found)


def test_every_key_of_an_evaluation_is_described(run: RunFolder) -> None:
    """Of several networks the keys below `arms` are those at the top, but for the difference."""
    asked = {"arms": ["genetic", "dense"], "device": "cpu", "quiet": True, "noise_seeds": 2, "samples": 5}
    document = evaluate_run(run.path, robustness="full", **asked)
    bare = evaluate_run(run.path, arms=["genetic"], robustness="none", device="cpu", quiet=True, force=True)
    found = {"arms", "checksum"}
    for measured in (document, bare):
        for part in ({key: value for key, value in measured.items() if key != "arms"}, *measured["arms"]):
            found |= set(keys_of(part))
    assert sorted(described("evaluation.json")) == sorted(found)
