"""What a candidate of an architecture search costs: its forward pass, its distance matrices, and all of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from evospike.bench.case import LIMIT, OURS, Case, Circumstances, Contestant
from evospike.bench.cases.genetic import best_path, random_spikes
from evospike.bench.cases.networks import when_asked
from evospike.bench.timing import timed
from evospike.jobs.recipe import read_recipe

if TYPE_CHECKING:
    from torch import Tensor

    from evospike.evolution.records import Request
    from evospike.jobs.workshop import Workshop

    Run = Callable[[Workshop], Callable[[], object]]
    """From a workshop to one repetition."""

CANDIDATES = 2
"""Random architectures; a repetition is the mean over them."""

BATCH, QUICK_BATCH, DIGITS_BATCH = 128, 16, 64
STEPS, CELLS, CHANNELS = 4, 6, 16
WIDE = {"space": {"cells": CELLS, "channels": CHANNELS}, "model": {"steps": STEPS}}
"""Fields of `cifar10-search` for a candidate of the reference size."""

LAYERS: tuple[tuple[int, int], ...] = ((16, 32), (48, 32), (32, 16), (64, 8))
"""Channels and side of neuron layers of a candidate with 16 channels; its stem is three times as wide."""


def scoring(circumstances: Circumstances) -> Iterator[Contestant]:
    """A candidate's forward pass, all of it, and the matrices of some layers in two ways, in milliseconds."""
    batch = QUICK_BATCH if circumstances.quick else BATCH
    wide = functools.partial(search_workshop, "cifar10-search", batch, circumstances, WIDE)
    digits = functools.partial(search_workshop, "digits-search", DIGITS_BATCH, circumstances)
    candidates: Sequence[tuple[str, str, Run, Callable[[], Workshop]]] = (
        ("forward passes alone", LIMIT, forward_passes, wide),
        ("score of a candidate", OURS, scores, wide),
        ("score of a digits candidate", OURS, scores, digits),
    )
    for name, by, run, open_workshop in candidates:
        prepare = functools.partial(_mean_of_candidates, run, open_workshop, circumstances.device)
        yield Contestant(name, by, when_asked(prepare))
    ways = {"matrices by matrix products": (OURS, by_products), "matrices by per-sample loops": (LIMIT, by_loops)}
    for name, (by, compare) in ways.items():
        yield Contestant(name, by, when_asked(functools.partial(_of_layers, compare, batch, circumstances.device)))


def _mean_of_candidates(run: Run, open_workshop: Callable[[], Workshop], device: str) -> Callable[[], float]:
    all_of_them = timed(run(open_workshop()), device)
    return lambda: all_of_them() / CANDIDATES


def _of_layers(compare: Callable[[Tensor], object], batch: int, device: str) -> Callable[[], float]:
    layers = [spikes_over_time(channels, side, batch, device) for channels, side in LAYERS]
    return timed(lambda: [compare(spikes) for spikes in layers], device)


def search_workshop(
    recipe: str, batch: int, circumstances: Circumstances, fields: Mapping[str, Any] = MappingProxyType({})
) -> Workshop:
    """A search recipe on random images of its size, as many as a probe batch takes. fields: what is changed in it."""
    from evospike.jobs.attempt import stand_in_workshop

    flags = {
        **fields,
        "dissimilarity": {"batch": batch},
        "run": {"threads": circumstances.threads, "device": circumstances.device, "path": best_path(circumstances)},
    }
    return stand_in_workshop(read_recipe(recipe, flags=flags), batch)


def random_requests(shop: Workshop, count: int = CANDIDATES) -> list[Request]:
    """Random architectures of a recipe's space, within its bounds, as a search asks for them."""
    from evospike.core.rng import stream
    from evospike.evolution.records import Request
    from evospike.evolution.variation import genotype_of
    from evospike.jobs.spaces import genome_variation

    variation = genome_variation(shop.recipe, shop.task.shape, len(shop.task.classes))
    rng = stream(shop.recipe.run.seed, "bench", "candidates")
    genotypes = [genotype_of(variation.names, variation.sample(rng)) for _ in range(count)]
    return [Request("candidate", 0, place, genotype, ("search",)) for place, genotype in enumerate(genotypes)]


def scores(shop: Workshop) -> Callable[[], object]:
    """From genomes to scores, as a worker of a search makes them: decode, build, draw, run, compare."""
    from evospike.jobs.scoring import score_architecture

    requests = random_requests(shop)
    return lambda: [score_architecture(shop, request) for request in requests]


def forward_passes(shop: Workshop) -> Callable[[], object]:
    """The forward passes of the same candidates, their networks built, with an observer that compares nothing."""
    from evospike.jobs.scoring import architecture
    from evospike.measure.dissimilarity import batch_statistics

    passes = [
        (shop.stored_network(architecture(shop, request.genotype.values), (*request.draw_key, repeat)), x)
        for request in random_requests(shop)
        for repeat, x in enumerate(shop.probe_batches)
    ]
    for net, _ in passes:
        net.observer = _overlook

    def run() -> None:
        for net, x in passes:
            with batch_statistics(net):
                net(x)

    return run


def _overlook(name: str, spikes: Tensor, potential: Tensor) -> None:
    """An observer to whom everything is alike."""


def spikes_over_time(channels: int, side: int, batch: int, device: str) -> Tensor:
    """Random spikes as a network passes them on: (T, B, C, H, W), channels last."""
    fired: Tensor = random_spikes(channels, side, STEPS * batch, device).unflatten(0, (STEPS, batch))
    return fired


def by_products(spikes: Tensor) -> Tensor:
    """Hamming distances (T, B, B) of spikes (T, B, ...), as scoring forms them: one matrix product a step."""
    from evospike.measure.dissimilarity import matrices

    return matrices(spikes, "hamming")


def by_loops(spikes: Tensor) -> Tensor:
    """The same, one sample after the other against all, step by step: the definition, and how it was released."""
    import torch
    from torch.nn.functional import pairwise_distance

    rows = spikes.movedim(2, -1).flatten(2)
    return torch.stack([torch.stack([pairwise_distance(x, step, p=1) for x in step]) for step in rows])


CASES: tuple[Case, ...] = (
    Case(
        "search-scoring",
        "Architecture search",
        f"a candidate of {CELLS} cells and {CHANNELS} channels, 32x32, batch {BATCH}, T={STEPS}, from its genome to "
        f"its score; of the digits' search, batch {DIGITS_BATCH}; Hamming matrices of four layers of such a candidate",
        "ms",
        "forward passes alone",
        scoring,
        repeats=5,
        quick_repeats=2,
        warmup=1,
    ),
)
