"""How much is taken from outside: caps on text, and memory that is predicted before it is taken.

A file says how large it is, a recipe how large a network: both may lie or err. Whoever reads them asks here first, so
that the answer is one line and not a machine without memory. Imports no torch.
"""

from __future__ import annotations

import errno
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evospike.core.errors import EvospikeError, SettingsError
from evospike.core.units import size_text

MOST_SETTINGS_BYTES = 1 << 20
"""Of a file that a person writes: a recipe, motifs, a genome."""

MOST_DOCUMENT_BYTES = 1 << 27
"""Of a JSON document that evospike writes; the confusions of nine networks over 1,000 classes fit."""

MOST_DEPTH = 32
"""Of nested tables, lists and objects, in settings and in documents."""

MOST_ITEMS = 10_000
"""In one list of settings."""

LARGEST_WHOLE = (1 << 63) - 1
"""Whole numbers of settings and files; also of their negatives."""

WHOLE_BITS, KEY_BITS = 63, 64
"""Of a whole number in a file, without its sign; and where it may be the key of a random stream."""

LARGEST_SIZE = 1 << 40
"""Of one side, one count of channels or one number of samples that a file claims."""

MOST_PROCESSES = 4096
"""Worker processes of a run, and threads of each."""

MOST_REPEATS = 10_000
"""Seeds, repetitions and members of a population."""

MEMORY = "EVOSPIKE_MEMORY"
"""Environment variable: how much memory may be planned with, as in 16GB; else what the machine has free."""

ALWAYS_FREE = 1 << 24
"""Memory that is never asked about."""

_GIVEN = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_WORDS_OF_TORCH = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_GROUPS = Path("/sys/fs/cgroup")
_OF_A_GROUP = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Files of a control group of either version: its limit, what it uses; and the line of `memory.stat` with pages of
files that it can give back."""


def check_depth(value: Any) -> None:
    """Raise ValueError for plain values that are nested deeper than `MOST_DEPTH`."""
    for _ in _levels(value):
        pass


def check_plain(value: Any, bits: int = WHOLE_BITS) -> None:
    """Raise ValueError as `check_depth` does, and for numbers that are not finite or whole ones of more bits."""
    for level in _levels(value):
        for item in level:
            if isinstance(item, float) and not math.isfinite(item):
                raise ValueError("it holds a number that is not finite")
            if isinstance(item, int) and item.bit_length() > bits:
                raise ValueError(f"it holds a whole number of {item.bit_length()} bits; {bits} is the most")


def _levels(value: Any) -> Iterator[list[Any]]:
    """The values at every depth, those of one depth together: no depth is too deep to be looked at."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        yield level
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        if not inner:
            return
        level = [value for values in inner for value in values]
    raise ValueError(f"it is nested deeper than {MOST_DEPTH}")


def require_memory(needed: int, what: str, remedy: str, error: type[EvospikeError], *, free: int | None = None) -> None:
    """Refuse what would take more memory than there is.

    needed: bytes, predicted before any is taken. free: bytes there are; None: `memory_limit`.
    Raises: `error` with the estimate, what is free and the remedy; SettingsError for an EVOSPIKE_MEMORY that is none.
    """
    if needed <= ALWAYS_FREE:
        return
    limit = memory_limit() if free is None else free
    if needed > limit:
        raise error(
            f"{what} would take about {size_text(needed)} of memory, {size_text(limit)} are free; {remedy}, "
            f"or set {MEMORY} to allow more"
        )


def memory_limit() -> int:
    """Bytes that may be planned with: EVOSPIKE_MEMORY where that is set, else `free_memory`. Raises: SettingsError."""
    given = os.environ.get(MEMORY, "").strip()
    if not given:
        return free_memory()
    found = _GIVEN.fullmatch(given)
    if found is None:
        raise SettingsError(f"{MEMORY} is '{given[:40]}'; give bytes, or a number with a unit as in 16GB")
    number, power, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[power.lower()])


def free_memory() -> int:
    """Bytes that the machine and the control groups of this process still give; without limit where none tells."""
    return max(min([sys.maxsize, *_of_machine(), *_of_groups()]), 0)


def _of_machine() -> Iterator[int]:
    """What Linux calls available; elsewhere all the memory there is."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        yield next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        try:
            yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return


def _of_groups() -> Iterator[int]:
    """What every control group around this process leaves of its limit."""
    for folder in _groups():
        for most, used, spare in _OF_A_GROUP:
            limit, taken = _number(folder / most), _number(folder / used)
            if limit is not None and taken is not None:
                yield limit - taken + _spare(folder / "memory.stat", spare)


def _groups() -> Iterator[Path]:
    """The folders of the control groups of this process that count memory, and of those above them."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers in ("", "memory"):
            root = _GROUPS / controllers
            own = root / place.lstrip("/")
            yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _number(path: Path) -> int | None:
    """None where there is no such file, or it says `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _spare(path: Path, name: str) -> int:
    try:
        lines = dict(line.split() for line in path.read_text().splitlines())
        return int(lines.get(name, 0))
    except (OSError, ValueError):
        return 0


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error says so: torch in a RuntimeError, in words that differ by device and library, the system in an
    OSError.
    """
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in _WORDS_OF_TORCH)
    return isinstance(error, MemoryError)
