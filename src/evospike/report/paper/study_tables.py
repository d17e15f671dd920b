"""Tables for papers of a search (layout: methods 4.10) and of a ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evospike.evolution.population import Candidate
from evospike.report.formats import interval, signed
from evospike.report.paper.tables import Cell, Column, Table, counts, data_name, words
from evospike.report.paper.text import count_text, count_unit, number_text, share_text
from evospike.report.rank.facts import RankedScore, RankFacts
from evospike.report.search.facts import SearchFacts, term_of
from evospike.search.space import Space


def search_tables(facts: SearchFacts) -> list[Table]:
    """The architectures that no other beats, and what the search found."""
    found = []
    if facts.result is not None:
        found.append(found_table(facts, facts.result))
    chosen = [facts.chosen] if facts.chosen is not None else []
    best = [*chosen, *(one for one in facts.front if one not in chosen)]
    if best:
        found.append(architectures_table(facts, best))
    return found


def found_table(facts: SearchFacts, result: Mapping[str, Any]) -> Table:
    """The winner of every search, and their mean where there are several."""
    rows = [_found_row(str(seed.number), asdict(seed)) for seed in facts.seeds]
    note = "The winner of every search, scored on further draws where the search has finalists."
    if len(rows) > 1:
        rows.append(_found_row("mean", result))
        note += " The mean has half of its 95 % interval."
    names, scores, rates, sizes, operations = zip(*rows, strict=True)
    columns = (
        words("Seed", names),
        Column("Score", scores),
        Column("Firing rate", rates),
        Column("Param.", sizes),
        Column("Operations", operations),
    )
    return Table("search", f"What the search found on {data_name(facts)}.", columns, (note,))


def architectures_table(facts: SearchFacts, candidates: Sequence[Candidate]) -> Table:
    """Architecture, accuracy, parameters, steps (methods 4.10), and the scores they were chosen by."""
    space = Space(facts.recipe.space)
    genomes = [space.genome([int(value) for value in one.genotype.values]) for one in candidates]
    sizes, operations = (_terms(candidates, name) for name in ("parameters", "operations"))
    columns = (
        words("Architecture", [" ".join(cell.motif for cell in genome.cells) for genome in genomes]),
        Column("Accuracy (%)", [share_text(value) for value in _terms(candidates, "accuracy")]),
        Column("Score", [number_text(value, 6) for value in _terms(candidates, "score")]),
        counts("Param.", sizes),
        counts("Operations", operations),
        Column("T", [str(facts.recipe.model.steps)] * len(candidates)),
    )
    notes = (
        "Architecture: the motifs of the cells in order. The winner first, then the candidates that no other beats in "
        f"{' and '.join(name.replace('_', ' ') for name in facts.objectives)}. Scores are of the search's own draw.",
    )
    which = f", by the best of {len(facts.seeds)} searches" if len(facts.seeds) > 1 else ""
    return Table("architectures", f"Architectures found on {data_name(facts)}{which}.", columns, notes)


def rank_tables(facts: RankFacts) -> list[Table]:
    """Kendall's tau of every score."""
    return [taus_table(facts)] if facts.scores else []


def taus_table(facts: RankFacts) -> Table:
    """tau with its interval, and how much more it is than that of the controls."""
    scores = facts.scores
    columns = [
        words("Score", [score.name for score in scores]),
        Column("Kendall's τ", [signed(score.tau) for score in scores]),
        Column("95 % interval", [interval(score) for score in scores]),
    ]
    columns += [Column(f"minus {name}", [_against(score, name) for score in scores]) for name in facts.controls]
    notes = (
        f"{len(facts.usable):,} architectures. Differences are to the controls, which look at no spike, on the same "
        "resamples, with their 95 % intervals; n.s.: not significant, the interval covers zero.",
    )
    return Table("ranking", f"Scores against the accuracy on {data_name(facts)}.", tuple(columns), notes)


def _terms(candidates: Sequence[Candidate], name: str) -> list[float | None]:
    return [term_of(one, name) for one in candidates]


def _against(score: RankedScore, control: str) -> Cell:
    found = score.against.get(control)
    if found is None:
        return None
    return f"{signed(found.value)} ({interval(found)}){'' if found.significant else ' n.s.'}"


def _found_row(name: str, found: Mapping[str, Any]) -> tuple[Cell, ...]:
    """Name, score, firing rate, parameters and operations of one search, or of their mean."""
    score, half = number_text(found["score"], 6), number_text(found.get("interval"), 3)
    ones = count_unit(())
    return (
        name,
        score if score is None or half is None else f"{score} ± {half}",
        number_text(found.get("firing_rate")),
        count_text(found.get("parameters"), ones),
        count_text(found.get("operations"), ones),
    )
