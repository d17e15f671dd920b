"""How well scores order architectures: Kendall's tau against the accuracy of a short training, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from evospike.core.errors import RunError, SettingsError, StoreError
from evospike.core.progress import bar
from evospike.core.rng import stream
from evospike.core.stopping import Stop
from evospike.evolution.evaluate import evaluate_with
from evospike.evolution.failures import count_failures, most_common
from evospike.evolution.ledger import Ledger
from evospike.evolution.records import Genotype, Score
from evospike.evolution.store import Store
from evospike.jobs.agreement import agree
from evospike.jobs.folder import RunFolder
from evospike.jobs.pool import pool
from evospike.jobs.scoring import CONTROLS, SPIKE_TERMS, all_forms, architecture, opposites
from evospike.jobs.searching import PROBES, agree_on_motifs, probe_digests, show_scores
from evospike.jobs.spaces import genome_variation, require_structures
from evospike.jobs.workshop import Workshop
from evospike.measure.agreement import compare_scores

ACCURACY = "accuracy"
FEWEST = 3
"""Architectures that can be ranked."""

MOST_TRIES = 100
"""Samples drawn for one further architecture that is not there yet."""


def rank(shop: Workshop, run: RunFolder, stop: Stop, quiet: bool) -> dict[str, Any]:
    """Score and briefly train random architectures of the recipe's space; compare every score with the accuracies."""
    settings = shop.recipe.rank
    if not len(shop.task.validation):
        raise SettingsError("scores are compared with accuracies on validation images; set data.validation above 0")
    genotypes = sample_genotypes(shop, settings.genomes)
    require_structures(shop.recipe, [architecture(shop, one.values) for one in genotypes], FEWEST)
    with (
        Store.open_or_create(run.store_path) as store,
        bar("rank", len(genotypes), "architectures", quiet=quiet) as shown,
        pool(shop, run, "rank") as executor,
    ):
        agree_on_motifs(store, shop.recipe)
        agree(store, PROBES, probe_digests(shop))
        ledger = Ledger(store, evaluate_with(executor, stop.check), show_scores(shown, ACCURACY), "numpy or torch")
        ledger.open({"genomes": settings.genomes, "seed": shop.recipe.run.seed})
        scores = ledger.score_generation(0, genotypes, ("rank",))
        return _document(shop, run, scores, store.digest())


def sample_genotypes(shop: Workshop, count: int) -> tuple[Genotype, ...]:
    """Distinct random architectures within the recipe's bounds. Raises: RunError when there are not as many."""
    variation = genome_variation(shop.recipe, shop.task.shape, len(shop.task.classes))
    rng = stream(shop.recipe.run.seed, "rank")
    found: dict[str, Genotype] = {}
    for _ in range(count * MOST_TRIES):
        vector = variation.sample(rng)
        found.setdefault(variation.key(vector), Genotype(variation.names, vector))
        if len(found) == count:
            return tuple(found.values())
    raise RunError(f"the space holds hardly more than {len(found)} architectures within the bounds; lower rank.genomes")


def _document(shop: Workshop, run: RunFolder, scores: Sequence[Score], digest: str) -> dict[str, Any]:
    usable = [score.terms for score in scores if score.ok]
    if len(usable) < FEWEST:
        raise RunError(
            f"only {len(usable)} of {len(scores)} architectures could be scored and trained, {FEWEST} are needed; most "
            f"often: {most_common(scores)}; mend that or raise rank.genomes, then start a new run folder"
        )
    accuracy = [_number(terms, ACCURACY) for terms in usable]
    forms = all_forms(shop)
    names = (*forms, *opposites(forms), *SPIKE_TERMS, *CONTROLS)
    compared = {name: [_number(terms, name) for terms in usable] for name in names}
    rng = stream(shop.recipe.run.seed, "bootstrap")
    ranked = compare_scores(accuracy, compared, CONTROLS, resamples=shop.recipe.rank.resamples, rng=rng)
    return {
        "run": str(run.path),
        "recipe": shop.recipe.name,
        "architectures": len(usable),
        "unusable": len(scores) - len(usable),
        "failures": count_failures(score.status for score in scores),
        "accuracy": {"least": min(accuracy), "mean": fmean(accuracy), "most": max(accuracy)},
        "scores": ranked,
        "digest": digest,
    }


def _number(terms: Mapping[str, float | None], name: str) -> float:
    """A term of a usable score. Raises: StoreError where a record that was altered lacks it."""
    value = terms.get(name)
    if value is None:
        raise StoreError(f"a score in the record of the run lacks '{name}'; the file was altered, start a new run")
    return value
