"""What each kind of run has on its page: a template over the common frame, the facts, the charts."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evospike.jobs.arms import Arm
from evospike.jobs.folder import RunFolder
from evospike.jobs.recipe import Recipe
from evospike.jobs.settings import OWN
from evospike.models.spec import NetworkSpec
from evospike.report.architecture.facts import Architecture, of_genome, of_network
from evospike.report.evaluation.charts import evaluation_charts
from evospike.report.evaluation.facts import MEASURES, SEED_MEASURES
from evospike.report.facts import RunFacts, reading_of
from evospike.report.figures import Chart
from evospike.report.formats import Trusted, percent
from evospike.report.rank.charts import rank_charts
from evospike.report.rank.facts import RankFacts, gather_ranking
from evospike.report.search.charts import TITLES, search_charts
from evospike.report.search.facts import MOST_OTHERS, SearchFacts, gather_search, image_side, term_of
from evospike.report.training.charts import make_charts
from evospike.report.training.connectivity import draw_layer
from evospike.report.training.gather import TrainingFacts, gather
from evospike.search.genome import Genome
from evospike.sparse.settings import SparseSettings

ALLOCATIONS: Mapping[str, str] = {
    "erk": "by Erdős–Rényi with kernel sides (ERK)",
    "er": "by Erdős–Rényi (ER)",
    "uniform": "uniformly",
}
"""How the synapses are shared out between layers."""

PRUNES: Mapping[str, str] = {
    "magnitude": "magnitude",
    "sign": "magnitude, half of them the smallest positive and half the smallest negative",
    "taylor": "first-order Taylor terms",
}
"""How synapses are chosen that are lost."""

GROWS: Mapping[str, str] = {
    "gradient": "where the gradient is largest",
    "momentum": "where the running average of the gradient is largest",
    "adam": "where a step of Adam would be longest",
    "random": "at random",
    "unfired": "at random, first where none was before",
}
"""How positions are chosen where synapses grow."""


ARMS: Mapping[str, str] = {
    "genetic": "the recipe’s own encoding",
    "sparse": "the recipe’s own network",
    "dense": "trained with every weight stored",
    "static": "the recipe’s own network",
    "one-shot": "the recipe’s own network",
    "random": "the same encoding from values of a standard normal, untuned",
    "analytic": "the same encoding from values whose spreads follow from the shapes of the layers",
    "low-rank": "the encoding without a gene matrix",
    "svd": "the same encoding from a truncated singular value decomposition of the trained dense network",
}
"""What the networks of a run are, by their names, but for what becomes of their synapses."""

MODES: Mapping[str, str] = {
    "loss": "the loss alone",
    "loss+temporal": "the loss and the temporal term",
    "loss+entropy": "the loss and the entropy term",
    "ste": "the loss, the temporal term and the entropy term",
}
"""What an evolution looks at."""

ENCODINGS: Mapping[str, str] = {
    "dense": "every weight is stored",
    "edge": "a weight is made from the genes of the output and of the input it joins, and from one gene matrix for the "
    "whole network",
    "shared_tapG": "a weight is made from the genes of the neurons it joins, and a gene matrix for each tap of kernels",
    "shared_tapE": "a weight is made from the genes of the neurons it joins, one set for each tap of a kernel, and one "
    "gene matrix",
    "low_rank": "a weight is made from the genes of the output and of the input it joins, without a gene matrix",
}
"""How weights come to be."""


@dataclass(frozen=True)
class Page:
    """template: its file. progress: how far an unfinished run is, empty for a finished one. names: what else the
    template uses."""

    template: str
    facts: RunFacts
    charts: Mapping[str, Chart]
    progress: str
    names: Mapping[str, Any] = field(default_factory=dict)


def make_page(run: RunFolder) -> Page:
    """The page of a run. Raises: RunError, StoreError, SettingsError naming the file that was altered."""
    with reading_of(run):
        return _PAGES[run.verb](run)


def training_page(run: RunFolder) -> Page:
    """Of evolve and train: the comparison, the evolution, the trainings, their structure, their cost, the network."""
    facts = gather(run)
    charts = make_charts(facts)
    names: dict[str, Any] = {
        "allocations": ALLOCATIONS,
        "prunes": PRUNES,
        "grows": GROWS,
        "kinds": {arm: arm_text(arm, facts.recipe) for arm in ARMS},
        "modes": MODES,
        "encodings": ENCODINGS,
        "architecture": _architecture(facts),
        "evaluate": f"evospike evaluate {shlex.quote(facts.path)}",
    }
    if facts.evaluation is not None:
        charts |= evaluation_charts(facts.evaluation, [arm.name for arm in facts.arms])
        names |= {"measures": MEASURES, "seed_measures": SEED_MEASURES}
    if facts.connectivity is not None:
        layers = facts.connectivity.layers
        names["pictures"] = [Trusted(draw_layer(layer, number)) for number, layer in enumerate(layers)]
    return Page("training.html", facts, charts, _unless_finished(facts, _training_progress(facts)), names)


def search_page(run: RunFolder) -> Page:
    """Of search: the architecture, the scores, the front."""
    facts = gather_search(run)
    names: dict[str, Any] = {
        "term": term_of,
        "titles": TITLES,
        "most_others": MOST_OTHERS,
        "train": f"--model {shlex.quote(facts.path)}",
    }
    if facts.genome is not None:
        what = "The winner" if facts.finished else "The best candidate so far"
        names |= {
            "architecture": of_genome(facts.genome, facts.side, f"{what}, cell by cell"),
            "sides": 2 ** len(facts.genome.reductions),
        }
    return Page("search.html", facts, search_charts(facts), _unless_finished(facts, _search_progress(facts)), names)


def rank_page(run: RunFolder) -> Page:
    """Of rank: tau of every score, and the scores against the accuracy."""
    facts = gather_ranking(run)
    return Page("rank.html", facts, rank_charts(facts), _unless_finished(facts, _rank_progress(facts)))


def arm_text(arm: str, recipe: Recipe) -> str:
    """What a network of a run is, by its name and the recipe's structure learning."""
    sparse = Arm.of(recipe, arm).sparse
    return f"{ARMS[arm]}, {_structure_text(sparse)}" if arm in OWN and sparse.active else ARMS[arm]


def _structure_text(sparse: SparseSettings) -> str:
    """What becomes of the synapses of a network while it is trained."""
    if sparse.method == "one_shot":
        if sparse.one_shot_at == 0:
            return "pruned by magnitude before its first step"
        if sparse.one_shot_at == 1:
            return "trained with all synapses and pruned by magnitude after the last step"
        return (
            f"trained with all synapses, pruned by magnitude after {percent(sparse.one_shot_at, 0)} of the training; "
            "what is left learns on"
        )
    rewires = sparse.method == "rewire" and sparse.freeze > 0
    return "rewired while it learns" if rewires else "under a first random graph that never changes"


def _architecture(facts: TrainingFacts) -> Architecture | None:
    """What the networks of a run have in common; None where that is not known yet, or too large to be drawn."""
    spec = None if facts.plan is None else NetworkSpec.from_json(facts.plan["spec"])
    if facts.recipe.model.genome:
        side = image_side(facts.recipe) if spec is None else spec.input_shape[1:]
        return of_genome(Genome.from_json(facts.recipe.model.genome), side, "The network, cell by cell")
    return None if spec is None else of_network(spec, facts.recipe.neuron.kind, "The network, block by block")


def _unless_finished(facts: RunFacts, progress: list[str]) -> str:
    planned = [] if facts.plan is not None else ["nothing is planned yet"]
    return "" if facts.finished else "; ".join([*planned, *progress])


def _training_progress(facts: TrainingFacts) -> list[str]:
    parts = []
    if facts.evolves:
        done = 0 if facts.history is None else len(facts.history.candidates)
        parts.append(f"{done} of {facts.recipe.evolution.candidates} candidates are scored")
    wanted = len(facts.recipe.final.trainings)
    return [*parts, f"{len(facts.trainings)} of {wanted} final trainings are done"]


def _search_progress(facts: SearchFacts) -> list[str]:
    return [f"{facts.scored} of {facts.asked} candidates are scored"]


def _rank_progress(facts: RankFacts) -> list[str]:
    return [f"{len(facts.architectures)} of {facts.recipe.rank.genomes} architectures are scored and trained"]


_PAGES: dict[str, Callable[[RunFolder], Page]] = {
    "evolve": training_page,
    "train": training_page,
    "search": search_page,
    "rank": rank_page,
}
