"""Writes the report of a run, or of several runs: one HTML page that opens offline and asks nothing of any network.

The page carries a content security policy that allows its own two scripts, by their digests, and no request at all; a
name from the run that holds markup is escaped, and would not run if it were not.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import evospike
from evospike.core.errors import MissingExtra, RunError
from evospike.core.files import write_atomic
from evospike.jobs.folder import open_run
from evospike.jobs.folder import reading as reading_any
from evospike.jobs.recipe import recipe_text
from evospike.report.compare.pages import make_comparison
from evospike.report.facts import again, reading_of
from evospike.report.figures import Chart
from evospike.report.formats import FILTERS, Trusted
from evospike.report.pages import Page, make_page

PAGE = "report.html"
"""File that a run's own report is written to, inside its folder."""

COMPARISON = "report-comparison.html"
"""File that a comparison of runs is written to, in the current folder."""


def write_report(run: Path, output: Path | None) -> Path:
    """Write the page of a run, finished or not, and return where: `output`, or RUN/report.html, which is replaced.

    Raises: RunError when `run` is no run folder, `output` exists or cannot be written; StoreError when the record
    cannot be trusted; MissingExtra without the extra `report`.
    """
    folder = open_run(run)
    path = folder.path / PAGE if output is None else output
    if output is not None and output.exists():
        raise RunError(f"'{output}' exists; give -o a new file, or leave -o out to write {folder.path / PAGE}")
    page = make_page(folder)
    with reading_of(folder):
        text = render(page)
    _write(path, text)
    return path


def write_comparison(runs: Sequence[Path], output: Path | None) -> Path:
    """Write the page of 2 to 8 finished runs of one kind, side by side, and return where: `output`, or
    report-comparison.html in the current folder. A file that exists is never replaced.

    Raises: RunError when the file exists or cannot be written, or the runs cannot be compared; StoreError
    when a record cannot be trusted; MissingExtra without the extra `report`.
    """
    path = Path(COMPARISON) if output is None else output
    if path.exists():
        raise RunError(f"'{path}' exists; give -o a new file")
    page = make_comparison(runs)
    names = {"facts": page.facts, "again": again, "recipe_text": recipe_text}
    with reading_any("a result of these runs"):
        text = _render(page.template, page.charts, names)
    _write(path, text)
    return path


def render(page: Page) -> str:
    """The page of one run as text. Raises: MissingExtra without plotly or jinja2."""
    repeat, needs_recipe = again(page.facts)
    names = {
        "facts": page.facts,
        "repeat": repeat,
        "needs_recipe": needs_recipe,
        "recipe": recipe_text(page.facts.recipe.to_plain()),
        "progress": page.progress,
        **page.names,
    }
    return _render(page.template, page.charts, names)


def _write(path: Path, page: str) -> None:
    try:
        write_atomic(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise RunError(f"cannot write '{path}' ({error.strerror}); give -o a file on a disk with room") from None


def _render(template: str, charts: Mapping[str, Chart], names: Mapping[str, Any]) -> str:
    """A page over the common frame. names: what its template uses besides its charts."""
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError:
        raise MissingExtra("jinja2", "report", "a report") from None
    library, script = _inline(_plotly_js()), _inline(_resource("page.js"))
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template(template).render(
        charts=charts,
        figures=_script_json({name: chart.figure() for name, chart in charts.items()}),
        library=Trusted(library),
        script=Trusted(script),
        policy=f"{_source(library)} {_source(script)}",
        version=evospike.__version__,
        **names,
    )


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtra("plotly", "report", "a report") from None
    return str(get_plotlyjs())


def _resource(name: str) -> str:
    return files("evospike.report").joinpath("templates", name).read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """A script as it stands between its tags: nothing in it may end or comment out the element."""
    unix = script.replace("\r\n", "\n").replace("\r", "\n")
    return unix.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _source(script: str) -> str:
    """The policy's name for a script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _script_json(value: Any) -> Trusted:
    """JSON that is safe inside a script element, whatever its strings hold."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII only, so no line separators either
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Trusted(text)
