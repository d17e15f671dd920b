"""Throws inputs at a reader: nothing but our own errors may come back, and soon."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from evospike.core.errors import EvospikeError

DEADLINE_SECONDS = 10.0
"""Of one input, on a machine that may be busy."""


class TooLongError(Exception):
    """An input kept its reader for longer than the deadline."""


@dataclass
class Tally:
    """What became of the inputs. slowest: seconds of one."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    messages: set[str] = field(default_factory=set)

    @property
    def inputs(self) -> int:
        return self.read + self.refused

    def state(self, soak: Any, what: str) -> None:
        """State the figure of a reader that nothing went wrong with."""
        took = f"{self.inputs}, the slowest took {self.slowest:.2f} s"
        soak.figure("hostile 3", f"{what}: inputs without a traceback, a hang or a stray file", took)


MOST_ROUNDS = 20


def throw(count: int, inputs: st.SearchStrategy[bytes], read: Callable[[bytes], None], *, shrink: bool = True) -> Tally:
    """Read `count` inputs or more, always the same ones; raises whatever is not one of our errors.

    In rounds, as a round may end before it has made as many examples as it is allowed. shrink: look for a small input
    that fails; of large ones that takes minutes.
    """
    tally = Tally()
    for number in range(MOST_ROUNDS):
        if tally.inputs < count:
            phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
            _throw_round(count - tally.inputs, number, phases, inputs, read, tally)
    return tally


def _throw_round(
    count: int,
    number: int,
    phases: list[Phase],
    inputs: st.SearchStrategy[bytes],
    read: Callable[[bytes], None],
    tally: Tally,
) -> None:
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=phases,
    )
    @seed(number)
    @given(inputs)
    def each(data: bytes) -> None:
        started = time.monotonic()
        try:
            with deadline(DEADLINE_SECONDS):
                read(data)
            tally.read += 1
        except EvospikeError as error:
            check_message(str(error))
            tally.refused += 1
            tally.messages.add(str(error)[:40])
        tally.slowest = max(tally.slowest, time.monotonic() - started)

    each()


def check_message(message: str) -> None:
    """One line that a person can read."""
    assert message
    assert "\n" not in message, message[:500]
    assert len(message) < 4000, message[:500]


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """What is done inside may be refused by one of our errors, in one line."""
    try:
        yield
    except EvospikeError as error:
        check_message(str(error))


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise TooLongError inside once the time is over."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise TooLongError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
