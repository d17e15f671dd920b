"""What all comparisons share: which runs can stand on one page, their signs there, in what their recipes differ."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evospike.core.errors import RunError
from evospike.jobs.folder import RESULT, RunFolder, open_run
from evospike.jobs.recipe import Recipe
from evospike.report.facts import DataFacts, RunFacts
from evospike.report.figures import DASHES, SERIES, SYMBOLS

FEWEST, MOST = 2, 8
"""Runs of one comparison."""

LONGEST = 22
"""Characters of a label beside a chart; the tables show it whole."""

KINDS: Mapping[str, str] = {"train": "trainings", "evolve": "trainings", "search": "searches", "rank": "rankings"}
"""By verb, with which runs it can be compared."""


@dataclass(frozen=True)
class Entry:
    """One run of a comparison. number: from 1, its sign on the page. label: the end of its path that tells it from the
    others."""

    number: int
    label: str
    facts: RunFacts

    @property
    def title(self) -> str:
        """Number and label, short enough to stand in a chart."""
        label = self.label if len(self.label) <= LONGEST else f"{self.label[: LONGEST - 1]}…"
        return f"{self.number} {label}"

    @property
    def quoted(self) -> str:
        """Its folder as a shell reads it."""
        return shlex.quote(self.facts.path)

    @property
    def colour(self) -> str:
        return f"@series{(self.number - 1) % SERIES}"

    @property
    def dash(self) -> str:
        return DASHES[(self.number - 1) % len(DASHES)]

    @property
    def symbol(self) -> str:
        """Another one for a run that has the colour of one before it."""
        return SYMBOLS[(self.number - 1) // SERIES]


def open_alike(paths: Sequence[Path]) -> list[RunFolder]:
    """Open runs to compare. Raises: RunError where they are not 2 to 8 different finished runs of one kind."""
    if not FEWEST <= len(paths) <= MOST:
        raise RunError(f"a comparison is of {FEWEST} to {MOST} runs, given {len(paths)}; give that many run folders")
    folders = [open_run(path) for path in _distinct(paths)]
    for folder in folders:
        _require_kind(folder, folders[0])
    for folder in folders:
        if folder.read(RESULT) is None:
            raise RunError(f"'{folder.path}' is not finished; finish it first: evospike resume {folder.path}")
    return folders


def labels_of(folders: Sequence[RunFolder]) -> list[str]:
    """The shortest ends of their paths that differ."""
    paths, depth = [folder.path.resolve() for folder in folders], 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]


def differing(recipes: Sequence[Recipe]) -> dict[str, tuple[str, ...]]:
    """Fields that are not the same in all recipes, sorted, with the value of each as TOML."""
    flat = [flat_fields(recipe) for recipe in recipes]
    written = {name: tuple(one[name] for one in flat) for name in sorted(flat[0])}
    return {name: values for name, values in written.items() if len(set(values)) > 1}


def flat_fields(recipe: Recipe) -> dict[str, str]:
    """The fields of a recipe by their dotted names, as TOML; name and about only describe it."""
    return {name: toml(value) for name, value in _flat(recipe.to_plain())}


def toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def common_data(runs: Sequence[Entry]) -> DataFacts:
    """What the runs saw; of different data sets all names, and no split."""
    first = runs[0].facts.data
    if all((run.facts.data.name, run.facts.data.split) == (first.name, first.split) for run in runs):
        return first
    names = dict.fromkeys(run.facts.data.name for run in runs)
    return replace(first, name=", ".join(names), split="", simulated=any(run.facts.data.simulated for run in runs))


def _distinct(paths: Sequence[Path]) -> Sequence[Path]:
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise RunError(f"'{path}' is '{seen[path.resolve()]}' again; give every run once")
        seen[path.resolve()] = path
    return paths


def _require_kind(run: RunFolder, first: RunFolder) -> None:
    if KINDS[run.verb] != KINDS[first.verb]:
        raise RunError(
            f"'{first.path}' is a run of {first.verb} and '{run.path}' is one of {run.verb}, which have no numbers in "
            "common; compare trainings (train, evolve) with trainings, searches with searches, rankings with rankings"
        )


def _flat(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{key}.")
        elif where or key not in ("name", "about"):
            yield f"{where}{key}", value
