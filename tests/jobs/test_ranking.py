"""A whole ranking: every score is compared, whatever the number of workers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from evospike.core.errors import RunError, SettingsError
from evospike.evolution.records import Score
from evospike.evolution.store import Store
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import create_run
from evospike.jobs.inspection import dry_run
from evospike.jobs.scoring import CONTROLS


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
        assert row["tau"] == pytest.approx(np.nan_to_num(kendalltau(x, y).statistic))
    recipe = tiny()
    assert conduct(create_run("rank", recipe, str(tmp_path / "one")), recipe, quiet=True)["digest"] == result["digest"]


def test_too_few_usable_architectures_say_why(tiny, tmp_path: Path, monkeypatch) -> None:
    def evaluate(requests):
        for request in requests:
            reason = "it is one of a kind" if request.index == 0 else "the loss is not finite"
            yield request, Score("ok" if request.index == 1 else "diverged", reason, {}), 1

    monkeypatch.setattr("evospike.jobs.ranking.pool", lambda *_: nullcontext())
    monkeypatch.setattr("evospike.jobs.ranking.evaluate_with", lambda *_: evaluate)
    recipe = tiny()
    run = create_run("rank", recipe, str(tmp_path / "run"))
    message = r"only 1 of 5 architectures .*, 3 are needed; most often: diverged: the loss is not finite; mend that or"
    with pytest.raises(RunError, match=message):
        conduct(run, recipe, quiet=True)


def test_a_density_that_too_few_of_the_drawn_can_have_is_refused_before_any_is_scored(tiny, tmp_path: Path) -> None:
    """Two of the architectures of the estimate can have it, none of those that are ranked."""
    recipe = tiny("sparse.density=0.001")
    assert dry_run(recipe, "rank")["candidates"] == 5
    run = create_run("rank", recipe, str(tmp_path / "run"))
    with pytest.raises(SettingsError, match=r"0 of 5 random architectures can have the synapses .*, at least 3 must"):
        conduct(run, recipe, quiet=True)
    assert not run.store_path.exists()
