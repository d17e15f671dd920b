"""The worker processes of a run."""

from __future__ import annotations

from evospike.evolution.executors.local import LocalExecutor
from evospike.jobs.folder import RunFolder
from evospike.jobs.worker_file import WorkersFile
from evospike.jobs.workshop import Workshop, as_context


def pool(shop: Workshop, run: RunFolder, function: str, most: int | None = None) -> LocalExecutor:
    """Worker processes for a run, as many as its recipe says but not more than `most`; to be used as a context manager.

    function: its name in `jobs.workers`.
    """
    wanted = shop.recipe.run.workers
    workers = wanted if most is None else min(wanted, most)
    context = as_context(shop.recipe, shop.plan, str(run.path))
    return LocalExecutor(workers, shop.plan.threads, f"evospike.jobs.workers:{function}", context, WorkersFile(run))
