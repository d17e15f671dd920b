"""The space of a recipe on its data: how its genomes vary within the bounds, and what a search through it will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from evospike.core.errors import SettingsError
from evospike.core.rng import stream
from evospike.core.threads import resolved_threads
from evospike.jobs.plan import (
    GPU_MACS_PER_SECOND,
    MACS_PER_SECOND_AND_THREAD,
    candidate_quotas,
    estimated_bytes,
    resolve_device,
)
from evospike.jobs.recipe import Recipe
from evospike.models.counts import macs_per_step
from evospike.models.spec import NetworkSpec
from evospike.search.bounds import Bounds
from evospike.search.decode import decode
from evospike.search.genome import Genome
from evospike.search.space import Space
from evospike.search.variation import GenomeVariation

SAMPLED = 8
"""Random architectures whose counts an estimate averages."""

SECONDS_TO_BUILD = 0.1
"""What it takes to decode, build and draw an architecture and to run its hundred small operators, in an estimate."""


def genome_variation(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> GenomeVariation:
    """How the genomes of a recipe's space vary on data of a shape, inside the recipe's bounds on static counts."""
    scoring, events = recipe.scoring, recipe.data.records_events
    bounds = Bounds(scoring.max_parameters, scoring.min_parameters, scoring.max_operations, steps=recipe.model.steps)

    def describe(genome: Genome) -> NetworkSpec:
        return decode(genome, shape, classes, events=events)

    return GenomeVariation(Space(recipe.space), describe, bounds.refusals)


@dataclass(frozen=True)
class Estimate:
    """What all searches of a run, or a ranking, take on one worker: candidates, seconds, bytes of memory."""

    candidates: int
    seconds: float
    memory: int


def estimate(recipe: Recipe, shape: tuple[int, int, int], classes: int, samples: int, *, ranking: bool) -> Estimate:
    """From the static counts of a few random architectures. samples: training samples of the data.

    Raises: SettingsError for a density that none of them can have.
    """
    specs = _some_networks(recipe, shape, classes)
    require_structures(recipe, specs, 1)
    macs = fmean(macs_per_step(spec) for spec in specs) * recipe.model.steps
    shown = recipe.dissimilarity.repeats * recipe.dissimilarity.batch
    trained = 3 * recipe.scoring.epochs * min(recipe.scoring.samples or samples, samples)
    if ranking:
        candidates, images = recipe.rank.genomes, shown + recipe.rank.seeds * trained
    else:
        candidates = candidate_count(recipe)
        images = trained if recipe.scoring.score == "training" else shown
    cuda = resolve_device(recipe.run.device).startswith("cuda")
    rate = GPU_MACS_PER_SECOND if cuda else MACS_PER_SECOND_AND_THREAD * resolved_threads(recipe.run.threads)
    seconds = candidates * (SECONDS_TO_BUILD + images * macs / rate)
    return Estimate(candidates, seconds, max(estimated_bytes(recipe, spec)[0] for spec in specs))


def require_structures(recipe: Recipe, specs: Sequence[NetworkSpec], fewest: int) -> None:
    """Refuse a density that fewer than `fewest` of these random architectures can have. Raises: SettingsError."""
    reasons = Counter(_why_not_sparse(recipe, spec) for spec in specs)
    able = reasons.pop("", 0)
    if able < fewest:
        ((reason, _),) = reasons.most_common(1)
        raise SettingsError(
            f"{able} of {len(specs)} random architectures can have the synapses that [sparse] gives them, at least "
            f"{fewest} must; most often: {reason}"
        )


def _why_not_sparse(recipe: Recipe, spec: NetworkSpec) -> str:
    """Why a candidate cannot have the synapses that the recipe gives it; empty where it can."""
    try:
        if recipe.sparse.active:
            candidate_quotas(recipe, spec)
    except SettingsError as error:
        return str(error)
    return ""


def candidate_count(recipe: Recipe) -> int:
    """Scores of all searches of a run."""
    return recipe.search.seeds * recipe.search.scores


def _some_networks(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> list[NetworkSpec]:
    variation, space = genome_variation(recipe, shape, classes), Space(recipe.space)
    rng, events = stream(recipe.run.seed, "estimate"), recipe.data.records_events
    return [decode(space.genome(variation.sample(rng)), shape, classes, events=events) for _ in range(SAMPLED)]
