"""A run of search as plain records: its candidates, the front in the plane of two terms, and what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from evospike.core.files import canonical_json
from evospike.data.known import known_facts
from evospike.evolution.failures import count_failures, failures_in_words
from evospike.evolution.population import Candidate
from evospike.evolution.recorded import RecordedCandidate, RecordedStudy, read_recorded, told_sizes
from evospike.evolution.settings import MAXIMISED
from evospike.evolution.store import Store
from evospike.jobs.folder import PLAN, RESULT, RunFolder
from evospike.jobs.recipe import Recipe
from evospike.report.facts import RunFacts, data_facts, reading_of
from evospike.search.genome import Genome
from evospike.search.space import Space

SEED_TERMS = ("score", "parameters", "operations", "firing_rate")
"""What is said of every search of a run."""

MOST_OTHERS = 36
"""Candidates outside the front that a page lists."""


@dataclass(frozen=True)
class SearchGeneration:
    """One generation as far as it is recorded. asked: candidates it has in the end.

    In a steady state, candidates are numbered as they were told.
    """

    number: int
    asked: int
    candidates: tuple[Candidate, ...]

    @property
    def failed(self) -> int:
        """How many gave no usable score."""
        return sum(not candidate.score.ok for candidate in self.candidates)

    @property
    def failures(self) -> str:
        """The same by status, in words."""
        return failures_of(self.candidates)

    def measured(self, name: str) -> list[float]:
        """A term of the usable candidates."""
        return [value for c in self.candidates if c.score.ok and (value := term_of(c, name)) is not None]

    def best_of(self, name: str) -> float | None:
        """The most of a term that is maximised, the least of any other; None where nothing is usable."""
        return (max if name in MAXIMISED else min)(self.measured(name), default=None)

    def median_of(self, name: str) -> float | None:
        values = self.measured(name)
        return median(values) if values else None


@dataclass(frozen=True)
class SearchSeed:
    """One of the searches of a run: what it found, or while the run is unfinished, its best so far.

    candidates: how many are scored. score and what follows: of its winner, None where there is none or it was not
    measured.
    """

    number: int
    candidates: int
    score: float | None
    parameters: float | None
    operations: float | None
    firing_rate: float | None


@dataclass(frozen=True)
class Search:
    """One search as its record has it."""

    number: int
    generations: tuple[SearchGeneration, ...]
    front: tuple[Candidate, ...]
    chosen: Candidate | None

    @property
    def scored(self) -> int:
        return sum(len(generation.candidates) for generation in self.generations)

    def summary(self) -> SearchSeed:
        """As its candidates were scored in their generations."""
        terms = {} if self.chosen is None else self.chosen.score.terms
        return SearchSeed(self.number, self.scored, *(terms.get(name) for name in SEED_TERMS))


@dataclass(frozen=True)
class SearchFacts(RunFacts):
    """Everything the page of a search shows. Of several searches one is drawn: the best, or the best so far.

    seeds: every search, in order. searches: the same, as their records have them. drawn: number of the one that all
    that follows is about.
    front: candidates that no other beats in all of `objectives`, the best in the first one first.
    chosen: the winner; before there is one, the best so far. genome: its architecture.
    side: height and width of the images in pixels, None where only the data knows.
    """

    seeds: tuple[SearchSeed, ...]
    searches: tuple[Search, ...]
    drawn: int
    generations: tuple[SearchGeneration, ...]
    front: tuple[Candidate, ...]
    chosen: Candidate | None
    genome: Genome | None
    side: tuple[int, int] | None

    @property
    def candidates(self) -> list[Candidate]:
        return [candidate for generation in self.generations for candidate in generation.candidates]

    @property
    def scored(self) -> int:
        """Candidates of all searches that are scored."""
        return sum(seed.candidates for seed in self.seeds)

    @property
    def asked(self) -> int:
        """Candidates of all searches in the end."""
        return self.recipe.search.seeds * self.recipe.search.candidates

    @property
    def objectives(self) -> tuple[str, ...]:
        return plane_objectives(self.recipe)

    @property
    def others(self) -> list[Candidate]:
        """Usable candidates that some other beats, but for the chosen one: the best in the first objective first."""
        listed = {(one.generation, one.index) for one in (*self.front, *([self.chosen] if self.chosen else []))}
        left = [c for c in self.candidates if c.score.ok and (c.generation, c.index) not in listed]
        costs = [(cost, c) for c in left if (cost := _costs(c, self.objectives)) is not None]
        return [c for _, c in sorted(costs, key=lambda pair: (pair[0], pair[1].generation, pair[1].index))]

    @property
    def failed(self) -> int:
        return sum(generation.failed for generation in self.generations)

    @property
    def failures(self) -> str:
        """How many candidates gave no usable score, by status, in words; empty when all did."""
        return failures_of(self.candidates)


def gather_search(run: RunFolder) -> SearchFacts:
    """Read a run folder. Raises: RunError, StoreError, SettingsError naming the file that was altered."""
    recipe = run.recipe
    plan, result = run.read(PLAN), run.read(RESULT)
    objectives = plane_objectives(recipe)
    searches = [_read_search(run, number, objectives) for number in range(recipe.search.seeds)]
    with reading_of(run):
        drawn = _best_so_far(searches, objectives) if result is None else _winner(searches, result)
        seeds = tuple(one.summary() if result is None else _found(one, result) for one in searches)
        data = data_facts(recipe, result)
        genome = _genome(recipe, drawn.chosen) if result is None else _written_genome(result)
    return SearchFacts(
        str(run.path),
        run.record,
        recipe,
        plan,
        result,
        data,
        seeds,
        tuple(searches),
        drawn.number,
        drawn.generations,
        drawn.front,
        drawn.chosen,
        genome,
        image_side(recipe),
    )


def failures_of(candidates: Sequence[Candidate]) -> str:
    """How many scores are not usable, by status, in words; empty when all are."""
    return failures_in_words(count_failures(candidate.score.status for candidate in candidates))


def plane_objectives(recipe: Recipe) -> tuple[str, ...]:
    """The terms of the plane: the search's own, or beside a single one the parameters (of parameters, the score)."""
    own = recipe.search.objectives
    if len(own) > 1:
        return own
    return (*own, "score" if own == ("parameters",) else "parameters")


def term_of(candidate: Candidate, name: str) -> float | None:
    """A measured term, also of a candidate that failed; None where there is none."""
    return candidate.score.terms.get(name)


def front_of(candidates: Iterable[Candidate], objectives: Sequence[str]) -> tuple[Candidate, ...]:
    """Usable candidates that no other dominates, the best in the first objective first; of equals the earliest."""
    costs = [(cost, c) for c in candidates if c.score.ok and (cost := _costs(c, objectives)) is not None]
    costs.sort(key=lambda pair: (pair[0], pair[1].generation, pair[1].index))
    front: list[tuple[tuple[float, ...], Candidate]] = []
    for cost, candidate in costs:  # whatever dominates a candidate, or equals it, comes before it
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other, _ in front):
            front.append((cost, candidate))
    return tuple(candidate for _, candidate in front)


def image_side(recipe: Recipe) -> tuple[int, int] | None:
    """Height and width that the network sees, of a data set that is known by name."""
    if recipe.data.image_size:
        return recipe.data.image_size, recipe.data.image_size
    known = known_facts(recipe.data)
    return None if known is None else (known.shape[1], known.shape[2])


def candidate_of(one: RecordedCandidate) -> Candidate:
    """What a search calls a candidate."""
    return Candidate(one.generation, one.index, one.genotype, one.score)


def _read_search(run: RunFolder, number: int, objectives: Sequence[str]) -> Search:
    study = _read_store(run, number)
    generations = () if study is None else _generations(study)
    place = None if study is None else study.winner
    candidates = [candidate for generation in generations for candidate in generation.candidates]
    front = front_of(candidates, objectives)
    chosen = next((c for c in candidates if (c.generation, c.index) == place), front[0] if front else None)
    return Search(number, generations, front, chosen)


def _best_so_far(searches: Sequence[Search], objectives: Sequence[str]) -> Search:
    """The search whose best candidate is the best of all; the first where nothing is usable yet."""
    best = front_of([one.chosen for one in searches if one.chosen is not None], objectives)
    return next((one for one in searches if best and one.chosen is best[0]), searches[0])


def _winner(searches: Sequence[Search], result: Mapping[str, Any]) -> Search:
    """The search that the result calls the best; results of single searches do not always name it."""
    return {one.number: one for one in searches}[result.get("winner_seed", 0)]


def _found(search: Search, result: Mapping[str, Any]) -> SearchSeed:
    """What the result says of a search; results of single searches do not always list it."""
    told = {seed["seed"]: seed for seed in result.get("seeds", [{**result, "seed": 0}])}[search.number]
    return SearchSeed(search.number, search.scored, *(told.get(name) for name in SEED_TERMS))


def _read_store(run: RunFolder, number: int) -> RecordedStudy | None:
    """One of the searches of a run; None for one that is not begun."""
    path = run.store_path_of(number)
    if not path.is_file():
        return None
    with Store.view(path) as store:
        return read_recorded(store, told_sizes(run.recipe.search))


def _generations(study: RecordedStudy) -> tuple[SearchGeneration, ...]:
    return tuple(
        SearchGeneration(one.number, one.asked, tuple(map(candidate_of, one.candidates))) for one in study.generations
    )


def _costs(candidate: Candidate, objectives: Sequence[str]) -> tuple[float, ...] | None:
    """The objectives, each to be minimised; None where one was not measured."""
    values = [(name, term_of(candidate, name)) for name in objectives]
    costs = tuple(-value if name in MAXIMISED else value for name, value in values if value is not None)
    return costs if len(costs) == len(objectives) else None


def _genome(recipe: Recipe, candidate: Candidate | None) -> Genome | None:
    if candidate is None:
        return None
    return Space(recipe.space).genome([int(value) for value in candidate.genotype.values])


def _written_genome(result: Mapping[str, Any]) -> Genome:
    return Genome.from_json(canonical_json(result["winner"]["genome"]))
