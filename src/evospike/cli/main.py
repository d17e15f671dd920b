"""The command `evospike`: reads arguments, calls one job, prints one document. Imports no torch by itself."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from evospike.cli.arguments import make_parser
from evospike.cli.commands import COMMANDS, follow
from evospike.core.errors import EvospikeError, Interrupted
from evospike.core.launch import REFUSED, check_launch, launched
from evospike.core.limits import memory_ran_out
from evospike.core.stopping import ended_in_time
from evospike.core.text import harmless

DIFFERENT = 1
"""Exit code of a replay that came out otherwise than the run that it made again."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0, 1 for another digest, 2 for bad input, 130 and 143 after a signal)."""
    try:
        with _sigterm_raises():
            return _answer(argv)
    except Interrupted as stopped:
        return 128 + stopped.signum
    except KeyboardInterrupt:
        return 130


def _answer(argv: Sequence[str] | None) -> int:
    """Run a command; what cannot be done is said in one line."""
    try:
        arguments = make_parser().parse_args(argv)
        launch = launched()
        check_launch(launch, arguments.command)
        if launch.rank > 0:
            return follow(arguments, launch)
        document, text = COMMANDS[arguments.command](arguments)
        _print(document, text, as_json=arguments.json)
        return DIFFERENT if (document.get("replay") or {}).get("same") is False else 0
    except EvospikeError as error:
        return _complain(str(error))
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - nothing more can be printed
        return 0
    except (OSError, MemoryError, RuntimeError) as error:
        if memory_ran_out(error):
            return _complain("out of memory; lower training.batch or model.steps, or use a smaller network")
        if not isinstance(error, OSError):
            raise
        return _complain(_about(error))


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Inside, SIGTERM raises as Ctrl-C does: what is half written is taken back, in some seconds' time at most. Runs
    handle both by themselves.

    Not where an error is on its way to the person: the command ends with it anyway, and `torchrun` sends SIGTERM to
    the processes that have lost one of them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are none of this thread's business
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        if not isinstance(sys.exc_info()[1], EvospikeError):
            raise Interrupted(signum)

    with ended_in_time():
        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _print(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json or text:
        print(json.dumps(document, indent=2) if as_json else harmless(text))
        sys.stdout.flush()


def _complain(message: str) -> int:
    with contextlib.suppress(OSError):
        if launched().rank == 0:  # of processes started together, the first one speaks for all
            print(f"evospike: {harmless(' '.join(message.split()))}", file=sys.stderr)
    return REFUSED


def _about(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        where = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{where}; what was saved is whole, make room and use: evospike resume RUN"
    return f"{error.strerror or error}: {error.filename}" if error.filename else str(error)


if __name__ == "__main__":
    sys.exit(main())
