"""What every page shows of its run, whichever kind it is, and how the run is repeated."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from evospike.jobs.folder import RunFolder, reading
from evospike.jobs.recipe import Recipe
from evospike.jobs.results import told_data


@dataclass(frozen=True)
class DataFacts:
    """What the networks of a run saw.

    split: what training and test split are, in words, empty where only a result can say it and does not yet.
    simulated: whether a simulator made the samples. samples: what they are called.
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


def reading_of(run: RunFolder) -> AbstractContextManager[None]:
    """Turns documents of the wrong form into a RunError that names the run."""
    return reading(f"a result or the plan in '{run.path}'")


def data_facts(recipe: Recipe, result: Mapping[str, Any] | None) -> DataFacts:
    """From the result where it is written and says it, else from the recipe."""
    notes = ((result or {}).get("data") or {}).get("notes", ())
    return DataFacts(
        **told_data(recipe, result),
        notes=tuple(map(str, notes)),
        samples="recordings" if recipe.data.records_events else "images",
    )


def again(facts: RunFacts) -> tuple[str, bool]:
    """The command that repeats the run in a new folder, and whether it needs the recipe of the page as recipe.toml.

    The command of the run itself where it names a shipped recipe. A file that it named may have changed since, and the
    order in which scores arrived is not in it: then the folder is replayed, which holds what the run was.
    """
    command = [str(part) for part in facts.record.get("command") or []]
    verb = str(facts.record["verb"])
    commanded = command[:1] == [verb]
    if facts.recipe.in_flight(verb) or (commanded and _reads_files(command, facts.recipe)):
        return shlex.join(["evospike", "replay", facts.path]), False
    if not commanded:
        return f"evospike {shlex.quote(verb)} recipe.toml", True
    return shlex.join(["evospike", verb, *_without_output(command[1:])]), False


def _reads_files(command: Sequence[str], recipe: Recipe) -> bool:
    """Whether a command names a recipe, an architecture, motifs or data of its own; a shipped recipe has no slash."""
    return bool(recipe.model.genome) or any("/" in part or part.endswith(".toml") for part in _without_output(command))


def _without_output(command: Sequence[str]) -> list[str]:
    """A command but for where its run was written to, in any form that argparse takes: `-oRUN`, `--out RUN`, ..."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-o", "--output", nargs="?")  # of an altered record, also without its value
    return parser.parse_known_args(command)[1]
