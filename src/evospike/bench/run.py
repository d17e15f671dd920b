"""Runs a suite: one process after another, and a document that grows with every case. Imports no torch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import rmtree

from evospike.bench.case import Case, Growth
from evospike.bench.document import FORMAT, CaseResult, Document, GrowthResult, with_fit, write_document
from evospike.bench.peers import adapters
from evospike.bench.process import Measured, Task, turns_of
from evospike.bench.registry import Entry
from evospike.bench.targets import assess
from evospike.bench.timing import outcome_of
from evospike.core.errors import RunError
from evospike.core.progress import bar
from evospike.core.settings import require
from evospike.core.stopping import Stop, stop_on_signals
from evospike.core.threads import resolved_threads
from evospike.evolution.executors.base import Outcome
from evospike.jobs.settings import RunSettings

Result = CaseResult | GrowthResult

PEERS = Path("benchmarks/peers")
"""Where peers are looked for unless a folder is named."""


@dataclass(frozen=True)
class Options:
    """How a suite is run.

    peers: folder of adapters, empty for none. device: `auto`, `cpu`, `cuda` or `cuda:N`. threads: CPU threads of each
    case, 0 for as many as there are cores. repeats: turns that count, 0 for those of each case.
    Raises: SettingsError for values that cannot be used.
    """

    quick: bool = False
    peers: str = ""
    device: str = "auto"
    threads: int = 0
    repeats: int = 0

    def __post_init__(self) -> None:
        RunSettings(device=self.device, threads=self.threads)
        require(self.repeats >= 0, f"'repeats' must not be negative, given {self.repeats}; 0 leaves it to each case")
        if self.peers:
            adapters(Path(self.peers))


def default_peers() -> str:
    """The folder of peers beside the current folder, empty where there is none."""
    return str(PEERS) if any(PEERS.glob("*.py")) else ""


def output_path(given: str | None, *, force: bool) -> Path:
    """Where the document goes: `given`, else `bench-TIME.json` in the current folder. Makes its folder.

    Raises: RunError when there is a file already, unless `force`, and when nothing can be written there.
    """
    path = Path(given) if given else Path(f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json")
    if path.exists() and not (force and path.is_file()):
        raise RunError(f"'{path}' exists; give -o a new file, or --force to replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise RunError(f"cannot write '{path}' ({error.strerror}); give -o a file in a folder of yours") from None


def run_suite(
    entries: Sequence[Entry],
    options: Options,
    output: Path,
    *,
    quiet: bool = False,
    ended: Callable[[Result], None] = lambda result: None,
) -> Document:
    """Run cases and growth curves one after the other and return the document, which is also in the file `output`.

    The file is written after every case, `complete` only after the last one. A case that fails is a row with the
    reason. ended: called with every result.
    Raises: RunError when the device or the file cannot be used; Interrupted on Ctrl-C and SIGTERM, with what was
    measured until then in the file.
    """
    started = time.monotonic()
    with _temporary_folder() as folder, stop_on_signals(lambda: rmtree(folder, ignore_errors=True)) as stop:
        document = _begun(options, stop)
        device = document.machine.device
        for place, entry in enumerate(entries, 1):
            result = _measured(entry, options, device, folder, stop, f"{place}/{len(entries)}", quiet=quiet)
            document = _extended(document, result, time.monotonic() - started, complete=place == len(entries))
            write_document(output, document)
            ended(result)
    return document


def _begun(options: Options, stop: Stop) -> Document:
    """A document without a case."""
    asked = {"device": options.device, "peers": options.peers}
    outcome = outcome_of("evospike.bench.process:describe", asked, resolved_threads(options.threads), stop.check)
    if outcome.error is not None:
        raise RunError(outcome.error.removeprefix("RunError: ").removeprefix("SettingsError: "))
    machine, versions, peers = outcome.value
    return Document(
        format=FORMAT,
        quick=options.quick,
        complete=False,
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        seconds=0.0,
        machine=machine,
        versions=versions,
        peers=peers,
        cases=(),
        growths=(),
        targets=(),
    )


def _extended(document: Document, result: Result, seconds: float, *, complete: bool) -> Document:
    """The document with one result more, and its targets."""
    if isinstance(result, CaseResult):
        document = replace(document, cases=(*document.cases, result))
    else:
        document = replace(document, growths=(*document.growths, result))
    document = replace(document, seconds=round(seconds, 1), complete=complete)
    return replace(document, targets=assess(document))


def _temporary_folder(inside: str | None = None) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="evospike-bench-", dir=inside, ignore_cleanup_errors=True)


def _measured(
    entry: Entry, options: Options, device: str, inside: str, stop: Stop, place: str, *, quiet: bool
) -> Result:
    """The result of one case or growth curve, measured in a process of its own.

    inside: folder in which that of the case is made. place: `3/20`, for the bar.
    """
    started = time.monotonic()
    item = entry.item
    kind = "case" if isinstance(item, Case) else "growth"
    with _temporary_folder(inside) as temporary:
        folder, progress = Path(temporary, "case"), Path(temporary, "turns")
        folder.mkdir()
        task = Task(
            module=entry.module,
            name=item.name,
            quick=options.quick,
            repeats=options.repeats,
            device=device,
            peers=options.peers,
            folder=str(folder),
            progress=str(progress),
        )
        with bar(f"{place} {item.name}", sum(turns_of(item, task)), "turn", quiet=quiet) as shown:

            def look() -> None:
                stop.check()
                shown.reach(_turns_done(progress))

            function = f"evospike.bench.process:measure_{kind}"
            outcome = outcome_of(function, asdict(task), resolved_threads(options.threads), look)
            shown.reach(_turns_done(progress))
    seconds = round(time.monotonic() - started, 1)
    return _case_result(item, outcome, seconds) if isinstance(item, Case) else _growth_result(item, outcome, seconds)


def _case_result(case: Case, outcome: Outcome, seconds: float) -> CaseResult:
    measured: Measured = outcome.value or Measured((), ())
    return CaseResult(
        name=case.name,
        group=case.group,
        about=case.about,
        unit=case.unit,
        reference=case.reference,
        higher=case.higher,
        seconds=seconds,
        reason=outcome.error or "",
        contestants=measured.contestants,
        absent=measured.absent,
    )


def _growth_result(growth: Growth, outcome: Outcome, seconds: float) -> GrowthResult:
    result = GrowthResult(
        name=growth.name,
        about=growth.about,
        variable=growth.variable,
        unit=growth.unit,
        seconds=seconds,
        reason=outcome.error or "",
        points=outcome.value or (),
        fit=None,
    )
    return with_fit(result)


def _turns_done(progress: Path) -> int:
    """The number that the measuring process left; 0 before it left one."""
    try:
        return int(progress.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
