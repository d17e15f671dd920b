"""The arguments of every command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any, NoReturn, get_args

import evospike
from evospike.core.errors import SettingsError
from evospike.core.text import shortened
from evospike.jobs.settings import ArmName
from evospike.measure.settings import NOISE_SEEDS, SAMPLES

SOURCES = (
    "digits, cifar10, cifar100, imagenet, hub:ID, parquet:DIR, imagefolder:DIR; of event cameras cifar10dvs, "
    "dvsgesture, nmnist, frames:DIR, tonic:NAME; simulated digits-events, cifar10-events"
)

# flag -> (section, field, type, help); those that are used most, everything else through --set
FLAGS: dict[str, tuple[str, str, Any, str]] = {
    "--seed": ("run", "seed", int, "root of all randomness"),
    "--workers": ("run", "workers", int, "processes; does not change results"),
    "--threads": ("run", "threads", int, "CPU threads of each process"),
    "--device": ("run", "device", str, "auto, cpu, cuda or cuda:N"),
    "--data": ("data", "source", str, SOURCES),
    "--epochs": ("training", "epochs", int, "epochs of each final training"),
    "--batch": ("training", "batch", int, "samples per training step"),
    "--genes": ("encoding", "genes", int, "number of genes"),
    "--density": ("sparse", "density", float, "share of the synapses that exist, rewired while they learn"),
    "--steps": ("model", "steps", int, "simulation steps T"),
    "--seeds": ("final", "seeds", int, "repetitions: of the final trainings (paired), the search, short trainings"),
}

SEEDS: Mapping[str, str] = {"search": "search", "rank": "rank"}
"""Section whose `seeds` a verb repeats by, where it is not `final`."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error here."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _Parser("evospike", description="Evolve deep spiking neural networks.")
    parser.add_argument("--version", action="version", version=f"evospike {evospike.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    commands.required = True
    _job(commands, "evolve", "evolve the initial values of a genetic network, then train the winner and its controls")
    _job(commands, "train", "train the network of a recipe")
    _job(commands, "search", "search an architecture without training candidates", default="digits-search")
    _job(commands, "rank", "compare scores of architectures with their accuracies", default="digits-search")
    _again(commands, "resume", "go on with a run that was stopped or killed; a finished run prints its result")
    _output(_again(commands, "replay", "make a run again from its folder, and say whether it came out the same"))
    _inspect(commands)
    _evaluate(commands)
    _report(commands)
    _watch(commands)
    _export_study(commands)
    _recipes(commands)
    _data(commands)
    _bench(commands)
    return parser


class _NotOfTrain(argparse.Action):
    """An option that a person may look for in `train`."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        parser.error(
            f"{option} says where candidates are scored, of which 'train' has none; it goes with evolve, search, rank, "
            "resume and replay"
        )


def _path(text: str) -> str:
    """The name of a file or folder. Raises: ArgumentTypeError for none."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty; give one, or leave the option out")
    return text


def _job(commands: Any, name: str, about: str, default: str = "digits") -> None:
    job = commands.add_parser(name, help=about, description=about)
    job.add_argument("recipe", nargs="?", default=default, help=f"a shipped recipe or a TOML file (default: {default})")
    _output(job)
    if name in ("evolve", "train"):
        job.add_argument(
            "--arms",
            metavar="A,B",
            help=f"networks of the final comparison: {','.join(get_args(ArmName))}",
        )
        _model(job)
    if name == "train":
        for flag in ("--executor", "--ray-address"):
            job.add_argument(flag, nargs="?", action=_NotOfTrain, help=argparse.SUPPRESS)
    else:
        _executor(job)
    job.add_argument("--dry-run", action="store_true", help="print the plan with estimates and stop")
    _tensorboard(job)
    _settings(job, SEEDS.get(name, "final"))
    _common(job)


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=_path, metavar="RUN", help="run folder (default: runs/NAME-time)")


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="RUN", help="architecture of a finished search, or a genome file")


def _executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor",
        dest="flag.run.executor",
        metavar="WHERE",
        help="where candidates are scored: local (default) or ray; does not change results",
    )
    parser.add_argument(
        "--ray-address",
        dest="flag.run.ray_address",
        metavar="ADDRESS",
        help="running Ray cluster, HOST:PORT or auto; means --executor ray (default: one is started on this machine)",
    )


def _tensorboard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensorboard", action="store_true", help="also write event files to RUN/tensorboard")


def _settings(parser: argparse.ArgumentParser, seeds: str = "final") -> None:
    for flag, (section, field, kind, about) in FLAGS.items():
        place = f"{seeds if flag == '--seeds' else section}.{field}"
        _flag(parser, flag, place, kind, about)
    _set(parser, "SECTION.FIELD=VALUE", "set any field of the recipe; repeatable")


def _flag(parser: argparse.ArgumentParser, flag: str, place: str, kind: Any, about: str) -> None:
    """A flag for a field. place: section.field."""
    field = place.rpartition(".")[2]
    parser.add_argument(flag, dest=f"flag.{place}", type=kind, metavar=field.upper(), help=about)


def _set(parser: argparse.ArgumentParser, form: str, about: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar=form, help=about)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output")
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _again(commands: Any, name: str, about: str) -> Any:
    """What starts from a run folder."""
    job = commands.add_parser(name, help=about, description=about)
    job.add_argument("run", help="run folder")
    _executor(job)
    _tensorboard(job)
    _settings(job)
    _common(job)
    return job


def _inspect(commands: Any) -> None:
    about = "parameters and layers of a recipe's or run's network, without training"
    inspect = commands.add_parser("inspect", help=about, description=about)
    inspect.add_argument("recipe", help="a shipped recipe, a TOML file or a run folder")
    _model(inspect)
    _settings(inspect)
    _common(inspect)


def _evaluate(commands: Any) -> None:
    about = "count what a finished run's networks do and cost on the test split, and how they hold up"
    evaluate = commands.add_parser("evaluate", help=about, description=about)
    evaluate.add_argument("run", help="run folder")
    evaluate.add_argument("--arms", metavar="A,B", help="networks to measure (default: the run's own, its first arm)")
    evaluate.add_argument(
        "--robustness",
        default="protocol",
        help="protocol: noise of half the input's norm (default); full: curves of every change; none",
    )
    evaluate.add_argument("--samples", type=int, metavar="N", help=f"test samples for robustness (default: {SAMPLES})")
    evaluate.add_argument(
        "--noise-seeds", type=int, metavar="N", help=f"draws of every random change (default: {NOISE_SEEDS})"
    )
    evaluate.add_argument("--noise-space", help="normalised (default) or raw: where the noise is added")
    evaluate.add_argument(
        "--force", action="store_true", help="replace an earlier evaluation also where this one says less"
    )
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    _common(evaluate)


def _report(commands: Any) -> None:
    about = "write one self-contained HTML page about a run, or one that compares several"
    report = commands.add_parser("report", help=about, description=about)
    report.add_argument("run", nargs="+", help="run folder; several are compared")
    report.add_argument(
        "-o",
        "--output",
        type=_path,
        metavar="FILE",
        help="page to write (default: RUN/report.html, or a new report-comparison.html)",
    )
    report.add_argument(
        "--figures",
        type=_path,
        metavar="DIR",
        help="write PDF and SVG figures and LaTeX and Markdown tables there instead",
    )
    _common(report)


def _watch(commands: Any) -> None:
    about = "show what a run is doing, without touching it"
    watch = commands.add_parser("watch", help=about, description=about)
    watch.add_argument("run", help="run folder")
    watch.add_argument("--once", action="store_true", help="show it once and stop")
    watch.add_argument("--interval", type=float, default=2.0, metavar="S", help="seconds between looks (default: 2)")
    watch.add_argument("--json", action="store_true", help="print the state once, as one JSON document")


def _export_study(commands: Any) -> None:
    about = "write the candidates of an evolution, search or ranking as a study of another tool"
    export = commands.add_parser("export-study", help=about, description=about)
    export.add_argument("run", help="run folder")
    export.add_argument("--optuna", metavar="URL", required=True, help="storage of the study, as sqlite:///FILE")
    _common(export)


def _recipes(commands: Any) -> None:
    about = "list the shipped recipes, or show one"
    recipes = commands.add_parser("recipes", help=about, description=about)
    recipes.add_argument("name", nargs="?", help="recipe to show with every field")
    recipes.add_argument(
        "--try", dest="attempt", action="store_true", help="build the network and do one training step on random images"
    )
    recipes.add_argument("--try-batch", type=int, default=2, metavar="N", help="images of that step (default: 2)")
    _common(recipes)


def _data(commands: Any) -> None:
    about = "data sets: what is there, what is in one, decode one into the cache"
    data = commands.add_parser("data", help=about, description=about)
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    _data_action(actions, "list", "what is there")
    for name, about in (("info", "what is in a data set"), ("cache", "decode a data set into the cache")):
        action = _data_action(actions, name, about)
        action.add_argument("flag.data.source", nargs="?", metavar="source", help=f"{SOURCES} (default: the recipe's)")
        action.add_argument(
            "--recipe", metavar="RECIPE", help="a shipped recipe or a TOML file, whose data settings are taken"
        )
        _flag(action, "--image-size", "data.image_size", int, "side in pixels to resize to")
        _set(action, "data.FIELD=VALUE", "set any field of data, as data.events.frames=4; repeatable")


def _data_action(actions: Any, name: str, about: str) -> Any:
    action = actions.add_parser(name, help=about, description=about)
    _flag(action, "--folder", "data.folder", str, "folder of local copies (default: $EVOSPIKE_DATA)")
    _common(action)
    return action


def _bench(commands: Any) -> None:
    about = "measure how fast this machine runs evospike, beside the limit of its arithmetic and beside other tools"
    bench = commands.add_parser("bench", help=about, description=about)
    bench.add_argument("case", nargs="*", help="cases to run (default: all); --list names them")
    bench.add_argument("--list", action="store_true", help="name the cases and stop")
    bench.add_argument("--quick", action="store_true", help="small sizes and few turns, for a look in three minutes")
    bench.add_argument(
        "-o",
        "--output",
        type=_path,
        metavar="FILE",
        help="document to write (default: bench-TIME.json in this folder)",
    )
    bench.add_argument("--force", action="store_true", help="replace the document if it is there")
    bench.add_argument(
        "--peers",
        metavar="DIR",
        help="folder of the adapters of other tools (default: benchmarks/peers if it is there)",
    )
    bench.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    bench.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads of each case (default: one per core)"
    )
    bench.add_argument(
        "--repeats", type=int, default=0, metavar="N", help="turns that count (default: as many as the case asks for)"
    )
    _common(bench)


def flags_given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The named flags that were given, as nested settings."""
    nested: dict[str, Any] = {}
    for name, value in vars(arguments).items():
        flag, _, place = name.partition(".")
        if flag == "flag" and value is not None:
            section, _, field = place.partition(".")
            nested.setdefault(section, {})[field] = value
    run = nested.get("run", {})
    if run.get("ray_address") and run.setdefault("executor", "ray") != "ray":
        raise SettingsError(
            f"--executor {shortened(run['executor'])} and --ray-address do not go together; leave one of them out"
        )
    arms = getattr(arguments, "arms", None)
    if arms is not None:
        nested.setdefault("final", {})["arms"] = names_in(arms)
    return nested


def names_in(text: str) -> list[str]:
    """Names separated by commas. Raises: SettingsError when one is empty."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise SettingsError(f"'{text}' holds an empty name; give names separated by commas, as A,B")
    return names
