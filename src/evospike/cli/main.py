"""The command `evospike`: reads arguments, calls one job, prints one document. Imports no torch by itself."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from evospike.cli.arguments import make_parser
from evospike.cli.commands import COMMANDS
from evospike.core.errors import EvospikeError, Interrupted

REFUSED = 2
"""Exit code for bad input and for runs that cannot go on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0, 2 for bad input, 130 and 143 after a signal)."""
    try:
        arguments = make_parser().parse_args(argv)
        document, text = COMMANDS[arguments.command](arguments)
        _print(document, text, as_json=arguments.json)
    except Interrupted as stopped:
        return 128 + stopped.signum
    except KeyboardInterrupt:
        return 130
    except EvospikeError as error:
        return _complain(str(error))
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - nothing more can be printed
        return 0
    except OSError as error:
        return _complain(_about(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _complain("out of memory; lower training.batch or model.steps, or use a smaller network")
    return 0


def _print(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json or text:
        print(json.dumps(document, indent=2) if as_json else text)
        sys.stdout.flush()


def _complain(message: str) -> int:
    with contextlib.suppress(OSError):
        print(f"evospike: {' '.join(message.split())}", file=sys.stderr)
    return REFUSED


def _is_out_of_memory(error: Exception) -> bool:
    """torch says so in a RuntimeError, in words that differ by device."""
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _about(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        where = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{where}; what was saved is whole, make room and use: evospike resume RUN"
    return f"{error.strerror or error}: {error.filename}" if error.filename else str(error)


if __name__ == "__main__":
    sys.exit(main())
