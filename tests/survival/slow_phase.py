"""The command line with one phase that takes a minute: python slow_phase.py PHASE MARK ARGUMENTS

The file MARK appears when the phase begins. A phase is stretched by a library that computes: in there no handler of
Python is called, and no signal makes it return.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 10**9
"""Of a hash: some minutes."""


def stretched(
    function: Callable[..., Any], mark: Path, when: Callable[..., bool] = lambda *arguments: True
) -> Callable[..., Any]:
    """The function after a long time, which it says that it has begun."""

    def wait_first(*arguments: Any, **options: Any) -> Any:
        if when(*arguments):
            mark.touch()
            hashlib.pbkdf2_hmac("sha256", b"", b"", ROUNDS)
        return function(*arguments, **options)

    return wait_first


def stretch(phase: str, mark: Path) -> None:
    if phase == "loading data":
        from evospike.jobs import conduct

        conduct.load_task = stretched(conduct.load_task, mark)
    elif phase == "training":
        from evospike.training.loop import Trainer

        Trainer._finish_epoch = stretched(Trainer._finish_epoch, mark)
    elif phase == "before the first step":
        from evospike.training.loop import Trainer

        Trainer._restore = stretched(Trainer._restore, mark)
    elif phase == "validating":
        from evospike.training.loop import Trainer

        Trainer._validated = stretched(Trainer._validated, mark)
    elif phase == "judging":
        from evospike.jobs import final

        final._measured = stretched(final._measured, mark)
    elif phase == "scoring":
        from evospike.evolution.executors.local import LocalExecutor

        waits = LocalExecutor._next_message
        LocalExecutor._next_message = stretched(waits, mark, lambda executor, *_: bool(executor._busy()))
    elif phase == "writing a report":
        from evospike.report import page

        page.render = stretched(page.render, mark)
    elif phase == "evaluating":
        from evospike.jobs import evaluation

        evaluation.count_costs = stretched(evaluation.count_costs, mark)
    else:
        raise SystemExit(f"no phase '{phase}'")


def main() -> int:
    from evospike.cli.main import main as command_line

    phase, mark, *arguments = sys.argv[1:]
    stretch(phase, Path(mark))
    return command_line(arguments)


if __name__ == "__main__":
    sys.exit(main())
