"""The worker processes of a run, on this machine or on a cluster."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from evospike.core.errors import MissingExtra
from evospike.core.progress import tell
from evospike.core.threads import resolved_threads
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.executors.ray import RayExecutor
from evospike.jobs.folder import RunFolder
from evospike.jobs.nodes import Nodes, machine_facts
from evospike.jobs.recipe import Recipe
from evospike.jobs.shared_task import SHARED, share
from evospike.jobs.worker_file import WorkersFile
from evospike.jobs.workshop import Workshop, as_context

FINAL_TRAINING = "train"
"""Name in `jobs.workers` of what takes as long as it takes; it writes into the run folder and so stays here."""

TOGETHER = "score_together"
"""Name in `jobs.workers` of what scores a group of candidates."""


def check_executor(recipe: Recipe) -> None:
    """Find out before a run begins that it can score candidates where it says. Raises: MissingExtra without Ray."""
    if recipe.run.executor == "ray" and find_spec("ray") is None:
        raise MissingExtra("ray", "ray", "--executor ray")


def pool(shop: Workshop, run: RunFolder, function: str, most: int | None = None) -> LocalExecutor | RayExecutor:
    """Workers for a run, as many as its recipe says but not more than `most`; to be used as a context manager.

    function: its name in `jobs.workers`; all but final trainings keep to the recipe's limit for a candidate and run
    where the recipe says. Final trainings of a run on Ray share the processors of this machine.
    """
    settings = shop.recipe.run
    _tell_of_flight(shop.recipe, function)
    on_ray = settings.executor == "ray"
    if on_ray and function != FINAL_TRAINING:
        return _ray_pool(shop, run, function)
    wanted = min(settings.workers, max(1, resolved_threads(0) // shop.plan.threads)) if on_ray else settings.workers
    workers = wanted if most is None else min(wanted, most)
    context = as_context(shop.recipe, shop.plan, str(run.path))
    limit_s = 0.0 if function == FINAL_TRAINING else _limit_s(shop, function)
    return LocalExecutor(workers, shop.plan.threads, _named(function), context, WorkersFile(run), limit_s)


def _tell_of_flight(recipe: Recipe, function: str) -> None:
    """In a steady state no more workers work than candidates are in flight, and too many of these learn little."""
    verb = {"score": "evolve", "score_genome": "search"}.get(function, "")
    in_flight = recipe.in_flight(verb)
    if 0 < in_flight < recipe.run.workers:
        tell(
            f"in_flight={in_flight} keeps no more than {in_flight} of {recipe.run.workers} workers busy; "
            "a new run may have more in flight"
        )
    population = recipe.search.population if verb == "search" else recipe.evolution.population
    if in_flight > population:
        tell(
            f"in_flight={in_flight} exceeds population={population}: most candidates are asked for before others that "
            "would guide them are told, and the search may not converge; raise the population as well"
        )


def _ray_pool(shop: Workshop, run: RunFolder, function: str) -> RayExecutor:
    """Workers on Ray: each sees one device, and takes the data from its machine's object store."""
    settings, on_gpu = shop.recipe.run, shop.plan.device.startswith("cuda")
    plan = replace(shop.plan, device="cuda:0") if on_gpu else shop.plan
    context = as_context(shop.recipe, plan, str(run.path))
    if (shared := share(shop.task)) is not None:
        context[SHARED] = shared
    return RayExecutor(
        settings.workers,
        plan.threads,
        _named(function),
        context,
        WorkersFile(run),
        _limit_s(shop, function),
        address=settings.ray_address,
        gpu_share=settings.gpu_share if on_gpu else 0.0,
        retries=settings.retries,
        describe="evospike.jobs.nodes:facts",
        on_worker=Nodes(run, machine_facts(shop.plan)),
    )


def _limit_s(shop: Workshop, function: str) -> float:
    """Seconds that a payload may take: the recipe's limit for each candidate in it."""
    return 60 * shop.recipe.run.candidate_minutes * (shop.plan.together if function == TOGETHER else 1)


def _named(function: str) -> str:
    return f"evospike.jobs.workers:{function}"
