"""A run made again from its folder, and whether it came out the same. Imports no torch.

The new run has the verb and the recipe of the other, and is conducted as any run. Of a steady state, the order in
which scores were told is part of the outcome: it is copied into the new run's stores before they are used, and a study
follows the order that it finds there. What the end is compared with is copied too, into run.json, so nothing is read
from the other run later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evospike.core.errors import RunError
from evospike.core.settings import differences
from evospike.evolution.store import Store
from evospike.jobs.folder import PLAN, RESULT, RunFolder, new_run, reading, record_run, starting
from evospike.jobs.recipe import Recipe
from evospike.jobs.records import study_count

REPLAYS = "replays"
"""Key of run.json in a replay: `run` that is made again, its `digest` (null: it was not finished), its `conditions`."""

_OF_THE_RECORD = ("evospike", "commit", "python", "platform")
_OF_THE_PLAN = ("device", "threads", "path", "contractions", "together", "data", "versions")
_OF_THE_RESULT = ("processes", "node_differences")


def create_replay(of: RunFolder, recipe: Recipe, output: str | None) -> RunFolder:
    """Make a new run folder that makes a run again; it is no run before all that it needs of the other is there.

    recipe: that of the other run, but for what a resume may change. output: see `folder.create_run`.
    Raises: RunError, StoreError also where the other run's record cannot be read or was altered.
    """
    result = of.read(RESULT)
    orders = _orders(of, finished=result is not None)
    with reading(f"result.json of '{of.path}'"):
        digest = None if result is None else str(result["digest"])
    facts = {"run": str(of.path), "digest": digest, "conditions": _conditions(of, result or {})}
    run = new_run(of.verb, recipe, output, **{REPLAYS: facts})
    with starting(run):
        for seed, told in orders.items():
            Store.create(run.store_path_of(seed), told).close()
        record_run(run)
    return run


def comparison(run: RunFolder, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the result of a replay says beside that of any run, under the key `replay`; empty for a run that is none."""
    if REPLAYS not in run.record:
        return {}
    with reading(f"'{REPLAYS}' of {run.path / 'run.json'}"):
        replays = run.record[REPLAYS]
        digest = replays["digest"]
        found = {
            "of": replays["run"],
            "digest": digest,
            "same": None if digest is None else digest == document["digest"],
            "differences": _differences(replays["conditions"], _conditions(run, document)),
        }
    return {"replay": found}


def _orders(of: RunFolder, *, finished: bool) -> dict[int, list[str]]:
    """By the number of each study in a steady state: in which order it was told its candidates, as far as it came."""
    if not of.recipe.in_flight(of.verb):
        return {}
    orders = {}
    for seed in range(study_count(of)):
        path = of.store_path_of(seed)
        if path.is_file():
            with Store.view(path) as store:
                orders[seed] = store.told()
        elif finished:
            raise RunError(f"{path} is gone, and with it the order in which scores arrived; restore it")
    return orders


def _conditions(run: RunFolder, result: Mapping[str, Any]) -> dict[str, Any]:
    """What the digest of a run may depend on beside its recipe, as far as its folder says it."""
    sources = ((run.record, _OF_THE_RECORD), (run.read(PLAN) or {}, _OF_THE_PLAN), (result, _OF_THE_RESULT))
    return {name: source[name] for source, names in sources for name in names if name in source}


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Lines `condition: there -> here`, of conditions that both runs know."""
    known = there.keys() & here.keys()
    return differences({name: there[name] for name in known}, {name: here[name] for name in known})
