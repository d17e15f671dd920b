"""Where the genome of a searched architecture is found: in a run folder or in a file. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from evospike.core.errors import EvospikeError, RunError, SettingsError
from evospike.core.files import canonical_json
from evospike.jobs.folder import RunFolder, open_run
from evospike.search.genome import Genome

MOST_BYTES = 1 << 20
"""A genome file larger than this is refused unread."""


def read_model(path: str | Path) -> str:
    """The genome behind `--model`: of a finished search, of a run that trained one, or in a JSON file.

    Raises: RunError when there is nothing at the path or the search is not finished; SettingsError for a file that
    holds no genome.
    """
    path = Path(path)
    if path.is_dir():
        return _of_run(open_run(path))
    if not path.is_file():
        raise RunError(f"no run folder or genome file at '{path}'; give the folder that search printed")
    if path.stat().st_size > MOST_BYTES:
        raise SettingsError(f"genome file '{path}' has {path.stat().st_size} bytes; a genome has at most {MOST_BYTES}")
    try:
        return Genome.from_json(path.read_text(encoding="utf-8")).to_json()
    except (EvospikeError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read genome '{path}': {error}") from None


def model_of(run: RunFolder) -> str:
    """The genome that a run found or trains; empty for a preset. Raises: RunError for an unfinished search."""
    if run.verb != "search":
        return run.recipe.model.genome
    document = run.read("result.json")
    if document is None:
        raise RunError(f"search '{run.path}' is not finished; continue it with: evospike resume {run.path}")
    return Genome.from_json(canonical_json(document["winner"]["genome"])).to_json()


def _of_run(run: RunFolder) -> str:
    genome = model_of(run)
    if not genome:
        raise RunError(f"run '{run.path}' has preset '{run.recipe.model.preset}', no searched architecture")
    return genome
