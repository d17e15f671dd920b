"""Which candidates of a search are drawn as dots, and what the dots say: one table that all charts share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from evospike.evolution.population import Candidate
from evospike.report.figures import Plain, safe, short
from evospike.report.search.facts import SearchFacts, SearchGeneration, term_of

MOST = 5000
"""About as many dots are drawn; what a search has beyond is thinned, or the page would only grow."""


def drawn_candidates(facts: SearchFacts) -> list[Candidate]:
    """All candidates, in order; of more than `MOST` the latest generations whole and the earlier ones evenly thinned,
    but for the front, the best of every generation, and the chosen one."""
    everyone = facts.candidates
    if len(everyone) <= MOST:
        return everyone
    start, step = _first_whole(facts.generations), _step(facts)
    kept = _kept(facts)
    early = (candidate for candidate in everyone if candidate.generation < start)
    thinned = [one for place, one in enumerate(early) if place % step == 0 or _place(one) in kept]
    return thinned + [candidate for candidate in everyone if candidate.generation >= start]


def thinning(facts: SearchFacts) -> str:
    """What is not drawn, in words; empty where everything is."""
    if len(facts.candidates) <= MOST:
        return ""
    drawn, start = len(drawn_candidates(facts)), _first_whole(facts.generations)
    whole = start <= facts.generations[-1].number
    late = f"every candidate from generation {start + 1} on, " if whole else ""
    return (
        f"Dots: {drawn:,} of {len(facts.candidates):,} candidates, which are {late}one in {_step(facts)} of "
        f"{'those before' if whole else 'all'}, the best of each generation and the front."
    )


def label_table(candidates: Sequence[Candidate]) -> Plain:
    """What the page makes the label of every candidate from, column by column; texts that repeat stand in it once.

    terms: name and values, in which what was not measured is None. failures: by row, the place of its reason.
    """
    names = dict.fromkeys(name for candidate in candidates for name in candidate.score.terms)
    failed = {row: _reason(candidate) for row, candidate in enumerate(candidates) if not candidate.score.ok}
    reasons = {reason: place for place, reason in enumerate(dict.fromkeys(failed.values()))}
    return {
        "generations": [candidate.generation + 1 for candidate in candidates],
        "numbers": [candidate.index + 1 for candidate in candidates],
        "terms": [[safe(name.replace("_", " ")), brief(term_of(c, name) for c in candidates)] for name in names],
        "reasons": list(reasons),
        "failures": {str(row): reasons[reason] for row, reason in failed.items()},
    }


def brief(values: Iterable[float | None]) -> list[float | None]:
    """Six digits, whole numbers without a point."""
    found = map(short, values)
    return [int(value) if value is not None and value.is_integer() and abs(value) < 1e15 else value for value in found]


def _reason(candidate: Candidate) -> str:
    return safe(f"{candidate.score.status}: {candidate.score.reason}")


def _place(candidate: Candidate) -> tuple[int, int]:
    return candidate.generation, candidate.index


def _first_whole(generations: Sequence[SearchGeneration]) -> int:
    """Number of the first generation that is drawn whole: all after it take up half of the dots, or less."""
    room, first = MOST // 2, generations[-1].number + 1
    for generation in reversed(generations):
        room -= len(generation.candidates)
        if room < 0:
            break
        first = generation.number
    return first


def _step(facts: SearchFacts) -> int:
    """One in so many of the earlier candidates is drawn."""
    start = _first_whole(facts.generations)
    early = sum(candidate.generation < start for candidate in facts.candidates)
    return math.ceil(early / (MOST - len(facts.candidates) + early))


def _kept(facts: SearchFacts) -> set[tuple[int, int]]:
    """Places of the candidates that are always drawn."""
    best = [_best(generation) for generation in facts.generations]
    return {_place(candidate) for candidate in (*facts.front, *best, facts.chosen) if candidate is not None}


def _best(generation: SearchGeneration) -> Candidate | None:
    usable = [one for one in generation.candidates if one.score.ok and term_of(one, "score") is not None]
    return max(usable, key=lambda one: term_of(one, "score") or 0.0, default=None)
