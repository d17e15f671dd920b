"""Conducts a run from its record to its result; starting and resuming are the same thing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from math import nan
from typing import Any

from evospike.core.errors import Interrupted, RunError
from evospike.core.launch import check_launch, launched
from evospike.core.lock import RunLock
from evospike.core.progress import Bar, bar, tell
from evospike.core.settings import differences, require
from evospike.core.stopping import Stop, stop_on_signals
from evospike.data.task import Task, load_task
from evospike.evolution.evaluate import Evaluate, evaluate_together, evaluate_with
from evospike.evolution.failures import count_failures
from evospike.evolution.records import FAILURES
from evospike.evolution.settings import EvolutionSettings
from evospike.evolution.store import Store
from evospike.evolution.study import Event, SearchSpace, Study
from evospike.jobs.agreement import agree
from evospike.jobs.candidates import dimension_names, proxy_set, spreads_of
from evospike.jobs.final import stored_result
from evospike.jobs.finals import run_finals
from evospike.jobs.folder import PLAN, RESULT, RunFolder, reading
from evospike.jobs.following import lead
from evospike.jobs.memory import require_stem_memory
from evospike.jobs.nodes import node_differences
from evospike.jobs.plan import Plan, check_data, make_plan, make_search_plan, resolve_device, versions
from evospike.jobs.pool import TOGETHER, check_executor, pool
from evospike.jobs.ranking import rank
from evospike.jobs.recipe import Recipe
from evospike.jobs.replay import comparison
from evospike.jobs.results import data_facts, data_line, identity, summarise
from evospike.jobs.scoring import images_at_once
from evospike.jobs.searching import check_search, failed_fact, search
from evospike.jobs.spaces import estimate
from evospike.jobs.tensorboard import mirrored
from evospike.jobs.workshop import Workshop
from evospike.neurons.fused import compiler_available, missing_compiler
from evospike.training.parallel import ALONE, Ranks, joined

PROXY = "proxy set"
"""Name under which a study records the digest of the images its candidates train on."""

PERMITTED = (
    *("run.workers:", "run.candidate_minutes:"),
    *("run.executor:", "run.ray_address:", "run.gpu_share:", "run.retries:"),
)
"""Settings that a resume or a replay may change: no usable score depends on them, and a candidate that hangs needs a
limit."""

NEW_RUN_S = 10.0
"""How long the maker of a run waits for one that came too late to leave its folder."""


def conduct(
    run: RunFolder,
    recipe: Recipe,
    *,
    quiet: bool = False,
    tensorboard: bool = False,
    new: bool = False,
    begun: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Bring a run to its end and return its result document; a finished run gives its stored one.

    tensorboard: whether its curves are also written for TensorBoard, to RUN/tensorboard; changes no result.
    new: this process has just made the run; another one that wanted the same folder may be looking at it for a moment.
    begun: called when the data and all that the run needs are there, before it scores or trains anything.
    Raises: EvospikeError for what cannot go on; Interrupted when stopped, with the last good state on disk.
    """
    curves = mirrored(run) if tensorboard else nullcontext()
    launch = launched()
    check_launch(launch, run.verb)
    with (
        stop_on_signals() as stop,
        joined(launch) as ranks,
        RunLock(run.path, NEW_RUN_S if new else 0.0) as lock,
        curves,
    ):
        stop.also = lock.check
        stored = _stored_document(run)
        if stored is not None:
            return stored
        started = time.monotonic()
        node_differences(run)  # an altered document is refused now and not when everything is done
        try:
            check_executor(recipe)
            shop = _open_workshop(run, recipe)
            if run.verb == "search":
                check_search(shop)
            stop.check()
            begun()
            if shop.task.simulated and not quiet:
                tell(data_line({"data": data_facts(shop.task)}))  # before any number that a bar shows
            if ranks.size > 1:
                document = _train(lead(shop, run, ranks), run, stop, quiet, ranks)
            else:
                document = _VERBS[run.verb](shop, run, stop, quiet)
        except Interrupted:
            again = " under torchrun" if launch.size > 1 else ""
            tell(f"stopped; what is done is on disk, go on{again} with: evospike resume {run.path}")
            raise
        document["data"] = data_facts(shop.task)
        document |= identity(node_differences(run), document.get("processes", [1]))
        document |= comparison(run, document)
        document["wall_seconds"] = round(time.monotonic() - started, 1)
        lock.check()
        run.write(RESULT, document)
        return document


def _stored_document(run: RunFolder) -> dict[str, Any] | None:
    """The result of a finished run; None when it is not finished or one of its trainings has lost its weights."""
    document = run.read(RESULT)
    if document is None:
        return None
    trained = run.recipe.final.trainings if run.trains else ()
    lost = [training for training in trained if stored_result(run.final_path(*training)) is None]
    if lost:
        tell(f"weights of {lost[0][0]} (seed {lost[0][1]}) are damaged or gone, they are made again")
    elif "digest" not in document:
        raise RunError(f"{run.path / 'result.json'} holds no result; the file was altered, delete it and resume")
    return None if lost else document


def _open_workshop(run: RunFolder, recipe: Recipe) -> Workshop:
    """Obey the recorded plan, or make and record one; refuse data that changed since."""
    recorded = run.read(PLAN)
    if recorded is None:
        plan = _make_plan(run, recipe)
        run.write(PLAN, plan.to_plain())
    else:
        plan = Plan.from_plain(recorded)
        _check_machine(plan)
    shop = Workshop.open(recipe, plan)
    check_data(plan, shop.task)
    return shop


def _check_validation(recipe: Recipe, verb: str, task: Task) -> None:
    """Refuse to judge by validation images where their share comes to no image. Raises: SettingsError."""
    judges = {
        "scoring.score = 'training'": verb == "search" and recipe.scoring.score == "training",
        "evolution.loss_from = 'validation'": verb == "evolve" and recipe.evolution.loss_from == "validation",
        "training.keep = 'best'": verb in ("evolve", "train") and recipe.training.keep == "best",
    }
    wanted = [name for name, holds in judges.items() if holds]
    share = recipe.data.validation
    require(
        not wanted or share == 0 or len(task.validation) > 0,
        f"{' and '.join(wanted)} want validation images, but data.validation = {share:g} of {len(task.train)} leaves "
        "none; raise it, or data.train_limit",
    )


def _make_plan(run: RunFolder, recipe: Recipe) -> Plan:
    task = load_task(recipe.data, recipe.run.seed)
    _check_validation(recipe, run.verb, task)
    if run.trains:
        return make_plan(recipe, task, evolves=run.verb == "evolve")
    expected = estimate(recipe, task.shape, len(task.classes), len(task.train), ranking=run.verb == "rank")
    plan, ranking = make_search_plan(recipe, task, expected.seconds), run.verb == "rank"
    images = images_at_once(recipe, len(task.train), ranking=ranking)
    require_stem_memory(recipe, task.shape, plan.device, *images)
    return plan


def _check_machine(plan: Plan) -> None:
    """A resume obeys the plan it finds; where this machine cannot, it says so."""
    try:
        resolve_device(plan.device)
    except RunError as error:
        raise RunError(f"the run began on {plan.device}, go on with it on a machine that has one ({error})") from None
    if plan.path == "fused" and not compiler_available(plan.device):
        raise RunError(
            f"the run began with compiled neurons, which this machine cannot: {missing_compiler(plan.device)}"
        )
    if changed := differences(plan.versions, versions(plan.device)):
        tell(f"versions differ from those the run began with, last bits may differ: {'; '.join(changed)}")


def _train(shop: Workshop, run: RunFolder, stop: Stop, quiet: bool, ranks: Ranks = ALONE) -> dict[str, Any]:
    """evolve and train: the spreads, where they are evolved, then every arm to convergence."""
    study = _evolve(shop, run, stop, quiet=quiet) if run.verb == "evolve" else None
    spreads = None if study is None else spreads_of(study["winner"]["genotype"])
    results = run_finals(shop, run, spreads, stop, quiet=quiet, ranks=ranks)
    with reading("result.json of a training"):
        return summarise(run, shop.recipe, results, study)


def _evolve(shop: Workshop, run: RunFolder, stop: Stop, *, quiet: bool) -> dict[str, Any] | None:
    """Evolve the spreads of the initial values; None in mode `random`, which evolves nothing."""
    settings = shop.recipe.evolution
    if settings.mode == "random":
        return None
    space = SearchSpace.of(dimension_names(shop), settings)
    with Store.open_or_create(run.store_path) as store, bar("evolve", settings.scores, "scores", quiet=quiet) as shown:
        agree(store, PROXY, proxy_set(shop).digest())
        together = shop.plan.together
        with pool(shop, run, TOGETHER if together > 1 else "score") as executor:
            evaluate: Evaluate = evaluate_with(executor, stop.check)
            if together > 1:
                evaluate = evaluate_together(executor, together, stop.check)
            study = Study(store, settings, shop.recipe.run.seed, space, evaluate, _shower(shown, settings))
            result = study.run()
        winner = {
            "genotype": result.genotype.as_mapping(),
            "spreads": spreads_of(result.genotype.as_mapping()),
            "validation_loss": result.winner.validation_loss,
        }
        failures = count_failures(recorded.score.status for recorded in store.scores())
        return {"winner": winner, "failures": failures, "history_digest": store.digest()}


def _shower(shown: Bar, settings: EvolutionSettings) -> Callable[[Event], None]:
    best: dict[str, float] = {}
    failed = 0

    def show(event: Event) -> None:
        nonlocal failed
        if event.kind == "score" and event.score is not None:
            loss = event.score.terms.get("loss")
            if event.score.ok and loss is not None:
                best["loss"] = min(loss, best.get("loss", loss))
            failed += event.score.status in FAILURES
            shown.say(generation=str(event.generation), best_loss=f"{best.get('loss', nan):.3f}", **failed_fact(failed))
            final = event.request is not None and event.request.kind == "finalist"
            before = settings.generations if final else event.generation
            shown.reach(before * settings.population + event.done, replayed=event.replayed)
        elif event.kind == "generation" and event.replayed:
            shown.reach((event.generation + 1) * settings.population, replayed=True)

    return show


def permitted_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lines for settings that differ and must not: everything but those in `PERMITTED`."""
    return [line for line in differences(old, new) if not line.startswith(PERMITTED)]


_VERBS: dict[str, Callable[[Workshop, RunFolder, Stop, bool], dict[str, Any]]] = {
    "evolve": _train,
    "train": _train,
    "search": search,
    "rank": rank,
}
"""What each verb does between its plan and its result."""
