"""When synapses are rewired, and how many. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evospike.core.errors import SettingsError
from evospike.sparse.settings import EPOCHS_BETWEEN, LONGEST_SHARE, SparseSettings


@dataclass(frozen=True)
class Schedule:
    """Step s, counted from 0, rewires when s + 1 is a multiple of `period` and at most `end`.

    The last step of a training never does: what it grew would stay at zero.
    """

    period: int
    end: int
    fraction: float
    final_fraction: float

    def wait(self, step: int) -> int | None:
        """Steps until the next rewiring, 0 when this step rewires; None when the graph stays from here on."""
        wait = -(step + 1) % self.period
        return wait if step + 1 + wait <= self.end else None

    def fraction_at(self, step: int) -> float:
        """Share of a layer's synapses that a rewiring in this step exchanges (methods 5.3, annealed)."""
        phase = math.cos(math.pi * (step + 1) / self.end)
        return self.final_fraction + 0.5 * (self.fraction - self.final_fraction) * (1 + phase)


def make_schedule(settings: SparseSettings, epochs: int, steps_per_epoch: int) -> Schedule:
    """The schedule of a training; one that never rewires for `static` and `one_shot`.

    A period has at least two steps where rewiring skips the update, or nothing would ever be learned. One that is not
    given is at most as long as the part before `freeze`.
    Raises: SettingsError for a `period_epochs` that is longer than the training, or than its part before `freeze`.
    """
    total = epochs * steps_per_epoch
    if settings.method != "rewire" or not settings.active:
        return Schedule(1, 0, 0.0, 0.0)
    end = min(math.floor(settings.freeze * total), total - 1)
    if settings.period_epochs > 0:
        steps = round(settings.period_epochs * steps_per_epoch)
        _check_period(settings, epochs, steps, total, end)
    else:
        steps = math.floor(min(EPOCHS_BETWEEN[settings.grow] * steps_per_epoch, LONGEST_SHARE * total, end))
    shortest = 2 if settings.rewired_step == "skip" else 1
    return Schedule(max(steps, shortest), end, settings.fraction, settings.final_fraction)


def check_rewires(settings: SparseSettings, epochs: int, steps_per_epoch: int) -> None:
    """Refuse a `freeze` before the first rewiring, in a training that is long enough for one. Raises: SettingsError."""
    schedule = make_schedule(settings, epochs, steps_per_epoch)
    rewires = settings.active and settings.method == "rewire"
    if rewires and schedule.end < schedule.period < epochs * steps_per_epoch:
        raise SettingsError(
            f"'sparse.freeze' of {settings.freeze:g} leaves no step that rewires; raise it, as to 0.75, or set "
            "sparse.method=static to rewire nothing"
        )


def one_shot_step(settings: SparseSettings, total_steps: int) -> int | None:
    """Steps after which `one_shot` prunes: 0 for before the first, `total_steps` for after the last; else None."""
    if settings.method != "one_shot":
        return None
    return math.ceil(settings.one_shot_at * total_steps)


def _check_period(settings: SparseSettings, epochs: int, steps: int, total: int, end: int) -> None:
    given = f"'sparse.period_epochs' of {settings.period_epochs:g} is longer than"
    if steps > total:
        raise SettingsError(f"{given} the training, {epochs} epochs; lower it, or 0 to let it follow the training")
    if steps > end:
        raise SettingsError(
            f"{given} the part of the training that rewires, the first {settings.freeze:g} of its {epochs} epochs; "
            "lower it, or set sparse.method=static to rewire nothing"
        )
