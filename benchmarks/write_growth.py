"""Write the figures of docs/results/growth.md, and its picture, from what `growth.py` found.

python benchmarks/write_growth.py benchmarks/results/growth.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evospike.bench.tables import number
from evospike.core.files import write_atomic
from evospike.report.paper.style import MUTED, PAGE, file_bytes, looks, new_figure, paper_style, share_legend
from evospike.report.paper.tables import Cell, Table, tables_markdown, words
from evospike.report.paper.tables import Column as Figures
from write_soak import with_block

ROOT = Path(__file__).parents[1]
TEXT = ROOT / "docs" / "results" / "growth.md"
PICTURE = ROOT / "docs" / "pictures" / "growth.svg"
BEGIN, END = "<!-- growth: figures -->", "<!-- growth: end -->"

NAMES = {"evolution": "evolution (CMA-ES)", "search": "search (NSGA-II)"}
EQUAL = "equal workers"
AS_MANY = "generations as large as the workers"

Row = Mapping[str, Any]


def figures(document: Mapping[str, Any]) -> str:
    """Everything between the marks."""
    tables = [
        durations_table(document),
        driver_table(document),
        executor_table(document),
        resume_table(document),
        limits_table(document),
        *(simulated_table(document, kind) for kind in NAMES),
        variants_table(document),
        *(quality_table(document, kind) for kind in NAMES),
    ]
    return f"{tables_markdown(tables)}\n{_made_with(document)}"


def durations_table(document: Mapping[str, Any]) -> Table:
    """How far the durations of real candidates lie apart."""
    rows = document["measured"]["durations"]
    return Table(
        "durations",
        "Seconds of candidates of a real run on this machine, one worker",
        [
            words("of", [NAMES[kind] for kind in rows]),
            Figures("candidates", [str(row["candidates"]) for row in rows.values()]),
            Figures("mean", [number(row["mean"], 3) for row in rows.values()]),
            Figures("deviation / mean", [number(row["variation"], 2) for row in rows.values()]),
            Figures("longest / median", [number(row["longest over median"], 3) for row in rows.values()]),
        ],
    )


def driver_table(document: Mapping[str, Any]) -> Table:
    """What the driver does for a candidate, in milliseconds."""
    rows = document["limits"]
    return Table(
        "driver",
        "The driver, milliseconds a candidate, with 100 workers (Ray): usual populations, record on the disk",
        [
            words("of", [NAMES[row["kind"]] for row in rows]),
            words("", ["steady state" if row["steady"] else "by generations" for row in rows]),
            *(Figures(name, [_ms(row[name]) for row in rows]) for name in ("ask", "tell", "record", "hand", "total")),
        ],
        (f"The same record in memory takes {_ms(document['measured']['record in memory']['score'])} ms.",),
    )


def executor_table(document: Mapping[str, Any]) -> Table:
    """What more workers cost the driver."""
    measured = document["measured"]
    loops, waits = ({row["workers"]: row for row in rows} for rows in (measured["loop"], measured["ray"]["wait"]))
    counts = sorted(loops.keys() | waits.keys())
    ledgers = {row["in flight"]: row for row in measured["ledger"]}
    return Table(
        "executor",
        "What grows with the workers: milliseconds a candidate of the driver; to start all of them, seconds",
        [
            Figures("workers", [f"{count:,}" for count in counts]),
            Figures("our loop", [_ms(_of(loops, count, "seconds")) for count in counts]),
            Figures("Ray's wait", [_ms(_of(waits, count, "seconds")) for count in counts]),
            Figures("ledger, steady", [_ms(_of(ledgers, count, "steady")) for count in counts]),
            Figures("ledger, generation", [_ms(_of(ledgers, count, "generation")) for count in counts]),
            Figures("start", [_figure(_of(loops, count, "start"), 2) for count in counts]),
        ],
        (
            f"Handing a candidate over and taking its answer costs {_ms(measured['local']['cpu'])} ms with two local "
            f"processes, {_ms(measured['ray']['cpu'])} ms with two workers of Ray.",
        ),
    )


def resume_table(document: Mapping[str, Any]) -> Table:
    """How long a resume reads and replays."""
    measured = document["measured"]
    rows = measured["resume"]
    replays = {row["kind"]: row["ask"] + row["tell"] for row in document["limits"] if row["steady"]}
    return Table(
        "resume",
        "A resume, seconds of CPU: reading the record, and asking and telling all of it again in the steady state",
        [
            Figures("scores", [f"{row['scores']:,}" for row in rows]),
            Figures("MB", [number(row["bytes"] / 1e6, 3) for row in rows]),
            Figures("read", [number(row["read"], 2) for row in rows]),
            *(Figures(NAMES[kind], [number(row["scores"] * replays[kind], 2) for row in rows]) for kind in NAMES),
        ],
    )


def limits_table(document: Mapping[str, Any]) -> Table:
    """From how many workers on the driver is the limit."""
    rows = document["limits"]
    means = list(rows[0]["most workers"])
    return Table(
        "limits",
        "The most workers W* that one driver keeps at work: W* times its time for a candidate is the candidate's own",
        [
            words("of", [NAMES[row["kind"]] for row in rows]),
            words("", ["steady state" if row["steady"] else AS_MANY for row in rows]),
            *(
                Figures(f"{_time(float(mean))} a candidate", [number(row["most workers"][mean], 2) for row in rows])
                for mean in means
            ),
        ],
    )


def simulated_table(document: Mapping[str, Any], kind: str) -> Table:
    """Share of the workers' time at work, and what limits it."""
    rows = [row for row in document["simulated"] if row["kind"] == kind and row["variant"] == EQUAL]
    counts, means = _distinct(rows, "workers"), _distinct(rows, "mean")
    columns = [Figures("workers", [f"{count:,}" for count in counts])]
    for way in _ways(rows):
        for mean in means:
            cells = [_share(_one(rows, way, workers=count, mean=mean)) for count in counts]
            columns.append(Figures(f"{_short(way)}, {_time(mean)}", cells))
    caption = f"Simulated {NAMES[kind]}: share of the workers' time at work, and the limit; candidates of 1 s to 10 min"
    return Table(f"simulated-{kind}", caption, columns)


def variants_table(document: Mapping[str, Any]) -> Table:
    """The same for unequal workers and candidates."""
    all_rows = document["simulated"]
    mean = next(row["mean"] for row in all_rows if row["variant"] != EQUAL)
    rows = [row for row in all_rows if row["mean"] == mean and 1 < row["workers"] <= 1000]
    lines = [(kind, variant, count) for kind in NAMES for variant in _distinct(rows, "variant") for count in (10, 100)]
    chosen = {line: [row for row in rows if (row["kind"], row["variant"], row["workers"]) == line] for line in lines}
    return Table(
        "variants",
        f"Unequal workers, rare slow candidates: share of the workers' time at work, candidates of {_time(mean)}",
        [
            words("of", [NAMES[kind] for kind, _, _ in lines]),
            words("", [variant for _, variant, _ in lines]),
            Figures("workers", [str(count) for _, _, count in lines]),
            *(Figures(_short(way), [_share(_one(chosen[line], way)) for line in lines]) for way in _ways(rows)),
        ],
    )


def quality_table(document: Mapping[str, Any], kind: str) -> Table:
    """What was found after equally many candidates, and when the target was."""
    rows = [row for row in document["quality"] if row["kind"] == kind]
    usual = rows[0]["population"]
    counts = _distinct([row for row in rows if row["in flight"]], "workers")
    ways = {
        f"steady, {usual}": {row["workers"]: row for row in rows if row["in flight"] and row["population"] == usual},
        "steady, W": {row["workers"]: row for row in rows if row["in flight"] and row["population"] != usual},
        f"by {usual}": {
            count: row
            for count in counts
            for row in rows
            if not row["in flight"] and row["population"] == usual and row["workers"] == min(count, usual)
        },
        "by W": {row["workers"]: row for row in rows if not row["in flight"] and row["population"] != usual},
    }
    what = "log10 of the quadratic" if kind == "evolution" else "genes that differ from the hidden ones"
    return Table(
        f"quality-{kind}",
        f"{NAMES[kind]} on W made-up workers: {what} at the best of {rows[0]['candidates']:,} candidates "
        f"({rows[0]['seeds']} seeds, mean and 95 % interval); and mean durations until {document['targets'][kind]:g} "
        f"was reached, in up to {max(row['longest'] for row in rows):,} candidates",
        [
            Figures("W", [f"{count:,}" for count in counts]),
            *(Figures(f"best, {way}", [_best(of.get(count)) for count in counts]) for way, of in ways.items()),
            *(Figures(f"time, {way}", [_until(of.get(count)) for count in counts]) for way, of in ways.items()),
        ],
    )


def picture(document: Mapping[str, Any]) -> bytes:
    """Throughput against workers, a row for each kind of search and a column for each length of a candidate."""
    rows = [row for row in document["simulated"] if row["variant"] == EQUAL]
    means = _distinct(rows, "mean")
    with paper_style():
        figure, panels = new_figure(PAGE, 4.4, len(NAMES), len(means))
        places = iter(panels)
        for kind in NAMES:
            for mean in means:
                panel = next(places)
                _draw(panel, [row for row in rows if row["kind"] == kind and row["mean"] == mean])
                panel.set_title(f"{kind}, {_time(mean)} a candidate")
        share_legend(figure, panels[0])
        return file_bytes(figure, "svg", "growth")


def _draw(panel: Any, rows: Sequence[Row]) -> None:
    counts = _distinct(rows, "workers")
    panel.plot(counts, [count / rows[0]["mean"] for count in counts], color=MUTED, label="nobody ever waits", zorder=1)
    for name, look in looks(["steady state", "generations of the usual size", AS_MANY]).items():
        line = [(row["workers"], row["throughput"]) for row in rows if _name(row) == name]
        panel.plot(*zip(*line, strict=True), color=look.colour, marker=look.marker, linestyle=look.dash, label=name)
    panel.set_xscale("log")
    panel.set_yscale("log")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(lambda value, place: f"{value:,g}")  # the style knows no powers in print
    panel.minorticks_off()
    panel.set_xlabel("workers")
    panel.set_ylabel("candidates a second")


def _name(row: Row) -> str:
    if not row["population"]:
        return "steady state"
    return AS_MANY if row["population"] == row["workers"] else "generations of the usual size"


def _ways(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(map(_name, sorted(rows, key=lambda row: row["population"]))))


def _short(way: str) -> str:
    return {"steady state": "steady", AS_MANY: "by W"}.get(way, "by usual")


def _one(rows: Sequence[Row], way: str, **values: float) -> Row | None:
    found = (row for row in rows if _name(row) == way and all(row[name] == value for name, value in values.items()))
    return next(found, None)


def _share(row: Row | None) -> Cell:
    if row is None:
        return None
    share = f"{100 * row['working']:.{0 if row['working'] >= 0.1 else 1}f} %"
    return share if row["limit"] == "workers" else f"{share} {row['limit']}"


def _best(row: Row | None) -> Cell:
    return None if row is None else f"{row['best']:.2f} ± {row['best interval']:.2f}"


def _until(row: Row | None) -> Cell:
    if row is None:
        return None
    if row["time"] is None:
        return f"{row['found']} of {row['seeds']} found it"
    return f"{number(row['time'], 3)} ± {number(row['time interval'], 2)}"


def _distinct(rows: Sequence[Row], name: str) -> list[Any]:
    return list(dict.fromkeys(row[name] for row in rows))


def _of(rows: Mapping[int, Row], count: int, name: str) -> float | None:
    return rows[count][name] if count in rows else None


def _ms(seconds: float | None) -> Cell:
    return _figure(None if seconds is None else 1e3 * seconds, 2)


def _figure(value: float | None, digits: int) -> Cell:
    return None if value is None else number(value, digits)


def _time(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min"


def _made_with(document: Mapping[str, Any]) -> str:
    return (
        f"Commit {document['commit'] or 'unknown'}, {document['created'][:10]}, Python {document['python']}, "
        f"torch {document['torch']}."
    )


def written(document: Mapping[str, Any], page: str) -> Iterator[tuple[Path, bytes]]:
    """What is written where."""
    yield TEXT, with_block(page, BEGIN, END, figures(document)).encode()
    yield PICTURE, picture(document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("document", type=Path)
    document = json.loads(parser.parse_args().document.read_text(encoding="utf-8"))
    for path, content in written(document, TEXT.read_text(encoding="utf-8")):
        write_atomic(path, content)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
