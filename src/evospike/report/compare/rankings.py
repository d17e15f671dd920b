"""Finished rankings side by side: how well every score orders the architectures of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evospike.core.errors import RunError, SettingsError
from evospike.jobs.folder import RunFolder
from evospike.report.compare.alike import Entry, common_data, differing, labels_of
from evospike.report.facts import DataFacts
from evospike.report.rank.facts import RankedScore, RankFacts, gather_ranking


@dataclass(frozen=True)
class ComparedRanking(Entry):
    """One ranking."""

    facts: RankFacts

    def of(self, name: str) -> RankedScore | None:
        """A score by its name, None where the run has not ranked it."""
        return next((one for one in self.facts.scores if one.name == name), None)


@dataclass(frozen=True)
class RankComparison:
    """Everything the page shows. fields: of the recipes, those that differ, with every run's value as TOML."""

    runs: tuple[ComparedRanking, ...]
    fields: Mapping[str, tuple[str, ...]]

    @property
    def data(self) -> DataFacts:
        return common_data(self.runs)

    @property
    def names(self) -> list[str]:
        """Every score, in the order of the first run that has ranked it."""
        return list(dict.fromkeys(one.name for run in self.runs for one in run.facts.scores))

    @property
    def controls(self) -> set[str]:
        return {one.name for run in self.runs for one in run.facts.scores if one.control}


def gather_rankings(folders: Sequence[RunFolder]) -> RankComparison:
    """Read finished rankings to compare. Raises: RunError naming the file that was altered; StoreError likewise."""
    everything = list(map(_gathered, folders))
    labels = labels_of(folders)
    runs = tuple(ComparedRanking(place + 1, labels[place], facts) for place, facts in enumerate(everything))
    return RankComparison(runs, differing([facts.recipe for facts in everything]))


def _gathered(run: RunFolder) -> RankFacts:
    try:
        return gather_ranking(run)
    except SettingsError as error:
        raise RunError(f"this release cannot read the recipe of '{run.path}': {error}") from None
