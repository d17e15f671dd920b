"""A worker of a Ray cluster: an actor that loads its function once and then takes one payload at a time.

It replies in values of its own making and never by an exception, so that whatever Ray raises to the driver is about a
process or a node. Ray and the function are imported when the worker starts, in its own process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evospike.evolution.executors.worker import Reply, call, load_function, one_line


@dataclass(frozen=True)
class Started:
    """What a worker says when it has started, or why it cannot work.

    node: Ray's name of the machine; host: the machine's own. facts: what the values depend on there, by name.
    """

    pid: int
    node: str
    host: str
    facts: Mapping[str, str]
    error: str | None = None


class RayWorker:
    """Runs `function(payload, context)`; both functions are given as 'package.module:name'.

    describe: a function of the context that gives what its values depend on in this process; empty: nothing is told.
    """

    def __init__(self, function: str, context: dict[str, Any], describe: str) -> None:
        self._name, self._context, self._describe = function, context, describe

    def start(self) -> Started:
        """Load the functions."""
        import ray

        pid, node, host = os.getpid(), str(ray.get_runtime_context().get_node_id()), socket.gethostname()
        try:
            self._function = load_function(self._name)
            facts = self._facts()
        except BaseException as error:  # also SystemExit: the driver is to be told
            return Started(pid, node, host, {}, one_line(error))
        return Started(pid, node, host, facts)

    def sign(self) -> None:
        """Show that it is alive."""

    def work(self, payload: Any) -> Reply:
        """The function's value or what went wrong."""
        return call(self._function, payload, self._context)

    def _facts(self) -> Mapping[str, str]:
        if not self._describe:
            return {}
        describe: Callable[..., Any] = load_function(self._describe)
        return dict(describe(self._context))
