"""The final trainings of a run: every arm on every paired seed, in this process, in workers, or by several processes
together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from evospike.core.errors import RunError
from evospike.core.progress import Bar, bar
from evospike.core.stopping import Stop
from evospike.jobs.final import stored_result, train_arm
from evospike.jobs.folder import RunFolder
from evospike.jobs.pool import FINAL_TRAINING, pool
from evospike.jobs.progress import ProgressFile, read_progress
from evospike.jobs.workshop import Workshop
from evospike.training.loop import Hook
from evospike.training.parallel import ALONE, Ranks

Job = tuple[str, int]
"""An arm and a repetition."""


def run_finals(
    shop: Workshop,
    run: RunFolder,
    spreads: Mapping[str, float] | None,
    stop: Stop,
    *,
    quiet: bool = False,
    ranks: Ranks = ALONE,
) -> list[dict[str, Any]]:
    """Train what is not trained yet; results in the order of arms and repetitions, whatever the number of workers.

    Arms that start from trained dense twins wait for them. ranks: processes that train one network after the other
    together, of which this is the first. Raises: RunError naming the first training that failed.
    """
    jobs = shop.recipe.final.trainings
    waiting = [job for job in jobs if shop.recipe.starts_from_dense(job[0])]
    waves = [[job for job in jobs if job not in waiting], waiting]
    for wave in waves:
        missing = [job for job in wave if stored_result(run.final_path(*job)) is None]
        if ranks.size > 1 or len(jobs) == 1:
            for job in missing:
                _train_here(shop, run, job, spreads, stop, quiet=quiet, ranks=ranks)
        elif missing:
            _train_in_workers(shop, run, missing, spreads, stop, quiet=quiet)
    return [_required(run, job) for job in jobs]


def _required(run: RunFolder, job: Job) -> dict[str, Any]:
    result = stored_result(run.final_path(*job))
    if result is None:
        raise RunError(
            f"training of {job[0]} (seed {job[1]}) left no result; continue with: evospike resume {run.path}"
        )
    return result


class StopWhenAsked:
    """Stops a training in this process after a step."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def after_step(self, step: int, total: int) -> None:
        self._stop.check()


class _StepBar:
    """Shows a training in this process."""

    def __init__(self, shown: Bar) -> None:
        self._bar = shown

    def after_step(self, step: int, total: int) -> None:
        self._bar.reach(step)


def _train_here(
    shop: Workshop,
    run: RunFolder,
    job: Job,
    spreads: Mapping[str, float] | None,
    stop: Stop,
    *,
    quiet: bool,
    ranks: Ranks,
) -> None:
    stop.check()
    ranks.tell({"arm": job[0], "repeat": job[1]})
    training = shop.recipe.training
    steps = training.steps_per_epoch(len(shop.task.train)) * training.epochs
    progress = ProgressFile(run.final_path(*job))
    with bar(f"train {job[0]}", steps, "steps", quiet=quiet) as shown:
        hooks: list[Hook] = [progress, _StepBar(shown), StopWhenAsked(stop)]
        train_arm(shop, run, *job, spreads, hooks=hooks, notify=shown.note, ranks=ranks)


def _train_in_workers(
    shop: Workshop, run: RunFolder, jobs: Sequence[Job], spreads: Mapping[str, float] | None, stop: Stop, *, quiet: bool
) -> None:
    payloads = [{"arm": arm, "repeat": repeat, "spreads": spreads} for arm, repeat in jobs]
    epochs = shop.recipe.training.epochs
    with bar(f"train {len(jobs)} networks", len(jobs) * epochs, "epochs", quiet=quiet) as shown:
        watch = _Watch(run, jobs, epochs, shown, stop)
        with pool(shop, run, FINAL_TRAINING, most=len(jobs)) as executor:
            for index, outcome in executor.run(payloads, watch):
                if outcome.error is not None:
                    arm, repeat = jobs[index]
                    raise RunError(f"training of {arm} (seed {repeat}) failed: {outcome.error}")
                watch.finished(jobs[index])


class _Watch:
    """Adds up how far the workers are, from their progress files, and stops the run when asked."""

    def __init__(self, run: RunFolder, jobs: Sequence[Job], epochs: int, shown: Bar, stop: Stop) -> None:
        self._run, self._epochs, self._bar, self._stop = run, epochs, shown, stop
        self._share = dict.fromkeys(jobs, 0.0)
        self._next = 0.0

    def finished(self, job: Job) -> None:
        self._share[job] = 1.0
        self._bar.reach(round(sum(self._share.values()) * self._epochs, 1))

    def __call__(self) -> None:
        self._stop.check()
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1.0
        for job, share in self._share.items():
            if share < 1:
                self._share[job] = max(share, min(read_progress(self._run.final_path(*job)), 0.99))
        self._bar.reach(round(sum(self._share.values()) * self._epochs, 1))
