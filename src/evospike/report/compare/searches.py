"""Finished searches side by side: what they looked at, what they found, and whose scores are numbers of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evospike.core.errors import RunError, SettingsError
from evospike.jobs.folder import RunFolder
from evospike.report.compare.alike import Entry, common_data, differing, flat_fields, labels_of
from evospike.report.compare.quantities import Quantity, Value, cost, energy, score
from evospike.report.facts import DataFacts
from evospike.report.search.charts import TITLES
from evospike.report.search.facts import SearchFacts, failures_of, gather_search, term_of

_SHOWN = ("dissimilarity.", "neuron.", "model.steps", "model.norm_time")
_TRAINED = ("scoring.epochs", "scoring.samples", "training.", "sparse.", "neuron.", "model.steps", "model.norm_time")

SCORED_BY: Mapping[str, tuple[str, ...]] = {
    "dissimilarity": _SHOWN,
    "similarity": _SHOWN,
    "firing_rate": _SHOWN,
    "training": _TRAINED,
    "parameters": (),
    "operations": ("model.steps",),
    "random": (),
}
"""By score, the beginnings of the fields of a recipe that decide what one and the same architecture scores, beside the
score itself and the data."""

NO_MATTER = ("data.folder", "training.epochs", "training.ema")
"""Fields that begin so and decide nothing: where copies lie, and what a short training does without."""


@dataclass(frozen=True)
class ComparedSearch(Entry):
    """One run of searches. otherwise: fields of the recipe by which it scores otherwise than the first, none where both
    scores are numbers of one kind."""

    facts: SearchFacts
    otherwise: tuple[str, ...]

    @property
    def scored_by(self) -> Mapping[str, str]:
        return scored_by(self.facts)

    @property
    def failed(self) -> int:
        """Candidates of all its searches that gave no usable score."""
        return sum(generation.failed for one in self.facts.searches for generation in one.generations)

    @property
    def failures(self) -> str:
        """The same by status, in words."""
        generations = [generation for one in self.facts.searches for generation in one.generations]
        return failures_of([candidate for generation in generations for candidate in generation.candidates])


@dataclass(frozen=True)
class Scale:
    """Runs whose scores are numbers of one kind. quantity: their scores; every other run of the page has None there."""

    runs: tuple[ComparedSearch, ...]
    quantity: Quantity

    @property
    def name(self) -> str:
        """What scores here."""
        return self.runs[0].facts.recipe.scoring.score


@dataclass(frozen=True)
class SearchComparison:
    """Everything the page shows.

    fields: of the recipes, those that differ, with every run's value as TOML. scales: the first is that of the first
    run. counted: parameters and operations of the winners. noted: what else is known of them.
    """

    runs: tuple[ComparedSearch, ...]
    fields: Mapping[str, tuple[str, ...]]
    scales: tuple[Scale, ...]
    counted: tuple[Quantity, ...]
    noted: tuple[Quantity, ...]

    @property
    def data(self) -> DataFacts:
        return common_data(self.runs)

    @property
    def unlike(self) -> tuple[ComparedSearch, ...]:
        """Runs that score otherwise than the first."""
        return tuple(run for run in self.runs if run.otherwise)

    @property
    def against(self) -> tuple[Quantity, ...]:
        """What every run is set against the first in."""
        return (self.scales[0].quantity, *self.counted)

    @property
    def headlines(self) -> tuple[Quantity, ...]:
        """The few that stand at the top, of those in which runs differ."""
        return tuple(one for one in (*(scale.quantity for scale in self.scales), *self.counted) if one.varies)

    @property
    def by_candidates(self) -> bool:
        """Whether generations of different runs are of different sizes, so that candidates have to be counted."""
        return len({run.facts.recipe.search.sizes[:2] for run in self.runs}) > 1

    @property
    def planes(self) -> tuple[tuple[ComparedSearch, ...], ...]:
        """Runs whose fronts stand in one plane: with the same objectives, and scores of one kind."""
        found: dict[tuple[int, str, str], list[ComparedSearch]] = {}
        for place, scale in enumerate(self.scales):
            for run in scale.runs:
                up, across = run.facts.objectives[:2]
                found.setdefault((place, up, across), []).append(run)
        return tuple(map(tuple, found.values()))

    def plane_title(self, runs: Sequence[ComparedSearch]) -> str:
        """The two terms of a plane; of its scores the kind, where there are several."""
        up, across = (TITLES[name] for name in runs[0].facts.objectives[:2])
        kind = f", {runs[0].facts.recipe.scoring.score}" if len(self.scales) > 1 else ""
        return f"{up.capitalize()} over {across}{kind}"

    def score(self, run: ComparedSearch) -> Quantity:
        """The scores among which a run's stands."""
        return next(scale.quantity for scale in self.scales if run in scale.runs)


def gather_searches(folders: Sequence[RunFolder]) -> SearchComparison:
    """Read finished searches to compare. Raises: RunError naming the file that was altered; StoreError likewise."""
    everything = list(map(_gathered, folders))
    labels, first = labels_of(folders), scored_by(everything[0])
    runs = tuple(
        ComparedSearch(place + 1, labels[place], facts, _otherwise(scored_by(facts), first))
        for place, facts in enumerate(everything)
    )
    noted = (
        energy("energy", "Energy", tuple(_noted(run, "energy") for run in runs)),
        Quantity("firing_rate", "Firing rate", "", 1.0, 3, "", tuple(_told(run, "firing_rate") for run in runs)),
        _fronts(runs),
    )
    counted = [
        cost(name, name.capitalize(), tuple(_told(run, name) for run in runs)) for name in ("parameters", "operations")
    ]
    fields = differing([facts.recipe for facts in everything])
    return SearchComparison(runs, fields, _scales(runs), tuple(counted), tuple(one for one in noted if one.known))


def scored_by(facts: SearchFacts) -> dict[str, str]:
    """The fields of a recipe that decide what an architecture scores, with their values as TOML."""
    begin = ("scoring.score", "data.", *SCORED_BY[facts.recipe.scoring.score])
    fields = flat_fields(facts.recipe).items()
    return {name: value for name, value in fields if name.startswith(begin) and not name.startswith(NO_MATTER)}


def _gathered(run: RunFolder) -> SearchFacts:
    try:
        return gather_search(run)
    except SettingsError as error:
        raise RunError(f"this release cannot read the recipe or the winner of '{run.path}': {error}") from None


def _otherwise(own: Mapping[str, str], first: Mapping[str, str]) -> tuple[str, ...]:
    """In what two ways of scoring differ; other scores differ in what is said of them, too."""
    if own["scoring.score"] != first["scoring.score"]:
        return ("scoring.score",)
    return tuple(name for name, value in own.items() if value != first[name])


def _scales(runs: Sequence[ComparedSearch]) -> tuple[Scale, ...]:
    groups: dict[tuple[tuple[str, str], ...], list[ComparedSearch]] = {}
    for run in runs:
        groups.setdefault(tuple(run.scored_by.items()), []).append(run)
    return tuple(_scale(group, runs) for group in groups.values())


def _scale(group: Sequence[ComparedSearch], runs: Sequence[ComparedSearch]) -> Scale:
    values = tuple(_told(run, "score") if run in group else None for run in runs)
    return Scale(tuple(group), score("score", f"Score, {group[0].facts.recipe.scoring.score}", values))


def _told(run: ComparedSearch, name: str) -> Value | None:
    """What the result says of the winner of every search."""
    return _over({seed.number: getattr(seed, name) for seed in run.facts.seeds})


def _noted(run: ComparedSearch, name: str) -> Value | None:
    """What the record says of the winner of every search, as it was scored in its generation."""
    return _over({one.number: term_of(one.chosen, name) for one in run.facts.searches if one.chosen is not None})


def _over(seeds: Mapping[int, float | None]) -> Value | None:
    known = {seed: value for seed, value in seeds.items() if value is not None}
    return Value.over(known) if known else None


def _fronts(runs: Sequence[ComparedSearch]) -> Quantity:
    """How many candidates form the front of a search."""
    values = tuple(Value.over({one.number: len(one.front) for one in run.facts.searches}) for run in runs)
    whole = all(value.mean.is_integer() for value in values)
    return Quantity("front", "Front", "", 1.0, 0 if whole else 1, "", values)
