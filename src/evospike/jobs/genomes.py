"""Where the genome of a searched architecture is found: in a run folder or in a file. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from evospike.core.errors import EvospikeError, RunError, SettingsError
from evospike.core.files import canonical_json, read_text
from evospike.core.limits import MOST_SETTINGS_BYTES
from evospike.jobs.folder import RESULT, RunFolder, open_run, reading
from evospike.search.codec import read_released_json
from evospike.search.genome import Genome


def read_model(path: str | Path) -> str:
    """The genome behind `--model`: of a finished search, of a run that trained one, or in a JSON file.

    A file holds what `Genome.to_json` wrote, or a list of integers in the released layout (`search.codec`).

    Raises: RunError when there is nothing at the path or the search is not finished; SettingsError for a file that
    holds no genome.
    """
    path = Path(path)
    if os.path.isdir(path):  # these two never raise, whatever the name holds
        return _of_run(open_run(path))
    if not os.path.isfile(path):
        raise RunError(f"no run folder or genome file at '{path}'; give the folder that search printed")
    text = read_text(path, "genome", MOST_SETTINGS_BYTES, SettingsError)
    try:
        genome = read_released_json(text) if text.lstrip().startswith("[") else Genome.from_json(text)
        return genome.to_json()
    except EvospikeError as error:
        raise SettingsError(f"cannot read genome '{path}': {error}") from None


def model_of(run: RunFolder) -> str:
    """The genome that a run found or trains; empty for a preset. Raises: RunError for an unfinished search."""
    if run.verb != "search":
        return run.recipe.model.genome
    document = run.read(RESULT)
    if document is None:
        raise RunError(f"search '{run.path}' is not finished; continue it with: evospike resume {run.path}")
    with reading(f"the result of '{run.path}'"):
        return Genome.from_json(canonical_json(document["winner"]["genome"])).to_json()


def _of_run(run: RunFolder) -> str:
    genome = model_of(run)
    if not genome:
        raise RunError(f"run '{run.path}' has preset '{run.recipe.model.preset}', no searched architecture")
    return genome
