"""What is measured: cases, their contestants, and the peers that take part.

Imports no torch: the command line reads the names of cases from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Unit = Literal["ms", "s", "MB", "GFLOP/s", "GB/s", "%", "x"]
Setting = str | int | float | bool

OURS = "evospike"
LIMIT = "limit"
"""Contestants that are no tool: what the arithmetic alone takes."""


@dataclass(frozen=True)
class Contestant:
    """One way to do what a case asks.

    by: `evospike`, `limit`, or the name of a peer. measure: one repetition; its figure in the case's unit. It waits for
    the device before it reads a clock. settings: what tells it from the same tool's others (`layout`, `path`, ...).
    """

    name: str
    by: str
    measure: Callable[[], float]
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class Absent:
    """A contestant that cannot take part, and why, in one line: not installed, no CUDA device."""

    name: str
    by: str
    reason: str


@dataclass(frozen=True)
class Circumstances:
    """Under which a case is run.

    device: `cpu` or `cuda:N`. threads: CPU threads. quick: small sizes, for a look in three minutes.
    folder: where a case may write; gone afterwards. data: folder with local data sets, empty for the environment's.
    peers: those that were found, by name, absent ones too; loaded when first asked for.
    peers_folder: where their adapters are, for a fresh process that loads them itself; empty for none.
    """

    device: str
    threads: int
    quick: bool
    folder: str
    data: str
    peers: Mapping[str, Peer | Absent]
    peers_folder: str = ""


@dataclass(frozen=True)
class Case:
    """One question, answered by contestants that take turns.

    name: as on the command line, `train-vgg-small`. group: heading in the tables. reference: name of the contestant
    that ratios are formed against, turn by turn; empty for none. higher: whether a higher figure is better.
    contestants: makes them; called once, in the process that measures them. repeats, warmup: turns that count, and
    turns before them. quick: whether a quick run, with `quick_repeats` turns, includes it.
    """

    name: str
    group: str
    about: str
    unit: Unit
    reference: str
    contestants: Callable[[Circumstances], Iterator[Contestant | Absent]]
    repeats: int = 15
    quick_repeats: int = 5
    warmup: int = 2
    higher: bool = False
    quick: bool = True


@dataclass(frozen=True)
class Growth:
    """How time or memory grows with one variable.

    make: from circumstances and a value of the variable to one repetition's figure. values: in rising order.
    """

    name: str
    about: str
    variable: str
    unit: Unit
    values: tuple[int, ...]
    make: Callable[[Circumstances, int], Callable[[], float]]
    quick_values: tuple[int, ...] = ()
    repeats: int = 7


@dataclass(frozen=True)
class PeerNeuron:
    """A peer's leaky integrate-and-fire layer in one setting.

    make: from a number of steps to a module that maps currents (T, B, ...) to spikes of that shape, state zero at the
    start of every call. Its dynamics are as near as the peer comes to
    ``u[t] = 0.5 * v[t-1] + x[t]``, threshold 1, hard reset to zero, and its surrogate's derivative is its own default.
    devices: kinds of device it can run on. quick: whether a quick run includes it; it should not wait for a compiler.
    """

    setting: str
    make: Callable[[int], Any]
    devices: tuple[str, ...] = ("cpu", "cuda")
    quick: bool = True


@dataclass(frozen=True)
class Peer:
    """Another tool, as its adapter (a Python file with a module-level `PEER`) describes it.

    dynamics: what is not as in our neuron, in one line, empty for nothing.
    """

    name: str
    version: str
    neurons: tuple[PeerNeuron, ...]
    dynamics: str = ""
