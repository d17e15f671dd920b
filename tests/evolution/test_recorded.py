"""Reading a record agrees with the study that made it: candidates are counted as told, or as asked for."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from evolution_subjects import EVOLUTION, SEARCH, Bits, Killed, bowl, judge

from evospike.core.errors import RunError, StoreError
from evospike.evolution.population import PopulationSearch
from evospike.evolution.recorded import RecordedGeneration, RecordedStudy, read_recorded, told_sizes
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.evolution.study import SearchSpace, Study

IN_FLIGHT = 3
NAMES = ("log_sigma_x", "log_sigma_g")


def in_any_order(
    chance: int, judged: Callable[[Request], Score], before_each: Callable[[], None] = lambda: None
) -> Callable[[Sequence[Request]], Iterator[tuple[Request, Score, int]]]:
    """An `evaluate` that answers any open request next; `before_each` is called when all before it is recorded."""

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        draw, done = np.random.default_rng(chance), set[int]()
        while open_ones := [place for place in range(len(requests)) if place not in done]:
            before_each()
            place = int(draw.choice(open_ones))
            done.add(place)
            yield requests[place], judged(requests[place]), 1

    return evaluate


class Kind:
    """An evolution or a search, in a steady state or by generations."""

    def __init__(self, name: str, in_flight: int) -> None:
        self.name, self.judged = name, bowl if name == "evolution" else judge
        self.settings: Any = dataclasses.replace(EVOLUTION if name == "evolution" else SEARCH, in_flight=in_flight)
        self.sizes = told_sizes(self.settings)
        self.names = NAMES if name == "evolution" else Bits().names

    def run(self, store: Store, chance: int = 1, before_each: Callable[[], None] = lambda: None) -> Any:
        evaluate = in_any_order(chance, self.judged, before_each)
        if self.name == "evolution":
            return Study(store, self.settings, 5, SearchSpace.of(NAMES, self.settings), evaluate).run()
        return PopulationSearch(store, self.settings, 5, Bits(), evaluate).run()

    def kill(self, store: Store, arrivals: int) -> None:
        """Run until so many scores have arrived."""
        left = iter(range(arrivals))

        def kill_at_last() -> None:
            if next(left, None) is None:
                raise Killed

        with pytest.raises(Killed):
            self.run(store, before_each=kill_at_last)

    def moments(self, folder: Path) -> list[Path]:
        """The record of a whole run after 0, 1, 2, .. arrivals."""
        paths: list[Path] = []
        with Store.create(folder / "run") as store:

            def keep() -> None:
                paths.append(Path(shutil.copy(store.path, folder / f"moment-{len(paths)}")))

            self.run(store, before_each=keep)
            keep()
        return paths

    def read(self, store: Store) -> RecordedStudy:
        return read_recorded(store, self.sizes)

    def look(self, path: Path) -> RecordedStudy:
        with Store.view(path) as store:
            return self.read(store)


@pytest.fixture(params=["evolution", "search"])
def steady(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param, IN_FLIGHT)


@pytest.fixture(params=["evolution", "search"])
def by_generations(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "record") as record:
        yield record


def pairs_of(generation: Any) -> list[tuple[Genotype, Score]]:
    """Genotypes and scores of a generation as a study gives it."""
    return list(zip(generation.genotypes, generation.scores, strict=True))


def read_pairs(generation: RecordedGeneration) -> list[tuple[Genotype, Score]]:
    return [(one.genotype, one.score) for one in generation.candidates]


def check_numbers(study: RecordedStudy, names: Sequence[str]) -> None:
    """Generations are numbered, and so are the candidates of each."""
    assert [one.number for one in study.generations] == list(range(len(study.generations)))
    for generation in study.generations:
        assert generation.names == tuple(names)
        assert {one.generation for one in generation.candidates} <= {generation.number}
    assert study.candidates == [one for generation in study.generations for one in generation.candidates]


def place_of(winner: Any) -> tuple[int, int]:
    """The winner's place, of an evolution or a search."""
    return winner.generation, winner.index if hasattr(winner, "index") else winner.candidate


@pytest.mark.parametrize("chance", range(2))
def test_a_steady_state_reads_as_its_study_had_it(steady: Kind, store: Store, chance: int) -> None:
    result, study = steady.run(store, chance), steady.read(store)
    check_numbers(study, steady.names)
    assert [read_pairs(one) for one in study.generations] == [pairs_of(one) for one in result.history]
    assert [one.asked for one in study.generations] == list(steady.settings.sizes)
    assert [one.index for one in study.candidates] == [k for size in steady.settings.sizes for k in range(size)]
    assert [one.recorded.request.key for one in study.candidates] == store.told()
    asked = [(one.recorded.request.generation, one.recorded.request.index) for one in study.candidates]
    assert asked != [(one.generation, one.index) for one in study.candidates]
    assert study.winner == place_of(result.winner)
    assert [one.score for one in study.finalists] == [score for one in result.finalists for score in one.scores]


def test_generations_read_as_their_study_had_them(by_generations: Kind, store: Store) -> None:
    result, study = by_generations.run(store), by_generations.read(store)
    assert by_generations.sizes is None
    check_numbers(study, by_generations.names)
    assert [read_pairs(one) for one in study.generations] == [pairs_of(one) for one in result.history]
    assert [one.asked for one in study.generations] == list(by_generations.settings.sizes)
    places = [(one.recorded.request.generation, one.recorded.request.index) for one in study.candidates]
    assert places == [(one.generation, one.index) for one in study.candidates]
    assert study.winner == place_of(result.winner)


def test_at_any_moment_a_steady_state_reads_as_far_as_it_was_told(steady: Kind, tmp_path: Path) -> None:
    moments, sizes = steady.moments(tmp_path), steady.settings.sizes
    whole = steady.look(moments[-1])
    assert len(moments) - 1 == sum(sizes) + len(whole.finalists)
    for arrivals, path in enumerate(moments[:-1]):
        study = steady.look(path)
        check_numbers(study, steady.names)
        assert study.candidates == whole.candidates[:arrivals]
        assert [one.asked for one in study.generations] == list(sizes[: len(study.generations)])
        assert all(one.candidates for one in study.generations)
        assert (study.winner, len(study.finalists)) == (None, max(arrivals - sum(sizes), 0))


def test_a_generation_that_was_killed_keeps_the_places_of_what_it_has(by_generations: Kind, store: Store) -> None:
    """Scores arrive in any order, so that there are gaps."""
    first, second, *_ = by_generations.settings.sizes
    by_generations.kill(store, first + 2)
    study = by_generations.read(store)
    assert [(one.asked, len(one.candidates)) for one in study.generations] == [(first, first), (second, 2)]
    places = [one.index for one in study.generations[1].candidates]
    assert places == sorted(places) == [one.recorded.request.index for one in study.generations[1].candidates]
    assert places != [0, 1]


def test_a_score_that_was_not_told_does_not_count(steady: Kind, store: Store) -> None:
    steady.kill(store, 7)
    before, last = steady.read(store), store.scores("candidate")[-1]
    assert len(before.candidates) == 7
    store.record_score(dataclasses.replace(last.request, generation=2, index=3), Score("error", "not told"))
    assert steady.read(store) == before


def test_a_search_that_runs_out_of_new_candidates_has_a_shorter_last_generation(
    store: Store,
) -> None:
    """Of two bits that count there are four strings; before the search has ended, nobody knows that it will."""
    kind = Kind("search", IN_FLIGHT)
    kind.settings = dataclasses.replace(
        SEARCH, population=3, offspring=3, generations=5, finalists=0, in_flight=IN_FLIGHT
    )
    kind.sizes = told_sizes(kind.settings)
    search = PopulationSearch(store, kind.settings, 5, Bits(2), in_any_order(1, judge))
    result, study = search.run(), kind.read(store)
    assert [read_pairs(one) for one in study.generations] == [pairs_of(one) for one in result.history]
    assert [one.asked for one in study.generations] == [3, 1]
    assert study.winner == place_of(result.winner)
    with Store.create(store.path.with_name("unfinished")) as unfinished:
        unfinished.record_scores((one.request, one.score, 1) for one in store.scores())
        for turn, key in enumerate(store.told()):
            unfinished.record_told(turn, key)
        assert [one.asked for one in kind.read(unfinished).generations] == [3, 3]


class Moving:
    """A store that grows between any two looks at it."""

    def __init__(self, moments: Sequence[Path]) -> None:
        self.path, self.looks = moments[0], list[Path]()
        self._moments = iter(moments)

    def _look(self, read: Callable[[Store], Any]) -> Any:
        self.looks.append(next(self._moments))
        with Store.view(self.looks[-1]) as store:
            return read(store)

    def values(self) -> Any:
        return self._look(Store.values)

    def told(self) -> Any:
        return self._look(Store.told)

    def scores(self) -> Any:
        return self._look(Store.scores)

    def generations(self) -> Any:
        return self._look(Store.generations)


def test_nothing_lacks_what_it_follows_from_while_a_steady_state_goes_on(steady: Kind, tmp_path: Path) -> None:
    moments = steady.moments(tmp_path)
    for start in range(len(moments) - 2):
        moving = Moving(moments[start:])
        study, then = read_recorded(cast("Store", moving), steady.sizes), steady.look(moments[start + 1])
        assert moving.looks == moments[start : start + 3]
        assert study.generations == then.generations
        assert study.winner in (None, then.winner)


def test_no_score_lacks_its_generation_while_a_run_goes_on(by_generations: Kind, tmp_path: Path) -> None:
    moments = by_generations.moments(tmp_path)
    for start in range(len(moments) - 2):
        study = read_recorded(cast("Store", Moving(moments[start:])), None)
        with Store.view(moments[start + 1]) as then:
            assert [one.recorded for one in study.candidates] == then.scores("candidate")


def test_an_order_counts_as_far_as_there_are_scores_for_it(steady: Kind, store: Store) -> None:
    """A replay has the whole order before it has the scores."""
    steady.kill(store, 5)
    before = steady.read(store)
    store.record_told(5, "candidate/0009/0000")
    assert steady.read(store) == before


def test_a_finished_record_that_lacks_a_score_is_refused(steady: Kind, store: Store) -> None:
    steady.kill(store, 5)
    store.record_told(5, "candidate/0009/0000")
    store.record_value("winner", {"generation": 0, "candidate": 0})
    with pytest.raises(StoreError, match="tells 'candidate/0009/0000', of which it has no score; the file was altered"):
        steady.read(store)


def test_a_record_that_tells_more_than_was_wanted_is_refused(steady: Kind, store: Store) -> None:
    steady.kill(store, 5)
    with pytest.raises(StoreError, match="tells 5 candidates of 4; the file was altered"):
        read_recorded(store, (2, 2))


@pytest.mark.parametrize(
    "value", [7, "first", {"generation": 1}, {"generation": "x", "candidate": 0}, {"candidate": 1}]
)
def test_a_winner_of_another_form_is_refused(store: Store, value: Any) -> None:
    store.record_value("winner", value)
    study = read_recorded(store, None)
    with pytest.raises(RunError, match=r"the winner in .* has an unexpected form; restore it or start a new run"):
        _ = study.winner


def test_an_empty_record_holds_nothing(steady: Kind, by_generations: Kind, store: Store) -> None:
    for kind in (steady, by_generations):
        study = kind.read(store)
        assert (study.generations, study.finalists, study.winner, study.candidates) == ((), (), None, [])
