"""The architecture search of a run: genomes in, a front and a winner out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import fmean
from typing import Any

from evospike.core.files import digest_tensors
from evospike.core.progress import Bar, bar
from evospike.core.settings import plain
from evospike.core.stopping import Stop
from evospike.evolution.evaluate import evaluate_with
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.fitness import term
from evospike.evolution.ledger import Event
from evospike.evolution.population import PopulationResult, PopulationSearch
from evospike.evolution.records import Genotype
from evospike.evolution.store import Store
from evospike.jobs.agreement import agree
from evospike.jobs.folder import RunFolder
from evospike.jobs.recipe import Recipe
from evospike.jobs.scoring import architecture
from evospike.jobs.spaces import candidate_count, genome_variation
from evospike.jobs.workshop import Workshop, as_context
from evospike.models.counts import dense_parameters, macs_per_step
from evospike.search.motif import read_motifs
from evospike.search.space import Space

PROBES = "probe batches"
"""Name under which a search records the digests of the batches its candidates are shown."""

MOTIFS = "motifs of space.motif_file"
"""Name under which a search records the motifs that do not come with evospike."""


def search(shop: Workshop, run: RunFolder, stop: Stop, quiet: bool) -> dict[str, Any]:
    """Search, or go on with a search, and say what was found. Raises: SettingsError for bounds nothing satisfies."""
    settings, total = shop.recipe.search, candidate_count(shop.recipe)
    context = as_context(shop.recipe, shop.plan, str(run.path))
    variation = genome_variation(shop.recipe, shop.task.shape, len(shop.task.classes))
    started = time.monotonic()
    with Store.open_or_create(run.store_path) as store, bar("search", total, "candidates", quiet=quiet) as shown:
        agree(store, PROBES, probe_digests(shop))
        agree(store, MOTIFS, motif_definitions(shop.recipe))
        before = len(store.scores())
        workers = shop.recipe.run.workers
        with LocalExecutor(workers, shop.plan.threads, "evospike.jobs.workers:score_genome", context) as executor:
            evaluate = evaluate_with(executor, stop.check)
            engine = PopulationSearch(
                store, settings, shop.recipe.run.seed, variation, evaluate, show_scores(shown, "score")
            )
            result = engine.run()
        if result.notice:
            shown.note(f"notice: {result.notice}")
        seconds = time.monotonic() - started
        speed = (len(store.scores()) - before) / seconds
        return _document(shop, run, result, store.digest(), speed)


def motif_definitions(recipe: Recipe) -> list[Any]:
    """The motifs that come from a file of the user's, as plain values: what a genome's numbers mean depends on them."""
    path = recipe.space.motif_file
    return [plain(motif) for motif in read_motifs(path)] if path else []


def probe_digests(shop: Workshop) -> list[str]:
    """Digests of the fixed batches, in order."""
    return [digest_tensors({"x": x.cpu()}) for x in shop.probe_batches]


def show_scores(shown: Bar, name: str) -> Callable[[Event], None]:
    """Moves a bar with every score that arrives, and shows the most of one term so far."""
    most: float | None = None
    done = 0

    def show(event: Event) -> None:
        nonlocal done, most
        if event.kind == "score" and event.score is not None:
            done += 1
            value = event.score.terms.get(name)
            if event.score.ok and value is not None:
                most = value if most is None else max(most, value)
                shown.say(generation=str(event.generation), best=f"{most:.4g}")
            shown.reach(done)
        elif event.replayed:
            done += event.total
            shown.reach(done)

    return show


def _document(
    shop: Workshop, run: RunFolder, result: PopulationResult, digest: str, per_second: float
) -> dict[str, Any]:
    """The document that search prints: the winner as a network, the front, and how fast it went."""
    winner = result.winner
    spec = architecture(shop, winner.genotype.values)
    drawn = [draw for finalist in result.finalists if finalist.candidate is winner for draw in finalist.scores]
    values = [term(draw, "score") for draw in drawn if draw.ok] or [term(winner.score, "score")]
    return {
        "run": str(run.path),
        "recipe": shop.recipe.name,
        "score": fmean(values),
        "test_accuracy": None,
        "parameters": dense_parameters(spec),
        "dense_parameters": dense_parameters(spec),
        "operations": macs_per_step(spec) * shop.recipe.model.steps,
        "density": 1.0,
        "firing_rate": winner.score.terms.get("firing_rate"),
        "digest": digest,
        "candidates": sum(len(generation.genotypes) for generation in result.history),
        "candidates_per_second": round(per_second, 2),
        "winner": {
            "genome": _genome(shop, winner.genotype),
            "network": spec.digest(),
            "terms": dict(winner.score.terms),
        },
        "front": [
            {"genome": _genome(shop, member.genotype), "terms": dict(member.score.terms)} for member in result.front
        ],
    }


def _genome(shop: Workshop, genotype: Genotype) -> dict[str, Any]:
    values = tuple(int(value) for value in genotype.values)
    genome = json.loads(Space(shop.recipe.space).genome(values).to_json())
    assert isinstance(genome, dict)
    return genome
