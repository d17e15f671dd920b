import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from evolution_subjects import EVOLUTION, Killed, bowl

from evospike.core.errors import RunError, SettingsError, StoreError
from evospike.evolution.evaluate import evaluate_with
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.records import Request, Score
from evospike.evolution.settings import EvolutionSettings
from evospike.evolution.store import Store
from evospike.evolution.study import Event, SearchSpace, Study, StudyResult

Judge = Callable[[Request], Score]


def backwards(judge: Judge = bowl, stop_after: int | None = None):
    """An `evaluate` whose scores arrive in reverse order, and which is killed after some of them."""
    left = stop_after

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        nonlocal left
        for request in reversed(requests):
            if left == 0:
                raise Killed
            left = None if left is None else left - 1
            yield request, judge(request), 1

    return evaluate


def study(store: Store, judge: Judge = bowl, settings: EvolutionSettings = EVOLUTION, **options) -> Study:
    evaluate = options.pop("evaluate", None) or backwards(judge)
    space = SearchSpace.of(("log_sigma_x", "log_sigma_g"), settings)
    return Study(store, settings, options.pop("seed", 5), space, evaluate, **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "record") as record:
        yield record


def test_candidates_share_the_draw_of_their_generation(store: Store) -> None:
    study(store).run()
    requests = [item.request for item in store.scores()]
    assert {(r.generation, r.draw_key) for r in requests if r.kind == "candidate"} == {
        (n, ("generation", n)) for n in range(3)
    }
    finalists = [r for r in requests if r.kind == "finalist"]
    assert [(r.index, r.draw_key) for r in finalists] == [
        (0, ("finalist", 0)),
        (1, ("finalist", 1)),
        (2, ("finalist", 0)),
        (3, ("finalist", 1)),
    ]


def test_the_winner_is_the_last_generations_best_by_validation(store: Store) -> None:
    result = study(store).run()
    last = result.history[-1]
    losses = [score.terms["loss"] for score in last.scores]
    best = losses.index(min(losses))
    assert result.winner.candidate == best
    assert result.genotype == last.genotypes[best]
    assert result.winner.validation_loss == pytest.approx(losses[best] + 0.0005)
    assert store.values()["winner"]["genotype"] == result.genotype.to_json()
    assert [len(generation.ranks) for generation in result.history] == [4, 4, 4]


def test_weights_follow_the_spread_of_the_first_generation_and_decay(store: Store) -> None:
    result = study(store).run()
    weights = [generation.weights.temporal for generation in result.history]
    assert weights[0] > 0
    assert weights[2] == pytest.approx(weights[0] * 0.049787, rel=1e-4)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, StudyResult]:
    with Store.create(tmp_path_factory.mktemp("unbroken") / "record") as store:
        result = study(store).run()
        assert len(store.scores()) == 16
        return store.digest(), result


@pytest.mark.parametrize("scores", range(16))
def test_a_study_killed_after_any_score_goes_on_as_if_unbroken(
    tmp_path: Path, scores: int, unbroken: tuple[str, StudyResult]
) -> None:
    path = tmp_path / "record"
    with Store.create(path) as store, pytest.raises(Killed):
        study(store, evaluate=backwards(stop_after=scores)).run()
    with Store.open(path) as store:
        assert len(store.scores()) == scores
        result = study(store).run()
        assert (store.digest(), result) == unbroken


@pytest.mark.parametrize("method", ["record_generation", "record_score", "record_value"])
@pytest.mark.parametrize("calls", [0, 1])
def test_a_study_killed_between_two_rows_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: tuple[str, StudyResult], method: str, calls: int
) -> None:
    def killed(*values: object) -> None:
        nonlocal calls
        if calls == 0:
            raise Killed
        calls -= 1
        original(*values)

    with Store.create(tmp_path / "record") as store:
        original = getattr(store, method)
        with monkeypatch.context() as patch:
            patch.setattr(store, method, killed)
            with pytest.raises(Killed):
                study(store).run()
        result = study(store).run()
        assert (store.digest(), result) == unbroken


def test_a_finished_study_is_replayed_without_evaluating(store: Store, unbroken: tuple[str, StudyResult]) -> None:
    study(store).run()
    events: list[Event] = []
    assert study(store, evaluate=backwards(stop_after=0), on_event=events.append).run() == unbroken[1]
    assert [event.kind for event in events] == ["generation"] * 3 + ["finalists", "winner"]
    assert all(event.replayed for event in events)


def test_events_tell_the_progress(store: Store) -> None:
    events: list[Event] = []
    study(store, on_event=events.append).run()
    assert [event.kind for event in events[:5]] == ["score"] * 4 + ["generation"]
    assert [event.done for event in events[:4]] == [1, 2, 3, 4]
    assert {event.total for event in events[:5]} == {4}


def test_workers_give_the_same_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    digests = set()
    for workers in (1, 2, 4):
        with (
            Store.create(tmp_path / str(workers)) as store,
            LocalExecutor(workers, 1, "worker_functions:bowl_score", {}) as executor,
        ):
            study(store, evaluate=evaluate_with(executor)).run()
            digests.add(store.digest())
    assert len(digests) == 1


def test_random_search_costs_as_much(tmp_path: Path) -> None:
    with Store.create(tmp_path / "record") as store:
        study(store, settings=replace(EVOLUTION, strategy="random")).run()
        assert len(store.scores()) == 16


def test_another_study_on_the_same_record_is_refused(store: Store) -> None:
    study(store).run()
    with pytest.raises(StoreError, match=r"belongs to another study \(seed: 5 -> 6\)"):
        study(store, seed=6).run()
    with pytest.raises(StoreError, match=r"\(settings.generations: 3 -> 4\); set these back or start a new run folder"):
        study(store, settings=replace(EVOLUTION, generations=4)).run()


def test_asks_that_differ_from_the_record_are_explained(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study(store).run()
    monkeypatch.setattr("evospike.evolution.strategies.cma_es.stream_key", lambda *names: 1)
    with pytest.raises(StoreError, match=r"generation 0 asks for other genotypes than recorded .*versions of evospike"):
        study(store).run()


def test_a_lost_score_of_a_past_generation_is_noticed(store: Store) -> None:
    study(store).run()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("DELETE FROM records WHERE name = 'candidate/0001/0002'")
        connection.commit()
    with pytest.raises(StoreError, match="lacks the score of candidate 2 of generation 1"):
        study(store).run()


def failing(share: int, status: str = "error") -> Judge:
    """The first `share` candidates of every generation fail."""

    def judge(request: Request) -> Score:
        return Score(status, "no memory") if request.index < share else bowl(request)  # type: ignore[arg-type]

    return judge


@pytest.mark.parametrize("status", ["error", "diverged"])
def test_two_failing_generations_stop_the_run(store: Store, status: str) -> None:
    with pytest.raises(RunError, match=rf"failed in generations 0 and 1; most often: {status}: no memory; try one"):
        study(store, failing(3, status)).run()
    assert len(store.generations()) == 2
    with pytest.raises(RunError, match="failed in generations 0 and 1"):
        study(store).run()


def test_half_failing_or_silent_generations_do_not_stop_it(tmp_path: Path) -> None:
    for name, judge in (("half", failing(2)), ("silent", failing(3, "silent"))):
        with Store.create(tmp_path / name) as store:
            candidates_only = replace_finalists(judge)
            assert study(store, candidates_only).run().winner.validation_loss is not None


def replace_finalists(judge: Judge) -> Judge:
    return lambda request: bowl(request) if request.kind == "finalist" else judge(request)


def test_a_silent_last_generation_falls_back_to_the_one_before(store: Store) -> None:
    result = study(store, lambda r: Score("silent") if r.generation == 2 and r.kind == "candidate" else bowl(r)).run()
    assert result.winner.generation == 1


def test_nothing_usable_is_a_run_error(store: Store) -> None:
    with pytest.raises(RunError, match="no candidate of 3 generations is usable; most often: silent: layer 'a'"):
        study(store, lambda request: Score("silent", "layer 'a'")).run()


def test_finalists_that_all_fail_are_a_run_error(store: Store) -> None:
    with pytest.raises(RunError, match=r"none of 2 finalists is usable on other draws \(most often: diverged: loss\)"):
        study(store, lambda r: Score("diverged", "loss") if r.kind == "finalist" else bowl(r)).run()


def test_a_finalist_that_fails_on_some_draws_loses_to_one_that_does_not(store: Store) -> None:
    result = study(store, lambda r: Score("silent") if r.kind == "finalist" and r.index == 1 else bowl(r)).run()
    assert result.winner == result.finalists[1]
    assert result.finalists[0].failed_draws == 1


def test_an_evaluation_that_breaks_its_promise_is_explained(tmp_path: Path) -> None:
    def forgetful(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        yield from ((request, bowl(request), 1) for request in requests[1:])

    def inventive(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        yield replace(requests[0], index=99), bowl(requests[0]), 1

    with Store.create(tmp_path / "a") as store, pytest.raises(RunError, match="without a score for candidate 0 of"):
        study(store, evaluate=forgetful).run()
    with Store.create(tmp_path / "b") as store, pytest.raises(RunError, match=r"candidate 99 .* was not asked for"):
        study(store, evaluate=inventive).run()


def test_mode_random_needs_no_study(store: Store) -> None:
    with pytest.raises(SettingsError, match="mode 'random' evolves nothing"):
        study(store, settings=replace(EVOLUTION, mode="random"))


def test_search_spaces_that_cannot_be_searched_are_refused() -> None:
    with pytest.raises(SettingsError, match="one lower, upper and start per distinct name"):
        SearchSpace(("a", "b"), (0.0,), (1.0,), (0.5,))
    with pytest.raises(SettingsError, match=r"'a' has lower=0.0, start=2.0, upper=1.0; order them so"):
        SearchSpace(("a",), (0.0,), (1.0,), (2.0,))
