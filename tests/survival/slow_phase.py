"""The command line with one phase that takes a minute: python slow_phase.py PHASE MARK ARGUMENTS

The file MARK appears when the phase begins. A phase is stretched by a wait where nothing looks for signals, as by a
library that is busy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAIT_S = 60.0


def stretched(function: Callable[..., Any], mark: Path) -> Callable[..., Any]:
    """The function after a long wait, which it says that it has begun."""

    def wait_first(*arguments: Any, **options: Any) -> Any:
        mark.touch()
        last = time.monotonic() + WAIT_S
        while time.monotonic() < last:
            time.sleep(1.0)
        return function(*arguments, **options)

    return wait_first


def stretch(phase: str, mark: Path) -> None:
    if phase == "loading data":
        from evospike.jobs import conduct

        conduct.load_task = stretched(conduct.load_task, mark)
    elif phase == "training":
        from evospike.training.loop import Trainer

        Trainer._finish_epoch = stretched(Trainer._finish_epoch, mark)
    elif phase == "judging":
        from evospike.jobs import final

        final.evaluate = stretched(final.evaluate, mark)
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
