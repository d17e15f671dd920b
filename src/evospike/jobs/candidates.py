"""One evaluation of the evolution, or several at once: draw a network at a genotype's spreads, train it, score it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from evospike.core.limits import memory_ran_out
from evospike.core.progress import tell
from evospike.data.task import ImageSet
from evospike.evolution.executors.worker import one_line
from evospike.evolution.records import LOG, Request, Score, Status
from evospike.genetic.encoding import GenePool
from evospike.genetic.regularisers import (
    entropy_ratio,
    entropy_scaled,
    spatial_entropy,
    temporal_difference,
)
from evospike.genetic.wiring import ENCODING, GENES, stage_names
from evospike.jobs.brief import Epochs, proxy_images, train_briefly, train_briefly_together
from evospike.jobs.workshop import Workshop
from evospike.measure.accuracy import evaluate
from evospike.measure.spikes import SpikeCount, counting
from evospike.models.network import Network
from evospike.training.loop import Diverged

SILENT_BELOW = 1e-4
"""Mean firing rate of any layer below which a candidate counts as silent (methods 3.10)."""

PROBE_BATCH = 128
"""Images of the fixed batch on which the temporal term and the firing rates are read."""

PREFIX = f"{LOG}spread of "


def dimension_names(shop: Workshop) -> list[str]:
    """What the strategy varies: log10 of the spread of all encodings (or of each stage's), and of the genes if any."""
    encodings = [ENCODING]
    if shop.recipe.evolution.spreads == "stage":
        with torch.device("meta"):
            encodings = [f"{ENCODING}.{stage}" for stage in stage_names(shop.bare_network("genetic"))]
    genes = [] if shop.recipe.encoding.kind == "low_rank" else [GENES]
    return [f"{PREFIX}{name}" for name in (*encodings, *genes)]


def spreads_of(genotype: Mapping[str, float]) -> dict[str, float]:
    """The spreads of a genotype, as `genetic.wiring.draw` takes them."""
    return {name.removeprefix(PREFIX): 10.0**value for name, value in genotype.items()}


def proxy_set(shop: Workshop) -> ImageSet:
    """The fixed images all candidates train on."""
    return proxy_images(shop, shop.recipe.evolution.proxy_samples)


def score_candidate(shop: Workshop, request: Request) -> Score:
    """Train a candidate on the proxy set and read every term raw; never raises for a bad candidate."""
    return _scored(functools.partial(_measure, shop, request))


def score_candidates(shop: Workshop, requests: Sequence[Request]) -> list[Score]:
    """Scores of several candidates, in their order, trained together; never raises for a bad one.

    Each has its share of the common training's seconds. Candidates that cannot be trained together, because there is
    too little memory for it or for whatever reason, are trained one after the other, and a notice says so.
    """
    started, images = time.monotonic(), proxy_set(shop)
    trained = _trained_together(shop, requests, images) if len(requests) > 1 else None
    if trained is None:
        return [_scored_in_any_case(functools.partial(_measure, shop, request)) for request in requests]
    share = (time.monotonic() - started) / len(requests)
    return [_scored_in_any_case(functools.partial(_judge, shop, one, images), share) for one in trained]


@dataclass(frozen=True)
class _Health:
    status: Status
    reason: str = ""


_Found = tuple[dict[str, float], _Health]


@dataclass(frozen=True)
class _Candidate:
    """A candidate that was trained. entropy: its spatial term before that. end: its history, or why it has none."""

    net: Network
    entropy: float
    end: Epochs | Diverged


def _scored(measure: Callable[[], _Found], seconds: float = 0.0) -> Score:
    """What `measure` finds; that it diverged is a status. seconds: spent on it before."""
    started = time.monotonic() - seconds
    try:
        terms, health = measure()
    except Diverged as error:
        return Score("diverged", str(error), {}, time.monotonic() - started)
    return Score(health.status, health.reason, terms, time.monotonic() - started)


def _scored_in_any_case(measure: Callable[[], _Found], seconds: float = 0.0) -> Score:
    """The same for one of several: its failure must not take the others with it, unless memory ran out, of which they
    all had their part.
    """
    try:
        return _scored(measure, seconds)
    except Exception as error:
        if memory_ran_out(error):
            raise
        return Score("error", one_line(error), {}, seconds)


def _trained_together(shop: Workshop, requests: Sequence[Request], images: ImageSet) -> list[_Candidate] | None:
    """The candidates after their common training; None, and nothing is held any more, when there can be none."""
    epochs, keys = shop.recipe.evolution.proxy_epochs, [request.draw_key for request in requests]
    try:
        nets = [_drawn(shop, request) for request in requests]
        entropies = [_entropy(net, shop) for net in nets]
        ends = train_briefly_together(nets, shop, images, epochs, keys)
    except Exception as error:
        tell(f"{len(requests)} candidates are trained one after the other ({one_line(error)})")
        return None
    return [_Candidate(*parts) for parts in zip(nets, entropies, ends, strict=True)]


def _measure(shop: Workshop, request: Request) -> _Found:
    net = _drawn(shop, request)
    entropy = _entropy(net, shop)
    images = proxy_set(shop)
    history = train_briefly(net, shop, images, shop.recipe.evolution.proxy_epochs, request.draw_key)
    return _judge(shop, _Candidate(net, entropy, history), images)


def _drawn(shop: Workshop, request: Request) -> Network:
    return shop.network("genetic", request.draw_key, spreads_of(request.genotype.as_mapping()))


def _judge(shop: Workshop, candidate: _Candidate, images: ImageSet) -> _Found:
    """The terms of a trained candidate. Raises: Diverged."""
    net, entropy, end = candidate.net, candidate.entropy, candidate.end
    if isinstance(end, Diverged):
        raise end
    if shop.recipe.evolution.entropy_when == "after":
        entropy = _entropy(net, shop)
    scores, spikes = _probe(net, shop, images)
    terms = {
        "loss": end[-1]["loss"],
        "temporal": _temporal(scores, spikes, shop),
        "entropy": entropy,
        "firing_rate": spikes.firing_rate(),
    }
    if len(shop.task.validation):
        seen = evaluate(net, shop.batches(shop.task.validation), count_spikes=False)
        terms |= {"validation_loss": seen.loss, "validation_accuracy": seen.accuracy}
    else:
        terms["validation_loss"] = terms["loss"]
    return terms, _health(spikes, _watched(shop, spikes))


@torch.no_grad()
def _probe(net: Network, shop: Workshop, images: ImageSet) -> tuple[Tensor, SpikeCount]:
    """Class scores over time and spikes on the fixed batch, in eval mode."""
    first = images.subset(torch.arange(min(PROBE_BATCH, len(images))))
    net.eval()
    with counting(net) as spikes:
        ((x, _labels),) = shop.batches(first, len(first))
        return net(x), spikes


def _temporal(scores: Tensor, spikes: SpikeCount, shop: Workshop) -> float:
    form = shop.recipe.evolution.temporal_form
    if form == "spikes":
        return spikes.mean_change()
    return float(temporal_difference(scores, form))


def _entropy(net: Network, shop: Workshop) -> float:
    """The spatial term: more is better in every form."""
    pool = net.gene_pool
    assert isinstance(pool, GenePool)
    settings = shop.recipe.evolution
    genes = pool.interaction.detach()
    if settings.entropy_form == "gap":
        return float(spatial_entropy(genes, settings.entropy_normalise))
    form = entropy_ratio if settings.entropy_form == "ratio" else entropy_scaled
    return float(form(genes, settings.entropy_normalise))


def _watched(shop: Workshop, spikes: SpikeCount) -> dict[str, float]:
    """Rates that must not vanish: of every layer, but of a searched architecture, in which populations may be kept
    silent by others, of the last one only."""
    rates = spikes.layer_rates()
    last = shop.spec.last_neuron
    return {last: rates[last]} if shop.recipe.model.genome else rates


def _health(spikes: SpikeCount, rates: Mapping[str, float]) -> _Health:
    if not spikes.finite:
        return _Health("diverged", "a membrane potential is not finite on the probe batch")
    quiet = [name for name, rate in rates.items() if rate < SILENT_BELOW]
    if quiet:
        return _Health("silent", f"layer '{quiet[0]}' fires at rate {rates[quiet[0]]:.1e}, below {SILENT_BELOW:.0e}")
    return _Health("ok")
