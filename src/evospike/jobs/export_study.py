"""The candidates of a run as a study of Optuna, which optuna-dashboard opens (the extra `optuna`)."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evospike.core.errors import EvospikeError, MissingExtra, RunError, SettingsError
from evospike.core.progress import bar
from evospike.evolution.records import Genotype
from evospike.evolution.settings import EvolutionSettings
from evospike.evolution.store import Recorded, Store
from evospike.jobs.folder import RunFolder
from evospike.jobs.records import (
    Candidate,
    Objective,
    StudyRecord,
    created,
    in_flight_of,
    numbers_of,
    objectives_of,
    read_study,
    study_paths,
)
from evospike.jobs.results import data_in_words, told_data
from evospike.search.space import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

NOTE = (
    "written by evospike; a run records how long a candidate took, not when, so every trial starts when the run was "
    "created; a fitness is compared within its generation alone"
)

STEADY_NOTE = (
    "; in a steady state, generations and candidates are numbered as they were told, not as they were asked for"
)

Parameters = Mapping[str, tuple[Any, "BaseDistribution"]]
"""Values and distributions by name."""


def export_study(run: RunFolder, url: str, *, quiet: bool = False) -> int:
    """Write every scored candidate of a run as a trial and return how many there are.

    A run has one study, a search one for each of its seeds; its name is the run folder's and the digest of the record.
    url: of a relational database as SQLAlchemy reads it, as sqlite:///FILE; nothing that it holds is changed.
    Raises: MissingExtra without optuna; SettingsError for what is no such URL; RunError for a run without candidates, a
    database that cannot be used, or one that has the study; StoreError for a record that cannot be trusted.
    """
    _require_optuna()
    studies = [(_study_name(run, path), read_study(run, path)) for path in study_paths(run)]
    count = sum(len(record.candidates) for _, record in studies)
    if not count:
        raise RunError(
            f"run '{run.path}' ({run.verb}) has no scored candidates; give an evolution, a search or a ranking"
        )
    parameters = _parameters_of(run)
    with (
        _without_messages(),
        _explained(url) as shown,
        _storage(url) as storage,
        bar("export", count, "candidates", quiet=quiet) as progress,
    ):
        _refuse_taken(storage, [name for name, _ in studies], shown)
        done = itertools.count(1)
        for name, record in studies:
            _write(run, name, record, storage, parameters, lambda: progress.reach(next(done)))
    return count


@contextlib.contextmanager
def _without_messages() -> Iterator[None]:
    """Optuna tells of every study on standard error, into the bar."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _write(
    run: RunFolder,
    name: str,
    record: StudyRecord,
    storage: RDBStorage,
    parameters: Callable[[Genotype], Parameters],
    advance: Callable[[], None],
) -> None:
    """Write a study, calling `advance` after every trial; when that breaks off, take the study back."""
    import optuna
    from optuna.study import StudyDirection

    objectives = objectives_of(run)
    directions = [StudyDirection.MAXIMIZE if one.maximised else StudyDirection.MINIMIZE for one in objectives]
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    try:
        _describe(study, run, record, objectives)
        trial_of = _trials(run, record, parameters)
        for candidate in record.candidates:
            study.add_trial(trial_of(candidate))
            advance()
    except BaseException:
        optuna.delete_study(study_name=name, storage=storage)
        raise


def _describe(study: Study, run: RunFolder, record: StudyRecord, objectives: Sequence[Objective]) -> None:
    facts = {
        "verb": run.verb,
        "recipe": run.recipe.name,
        "data": data_in_words(told_data(run.recipe, None)),
        "settings": json.dumps(run.recipe.to_plain()),
        "seed": run.recipe.run.seed,
        "commit": run.record.get("commit", ""),
        "evospike": run.record.get("evospike", ""),
        "record": record.name,
        "objectives": [objective.name for objective in objectives],
        "note": NOTE + (STEADY_NOTE if in_flight_of(run) else ""),
    }
    for name, value in facts.items():
        study.set_user_attr(name, value)


def _trials(
    run: RunFolder, record: StudyRecord, parameters: Callable[[Genotype], Parameters]
) -> Callable[[Candidate], FrozenTrial]:
    """Makes the trial of a candidate."""
    draws: dict[Genotype, list[Recorded]] = {}
    for one in record.finalists:
        draws.setdefault(one.request.genotype, []).append(one)
    started = created(run).astimezone().replace(tzinfo=None)
    steady = in_flight_of(run) > 0

    def trial_of(candidate: Candidate) -> FrozenTrial:
        facts = {
            **_facts(candidate),
            **(_asked_facts(candidate) if steady else {}),
            **({"winner": True} if (candidate.generation, candidate.index) == record.winner else {}),
            **_finalist_facts(draws.get(candidate.genotype, ())),
        }
        return _trial(candidate, parameters(candidate.genotype), facts, started)

    return trial_of


def _trial(candidate: Candidate, parameters: Parameters, facts: Mapping[str, Any], started: datetime) -> FrozenTrial:
    from optuna.trial import FrozenTrial, TrialState

    return FrozenTrial(
        number=-1,  # the storage numbers trials in the order in which they are added
        trial_id=-1,
        state=TrialState.FAIL if candidate.values is None else TrialState.COMPLETE,
        value=None,
        values=candidate.values,
        datetime_start=started,
        datetime_complete=started + timedelta(seconds=candidate.score.seconds),
        params={name: value for name, (value, _) in parameters.items()},
        distributions={name: distribution for name, (_, distribution) in parameters.items()},
        user_attrs=dict(facts),
        system_attrs={},
        intermediate_values={},
    )


def _facts(candidate: Candidate) -> dict[str, Any]:
    request, score = candidate.recorded.request, candidate.score
    return {
        "generation": candidate.generation,
        "candidate": candidate.index,
        "status": score.status,
        "reason": score.reason,
        "draw_key": list(request.draw_key),
        "seconds": score.seconds,
        "attempts": candidate.recorded.attempts,
        **{f"term {name}": value for name, value in score.terms.items()},
    }


def _asked_facts(candidate: Candidate) -> dict[str, Any]:
    """The number of a candidate of a steady state as it was asked for; elsewhere there is only one."""
    request = candidate.recorded.request
    return {"asked_generation": request.generation, "asked_candidate": request.index}


def _finalist_facts(draws: Sequence[Recorded]) -> dict[str, Any]:
    """What a candidate that was scored again gave on its further draws."""
    if not draws:
        return {}
    return {"finalist_draws": [{"draw_key": list(one.request.draw_key), **one.score.to_json()} for one in draws]}


def _parameters_of(run: RunFolder) -> Callable[[Genotype], Parameters]:
    """Reads the parameters of a genotype: spreads of an evolution, else the genes that its architecture is made of."""
    if run.verb == "evolve":
        return partial(_spreads, run.recipe.evolution)
    space = Space(run.recipe.space)
    return partial(_genes, space, [_gene_distribution(space, place) for place in range(len(space.names))])


def _spreads(settings: EvolutionSettings, genotype: Genotype) -> Parameters:
    from optuna.distributions import FloatDistribution

    spread = FloatDistribution(10.0**settings.lower, 10.0**settings.upper, log=True)
    return {name: (value, spread) for name, value in numbers_of(genotype).items()}


def _genes(space: Space, distributions: Sequence[BaseDistribution], genotype: Genotype) -> Parameters:
    """By gene, what it stands for; genes that the architecture does not use are no parameters of its trial."""
    vector = [int(value) for value in genotype.values]
    names = [(space.names[place], place) for place in space.used(vector)]
    return {name: (space.choice(name, vector[place]), distributions[place]) for name, place in names}


def _gene_distribution(space: Space, place: int) -> BaseDistribution:
    """Whole numbers without a gap as such, everything else as categories."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    name, count = space.names[place], space.upper[place] + 1
    choices = [space.choice(name, gene) for gene in range(count)]
    if all(isinstance(choice, int) for choice in choices) and choices == list(range(choices[0], choices[0] + count)):
        return IntDistribution(choices[0], choices[-1])
    return CategoricalDistribution(choices)


def _study_name(run: RunFolder, path: Path) -> str:
    with Store.view(path) as store:
        return f"{run.path.resolve().name} {store.digest()}"


@contextlib.contextmanager
def _storage(url: str) -> Iterator[RDBStorage]:
    """The storage at a URL; a SQLite file is made where there is none."""
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine, inspect, make_url

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise SettingsError(f"'{url}' is a database that ends with this command; name a file, as sqlite:///FILE")
        engine = create_engine(parsed)
        tables = inspect(engine).get_table_names()
        engine.dispose()
        if tables and "studies" not in tables:
            raise RunError(f"{parsed.database} is a database of something else; give a file of its own")
    storage = RDBStorage(url)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _refuse_taken(storage: RDBStorage, names: Sequence[str], shown: str) -> None:
    import optuna

    there = set(optuna.get_all_study_names(storage))
    for name in names:
        if name in there:
            raise RunError(f"{shown} has the study '{name}' already; give another file, or delete that study first")


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401 - only whether it is there
    except ImportError:
        raise MissingExtra("optuna", "optuna", "export-study") from None


@contextlib.contextmanager
def _explained(url: str) -> Iterator[str]:
    """Turn what optuna and its database say into one line of ours; gives the URL as it may be shown."""
    from optuna.exceptions import OptunaError
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        shown = make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise SettingsError(f"'{url}' is no URL of a database; give one as sqlite:///FILE") from None
    try:
        yield shown
    except EvospikeError:
        raise
    except (SQLAlchemyError, OptunaError, ImportError, RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"cannot write a study to {shown} ({why}); give a new file, as sqlite:///FILE") from None
