"""Growth on paper: the simulation has closed forms, made-up workers keep its order, the page shows what was found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evospike.evolution.records import Genotype, Request

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def growth() -> Iterator[SimpleNamespace]:
    """The scripts, which import each other by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import growth
        import growth_quality
        import growth_simulation
        import write_growth

        yield SimpleNamespace(run=growth, quality=growth_quality, simulation=growth_simulation, page=write_growth)


durations = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=60)
few = st.integers(1, 12)


def naive_ends(seconds: list[float], workers: int) -> list[float]:
    """When candidates are done that wait for nothing but a worker, each taken by the one that is free first."""
    free, ends = [0.0] * workers, []
    for taken in seconds:
        first = min(range(workers), key=free.__getitem__)
        free[first] += taken
        ends.append(free[first])
    return sorted(ends)


class TestSimulation:
    @given(durations, few, st.tuples(*[st.floats(0.0, 1.0)] * 4))
    def test_one_worker_takes_the_sum_of_everything(
        self, growth: SimpleNamespace, seconds: list[float], population: int, parts: tuple[float, ...]
    ) -> None:
        simulation, costs = growth.simulation, growth.simulation.Costs(*parts)
        whole = sum(seconds) + len(seconds) * sum(parts)
        by_one = simulation.in_steady_state(len(seconds), 1, 1, lambda k, worker: seconds[k], costs)
        waiting = simulation.by_generations(len(seconds), population, 1, lambda k, worker: seconds[k], costs)
        for course in (by_one, waiting):
            assert course.seconds == pytest.approx(whole)
            assert course.driver.total == pytest.approx(len(seconds) * sum(parts))
            assert course.working == pytest.approx(sum(seconds) / whole)
            assert course.barrier == pytest.approx(0.0, abs=1e-12)

    @given(durations, few)
    def test_without_a_driver_candidates_wait_for_a_worker_only(
        self, growth: SimpleNamespace, seconds: list[float], workers: int
    ) -> None:
        simulation = growth.simulation
        course = simulation.in_steady_state(
            len(seconds), workers, workers, lambda k, worker: seconds[k], simulation.Costs()
        )
        assert course.told == pytest.approx(naive_ends(seconds, workers))
        assert course.waiting == pytest.approx(0.0, abs=1e-9)
        assert course.working + course.barrier == pytest.approx(1.0)

    @given(durations, few)
    def test_a_generation_lasts_as_long_as_its_slowest(
        self, growth: SimpleNamespace, seconds: list[float], population: int
    ) -> None:
        simulation = growth.simulation
        groups = [seconds[k : k + population] for k in range(0, len(seconds), population)]
        course = simulation.by_generations(
            len(seconds), population, population, lambda k, worker: seconds[k], simulation.Costs()
        )
        assert course.seconds == pytest.approx(sum(map(max, groups)))
        ends = accumulate(map(max, groups))
        assert course.told == pytest.approx([end for end, group in zip(ends, groups, strict=True) for _ in group])

    @given(st.integers(1, 200), few, few)
    def test_equal_candidates_take_whole_rounds(
        self, growth: SimpleNamespace, candidates: int, population: int, workers: int
    ) -> None:
        simulation, free = growth.simulation, growth.simulation.Costs()
        steady = simulation.in_steady_state(candidates, workers, workers, lambda k, worker: 2.0, free)
        assert steady.seconds == 2 * math.ceil(candidates / workers)
        whole, rest = divmod(candidates, population)
        rounds = whole * math.ceil(population / workers) + math.ceil(rest / workers)
        waiting = simulation.by_generations(candidates, population, workers, lambda k, worker: 2.0, free)
        assert waiting.seconds == 2 * rounds

    @pytest.mark.parametrize(("costs", "limit"), [((1, 2, 3, 4), "driver"), ((1, 1, 9, 1), "record")])
    def test_more_workers_than_the_driver_can_serve_bring_its_own_rate(
        self, growth: SimpleNamespace, costs: tuple[int, ...], limit: str
    ) -> None:
        course = growth.simulation.in_steady_state(
            10_000, 500, 500, lambda k, worker: 100.0, growth.simulation.Costs(*costs)
        )
        assert course.throughput == pytest.approx(1 / sum(costs), rel=0.01)
        assert course.limit == limit
        assert course.driver.total == 10_000 * sum(costs)

    def test_workers_that_wait_for_others_to_be_served_wait_for_the_driver(self, growth: SimpleNamespace) -> None:
        simulation = growth.simulation
        course = simulation.by_generations(200, 100, 100, lambda k, worker: 1.0, simulation.Costs(hand=2.0))
        assert course.limit == "driver"
        assert course.seconds == 2 * (100 + 99 + 1)  # handing out; all but the last have ended and are taken; the last
        assert course.working + course.waiting + course.barrier == pytest.approx(1.0)

    def test_slow_workers_and_stragglers_take_their_multiple(self, growth: SimpleNamespace) -> None:
        seconds = growth.simulation.stretched([1.0, 2.0], slow_workers=3.0, stragglers=10.0)
        assert [seconds(k, worker) for k in (0, 1, 99) for worker in (0, 1)] == [1.0, 3.0, 2.0, 6.0, 20.0, 60.0]

    def test_of_two_workers_the_slow_one_gets_fewer_where_nobody_waits(self, growth: SimpleNamespace) -> None:
        simulation = growth.simulation
        slow = simulation.stretched([1.0], slow_workers=3.0)
        assert simulation.in_steady_state(400, 2, 2, slow, simulation.Costs()).throughput == pytest.approx(4 / 3)
        assert simulation.by_generations(400, 2, 2, slow, simulation.Costs()).throughput == pytest.approx(2 / 3)


def of(values: dict[str, float]) -> list[dict[str, float]]:
    return [{"population": 1, "offspring": 1, "in flight": 1, "workers": 1, **values}]


class TestMeasured:
    def test_the_driver_keeps_as_many_workers_as_its_time_goes_into_theirs(self, growth: SimpleNamespace) -> None:
        figures = {
            "evolution": of({"ask": 1.0, "tell": 2.0}),
            "ledger": of({"steady": 3.0, "generation": 4.0}),
            "record": {"score": 5.0, "score and turn": 6.0, "generation": of({"seconds": 7.0})},
            "ray": {"cpu": 8.0, "wait": of({"seconds": 1.0})},
            "loop": of({"seconds": 1.0}),
        }
        measured = growth.run.Measured(figures)
        assert vars(measured.costs("evolution", 0, 10)) == {"ask": 1.0, "tell": 5.0, "record": 6.0, "hand": 8.0}
        assert vars(measured.costs("evolution", 12, 10)) == {"ask": 1.0, "tell": 6.0, "record": 12.0, "hand": 8.0}
        assert measured.most_workers("evolution", 2000.0, steady=True) == pytest.approx(100, abs=1)

    def test_figures_between_and_beyond_the_measured_ones(self, growth: SimpleNamespace) -> None:
        rows = [{"n": 1, "x": 2.0}, {"n": 3, "x": 6.0}, {"n": 5, "x": 7.0}]
        assert [growth.run._at(rows, "n", "x", n) for n in (0, 1, 2, 5, 9)] == [2.0, 2.0, 4.0, 7.0, 9.0]


class TestQuality:
    @given(durations, few)
    def test_made_up_workers_answer_in_the_order_of_the_simulation(
        self, growth: SimpleNamespace, seconds: list[float], count: int
    ) -> None:
        requests = [Request("candidate", 0, k, Genotype(("x",), (k,)), ("draw",)) for k in range(len(seconds))]
        workers = growth.quality.VirtualWorkers(count, iter(seconds), lambda genotype: genotype.values[0])
        answered = [request.index for request, _, _ in workers.evaluate(requests)]
        assert sorted(answered) == list(range(len(seconds)))
        assert [time for time, _ in workers.told] == pytest.approx(naive_ends(seconds, count))
        assert [value for _, value in workers.told] == answered

    def test_one_in_flight_finds_what_generations_find(self, growth: SimpleNamespace) -> None:
        setup = growth.quality.Setup
        (_, one), (_, by_generations) = (
            growth.quality.course(setup("evolution", 12, in_flight, 1, 96, 3, (0.5, 1.5))) for in_flight in (1, 0)
        )
        assert one == by_generations
        assert one[-1] < one[0]

    @pytest.mark.parametrize("kind", ["evolution", "search"])
    def test_what_is_in_flight_is_not_known_yet(self, growth: SimpleNamespace, kind: str) -> None:
        population = growth.quality.POPULATIONS[kind]
        setups = [growth.quality.Setup(kind, population, n, n, 120, 1, (1.0,)) for n in (1, 120)]
        (_, informed), (times, blind) = map(growth.quality.course, setups)
        assert times == [1.0] * 120  # all at the same time, before anything was told
        assert len(informed) == 120
        assert informed[-1] <= blind[-1]
        assert informed == sorted(informed, reverse=True)

    def test_a_target_that_some_seed_misses_has_no_mean_time(self, growth: SimpleNamespace) -> None:
        setup = growth.quality.Setup("search", 50, 4, 4, 3, 0, (1.0,))
        courses = [([1.0, 2.0, 3.0], [5.0, 2.0, 1.0]), ([2.0, 4.0, 6.0], [5.0, 4.0, 2.0])]
        row = growth.quality._row(setup, 3, courses)
        assert (row["found"], row["time"], row["evaluated"], row["best"]) == (2, 4.0, 2.5, 1.5)
        row = growth.quality._row(setup, 2, [*courses, ([1.0, 2.0], [3.0, 3.0])])
        assert (row["found"], row["time"], row["best"]) == (2, None, 3.0)


class TestPage:
    def test_the_page_shows_the_figures_of_the_document(self, growth: SimpleNamespace) -> None:
        document: dict[str, Any] = json.loads((ROOT / "benchmarks/results/growth.json").read_text(encoding="utf-8"))
        text = growth.page.TEXT.read_text(encoding="utf-8")
        written = dict(growth.page.written(document, text))
        assert written[growth.page.TEXT].decode() == text
        assert written[growth.page.PICTURE].startswith(b"<?xml")
        assert "../pictures/growth.svg" in text


def test_our_loop_takes_what_stands_in_for_a_cluster(growth: SimpleNamespace) -> None:
    (row,) = growth.run.costs.loop_costs((3,), 5)
    assert row["workers"] == 3
    assert 0 < row["seconds"] < 1
