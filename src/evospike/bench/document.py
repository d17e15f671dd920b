"""The result of `evospike bench`: one document, its JSON form, and what is computed from the figures. Imports no torch.

`schema.json` beside this file describes the JSON form. Medians, quartiles, ratios and fits follow from the figures; a
document in which they do not is refused.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import quantiles
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from evospike.bench.case import Setting, Unit
from evospike.bench.growth import Fit, fit
from evospike.core.errors import RunError
from evospike.core.files import read_json, write_json
from evospike.core.settings import plain
from evospike.core.text import shortened, shown
from evospike.jobs.folder import reading

FORMAT = 1
SCHEMA = Path(__file__).with_name("schema.json")

State = Literal["reached", "missed", "not measured"]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the turns."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class ContestantResult:
    """What a contestant measured.

    figures: one per turn that counts, in the order of the turns. ratio: its figure divided by that of the case's
    reference in the same turn; None without a reference.
    """

    name: str
    by: str
    settings: Mapping[str, Setting]
    figures: tuple[float, ...]
    spread: Spread
    ratio: Spread | None


@dataclass(frozen=True)
class AbsentResult:
    """A contestant that did not take part, or failed, and why."""

    name: str
    by: str
    reason: str


@dataclass(frozen=True)
class CaseResult:
    """What the contestants of a case measured. reason: why there is no figure at all, empty when there are some."""

    name: str
    group: str
    about: str
    unit: Unit
    reference: str
    higher: bool
    seconds: float
    reason: str
    contestants: tuple[ContestantResult, ...]
    absent: tuple[AbsentResult, ...]

    @property
    def tools(self) -> list[str]:
        """Who its contestants are by, absent ones last."""
        found = [one.by for one in self.contestants] + [one.by for one in self.absent]
        return list(dict.fromkeys(found))


@dataclass(frozen=True)
class GrowthPoint:
    """Figures at one value of the variable. reason: why there are none, empty when there are some."""

    value: int
    figures: tuple[float, ...]
    spread: Spread | None
    reason: str


@dataclass(frozen=True)
class GrowthResult:
    """How a figure grew with a variable. fit: through the medians, None with fewer than three of them."""

    name: str
    about: str
    variable: str
    unit: Unit
    seconds: float
    reason: str
    points: tuple[GrowthPoint, ...]
    fit: Fit | None


@dataclass(frozen=True)
class Machine:
    """Where it was measured.

    device: `cpu` or `cuda:N`. device_name: of the GPU, or of the processor. capability: vector instructions that torch
    uses. cores: those this process may use. threads: CPU threads of a case. memory: bytes, None where nobody tells.
    """

    device: str
    device_name: str
    cpu: str
    capability: str
    cores: int
    threads: int
    memory: int | None
    system: str


@dataclass(frozen=True)
class Versions:
    """What was measured. commit: of the checkout, with `+` when it has changes, empty outside one."""

    python: str
    torch: str
    numpy: str
    evospike: str
    commit: str


@dataclass(frozen=True)
class PeerResult:
    """A peer that was looked for. dynamics: what is not as in ours. reason: why it is absent, empty when it is not."""

    name: str
    version: str
    dynamics: str
    reason: str


@dataclass(frozen=True)
class TargetResult:
    """A target and its figure, None when it was not measured. wanted: the bound. note: what else has to be said."""

    number: str
    text: str
    wanted: str
    figure: float | None
    state: State
    note: str


@dataclass(frozen=True)
class Document:
    """One run of the suite.

    complete: False while it runs and when it was interrupted. started: local time with its offset. seconds: from the
    start to the last case that ended. peers: None when no peers were looked for.
    """

    format: int
    quick: bool
    complete: bool
    started: str
    seconds: float
    machine: Machine
    versions: Versions
    peers: tuple[PeerResult, ...] | None
    cases: tuple[CaseResult, ...]
    growths: tuple[GrowthResult, ...]
    targets: tuple[TargetResult, ...]

    def case(self, name: str) -> CaseResult | None:
        """The case of that name, None when it was not run."""
        return next((case for case in self.cases if case.name == name), None)


def spread_of(figures: Sequence[float]) -> Spread:
    """Median and quartiles (inclusive) of one figure or more."""
    low, median, high = quantiles(figures, n=4, method="inclusive") if len(figures) > 1 else 3 * list(figures)
    return Spread(median, low, high)


def turn_ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...] | None:
    """`over / under` turn by turn; None where a divisor is zero."""
    return None if 0 in under else tuple(a / b for a, b in zip(over, under, strict=True))


def with_spreads(contestants: Iterable[ContestantResult], reference: str) -> tuple[ContestantResult, ...]:
    """The contestants with spreads and ratios computed from their figures."""
    found = list(contestants)
    under = next((contestant.figures for contestant in found if contestant.name == reference), None)
    return tuple(
        replace(contestant, spread=spread_of(contestant.figures), ratio=_ratio(contestant.figures, under))
        for contestant in found
    )


def with_fit(result: GrowthResult) -> GrowthResult:
    """The growth with spreads and fit computed from its figures."""
    points = tuple(
        replace(point, spread=spread_of(point.figures) if point.figures else None) for point in result.points
    )
    measured = [(point.value, point.spread.median) for point in points if point.spread is not None]
    return replace(result, points=points, fit=fit(measured))


def to_plain(document: Document) -> dict[str, Any]:
    """The JSON form."""
    value = plain(document)
    assert isinstance(value, dict)
    return value


def from_plain(value: object) -> Document:
    """The document of a JSON form.

    Raises: RunError for another format, a field that is missing, unknown or of the wrong type, and a median, quartile,
    ratio or fit that does not follow from the figures.
    """
    if isinstance(value, Mapping) and value.get("format") != FORMAT:
        raise RunError(
            f"the document has format {shown(value.get('format'))}; this release reads format {FORMAT}: open it with "
            "the release that wrote it, or measure again"
        )
    with reading("the document", "measure it again"):
        return _sound(_read(Document, value, "document"))


def _sound(document: Document) -> Document:
    """The document itself, once what follows from its figures is what it says."""
    for case in document.cases:
        if len({len(contestant.figures) for contestant in case.contestants}) > 1:
            raise RunError(f"contestants of '{case.name}' differ in their number of turns; the document was altered")
    if not _agree(to_plain(_recomputed(document)), to_plain(document)):
        raise RunError("medians or ratios do not follow from the figures; the document was altered, measure it again")
    return document


def read_document(path: Path) -> Document:
    """Read what `write_document` wrote. Raises: RunError when it cannot be read, and as `from_plain`."""
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read '{path}' ({error}); give a file that evospike bench wrote") from None
    try:
        return from_plain(value)
    except RunError as error:
        raise RunError(f"'{path}': {error}") from None


def write_document(path: Path, document: Document) -> None:
    """Write the JSON form, atomically. Raises: RunError when the file cannot be written."""
    try:
        write_json(path, to_plain(document))
    except OSError as error:
        raise RunError(f"cannot write '{path}' ({error.strerror}); give -o a file on a disk with room") from None


def _ratio(figures: Sequence[float], under: Sequence[float] | None) -> Spread | None:
    ratios = None if under is None else turn_ratios(figures, under)
    return None if ratios is None else spread_of(ratios)


def _recomputed(document: Document) -> Document:
    cases = tuple(replace(case, contestants=with_spreads(case.contestants, case.reference)) for case in document.cases)
    return replace(document, cases=cases, growths=tuple(map(with_fit, document.growths)))


def _agree(one: object, other: object) -> bool:
    """Whether two JSON values are the same but for rounding, which differs between mathematical libraries."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_agree(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_agree, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


def _read(hint: Any, value: object, where: str) -> Any:
    """A plain value as what a type says: a record, a tuple of one type, a mapping, a choice, a scalar or None."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _read_record(hint, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_read(arguments[0], item, f"{where}[{k}]") for k, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _read(arguments[1], item, f"{where}.{shortened(key)}") for key, item in value.items()}
    if origin in (Union, types.UnionType):
        return _read_one_of(arguments, value, where)
    if (origin is Literal and value in arguments) or (isinstance(hint, type) and _is_scalar(hint, value)):
        return float(value) if hint is float else value  # type: ignore[arg-type]
    raise RunError(f"'{where}' cannot be {value!r:.60}; expected {_wanted(hint)}")


def _read_record(cls: Any, value: object, where: str) -> Any:
    hints = get_type_hints(cls)
    if not isinstance(value, dict) or set(value) != set(hints):
        given = ", ".join(sorted(map(str, value))) if isinstance(value, dict) else f"{value!r:.60}"
        raise RunError(f"'{where}' wants exactly the fields {', '.join(sorted(hints))}; given {given:.300}")
    return cls(**{name: _read(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})


def _read_one_of(hints: Sequence[Any], value: object, where: str) -> Any:
    """None, a scalar that is one of several, or a record or tuple that may be None."""
    if value is None and type(None) in hints:
        return None
    fitting = [hint for hint in hints if isinstance(hint, type) and _is_scalar(hint, value)]
    others = [hint for hint in hints if hint is not type(None)]
    return _read(fitting[0] if fitting else others[0], value, where)


def _is_scalar(hint: type, value: object) -> bool:
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    return type(value) is hint


def _wanted(hint: Any) -> str:
    names = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text"}
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    return names.get(hint, "a list" if get_origin(hint) is tuple else "an object")
