"""Progress on standard error: a bar with a rate and an estimate."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from evospike.core.text import harmless


def tell(line: str) -> None:
    """A notice for the person at the terminal."""
    print(f"notice: {harmless(line)}", file=sys.stderr, flush=True)


class Bar:
    """A bar that counts to a total; without a terminal it prints a line now and then."""

    def __init__(self, label: str, total: int, unit: str, *, quiet: bool = False) -> None:
        from tqdm import tqdm

        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc=label,
            unit=f" {unit}",
            disable=quiet,
            file=sys.stderr,
            dynamic_ncols=terminal,
            ncols=None if terminal else 100,
            mininterval=0.2 if terminal else 20.0,
            maxinterval=1.0 if terminal else 60.0,
        )
        self._started = time.monotonic()

    def reach(self, done: float) -> None:
        """Move to a position; going back is ignored."""
        if done > self._bar.n:
            self._bar.update(done - self._bar.n)

    def say(self, **facts: str) -> None:
        """Show facts behind the bar."""
        self._bar.set_postfix(facts, refresh=False)

    def note(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(harmless(line), file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


@contextmanager
def bar(label: str, total: int, unit: str, *, quiet: bool = False) -> Iterator[Bar]:
    """A bar for a piece of work."""
    shown = Bar(label, total, unit, quiet=quiet)
    try:
        yield shown
    finally:
        shown.close()
