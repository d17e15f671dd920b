import math
import sqlite3
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evolution_subjects import LENGTH, SEARCH, Bits, Killed, bits_of, judge
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from evospike.core.errors import MissingExtra, RunError, SettingsError, StoreError
from evospike.core.settings import plain, read_settings
from evospike.evolution.ledger import Event
from evospike.evolution.population import Candidate, PopulationResult, PopulationSearch
from evospike.evolution.records import Request, Score
from evospike.evolution.settings import PopulationSettings
from evospike.evolution.store import Store
from evospike.evolution.strategies.pool import Objectives, Pool, fronts
from evospike.evolution.strategies.registry import make_population_strategy
from evospike.evolution.variation import Vector, genotype_of, vector_of

SCORES = 6 + 3 * 4 + 2 * 2
Judge = Callable[[Request], Score]


def arriving(judge: Judge = judge, order: int | None = None, stop_after: int | None = None):
    """An `evaluate` whose scores arrive in reverse order, or shuffled by a seed, and which is killed after some."""
    left = stop_after

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        nonlocal left
        count = len(requests)
        for place in reversed(range(count)) if order is None else np.random.default_rng(order).permutation(count):
            if left == 0:
                raise Killed
            left = None if left is None else left - 1
            yield requests[place], judge(requests[place]), 1

    return evaluate


def search(store: Store, judge: Judge = judge, settings: PopulationSettings = SEARCH, **options) -> PopulationSearch:
    evaluate = options.pop("evaluate", None) or arriving(judge)
    variation = options.pop("variation", None) or Bits()
    return PopulationSearch(store, settings, options.pop("seed", 5), variation, evaluate, **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "record") as record:
        yield record


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PopulationResult]:
    with Store.create(tmp_path_factory.mktemp("unbroken") / "record") as store:
        result = search(store).run()
        assert len(store.scores()) == SCORES
        return store.digest(), result


def minimised(candidate: Candidate, names: Sequence[str] = SEARCH.objectives) -> Objectives:
    signs = {"score": -1, "accuracy": -1}
    return tuple(signs.get(name, 1) * candidate.score.terms[name] for name in names)


def dominates(a: Objectives, b: Objectives) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def naive_fronts(values: Sequence[Objectives]) -> list[set[int]]:
    left, result = set(range(len(values))), []
    while left:
        front = {k for k in left if not any(dominates(values[other], values[k]) for other in left)}
        result.append(front)
        left -= front
    return result


def simulate(settings: PopulationSettings, seed: int) -> list[Vector]:
    """All vectors that a strategy asks for on the test problem, without a store."""
    variation = Bits()
    strategy = make_population_strategy(variation, settings, seed)
    everything = []
    for _ in range(settings.generations):
        asked = strategy.ask()
        scores = [judge(Request("candidate", 0, 0, genotype_of(variation.names, one), ("search",))) for one in asked]
        strategy.tell([(-score.terms["score"], score.terms["parameters"]) for score in scores])
        everything += asked
    return everything


# What is found


def test_finds_the_whole_front_and_beats_random_search_of_equal_cost() -> None:
    best = {"1" * k + "0" * (LENGTH - k) for k in range(LENGTH + 1)}
    settings = replace(SEARCH, population=20, offspring=20, generations=30)

    def found(strategy: str) -> list[int]:
        runs = [simulate(replace(settings, strategy=strategy), seed) for seed in range(5)]
        assert {len(run) for run in runs} == {settings.candidates}
        return [len(best & {Bits().key(vector) for vector in run}) for run in runs]

    assert statistics.median(found("nsga2")) == len(best)
    assert statistics.median(found("random")) < len(best) / 2 + 1


@pytest.mark.parametrize("strategy", ["nsga2", "random"])
def test_one_objective_is_truncation_of_parents_and_offspring_by_score(strategy: str) -> None:
    rng = np.random.default_rng(2)
    settings = replace(SEARCH, strategy=strategy, objectives=("score",), population=8, offspring=8, generations=6)
    maker = make_population_strategy(Bits(), settings, 3)
    told: list[float] = []
    parents: tuple[int, ...] = ()
    for _ in range(settings.generations):
        values = [float(x) for x in rng.permutation(len(maker.ask())) + rng.random()]
        newcomers = range(len(told), len(told) + len(values))
        told += values
        expected = sorted([*parents, *newcomers], key=told.__getitem__)[: settings.population]
        parents = maker.tell([(value,) for value in values])
        assert parents == tuple(sorted(expected))


@examples(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=14), st.integers(1, 14))
def test_survivors_are_the_first_fronts(values: list[tuple[int, int]], size: int) -> None:
    survivors = set(Pool(size, 2, np.random.default_rng(0)).select(values))
    assert len(survivors) == min(size, len(values))
    for front in naive_fronts(values):
        inside = front & survivors
        survivors -= front
        assert inside == front or not survivors  # only the last front that gets in may be split


@examples(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=14))
def test_fronts_are_those_of_the_definition(values: list[tuple[int, int]]) -> None:
    assert [set(front) for front in fronts(values)] == naive_fronts(values)


def test_the_least_crowded_of_a_front_come_first() -> None:
    values = [(0.0, 10.0), (1.0, 9.0), (1.1, 8.9), (5.0, 5.0), (10.0, 0.0)]
    # gap between both neighbours as a share of the axis: 0.11 of 1, 0.4 of 2, 0.89 of 3; ends are infinite
    assert fronts(values) == [[0, 4, 3, 2, 1]]


def test_failed_candidates_rank_behind_all_others_and_still_fill_the_population() -> None:
    pool = Pool(3, 2, np.random.default_rng(0))
    assert pool.select([None, (9.0, 9.0), None, None]).count(1) == 1
    assert pool.select([(100.0, 100.0), (8.0, 200.0)]) == (1, 4, 5)
    assert {number for pair in pool.pairs(50) for number in pair} <= {1, 4, 5}


def test_parents_win_tournaments() -> None:
    pool = Pool(2, 1, np.random.default_rng(0))
    assert pool.select([(1.0,), (2.0,)]) == (0, 1)
    assert pool.pairs(4) == [(0, 0)] * 4  # both meet in every tournament
    failed = Pool(2, 1, np.random.default_rng(0))
    failed.select([None, (2.0,)])
    assert failed.pairs(4) == [(1, 1)] * 4


def test_children_without_crossover_are_mutants_of_survivors() -> None:
    class Marked(Bits):
        def cross(self, a: Vector, b: Vector, rng: np.random.Generator) -> tuple[Vector, Vector]:
            raise AssertionError("not to be crossed")

    strategy = make_population_strategy(Marked(), replace(SEARCH, crossover_probability=0.0), 1)
    first = strategy.ask()
    survivors = strategy.tell([(float(k), 0.0) for k in range(len(first))])
    assert survivors == tuple(range(6))
    assert len(strategy.ask()) == 4


# The record


def test_candidates_share_one_draw_and_finalists_meet_the_same_draws(store: Store) -> None:
    result = search(store).run()
    requests = [item.request for item in store.scores()]
    assert {r.draw_key for r in requests if r.kind == "candidate"} == {("search",)}
    finalists = [r for r in requests if r.kind == "finalist"]
    assert [(r.generation, r.index, r.draw_key) for r in finalists] == [
        (3, 0, ("finalist", 0)),
        (3, 1, ("finalist", 1)),
        (3, 2, ("finalist", 0)),
        (3, 3, ("finalist", 1)),
    ]
    chosen = [finalist.candidate.genotype for finalist in result.finalists]
    assert [r.genotype for r in finalists] == [chosen[0], chosen[0], chosen[1], chosen[1]]


def test_finalists_of_every_front_are_its_best_in_the_first_objective(store: Store) -> None:
    result = search(store, settings=replace(SEARCH, population=12, offspring=12, finalists=10)).run()
    everything = [candidate for generation in result.history for candidate in generation.candidates]
    expected: list[Candidate] = []
    for front in naive_fronts([minimised(one) for one in everything]):
        members = [everything[place] for place in front]
        expected += sorted(members, key=lambda one: (minimised(one), one.generation, one.index))
    assert len(result.front) < 10
    assert [finalist.candidate for finalist in result.finalists] == expected[:10]


@pytest.mark.parametrize("scores", range(0, SCORES, 3))
def test_a_search_killed_after_any_score_goes_on_as_if_unbroken(
    tmp_path: Path, scores: int, unbroken: tuple[str, PopulationResult]
) -> None:
    path = tmp_path / "record"
    with Store.create(path) as store, pytest.raises(Killed):
        search(store, evaluate=arriving(stop_after=scores)).run()
    with Store.open(path) as store:
        assert len(store.scores()) == scores
        result = search(store, evaluate=arriving(order=scores)).run()
        assert (store.digest(), result) == unbroken


def test_arrival_order_and_a_new_process_change_nothing(tmp_path: Path, unbroken: tuple[str, PopulationResult]) -> None:
    for order in range(2):
        with Store.create(tmp_path / str(order)) as store:
            assert search(store, evaluate=arriving(order=order)).run() == unbroken[1]
            assert store.digest() == unbroken[0]


def test_a_finished_search_is_replayed_without_evaluating(store: Store, unbroken: tuple[str, PopulationResult]) -> None:
    search(store).run()
    events: list[Event] = []
    assert search(store, evaluate=arriving(stop_after=0), on_event=events.append).run() == unbroken[1]
    assert [event.kind for event in events] == ["generation"] * 4 + ["finalists", "winner"]
    assert all(event.replayed for event in events)


def test_another_search_on_the_same_record_is_refused(store: Store) -> None:
    search(store, facts={"space": "a"}).run()
    with pytest.raises(StoreError, match=r"belongs to another study \(facts.space: \"a\" -> \"b\"\)"):
        search(store, facts={"space": "b"}).run()
    with pytest.raises(StoreError, match=r"\(seed: 5 -> 6\); set these back or start a new run folder"):
        search(store, seed=6, facts={"space": "a"}).run()
    with pytest.raises(StoreError, match=r"\(settings.offspring: 4 -> 5\)"):
        search(store, settings=replace(SEARCH, offspring=5), facts={"space": "a"}).run()


def test_a_lost_score_and_other_asks_are_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    search(store).run()
    with monkeypatch.context() as patch:
        patch.setattr(Bits, "mutate", lambda self, a, rng: a)
        with pytest.raises(StoreError, match=r"generation 1 asks for other genotypes .* of evospike, pymoo or numpy"):
            search(store).run()
    with closing(sqlite3.connect(store.path)) as connection:
        connection.execute("DELETE FROM records WHERE name = 'candidate/0001/0002'")
        connection.commit()
    with pytest.raises(StoreError, match="lacks the score of candidate 2 of generation 1"):
        search(store).run()


# The result


def test_the_history_tells_who_survived_and_how_well(unbroken: tuple[str, PopulationResult]) -> None:
    result = unbroken[1]
    assert [len(generation.genotypes) for generation in result.history] == [6, 4, 4, 4]
    assert result.history[0].survivors == tuple(range(6))
    for generation in result.history:
        alive = [result.candidates[place].score.terms for place in generation.survivors]
        assert len(alive) == 6
        score, parameters = generation.summaries
        assert (score.name, parameters.name) == SEARCH.objectives
        assert score.best == max(terms["score"] for terms in alive)
        assert parameters.best == min(terms["parameters"] for terms in alive)
        assert score.median == statistics.median(terms["score"] for terms in alive)
        assert parameters.median == statistics.median(terms["parameters"] for terms in alive)


def test_the_front_is_all_that_nothing_dominates(unbroken: tuple[str, PopulationResult]) -> None:
    result = unbroken[1]
    values = [minimised(candidate) for candidate in result.candidates]
    expected = [result.candidates[k] for k in naive_fronts(values)[0]]
    assert list(result.front) == sorted(expected, key=lambda one: (minimised(one), one.generation, one.index))
    assert not result.notice


def test_finalists_with_one_objective_are_the_best_by_score(store: Store) -> None:
    result = search(store, settings=replace(SEARCH, objectives=("ones",), finalists=5)).run()
    ordered = sorted(result.candidates, key=lambda one: one.score.terms["ones"])
    chosen = [finalist.candidate.score.terms["ones"] for finalist in result.finalists]
    assert chosen == [one.score.terms["ones"] for one in ordered[:5]]
    assert result.winner == result.finalists[0].candidate
    assert store.values()["winner"]["genotype"] == result.winner.genotype.to_json()


def test_finalists_with_several_objectives_come_from_the_first_fronts(store: Store) -> None:
    result = search(store, settings=replace(SEARCH, finalists=SEARCH.candidates)).run()
    places = [result.candidates.index(finalist.candidate) for finalist in result.finalists]
    expected = naive_fronts([minimised(candidate) for candidate in result.candidates])
    assert sorted(places) == list(range(SEARCH.candidates))
    for front in expected:
        assert set(places[: len(front)]) == front
        places = places[len(front) :]


def test_the_winner_is_the_best_on_other_draws(store: Store) -> None:
    def turned(request: Request) -> Score:
        score = judge(request)
        sign = -1.0 if request.kind == "finalist" else 1.0
        return replace(score, terms={**score.terms, "score": sign * score.terms["score"]})

    result = search(store, turned, replace(SEARCH, objectives=("score",), finalists=18)).run()
    means = [statistics.mean(score.terms["score"] for score in one.scores) for one in result.finalists]
    assert [finalist.mean for finalist in result.finalists] == means
    assert len(set(means)) > 1
    assert result.winner == result.finalists[means.index(max(means))].candidate


def test_a_finalist_that_fails_on_some_draws_loses_to_one_that_does_not(store: Store) -> None:
    result = search(store, lambda r: Score("silent") if r.kind == "finalist" and r.index == 1 else judge(r)).run()
    assert [finalist.failed_draws for finalist in result.finalists] == [1, 0]
    assert result.winner == result.finalists[1].candidate


def test_without_finalists_the_best_of_the_search_wins(store: Store) -> None:
    result = search(store, settings=replace(SEARCH, objectives=("score",), finalists=0)).run()
    assert result.finalists == ()
    assert result.winner.score.terms["score"] == max(one.score.terms["score"] for one in result.candidates)
    assert result.winner in result.front


def test_random_search_starts_alike_costs_as_much_and_ignores_scores(
    tmp_path: Path, unbroken: tuple[str, PopulationResult]
) -> None:
    def run(name: str, judge: Judge) -> PopulationResult:
        with Store.create(tmp_path / name) as store:
            return search(store, judge, replace(SEARCH, strategy="random")).run()

    result = run("a", judge)
    other = run("b", lambda request: Score("ok", terms={"score": 0.0, "parameters": 1.0}))
    assert result.history[0].genotypes == unbroken[1].history[0].genotypes
    assert [one.genotype for one in result.candidates] == [one.genotype for one in other.candidates]
    assert len(result.candidates) == SEARCH.candidates
    best = [generation.summaries[0].best for generation in result.history]
    assert best == sorted(best)


# Duplicates


@pytest.mark.parametrize("strategy", ["nsga2", "random"])
def test_nothing_is_scored_twice_and_a_search_ends_when_nothing_is_new(tmp_path: Path, strategy: str) -> None:
    settings = replace(SEARCH, strategy=strategy, population=3, offspring=3, generations=30, tries=200)
    scored: list[str] = []

    def remember(request: Request) -> Score:
        if request.kind == "candidate":
            scored.append(bits_of(request.genotype))
        return Score("ok", terms={"score": 1.0, "parameters": 1.0})

    path = tmp_path / "record"
    with Store.create(path) as store:
        result = search(store, remember, settings, variation=Bits(3)).run()
        digest = store.digest()
    assert sorted(scored) == [f"{k:03b}" for k in range(8)]
    assert [len(generation.candidates) for generation in result.history] == [3, 3, 2]
    assert result.notice == (
        "the search ended after 3 of 30 generations: 200 attempts found nothing that was not scored before"
    )
    with Store.open(path) as store:
        again = search(store, settings=settings, variation=Bits(3), evaluate=arriving(stop_after=0)).run()
        assert (again, store.digest()) == (result, digest)


# Failures


def failing(share: int, status: str = "error") -> Judge:
    """The first `share` candidates of every generation fail."""

    def judge_some(request: Request) -> Score:
        fails = request.kind == "candidate" and request.index < share
        return Score(status, "no memory") if fails else judge(request)  # type: ignore[arg-type]

    return judge_some


@pytest.mark.parametrize("status", ["error", "diverged"])
def test_two_failing_generations_stop_the_search(store: Store, status: str) -> None:
    with pytest.raises(RunError, match=rf"failed in generations 0 and 1; most often: {status}: no memory; try one"):
        search(store, failing(4, status)).run()
    assert len(store.generations()) == 2


def test_a_bound_that_refuses_everything_stops_the_search(store: Store) -> None:
    with pytest.raises(RunError, match=r"every candidate of the first two .* was refused; most often: refused: no"):
        search(store, failing(SEARCH.population, "refused")).run()
    assert len(store.generations()) == 2


def test_refused_and_silent_candidates_are_no_failures(store: Store) -> None:
    assert len(search(store, failing(4, "refused")).run().history) == SEARCH.generations


def test_failed_candidates_neither_survive_nor_become_finalists(store: Store) -> None:
    result = search(store, failing(2, "silent"), replace(SEARCH, finalists=18)).run()
    assert [sum(not one.score.ok for one in generation.candidates) for generation in result.history] == [2] * 4
    assert all(result.candidates[place].score.ok for place in result.history[-1].survivors)
    assert all(finalist.candidate.score.ok for finalist in result.finalists)
    assert len(result.finalists) == SEARCH.candidates - 4 * 2


def test_a_first_generation_of_silent_networks_keeps_the_search_going(store: Store) -> None:
    result = search(store, lambda r: Score("silent") if r.generation == 0 else judge(r)).run()
    assert result.history[0].summaries[0].best is None
    assert result.winner.generation > 0


def test_nothing_usable_is_a_run_error(tmp_path: Path) -> None:
    with (
        Store.create(tmp_path / "a") as store,
        pytest.raises(RunError, match="no candidate of 4 generations is usable"),
    ):
        search(store, lambda request: Score("silent", "layer 'a'")).run()
    diverging = lambda r: Score("diverged", "loss") if r.kind == "finalist" else judge(r)  # noqa: E731
    with (
        Store.create(tmp_path / "b") as store,
        pytest.raises(RunError, match=r"none of 2 finalists is usable on other draws \(most often: diverged: loss\)"),
    ):
        search(store, diverging).run()


def test_a_term_that_was_not_measured_is_a_run_error(store: Store) -> None:
    with pytest.raises(RunError, match=r"gave no 'energy' term \(it gave: ones, parameters, score\)"):
        search(store, settings=replace(SEARCH, objectives=("score", "energy"))).run()


# Settings and what they need


def test_the_defaults_cost_what_the_methods_reference_says() -> None:
    settings = PopulationSettings()
    assert (settings.population, settings.offspring, settings.generations) == (50, 50, 100)
    assert settings.candidates == 5000
    assert read_settings(PopulationSettings, plain(SEARCH)) == SEARCH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"population": 1}, "population=1 has no two parents; give 2 or more"),
        ({"offspring": 0}, "offspring=0 leaves nothing to do; give 1 or more"),
        ({"generations": 0}, "generations=0 leaves nothing to do"),
        ({"generations": 10000}, "generations=10000 is more than a record holds; give at most 9999"),
        ({"finalist_seeds": 0}, "finalist_seeds=0 leaves nothing to do"),
        ({"tries": 0}, "tries=0 leaves nothing to do"),
        ({"crossover_probability": 1.5}, "crossover_probability=1.5 is no probability"),
        ({"finalists": -1}, "finalists=-1 of 5000 candidates cannot be; give 0 to 5000"),
        ({"finalists": 51, "generations": 1}, "finalists=51 of 50 candidates cannot be; give 0 to 50"),
        ({"objectives": []}, r"objectives=\[\] leaves nothing to search for"),
        ({"objectives": ["score", "score"]}, "must be distinct names; name each term once"),
        ({"strategy": "nsga3"}, "did you mean 'nsga2'"),
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings(PopulationSettings, change)


def test_genomes_are_whole_numbers_and_come_back_exactly() -> None:
    vector = (0, -3, 2**53)
    assert vector_of(genotype_of(("a", "b", "c"), vector)) == vector
    for gene in (0.5, 2**53 + 2):
        with pytest.raises(SettingsError, match="every gene must be a whole number within"):
            genotype_of(("a",), (gene,))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="give one value per distinct name"):
        genotype_of(("a",), (1, 2))


def test_outcomes_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(SettingsError, match="candidate 0 has 1 values; expected 2"):
        Pool(2, 2, np.random.default_rng(0)).select([(math.pi,)])


def test_without_pymoo_one_line_says_what_to_install(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["pymoo", *(name for name in sys.modules if name.startswith("pymoo."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"population search needs 'pymoo'; install it with: .*evospike\[search\]"):
        search(store)
    assert store.values() == {}


def test_pymoo_and_torch_are_not_imported_with_the_module() -> None:
    code = "import sys, evospike.evolution.population; print({'pymoo', 'torch'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "set()"
