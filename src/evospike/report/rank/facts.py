"""A run of rank as plain records: every score with its tau, and the architectures behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evospike.evolution.population import Candidate
from evospike.evolution.recorded import read_recorded
from evospike.evolution.store import Store
from evospike.jobs.folder import PLAN, RESULT, RunFolder
from evospike.report.facts import RunFacts, data_facts, reading_of
from evospike.report.search.facts import candidate_of, failures_of, term_of

ACCURACY = "accuracy"

TRAINED = (ACCURACY, "validation_loss", "loss")
"""Terms that a short training gives; no score is among them."""


@dataclass(frozen=True)
class Difference:
    """tau minus a control's, on the same resamples, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return not self.low <= 0.0 <= self.high


@dataclass(frozen=True)
class RankedScore:
    """One score. low, high: 95 % interval of tau. against: differences by control; a control has none."""

    name: str
    tau: float
    low: float
    high: float
    against: Mapping[str, Difference]

    @property
    def control(self) -> bool:
        return not self.against


@dataclass(frozen=True)
class RankFacts(RunFacts):
    """Everything the page of a ranking shows. scores: best first, empty before the end of the run."""

    architectures: tuple[Candidate, ...]
    scores: tuple[RankedScore, ...]

    @property
    def usable(self) -> list[Candidate]:
        """Architectures with an accuracy that counts."""
        return [one for one in self.architectures if one.score.ok and term_of(one, ACCURACY) is not None]

    @property
    def failures(self) -> str:
        """How many architectures gave no usable score, by status, in words; empty when all did."""
        return failures_of(self.architectures)

    @property
    def controls(self) -> list[str]:
        return [score.name for score in self.scores if score.control]

    @property
    def names(self) -> list[str]:
        """Scores that can be set against the accuracy: the ranked ones, before the end all that is measured."""
        if self.scores:
            return [score.name for score in self.scores]
        return [name for name in self.usable[0].score.terms if name not in TRAINED] if self.usable else []


def gather_ranking(run: RunFolder) -> RankFacts:
    """Read a run folder. Raises: RunError, StoreError, SettingsError naming the file that was altered."""
    recipe = run.recipe
    plan, result = run.read(PLAN), run.read(RESULT)
    with reading_of(run):
        data = data_facts(recipe, result)
        scores = () if result is None else tuple(_score(row) for row in result["scores"])
    return RankFacts(str(run.path), run.record, recipe, plan, result, data, _architectures(run), scores)


def _architectures(run: RunFolder) -> tuple[Candidate, ...]:
    if not run.store_path.is_file():
        return ()
    with Store.view(run.store_path) as store:
        return tuple(map(candidate_of, read_recorded(store, None).candidates))


def _score(row: Mapping[str, Any]) -> RankedScore:
    low, high = map(float, row["interval"])
    against = {str(name): _difference(content) for name, content in row.get("against", {}).items()}
    return RankedScore(str(row["score"]), float(row["tau"]), low, high, against)


def _difference(content: Mapping[str, Any]) -> Difference:
    low, high = map(float, content["interval"])
    return Difference(float(content["difference"]), low, high)
