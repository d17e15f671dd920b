"""A whole ranking: every score is compared, whatever the number of workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import create_run
from evospike.jobs.scoring import CONTROLS
from evospike.measure.agreement import kendall_tau


@pytest.mark.slow
def test_a_whole_ranking(tiny, tmp_path: Path) -> None:
    recipe = tiny("run.workers=2")
    result = conduct(create_run("rank", recipe, str(tmp_path / "two")), recipe, quiet=True)
    assert result["architectures"] + result["unusable"] == 5
    names = {row["score"] for row in result["scores"]}
    assert {"hamming", "hamming_normalised", "euclidean", "cosine", "pearson", "sahd_logdet", *CONTROLS} <= names
    with Store.open(tmp_path / "two" / "study.sqlite") as store:
        terms = [one.score.terms for one in store.scores() if one.score.ok]
    assert {"similarity (cosine, equal)", "firing_rate", "spikes", "energy"} <= names
    taus = {row["score"]: row["tau"] for row in result["scores"]}
    assert taus["similarity (pearson, depth)"] == pytest.approx(-taus["pearson, depth"])
    for row in result["scores"]:
        x, y = (np.array([of[name] for of in terms]) for name in (row["score"], "accuracy"))
        assert row["tau"] == pytest.approx(kendall_tau(x, y))
    recipe = tiny()
    assert conduct(create_run("rank", recipe, str(tmp_path / "one")), recipe, quiet=True)["digest"] == result["digest"]
