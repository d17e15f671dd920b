"""A run as a study of Optuna: every candidate, every number, and nothing overwritten."""

from __future__ import annotations

import functools
import importlib.util
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import wsgi

from evospike.core.errors import EvospikeError, MissingExtra, RunError, SettingsError
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.export_study import NOTE, _gene_distribution, _genes, export_study
from evospike.jobs.folder import RunFolder, create_run
from evospike.search.settings import SpaceSettings
from evospike.search.space import Space

_spec = importlib.util.spec_from_file_location("made_runs", Path(__file__).with_name("made_runs.py"))
assert _spec is not None
assert _spec.loader is not None
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture(scope="module")
def evolution(tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Any]:
    """A whole evolution, and what its study gave."""
    run = made.begin(tmp_path_factory.mktemp("export") / "evolution", "evolve", tiny())
    return run, made.evolve(run)


@pytest.fixture(scope="module")
def exported(evolution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the exported evolution; tests only read it."""
    path = tmp_path_factory.mktemp("exported") / "o.db"
    before = made.contents(evolution[0].path)
    assert export_study(evolution[0], url_of(path), quiet=True) == 8
    assert made.contents(evolution[0].path) == before
    return path


@pytest.fixture
def search(tiny, tmp_path: Path) -> Callable[..., RunFolder]:
    """Two searches of random genomes, of which every third is refused."""

    def make(verb: str = "search", *overrides: str) -> RunFolder:
        run = made.begin(tmp_path / "run", verb, tiny(*overrides))
        space = Space(run.recipe.space)
        for seed in range(run.recipe.search.seeds if verb == "search" else 1):
            rng = np.random.default_rng(seed)
            vectors = [tuple(int(rng.integers(0, upper + 1)) for upper in space.upper) for _ in range(5)]
            genotypes = [Genotype(space.names, vector) for vector in vectors]
            with Store.create(run.store_path_of(seed)) as store:
                store.record_generation(0, genotypes)
                for k, genotype in enumerate(genotypes):
                    terms = {"score": 10.0 * seed + k, "parameters": 100.0 - k, "accuracy": k / 5}
                    score = Score("refused", "too large") if k % 3 == 2 else Score("ok", terms=terms, seconds=1.5)
                    store.record_score(Request("candidate", 0, k, genotype, ("search",)), score)
        return run

    return make


def studies(url: str) -> list[optuna.Study]:
    return [optuna.load_study(study_name=name, storage=url) for name in optuna.get_all_study_names(url)]


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def test_nothing_is_said_beside_the_bar(evolution, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    export_study(evolution[0], url_of(tmp_path / "quiet.db"), quiet=True)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_an_evolution(evolution, exported: Path) -> None:
    run, result = evolution
    (study,) = studies(url_of(exported))
    with Store.open(run.store_path) as store:
        assert study.study_name == f"evolution {store.digest()}"
    assert study.directions == [StudyDirection.MINIMIZE]
    assert study.user_attrs["recipe"] == "tiny"
    assert study.user_attrs["seed"] == 0
    assert study.user_attrs["data"] == "digits, split: stratified 80/20, fixed"
    assert study.user_attrs["commit"] == run.record["commit"]
    assert study.user_attrs["note"] == NOTE
    assert json.loads(study.user_attrs["settings"]) == run.record["recipe"]
    fitness = [value for generation in result.history for value in generation.fitness]
    scores = [score for generation in result.history for score in generation.scores]
    genotypes = [genotype for generation in result.history for genotype in generation.genotypes]
    spread = FloatDistribution(1e-3, 10.0**0.5, log=True)
    for number, (trial, value, score, genotype) in enumerate(
        zip(study.trials, fitness, scores, genotypes, strict=True)
    ):
        assert trial.number == number
        encoding, genes = genotype.values
        assert trial.params == {"spread of encoding": 10.0**encoding, "spread of genes": 10.0**genes}
        assert trial.distributions == {"spread of encoding": spread, "spread of genes": spread}
        assert trial.values == (None if value is None else [value])
        assert trial.state == (TrialState.FAIL if value is None else TrialState.COMPLETE)
        assert trial.duration == timedelta(seconds=0.25)
        facts = trial.user_attrs
        assert (facts["generation"], facts["candidate"]) == divmod(number, 4)
        assert "asked_generation" not in facts
        assert (facts["status"], facts["reason"]) == (score.status, score.reason)
        assert (facts["draw_key"], facts["seconds"], facts["attempts"]) == (["generation", number // 4], 0.25, 1)
        terms = {name.removeprefix("term "): x for name, x in facts.items() if name.startswith("term ")}
        assert terms == score.terms
    assert [trial.number for trial in study.trials if trial.state == TrialState.FAIL] == [2, 6]


def test_the_winner_and_its_further_draws(evolution, exported: Path) -> None:
    _, result = evolution
    (study,) = studies(url_of(exported))
    (winner,) = [trial for trial in study.trials if trial.user_attrs.get("winner")]
    assert winner.number == 4 * result.winner.generation + result.winner.candidate
    assert [trial.number for trial in study.trials if "finalist_draws" in trial.user_attrs] == [winner.number]
    (draw,) = winner.user_attrs["finalist_draws"]
    assert draw["terms"] == result.winner.scores[0].terms
    assert draw["draw_key"] == ["finalist", 0]


def test_searches(search, tmp_path: Path) -> None:
    run = search("search", "search.seeds=2", "search.objectives=['score','parameters']")
    assert export_study(run, url_of(tmp_path / "o.db"), quiet=True) == 10
    exported = studies(url_of(tmp_path / "o.db"))
    assert sorted(study.user_attrs["record"] for study in exported) == ["study", "study-1"]
    for study in exported:
        seed = ["study", "study-1"].index(study.user_attrs["record"])
        with Store.open(run.store_path_of(seed)) as store:
            assert study.study_name == f"run {store.digest()}"
            genotypes = store.generations()[0]
        assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
        assert study.user_attrs["objectives"] == ["score", "parameters"]
        values = [None if k % 3 == 2 else [10.0 * seed + k, 100.0 - k] for k in range(5)]
        assert [trial.values for trial in study.trials] == values
        assert study.trials[2].user_attrs["reason"] == "too large"
        space = Space(run.recipe.space)
        for trial, genotype in zip(study.trials, genotypes, strict=True):
            genome = space.genome([int(value) for value in genotype.values])
            motifs = {f"cell{k}.motif": cell.motif for k, cell in enumerate(genome.cells) if cell.motif != "reduction"}
            assert {name: x for name, x in trial.params.items() if name.endswith(".motif")} == {
                name: motif for name, motif in motifs.items() if name in space.names
            }


def test_a_ranking(search, tmp_path: Path) -> None:
    assert export_study(search("rank"), url_of(tmp_path / "o.db"), quiet=True) == 5
    (study,) = studies(url_of(tmp_path / "o.db"))
    assert study.directions == [StudyDirection.MAXIMIZE]
    assert [trial.values for trial in study.trials] == [[0.0], [0.2], None, [0.6], [0.8]]


@functools.cache
def _spaces() -> list[tuple[Space, list[Any]]]:
    made_of = [
        SpaceSettings(cells=4, channels=2),
        SpaceSettings(cells=5, widths=(4, 6, 12), signs="free", reductions="searched"),
        SpaceSettings(cells=4, macro="modules", module_cells=2, neurons=("lif:0.5:1.0", "lif:0.9:0.5")),
    ]
    spaces = [Space(one) for one in made_of]
    return [(space, [_gene_distribution(space, k) for k in range(len(space.names))]) for space in spaces]


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 2), seed=st.integers(0, 2**32 - 1))
def test_the_parameters_of_a_trial_are_its_architecture(place: int, seed: int) -> None:
    """Exactly the genes that are used, each within its distribution, and together they give the genome back."""
    space, distributions = _spaces()[place]
    rng = np.random.default_rng(seed)
    vector = [int(rng.integers(0, upper + 1)) for upper in space.upper]
    parameters = _genes(space, distributions, Genotype(space.names, vector))
    rebuilt = dict.fromkeys(space.names, 0)
    for name, (value, distribution) in parameters.items():
        assert distribution._contains(distribution.to_internal_repr(value))
        upper = space.upper[space.names.index(name)]
        rebuilt[name] = [space.choice(name, gene) for gene in range(upper + 1)].index(value)
    assert space.genome(tuple(rebuilt.values())) == space.genome(vector)
    assert set(parameters) == {space.names[k] for k in space.used(vector)}


def test_whole_numbers_without_a_gap_are_numbers() -> None:
    space, distributions = _spaces()[1]
    by_name = dict(zip(space.names, distributions, strict=True))
    assert by_name["reduction0"] == IntDistribution(0, 4)
    assert by_name["channels"] == CategoricalDistribution((4, 6, 12))
    assert by_name["cell0.motif"] == CategoricalDistribution(space.settings.motifs)


def test_the_dashboard_shows_it(exported: Path) -> None:
    storage = optuna.storages.RDBStorage(url_of(exported))
    app = wsgi(storage)
    (study,) = _get(app, "/api/studies")["study_summaries"]
    assert study["study_name"] == studies(url_of(exported))[0].study_name
    detail = _get(app, f"/api/studies/{study['study_id']}?after=0")
    assert [trial["state"] for trial in detail["trials"]] == ["Complete", "Complete", "Fail", "Complete"] * 2
    assert {parameter["name"] for parameter in detail["union_search_space"]} == {
        "spread of encoding",
        "spread of genes",
    }
    assert "term loss" in {attribute["key"] for attribute in detail["union_user_attrs"]}
    storage.remove_session()
    storage.engine.dispose()


def _get(app: Callable[..., Any], target: str) -> Any:
    """What the dashboard answers in this process, without a socket."""
    path, _, query = target.partition("?")
    answered: list[str] = []
    environment = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
    }
    body = b"".join(app(environment, lambda status, headers, *rest: answered.append(status)))
    assert answered == ["200 OK"]
    return json.loads(body)


def test_a_run_that_goes_on_is_exported_again_beside_the_first(tiny, tmp_path: Path) -> None:
    run = made.begin(tmp_path / "run", "evolve", tiny())
    made.evolve(run, 5)
    url = url_of(tmp_path / "o.db")
    assert export_study(run, url, quiet=True) == 5
    made.evolve(run)
    assert export_study(run, url, quiet=True) == 8
    assert sorted(len(study.trials) for study in studies(url)) == [5, 8]


def test_a_study_that_is_there_stays(evolution, exported: Path) -> None:
    before = exported.read_bytes()
    with pytest.raises(RunError, match=r"o\.db has the study 'evolution \w{32}' already; give another file"):
        export_study(evolution[0], url_of(exported), quiet=True)
    assert exported.read_bytes() == before


def test_a_study_that_breaks_off_is_taken_back(evolution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = url_of(tmp_path / "o.db")
    original, left = optuna.Study.add_trial, iter(range(3))

    def add(self: optuna.Study, trial: FrozenTrial) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        original(self, trial)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", add)
        with pytest.raises(KeyboardInterrupt):
            export_study(evolution[0], url, quiet=True)
    assert next(left, None) is None
    assert optuna.get_all_study_names(url) == []
    assert export_study(evolution[0], url, quiet=True) == 8


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("nonsense", SettingsError, r"'nonsense' is no URL of a database; give one as sqlite:///FILE"),
        ("", SettingsError, r"'' is no URL of a database"),
        ("sqlite://", SettingsError, r"'sqlite://' is a database that ends with this command; name a file"),
        ("sqlite:///:memory:", SettingsError, r"is a database that ends with this command"),
        ("redis://localhost", RunError, r"cannot write a study to redis://localhost \(.*redis"),
        ("postgresql+nodriver://u:secret@h/d", RunError, r"postgresql\+nodriver://u:\*\*\*@h/d \("),
        ("sqlite:///{folder}/nowhere/o.db", RunError, r"nowhere/o.db \(.*unable to open database file"),
        ("sqlite:///{folder}", RunError, r"unable to open database file"),
        ("sqlite:///{folder}/text", RunError, r"file is not a database"),
        ("sqlite:///{folder}/other.sqlite", RunError, r"other.sqlite is a database of something else; give a file"),
        ("sqlite:///{run}/study.sqlite", RunError, r"study.sqlite is a database of something else"),
    ],
)
def test_a_database_that_cannot_be_used(evolution, tmp_path: Path, url: str, kind: type, message: str) -> None:
    (tmp_path / "text").write_text("no database, but a text that is longer than a header\n" * 20)
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE mine (a)")
    before = made.contents(tmp_path), made.contents(evolution[0].path)
    with pytest.raises(kind, match=message) as caught:
        export_study(evolution[0], url.format(folder=tmp_path, run=evolution[0].path), quiet=True)
    assert isinstance(caught.value, EvospikeError)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert (made.contents(tmp_path), made.contents(evolution[0].path)) == before


def test_a_run_without_candidates(tiny, trained, tmp_path: Path) -> None:
    unstarted = create_run("search", tiny(), str(tmp_path / "unstarted"))
    for run in (trained[0], unstarted):
        with pytest.raises(RunError, match=rf"\({run.verb}\) has no scored candidates; give an evolution, a search"):
            export_study(run, url_of(tmp_path / "o.db"), quiet=True)
    assert not (tmp_path / "o.db").exists()


def test_without_optuna(evolution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"export-study needs 'optuna'; install it with: pip install 'evospike\[opt"):
        export_study(evolution[0], url_of(tmp_path / "o.db"), quiet=True)
