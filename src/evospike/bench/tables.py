"""A document of the suite as text for a terminal, as the short table of the README, and as a whole page of the docs.

The same document gives the same text. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from evospike.bench.case import LIMIT, OURS, Case, Growth
from evospike.bench.document import (
    AbsentResult,
    CaseResult,
    ContestantResult,
    Document,
    GrowthResult,
    Spread,
    State,
    TargetResult,
)
from evospike.bench.registry import Entry
from evospike.bench.targets import Pick, assess, best
from evospike.core.errors import RunError
from evospike.report.paper.tables import Cell, Column, Table, tables_markdown, words

BEGIN, END = "<!-- speed -->", "<!-- /speed -->"
"""Marks in a text; what stands between them is rendered."""

PAGE = "docs/results/speed.md"
NOTES = "speed-notes.md"
PICTURE = "docs/pictures/speed-growth.svg"

HEADLINES = {
    "train-vgg-small": "Training step, VGG-small",
    "train-resnet19": "Training step, ResNet-19",
    "infer-vgg-small": "Inference, VGG-small",
    "infer-resnet19": "Inference, ResNet-19",
    "train-memory": "Peak memory of training, VGG-small",
}
"""Cases of the short table, and how it calls them."""

RELU = "relu"
"""The contestant with ReLU in the place of the neuron, in our own layout."""

Row = AbsentResult | ContestantResult

_COMMAND = "make bench"
_METHOD = """\
Every case runs in a process of its own, and its contestants take turns, in an order that changes from turn to turn.
The first turns do not count. Given are medians and quartiles over the others, and the ratio to the case's reference,
formed turn by turn. A peer's neuron runs inside our graph with our weights, in each setting that could be its best;
memory and start-up are measured in a fresh process each. All others keep freed memory, as our own runs do. Losing rows
stay ([why so](../decisions/0011-speed-and-how-it-is-measured.md)).
"""

_STATES: tuple[State, ...] = ("reached", "missed", "not measured")


def listing(entries: Iterable[Entry]) -> tuple[dict[str, Any], str]:
    """Cases and growth curves as plain values and as text."""
    rows = [_listed(entry.item) for entry in entries]
    width = max((len(row["name"]) for row in rows), default=0)
    lines = [f"{row['name']:<{width}}  {row['about']} ({row['unit']})" for row in rows]
    return {"cases": rows}, "\n".join(lines)


def result_table(result: CaseResult | GrowthResult) -> Table:
    """The table of whatever was measured."""
    return case_table(result) if isinstance(result, CaseResult) else growth_table(result)


def case_table(case: CaseResult) -> Table:
    """One row per contestant, present and absent ones in that order.

    Median, quartiles, the ratio to the reference with its quartiles, and whether it is the best of its tool.
    """
    present = case.contestants
    everyone: list[Row] = [*present, *case.absent]
    gaps: list[Cell] = [None for _ in case.absent]
    leaders = {leader.name for leader in _leaders(case)}
    columns = [
        words("", [one.name for one in everyone]),
        Column(case.unit, [*(_median(one.spread) for one in present), *gaps]),
        Column("quartiles", [*(_quartiles(one.spread) for one in present), *gaps]),
    ]
    if any(one.ratio for one in present):
        ratios = [one.ratio for one in present]
        columns += [
            Column(f"to {case.reference}", [*(_median(spread, 3) for spread in ratios), *gaps]),
            Column("quartiles", [*(_quartiles(spread, 3) for spread in ratios), *gaps]),
        ]
    remarks = [*(_remark(case, one, leaders) for one in present), *(one.reason for one in case.absent)]
    if any(remarks):
        columns.append(words("remark", remarks))
    notes = (f"Nothing was measured: {case.reason}",) if case.reason else ()
    return Table(case.name, f"{case.name}: {case.about}", tuple(columns), notes)


def growth_table(growth: GrowthResult) -> Table:
    """One row per value of the variable, and the fit below."""
    points = growth.points
    columns = [
        Column(growth.variable, [str(point.value) for point in points]),
        Column(growth.unit, [_median(point.spread) for point in points]),
        Column("quartiles", [_quartiles(point.spread) for point in points]),
    ]
    if any(point.reason for point in points):
        columns.append(words("remark", [point.reason for point in points]))
    reason = f"Nothing was measured: {growth.reason}" if growth.reason else fit_text(growth)
    return Table(growth.name, f"{growth.name}: {growth.about}", tuple(columns), (reason,))


def targets_table(targets: Sequence[TargetResult]) -> Table:
    """One row per target."""
    columns = (
        words("", [target.number for target in targets]),
        words("target", [target.text for target in targets]),
        words("wanted", [target.wanted for target in targets]),
        Column("figure", [None if target.figure is None else number(target.figure, 3) for target in targets]),
        words("", [target.state for target in targets]),
        words("remark", [target.note for target in targets]),
    )
    return Table("targets", "Targets", columns)


def fit_text(growth: GrowthResult) -> str:
    """The straight line and the power law, in one line."""
    if growth.fit is None:
        return "Too few points for a fit."
    fit, x = growth.fit, growth.variable
    sign = "−" if fit.slope < 0 else "+"
    line = f"{number(fit.intercept)} {sign} {number(abs(fit.slope))} × {x} {growth.unit}"
    if fit.exponent is None:
        return f"Fitted: {line}."
    explained = "" if fit.r_squared is None else f" (R² {fit.r_squared:.3f})"
    return f"Fitted: {line}; grows as {x} to the power {fit.exponent:.2f}{explained}.".replace("-", "−")


def text_of(table: Table) -> str:
    """A table with aligned columns, for a terminal."""
    heads = [column.head for column in table.columns]
    rows = [heads, *(["–" if cell is None else cell for cell in row] for row in table.rows)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    aligned = [_aligned(row, widths, table.columns) for row in rows] if table.rows else []
    return "\n".join([table.caption, *aligned, *table.notes])


def summary(document: Document) -> str:
    """For the end of a run: which targets were reached; for a quick run, that it judges none."""
    if document.quick:
        return "quick run: a look at small sizes; targets are judged on whole runs"
    targets = assess(document)
    if all(target.state == "not measured" for target in targets):
        return "targets: none measured"
    return text_of(targets_table([target for target in targets if target.state != "not measured"]))


def short_table(document: Document) -> str:
    """Markdown for the README: the main cases by tool, each at its best setting, and how many targets are reached."""
    cases = [case for name in HEADLINES if (case := document.case(name)) is not None and case.contestants]
    peers = dict.fromkeys(tool for case in cases for tool in case.tools if tool not in (OURS, LIMIT))
    picks = {OURS: Pick(by=OURS), "ReLU in its place": Pick(RELU), **{peer: Pick(by=peer) for peer in peers}}
    columns = [words("T=4, 32x32", [HEADLINES[case.name] for case in cases])]
    columns += [Column(head, [_cell(case, pick) for case in cases]) for head, pick in picks.items()]
    caption = f"{_where(document)}; each tool at its best setting, in brackets relative to evospike"
    table = tables_markdown([Table("speed", caption, tuple(columns))])
    return f"{table}\n{_score(document)} [All of them, and how it is measured]({PAGE})."


def full_page(document: Document) -> str:
    """The whole page of the docs."""
    parts = [
        "# Speed\n",
        f"Written by `{_COMMAND}` from one document, [speed.json](../../benchmarks/results/speed.json); never by hand. "
        f"What was found out about missed targets is in [{NOTES}]({NOTES}).\n",
        *([] if document.complete else ["**The run was interrupted: cases are missing.**\n"]),
        _how(document),
        f"## Targets\n\n{tables_markdown([targets_table(assess(document))])}",
        *_groups(document),
        *_growths(document),
    ]
    return "\n".join(parts)


def with_block(text: str, block: str) -> str:
    """A text with what stands between its two marks replaced. Raises: RunError when it has not each mark once."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise RunError(f"the text needs the lines '{BEGIN}' and '{END}' once each, in that order; add them")
    return f"{before}{begin}\n\n{block}\n\n{end}{after}"


def number(value: float, digits: int = 4) -> str:
    """Significant digits, written out without an exponent."""
    power = int(f"{value:.{digits - 1}e}".partition("e")[2]) if value else digits
    return f"{value:,.{max(digits - 1 - power, 0)}f}".replace("-", "−")


def _listed(item: Case | Growth) -> dict[str, Any]:
    if isinstance(item, Case):
        return {"name": item.name, "group": item.group, "about": item.about, "unit": item.unit, "quick": item.quick}
    quick = bool(item.quick_values)
    return {"name": item.name, "group": "Growth", "about": item.about, "unit": item.unit, "quick": quick}


def _median(spread: Spread | None, digits: int = 4) -> Cell:
    return None if spread is None else number(spread.median, digits)


def _quartiles(spread: Spread | None, digits: int = 4) -> Cell:
    return None if spread is None else f"{number(spread.low, digits)} to {number(spread.high, digits)}"


def _leaders(case: CaseResult) -> list[ContestantResult]:
    """The best contestant of every tool that takes part with several."""
    by_tool = [[one for one in case.contestants if one.by == tool] for tool in case.tools]
    found = [best(ones, higher=case.higher) for ones in by_tool if len(ones) > 1]
    return [leader for leader in found if leader is not None]


def _remark(case: CaseResult, one: ContestantResult, leaders: Iterable[str]) -> str:
    found = [f"best of {one.by}"] if one.name in leaders and one.by != LIMIT else []
    return "; ".join([*found, *(["reference"] if one.name == case.reference else [])])


def _aligned(row: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    cells = zip(row, widths, columns, strict=True)
    return "  ".join(cell.ljust(width) if column.words else cell.rjust(width) for cell, width, column in cells).rstrip()


def _cell(case: CaseResult, pick: Pick) -> Cell:
    """The median of a contestant, and that relative to our best."""
    found, ours = pick.of(case), Pick(by=OURS).of(case)
    if found is None:
        return None
    figure = f"{number(found.spread.median, 3)} {case.unit}"
    if ours is None or found is ours or ours.spread.median == 0:
        return figure
    return f"{figure} ({found.spread.median / ours.spread.median:.2f})"


def _score(document: Document) -> str:
    """How many targets are reached, missed and not measured."""
    states = [target.state for target in assess(document)]
    counts = [f"{states.count(state)} {state}" for state in _STATES if state in states]
    return f"Targets: {', '.join(counts)}."


def _where(document: Document) -> str:
    machine = document.machine
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    return f"{machine.device_name}, {threads}" if machine.device == "cpu" else machine.device_name


def _how(document: Document) -> str:
    machine, versions = document.machine, document.versions
    facts = {
        "device": f"{machine.device}, {machine.device_name}",
        "processor": f"{machine.cpu}, {machine.capability}",
        "cores, threads of a case": f"{machine.cores}, {machine.threads}",
        "memory": None if machine.memory is None else f"{machine.memory / 2**30:.1f} GiB",
        "system": machine.system,
        "Python, PyTorch, NumPy": f"{versions.python}, {versions.torch}, {versions.numpy}",
        "evospike": f"{versions.evospike}, commit {versions.commit or 'unknown'}",
        "measured": f"{document.started}, {document.seconds / 60:.0f} minutes" + (", quick" if document.quick else ""),
        **_peer_facts(document),
    }
    table = Table("machine", "Where it was measured", (words("", list(facts)), words("", list(facts.values()))))
    return f"## How it is measured\n\n{_METHOD}\n{tables_markdown([table])}"


def _peer_facts(document: Document) -> dict[str, Cell]:
    if document.peers is None:
        return {"peers": "no peers were looked for"}
    return {f"peer {peer.name}": peer.reason or _version(peer.version, peer.dynamics) for peer in document.peers}


def _version(version: str, dynamics: str) -> str:
    return f"{version}; {dynamics}" if dynamics else version


def _groups(document: Document) -> list[str]:
    """A section for every group of cases."""
    sections = []
    for group in dict.fromkeys(case.group for case in document.cases):
        tables = [case_table(case) for case in document.cases if case.group == group]
        sections.append(f"## {group}\n\n{tables_markdown(tables)}")
    return sections


def _growths(document: Document) -> list[str]:
    if not document.growths:
        return []
    picture = f"![Figures against their variable, with the fitted lines](../pictures/{PICTURE.rpartition('/')[2]})\n"
    return [f"## Growth\n\n{picture}\n{tables_markdown(map(growth_table, document.growths))}"]
