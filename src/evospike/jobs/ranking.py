"""How well scores order architectures: Kendall's tau against the accuracy of a short training, with intervals."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from evospike.core.errors import RunError
from evospike.core.progress import bar
from evospike.core.rng import stream
from evospike.core.stopping import Stop
from evospike.evolution.evaluate import evaluate_with
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.ledger import Ledger
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.folder import RunFolder
from evospike.jobs.scoring import (
    architecture,
    control_scores,
    health_of,
    probe,
    spike_terms,
    static_terms,
    trained_terms,
)
from evospike.jobs.searching import PROBES, agree, genome_variation, probe_digests, show_scores
from evospike.jobs.workshop import Workshop, as_context
from evospike.measure.settings import DissimilaritySettings, Distance, Weighting
from evospike.training.loop import Diverged

CONTROLS = ("parameters", "operations", "random")
"""Scores that look at no spike."""

ACCURACY = "accuracy"
MOST_TRIES = 100
"""Samples drawn for one further architecture that is not there yet."""

Values = NDArray[np.float64]


def rank(shop: Workshop, run: RunFolder, stop: Stop, quiet: bool) -> dict[str, Any]:
    """Score and briefly train random architectures of the recipe's space; compare every score with the accuracies."""
    settings = shop.recipe.rank
    genotypes = sample_genotypes(shop, settings.genomes)
    context = as_context(shop.recipe, shop.plan, str(run.path))
    with (
        Store.open_or_create(run.store_path) as store,
        bar("rank", len(genotypes), "architectures", quiet=quiet) as shown,
        LocalExecutor(shop.recipe.run.workers, shop.plan.threads, "evospike.jobs.workers:rank", context) as executor,
    ):
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


def all_forms(shop: Workshop) -> dict[str, DissimilaritySettings]:
    """Every form of dissimilarity by the name of its score; the released code's is `hamming`."""
    own = shop.recipe.dissimilarity
    return {
        distance if weighting == "edges" else f"{distance}, {weighting}": DissimilaritySettings(
            distance=distance, weighting=weighting, repeats=own.repeats, batch=own.batch
        )
        for distance, weighting in product(get_args(Distance), get_args(Weighting))
    }


def rank_architecture(shop: Workshop, request: Request) -> Score:
    """Every score of one architecture, and its accuracy after short trainings; never raises for a bad one."""
    started = time.monotonic()
    spec = architecture(shop, request.genotype.values)
    forms = all_forms(shop)
    probed = probe(shop, spec, request.draw_key, list(forms.values()))
    terms = static_terms(shop, spec) | spike_terms(shop, spec, probed) | control_scores(shop, spec)
    terms |= {name: probed.scores[form] for name, form in forms.items()}
    health = health_of(spec, probed)
    try:
        trained = [
            trained_terms(shop, spec, (*request.draw_key, "training", seed)) for seed in range(shop.recipe.rank.seeds)
        ]
    except Diverged as error:
        return Score("diverged", str(error), {}, time.monotonic() - started)
    terms |= {name: fmean(one[name] for one in trained) for name in trained[0]}
    return Score(health.status, health.reason, terms, time.monotonic() - started)


def kendall_tau(x: Values, y: Values) -> float:
    """Kendall's tau-b of two rows of numbers, in -1..1; 0 when one of them is constant."""
    return float(_taus(_signs(x), _signs(y), np.arange(len(x))[None])[0])


def _signs(x: Values) -> Values:
    """(n, n): which of every two is larger."""
    return np.sign(x[:, None] - x[None, :])


def _taus(a: Values, b: Values, samples: NDArray[np.int64]) -> Values:
    """tau-b of two sign matrices on every row of indices (R, n), which may repeat."""
    taus = []
    for rows in samples:
        x, y = a[np.ix_(rows, rows)], b[np.ix_(rows, rows)]
        norm = np.sqrt((x * x).sum() * (y * y).sum())
        taus.append((x * y).sum() / norm if norm else 0.0)
    return np.array(taus)


def compare_scores(
    accuracy: Sequence[float], scores: Mapping[str, Sequence[float]], *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """tau of every score against the accuracies, best first, with 95 % percentile intervals of a bootstrap over
    architectures; for scores that are no control, the paired difference to each control on the same resamples."""
    n = len(accuracy)
    samples = stream(seed, "bootstrap").integers(0, n, (resamples, n))
    truth = _signs(np.asarray(accuracy, float))
    signs = {name: _signs(np.asarray(values, float)) for name, values in scores.items()}
    everything = np.arange(n)[None]
    whole = {name: float(_taus(own, truth, everything)[0]) for name, own in signs.items()}
    drawn = {name: _taus(own, truth, samples) for name, own in signs.items()}
    rows = []
    for name in sorted(whole, key=lambda name: -whole[name]):
        row: dict[str, Any] = {"score": name, "tau": whole[name], "interval": _interval(drawn[name])}
        if name not in CONTROLS:
            row["against"] = {
                control: {
                    "difference": whole[name] - whole[control],
                    "interval": _interval(drawn[name] - drawn[control]),
                }
                for control in CONTROLS
                if control in whole
            }
        rows.append(row)
    return rows


def _interval(values: Values) -> list[float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return [float(low), float(high)]


def _document(shop: Workshop, run: RunFolder, scores: Sequence[Score], digest: str) -> dict[str, Any]:
    usable = [score.terms for score in scores if score.ok]
    if len(usable) < 3:
        raise RunError(f"only {len(usable)} of {len(scores)} architectures could be scored and trained; see the report")
    accuracy = [_number(terms, ACCURACY) for terms in usable]
    compared = {name: [_number(terms, name) for terms in usable] for name in (*all_forms(shop), *CONTROLS)}
    settings = shop.recipe.rank
    return {
        "run": str(run.path),
        "recipe": shop.recipe.name,
        "architectures": len(usable),
        "unusable": len(scores) - len(usable),
        "accuracy": {"least": min(accuracy), "mean": fmean(accuracy), "most": max(accuracy)},
        "scores": compare_scores(accuracy, compared, resamples=settings.resamples, seed=shop.recipe.run.seed),
        "digest": digest,
    }


def _number(terms: Mapping[str, float | None], name: str) -> float:
    value = terms[name]
    assert value is not None
    return value
