"""What measuring processes run: a case, a growth curve, a description of the machine, or any function. Each function
here takes a payload and the context of its worker. Imports no torch by itself.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evospike.bench.case import Absent, Case, Circumstances, Contestant, Growth, Peer
from evospike.bench.document import (
    AbsentResult,
    ContestantResult,
    GrowthPoint,
    Machine,
    PeerResult,
    Versions,
    spread_of,
    with_spreads,
)
from evospike.bench.peers import Peers
from evospike.bench.registry import find
from evospike.bench.timing import as_figure
from evospike.core.allocator import keep_freed_memory
from evospike.core.errors import SettingsError
from evospike.evolution.executors.worker import load_function, one_line

QUICK_GROWTH_REPEATS = 3
GROWTH_WARMUP = 1

Payload = Mapping[str, Any]
Measures = Mapping[str, Callable[[], float]]


@dataclass(frozen=True)
class Task:
    """The payload of `measure_case` and `measure_growth`.

    module, name: of what is measured. repeats: turns that count, 0 for those of the case. device: resolved. peers:
    folder of adapters, empty for none. folder: where the case may write. progress: file in which the number of turns
    done is left.
    """

    module: str
    name: str
    quick: bool
    repeats: int
    device: str
    peers: str
    folder: str
    progress: str

    def tell(self, turns: int) -> None:
        """Leave the number of turns done."""
        Path(self.progress).write_text(str(turns), encoding="ascii")


@dataclass(frozen=True)
class Turns:
    """figures: of every contestant that never failed, by name, one per turn that counts. reasons: why others did."""

    figures: dict[str, tuple[float, ...]]
    reasons: dict[str, str]


@dataclass(frozen=True)
class Measured:
    """What the contestants of a case came to."""

    contestants: tuple[ContestantResult, ...]
    absent: tuple[AbsentResult, ...]


def call(payload: Payload, context: Mapping[str, Any]) -> object:
    """`payload["function"]`, 'package.module:name', called with `payload["arguments"]` by name."""
    function: Any = load_function(payload["function"])
    return function(**payload["arguments"])


def describe(payload: Payload, context: Mapping[str, Any]) -> tuple[Machine, Versions, tuple[PeerResult, ...] | None]:
    """Machine, versions and peers. payload: `device` as it was asked for, `peers`, the folder or empty.

    Raises: RunError when there is no such device; SettingsError as `load_peers`.
    """
    import numpy as np
    import torch

    import evospike
    from evospike.core.threads import resolved_threads
    from evospike.jobs.folder import source_commit
    from evospike.jobs.plan import resolve_device

    device = resolve_device(payload["device"])
    cpu = _cpu_model()
    machine = Machine(
        device=device,
        device_name=torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu,
        cpu=cpu,
        capability=torch.backends.cpu.get_cpu_capability(),
        cores=resolved_threads(0),
        threads=context["threads"],
        memory=_memory_bytes(),
        system=platform.platform(),
    )
    versions = Versions(
        platform.python_version(), torch.__version__, np.__version__, evospike.__version__, source_commit()
    )
    folder = payload["peers"]
    return machine, versions, tuple(map(_peer_result, Peers(folder).values())) if folder else None


def measure_case(payload: Payload, context: Mapping[str, Any]) -> Measured:
    """The case of a `Task`: its contestants take turns, all with the allocator as our own runs set it."""
    keep_freed_memory()
    task = Task(**payload)
    case = find(task.module, task.name)
    assert isinstance(case, Case)
    made = list(case.contestants(_circumstances(task, context["threads"])))
    present = {one.name: one for one in made if isinstance(one, Contestant)}
    if len({one.name for one in made}) < len(made):
        raise SettingsError(f"two contestants of '{case.name}' have one name; give each its own")
    turns = take_turns({name: one.measure for name, one in present.items()}, *turns_of(case, task), task.tell)
    results = [
        ContestantResult(name, present[name].by, dict(present[name].settings), figures, spread_of(figures), None)
        for name, figures in turns.figures.items()
    ]
    absent = [AbsentResult(one.name, one.by, one.reason) for one in made if isinstance(one, Absent)]
    failed = [AbsentResult(name, present[name].by, reason) for name, reason in turns.reasons.items()]
    return Measured(with_spreads(results, case.reference), (*absent, *failed))


def measure_growth(payload: Payload, context: Mapping[str, Any]) -> tuple[GrowthPoint, ...]:
    """The growth curve of a `Task`: the values of its variable take turns. Spreads are left out."""
    keep_freed_memory()
    task = Task(**payload)
    growth = find(task.module, task.name)
    assert isinstance(growth, Growth)
    circumstances = _circumstances(task, context["threads"])
    values = growth.quick_values if task.quick and growth.quick_values else growth.values
    measures: dict[str, Callable[[], float]] = {}
    reasons: dict[str, str] = {}
    for value in values:
        try:
            measures[str(value)] = growth.make(circumstances, value)
        except Exception as error:
            reasons[str(value)] = one_line(error)
    turns = take_turns(measures, *turns_of(growth, task), task.tell)
    reasons |= turns.reasons
    return tuple(
        GrowthPoint(value, turns.figures.get(str(value), ()), None, reasons.get(str(value), "")) for value in values
    )


def turns_of(item: Case | Growth, task: Task) -> tuple[int, int]:
    """How many turns do not count, and how many do."""
    if isinstance(item, Case):
        warmup, repeats = item.warmup, item.quick_repeats if task.quick else item.repeats
    else:
        warmup, repeats = GROWTH_WARMUP, min(QUICK_GROWTH_REPEATS, item.repeats) if task.quick else item.repeats
    return warmup, task.repeats or repeats


def take_turns(measures: Measures, warmup: int, repeats: int, told: Callable[[int], None] = lambda turn: None) -> Turns:
    """Measure every contestant `warmup + repeats` times, turn by turn, in the order that `order_of` gives a turn.

    One that raises, or whose figure is no finite number, leaves the contest. told: called with the turns done.
    """
    figures: dict[str, list[float]] = {name: [] for name in measures}
    reasons: dict[str, str] = {}
    for turn in range(warmup + repeats):
        names = list(figures)
        for name in (names[place] for place in order_of(len(names), turn)):
            try:
                figure = as_figure(measures[name](), name)
            except Exception as error:
                reasons[name] = one_line(error)
                del figures[name]
                continue
            if turn >= warmup:
                figures[name].append(figure)
        told(turn + 1)
    return Turns({name: tuple(found) for name, found in figures.items()}, reasons)


def order_of(count: int, turn: int) -> Iterator[int]:
    """The order in which `count` contestants are measured in a turn.

    Rows of a Williams design: over `count` turns (twice as many for an odd count) everyone comes equally often at
    every place and equally often right after every other one. So nobody gains or suffers from what a neighbour leaves
    in the caches.
    """
    zigzag = [place // 2 if place % 2 == 0 else count - 1 - place // 2 for place in range(count)]
    mirrored = count % 2 == 1 and turn // max(count, 1) % 2 == 1
    return ((place + turn) % count for place in (reversed(zigzag) if mirrored else zigzag))


def _circumstances(task: Task, threads: int) -> Circumstances:
    return Circumstances(
        device=task.device,
        threads=threads,
        quick=task.quick,
        folder=task.folder,
        data="",
        peers=Peers(task.peers),
        peers_folder=task.peers,
    )


def _peer_result(peer: Peer | Absent) -> PeerResult:
    if isinstance(peer, Absent):
        return PeerResult(peer.name, "", "", peer.reason)
    return PeerResult(peer.name, peer.version, peer.dynamics, "")


def _cpu_model(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux gives it, elsewhere as Python does."""
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    """Main memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
