"""Progress on standard error: a bar with a rate and an estimate."""

from __future__ import annotations

import sys
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
        self._counting = False

    def reach(self, done: float, *, replayed: bool = False) -> None:
        """Move to a position; going back is ignored. replayed: what is done until there was done by an earlier process.

        Rate and estimate are of what follows; the first move that is not replayed counts as one step.
        """
        if replayed or not self._counting:
            self._begin_at(done if replayed else done - 1)
        self._counting = self._counting or not replayed
        if done > self._bar.n:
            self._bar.update(done - self._bar.n)

    def _begin_at(self, done: float) -> None:
        if done > self._bar.n:
            self._bar.initial = self._bar.n = self._bar.last_print_n = done

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
