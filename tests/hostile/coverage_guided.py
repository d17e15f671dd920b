"""Coverage-guided fuzzing of one reader with atheris, in a process of its own: `coverage_guided.py NAME COUNT FOLDER`.

Inputs grow from the sound ones by what new code they reach. Ends with status 0 after COUNT inputs, and otherwise with
the input that was not answered by one of our errors.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["evospike", "tomllib", "json", "zipfile"]):
    from hostile_fuzz import DEADLINE_SECONDS, deadline, refusing
    from hostile_targets import targets


def main() -> None:
    name, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    target = targets()[name]
    seeds, inside = folder / "seeds", folder / "inside"
    seeds.mkdir(parents=True)
    for number, data in enumerate(target.sound):
        (seeds / str(number)).write_bytes(data)

    def read(data: bytes) -> None:
        shutil.rmtree(inside, ignore_errors=True)
        inside.mkdir()
        with refusing(), deadline(DEADLINE_SECONDS):
            target.read(data, inside)

    options = [f"-atheris_runs={count}", "-timeout=0", "-max_len=4096", "-seed=1", "-rss_limit_mb=0"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(seeds)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
