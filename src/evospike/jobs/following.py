"""What every process but the first does of a run that several processes train: its part of each final training.

The first one conducts the run as it would by itself and tells the others where the run is and what is trained next. The
others write nothing, and say something only about what the first one cannot know.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evospike.core.errors import DataError, EvospikeError, Interrupted, RunError, SettingsError
from evospike.core.launch import REFUSED, Launch, as_said_by
from evospike.core.progress import tell
from evospike.core.settings import differences
from evospike.core.stopping import stop_on_signals
from evospike.jobs.final import train_arm
from evospike.jobs.finals import StopWhenAsked
from evospike.jobs.folder import PLAN, RunFolder, open_run
from evospike.jobs.plan import Plan
from evospike.jobs.workshop import Workshop
from evospike.layers.synchronised import PeerLost
from evospike.training.loop import Diverged
from evospike.training.parallel import Ranks, joined


def lead(shop: Workshop, run: RunFolder, ranks: Ranks) -> Workshop:
    """Of the first process: call the others to a run; gives its workshop on the device of this process."""
    ranks.tell({"run": str(run.path.absolute())})
    return _placed(shop, ranks)


def follow(launch: Launch) -> int:
    """Of every other process: do its part until the first one has no more; gives the exit code."""
    try:
        with joined(launch) as ranks:
            called = _heard(ranks)
            if called is not None:
                _take_part(open_run(called["run"]), ranks)
    except Interrupted as stopped:
        return 128 + stopped.signum
    except (Diverged, SettingsError, _FirstIsGone):
        return REFUSED  # the first one says why
    except EvospikeError as error:
        tell(as_said_by(launch, error))
        return REFUSED
    return 0


class _FirstIsGone(RunError):
    """The first process ended outside a training."""


def _take_part(run: RunFolder, ranks: Ranks) -> None:
    recorded = run.read(PLAN)
    if recorded is None:
        raise RunError(f"'{run.path}' has no plan.json here; all machines of a training have to see the run folder")
    plan = Plan.from_plain(recorded)
    shop = _placed(Workshop.open(run.recipe, plan), ranks)
    if changed := differences(plan.data, shop.task.digests()):
        raise DataError(f"the data on this machine are not those of the run ({'; '.join(changed)}); copy them here")
    while (job := _heard(ranks)) is not None:
        with stop_on_signals(notice="") as stop:
            train_arm(shop, run, job["arm"], job["repeat"], None, hooks=[StopWhenAsked(stop)], ranks=ranks)


def _placed(shop: Workshop, ranks: Ranks) -> Workshop:
    return replace(shop, plan=replace(shop.plan, device=ranks.compute_on(shop.plan.device)))


def _heard(ranks: Ranks) -> dict[str, Any] | None:
    try:
        return ranks.hear()
    except PeerLost as error:
        raise _FirstIsGone(str(error)) from None
