"""Evolution in a steady state: scores are told as they arrive, and the recorded order is the only chance in it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evolution_subjects import EVOLUTION, SEARCH, Bits, Killed, bits_of, bowl, judge

from evospike.core.errors import RunError, SettingsError, StoreError
from evospike.core.settings import plain, read_settings
from evospike.evolution.evaluate import evaluate_with
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.fitness import fitness, loss_spread, ranks, term_weights
from evospike.evolution.ledger import Event
from evospike.evolution.population import PopulationResult, PopulationSearch
from evospike.evolution.records import Request, Score
from evospike.evolution.settings import EvolutionSettings, PopulationSettings
from evospike.evolution.store import Store
from evospike.evolution.strategies.cma_es import CmaEs
from evospike.evolution.strategies.registry import make_population_strategy
from evospike.evolution.study import SearchSpace, Study, StudyResult
from evospike.evolution.variation import vector_of

IN_FLIGHT = 3
Evaluation = Callable[[Sequence[Request]], Iterator[tuple[Request, Score, int]]]


def whatever_arrives(chance: int, judged: Callable[[Request], Score], stop_after: int | None = None) -> Evaluation:
    """An `evaluate` that gives a score for any of the open requests next, those that were added included."""
    left = stop_after

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        nonlocal left
        draw, done = np.random.default_rng(chance), set[int]()
        while open_ones := [place for place in range(len(requests)) if place not in done]:
            if left == 0:
                raise Killed
            left = None if left is None else left - 1
            place = int(draw.choice(open_ones))
            done.add(place)
            yield requests[place], judged(requests[place]), 1

    return evaluate


class Kind:
    """An evolution or a search, in a steady state."""

    def __init__(self, name: str) -> None:
        self.name, self.judged = name, bowl if name == "evolution" else judge
        self.settings: Any = replace(EVOLUTION if name == "evolution" else SEARCH, in_flight=IN_FLIGHT)

    def begin(self, store: Store, evaluate: Evaluation, settings: Any = None, **options: Any) -> Any:
        settings = settings or self.settings
        if self.name == "evolution":
            space = SearchSpace.of(("log_sigma_x", "log_sigma_g"), settings)
            return Study(store, settings, 5, space, evaluate, **options)
        return PopulationSearch(store, settings, 5, Bits(), evaluate, **options)

    def run(self, store: Store, chance: int = 1, stop_after: int | None = None, **options: Any) -> Any:
        return self.begin(store, whatever_arrives(chance, self.judged, stop_after), **options).run()


@pytest.fixture(params=["evolution", "search"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "record") as record:
        yield record


def told_requests(store: Store) -> list[Request]:
    by_key = {item.request.key: item.request for item in store.scores()}
    return [by_key[key] for key in store.told()]


def told_of(result: StudyResult | PopulationResult) -> list[tuple[Any, Score]]:
    """Genotypes and scores of a result, generation by generation."""
    return [pair for one in result.history for pair in zip(one.genotypes, one.scores, strict=True)]


def test_every_candidate_is_told_once_in_the_recorded_order(kind: Kind, store: Store) -> None:
    result = kind.run(store)
    told = told_requests(store)
    assert len(told) == sum(kind.settings.sizes) == len({request.key for request in told})
    assert [request.key for request in told] != sorted(request.key for request in told)
    assert [genotype for genotype, _ in told_of(result)] == [request.genotype for request in told]
    assert store.generations() == []


def test_no_more_than_wanted_are_in_flight_and_always_as_many(kind: Kind, store: Store) -> None:
    """Recomputed from what the evaluation sees: how many requests it has that it has not answered."""
    seen: list[int] = []

    def counting(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        answered = 0
        while answered < len(requests):
            seen.append(len(requests) - answered)
            answered += 1
            yield requests[answered - 1], kind.judged(requests[answered - 1]), 1

    kind.begin(store, counting).run()
    candidates = sum(kind.settings.sizes)
    assert seen[:candidates] == [min(IN_FLIGHT, candidates - told) for told in range(candidates)]


def test_all_candidates_share_one_draw(kind: Kind, store: Store) -> None:
    kind.run(store)
    assert len({request.draw_key for request in told_requests(store)}) == 1
    assert {item.request.draw_key for item in store.scores("finalist")} == {("finalist", 0), ("finalist", 1)}


def test_the_order_of_arrival_is_an_outcome(kind: Kind, tmp_path: Path) -> None:
    digests = set()
    for chance in (1, 2, 1):
        with Store.create(tmp_path / f"{len(list(tmp_path.iterdir()))}") as store:
            kind.run(store, chance)
            digests.add(store.digest())
    assert len(digests) == 2


def test_a_record_is_its_own_replay(kind: Kind, store: Store) -> None:
    first, digest = kind.run(store), store.digest()
    events: list[Event] = []
    assert kind.run(store, stop_after=0, on_event=events.append) == first
    assert store.digest() == digest
    assert all(event.replayed for event in events)
    assert [event.kind for event in events].count("generation") == len(first.history)


@pytest.mark.parametrize("scores", [*range(0, 16, 2), 15])
def test_killed_after_any_score_it_goes_on_from_what_was_told(kind: Kind, tmp_path: Path, scores: int) -> None:
    """What was told stays told, nothing is scored twice, and the whole is again its own replay."""
    with Store.create(tmp_path / "record") as store:
        with pytest.raises(Killed):
            kind.run(store, stop_after=scores)
        before, scored = store.told(), [item.request.key for item in store.scores()]
        assert len(scored) == scores
        assert set(before) == {key for key in scored if key.startswith("candidate")}

        def judged(request: Request) -> Score:
            assert request.key not in scored
            return kind.judged(request)

        result = kind.begin(store, whatever_arrives(9, judged)).run()
        assert store.told()[: len(before)] == before
        assert kind.run(store, stop_after=0) == result


def test_an_order_recorded_beforehand_is_followed_whatever_arrives_first(kind: Kind, tmp_path: Path) -> None:
    with Store.create(tmp_path / "first") as store:
        first, digest, order = kind.run(store), store.digest(), store.told()
    for chance in (2, 3):
        with Store.create(tmp_path / f"again {chance}") as store:
            for turn, key in enumerate(order):
                store.record_told(turn, key)
            assert kind.run(store, chance) == first
            assert store.digest() == digest


@pytest.mark.parametrize("scores", [1, 4, 7, 11])
def test_killed_while_it_follows_an_order_it_still_follows_it(kind: Kind, tmp_path: Path, scores: int) -> None:
    with Store.create(tmp_path / "first") as store:
        kind.run(store)
        digest, order = store.digest(), store.told()
    with Store.create(tmp_path / "again") as store:
        for turn, key in enumerate(order):
            store.record_told(turn, key)
        with pytest.raises(Killed):
            kind.run(store, chance=4, stop_after=scores)
        assert len(store.scores()) == scores
        kind.run(store, chance=6)
        assert store.digest() == digest


def test_half_an_order_is_followed_as_far_as_it_goes(kind: Kind, tmp_path: Path) -> None:
    with Store.create(tmp_path / "first") as store:
        kind.run(store)
        order = store.told()[:6]
    with Store.create(tmp_path / "again") as store:
        for turn, key in enumerate(order):
            store.record_told(turn, key)
        kind.run(store, chance=8)
        assert store.told()[:6] == order
        assert len(store.told()) == sum(kind.settings.sizes)


def test_workers_take_what_is_added_and_their_number_is_not_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made with two workers, one of which is slower; followed with one and with four: the same digest."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    kind = Kind("evolution")

    def run(name: str, workers: int, order: Sequence[str] = ()) -> tuple[str, list[str]]:
        with (
            Store.create(tmp_path / name) as store,
            LocalExecutor(workers, 1, "worker_functions:bowl_score_in_its_time", {}) as executor,
        ):
            for turn, key in enumerate(order):
                store.record_told(turn, key)
            kind.begin(store, evaluate_with(executor)).run()
            return store.digest(), store.told()

    digest, order = run("first", 2)
    assert order != sorted(order)
    assert run("one", 1, order) == (digest, order)
    assert run("four", 4, order) == (digest, order)


def test_a_generation_is_ranked_as_it_was_told(store: Store) -> None:
    """Fitness, weights and ranks recomputed from the record, by batches of the told order."""
    kind = Kind("evolution")
    result = kind.run(store)
    scores = {item.request.key: item.score for item in store.scores()}
    told = [scores[key] for key in store.told()]
    size = kind.settings.population
    batches = [told[start : start + size] for start in range(0, len(told), size)]
    for number, (generation, batch) in enumerate(zip(result.history, batches, strict=True)):
        weights = term_weights(kind.settings, number, loss_spread(batches[: number + 1], "training"))
        values = [fitness(score, weights) for score in batch]
        assert list(generation.scores) == batch
        assert list(generation.fitness) == values
        assert list(generation.ranks) == ranks(values)
    assert (result.winner.generation, result.genotype) == (2, result.history[2].genotypes[result.winner.candidate])


def test_cma_es_is_told_what_came_whenever_it_was_asked_for(store: Store) -> None:
    """The asks of the record, made once more by hand from a strategy that is told at the right moments."""
    kind = Kind("evolution")
    kind.run(store)
    space = SearchSpace.of(("log_sigma_x", "log_sigma_g"), kind.settings)
    replayed = Study(store, kind.settings, 5, space, whatever_arrives(0, bowl))._strategy
    assert isinstance(replayed, CmaEs)
    told, scores = told_requests(store), {item.request.key: item.score for item in store.scores()}
    asked, batches = [replayed.ask_one() for _ in range(IN_FLIGHT)], list[list[Score]]()
    size = kind.settings.population
    for turn in range(1, len(told) + 1):
        if turn % size == 0:
            batch = told[turn - size : turn]
            batches.append([scores[request.key] for request in batch])
            weights = term_weights(kind.settings, len(batches) - 1, loss_spread(batches, "training"))
            order = ranks([fitness(score, weights) for score in batches[-1]])
            replayed.tell([request.genotype.values for request in batch], order)
        if len(asked) < len(told):
            asked.append(replayed.ask_one())
    by_asking = sorted(told, key=lambda request: request.key)
    assert [request.genotype.values for request in by_asking] == asked


def test_survivors_are_the_best_of_what_was_told(store: Store) -> None:
    """With one objective selection is truncation: after every generation the best so far survive."""
    kind = Kind("search")
    settings = replace(kind.settings, objectives=("score",))
    result = kind.run(store, settings=settings)
    everyone: list[float] = []
    for generation in result.history:
        everyone += [score.terms["score"] for score in generation.scores]
        survived = sorted((everyone[place] for place in generation.survivors), reverse=True)
        assert survived == sorted(everyone, reverse=True)[: settings.population]
    assert result.winner in result.candidates


def test_it_evolves(tmp_path: Path) -> None:
    """More told is better asked: late candidates of a search beat its first, random ones, on average of ten seeds."""
    settings = replace(SEARCH, generations=12, objectives=("score",), finalists=0, in_flight=4)
    gains = []
    for seed in range(10):
        with Store.create(tmp_path / str(seed)) as store:
            search = PopulationSearch(store, settings, seed, Bits(), whatever_arrives(seed, judge))
            history = search.run().history
            first, last = ([score.terms["score"] for score in history[place].scores] for place in (0, -1))
            gains.append(np.mean(last) - np.mean(first))
    assert np.mean(gains) > 1


def test_no_genome_is_scored_twice_and_a_space_that_is_used_up_ends_the_search(store: Store) -> None:
    settings = replace(SEARCH, population=4, generations=9, objectives=("score",), in_flight=3)
    bits = Bits(3)  # 8 genomes
    evaluate = whatever_arrives(2, lambda request: Score("ok", terms={"score": sum(request.genotype.values[:3])}))
    result = PopulationSearch(store, settings, 5, bits, evaluate).run()
    keys = [bits.key(vector_of(candidate.genotype)) for candidate in result.candidates]
    assert len(keys) == len(set(keys)) == 8
    assert "of 9 generations: 50 attempts found nothing that was not scored before" in result.notice


def test_the_first_candidates_are_those_of_every_strategy(store: Store) -> None:
    kind = Kind("search")
    kind.run(store)
    start = make_population_strategy(Bits(), SEARCH, 5).ask()
    by_asking = sorted(told_requests(store), key=lambda request: request.key)
    assert [vector_of(request.genotype) for request in by_asking[: SEARCH.population]] == start


@pytest.mark.parametrize("in_flight", [1, 100])
def test_any_number_may_be_in_flight(kind: Kind, store: Store, in_flight: int) -> None:
    """More than a population, and more than there are candidates: all are random then."""
    kind.run(store, settings=replace(kind.settings, in_flight=in_flight))
    assert len(store.told()) == sum(kind.settings.sizes)
    if kind.name == "search":
        assert len({bits_of(request.genotype) for request in told_requests(store)}) == len(store.told())


def test_candidates_that_fail_do_not_end_it_but_two_generations_of_them_do(kind: Kind, tmp_path: Path) -> None:
    def sometimes(request: Request) -> Score:
        return Score("error", "no memory") if request.index % 3 == 0 else kind.judged(request)

    with Store.create(tmp_path / "some") as store:
        result = kind.begin(store, whatever_arrives(3, sometimes)).run()
        assert result.winner is not None
    evaluate = whatever_arrives(3, lambda request: Score("error", "no memory"))
    with Store.create(tmp_path / "all") as store, pytest.raises(RunError, match="failed in generations 0 and 1"):
        kind.begin(store, evaluate).run()


def test_its_evaluation_is_closed_when_it_stops_early(kind: Kind, store: Store) -> None:
    closed: list[bool] = []

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        try:
            yield from whatever_arrives(3, lambda request: Score("error", "no memory"))(requests)
        finally:
            closed.append(True)

    with pytest.raises(RunError):
        kind.begin(store, evaluate).run()
    assert closed == [True]


def test_a_record_of_another_order_is_refused(kind: Kind, tmp_path: Path) -> None:
    with Store.create(tmp_path / "never asked") as store:
        store.record_told(0, "candidate/0002/0001")
        with pytest.raises(StoreError, match="turn 0 tells a candidate that was not asked for"):
            kind.run(store)
    with Store.create(tmp_path / "lost") as store:
        kind.run(store)
        with closing(sqlite3.connect(store.path)) as connection:
            connection.execute("DELETE FROM records WHERE kind = 'told' AND name = '00000003'")
            connection.commit()
        with pytest.raises(StoreError, match="lacks turn 3; the file was altered"):
            kind.run(store)


def test_how_many_are_in_flight_defines_the_study(kind: Kind, store: Store) -> None:
    kind.run(store)
    with pytest.raises(StoreError, match=r"belongs to another study \(settings.in_flight: 3 -> 2\)"):
        kind.run(store, settings=replace(kind.settings, in_flight=2))


def test_without_it_a_study_is_defined_as_it_always_was(kind: Kind) -> None:
    assert kind.settings.definition["in_flight"] == IN_FLIGHT
    assert "in_flight" not in replace(kind.settings, in_flight=0).definition


def test_numbers_that_cannot_be_are_refused() -> None:
    for settings in (EvolutionSettings, PopulationSettings):
        with pytest.raises(SettingsError, match="in_flight=-1 cannot be; give 0 to evolve generation by generation"):
            read_settings(settings, {**plain(settings()), "in_flight": -1})
    with pytest.raises(SettingsError, match="together=4 trains candidates that are asked for together, in_flight=2"):
        EvolutionSettings(together=4, in_flight=2).validate()


def test_sizes_are_those_of_the_generations() -> None:
    assert EVOLUTION.sizes == (4, 4, 4)
    assert SEARCH.sizes == (6, 4, 4, 4)
    assert SEARCH.candidates == 18
