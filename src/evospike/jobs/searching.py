"""The architecture searches of a run: genomes in, a front and a winner out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, mean
from typing import Any

from evospike.core.files import digest_json, digest_tensors
from evospike.core.progress import Bar, bar
from evospike.core.rng import stream_key
from evospike.core.settings import plain
from evospike.core.statistics import deviation, half_interval
from evospike.core.stopping import Stop
from evospike.evolution.evaluate import Arrival, EvaluateEach, evaluate_with
from evospike.evolution.failures import count_failures
from evospike.evolution.fitness import term
from evospike.evolution.ledger import Event
from evospike.evolution.population import PopulationResult, PopulationSearch
from evospike.evolution.records import FAILURES, Genotype, Request
from evospike.evolution.settings import MAXIMISED
from evospike.evolution.store import Store
from evospike.evolution.strategies.registry import make_population_strategy
from evospike.jobs.agreement import agree
from evospike.jobs.folder import RunFolder
from evospike.jobs.plan import candidate_quotas
from evospike.jobs.pool import pool
from evospike.jobs.recipe import Recipe
from evospike.jobs.scoring import architecture
from evospike.jobs.spaces import candidate_count, genome_variation
from evospike.jobs.workshop import Workshop
from evospike.models.counts import dense_parameters, macs_per_step
from evospike.search.motif import own_motifs

PROBES = "probe batches"
MOTIFS = "motifs of space.motif_file"
"""Names under which a search records the digests of the batches its candidates are shown, and motifs of a file."""


@dataclass(frozen=True)
class Found:
    """What one search of a run found. fresh: how many scores this sitting added to its record."""

    seed: int
    result: PopulationResult
    digest: str
    fresh: int

    def statuses(self) -> Iterator[str]:
        """Of all its scores, those of further draws included."""
        for one in self.result.candidates:
            yield one.score.status
        for finalist in self.result.finalists:
            yield from (score.status for score in finalist.scores)

    def measured(self, name: str) -> float:
        """A term of the winner: the mean over its further draws, where it was drawn again."""
        winner = self.result.winner
        drawn = [draw for one in self.result.finalists if one.candidate is winner for draw in one.scores if draw.ok]
        return fmean(term(score, name) for score in drawn or [winner.score])


def check_search(shop: Workshop) -> None:
    """Find out before a search begins that it can. Raises: MissingExtra without pymoo."""
    recipe = shop.recipe
    variation = genome_variation(recipe, shop.task.shape, len(shop.task.classes))
    make_population_strategy(variation, recipe.search.each, recipe.run.seed)


def search(shop: Workshop, run: RunFolder, stop: Stop, quiet: bool) -> dict[str, Any]:
    """Search as often as the recipe says, or go on with it, and say what was found.

    Raises: SettingsError for bounds nothing satisfies.
    """
    recipe = shop.recipe
    started = time.monotonic()
    with (
        bar("search", candidate_count(recipe), "scores", quiet=quiet) as shown,
        pool(shop, run, "score_genome") as executor,
    ):
        evaluate, show = evaluate_with(executor, stop.check), show_scores(shown, "score")
        found = [_search_once(shop, run, seed, evaluate, show) for seed in range(recipe.search.seeds)]
        for one in found:
            if one.result.notice:
                shown.note(f"notice: {one.result.notice}" + (f" (seed {one.seed})" if len(found) > 1 else ""))
    per_second = sum(one.fresh for one in found) / (time.monotonic() - started)
    return _document(shop, run, found, per_second)


def _search_once(
    shop: Workshop, run: RunFolder, seed: int, evaluate: EvaluateEach, show: Callable[[Event], None]
) -> Found:
    recipe = shop.recipe
    variation = genome_variation(recipe, shop.task.shape, len(shop.task.classes))
    with Store.open_or_create(run.store_path_of(seed)) as store:
        agree(store, PROBES, probe_digests(shop))
        agree_on_motifs(store, recipe)
        before = len(store.scores())
        root, drawn = root_of(recipe.run.seed, seed), with_own_draws(evaluate, seed)
        result = PopulationSearch(store, recipe.search.each, root, variation, drawn, show).run()
        agree_on_motifs(store, recipe)  # processes that began later read the file later
        return Found(seed, result, store.digest(), len(store.scores()) - before)


def root_of(root: int, seed: int) -> int:
    """Root of the genomes that one of several searches draws; the first keeps the run's own."""
    return stream_key(root, "search", seed) if seed else root


def with_own_draws(evaluate: EvaluateEach, seed: int) -> EvaluateEach:
    """The evaluation of one of several searches: it draws initial values under names of its own, but for the first."""
    if not seed:
        return evaluate

    suffix = ("search", seed)

    def own(requests: Sequence[Request]) -> list[Request]:
        return [replace(request, draw_key=(*request.draw_key, *suffix)) for request in requests]

    def evaluate_own(requests: Sequence[Request]) -> Iterator[Arrival]:
        asked = own(requests)
        for request, score, attempts in evaluate(asked):
            yield replace(request, draw_key=request.draw_key[: -len(suffix)]), score, attempts
            asked += own(requests[len(asked) :])

    return evaluate_own


def agree_on_motifs(store: Store, recipe: Recipe) -> None:
    """Refuse another file of motifs than candidates were drawn from. Records of this release hold its text instead."""
    if recipe.space.motif_file:
        agree(store, MOTIFS, [plain(motif) for motif in own_motifs(recipe.space)])


def probe_digests(shop: Workshop) -> list[str]:
    """Digests of the fixed batches, in order."""
    return [digest_tensors({"x": x.cpu()}) for x in shop.probe_batches]


def show_scores(shown: Bar, name: str) -> Callable[[Event], None]:
    """Moves a bar with every score that arrives or is recorded, and shows the most of one term so far."""
    most: float | None = None
    before = failed = 0  # scores of the batches that are complete, and those of candidates that failed

    def show(event: Event) -> None:
        nonlocal before, failed, most
        if event.kind == "score" and event.score is not None:
            value = event.score.terms.get(name)
            if event.score.ok and value is not None:
                most = value if most is None else max(most, value)
            failed += event.score.status in FAILURES
            best = {} if most is None else {"best": f"{most:.4g}"}
            shown.say(generation=str(event.generation), **best, **failed_fact(failed))
            shown.reach(before + event.done, replayed=event.replayed)
        elif event.kind in ("generation", "finalists"):
            before += event.total
            shown.reach(before, replayed=event.replayed)

    return show


def failed_fact(failed: int) -> dict[str, str]:
    """What a bar says of candidates that failed: nothing while there are none."""
    return {"failed": str(failed)} if failed else {}


def _document(shop: Workshop, run: RunFolder, found: Sequence[Found], per_second: float) -> dict[str, Any]:
    """The document that search prints: means over all searches, and of the best one the winner, as a network, and the
    front.

    The best has the best first objective; of a usual search, that is the score.
    """
    seeds = [_seed(shop, one) for one in found]
    best = found[_best([one.measured(shop.recipe.search.objectives[0]) for one in found], shop.recipe)]
    winner = best.result.winner
    scores = [one["score"] for one in seeds]
    rates = [one["firing_rate"] for one in seeds if one["firing_rate"] is not None]
    parameters = mean(one["parameters"] for one in seeds)
    return {
        "run": str(run.path),
        "recipe": shop.recipe.name,
        "score": fmean(scores),
        "score_std": deviation(scores),
        "interval": half_interval(scores),
        "test_accuracy": None,
        "parameters": parameters,
        "dense_parameters": parameters,
        "operations": mean(one["operations"] for one in seeds),
        "density": mean(one["density"] for one in seeds),
        "firing_rate": fmean(rates) if rates else None,
        "digest": best.digest if len(found) == 1 else digest_json([one.digest for one in found]),
        "candidates": seeds[best.seed]["candidates"],
        "draws": seeds[best.seed]["draws"],
        "failures": count_failures(status for one in found for status in one.statuses()),
        "candidates_per_second": round(per_second, 2),
        "winner_seed": best.seed,
        "winner": {
            "genome": seeds[best.seed]["winner"],
            "network": architecture(shop, winner.genotype.values).digest(),
            "terms": dict(winner.score.terms),
        },
        "front": [
            {"genome": _genome(shop, member.genotype), "terms": dict(member.score.terms)}
            for member in best.result.front
        ],
        "seeds": seeds,
    }


def _best(values: Sequence[float], recipe: Recipe) -> int:
    """Place of the best value of the first objective, the first of equals."""
    better = max if recipe.search.objectives[0] in MAXIMISED else min
    return values.index(better(values))


def _seed(shop: Workshop, found: Found) -> dict[str, Any]:
    """What one search found."""
    winner = found.result.winner
    spec = architecture(shop, winner.genotype.values)
    quotas = candidate_quotas(shop.recipe, spec).values()
    return {
        "seed": found.seed,
        "score": found.measured("score"),
        "parameters": dense_parameters(spec),
        "operations": macs_per_step(spec) * shop.recipe.model.steps,
        "density": sum(quota.count for quota in quotas) / sum(quota.weights for quota in quotas),
        "firing_rate": winner.score.terms.get("firing_rate"),
        "candidates": len(found.result.candidates),
        "draws": sum(len(one.scores) for one in found.result.finalists),
        "winner": _genome(shop, winner.genotype),
        "digest": found.digest,
    }


def _genome(shop: Workshop, genotype: Genotype) -> dict[str, Any]:
    values = tuple(int(value) for value in genotype.values)
    genome = json.loads(shop.space.genome(values).to_json())
    assert isinstance(genome, dict)
    return genome
