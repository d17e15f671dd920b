"""What every page shows of its run, whichever kind it is, and how the run is repeated."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evospike.core.errors import UNEXPECTED_FORM, EvospikeError, RunError
from evospike.data.settings import SIMULATED
from evospike.jobs.folder import RunFolder
from evospike.jobs.recipe import Recipe


@dataclass(frozen=True)
class DataFacts:
    """What the networks of a run saw.

    split: what training and test split are, in words, empty before the result says it. simulated: whether a simulator
    made the samples. samples: what they are called.
    """

    name: str
    split: str
    simulated: bool
    notes: tuple[str, ...]
    samples: str


@dataclass(frozen=True)
class RunFacts:
    """The record of a run. result, plan: the documents of the folder, None when not written yet."""

    path: str
    record: Mapping[str, Any]
    recipe: Recipe
    plan: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    data: DataFacts

    @property
    def finished(self) -> bool:
        return self.result is not None


@contextlib.contextmanager
def reading(run: RunFolder) -> Iterator[None]:
    """Turn documents of the wrong form into a RunError that names the run."""
    try:
        yield
    except EvospikeError:
        raise
    except UNEXPECTED_FORM as error:
        raise RunError(
            f"a result or the plan in '{run.path}' has an unexpected form ({type(error).__name__}: {error}); "
            "the file was altered, restore it or start a new run"
        ) from None


def data_facts(recipe: Recipe, result: Mapping[str, Any] | None) -> DataFacts:
    """From the result where it is written and says it, else from the recipe."""
    told = (result or {}).get("data") or {}
    source = recipe.data.source
    return DataFacts(
        name=str(told.get("name", source)),
        split=str(told.get("split", "")),
        simulated=bool(told.get("simulated", source in SIMULATED)),
        notes=tuple(map(str, told.get("notes", ()))),
        samples="recordings" if recipe.data.records_events else "images",
    )


def again(facts: RunFacts) -> tuple[str, bool]:
    """The command that repeats the run in a new folder, and whether it needs the recipe of the page as recipe.toml."""
    command = [str(part) for part in facts.record.get("command") or []]
    verb = str(facts.record["verb"])
    if facts.recipe.in_flight(verb):  # only a replay follows the order in which scores arrived
        return f"evospike replay {shlex.quote(facts.path)}", False
    if command[:1] != [verb]:
        return f"evospike {shlex.quote(verb)} recipe.toml", True
    kept: list[str] = []
    skip = False
    for part in command:
        if skip or part.startswith("--output="):
            skip = False
        elif part in ("-o", "--output"):
            skip = True
        else:
            kept.append(part)
    return shlex.join(["evospike", *kept]), False


def recipe_text(values: Mapping[str, Any], where: str = "") -> str:
    """A recipe as TOML that `evospike` reads back to the same recipe."""
    lines = [f"[{where}]"] if where else []
    lines += [f"{key} = {_toml(v)}" for key, v in values.items() if v is not None and not isinstance(v, Mapping)]
    sections = [
        recipe_text(value, f"{where}.{key}".lstrip(".")) for key, value in values.items() if isinstance(value, Mapping)
    ]
    return "\n\n".join(["\n".join(lines), *sections])


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
