"""A whole ranking: every score is compared, whatever the number of workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from evospike.jobs.conduct import conduct
from evospike.jobs.folder import create_run
from evospike.jobs.scoring import CONTROLS


@pytest.mark.slow
def test_a_whole_ranking(tiny, tmp_path: Path) -> None:
    recipe = tiny("run.workers=2")
    result = conduct(create_run("rank", recipe, str(tmp_path / "two")), recipe, quiet=True)
    assert result["architectures"] + result["unusable"] == 5
    names = {row["score"] for row in result["scores"]}
    assert {"hamming", "hamming_normalised", "euclidean", "cosine", "pearson", "sahd_logdet", *CONTROLS} <= names
    assert all(-1 <= row["tau"] <= 1 for row in result["scores"])
    recipe = tiny()
    assert conduct(create_run("rank", recipe, str(tmp_path / "one")), recipe, quiet=True)["digest"] == result["digest"]
