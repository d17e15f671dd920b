"""A searched architecture against random ones under the same bounds, trained on the same seeds.

    python benchmarks/searched_against_random.py RUN [RECIPE] [--random 5] [--seeds 5] [-o FOLDER]

RUN is a finished search. The random architectures are the first of its generation 0 that are not the winner: drawn from
the same space, within the same bounds, before anything was selected. Every network has stored weights and is trained as
RECIPE says. Trainings lie in FOLDER, one run each; those that are there with the same settings are not repeated.

Two intervals are printed, both 95 %: over seeds, with these random architectures given, and over architectures, which
says how far the mean of other random ones may lie.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

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


def random_genomes(search: RunFolder, count: int, winner: str) -> list[str]:
    """Genomes of the random start of a search, as JSON, without the winner."""
    with Store.open(search.store_path) as store:
        start = store.generations()[0]
    space = Space(search.recipe.space)
    genomes = [space.genome(vector_of(genotype)).to_json() for genotype in start]
    return [genome for genome in genomes if genome != winner][:count]


def train(folder: Path, recipe: str, overrides: Sequence[str], genome: str, seeds: int, workers: int) -> list[float]:
    """Test accuracies of a genome's network over paired seeds."""
    flags = {"model": {"genome": genome}, "final": {"arms": ["dense"], "seeds": seeds}, "run": {"workers": workers}}
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("recipe", nargs="?", default="digits")
    parser.add_argument("--random", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()

    search = open_run(given.run)
    found = read_model(search.path)
    rivals = random_genomes(search, given.random, found)
    genomes = {"winner": found} | {f"random-{k}": genome for k, genome in enumerate(rivals)}
    accuracies = {
        name: train(given.output / name, given.recipe, given.set, genome, given.seeds, given.workers)
        for name, genome in genomes.items()
    }
    winner = accuracies.pop("winner")
    per_seed = [fmean(of_seed) for of_seed in zip(*accuracies.values(), strict=True)]
    difference = [a - b for a, b in zip(winner, per_seed, strict=True)]
    means = [fmean(values) for values in accuracies.values()]
    print(f"\nwinner                        {text(winner)} %  (over {given.seeds} seeds)")
    margins = [fmean(winner) - mean for mean in means]
    print(f"random architectures          {text(means)} %  (over {len(means)} architectures)")
    print(f"winner minus mean of random   {text(difference)} points, paired by seed")
    print(f"winner minus a random one     {text(margins)} points, over architectures")
    print(f"random architectures above the winner: {sum(margin < 0 for margin in margins)} of {len(margins)}")
    write_json(
        given.output / "comparison.json",
        {
            "winner": winner,
            "random": accuracies,
            "difference": fmean(difference),
            "interval_over_seeds": half_interval(difference),
            "interval_over_architectures": half_interval(margins),
        },
    )


if __name__ == "__main__":
    main()
