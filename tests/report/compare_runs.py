"""Finished runs that can be compared, made in a moment; the numbers of their seeds are what a test says."""

import html.parser
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from evospike.core.statistics import deviation, half_interval
from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.jobs.folder import open_run, read_record, write_record
from evospike.report.evaluation.facts import MEASURES
from evospike.search.space import Space

DATA = {"name": "digits", "split": "stratified 80/20, fixed", "simulated": False, "notes": []}
MODELS = ("45nm", "chip")


class Runs:
    """Makes runs under one folder. make_run: the fixture that makes a run in the folder `run` beside them."""

    def __init__(self, make_run: Callable[..., Any], folder: Path) -> None:
        self._make_run, self._folder = make_run, folder

    def __call__(
        self,
        name: str,
        accuracies: Sequence[float],
        *,
        verb: str = "train",
        arm: str = "genetic",
        overrides: Sequence[str] = (),
        data: Mapping[str, Any] = DATA,
        hostile: bool = False,
    ) -> Path:
        """A run whose first arm reaches those accuracies, one a seed. overrides: of its recipe."""
        path = self._folder / name
        settings = [f'final.arms=["{arm}"]', f"final.seeds={len(accuracies)}", *overrides]
        made = self._make_run(verb, overrides=settings, hostile=hostile, data=dict(data), scores=None)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made.path, path)
        rewrite(path / "result.json", lambda result: _with_accuracies(result, accuracies, name))
        for seed, value in enumerate(accuracies):
            rewrite(path / "final" / f"{arm}-{seed}" / "result.json", partial(_trained_to, value))
        return path


def rewrite(path: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Change a JSON document on disk."""
    write_record(path, dict(change(read_record(path))))


def _with_accuracies(result: dict[str, Any], accuracies: Sequence[float], name: str) -> dict[str, Any]:
    mean = fmean(accuracies)
    first = {**result["arms"][0], "test_accuracy": mean, "seeds": list(accuracies)}
    first["interval"] = half_interval(accuracies)
    seeds = [
        {"seed": seed, "test_accuracy": value, "firing_rate": 0.2 + 0.1 * value}
        for seed, value in enumerate(accuracies)
    ]
    return {**result, "digest": f"digest of {name}", "test_accuracy": mean, "seeds": seeds, "arms": [first]}


def _trained_to(accuracy: float, result: dict[str, Any]) -> dict[str, Any]:
    """The result of one training whose validation accuracy rises to its test accuracy."""
    epochs = [
        {**epoch, "validation_accuracy": accuracy - 0.1 / (1 + place)} for place, epoch in enumerate(result["history"])
    ]
    return {**result, "test_accuracy": accuracy, "history": epochs}


def evaluate(
    path: Path,
    operations: Sequence[float],
    *,
    noisy: Sequence[float] = (),
    curves: Sequence[Mapping[str, Any]] = (),
    strength: float = 0.5,
    samples_digest: str | None = None,
    models: Sequence[str] = MODELS,
    **changed: Any,
) -> None:
    """Write the evaluation of a run's first arm: so many synaptic operations a seed, half as many spikes, 0.9 pJ each
    under the first model and a thousandth of it more under every other.

    noisy: accuracy with noise by seed, none without. samples_digest: of the samples and the noise. changed: entries of
    the document that are otherwise.
    """
    result = json.loads((path / "result.json").read_text(encoding="utf-8"))
    prices = {model: 0.9 + 0.0009 * place for place, model in enumerate(models)}
    rows = [
        {
            **{measure.key: 0.5 for measure in MEASURES},
            "seed": seed,
            "test_accuracy": result["arms"][0]["seeds"][seed],
            "noisy_accuracy": noisy[seed] if noisy else None,
            "spikes_per_sample": count / 2,
            "synaptic_operations": count,
            "energy": {model: price * count for model, price in prices.items()},
        }
        for seed, count in enumerate(operations)
    ]
    part = {
        **{measure.key: 0.5 for measure in MEASURES},
        "arm": result["arms"][0]["arm"],
        "samples": 359,
        "steps": 4,
        "accuracy_by_step": [0.5, 0.6, 0.7, 0.8],
        "confusion": [[36 if k == j else 0 for j in range(10)] for k in range(10)],
        "energy": {
            model: {
                "picojoules": fmean(row["energy"][model] for row in rows),
                "dense_picojoules": 1e6,
                "parts": {"accumulates": 1.0},
                "assumptions": f"Assumptions of {model}.",
                "source": f"Somebody on {model}.",
            }
            for model in models
        },
        "break_even": {},
        "layers": [],
        "neurons": [],
        "robustness": _robustness(noisy, curves, strength, samples_digest) if noisy else None,
        "seeds": rows,
    }
    document = {
        "run": str(path),
        "classes": [str(digit) for digit in range(10)],
        **part,
        "arms": [part],
        "wall_seconds": 1.0,
        "digest": result["digest"],
    }
    write_record(path / "evaluation.json", {**document, **changed})


def _robustness(
    noisy: Sequence[float], curves: Sequence[Mapping[str, Any]], strength: float, samples_digest: str | None
) -> dict[str, Any]:
    mean = fmean(noisy)
    return {
        **({} if samples_digest is None else {"samples_digest": samples_digest}),
        "kind": "full" if curves else "protocol",
        "samples": 359,
        "noise_seeds": 5,
        "strength": strength,
        "noise_space": "normalised",
        "clean": mean + 0.1,
        "noisy": mean,
        "drop": 0.1,
        "noisy_std": stdev(noisy) if len(noisy) > 1 else None,
        "noisy_interval": None,
        "notes": [],
        "curves": [dict(curve) for curve in curves],
    }


def curve(name: str, unit: str, means: Sequence[float]) -> dict[str, Any]:
    """One robustness curve at strengths 0, 0.25, 0.5, ... with a standard deviation of 0.01."""
    return {
        "name": name,
        "unit": unit,
        "strengths": [0.25 * k for k in range(len(means))],
        "accuracies": [[mean] for mean in means],
        "mean": list(means),
        "std": [0.01] * len(means),
    }


class Searches:
    """Makes runs of searches under one folder. make_search: the fixture that makes a run in the folder `run` beside
    them."""

    def __init__(self, make_search: Callable[..., Any], folder: Path) -> None:
        self._make_search, self._folder = make_search, folder

    def __call__(
        self,
        name: str,
        scores: Sequence[float],
        *,
        overrides: Sequence[str] = (),
        hostile: bool = False,
        data: Mapping[str, Any] = DATA,
        grown: float = 1.0,
    ) -> Path:
        """A run whose searches reach those scores, one each. overrides: of its recipe. grown: how large its networks
        are."""
        path = self._folder / name
        run = self._make_search(overrides=[f"search.seeds={len(scores)}", *overrides], hostile=hostile, scores=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(run.path, path)
        seeds = [_search(path, seed, score, grown) for seed, score in enumerate(scores)]
        best = max(range(len(scores)), key=scores.__getitem__)
        result = {
            "run": name,
            **{key: fmean(seed[key] for seed in seeds) for key in ("score", "parameters", "operations", "firing_rate")},
            "score_std": deviation(list(scores)),
            "interval": half_interval(list(scores)),
            "candidates_per_second": 12.34,
            "winner_seed": best,
            "winner": {"genome": seeds[best]["winner"], "network": "4" * 32, "terms": {}},
            "front": [],
            "seeds": seeds,
            "data": dict(data),
            "digest": f"digest of {name}",
            "wall_seconds": 61.0,
        }
        write_record(path / "result.json", result)
        return path


def _search(path: Path, seed: int, score: float, grown: float) -> dict[str, Any]:
    """Fill the record of one search of a run, whose best reaches the score, and say what its result says.

    Generation by generation the best comes 30 nearer; in each, the larger networks are better. The third candidate is
    silent, the fifth diverged.
    """
    run = open_run(path)
    space, sizes = Space(run.recipe.space), run.recipe.search.sizes
    rng = np.random.default_rng(seed)
    with Store.open_or_create(run.store_path_of(seed)) as store:
        for generation, size in enumerate(sizes):
            drawn = [rng.integers(0, np.array(space.upper) + 1) for _ in range(size)]
            genotypes = [Genotype(space.names, tuple(map(float, genes))) for genes in drawn]
            store.record_generation(generation, genotypes)
            best = score - 30.0 * (len(sizes) - 1 - generation)
            store.record_scores(
                (
                    Request("candidate", generation, index, genotype, ("search",)),
                    _judged(_terms(best - 5.0 * index, index, seed, grown), index),
                    1,
                )
                for index, genotype in enumerate(genotypes)
            )
            if generation == len(sizes) - 1:
                winner = {"generation": generation, "candidate": 0, "genotype": genotypes[0].to_json()}
                store.record_value("winner", winner)
    terms = _terms(score, 0, seed, grown)
    genome = json.loads(space.genome([int(value) for value in genotypes[0].values]).to_json())
    told = {key: terms[key] for key in ("score", "parameters", "operations", "firing_rate")}
    return {"seed": seed, **told, "candidates": sum(sizes), "draws": 0, "winner": genome, "digest": str(seed)}


def _judged(terms: dict[str, float], index: int) -> Score:
    if index == 4:
        return Score("diverged", "its loss is not finite")
    return Score("silent", "it hardly fires", terms) if index == 2 else Score("ok", terms=terms)


def _terms(score: float, index: int, seed: int, grown: float) -> dict[str, float]:
    return {
        "score": score,
        "parameters": grown * (9000.0 + 10 * seed - 300 * index),
        "operations": grown * (80000.0 + 100 * seed - 2000 * index),
        "firing_rate": 0.2 + 0.01 * seed,
        "energy": grown * (2.0e6 + 1000.0 * seed),
    }


class Tables(html.parser.HTMLParser):
    """The text of a page outside scripts and styles, and the cells of every table by its caption's first words."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[list[str]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._hidden, self._cell, self._text = False, False, []
        self.feed(page)
        self.close()
        self.text = " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._hidden = self._hidden or tag in ("script", "style")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag):
        self._hidden = self._hidden and tag not in ("script", "style")
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self._hidden:
            return
        self._text.append(data)
        if self._cell:
            self.tables[-1][-1][-1] = " ".join(f"{self.tables[-1][-1][-1]} {data}".split())

    def row(self, name: str, column: str) -> dict[str, str]:
        """The row of that name, by the headings of its table, which has that column."""
        for table in self.tables:
            if table and column in table[0]:
                return next(dict(zip(table[0], row, strict=True)) for row in table[1:] if row[0] == name)
        raise AssertionError(f"no table has the column '{column}'")


def strings(value: Any) -> list[str]:
    """Every text in a JSON value."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []
