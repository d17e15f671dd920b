import ast
import os
import statistics
import subprocess
import sys

import numpy as np
import pytest

from evospike.core.errors import SettingsError
from evospike.evolution.strategies.base import Box, Strategy, Vector
from evospike.evolution.strategies.cma_es import CmaEs
from evospike.evolution.strategies.registry import STRATEGIES, make_strategy

BOX = Box(lower=(-3.0, -3.0), upper=(0.5, 0.5), start=(-1.0, -1.0))
TARGET = np.array([-2.2, 0.1])


def loss(vector: Vector) -> float:
    return float(((np.array(vector) - TARGET) ** 2).sum())


def ranks_of(values: list[float]) -> list[int]:
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    return [order.index(index) for index in range(len(values))]


def run(strategy: Strategy, generations: int) -> list[list[Vector]]:
    asked = []
    for _ in range(generations):
        vectors = strategy.ask()
        strategy.tell(vectors, ranks_of([loss(vector) for vector in vectors]))
        asked.append(vectors)
    return asked


class StrategyContract:
    """What every strategy promises: subclass it and give its name."""

    name: str

    def make(self, seed: int = 3, population: int = 12, box: Box = BOX) -> Strategy:
        return make_strategy(self.name, box, population, 0.3, seed)

    def test_same_seed_asks_the_same_in_a_new_process(self) -> None:
        code = (
            "from evospike.evolution.strategies.base import Box\n"
            "from evospike.evolution.strategies.registry import make_strategy\n"
            f"s = make_strategy({self.name!r}, {BOX!r}, 12, 0.3, 3)\n"
            "first = s.ask(); s.tell(first, list(range(12))); print([first, s.ask()])"
        )
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "77"}
        output = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        strategy = self.make()
        first = strategy.ask()
        strategy.tell(first, list(range(12)))
        assert ast.literal_eval(output.stdout) == [first, strategy.ask()]

    def test_other_seeds_ask_for_something_else(self) -> None:
        assert self.make(seed=3).ask() != self.make(seed=4).ask()

    def test_replay_gives_the_same_run(self) -> None:
        assert run(self.make(), 5) == run(self.make(), 5)

    def test_vectors_stay_in_the_box(self) -> None:
        corner = Box(lower=BOX.lower, upper=BOX.upper, start=BOX.upper)
        asked = np.array(run(self.make(box=corner), 10))
        assert asked.shape == (10, 12, 2)
        assert (asked >= BOX.lower).all()
        assert (asked <= BOX.upper).all()

    def test_smallest_population_and_one_dimension(self) -> None:
        strategy = self.make(population=4, box=Box((-3.0,), (0.5,), (-1.0,)))
        for _ in range(5):
            vectors = strategy.ask()
            assert len(vectors) == 4
            strategy.tell(vectors, [0, 1, 2, 3])

    def test_ties_among_the_failed_keep_it_going(self) -> None:
        strategy = self.make()
        for _ in range(10):
            strategy.tell(strategy.ask(), [2, 0, 1] + [3] * 9)
        assert np.isfinite(strategy.ask()).all()

    def test_a_generation_of_failures_keeps_it_going(self) -> None:
        strategy = self.make()
        first = strategy.ask()
        strategy.tell(first, [0] * 12)
        second = strategy.ask()
        assert len(second) == 12
        assert second != first

    def test_half_a_generation_is_refused(self) -> None:
        strategy = self.make()
        with pytest.raises(SettingsError, match=r"told 3 vectors and 3 ranks; expected 12 of each"):
            strategy.tell(strategy.ask()[:3], [0, 1, 2])


class TestCmaEs(StrategyContract):
    name = "cma_es"

    def test_finds_the_minimum_better_than_random(self) -> None:
        def best(name: str, seed: int) -> float:
            asked = run(make_strategy(name, BOX, 8, 0.3, seed), 12)
            return min(loss(vector) for vectors in asked for vector in vectors)

        cma, random = ([best(name, seed) for seed in range(10)] for name in ("cma_es", "random"))
        assert statistics.mean(cma) < 0.25 * statistics.mean(random)

    def test_only_the_order_of_fitness_matters(self) -> None:
        def asked(transform) -> list[Vector]:
            strategy = self.make()
            for _ in range(6):
                vectors = strategy.ask()
                strategy.tell(vectors, ranks_of([transform(loss(vector)) for vector in vectors]))
            return strategy.ask()

        assert asked(lambda x: x) == asked(lambda x: 1e6 * x**3 - 5) == asked(np.log)

    def test_shifting_the_space_shifts_the_run(self) -> None:
        shifted = Box((-1.0, -1.0), (2.5, 2.5), (1.0, 1.0))
        one, two = self.make(), self.make(box=shifted)
        for _ in range(4):
            a, b = one.ask(), two.ask()
            np.testing.assert_allclose(np.array(a) + 2.0, b, atol=1e-9)
            order = ranks_of([loss(vector) for vector in a])
            one.tell(a, order)
            two.tell(b, order)

    def test_failures_alone_leave_the_distribution_where_it_is(self) -> None:
        strategy = CmaEs(BOX, 12, 0.3, 3)
        strategy.tell(strategy.ask(), [0] * 12)
        np.testing.assert_array_equal(strategy._cma.mean, BOX.start)

    @pytest.mark.parametrize(
        ("population", "expected"),
        [
            (6, {"_mu_eff": 2.029, "_c_sigma": 0.446, "_d_sigma": 1.446, "_cc": 0.625, "_c1": 0.155, "_cmu": 0.058}),
            (12, {"_mu_eff": 3.729, "_c_sigma": 0.534, "_d_sigma": 1.534, "_cc": 0.603, "_c1": 0.137, "_cmu": 0.202}),
        ],
    )
    def test_constants_are_those_of_the_methods_reference(self, population: int, expected: dict[str, float]) -> None:
        """Methods reference 3.8, n = 2; breaks when the cmaes package changes its constants."""
        cma = CmaEs(BOX, population, 0.3, 0)._cma
        for name, value in {**expected, "_chi_n": 1.254}.items():
            assert getattr(cma, name) == pytest.approx(value, abs=1e-3), name
        if population == 6:
            np.testing.assert_allclose(cma._weights[:3], [0.637, 0.285, 0.078], atol=1e-3)


class TestRandomSearch(StrategyContract):
    name = "random"

    def test_fills_the_box_evenly(self) -> None:
        draws = np.array(self.make(population=4000).ask())
        assert draws.mean(axis=0) == pytest.approx([-1.25, -1.25], abs=0.06)
        assert draws.std(axis=0) == pytest.approx(3.5 / np.sqrt(12), abs=0.04)


def test_every_strategy_passes_the_contract() -> None:
    assert {case.name for case in StrategyContract.__subclasses__()} == set(STRATEGIES)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"unknown strategy 'cmaes'; did you mean 'cma_es'\?"):
        make_strategy("cmaes", BOX, 12, 0.3, 0)
