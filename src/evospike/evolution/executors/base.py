"""What an executor is: it runs one function on many payloads, somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Payload = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one payload: a value, or one line saying what went wrong.

    attempts: how often it was started. timed_out: it was ended because it took too long; it is not tried again.
    """

    value: Any
    error: str | None = None
    attempts: int = 1
    timed_out: bool = False

    @classmethod
    def overdue(cls, limit_s: float, attempts: int) -> Outcome:
        """Of a payload that was ended after its limit in seconds."""
        return cls(None, f"not done after {limit_s:g} s", attempts, timed_out=True)

    @classmethod
    def given_up(cls, what: str, how: str, attempts: int) -> Outcome:
        """Of a payload that was started as often as it may be. what: became of it each time; how: the last time."""
        times = {1: "once", 2: "twice"}.get(attempts, f"{attempts} times")
        return cls(None, f"{what} {times} ({how})", attempts)


class Executor(Protocol):
    """Runs payloads; which worker takes which payload must not change any value."""

    def run(
        self, payloads: Sequence[Payload], check: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, Outcome]]:
        """Yield (index of the payload, outcome) as they arrive, in any order.

        payloads: may grow while outcomes are taken; it ends when all that are there are done.
        check: called several times a second; may raise to stop the run.
        """
