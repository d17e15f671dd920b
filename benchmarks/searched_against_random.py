"""A searched architecture against random ones under the same bounds, trained on the same seeds.

    python benchmarks/searched_against_random.py RUN [RECIPE] [--random 5] [--seeds 5] [-o FOLDER]

RUN is a finished search. The random architectures are the first of its generation 0: drawn from the same space, within
the same bounds, before anything was selected. Every network has stored weights and is trained as RECIPE says. Trainings
lie in FOLDER, one run each, and those that are there are not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from evospike.core.files import write_json
from evospike.evolution.store import Store
from evospike.evolution.variation import vector_of
from evospike.jobs.conduct import conduct
from evospike.jobs.folder import RunFolder, create_run, open_run
from evospike.jobs.genomes import read_model
from evospike.jobs.recipe import read_recipe
from evospike.jobs.results import half_interval
from evospike.search.space import Space


def random_genomes(search: RunFolder, count: int) -> list[str]:
    """Genomes of the random start of a search, as JSON."""
    with Store.open(search.store_path) as store:
        start = store.generations()[0]
    space = Space(search.recipe.space)
    return [space.genome(vector_of(genotype)).to_json() for genotype in start[:count]]


def train(folder: Path, recipe: str, overrides: Sequence[str], genome: str, seeds: int, workers: int) -> list[float]:
    """Test accuracies of a genome's network over paired seeds."""
    flags = {"model": {"genome": genome}, "final": {"arms": ["dense"], "seeds": seeds}, "run": {"workers": workers}}
    settings = read_recipe(recipe, overrides, flags)
    run = open_run(folder) if (folder / "run.json").exists() else create_run("train", settings, str(folder))
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
    genomes = {"winner": read_model(search.path)}
    genomes |= {f"random-{k}": genome for k, genome in enumerate(random_genomes(search, given.random))}
    accuracies = {
        name: train(given.output / name, given.recipe, given.set, genome, given.seeds, given.workers)
        for name, genome in genomes.items()
    }
    winner = accuracies.pop("winner")
    per_seed = [fmean(of_seed) for of_seed in zip(*accuracies.values(), strict=True)]
    difference = [a - b for a, b in zip(winner, per_seed, strict=True)]
    means = [fmean(values) for values in accuracies.values()]
    print(f"\nwinner                        {text(winner)} %  (over {given.seeds} seeds)")
    print(f"random architectures          {text(means)} %  (over {len(means)} architectures)")
    print(f"winner minus mean of random   {text(difference)} points, paired by seed")
    print(f"random architectures above the winner: {sum(mean > fmean(winner) for mean in means)} of {len(means)}")
    write_json(
        given.output / "comparison.json", {"winner": winner, "random": accuracies, "difference": fmean(difference)}
    )


if __name__ == "__main__":
    main()
