"""What a worker process does: it opens the workshop of its run once and then works through payloads."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from evospike.core.errors import DataError
from evospike.core.progress import tell
from evospike.core.settings import differences
from evospike.evolution.records import Request
from evospike.jobs.candidates import score_candidate, score_candidates
from evospike.jobs.final import train_arm
from evospike.jobs.folder import open_run
from evospike.jobs.plan import Plan
from evospike.jobs.progress import ProgressFile
from evospike.jobs.recipe import recipe_from_plain
from evospike.jobs.scoring import rank_architecture, score_architecture
from evospike.jobs.shared_task import SHARED, SharedTask, unshare
from evospike.jobs.workshop import Workshop


def score(payload: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Score one candidate or finalist: `Request.to_json()` in, `Score.to_json()` out."""
    return score_candidate(_workshop(context), Request.from_json(payload)).to_json()


def score_together(payload: Mapping[str, Any], context: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Score several candidates or finalists that are trained together: `Request.to_json()` of each under `requests`
    in, `Score.to_json()` of each out, in their order.
    """
    requests = [Request.from_json(request) for request in payload["requests"]]
    return [score.to_json() for score in score_candidates(_workshop(context), requests)]


def score_genome(payload: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Score one architecture of a search: `Request.to_json()` in, `Score.to_json()` out."""
    return score_architecture(_workshop(context), Request.from_json(payload)).to_json()


def rank(payload: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Score and train one architecture of a ranking: `Request.to_json()` in, `Score.to_json()` out."""
    return rank_architecture(_workshop(context), Request.from_json(payload)).to_json()


def train(payload: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """One final training: arm, repeat and spreads in, its result out."""
    run = open_run(context["folder"])
    hook = ProgressFile(run.final_path(payload["arm"], payload["repeat"]))
    job = payload["arm"], payload["repeat"], payload["spreads"]
    return train_arm(_workshop(context), run, *job, hooks=[hook], notify=tell)


def _workshop(context: Mapping[str, Any]) -> Workshop:
    return _opened(json.dumps(context["recipe"]), json.dumps(context["plan"]), context.get(SHARED))


@functools.lru_cache(maxsize=1)
def _opened(recipe: str, plan: str, shared: SharedTask | None) -> Workshop:
    task = None if shared is None else unshare(shared)
    shop = Workshop.open(recipe_from_plain(json.loads(recipe)), Plan.from_plain(json.loads(plan)), task)
    if changed := differences(shop.plan.data, shop.task.digests()):
        raise DataError(f"the data on this machine are not those of the run ({'; '.join(changed)}); copy them here")
    return shop
