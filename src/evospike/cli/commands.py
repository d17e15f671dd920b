"""One function per command: arguments in, a JSON document and its text out. Jobs are imported when they are called."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evospike.cli.arguments import flags_given, names_in
from evospike.core.errors import EvospikeError, SettingsError
from evospike.core.launch import Launch
from evospike.core.progress import tell
from evospike.core.settings import Settings, merge, read_settings
from evospike.core.text import harmless, shortened
from evospike.data.settings import DataSettings
from evospike.jobs.folder import RECORD
from evospike.jobs.recipe import Recipe, laid_over, read_recipe, recipe_from_plain, recipe_text, shipped_recipes

if TYPE_CHECKING:
    from evospike.jobs.folder import RunFolder

Printed = tuple[dict[str, Any], str]

READ_BY: Mapping[str, tuple[str, ...]] = {
    "evolution": ("evolve",),
    "search": ("search",),
    "rank": ("rank",),
    **dict.fromkeys(("space", "scoring", "dissimilarity"), ("search", "rank")),
    **dict.fromkeys(
        ("encoding", "wiring", "final", "training.epochs", "training.ema", "training.keep"), ("evolve", "train")
    ),
    **dict.fromkeys(
        ("run.candidate_minutes", "run.executor", "run.ray_address", "run.gpu_share", "run.retries"),
        ("evolve", "search", "rank"),
    ),
}
"""Sections of a recipe, and single fields of others, that some verbs alone read."""


def run_job(arguments: Namespace) -> Printed:
    """evolve, train, search and rank: a new run from its record to its result."""
    recipe = _recipe(arguments)
    _tell_what_is_not_read(arguments)
    if arguments.dry_run:
        from evospike.jobs.inspection import dry_run
        from evospike.jobs.results import data_in_words

        document = dry_run(recipe, arguments.command)
        return document, _lines({**document, "data": data_in_words(document["data"])})
    from evospike.jobs.folder import create_run

    return _conducted(create_run(arguments.command, recipe, arguments.output), recipe, arguments)


def _tell_what_is_not_read(arguments: Namespace) -> None:
    """Notices of what `--set` and flags change that other verbs read. Refused it is not: recipes hold that too, and are
    checked as a whole."""
    flags = (
        f"{section}.{name}={value}"
        for section, given in flags_given(arguments).items()
        for name, value in given.items()
    )
    for text in (*arguments.set, *flags):
        field = ".".join(key.strip() for key in text.partition("=")[0].split("."))
        section = field.partition(".")[0]
        name, verbs = (field, READ_BY[field]) if field in READ_BY else (f"[{section}]", READ_BY.get(section))
        if verbs is not None and arguments.command not in verbs:
            *others, last = verbs
            readers = f"{', '.join(others)} and {last}" if others else last
            tell(f"{shortened(text)} has no effect on {arguments.command}: {name} is read by {readers} alone")


def replay(arguments: Namespace) -> Printed:
    """replay: a new run as the recorded one was, and whether it came out the same."""
    from evospike.jobs.folder import open_run

    of = open_run(arguments.run)
    recipe = _own_recipe(of, arguments, "is replayed")
    from evospike.jobs.replay import create_replay

    return _conducted(create_replay(of, recipe, arguments.output), recipe, arguments)


def _conducted(run: RunFolder, recipe: Recipe, arguments: Namespace) -> Printed:
    """A new run from its record to its result; one that cannot begin is taken back."""
    from evospike.jobs.conduct import conduct
    from evospike.jobs.folder import discard_unstarted

    def begun() -> None:
        print(f"run folder: {harmless(str(run.path))}", file=sys.stderr)

    try:
        settings = {"quiet": arguments.quiet, "tensorboard": arguments.tensorboard}
        return _result(conduct(run, recipe, **settings, new=True, begun=begun))
    except EvospikeError:
        discard_unstarted(run)
        raise


def follow(arguments: Namespace, launch: Launch) -> int:
    """train, resume and replay in every process but the first of those that torchrun started: the exit code."""
    if getattr(arguments, "dry_run", False):
        return 0
    from evospike.jobs.following import follow as take_part

    return take_part(launch)


def resume(arguments: Namespace) -> Printed:
    """resume: the recorded run with its own settings; only what no score depends on may differ."""
    from evospike.jobs.folder import open_run

    run = open_run(arguments.run)
    recipe = _own_recipe(run, arguments, "resumes")
    from evospike.jobs.conduct import conduct

    return _result(conduct(run, recipe, quiet=arguments.quiet, tensorboard=arguments.tensorboard))


def _own_recipe(run: RunFolder, arguments: Namespace, what: str) -> Recipe:
    """The recipe of a run with what the arguments change in it. what: is done with the run, for the message.

    Raises: SettingsError for a change of anything that a score depends on.
    """
    values = run.recipe.to_plain()
    recipe = recipe_from_plain(_overlaid(values, arguments))
    from evospike.jobs.conduct import permitted_changes

    if refused := permitted_changes(values, recipe.to_plain()):
        raise SettingsError(
            f"a run {what} with its own settings, given {'; '.join(refused)}; start a new run for others"
        )
    return recipe


def inspect(arguments: Namespace) -> Printed:
    """inspect: what a network is made of."""
    from evospike.jobs.inspection import inspect_recipe
    from evospike.jobs.results import data_line

    document = inspect_recipe(_recipe_or_run(arguments))
    head = {key: value for key, value in document.items() if key not in ("data", "layers")}
    rows = [
        f"{row['name']:<28} {row['op']:<8} {row['encoding']:<12} {row['parameters']:>12,} {row['macs_per_step']:>16,}"
        + ("" if row["density"] in (None, 1) else f" {row['density']:>8.2%}")
        for row in document["layers"]
    ]
    title = f"{'layer':<28} {'op':<8} {'encoding':<12} {'parameters':>12} {'MACs per step':>16} {'density':>8}"
    return document, "\n".join([_lines(head), data_line(document), "", title, *rows])


def evaluate(arguments: Namespace) -> Printed:
    """evaluate: what a finished run's networks do and cost on the test split."""
    from evospike.jobs.evaluation import evaluate_run
    from evospike.jobs.evaluation_text import describe_evaluation

    document = evaluate_run(
        arguments.run,
        arms=_names(arguments.arms),
        robustness=arguments.robustness,
        samples=arguments.samples,
        noise_seeds=arguments.noise_seeds,
        noise_space=arguments.noise_space,
        device=arguments.device,
        force=arguments.force,
        quiet=arguments.quiet,
    )
    return document, f"{describe_evaluation(document)}\nmore: evospike report {document['run']}"


def report(arguments: Namespace) -> Printed:
    """report: one page about a run, one that compares several, or figures and tables for a paper."""
    runs = [Path(run) for run in arguments.run]
    output = Path(arguments.output) if arguments.output else None
    if arguments.figures is not None:
        if len(runs) > 1 or output is not None:
            raise SettingsError("--figures is about one run and writes into its own folder; give one run and no -o")
        from evospike.report.paper.write import write_figures

        written = [str(path) for path in write_figures(runs[0], Path(arguments.figures))]
        return {"run": arguments.run[0], "files": written}, "\n".join(written)
    from evospike.jobs.folder import unused_path
    from evospike.report.page import COMPARISON, write_comparison, write_report

    if len(runs) == 1:
        path = write_report(runs[0], output)
    else:
        path = write_comparison(runs, output or unused_path(Path(COMPARISON).stem, Path(COMPARISON).suffix))
    found: dict[str, Any] = {"run": arguments.run[0]} if len(runs) == 1 else {"runs": arguments.run}
    return {**found, "page": str(path)}, f"page: {path}"


def watch(arguments: Namespace) -> Printed:
    """watch: the state of a run, until it is finished."""
    from evospike.jobs.folder import open_run
    from evospike.jobs.run_state import state_of
    from evospike.jobs.watch import watch as follow

    if arguments.json:
        return asdict(state_of(open_run(arguments.run))), ""
    follow(arguments.run, once=arguments.once, interval=arguments.interval)
    return {}, ""


def export_study(arguments: Namespace) -> Printed:
    """export-study: the candidates of a run as a study of Optuna."""
    from evospike.jobs.export_study import export_study as export
    from evospike.jobs.folder import open_run

    trials = export(open_run(arguments.run), arguments.optuna, quiet=arguments.quiet)
    return {"run": arguments.run, "storage": arguments.optuna, "trials": trials}, f"{trials} trials: {arguments.optuna}"


def recipes(arguments: Namespace) -> Printed:
    """recipes: what is shipped, one of them in full, or one training step of each."""
    names = shipped_recipes() if arguments.name is None else [arguments.name]
    if arguments.attempt:
        from evospike.jobs.attempt import attempt_each

        tried = list(attempt_each(names, arguments.try_batch))
        return {"recipes": tried}, "\n".join(_attempted(row) for row in tried)
    if arguments.name is not None:
        document = read_recipe(arguments.name).to_plain()
        return document, recipe_text(document)
    about = {name: read_recipe(name).about for name in names}
    return {"recipes": about}, "\n".join(f"{name:<28} {line}" for name, line in about.items())


def data(arguments: Namespace) -> Printed:
    """data: list, info, cache."""
    action = arguments.action
    if action == "list":
        from evospike.data.catalogue import list_sources

        sources = list_sources(flags_given(arguments).get("data", {}).get("folder", ""))
        return {"sources": sources}, "\n".join(_lines(row, " ") for row in sources)
    recorded = {} if arguments.recipe is None else {"data": read_recipe(arguments.recipe).to_plain()["data"]}
    values = _overlaid(recorded, arguments)
    settings = read_settings(_DataAlone, values).data
    if "source" not in values.get("data", {}):
        raise SettingsError(f"data {action} needs a data set, as in: evospike data {action} digits")
    settings.events.check_effect()
    from evospike.data.catalogue import build_cache, describe

    document = describe(settings) if action == "info" else build_cache(settings)
    return document, _lines(document)


@dataclass(frozen=True)
class _DataAlone(Settings):
    """A recipe of which nothing but the data is set."""

    data: DataSettings = field(default_factory=DataSettings)


def bench(arguments: Namespace) -> Printed:
    """bench: the cases as a list, or measured; then their tables appear as they end."""
    from evospike.bench.registry import chosen
    from evospike.bench.tables import listing

    found = chosen(arguments.case, quick=arguments.quick)
    if arguments.list:
        return listing(found)
    from evospike.bench.document import to_plain
    from evospike.bench.run import Options, default_peers, output_path, run_suite
    from evospike.bench.tables import result_table, summary, text_of

    options = Options(
        quick=arguments.quick,
        peers=default_peers() if arguments.peers is None else arguments.peers,
        device=arguments.device,
        threads=arguments.threads,
        repeats=arguments.repeats,
    )
    output = output_path(arguments.output, force=arguments.force)
    print(f"document: {harmless(str(output))}", file=sys.stderr)
    document = run_suite(
        found,
        options,
        output,
        quiet=arguments.quiet,
        ended=lambda result: None if arguments.json else _show(text_of(result_table(result))),
    )
    return to_plain(document), f"{summary(document)}\ndocument: {output}"


def _show(text: str) -> None:
    print(harmless(text), end="\n\n", flush=True)


def _names(given: str | None) -> list[str]:
    """Names separated by commas."""
    return [] if given is None else names_in(given)


def _recipe(arguments: Namespace) -> Recipe:
    return read_recipe(arguments.recipe, arguments.set, _given(arguments))


def _given(arguments: Namespace) -> dict[str, Any]:
    """The named flags that were given, with the genome that --model stands for."""
    given = flags_given(arguments)
    if getattr(arguments, "model", None) is None:
        return given
    from evospike.jobs.genomes import read_model

    return merge(given, {"model": {"genome": read_model(arguments.model)}})


def _overlaid(values: dict[str, Any], arguments: Namespace) -> dict[str, Any]:
    return laid_over(values, arguments.set, _given(arguments))


def _recipe_or_run(arguments: Namespace) -> Recipe:
    if (Path(arguments.recipe) / RECORD).is_file():
        from evospike.jobs.folder import open_run
        from evospike.jobs.genomes import model_of

        run = open_run(arguments.recipe)
        recorded = merge(run.recipe.to_plain(), {"model": {"genome": model_of(run)}})
        values = _overlaid(recorded, arguments)
        recipe = recipe_from_plain(values)
        if values != recorded:
            recipe.check_new()
        return recipe
    return _recipe(arguments)


def _result(document: dict[str, Any]) -> Printed:
    from evospike.jobs.results import describe, replay_line

    lines = (describe(document), f"more: evospike report {document['run']}", replay_line(document))
    return document, "\n".join(line for line in lines if line)


def _lines(document: dict[str, Any], separator: str = "\n") -> str:
    return separator.join(
        f"{key}: {value:,}" if type(value) is int else f"{key}: {value}" for key, value in document.items()
    )


def _attempted(row: dict[str, Any]) -> str:
    shape = "x".join(map(str, row["input_shape"]))
    return (
        f"{row['recipe']:<28} {shape:<10} {row['images']} images {row['parameters']:>10,} parameters  "
        f"loss {row['loss']:.3f}  {row['memory'] / 2**20:>6.0f} MiB  {row['seconds']:.1f} s"
    )


COMMANDS: dict[str, Callable[[Namespace], Printed]] = {
    "evolve": run_job,
    "train": run_job,
    "search": run_job,
    "rank": run_job,
    "resume": resume,
    "replay": replay,
    "inspect": inspect,
    "evaluate": evaluate,
    "report": report,
    "watch": watch,
    "export-study": export_study,
    "recipes": recipes,
    "data": data,
    "bench": bench,
}
