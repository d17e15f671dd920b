"""Cases that take no time: what they measure is known beforehand."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from evospike.bench.case import Absent, Case, Circumstances, Contestant, Growth
from evospike.bench.cases import memory
from evospike.bench.timing import in_fresh_process

REMEMBERED = Path("remembered")
"""In the folder of the command: what is left of a case."""


def counting(factor: float) -> Callable[[], float]:
    """A figure that grows by `factor` with every turn."""
    turns = count(1)
    return lambda: factor * next(turns)


def constant(figure: float) -> Callable[[], float]:
    return lambda: float(figure)


def raising(turn: int) -> Callable[[], float]:
    """Fails in that turn, the first being 1."""
    turns = count(1)

    def measure() -> float:
        if next(turns) == turn:
            raise ValueError("no more\nof this")
        return 1.0

    return measure


def steady(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    yield Contestant("base", "limit", counting(1.0))
    yield Contestant("double", "evospike", counting(2.0), {"layout": "contiguous", "blocks": 2, "bits": True})
    yield Contestant("fails late", "evospike", raising(4))
    yield Contestant("no number", "evospike", lambda: float("nan"))
    yield Absent("absentee", "gamma", "not installed: no gamma")


def looking(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """What a contestant finds around it, as figures."""
    folder = Path(circumstances.folder)
    Path(folder, "left").write_text("something")
    REMEMBERED.write_text(str(folder))
    yield Contestant("threads", "evospike", lambda: float(circumstances.threads))
    yield Contestant("OMP_NUM_THREADS", "evospike", lambda: float(os.environ["OMP_NUM_THREADS"]))
    yield Contestant("files", "evospike", lambda: float(len(list(folder.iterdir()))))
    for name, peer in circumstances.peers.items():
        if isinstance(peer, Absent):
            yield peer
        else:
            yield Contestant(f"{name}: neurons", name, constant(len(peer.neurons)))


def killed(circumstances: Circumstances) -> Iterator[Contestant]:
    def measure() -> float:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0.0

    yield Contestant("last words", "evospike", measure)


def broken(circumstances: Circumstances) -> Iterator[Contestant]:
    raise RuntimeError("nothing to measure with")
    yield


def twins(circumstances: Circumstances) -> Iterator[Contestant]:
    yield from (Contestant("one", "evospike", lambda: 1.0) for _ in range(2))


def nested(circumstances: Circumstances) -> Iterator[Contestant]:
    """Measures in a process below its own, for ever."""
    arguments = {"path": str(REMEMBERED.resolve()), "parent": os.getpid()}
    yield Contestant(
        "endless", "evospike", lambda: in_fresh_process("bench_fake_cases:sleep_for_ever", arguments, threads=1)
    )


def sleep_for_ever(path: str, parent: int) -> float:
    Path(path).write_text(f"{parent} {os.getpid()}")
    time.sleep(3600)
    return 0.0


def line(circumstances: Circumstances, value: int) -> Callable[[], float]:
    if value == 8:
        raise ValueError("too many")
    return lambda: 3.0 + 2.0 * value


def _case(name: str, make: Callable[[Circumstances], Iterator[Contestant | Absent]], **fields: object) -> Case:
    return Case(name, "Fakes", f"about {name}", "ms", "base", make, **{"repeats": 3, **fields})


CASES = (
    _case("steady", steady, quick_repeats=2),
    _case("looking", looking),
    _case("killed", killed, quick=False),
    _case("broken", broken, quick=False),
    _case("twins", twins, quick=False),
    _case("nested", nested, quick=False),
)

GROWTHS = (
    Growth("grows", "about grows", "T", "s", (1, 2, 4, 8, 16), line, quick_values=(1, 2)),
    Growth("whole-only", "about whole-only", "T", "s", (1, 2), line, repeats=2),
)


def peak_of_two_halves(megabytes: int) -> float:
    """Peak of a call that holds two halves, twice one after the other; what was held before it does not count."""
    import torch

    held = torch.ones(megabytes << 18)

    def run() -> None:
        for _ in range(2):
            halves = [torch.ones(megabytes << 17) for _ in range(2)]
            del halves

    found = memory.peak_above(run, "cpu") / (1 << 20)
    assert held.sum() == megabytes << 18
    return found
