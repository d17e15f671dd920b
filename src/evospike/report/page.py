"""Writes the report of a run: one HTML page that opens offline and asks nothing of any network.

The page carries a content security policy that allows its own two scripts, by their digests, and no request at all; a
name from the run that holds markup is escaped, and would not run if it were not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import evospike
from evospike.core.errors import MissingExtra, RunError
from evospike.core.files import write_atomic
from evospike.jobs.folder import open_run
from evospike.report.charts import make_charts
from evospike.report.gather import Arm, Facts, again, gather, recipe_text

PAGE = "report.html"
"""File that a run's own report is written to, inside its folder."""


def write_report(run: Path, output: Path | None) -> Path:
    """Write the page of a run, finished or not, and return where: `output`, or RUN/report.html, which is replaced.

    Raises: RunError when `run` is no run folder, `output` exists or cannot be written; StoreError when the record
    cannot be trusted; MissingExtra without the extra `report`.
    """
    folder = open_run(run)
    path = folder.path / PAGE if output is None else output
    if output is not None and output.exists():
        raise RunError(f"'{output}' exists; give -o a new file, or leave -o out to write {folder.path / PAGE}")
    page = render(gather(folder))
    try:
        write_atomic(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise RunError(f"cannot write '{path}' ({error.strerror}); give -o a file on a disk with room") from None
    return path


def render(facts: Facts) -> str:
    """The page as text. Raises: MissingExtra without plotly or jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MissingExtra("jinja2", "report", "a report") from None
    library, script = _inline(_plotly_js()), _inline(_resource("page.js"))
    charts = make_charts(facts)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        percent=_percent, accuracy=_accuracy, points=_points, count=_count, number=_number, duration=_duration
    )
    repeat, needs_recipe = again(facts)
    return environment.from_string(_resource("template.html")).render(
        facts=facts,
        charts=charts,
        figures=_script_json({name: chart.figure() for name, chart in charts.items()}),
        library=_Trusted(library),
        script=_Trusted(script),
        policy=f"{_source(library)} {_source(script)}",
        repeat=repeat,
        needs_recipe=needs_recipe,
        recipe=recipe_text(facts.recipe.to_plain()),
        progress=progress(facts),
        version=evospike.__version__,
    )


def progress(facts: Facts) -> str:
    """How far an unfinished run is, in one sentence; empty for a finished one."""
    if facts.finished:
        return ""
    parts = []
    if facts.plan is None:
        parts.append("nothing is planned yet")
    if facts.evolves:
        settings = facts.recipe.evolution
        done = 0 if facts.history is None else len(facts.history.candidates)
        parts.append(f"{done} of {settings.population * settings.generations} candidates are scored")
    wanted = len(facts.recipe.final.arms) * facts.recipe.final.seeds
    parts.append(f"{len(facts.trainings)} of {wanted} final trainings are done")
    return "; ".join(parts)


class _Trusted:
    """Text of our own that goes into the page as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __html__(self) -> str:
        return self._text


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtra("plotly", "report", "a report") from None
    return str(get_plotlyjs())


def _resource(name: str) -> str:
    return files("evospike.report").joinpath(name).read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """A script as it stands between its tags: nothing in it may end or comment out the element."""
    unix = script.replace("\r\n", "\n").replace("\r", "\n")
    return unix.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _source(script: str) -> str:
    """The policy's name for a script."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _script_json(value: Any) -> _Trusted:
    """JSON that is safe inside a script element, whatever its strings hold."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))  # ASCII only, so no line separators either
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _Trusted(text)


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}".replace("%", " %")


def _accuracy(arm: Arm) -> str:
    mean = f"{100 * arm.test_accuracy:.2f}"
    return f"{mean} %" if arm.interval is None else f"{mean} ± {100 * arm.interval:.2f} %"


def _points(arm: Arm) -> str:
    """The difference to the first arm, in points of accuracy."""
    if arm.difference is None:
        return "–"
    mean = f"{100 * arm.difference:+.2f}".replace("-", "−")
    return mean if arm.difference_interval is None else f"{mean} ± {100 * arm.difference_interval:.2f}"


def _count(value: int) -> str:
    return f"{value:,}"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds / 3600:.1f} h"
