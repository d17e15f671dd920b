"""Searched architectures against random ones under the same bounds, trained on the same seeds.

    python benchmarks/searched_against_random.py RUN... [--recipe digits] [--random 5] [--seeds 5] -o FOLDER

RUNs are finished searches of one space, by different scores for example. The random architectures are the first of the
first one's generation 0 that no search has chosen: drawn from the same space, within the same bounds, before anything
was selected. Every network has stored weights and is trained as
RECIPE says. Trainings lie in FOLDER, one run each; those that are there with the same settings are not repeated.

Two intervals are printed, both 95 %: over seeds, with these random architectures given, and over architectures, which
says how far the mean of other random ones may lie.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from evospike.core.errors import RunError
from evospike.core.files import write_json
from evospike.core.settings import differences
from evospike.evolution.store import Store
from evospike.evolution.variation import vector_of
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.genomes import read_model
from evospike.jobs.recipe import read_recipe
from evospike.jobs.results import half_interval
from evospike.search.space import Space


def random_genomes(search: RunFolder, count: int, winners: Collection[str]) -> list[str]:
    """Genomes of the random start of a search, as JSON, without any winner."""
    with Store.open(search.store_path) as store:
        start = store.generations()[0]
    space = Space(search.recipe.space)
    genomes = [space.genome(vector_of(genotype)).to_json() for genotype in start]
    return [genome for genome in genomes if genome not in winners][:count]


def train(folder: Path, recipe: str, overrides: Sequence[str], genome: str, seeds: int, workers: int) -> list[float]:
    """Test accuracies of a genome's network over paired seeds."""
    flags = {
        "model": {"genome": genome},
        "encoding": {"kind": "dense"},
        "final": {"arms": ["dense"], "seeds": seeds},
        "run": {"workers": workers},
    }
    settings = read_recipe(recipe, overrides, flags)
    run = open_run(folder) if (folder / "run.json").exists() else create_run("train", settings, str(folder))
    if changed := differences(run.recipe.to_plain(), settings.to_plain()):
        raise RunError(f"'{folder}' was trained otherwise ({changed[0]}); give another folder")
    (arm,) = conduct(run, settings)["arms"]
    print(f"{folder.name}: {100 * arm['test_accuracy']:.2f} %, {arm['parameters']:,} parameters", flush=True)
    return [float(accuracy) for accuracy in arm["seeds"]]


def text(values: Sequence[float], digits: int = 2) -> str:
    """Mean and half of its 95 % interval, in points."""
    half = half_interval(values)
    return f"{100 * fmean(values):.{digits}f}" + (f" ± {100 * half:.{digits}f}" if half is not None else "")


def compare(name: str, winner: Sequence[float], rivals: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Print how a winner stands against the random architectures, and give the figures."""
    per_seed = [fmean(of_seed) for of_seed in zip(*rivals.values(), strict=True)]
    difference = [a - b for a, b in zip(winner, per_seed, strict=True)]
    margins = [fmean(winner) - fmean(values) for values in rivals.values()]
    print(f"\n{name}: {text(winner)} %  (over {len(winner)} seeds)")
    print(f"  minus the mean of random ones   {text(difference)} points, paired by seed")
    print(f"  minus a random one              {text(margins)} points, over {len(margins)} architectures")
    print(f"  random architectures above it   {sum(margin < 0 for margin in margins)} of {len(margins)}")
    return {
        "accuracies": winner,
        "difference": fmean(difference),
        "interval_over_seeds": half_interval(difference),
        "interval_over_architectures": half_interval(margins),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--random", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()

    searches = [open_run(run) for run in given.runs]
    winners = {search.path.name: read_model(search.path) for search in searches}
    rivals = random_genomes(searches[0], given.random, set(winners.values()))
    genomes = winners | {f"random-{k}": genome for k, genome in enumerate(rivals)}
    accuracies = {
        name: train(given.output / name, given.recipe, given.set, genome, given.seeds, given.workers)
        for name, genome in genomes.items()
    }
    random = {name: values for name, values in accuracies.items() if name not in winners}
    print(f"\nrandom architectures: {text([fmean(values) for values in random.values()])} %  (over {len(random)})")
    found = {name: compare(name, accuracies[name], random) for name in winners}
    write_json(given.output / "comparison.json", {"winners": found, "random": random})


if __name__ == "__main__":
    main()
