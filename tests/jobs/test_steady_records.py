"""Whoever reads a run in a steady state counts its candidates as its study did: as they were told."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest

import evospike.jobs.conduct as conduct_module
import evospike.jobs.searching as searching_module
from evospike.evolution.evaluate import Arrival, EvaluateEach, evaluate_with
from evospike.evolution.fitness import fitness
from evospike.evolution.population import PopulationResult, PopulationSearch
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.evolution.study import SearchSpace, Study, StudyResult
from evospike.jobs.conduct import conduct
from evospike.jobs.export_study import STEADY_NOTE, export_study
from evospike.jobs.folder import RunFolder, create_run
from evospike.jobs.records import read_studies, read_study
from evospike.jobs.run_state import state_of
from evospike.jobs.tensorboard import curves_of
from evospike.jobs.watch import render
from evospike.jobs.worker_file import WorkerLine
from evospike.report.page import write_report
from evospike.report.pages import search_page, training_page
from evospike.report.search.charts import TABLE
from evospike.report.search.facts import SearchFacts, front_of, gather_search
from evospike.report.training.gather import gather

IN_FLIGHT = 3
EVOLVE = ("evolution.generations=3", f"evolution.in_flight={IN_FLIGHT}", "final.arms=['genetic']", "training.epochs=1")
SEARCH = ("search.seeds=2", f"search.in_flight={IN_FLIGHT}", "search.objectives=['score','parameters']")


class Killed(BaseException):
    """Stands for a kill."""


def newest_first(make: Callable[..., EvaluateEach], stop_after: int | None = None) -> Callable[..., EvaluateEach]:
    """Evaluations that answer the newest open request next, so that none but the last ones are told as they were asked.

    stop_after: arrivals before a kill.
    """
    left = stop_after

    def made(*parts: Any) -> EvaluateEach:
        evaluate_each = make(*parts)

        def evaluate(requests: Sequence[Request]) -> Iterator[Arrival]:
            nonlocal left
            done = set[int]()
            while open_ones := [place for place in range(len(requests)) if place not in done]:
                if left == 0:
                    raise Killed
                left = None if left is None else left - 1
                done.add(open_ones[-1])
                yield from evaluate_each([requests[open_ones[-1]]])

        return evaluate

    return made


@dataclasses.dataclass(frozen=True)
class Made:
    """A finished run, and what its studies gave."""

    run: RunFolder
    results: list[Any]

    @property
    def result(self) -> Any:
        return self.results[0]


@pytest.fixture(scope="module")
def steady(tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """An evolution and two searches as `evospike evolve` and `search` make them, by verb."""
    results: dict[str, list[Any]] = {"evolve": [], "search": []}

    class KeptStudy(Study):
        def run(self) -> StudyResult:
            results["evolve"].append(super().run())
            return results["evolve"][-1]

    class KeptSearch(PopulationSearch):
        def run(self) -> PopulationResult:
            results["search"].append(super().run())
            return results["search"][-1]

    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conduct_module, "Study", KeptStudy)
        patch.setattr(searching_module, "PopulationSearch", KeptSearch)
        for module in (conduct_module, searching_module):
            patch.setattr(module, "evaluate_with", newest_first(evaluate_with))
        for verb, overrides in (("evolve", EVOLVE), ("search", SEARCH)):
            recipe = tiny(*overrides)
            run = create_run(verb, recipe, str(tmp_path_factory.mktemp("steady") / verb))
            conduct(run, recipe, quiet=True)
            made[verb] = Made(run, results[verb])
    return made


@pytest.fixture
def killed(steady, tmp_path: Path) -> Callable[[int], RunFolder]:
    """The evolution of `steady`, killed after so many arrivals; scores are those of that run."""

    def make(arrivals: int) -> RunFolder:
        whole = steady["evolve"].run
        with Store.open(whole.store_path) as store:
            scores = {one.request.key: one.score for one in store.scores()}

        def look_up() -> EvaluateEach:
            return lambda requests: ((request, scores[request.key], 1) for request in requests)

        run = create_run("evolve", whole.recipe, str(tmp_path / "killed"))
        run.write("plan.json", whole.read("plan.json"))
        settings, genotype = run.recipe.evolution, steady["evolve"].result.genotype
        space, evaluate = SearchSpace.of(genotype.names, settings), newest_first(look_up, arrivals)()
        with Store.create(run.store_path) as store, pytest.raises(Killed):
            Study(store, settings, run.recipe.run.seed, space, evaluate).run()
        return run

    return make


@pytest.fixture(scope="module")
def killed_search(tiny, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The searches of `steady`, killed in the middle of the second generation of the first."""
    recipe = tiny(*SEARCH)
    run = create_run("search", recipe, str(tmp_path_factory.mktemp("killed") / "search"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching_module, "evaluate_with", newest_first(evaluate_with, 6))
        with pytest.raises(Killed):
            conduct(run, recipe, quiet=True)
    return run


def pairs(history: Sequence[Any]) -> list[list[tuple[Genotype, Score]]]:
    """Genotypes and scores by generation, as a study gives them."""
    return [list(zip(one.genotypes, one.scores, strict=True)) for one in history]


def read_pairs(generations: Sequence[Any]) -> list[list[tuple[Genotype, Score]]]:
    return [[(one.genotype, one.score) for one in generation.candidates] for generation in generations]


def values_of(verb: str, result: Any) -> list[list[tuple[float, ...] | None]]:
    """What candidates are compared by, as the study itself has it."""
    if verb == "evolve":
        return [[None if value is None else (value,) for value in one.fitness] for one in result.history]
    names = ("score", "parameters")
    return [
        [tuple(score.terms[name] for name in names) if score.ok else None for score in one.scores]
        for one in result.history
    ]


def winner_of(verb: str, result: Any) -> tuple[int, int]:
    return result.winner.generation, result.winner.candidate if verb == "evolve" else result.winner.index


@pytest.mark.parametrize("verb", ["evolve", "search"])
def test_a_record_is_what_its_studies_gave(steady, verb: str) -> None:
    made = steady[verb]
    studies = read_studies(made.run)
    assert len(studies) == len(made.results) == (1 if verb == "evolve" else 2)
    for study, result in zip(studies, made.results, strict=True):
        asked = [(one.recorded.request.generation, one.recorded.request.index) for one in study.candidates]
        assert asked != [(one.generation, one.index) for one in study.candidates]
        assert [(one.generation, one.index) for one in study.candidates] == sorted(asked)
        assert read_pairs(study.generations) == pairs(result.history)
        assert [[one.values for one in g.candidates] for g in study.generations] == values_of(verb, result)
        assert all(generation.complete for generation in study.generations)


@pytest.mark.parametrize("verb", ["evolve", "search"])
def test_the_state_of_a_finished_run(steady, verb: str) -> None:
    made = steady[verb]
    state = state_of(made.run)
    assert (state.phase, state.problems, state.in_flight) == ("finished", (), IN_FLIGHT)
    for study, result in zip(state.studies, made.results, strict=True):
        last = result.history[-1]
        generations, size = len(result.history), len(last.scores)
        assert (study.generation, study.generations) == (generations, generations)
        assert (study.asked, study.scored, study.pending) == (size, size, 0)
        assert study.failed == sum(not score.ok for score in last.scores)
        assert study.finished
        draws = [score for one in result.finalists for score in one.scores]
        assert study.done == study.expected == sum(len(one.scores) for one in result.history) + len(draws)
        told = [(g, k, False, s.seconds) for g, one in enumerate(result.history) for k, s in enumerate(one.scores)]
        told += [(generations - 1, k, True, score.seconds) for k, score in enumerate(draws)]
        assert [(one.generation, one.index, one.finalist, one.seconds) for one in study.latest] == told[-5:]


def test_what_watch_says(steady) -> None:
    state = state_of(steady["evolve"].run)
    told = "steady state, at most 3 in flight; candidates are numbered as they were told"
    assert told in render(state).split("\n")
    worker = WorkerLine(7, "generation 1, candidate 2", 0.0)
    assert f"{told}, for workers as they were asked for" in render(dataclasses.replace(state, doing=(worker,)), 200)
    assert "steady state" not in render(dataclasses.replace(state, in_flight=0))


@pytest.mark.parametrize("arrivals", [0, 2, 4, 7])
def test_a_run_that_was_killed_is_read_as_far_as_it_was_told(steady, killed, arrivals: int) -> None:
    run, whole = killed(arrivals), steady["evolve"].result
    state = state_of(run)
    study = state.studies[0]
    assert (state.phase, state.problems, study.finished) == ("stopped", (), False)
    begun = -(-arrivals // 4)
    last = arrivals - 4 * (begun - 1) if begun else 0
    assert (study.generation, study.generations, study.scored, study.done) == (begun, 3, last, arrivals)
    assert (study.asked, study.pending) == ((4, 4 - last) if begun else (0, 0))
    shown = render(state, 200)
    if begun:
        assert f"generation {begun} of 3: {last} of 4 scored, {study.failed} failed, {4 - last} pending" in shown
    else:
        assert "before the first of 3 generations" in shown
    genotypes = [genotype for one in whole.history for genotype in one.genotypes]
    assert [one.genotype for one in read_study(run, run.store_path).candidates] == genotypes[:arrivals]
    history = gather(run).history
    assert history is not None
    assert [(len(one.candidates), one.asked) for one in history.generations] == [(4, 4)] * (begun - 1) + [(last, 4)] * (
        begun > 0
    )
    assert (history.winner, history.finalists) == (None, ())
    assert [point.step for curve in curves_of(run) for point in curve.points] == list(range(arrivals // 4))


def test_no_more_than_are_in_flight_are_counted_on(killed_search) -> None:
    run = killed_search
    for workers, at_work in ((1, 1), (2, 2), (50, IN_FLIGHT)):
        recipe = dataclasses.replace(run.recipe, run=dataclasses.replace(run.recipe.run, workers=workers))
        state = state_of(RunFolder(run.path, {**run.record, "recipe": recipe.to_plain()}))
        assert state.progress is not None
        assert state.studies[0].seconds is not None
        assert (state.progress.done, state.progress.unit) == (6, "scores")
        assert state.progress.rate == pytest.approx(at_work / state.studies[0].seconds)


def test_a_search_that_was_killed_is_read_as_far_as_it_was_told(steady, killed_search) -> None:
    run, whole = killed_search, steady["search"].result
    facts = gather_search(run)
    assert [(len(one.candidates), one.asked) for one in facts.generations] == [(4, 4), (2, 4)]
    assert [one.genotype for one in facts.candidates] == [one.genotype for one in whole.candidates[:6]]
    assert (facts.scored, facts.asked) == (6, 16)
    assert facts.chosen is facts.front[0]


def test_the_page_of_an_evolution_counts_as_the_study(steady) -> None:
    made = steady["evolve"]
    history = gather(made.run).history
    assert history is not None
    for mine, theirs in zip(history.generations, made.result.history, strict=True):
        assert mine.weights == theirs.weights
        assert [one.fitness for one in mine.candidates] == list(theirs.fitness)
        assert [one.fitness for one in mine.candidates] == [fitness(score, theirs.weights) for score in theirs.scores]
        usable = sum(value is not None for value in theirs.fitness)
        assert [one.place for one in mine.candidates] == [None if r == usable else r + 1 for r in theirs.ranks]
        assert [(one.generation, one.index) for one in mine.candidates] == [(theirs.number, k) for k in range(4)]
        assert [tuple(one.values.values()) for one in mine.candidates] == [
            pytest.approx([10.0**value for value in genotype.values]) for genotype in theirs.genotypes
        ]
    finalists = [(one.generation, one.candidate, one.validation_loss) for one in made.result.finalists]
    assert [(one.generation, one.candidate, one.validation_loss) for one in history.finalists] == finalists
    assert history.winner is not None
    assert (history.winner.generation, history.winner.index) == winner_of("evolve", made.result)
    assert [(one.generation, one.candidate) for one in history.finalists if one.winner] == [
        winner_of("evolve", made.result)
    ]


def test_the_page_of_a_search_counts_as_the_search(steady) -> None:
    made = steady["search"]
    facts = gather_search(made.run)
    result = made.results[facts.drawn]
    assert [one.candidates for one in facts.generations] == [one.candidates for one in result.history]
    assert facts.chosen == result.winner
    assert facts.front == front_of(result.candidates, ("score", "parameters"))
    assert all(one in result.front for one in facts.front)
    costs = [
        {(one.score.terms["score"], one.score.terms["parameters"]) for one in front}
        for front in (facts.front, result.front)
    ]
    assert costs[0] == costs[1]


def test_pages_say_that_it_was_a_steady_state(steady, tmp_path: Path) -> None:
    phrases = {
        "evolve": "3 generations of 4 candidates, told in a steady state with at most 3 in flight and numbered in that "
        "order, each trained for 1 epoch",
        "search": "at most 3 candidates in flight, numbered as they were told",
    }
    for verb, phrase in phrases.items():
        shutil.copytree(steady[verb].run.path, tmp_path / verb)
        page = write_report(tmp_path / verb, None).read_text(encoding="utf-8")
        assert phrase in " ".join(page.split())


@pytest.mark.parametrize(("verb", "chart"), [("evolve", "candidates"), ("search", "scores")])
def test_charts_mark_the_winner(steady, verb: str, chart: str) -> None:
    run = steady[verb].run
    page = training_page(run) if verb == "evolve" else search_page(run)
    result = steady[verb].results[page.facts.drawn if isinstance(page.facts, SearchFacts) else 0]
    generation, index = winner_of(verb, result)
    (ring,) = [trace for trace in page.charts[chart].data if trace["name"] == "winner"]
    if verb == "evolve":
        assert ring["text"][0].startswith(f"generation {generation + 1}, candidate {index + 1}<br>")
        return
    labels, (row,) = page.charts[chart].layout["meta"][TABLE], ring["customdata"]
    assert (labels["generations"][row], labels["numbers"][row]) == (generation + 1, index + 1)


@pytest.mark.parametrize("verb", ["evolve", "search"])
def test_curves_for_tensorboard(steady, verb: str) -> None:
    made = steady[verb]
    curves = {curve.name: curve for curve in curves_of(made.run)}
    names = ("study", "study-1")[: len(made.results)]
    name, best = ("fitness", min) if verb == "evolve" else ("score", max)
    for curve, result in zip((curves[name] for name in names), made.results, strict=True):
        values = [[value[0] for value in group if value is not None] for group in values_of(verb, result)]
        assert [point.step for point in curve.points] == list(range(len(values)))
        assert [point.values[f"objectives/{name}/best"] for point in curve.points] == [best(own) for own in values]
        assert [point.values[f"objectives/{name}/mean"] for point in curve.points] == pytest.approx(
            [fmean(own) for own in values]
        )


@pytest.mark.parametrize("verb", ["evolve", "search"])
def test_trials_for_optuna(steady, tmp_path: Path, verb: str) -> None:
    made = steady[verb]
    url = f"sqlite:///{tmp_path / 'o.db'}"
    export_study(made.run, url, quiet=True)
    for seed, result in enumerate(made.results):
        with Store.open(made.run.store_path_of(seed)) as store:
            study = optuna.load_study(study_name=f"{made.run.path.name} {store.digest()}", storage=url)
            keys = store.told()
        assert study.user_attrs["note"].endswith(STEADY_NOTE)
        facts = [trial.user_attrs for trial in study.trials]
        places = [(g, k) for g, one in enumerate(result.history) for k in range(len(one.scores))]
        assert [(one["generation"], one["candidate"]) for one in facts] == places
        asked = [f"candidate/{one['asked_generation']:04d}/{one['asked_candidate']:04d}" for one in facts]
        assert asked == keys
        values = [value for group in values_of(verb, result) for value in group]
        assert [None if trial.values is None else tuple(trial.values) for trial in study.trials] == values
        winners = [place for place, one in zip(places, facts, strict=True) if one.get("winner")]
        assert winners == [winner_of(verb, result)]
