"""Line 5: candidates that are not finite, raise, exhaust memory, are killed or hang: recorded, ranked last, counted."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from evospike.evolution.evaluate import evaluate_with
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.failures import count_failures, failures_in_words, stop_when_failing
from evospike.evolution.records import Score
from evospike.evolution.settings import EvolutionSettings
from evospike.evolution.store import Store
from evospike.evolution.study import SearchSpace, Study, StudyResult
from evospike.jobs.folder import RunFolder, create_run
from evospike.jobs.pool import pool
from evospike.jobs.recipe import read_recipe
from evospike.jobs.run_state import state_of
from evospike.jobs.watch import render

HERE = Path(__file__).parent
LIMIT_S = 2.5
WORKERS = 3
NAMES = ("log10 spread of encoding", "log10 spread of genes")
SETTINGS = EvolutionSettings(population=24, generations=2, finalists=1, finalist_seeds=1)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of memory and signals are POSIX")


@pytest.fixture(scope="module")
def bad_candidates():
    """The module of bad candidates, which workers find on the import path that they are given."""
    sys.path.insert(0, str(HERE))
    try:
        import bad_candidates

        yield bad_candidates
    finally:
        sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def evolved(bad_candidates, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, StudyResult]:
    """An evolution whose first generation holds every way to go wrong, in a run folder."""
    recipe = read_recipe(
        "digits", [f"evolution.population={SETTINGS.population}", "evolution.generations=2"], {"run": {"workers": 1}}
    )
    run = create_run("evolve", recipe, str(tmp_path_factory.mktemp("candidates") / "run"))
    return run, evolve(run, run.path.parent)


def evolve(run: RunFolder, log: Path) -> StudyResult:
    space = SearchSpace.of(NAMES, SETTINGS)
    with (
        Store.open_or_create(run.store_path) as store,
        LocalExecutor(WORKERS, 1, "bad_candidates:score", {"folder": str(log)}, limit_s=LIMIT_S) as executor,
    ):
        return Study(store, SETTINGS, 0, space, evaluate_with(executor)).run()


def calls(log: Path) -> Counter[str]:
    return Counter((log / "calls").read_text(encoding="utf-8").splitlines())


def test_each_is_recorded_with_what_became_of_it(evolved, bad_candidates, soak) -> None:
    run, _ = evolved
    with Store.open(run.store_path) as store:
        recorded = [item.score for item in store.scores("candidate", 0)]
    assert len(recorded) == SETTINGS.population
    for index, way in enumerate(bad_candidates.WAYS):
        status, reason = bad_candidates.EXPECTED.get(way, ("ok", ""))
        assert recorded[index].status == status, way
        assert recorded[index].reason.startswith(reason), way
    assert [score.status for score in recorded[len(bad_candidates.EXPECTED) :]] == ["ok"] * 15
    counts = count_failures(score.status for score in recorded)
    for way, (status, _) in bad_candidates.EXPECTED.items():
        soak.figure("survival 5", f"candidates that end by '{way}', recorded as", status)
    assert counts == {"diverged": 2, "timeout": 2, "error": 5}


def test_they_rank_last_and_the_search_goes_on(evolved, bad_candidates) -> None:
    _, result = evolved
    first, second = result.history
    wrong = len(bad_candidates.EXPECTED)
    assert set(first.ranks[:wrong]) == {SETTINGS.population - wrong}
    assert sorted(first.ranks[wrong:]) == list(range(SETTINGS.population - wrong))
    assert all(score.ok for score in second.scores)
    assert result.winner.generation == 1


def test_one_that_hangs_is_ended_in_time_and_not_tried_again(evolved, bad_candidates) -> None:
    run, _ = evolved
    seen = calls(run.path.parent)
    tried = {way: seen[f"candidate 0 {index}"] for index, way in enumerate(bad_candidates.WAYS)}
    assert tried == {way: 2 if way in ("killed", "memory") else 1 for way in bad_candidates.WAYS}


def test_a_resume_replays_what_was_recorded(evolved) -> None:
    run, result = evolved
    before = calls(run.path.parent)
    assert evolve(run, run.path.parent) == result
    assert calls(run.path.parent) == before


def test_they_are_counted_by_status_in_the_page_and_by_watch(evolved) -> None:
    from evospike.report.page import render as page_of
    from evospike.report.pages import make_page

    run, _ = evolved
    words = "2 diverged, 2 timeout, 5 error"
    (study,) = state_of(run).studies
    assert failures_in_words(study.failures) == words
    assert f"not usable so far: {words}" in render(state_of(run), 120)
    pytest.importorskip("plotly")
    page = page_of(make_page(run))
    assert f"9 without a usable score ({words})" in page
    assert f"<td>{words}</td>" in page
    assert "timeout: not done after 2.5 s" in page


def test_a_limit_ends_the_worker_and_leaves_the_others_alone(bad_candidates, tmp_path: Path) -> None:
    payloads = [{"kind": "candidate", "generation": 0, "index": 7, "genotype": {"values": [0.0, 0.0]}}]
    payloads += [{**payloads[0], "generation": 1, "index": k} for k in range(6)]
    started = time.monotonic()
    with LocalExecutor(2, 1, "bad_candidates:score", {"folder": str(tmp_path)}, limit_s=LIMIT_S) as executor:
        found = dict(executor.run(payloads))
        assert time.monotonic() - started < 60
        assert found[0].timed_out
        assert (found[0].value, found[0].attempts) == (None, 1)
        assert all(outcome.value["status"] == "ok" and not outcome.timed_out for k, outcome in found.items() if k)
        again = dict(executor.run(payloads[1:2]))
    assert again[0].value == found[1].value


def test_candidates_have_the_limit_of_the_recipe_and_final_trainings_none(tmp_path: Path) -> None:
    from evospike.data.task import load_task
    from evospike.jobs.plan import make_plan
    from evospike.jobs.workshop import Workshop

    recipe = read_recipe("digits", ["run.candidate_minutes=0.5", "run.workers=2"])
    task = load_task(recipe.data, 0)
    shop = Workshop(recipe, make_plan(recipe, task, evolves=True), task)
    run = create_run("evolve", recipe, str(tmp_path / "run"))
    limits = {function: pool(shop, run, function)._limit_s for function in ("score", "score_genome", "rank", "train")}
    assert limits == {"score": 30.0, "score_genome": 30.0, "rank": 30.0, "train": 0.0}


def test_many_that_take_too_long_stop_the_run_as_other_failures_do() -> None:
    class Generation:
        def __init__(self, number: int, scores: Sequence[Score]) -> None:
            self.number, self.scores = number, tuple(scores)

    late, fine = Score("timeout", "not done after 60 s"), Score("ok", terms={"loss": 1.0})
    stop_when_failing([Generation(0, [late, late, late]), Generation(1, [late, fine, fine])], "do this")
    with pytest.raises(RuntimeError, match=r"more than half .* most often: timeout: not done after 60 s; do this"):
        stop_when_failing([Generation(0, [late, late, fine]), Generation(1, [late, late, fine])], "do this")
