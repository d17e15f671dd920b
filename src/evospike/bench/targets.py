"""What the suite is to show: targets as data, and how the figure of each follows from a document. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, Protocol

from evospike.bench.case import LIMIT, OURS, Unit
from evospike.bench.document import CaseResult, ContestantResult, Document, State, TargetResult, turn_ratios

SPIKINGJELLY = "spikingjelly"
"""The peer that some targets are set against."""

Bound = Literal["at most", "at least"]


@dataclass(frozen=True)
class Finding:
    """figure: None when it was not measured. note: why not, or what else has to be said."""

    figure: float | None
    note: str = ""


class Figure(Protocol):
    """Where a target's figure is in a document."""

    def of(self, document: Document) -> Finding:
        """The figure, or why there is none."""


@dataclass(frozen=True)
class Pick:
    """One contestant of a case: by its name, or the best of a tool."""

    name: str = ""
    by: str = ""

    def of(self, case: CaseResult) -> ContestantResult | None:
        """The contestant, None when it did not take part."""
        if self.name:
            return next((one for one in case.contestants if one.name == self.name), None)
        return best((one for one in case.contestants if one.by == self.by), higher=case.higher)

    def why_absent(self, case: CaseResult) -> str:
        """Why the case has no such contestant."""
        reasons = [one.reason for one in case.absent if one.name == self.name or (self.by and one.by == self.by)]
        return f"{self}: {(reasons or [case.reason or 'did not take part'])[0]}"

    def __str__(self) -> str:
        return self.name or f"best of {self.by}"


@dataclass(frozen=True)
class Value:
    """The median of a contestant."""

    case: str
    pick: Pick

    def of(self, document: Document) -> Finding:
        case = document.case(self.case)
        if case is None:
            return _not_run(self.case)
        found = self.pick.of(case)
        return Finding(None, self.pick.why_absent(case)) if found is None else Finding(found.spread.median)


@dataclass(frozen=True)
class Ratio:
    """The median over the turns of one contestant's figure divided by another's in the same turn."""

    case: str
    over: Pick
    under: Pick

    def of(self, document: Document) -> Finding:
        case = document.case(self.case)
        if case is None:
            return _not_run(self.case)
        over, under = self.over.of(case), self.under.of(case)
        if over is None or under is None:
            missing = self.over if over is None else self.under
            return Finding(None, missing.why_absent(case))
        ratios = turn_ratios(over.figures, under.figures)
        return Finding(None, f"{under.name} measured zero") if ratios is None else Finding(median(ratios))


@dataclass(frozen=True)
class Worst:
    """The worst of several figures; what is not measured is left out, and the note says so.

    pick: `max` or `min`, whichever is worse.
    """

    parts: tuple[tuple[str, Figure], ...]
    pick: Callable[[Iterable[float]], float]

    def of(self, document: Document) -> Finding:
        return _worst([(name, part.of(document)) for name, part in self.parts], self.pick)


@dataclass(frozen=True)
class AgainstPeers:
    """The smallest over all peers of: the best figure of the peer divided by our best, turn by turn."""

    case: str

    def of(self, document: Document) -> Finding:
        case = document.case(self.case)
        if case is None:
            return _not_run(self.case)
        peers = [tool for tool in case.tools if tool not in (OURS, LIMIT)]
        if not peers:
            return Finding(None, "no peer took part")
        found = [(peer, Ratio(self.case, Pick(by=peer), Pick(by=OURS)).of(document)) for peer in peers]
        return _worst(found, min)


@dataclass(frozen=True)
class LeastOf:
    """The smallest median of a tool's contestants in a case."""

    case: str
    by: str

    def of(self, document: Document) -> Finding:
        case = document.case(self.case)
        if case is None:
            return _not_run(self.case)
        found = [(one.name, Finding(one.spread.median)) for one in case.contestants if one.by == self.by]
        failed = [(one.name, Finding(None, f"{one.name}: {one.reason}")) for one in case.absent if one.by == self.by]
        return _worst([*found, *failed], min)


@dataclass(frozen=True)
class Target:
    """One target. number: in the issue's list. device: kind of device it is for. aim: what would be better still."""

    number: str
    text: str
    figure: Figure
    bound: Bound
    value: float
    unit: Unit
    device: Literal["cpu", "cuda"] = "cpu"
    aim: float | None = None

    @property
    def wanted(self) -> str:
        """The bound in words, with the aim."""
        unit = "" if self.unit == "x" else f" {self.unit}"
        aim = "" if self.aim is None else f", aim {self.aim:g}{unit}"
        return f"{self.bound} {self.value:g}{unit}{aim}"

    def assess(self, document: Document) -> TargetResult:
        """Its figure in a document, and whether that reaches it."""
        finding = self._finding(document)
        return TargetResult(
            self.number, self.text, self.wanted, finding.figure, self._state(finding.figure), finding.note
        )

    def _finding(self, document: Document) -> Finding:
        if document.quick:
            return Finding(None, "quick run: sizes are not the reference's")
        if not document.machine.device.startswith(self.device):
            return Finding(None, f"needs a {'CUDA device' if self.device == 'cuda' else 'run on the CPU'}")
        return self.figure.of(document)

    def _state(self, figure: float | None) -> State:
        if figure is None:
            return "not measured"
        reached = figure <= self.value if self.bound == "at most" else figure >= self.value
        return "reached" if reached else "missed"


def best(contestants: Iterable[ContestantResult], *, higher: bool) -> ContestantResult | None:
    """The contestant with the best median; None without any."""
    found = sorted(contestants, key=lambda one: one.spread.median, reverse=higher)
    return found[0] if found else None


def assess(document: Document) -> tuple[TargetResult, ...]:
    """Every target with its figure in a document."""
    return tuple(target.assess(document) for target in TARGETS)


def _worst(found: Sequence[tuple[str, Finding]], pick: Callable[[Iterable[float]], float]) -> Finding:
    measured = {name: finding.figure for name, finding in found if finding.figure is not None}
    missing = "; ".join(dict.fromkeys(finding.note for _, finding in found if finding.figure is None))
    if not measured:
        return Finding(None, missing or "nothing took part")
    figure = pick(measured.values())
    name = next(name for name, one in measured.items() if one == figure)
    at = f"worst: {name}" if len(measured) > 1 else name
    return Finding(figure, f"{at}; not measured: {missing}" if missing else at)


def _not_run(case: str) -> Finding:
    return Finding(None, f"{case} was not run")


def _ours(name: str = "") -> Pick:
    return Pick(name) if name else Pick(by=OURS)


def _folded(case: str) -> Ratio:
    return Ratio(case, Pick("evospike training-mode forward"), _ours())


def _rewiring(rule: str) -> tuple[str, Figure]:
    return rule, Ratio("structure-step", Pick(rule), Pick("dense"))


def _workers(name: str) -> tuple[str, Figure]:
    return name, Value("evolution-overhead", Pick(name))


_GENETIC = Pick("genetic, 100 genes")
_DENSE = Pick("dense")

TARGETS: tuple[Target, ...] = (
    Target(
        "1a",
        "Training step of VGG-small, fused, against the ReLU network in the same layout",
        Ratio("train-vgg-small", Pick("evospike fused"), Pick("relu")),
        "at most",
        1.08,
        "x",
    ),
    Target(
        "1b",
        "Training step of VGG-small, our best setting against each peer's best: times faster",
        AgainstPeers("train-vgg-small"),
        "at least",
        1.2,
        "x",
    ),
    Target(
        "2a",
        "Training step of CIFARNet, 100 genes against its dense twin: times faster",
        Ratio("genetic-cifarnet", _DENSE, _GENETIC),
        "at least",
        1.8,
        "x",
        aim=2.4,
    ),
    Target(
        "2b",
        "Training step of ResNet-19w, 100 genes against its dense twin: times faster",
        Ratio("genetic-resnet19w", _DENSE, _GENETIC),
        "at least",
        1.35,
        "x",
        aim=1.6,
    ),
    Target(
        "2c",
        "Genetic layers of realistic size at gene counts that save parameters, against dense: times faster",
        LeastOf("genetic-layers", OURS),
        "at least",
        0.95,
        "x",
    ),
    Target(
        "2d",
        "Training step of ResNet-19w, 100 genes against SpikingJelly's dense one: times faster",
        Ratio("genetic-resnet19w", Pick(by=SPIKINGJELLY), _GENETIC),
        "at least",
        1.6,
        "x",
        aim=2.0,
    ),
    Target(
        "3a",
        "Inference, folded, against our training-mode forward: times faster",
        Worst(tuple((case, _folded(case)) for case in ("infer-vgg-small", "infer-resnet19")), min),
        "at least",
        1.3,
        "x",
    ),
    Target(
        "3b",
        "Inference, our best setting against each peer's best: times faster",
        Worst(tuple((case, AgainstPeers(case)) for case in ("infer-vgg-small", "infer-resnet19")), min),
        "at least",
        1.0,
        "x",
    ),
    Target(
        "4",
        "Peak training memory at T=4, fused, against SpikingJelly's best",
        Ratio("train-memory", Pick("evospike fused"), Pick(by=SPIKINGJELLY)),
        "at most",
        0.8,
        "x",
    ),
    Target(
        "5",
        "Training step with structure learning at 10 %, rewiring included, against dense",
        Worst(tuple(map(_rewiring, ("gradient", "momentum", "adam", "random"))), max),
        "at most",
        1.03,
        "x",
    ),
    Target(
        "6a1",
        "Search: matrices of four layers, batch 128, against the per-sample loop: times faster",
        Ratio("search-scoring", Pick("matrices by per-sample loops"), Pick("matrices by matrix products")),
        "at least",
        100,
        "x",
    ),
    Target(
        "6a2",
        "Search: share of a candidate's time in its forward pass",
        Ratio("search-scoring", Pick("forward passes alone"), Pick("score of a candidate")),
        "at least",
        0.6,
        "x",
    ),
    Target(
        "6a3",
        "Search: time of a digits candidate (5 a second)",
        Value("search-scoring", Pick("score of a digits candidate")),
        "at most",
        200,
        "ms",
    ),
    Target(
        "6b",
        "Evolution: wall time outside the evaluations",
        Worst((_workers("1 worker"), _workers("2 workers")), max),
        "at most",
        2,
        "%",
    ),
    Target(
        "6c",
        "Evolution: throughput of two workers over one, small networks",
        Value("evolution-workers", Pick("2 workers")),
        "at least",
        1.8,
        "x",
    ),
    Target("7a", "evospike --help", Value("start-help", _ours()), "at most", 0.3, "s"),
    Target(
        "7b",
        "From the command to the first training step of a short job",
        Value("start-first-step", _ours()),
        "at most",
        5,
        "s",
    ),
    Target(
        "8a",
        "CIFAR-10 from parquet to resident images, the first time",
        Value("data-first", _ours()),
        "at most",
        15,
        "s",
    ),
    Target(
        "8b",
        "CIFAR-10 to resident images from the cache",
        Value("data-cached", _ours()),
        "at most",
        1,
        "s",
    ),
    Target(
        "8c",
        "Augmentation as a share of a training step",
        Worst(tuple((kind, Value("data-augment", Pick(kind))) for kind in ("basic", "strong")), max),
        "at most",
        5,
        "%",
    ),
    Target(
        "G1",
        "Throughput of a ResNet-19 training step, T=4, batch 128, of the ReLU network's",
        Ratio("train-resnet19", Pick("relu"), _ours()),
        "at least",
        0.85,
        "x",
        device="cuda",
    ),
    Target(
        "G2",
        "The same against SpikingJelly's best: times faster",
        Ratio("train-resnet19", Pick(by=SPIKINGJELLY), _ours()),
        "at least",
        1.2,
        "x",
        device="cuda",
    ),
    Target(
        "G3",
        "16 small candidates as one batch against one after another: times faster",
        Ratio("candidates-batched", Pick("sequential"), Pick("batched")),
        "at least",
        3,
        "x",
        device="cuda",
    ),
)
"""The issue's targets in its order."""
