"""One evaluation of an architecture: decode a genome, build it untrained, score it; of a ranking, train it too."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean
from typing import get_args

from torch import Tensor

from evospike.core.errors import SettingsError
from evospike.core.rng import Name, stream
from evospike.evolution.records import Request, Score, Status
from evospike.jobs.brief import proxy_images, train_briefly
from evospike.jobs.memory import require_scoring_memory
from evospike.jobs.recipe import Recipe
from evospike.jobs.workshop import Workshop
from evospike.measure.accuracy import evaluate
from evospike.measure.dissimilarity import Dissimilarity, batch_statistics
from evospike.measure.expected_energy import energy_45nm
from evospike.measure.settings import DissimilaritySettings, Distance, Weighting
from evospike.models.counts import dense_parameters, macs_per_step
from evospike.models.spec import NetworkSpec
from evospike.search.decode import decode, edge_counts
from evospike.training.loop import Diverged

SILENT_BELOW = 1e-4
"""Mean firing rate of the neurons before the classifier below which an architecture counts as silent."""


CONTROLS = ("parameters", "operations", "random")
"""Scores that look at no spike."""

SPIKE_TERMS = ("firing_rate", "spikes", "energy")
"""Terms that need a scoring pass."""

SPIKE_SCORES = ("dissimilarity", "similarity", "firing_rate")
"""Scores that need a scoring pass."""

OPPOSITES = ("cosine", "pearson", "sahd_logdet")
"""Distances whose opposite, similarity, a ranking compares as well: those that do not grow with the spikes."""


@dataclass(frozen=True)
class Health:
    """Whether a network can be ranked, and why not."""

    status: Status = "ok"
    reason: str = ""


@dataclass(frozen=True)
class Probed:
    """What the scoring pass of an untrained network saw: a score per form of dissimilarity, and its spikes.

    rates: spikes per unit and step of every neuron layer, mean over batches. spikes_per_sample: S of methods 1.8.
    """

    scores: dict[DissimilaritySettings, float]
    rates: dict[str, float]
    firing_rate: float
    spikes_per_sample: float
    finite: bool


def architecture(shop: Workshop, values: Sequence[float]) -> NetworkSpec:
    """The network that a genome's integers stand for, on the run's data."""
    genome = shop.space.genome(tuple(int(value) for value in values))
    return decode(genome, shop.task.shape, len(shop.task.classes), events=shop.recipe.data.records_events)


def score_architecture(shop: Workshop, request: Request) -> Score:
    """Score the genome of a request as the recipe says; never raises for a bad architecture."""
    started = time.monotonic()
    spec = architecture(shop, request.genotype.values)
    if refused := _too_large(shop, spec, ranking=False):
        return Score("refused", refused, static_terms(shop, spec), time.monotonic() - started)
    try:
        terms, health = _measure(shop, spec, request.draw_key)
    except Diverged as error:
        return Score("diverged", str(error), {}, time.monotonic() - started)
    except SettingsError as error:  # it cannot have the recipe's density
        return Score("refused", str(error), static_terms(shop, spec), time.monotonic() - started)
    return Score(health.status, health.reason, terms, time.monotonic() - started)


def images_at_once(recipe: Recipe, samples: int, *, ranking: bool) -> tuple[int, int]:
    """How many of so many images are in a batch of a scoring pass, and of a short training; 0 where there is none."""
    trains = ranking or recipe.scoring.score == "training"
    shown = min(recipe.dissimilarity.batch, samples) if ranking or needs_spikes(recipe) else 0
    return shown, min(recipe.scoring.samples or samples, samples, recipe.training.batch) if trains else 0


def needs_spikes(recipe: Recipe) -> bool:
    """Whether a search looks at spikes of its untrained candidates."""
    scoring, objectives = recipe.scoring, recipe.search.objectives
    return scoring.score in SPIKE_SCORES or bool(scoring.max_spikes) or bool(set(objectives) & set(SPIKE_TERMS))


def _too_large(shop: Workshop, spec: NetworkSpec, *, ranking: bool) -> str:
    """Why an architecture cannot be scored in the memory there is, told before it is built; empty where it may be."""
    images = images_at_once(shop.recipe, len(shop.task.train), ranking=ranking)
    try:
        require_scoring_memory(shop.recipe, spec, shop.plan.device, *images)
    except SettingsError as error:
        return str(error)
    return ""


def static_terms(shop: Workshop, spec: NetworkSpec) -> dict[str, float]:
    """What is known without running a network: trainable numbers, and multiply-accumulates of one sample."""
    return {
        "parameters": float(dense_parameters(spec)),
        "operations": float(macs_per_step(spec) * shop.recipe.model.steps),
    }


def control_scores(shop: Workshop, spec: NetworkSpec) -> dict[str, float]:
    """Scores that look at no spike: what any other score has to beat."""
    known = static_terms(shop, spec)
    chance = stream(shop.recipe.run.seed, "random score", spec.digest()).random()
    return {"parameters": known["parameters"], "operations": known["operations"], "random": float(chance)}


def _measure(shop: Workshop, spec: NetworkSpec, key: tuple[Name, ...]) -> tuple[dict[str, float], Health]:
    recipe, scoring = shop.recipe, shop.recipe.scoring
    terms, health = static_terms(shop, spec), Health()
    wanted = recipe.dissimilarity
    if needs_spikes(recipe):
        probed = probe(shop, spec, key, [wanted])
        terms |= spike_terms(shop, spec, probed)
        terms["dissimilarity"] = probed.scores[wanted]
        health = health_of(spec, probed, scoring.max_spikes)
    if scoring.score == "training" and health.status == "ok":
        terms |= trained_terms(shop, spec, key)
    terms["score"] = _score_among(shop, spec, terms)
    return terms, health


def _score_among(shop: Workshop, spec: NetworkSpec, terms: Mapping[str, float]) -> float:
    """The number that the recipe calls the score; 0 for a training that did not take place."""
    name = shop.recipe.scoring.score
    if name in CONTROLS:
        return control_scores(shop, spec)[name]
    if name == "similarity":
        return -terms["dissimilarity"]
    return terms.get("accuracy" if name == "training" else name, 0.0)


def probe(shop: Workshop, spec: NetworkSpec, key: tuple[Name, ...], forms: Sequence[DissimilaritySettings]) -> Probed:
    """Show every fixed batch to an untrained network, each time under initial values of its own."""
    seen = [_compare(shop, spec, x, (*key, repeat), forms) for repeat, x in enumerate(shop.probe_batches)]
    first = [measures[forms[0]] for measures in seen]
    return Probed(
        scores={form: fmean(measures[form].score() for measures in seen) for form in forms},
        rates={name: fmean(one.rates()[name] for one in first) for name in first[0].rates()},
        firing_rate=fmean(one.firing_rate() for one in first),
        spikes_per_sample=fmean(one.spikes_per_sample() for one in first),
        finite=all(one.count.finite for one in first),
    )


def _compare(
    shop: Workshop, spec: NetworkSpec, x: Tensor, key: tuple[Name, ...], forms: Sequence[DissimilaritySettings]
) -> dict[DissimilaritySettings, Dissimilarity]:
    net = shop.stored_network(spec, key)
    measures = {form: Dissimilarity(form.distance, layer_weights(spec, form.weighting)) for form in forms}

    def observe(name: str, spikes: Tensor, potential: Tensor) -> None:
        for measure in measures.values():
            measure(name, spikes, potential)

    net.observer = observe
    with batch_statistics(net):
        net(x)
    return measures


def layer_weights(spec: NetworkSpec, weighting: Weighting) -> dict[str, float]:
    """How much each neuron layer counts in the mean (`DissimilaritySettings.weighting`)."""
    if weighting == "edges":
        return {name: float(count) for name, count in edge_counts(spec).items()}
    neurons = [node.name for node in spec.nodes if node.op == "neuron"]
    return {name: float(place) if weighting == "depth" else 1.0 for place, name in enumerate(neurons, 1)}


def spike_terms(shop: Workshop, spec: NetworkSpec, probed: Probed) -> dict[str, float]:
    """Firing rate, spikes of a sample, and picojoules of a sample in the 45 nm model."""
    return {
        "firing_rate": probed.firing_rate,
        "spikes": probed.spikes_per_sample,
        "energy": energy_45nm(spec, probed.rates, shop.recipe.model.steps),
    }


def trained_terms(shop: Workshop, spec: NetworkSpec, key: tuple[Name, ...]) -> dict[str, float]:
    """Validation accuracy and loss after a short training."""
    net = shop.stored_network(spec, key)
    images = proxy_images(shop, shop.recipe.scoring.samples)
    history = train_briefly(net, shop, images, shop.recipe.scoring.epochs, key)
    seen = evaluate(net, shop.batches(shop.task.validation), count_spikes=False)
    return {"accuracy": seen.accuracy, "validation_loss": seen.loss, "loss": history[-1]["loss"]}


def health_of(spec: NetworkSpec, probed: Probed, max_spikes: int = 0) -> Health:
    """A network is silent when the neurons before its classifier are; single quiet populations are its own affair."""
    if not probed.finite:
        return Health("diverged", "a membrane potential is not finite in the scoring pass")
    last = spec.last_neuron
    rate = probed.rates[last]
    if rate < SILENT_BELOW:
        return Health("silent", f"'{last}', before the classifier, fires at rate {rate:.1e}, below {SILENT_BELOW:.0e}")
    if max_spikes and probed.spikes_per_sample > max_spikes:
        return Health("refused", f"{probed.spikes_per_sample:,.0f} spikes a sample exceed max_spikes = {max_spikes:,}")
    return Health()


def all_forms(shop: Workshop) -> dict[str, DissimilaritySettings]:
    """Every form of dissimilarity by the name of its score; the released code's is `hamming`."""
    own = shop.recipe.dissimilarity
    return {
        distance if weighting == "edges" else f"{distance}, {weighting}": replace(
            own, distance=distance, weighting=weighting
        )
        for distance, weighting in product(get_args(Distance), get_args(Weighting))
    }


def opposites(forms: Mapping[str, DissimilaritySettings]) -> dict[str, str]:
    """Names of the similarities that a ranking compares, and of the dissimilarities they are the opposites of."""
    return {f"similarity ({name})": name for name, form in forms.items() if form.distance in OPPOSITES}


def rank_architecture(shop: Workshop, request: Request) -> Score:
    """Every score of one architecture, and its accuracy after short trainings; never raises for a bad one."""
    started = time.monotonic()
    spec = architecture(shop, request.genotype.values)
    if refused := _too_large(shop, spec, ranking=True):
        return Score("refused", refused, static_terms(shop, spec), time.monotonic() - started)
    forms = all_forms(shop)
    probed = probe(shop, spec, request.draw_key, list(forms.values()))
    terms = static_terms(shop, spec) | spike_terms(shop, spec, probed) | control_scores(shop, spec)
    scores = {name: probed.scores[form] for name, form in forms.items()}
    terms |= scores | {opposite: -scores[name] for opposite, name in opposites(forms).items()}
    health = health_of(spec, probed)
    try:
        trained = [
            trained_terms(shop, spec, (*request.draw_key, "training", seed)) for seed in range(shop.recipe.rank.seeds)
        ]
    except Diverged as error:
        return Score("diverged", str(error), {}, time.monotonic() - started)
    except SettingsError as error:  # as above
        return Score("refused", str(error), static_terms(shop, spec), time.monotonic() - started)
    terms |= {name: fmean(one[name] for one in trained) for name in trained[0]}
    return Score(health.status, health.reason, terms, time.monotonic() - started)
