"""Every reader of files from outside: whatever it is given, one of our errors or a sound value, soon, and no file
anywhere else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hostile_fuzz import throw
from hostile_targets import targets

TARGETS = targets()

NEVER_REFUSES = {"interrupted cache"}
"""What it cannot use, it makes anew."""


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_a_reader_is_given(name: str, outside: Path, soak) -> None:
    target = TARGETS[name]
    for data in target.sound:
        target.read(data, _emptied(outside))
    tally = throw(soak.count(80, 10_000), target.inputs(), lambda data: target.read(data, _emptied(outside)))
    assert tally.inputs >= soak.count(80, 10_000)
    assert tally.refused > tally.inputs // 10 or name in NEVER_REFUSES
    tally.state(soak, name)


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder
