"""The memory that a training step takes at its peak, above what the process holds between steps.

Weights, optimiser state and whatever else stays is therefore not counted; what back-propagation keeps is, and so are
gradients and scratch memory. Earlier steps of the process compile and make the optimiser's state.

What counts is what a step holds at once. How much more a process occupies is a matter of the C library, which may keep
freed blocks of up to 32 MB and not find them again; glibc is told to give all large blocks back at once, for everyone.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from evospike.bench.case import Absent, Case, Circumstances, Contestant, Peer
from evospike.bench.cases import networks
from evospike.bench.cases.networks import Entrant, Workload
from evospike.bench.peers import Peers
from evospike.bench.timing import in_fresh_process
from evospike.core.errors import RunError

WARM_UP = 2
"""Steps before the one that counts."""

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_CLEAR_PEAK = "5"
_MMAP_THRESHOLD, _LARGE = -3, 1 << 18
"""A parameter of `mallopt`, by its number in glibc's malloc.h, and the bytes from which on a block is large."""


def vgg_small(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Training steps of VGG-small."""
    batch = networks.batch_of(circumstances, 32)
    return contestants(Workload(networks.vgg_small(), batch, device=circumstances.device), circumstances)


def resnet19(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Training steps of ResNet-19, our own and with ReLU: what the settings save in a deep network."""
    alone = replace(circumstances, peers={}, peers_folder="")
    return contestants(Workload(networks.resnet19(), 8, device=circumstances.device), alone)


def contestants(workload: Workload, circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Everyone's training step of one workload, in megabytes, each repetition in a process of its own."""

    def prepare(entrant: Entrant) -> Callable[[], float]:
        arguments = {"workload": workload, "name": entrant.name, "peers_folder": circumstances.peers_folder}
        return lambda: in_fresh_process(f"{__name__}:peak_of", arguments, circumstances.threads)

    return networks.as_contestants(entrants(circumstances.peers, circumstances.device), prepare)


def entrants(peers: Mapping[str, Peer | Absent], device: str) -> Iterator[Entrant | Absent]:
    """Whose memory is measured, channels last."""
    yield networks.ours("evospike eager", "eager", device)
    yield networks.ours("evospike fused", "fused", device)
    yield networks.ours("evospike, spikes in bits", "fused", device, activations="bits")
    yield networks.ours("evospike, blocks recomputed", "fused", device, activations="recomputed")
    yield networks.relu_entrant()
    yield from networks.peer_entrants(peers, device)


def peak_of(workload: Workload, name: str, peers_folder: str) -> float:
    """Megabytes that a training step of the entrant of that name takes at its peak."""
    from evospike.bench.cases.running import training_step

    for entrant in entrants(Peers(peers_folder), workload.device):
        if isinstance(entrant, Entrant) and entrant.name == name:
            return peak_above(training_step(workload, entrant), workload.device) / 1e6
    raise RunError(f"'{name}' does not take part in this process; expected one of the case's contestants")


def peak_above(run: Callable[[], object], device: str) -> int:
    """Bytes that a call of `run` takes at its peak, above what is held before it; a few calls go before.

    For a process of its own, whose allocator this sets up. On a CPU: resident memory of the process. Where its peak
    cannot be reset (only Linux can), what the peak grows by in all the calls, the first included.
    """
    if device.startswith("cuda"):
        return _peak_on_cuda(run, device)
    if not _can_reset_peak():
        before = _largest_ever()
        _repeat(run, WARM_UP + 1)
        return _largest_ever() - before
    _give_large_blocks_back()
    _repeat(run, WARM_UP)
    _give_back()
    _CLEAR.write_text(_CLEAR_PEAK)
    held = _resident("VmRSS")
    run()
    return _resident("VmHWM") - held


def _peak_on_cuda(run: Callable[[], object], device: str) -> int:
    import torch

    _repeat(run, WARM_UP)
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - held


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _can_reset_peak() -> bool:
    try:
        _CLEAR.write_text(_CLEAR_PEAK)
    except OSError:
        return False
    return True


def _give_large_blocks_back() -> None:
    """From now on return every large block to the system when it is freed."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, _LARGE)


def _give_back() -> None:
    """Return everything freed until now to the system, small blocks too."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _resident(field: str) -> int:
    """Bytes of a field of this process's status, `VmRSS` (now) or `VmHWM` (at the peak)."""
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


def _largest_ever() -> int:
    """Largest resident memory of this process so far, in bytes."""
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


CASES: tuple[Case, ...] = (
    Case(
        "train-memory",
        "Memory",
        "peak resident memory of a training step of VGG-small, T=4, 32x32, batch 32, above that before the step",
        "MB",
        "evospike fused",
        vgg_small,
        repeats=2,
        warmup=0,
        quick=False,
    ),
    Case(
        "train-memory-resnet19",
        "Memory",
        "the same of ResNet-19, batch 8, by our own settings",
        "MB",
        "evospike fused",
        resnet19,
        repeats=2,
        warmup=0,
        quick=False,
    ),
)
