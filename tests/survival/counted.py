"""The command line, with a log of what its workers begin: python counted.py LOG ARGUMENTS

Every evaluation that a worker is given, and every step of a training that has checkpoints, is a line of LOG, written
before it is done: the name of the request, or the training and its step.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def count_into(log: str) -> None:
    """Log what this process is given as a worker, and its training steps."""
    from evospike.evolution.executors import worker
    from evospike.training.loop import Trainer

    call, train_step = worker.call, Trainer._train_step

    @functools.wraps(call)
    def counted_call(function: Any, payload: Any, context: Any) -> Any:
        for name in requests_of(payload):
            _write(log, f"score {name}")
        return call(function, payload, context)

    @functools.wraps(train_step)
    def counted_step(self: Trainer, *batch: Any) -> None:
        if self.folder is not None:
            _write(log, f"step {self.folder.name} {self.step}")
        train_step(self, *batch)

    worker.call, Trainer._train_step = counted_call, counted_step


def requests_of(payload: Mapping[str, Any]) -> Iterator[str]:
    """Names of the requests in a payload, as the store names their scores; none for a training."""
    for request in payload.get("requests", [payload]):
        if "generation" in request:
            yield f"{request['kind']}/{request['generation']:04d}/{request['index']:04d}"


def _write(log: str, line: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def main() -> int:
    from evospike.cli.main import main as command_line
    from evospike.evolution.executors import local

    log, *arguments = sys.argv[1:]
    here = str(Path(__file__).parent)
    prelude = f"import sys; sys.path.insert(0, {here!r}); import counted; counted.count_into({log!r}); "
    local._BOOTSTRAP = prelude + local._BOOTSTRAP
    count_into(log)
    return command_line(arguments)


if __name__ == "__main__":
    sys.exit(main())
