"""The machines of a run on a cluster: what numbers depend on there, and how that differs from the driver's machine.

Results are promised to be the same to the bit on machines of one kind. Where a machine is of another kind, the run goes
on and its result says so: the differences stay in RUN/nodes.json.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import evospike
from evospike.core.progress import tell
from evospike.jobs.folder import NODES, RunFolder, reading
from evospike.jobs.plan import Plan, versions

INSTRUCTIONS = "instructions"
"""Name of the fact that is a set of words."""

_CPUINFO = Path("/proc/cpuinfo")
_VECTORS = ("avx", "amx", "fma", "asimd", "sve", "bf16", "i8mm")
"""How the names of the instruction sets begin that the kernels of torch choose between."""


def facts(context: Mapping[str, Any]) -> dict[str, str]:
    """What the numbers of a run depend on in this process; context: as of `workshop.as_context`."""
    return machine_facts(Plan.from_plain(context["plan"]))


def machine_facts(plan: Plan) -> dict[str, str]:
    """What the numbers of a run depend on in this process: versions and kind of processor."""
    return versions(plan.device) | {
        "python": platform.python_version(),
        "evospike": evospike.__version__,
        "machine": platform.machine(),
        INSTRUCTIONS: instruction_sets(_CPUINFO.read_text(encoding="utf-8") if _CPUINFO.is_file() else ""),
    }


def instruction_sets(cpuinfo: str) -> str:
    """Vendor and vector instruction sets of the first processor of a Linux /proc/cpuinfo; empty where it names none."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    values: dict[str, str] = {}
    for name, _, value in lines:
        values.setdefault(name.strip(), value.strip())
    flags = values.get("flags", values.get("Features", "")).split()
    return " ".join([values.get("vendor_id", ""), *sorted(flag for flag in flags if flag.startswith(_VECTORS))]).strip()


@dataclass(frozen=True)
class Difference:
    """A fact that is another one on a worker's machine; host: the first such machine. Empty: nothing of the kind."""

    fact: str
    here: str
    there: str
    host: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.there or 'nothing more'} on {self.host}, {self.here or 'nothing more'} here"


class Nodes:
    """Compares what workers say of their machines with this one, tells each kind of difference once and keeps it."""

    def __init__(self, run: RunFolder, own: Mapping[str, str]) -> None:
        self._run, self._own = run, dict(own)
        self._known = node_differences(run)

    def __call__(self, host: str, facts: Mapping[str, str]) -> None:
        """host: name of a worker's machine. facts: of the worker, as `facts` gives them."""
        known = {(one.fact, one.there) for one in self._known}
        new = [one for one in different_facts(self._own, facts, host) if (one.fact, one.there) not in known]
        if new:
            tell(f"not bit-identical: {'; '.join(map(str, new))}")
            self._known += new
            self._run.write(NODES, {"differences": [asdict(one) for one in self._known]})


def different_facts(own: Mapping[str, str], facts: Mapping[str, str], host: str) -> list[Difference]:
    """Every fact that is another one on a worker's machine; of instruction sets, those that only one of them has."""
    found = []
    for name in sorted(own.keys() | facts.keys()):
        here, there = own.get(name, ""), facts.get(name, "")
        if name == INSTRUCTIONS:
            here, there = _without_common(here, there)
        if here != there:
            found.append(Difference(name, here, there, host))
    return found


def node_differences(run: RunFolder) -> list[Difference]:
    """How machines that a run was computed on differ from its driver's; nothing for one that stayed on one machine.

    Raises: RunError for a document that was altered.
    """
    with reading(NODES):
        document = run.read(NODES)
        found = [] if document is None else [Difference(**one) for one in document["differences"]]
        if not all(isinstance(text, str) for one in found for text in asdict(one).values()):
            raise TypeError("it holds what is no text")
        return found


def _without_common(here: str, there: str) -> tuple[str, str]:
    own, other = set(here.split()), set(there.split())
    return " ".join(sorted(own - other)), " ".join(sorted(other - own))
