"""What the driver of a search spends on a candidate, with the code that a run uses, while nothing is evaluated.

Work is given in seconds of the driver's CPU, so that a busy machine changes it little; the record, which waits for a
disk, in seconds of the clock.
"""

from __future__ import annotations

import pickle
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median, pstdev
from types import SimpleNamespace
from typing import Any

from evospike.bench.cases.evolving import QUICK, Size, small_recipe
from evospike.core.rng import stream
from evospike.data.known import KNOWN
from evospike.data.task import load_task
from evospike.evolution.evaluate import Arrival, evaluate_with
from evospike.evolution.executors.local import LocalExecutor
from evospike.evolution.executors.ray import RayExecutor
from evospike.evolution.executors.ray_worker import RayWorker, Started
from evospike.evolution.executors.worker import Reply
from evospike.evolution.ledger import Event, Ledger
from evospike.evolution.population import PopulationSearch
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.settings import PopulationSettings
from evospike.evolution.store import Store
from evospike.evolution.strategies.base import Box
from evospike.evolution.strategies.pool import Pool
from evospike.evolution.strategies.registry import make_population_strategy, make_strategy
from evospike.evolution.study import SearchSpace, Study
from evospike.evolution.variation import genotype_of
from evospike.jobs.candidates import dimension_names
from evospike.jobs.plan import make_plan, make_search_plan
from evospike.jobs.recipe import Recipe, read_recipe
from evospike.jobs.spaces import genome_variation
from evospike.jobs.workshop import Workshop, as_context
from evospike.search.variation import GenomeVariation

Row = dict[str, Any]

SEARCH = "digits-search"
STE_POPULATION, SEARCH_POPULATION = 12, 50
"""Of the simulated searches, where they do not grow with the workers."""

DIMENSIONS = 8
"""Of the evolution: a network with one spread for each of eight stages."""

GIVES_BACK = "operator:or_"
"""An evaluation that does nothing: of a payload and an empty context it gives the payload."""


@contextmanager
def cpu_time(spent: list[float]) -> Iterator[None]:
    """Adds the seconds of CPU that this process spends inside."""
    before = time.process_time()
    yield
    spent.append(time.process_time() - before)


def variation_of_search() -> GenomeVariation:
    """Of the genomes of the search's recipe, with its bounds."""
    recipe = read_recipe(SEARCH)
    known = KNOWN[recipe.data.source]
    return genome_variation(recipe, known.shape, known.classes)


def evolution_costs(populations: Sequence[int]) -> list[Row]:
    """Asking and telling CMA-ES, seconds of CPU a candidate; the same by generations and in the steady state."""
    box = Box((-3.0,) * DIMENSIONS, (0.5,) * DIMENSIONS, (-1.0,) * DIMENSIONS)
    rows = []
    for population in populations:
        strategy = make_strategy("cma_es", box, population, 0.3, 0)
        asks: list[float] = []
        tells: list[float] = []
        for _ in range(max(2, 240 // population)):
            with cpu_time(asks):
                vectors = strategy.ask()
            with cpu_time(tells):
                strategy.tell(vectors, range(population))
        rows.append({"population": population, "ask": median(asks) / population, "tell": median(tells) / population})
    return rows


def search_costs(generations: int, offspring: Sequence[int]) -> dict[str, Any]:
    """Asking and telling NSGA-II over genomes of the recipe, seconds of CPU a candidate.

    generations: of as many candidates as the population, after the random one, which does not count. offspring: numbers
    told together, of which the selection is measured.
    """
    variation = variation_of_search()
    settings = PopulationSettings(population=SEARCH_POPULATION, offspring=SEARCH_POPULATION)
    rng = stream(0, "bench", "objectives")
    by_generations = make_population_strategy(variation, settings, 0)
    steady = make_population_strategy(variation_of_search(), settings, 0)
    asks: list[float] = []
    ask_ones: list[float] = []
    tell_ones: list[float] = []
    for number in range(generations + 1):
        with cpu_time(asks):
            vectors = by_generations.ask()
        by_generations.tell([(float(rng.random()),) for _ in vectors])
        if number == 0:
            asks.clear()
    for number in range(SEARCH_POPULATION * (generations + 1)):
        with cpu_time(ask_ones):
            vector = steady.ask_one()
        assert vector is not None
        with cpu_time(tell_ones):
            steady.tell_one(vector, (float(rng.random()),))
        if number + 1 == SEARCH_POPULATION:
            ask_ones.clear()
            tell_ones.clear()
    return {
        "ask": fmean(asks) / SEARCH_POPULATION,
        "tell": [{"offspring": count, "tell": _selection(count)} for count in offspring],
        "steady ask": fmean(ask_ones),
        "steady tell": fmean(tell_ones),
        "genes": len(variation.names),
    }


def _selection(offspring: int) -> float:
    """Seconds of CPU, a candidate, in which the survivors are selected from a population and its offspring."""
    rng = stream(0, "bench", "selection")
    pool = Pool(SEARCH_POPULATION, 1, rng)
    pool.select([(float(rng.random()),) for _ in range(SEARCH_POPULATION)])
    spent: list[float] = []
    for _ in range(3):
        values = [(float(rng.random()),) for _ in range(offspring)]
        with cpu_time(spent):
            pool.select(values)
    return median(spent) / offspring


def _search_genotypes(count: int) -> list[Genotype]:
    """Genotypes with the genes of the search, whatever they stand for."""
    space, rng = variation_of_search().space, stream(0, "bench", "genotypes")
    return [
        genotype_of(space.names, tuple(int(rng.integers(highest + 1)) for highest in space.upper)) for _ in range(count)
    ]


def _arrival(place: int, genotype: Genotype) -> Arrival:
    request = Request("candidate", place // 1000, place % 1000, genotype, ("search",))
    return request, Score("ok", "", {"score": place / 7}, 1.5), 1


def record_costs(folder: str, repeats: int, populations: Sequence[int]) -> dict[str, Any]:
    """Seconds of the clock to record a score, a score with its turn, and what a generation asks for.

    folder: on the disk that is meant.
    """
    genotypes = _search_genotypes(min(max(populations), 1000))
    scores, turns = [], []
    with tempfile.TemporaryDirectory(dir=folder) as run, Store.create(Path(run) / "study.sqlite") as store:
        for turn in range(repeats):
            one, other = (_arrival(2 * turn + k, genotypes[turn % len(genotypes)]) for k in range(2))
            scores.append(_clocked(lambda one=one: store.record_scores([one])))
            turns.append(_clocked(lambda turn=turn, other=other: store.record_told(turn, other[0].key, [other])))
        asked = []
        for number, population in enumerate(populations):
            group = [genotypes[k % len(genotypes)] for k in range(population)]
            seconds = _clocked(lambda number=number, group=group: store.record_generation(number, group))
            asked.append({"population": population, "seconds": seconds / population})
    return {"score": median(scores), "score and turn": median(turns), "generation": asked}


def _clocked(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def resume_costs(memory: str | None, counts: Sequence[int]) -> list[Row]:
    """Seconds of CPU until a record of many scores is open, and until a resumed run has read it; and its bytes.

    memory: a folder whose files are in memory.
    """
    genotypes, rows = _search_genotypes(100), []
    for count in counts:
        with tempfile.TemporaryDirectory(dir=memory) as run:
            path = Path(run) / "study.sqlite"
            with Store.create(path) as store:
                store.record_scores(_arrival(place, genotypes[place % 100]) for place in range(count))
            opening: list[float] = []
            reading: list[float] = []
            with cpu_time(opening):
                store = Store.open(path)
            with store, cpu_time(reading):
                Ledger(store, _never, None, "").open({})
            rows.append(
                {"scores": count, "open": opening[0], "read": opening[0] + reading[0], "bytes": path.stat().st_size}
            )
    return rows


def _never(requests: Sequence[Request]) -> Iterator[Arrival]:
    raise AssertionError("a record is opened without an evaluation")


class _Enough(Exception):
    """As many candidates have arrived as are timed."""


def ledger_costs(in_flight: Sequence[int], arrivals: int, memory: str | None) -> list[Row]:
    """Seconds of CPU, a candidate, that the ledger spends beside strategy and record, with that many in flight.

    steady: `score_in_turn`; generation: `score_generation` of that many. They arrive in random order. memory: a folder
    whose files are in memory.
    """
    rows = []
    for count in in_flight:
        row = {"in flight": count}
        for way, measure in (("steady", _turns), ("generation", _generation)):
            with tempfile.TemporaryDirectory(dir=memory) as run, Store.create(Path(run) / "study.sqlite") as store:
                recording = _record_is_timed(store)
                row[way] = max(measure(store, count, arrivals) - sum(recording) / max(len(recording), 1), 0.0)
        rows.append(row)
    return rows


def _record_is_timed(store: Store) -> list[float]:
    """Let the store note what its recording costs."""
    spent: list[float] = []

    def timed(method: Callable[..., None]) -> Callable[..., None]:
        def record(*given: Any) -> None:
            with cpu_time(spent):
                method(*given)

        return record

    store.record_scores = timed(store.record_scores)
    store.record_told = timed(store.record_told)
    return spent


def _turns(store: Store, in_flight: int, arrivals: int) -> float:
    waiting = list(range(in_flight + arrivals))
    total = len(waiting)

    def evaluate(requests: Sequence[Request]) -> Iterator[Arrival]:
        chance, here, given = random.Random(0), 0, list[int]()
        while True:
            given += range(here, len(requests))
            here = len(requests)
            place = chance.randrange(len(given))
            given[place], given[-1] = given[-1], given[place]
            yield requests[given.pop()], Score("ok", "", {"score": 1.0}), 1

    ledger = Ledger(store, evaluate, None, "")
    ledger.open({})
    turns = ledger.score_in_turn(lambda: _number(waiting.pop()), (1000,) * (total // 1000 + 1), in_flight, ("search",))
    next(turns)
    spent: list[float] = []
    with cpu_time(spent):
        for _ in range(arrivals - 1):
            next(turns)
    turns.close()
    return spent[0] / (arrivals - 1)


def _generation(store: Store, population: int, arrivals: int) -> float:
    spent: list[float] = []

    def evaluate(requests: Sequence[Request]) -> Iterator[Arrival]:
        chosen = random.Random(0).sample(range(population), min(arrivals, population))
        with cpu_time(spent):
            for place in chosen:
                yield requests[place], Score("ok", "", {"score": 1.0}), 1
        spent[0] /= len(chosen)
        raise _Enough

    ledger = Ledger(store, evaluate, None, "")
    ledger.open({})
    try:
        ledger.score_generation(0, tuple(_number(k) for k in range(population)), ("search",))
    except _Enough:
        return spent[0]
    raise AssertionError("the evaluation ends the generation")


def _number(value: float) -> Genotype:
    return Genotype(("x",), (value,))


def local_costs(payloads: int) -> Row:
    """What handing a candidate to one of two worker processes and taking its answer costs the driver."""
    with LocalExecutor(2, 1, GIVES_BACK, {}) as executor:
        return _of_executor(executor, payloads)


def ray_costs(payloads: int, waits: Sequence[int]) -> Row:
    """The same with a Ray cluster of this machine; and what it costs to wait for the first of many answers."""
    with RayExecutor(2, 1, GIVES_BACK, {}) as executor:
        return {**_of_executor(executor, payloads), "wait": [{"workers": n, "seconds": _wait(n)} for n in waits]}


def _of_executor(executor: Any, payloads: int) -> Row:
    """Seconds a candidate of the driver's CPU, and of the clock. Workers are started before."""
    genotypes = _search_genotypes(100)
    requests = [_arrival(place, genotypes[place % 100])[0].to_json() for place in range(payloads)]
    list(executor.run(requests[:20]))
    spent: list[float] = []
    started = time.perf_counter()
    with cpu_time(spent):
        list(executor.run(requests))
    return {"cpu": spent[0] / payloads, "clock": (time.perf_counter() - started) / payloads}


def _wait(count: int) -> float:
    """Seconds of CPU that Ray takes to find the one that is ready among `count` answers."""
    import ray

    sleeper = ray.remote(num_cpus=0)(_Sleeper).remote()
    answers = [sleeper.sleep.remote() for _ in range(count - 1)]
    answers.insert(len(answers) // 2, ray.put(0))
    time.sleep(1.0)  # what handing them over costs does not count
    spent: list[float] = []
    for _ in range(20):
        with cpu_time(spent):
            ray.wait(answers, timeout=0.1)
    ray.kill(sleeper)
    return median(spent)


class _Sleeper:
    def sleep(self) -> None:
        time.sleep(3600)


def loop_costs(workers: Sequence[int], payloads: int) -> list[Row]:
    """Seconds of CPU that our own part of the Ray executor takes with many workers: a candidate, and to start them.

    Ray's own part is nothing here: its place is taken by something that has every answer at once.
    """
    rows = []
    for count in workers:
        executor = RayExecutor(count, 1, GIVES_BACK, {})
        executor._cluster = _AtOnce()
        started: list[float] = []
        spent: list[float] = []
        with cpu_time(started):
            list(executor.run([{}] * count))
        with cpu_time(spent):
            list(executor.run([{}] * (count + payloads)))
        rows.append({"workers": count, "seconds": spent[0] / (count + payloads), "start": started[0]})
    return rows


class _AtOnce:
    """In the place of a cluster and of Ray: every answer is there when it is asked for, any of them comes first."""

    variables: Mapping[str, str] = {}
    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self) -> None:
        self._chance = random.Random(0)
        self._reply = Reply(pickle.dumps({}))

    @property
    def ray(self) -> _AtOnce:
        return self

    def join(self) -> _AtOnce:
        return self

    def answers(self) -> bool:
        return True

    def put(self, value: Any) -> Any:
        return value

    def remote(self, *given: Any) -> Any:
        """A class of actors, which is this again; or an actor."""
        if given == (RayWorker,):
            return self
        answers = {"start": Started(0, "", "", {}), "work": self._reply, "sign": None}
        return SimpleNamespace(
            **{
                name: SimpleNamespace(remote=lambda *given, value=value: _Answer(value))
                for name, value in answers.items()
            }
        )

    def options(self, **resources: Any) -> _AtOnce:
        return self

    def wait(self, answers: list[_Answer], timeout: float) -> tuple[list[_Answer], list[_Answer]]:
        return [answers[self._chance.randrange(len(answers))]], []

    def get(self, answer: _Answer) -> Any:
        return answer.value


class _Answer:
    def __init__(self, value: Any) -> None:
        self.value = value


def durations(quick: bool) -> dict[str, Row]:
    """What candidates of a real search and of a real evolution take, in seconds, one after another on one worker."""
    return {"search": _spread(_of_search(quick)), "evolution": _spread(_of_evolution(quick))}


def _of_search(quick: bool) -> list[float]:
    size = {"population": 6 if quick else 20, "offspring": 20, "generations": 1 if quick else 3, "finalists": 0}
    recipe = read_recipe(SEARCH, flags={"search": size, "run": {"threads": 1}})
    task = load_task(recipe.data, recipe.run.seed)
    shop = Workshop(recipe, make_search_plan(recipe, task, 0.0), task)

    def run(store: Store, evaluate: Any, note: Callable[[Event], None]) -> None:
        variation = genome_variation(recipe, task.shape, len(task.classes))
        PopulationSearch(store, recipe.search.each, recipe.run.seed, variation, evaluate, note).run()

    return _seconds(recipe, shop, "score_genome", run)


def _of_evolution(quick: bool) -> list[float]:
    recipe = small_recipe(QUICK if quick else Size(population=12, generations=3, samples=512), "cpu")
    task = load_task(recipe.data, recipe.run.seed)
    shop = Workshop(recipe, make_plan(recipe, task, evolves=True), task)
    space = SearchSpace.of(dimension_names(shop), recipe.evolution)

    def run(store: Store, evaluate: Any, note: Callable[[Event], None]) -> None:
        Study(store, recipe.evolution, recipe.run.seed, space, evaluate, note).run()

    return _seconds(recipe, shop, "score", run)


def _seconds(recipe: Recipe, shop: Workshop, function: str, run: Callable[..., None]) -> list[float]:
    """Seconds of every candidate but the first, which loads what the worker needs."""
    found: list[float] = []

    def note(event: Event) -> None:
        if event.kind == "score" and event.score is not None:
            found.append(event.score.seconds)

    with (
        tempfile.TemporaryDirectory() as folder,
        Store.create(Path(folder) / "study.sqlite") as store,
        LocalExecutor(
            1, recipe.run.threads, f"evospike.jobs.workers:{function}", as_context(recipe, shop.plan, folder)
        ) as executor,
    ):
        run(store, evaluate_with(executor), note)
    return found[1:]


def _spread(seconds: Sequence[float]) -> Row:
    mean, middle = fmean(seconds), median(seconds)
    return {
        "candidates": len(seconds),
        "mean": mean,
        "median": middle,
        "variation": pstdev(seconds) / mean,
        "longest over median": max(seconds) / middle,
        "relative": sorted(one / mean for one in seconds),
    }
