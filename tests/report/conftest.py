"""Run folders as a run leaves them, made in a moment: a real store filled by a real study, results made up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evospike.evolution.records import Genotype, Request, Score
from evospike.evolution.store import Store
from evospike.evolution.study import SearchSpace, Study, StudyResult
from evospike.jobs.folder import RunFolder, open_run, write_record
from evospike.jobs.recipe import Recipe, read_recipe
from evospike.jobs.results import summarise
from evospike.models.presets import make_spec
from evospike.search.genome import Cell, Link
from evospike.search.motif import Motif
from evospike.search.space import Space

HOSTILE = "<script>alert(1)</script>"
ATTRIBUTE = "\"'><img src=x onerror=alert(2)>"
GLOBAL = ("log10 spread of encoding", "log10 spread of genes")
ACCURACIES = {
    "genetic": (0.90, 0.92, 0.91),
    "dense": (0.95, 0.97, 0.96),
    "random": (0.90, 0.93, 0.90),
    "sparse": (0.94, 0.95, 0.96),
    "static": (0.93, 0.94, 0.92),
    "one-shot": (0.50, 0.60, 0.40),
}
SPARSE = ['encoding.kind="dense"', "sparse.density=0.1", 'final.arms=["sparse","dense","static","one-shot"]']
"""What makes the run one of sparse networks beside their controls."""


class Stopped(BaseException):
    """Ends a study in the middle."""


def judge(request: Request) -> Score:
    """A smooth bowl; the third candidate of a generation is silent for a reason that holds markup."""
    if request.kind == "candidate" and request.index == 2:
        return Score("silent", f"layer '{HOSTILE}' hardly fires")
    x, y = request.genotype.values[0], request.genotype.values[-1]
    noise = 0.001 * float(request.draw_key[1]) if request.kind == "finalist" else 0.0
    loss = 1.0 + (x + 1.5) ** 2 + (y + 0.5) ** 2
    terms = {"loss": loss, "validation_loss": loss + noise, "temporal": -x, "entropy": y, "firing_rate": 0.2}
    return Score("ok", terms=terms)


class MadeRun:
    """A run folder and what it was made from."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self.recipe = path, recipe
        self.study: StudyResult | None = None

    @property
    def folder(self) -> RunFolder:
        return open_run(self.path)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., MadeRun]:
    """Make a run folder.

    scores: how many scores the study records before it stops, None for all. finals: how many final trainings are
    there, None for all; with all of them the run has its result. masked: how many layers of a sparse network lack
    synapses. data: what the result says of the data, None for nothing.
    """

    def make(
        verb: str = "evolve",
        *,
        overrides: Sequence[str] = (),
        hostile: bool = False,
        plan: bool = True,
        scores: int | None = None,
        finals: int | None = None,
        names: tuple[str, ...] = GLOBAL,
        masked: int = 2,
        data: dict[str, Any] | None = None,
    ) -> MadeRun:
        recipe = read_recipe(
            "digits",
            [
                "evolution.generations=3",
                "evolution.proxy_epochs=1",
                "training.epochs=3",
                'final.arms=["genetic","dense","random"]',
                "final.seeds=3",
                *overrides,
            ],
        )
        if hostile:
            recipe = dataclasses.replace(
                recipe,
                name=HOSTILE,
                about=ATTRIBUTE,
                data=dataclasses.replace(recipe.data, folder=HOSTILE + ATTRIBUTE),
            )
        run = MadeRun(tmp_path / "run", recipe)
        name = HOSTILE if hostile else ""
        write_record(run.path / "run.json", _record(verb, recipe, name))
        if plan:
            write_record(run.path / "plan.json", _plan(recipe, name))
        if verb == "evolve" and plan:
            run.study = _evolve(run, names, scores)
        if finals is None or finals > 0:
            _train(run, finals, name, masked, data)
        return run

    return make


def _record(verb: str, recipe: Recipe, name: str) -> dict[str, Any]:
    return {
        "format": 1,
        "verb": verb,
        "recipe": recipe.to_plain(),
        "command": [verb, f"digits{name}", "-o", "somewhere", "--seeds", "3", "--output=elsewhere"],
        "created": f"2026-01-02T03:04:05+0000{name}",
        "evospike": "0.1.0",
        "commit": f"abc123+{name}",
        "python": "3.11.7",
        "platform": f"Linux{name}",
    }


def _plan(recipe: Recipe, name: str) -> dict[str, Any]:
    return {
        "device": f"cpu{name}",
        "threads": 7,
        "path": "fused",
        "contractions": {"conv2.conv": "materialise", "conv3.conv": "two_stage", "conv4.conv": "two_stage"},
        "spec": make_spec(recipe.model, (1, 8, 8), 10).to_json().replace("small8", json.dumps(name or "small8")[1:-1]),
        "data": {"train": "0" * 32, f"validation{name}": "1" * 32},
        "versions": {"torch": f"2.13.0{name}", "cpu": "AVX512"},
        "seconds": 2.0,
    }


def _evolve(run: MadeRun, names: tuple[str, ...], scores: int | None) -> StudyResult | None:
    left = scores

    def evaluate(requests: Sequence[Request]) -> Iterator[tuple[Request, Score, int]]:
        nonlocal left
        for request in requests:
            if left == 0:
                raise Stopped
            left = None if left is None else left - 1
            yield request, judge(request), 1

    settings = run.recipe.evolution
    with Store.open_or_create(run.path / "study.sqlite") as store:
        try:
            return Study(store, settings, 0, SearchSpace.of(names, settings), evaluate).run()
        except Stopped:
            return None


def _train(run: MadeRun, count: int | None, name: str, masked: int, data: dict[str, Any] | None) -> None:
    final = run.recipe.final
    results = [_final(run.recipe, arm, repeat, name, masked) for arm in final.arms for repeat in range(final.seeds)]
    for result in results[:count]:
        folder = run.path / "final" / f"{result['arm'].removesuffix(name)}-{result['repeat']}"
        write_record(folder / "result.json", result)
        if result["structure"]:
            write_record(folder / "connectivity.json", {"layers": _pictures(result)})
    if count is None:
        study = None
        if run.study is not None:
            winner = {"genotype": run.study.genotype.as_mapping()}
            study = {"winner": winner, "failures": {"silent": 1}, "history_digest": "2" * 32}
        named = [{**result, "arm": result["arm"].removesuffix(name)} for result in results]
        document = {**summarise(RunFolder(run.path, {}), run.recipe, named, study), "wall_seconds": 754.0}
        if data is not None:
            document["data"] = data
        if name:
            document["arms"] = [{**arm, "arm": arm["arm"] + name} for arm in document["arms"]]
        write_record(run.path / "result.json", document)


def _final(recipe: Recipe, arm: str, repeat: int, name: str, masked: int) -> dict[str, Any]:
    accuracy = ACCURACIES[arm][repeat]
    sparse = recipe.sparse.active and arm != "dense"
    history = [
        {
            "epoch": float(epoch),
            "loss": 2.0 / (epoch + 1) + 0.01 * repeat,
            "rate": 0.01,
            "validation_accuracy": accuracy - 0.1 / (epoch + 1),
            "validation_loss": 1.0,
            "seconds": 1.0,
            **(_changes(arm, repeat, epoch) if sparse else {}),
        }
        for epoch in range(recipe.training.epochs)
    ]
    stored = recipe.encoding.kind == "dense" or arm == "dense"
    return {
        "arm": arm + name,
        "repeat": repeat,
        "test_accuracy": accuracy,
        "test_loss": 0.3,
        "test_samples": 359,
        "firing_rate": 0.2 + 0.01 * repeat,
        "layer_rates": {f"conv1.neuron{name}": 0.1, "conv2.neuron": 0.3},
        "parameters": 65834 if stored else 27962,
        "dense_parameters": 65834,
        "density": 0.1 if sparse else 1.0,
        "synapse_density": 0.1 if sparse else 1.0,
        "connection_density": 0.12 + 0.01 * repeat if sparse else 1.0,
        "active_parameters": 6938 if sparse else 65834,
        "structure": _structure(repeat, name, masked) if sparse else None,
        "history": history,
        "seconds": 12.0,
        "weights": "3" * 32,
    }


def _changes(arm: str, repeat: int, epoch: int) -> dict[str, float]:
    """What a structure learner says of an epoch; only the arm `sparse` rewires."""
    rewired = 100.0 * (3 - epoch) + repeat if arm == "sparse" else 0.0
    explored = {"sparse": 0.1 * (epoch + 2), "one-shot": 1.0}.get(arm, 0.1)
    return {"density": 0.1, "exploration": explored, "born": rewired, "lost": rewired}


def _structure(repeat: int, name: str, masked: int) -> list[dict[str, Any]]:
    """A first layer that is whole, and layers of 40 outputs, 3 inputs and 9 taps."""
    whole = {"name": f"conv1.conv{name}", "weights": 288, "active": 288, "macs": 18432, "unfed": 0, "density": 1.0}
    weights = 40 * 3 * 9
    return [whole] + [
        {
            "name": f"conv{k + 2}.conv{name}",
            "weights": weights,
            "active": 100 + k,
            "macs": 1000,
            "unfed": repeat,
            "density": (100 + k) / weights,
        }
        for k in range(masked)
    ]


def _pictures(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Shares of nine taps at random, in 32 rows of 40 outputs; nothing comes from the last input."""
    rng = np.random.default_rng(result["repeat"])
    pictures = []
    for layer in result["structure"][1:]:
        share = np.round(rng.binomial(9, 0.2, (32, 3)) / 9, 3)
        share[:, 2] = 0.0
        pictures.append({"name": layer["name"], "outputs": 40, "inputs": 3, "share": share.tolist()})
    return pictures


SEARCH = [
    "search.population=6",
    "search.offspring=6",
    "search.generations=3",
    "search.finalists=2",
    "search.finalist_seeds=2",
    "space.cells=5",
]
SCORES = ("hamming", "parameters", "cosine, depth", "random")


def judge_genome(request: Request) -> Score:
    """Terms from the genes alone; the third candidate of a generation is silent, the fifth measures nothing."""
    genes = [int(value) for value in request.genotype.values]
    if request.kind == "candidate" and request.index == 4:
        return Score("diverged", f"loss of '{HOSTILE}' is not finite")
    shift = float(request.draw_key[1]) if request.kind == "finalist" else 0.0
    terms = {
        "score": 1000.0 + 10 * sum(genes[: len(genes) // 2]) + shift,
        "parameters": 5000.0 + 100 * sum(genes),
        "operations": 70000.0 + 10 * sum(genes),
        "firing_rate": 0.25,
        "spikes": 300.0,
        "energy": 2.0e6 + genes[0],
    }
    status = "silent" if request.kind == "candidate" and request.index == 2 else "ok"
    return Score(status, f"'{HOSTILE}' hardly fires" if status == "silent" else "", terms)


def _random_genotypes(recipe: Recipe, generation: int, count: int) -> tuple[Genotype, ...]:
    space = Space(recipe.space)
    rng = np.random.default_rng(generation)
    upper = np.array(space.upper) + 1
    return tuple(Genotype(space.names, tuple(rng.integers(0, upper))) for _ in range(count))


def _hostile(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, name=HOSTILE, about=ATTRIBUTE)


def _begin(path: Path, verb: str, recipe: Recipe, *, plan: bool) -> None:
    write_record(path / "run.json", _record(verb, recipe, ""))
    if plan:
        write_record(path / "plan.json", {**_plan(recipe, ""), "spec": "", "contractions": {}})


@pytest.fixture
def make_sparse(make_run: Callable[..., MadeRun]) -> Callable[..., MadeRun]:
    """Make the folder of a training of sparse networks beside their controls; takes what `make_run` takes."""

    def make(*, overrides: Sequence[str] = (), **parts: Any) -> MadeRun:
        return make_run("train", overrides=[*SPARSE, *overrides], **parts)

    return make


@pytest.fixture
def make_search(tmp_path: Path) -> Callable[..., MadeRun]:
    """Make the folder of a search; scores: how many candidates are scored, None for all and the result."""

    def make(
        *, overrides: Sequence[str] = (), hostile: bool = False, plan: bool = True, scores: int | None = None
    ) -> MadeRun:
        recipe = read_recipe("digits-search", [*SEARCH, *overrides])
        run = MadeRun(tmp_path / "run", _hostile(recipe) if hostile else recipe)
        _begin(run.path, "search", run.recipe, plan=plan)
        if plan:
            scored = _score_genomes(run, scores)
            if scores is None:
                write_record(run.path / "result.json", _search_result(run.recipe, scored, hostile))
        return run

    return make


def _score_genomes(run: MadeRun, count: int | None) -> list[tuple[Request, Score]]:
    """Fill the store, and name the best candidate the winner when nothing is left to do."""
    settings, scored = run.recipe.search, []
    with Store.open_or_create(run.path / "study.sqlite") as store:
        for generation in range(settings.generations):
            if len(scored) == count:
                return scored
            genotypes = _random_genotypes(run.recipe, generation, settings.population)
            store.record_generation(generation, genotypes)
            for index, genotype in enumerate(genotypes):
                if len(scored) == count:
                    return scored
                request = Request("candidate", generation, index, genotype, ("search",))
                scored.append((request, judge_genome(request)))
                store.record_score(*scored[-1])
        if count is None:
            best = _best(scored)
            finalist = Request("finalist", settings.generations - 1, 0, best.genotype, ("finalist", 0))
            store.record_score(finalist, judge_genome(finalist))
            winner = {"generation": best.generation, "candidate": best.index, "genotype": best.genotype.to_json()}
            store.record_value("winner", winner)
    return scored


def _best(scored: Sequence[tuple[Request, Score]]) -> Request:
    usable = [(request, score) for request, score in scored if score.ok]
    return max(usable, key=lambda pair: (pair[1].terms["score"], -pair[1].terms["parameters"]))[0]


def _search_result(recipe: Recipe, scored: Sequence[tuple[Request, Score]], hostile: bool) -> dict[str, Any]:
    best = _best(scored)
    genome = Space(recipe.space).genome([int(value) for value in best.genotype.values])
    if hostile:
        motif = Motif(HOSTILE, ATTRIBUTE, (genome.reach,), ("E1",), ("a1 -> E1 +",))
        genome = dataclasses.replace(genome, cells=(Cell(HOSTILE, (Link("conv5"),)),), motifs=(motif,))
    terms = dict(judge_genome(best).terms)
    plain = json.loads(genome.to_json())
    return {
        "run": "run",
        "score": terms["score"] + 0.5,
        "parameters": int(terms["parameters"]),
        "operations": int(terms["operations"]),
        "candidates": len(scored),
        "candidates_per_second": 12.34,
        "winner": {"genome": plain, "network": "4" * 32, "terms": terms},
        "front": [{"genome": plain, "terms": terms}],
        "digest": "5" * 32,
        "wall_seconds": 61.0,
    }


@pytest.fixture
def make_ranking(tmp_path: Path) -> Callable[..., MadeRun]:
    """Make the folder of a ranking; scores: how many architectures are scored, None for all and the result."""

    def make(
        *, overrides: Sequence[str] = (), hostile: bool = False, plan: bool = True, scores: int | None = None
    ) -> MadeRun:
        recipe = read_recipe("digits-search", ["rank.genomes=6", *overrides])
        run = MadeRun(tmp_path / "run", _hostile(recipe) if hostile else recipe)
        _begin(run.path, "rank", run.recipe, plan=plan)
        if plan and scores != 0:
            _rank_genomes(run, 6 if scores is None else scores, HOSTILE if hostile else "")
        if plan and scores is None:
            write_record(run.path / "result.json", _rank_result(HOSTILE if hostile else ""))
        return run

    return make


def _rank_genomes(run: MadeRun, count: int, name: str) -> None:
    genotypes = _random_genotypes(run.recipe, 0, 6)
    with Store.open_or_create(run.path / "study.sqlite") as store:
        store.record_generation(0, genotypes)
        for index, genotype in enumerate(genotypes[:count]):
            terms = {score + name: float(k + index) for k, score in enumerate(SCORES)}
            terms |= {"accuracy": 0.5 + 0.05 * index, "validation_loss": 1.0, "loss": 1.0}
            score = Score("silent", f"'{HOSTILE}' hardly fires", terms) if index == 1 else Score("ok", terms=terms)
            store.record_score(Request("candidate", 0, index, genotype, ("rank",)), score)


def _rank_result(name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for k, score in enumerate(SCORES):
        tau = 0.6 - 0.25 * k
        row: dict[str, Any] = {"score": score + name, "tau": tau, "interval": [tau - 0.2, tau + 0.1]}
        if score not in ("parameters", "random"):
            row["against"] = {
                "parameters" + name: {"difference": tau - 0.35, "interval": [tau - 0.5, tau - 0.1]},
                "random" + name: {"difference": tau + 0.15, "interval": [tau - 0.4, tau + 0.3]},
            }
        rows.append(row)
    return {
        "run": "run",
        "architectures": 5,
        "unusable": 1,
        "accuracy": {"least": 0.5, "mean": 0.65, "most": 0.75},
        "scores": rows,
        "digest": "6" * 32,
        "wall_seconds": 61.0,
    }


@pytest.fixture
def make_evaluated(make_run: Callable[..., MadeRun]) -> Callable[..., MadeRun]:
    """Make the folder of a training whose networks were evaluated.

    arms: those evaluated. robustness: protocol, full or none. classes: how many. digest: of the weights evaluated,
    None for the run's own. names: whether layers, classes, models and changes have names that hold markup.
    """

    def make(
        *,
        arms: Sequence[str] = ("genetic",),
        robustness: str = "protocol",
        classes: int = 10,
        digest: str | None = None,
        hostile: bool = False,
        **parts: Any,
    ) -> MadeRun:
        run = make_run("train", hostile=hostile, **parts)
        name = HOSTILE if hostile else ""
        seeds = run.recipe.final.seeds
        documents = [_evaluated_arm(arm, place, seeds, robustness, classes, name) for place, arm in enumerate(arms)]
        own = str((run.folder.read("result.json") or {}).get("digest"))
        document = {
            "run": str(run.path),
            "recipe": run.recipe.name,
            "verb": "train",
            "data": {"name": "digits", "split": "stratified", "simulated": False, "notes": []},
            **documents[0],
            "arms": documents,
            "classes": [f"{k}{name}" for k in range(classes)],
            "wall_seconds": 12.5,
            "digest": digest or own,
        }
        run.folder.write("evaluation.json", document)
        return run

    return make


def _evaluated_arm(arm: str, place: int, seeds: int, robustness: str, classes: int, name: str) -> dict[str, Any]:
    """The document of one arm; every number depends on its place, so that no two arms are alike."""
    grown, steps = 1.0 + 0.25 * place, 4
    accuracies = ACCURACIES[arm][:seeds]
    accuracy = float(np.mean(accuracies))
    energy = _energies(grown, name)
    found = {
        "arm": arm + name,
        "samples": 359,
        "steps": steps,
        "test_accuracy": accuracy,
        "test_accuracy_std": 0.01 if seeds > 1 else None,
        "test_accuracy_interval": 0.0248 if seeds > 1 else None,
        "top5_accuracy": 0.99,
        "test_loss": 0.31 * grown,
        "parameters": 27962 + place,
        "dense_parameters": 65834,
        "encoding_parameters": 20000 + place,
        "gene_parameters": 400,
        "stored_parameters": 7562,
        "active_parameters": 27000 + place,
        "density": 0.5 * grown,
        "synapse_density": 0.41 * grown,
        "connection_density": 0.43 * grown,
        "bytes_on_disk": 123456 + place,
        "bytes_in_memory": 113456.0 + place,
        "dense_bytes_in_memory": 264000,
        "firing_rate": 0.125 * grown,
        "spikes_per_sample": 1234.5 * grown,
        "synaptic_operations": 76543.25 * grown,
        "accumulates": 65432.0 * grown,
        "multiply_accumulates": 11111.25 * grown,
        "membrane_updates": 9876.0,
        "activation_sparsity": 0.875,
        "connection_sparsity": 0.5625,
        "dead_units": 0.0625,
        "saturated_units": 0.03125,
        "accuracy_by_step": [accuracy - 0.1 * (steps - 1 - t) for t in range(steps)],
        "confusion": [[9 + place if k == j else int((k + j) % 3 == 1) for j in range(classes)] for k in range(classes)],
        "energy": energy,
        "break_even": {
            f"45nm{name}": {
                "firing_rate": 0.3125 * grown,
                "scale": 2.5,
                "quantised_picojoules": 345678.0 * grown,
                "bits": 3,
                "assumptions": f"the quantised network runs once{name}",
            },
            "memory": {
                "firing_rate": None,
                "scale": None,
                "quantised_picojoules": 45678.0 * grown,
                "bits": 3,
                "assumptions": "the same, and words are moved",
            },
        },
        "layers": _costed_layers(grown, name),
        "neurons": _counted_neurons(grown, steps, name),
        "robustness": _robustness_of(accuracy, robustness, place, name),
        "seeds": [
            {
                "seed": seed,
                "test_accuracy": value,
                "top5_accuracy": 0.99,
                "test_loss": 0.3 + 0.01 * seed,
                "firing_rate": 0.12 + 0.01 * seed,
                "spikes_per_sample": 1200.0 + seed,
                "synaptic_operations": 76000.0 + seed,
                "accumulates": 65000.0 + seed,
                "multiply_accumulates": 11000.0 + seed,
                "dead_units": 0.06,
                "saturated_units": 0.03,
                "density": 0.5,
                "connection_density": 0.43,
                "energy": {model: row["picojoules"] + 1000 * seed for model, row in energy.items()},
                "noisy_accuracy": None if robustness == "none" else value - 0.2,
            }
            for seed, value in enumerate(accuracies)
        ],
    }
    return {**found, "difference": _differences(energy, robustness, seeds)} if place else found


def _energies(grown: float, name: str) -> dict[str, Any]:
    parts = {
        f"45nm{name}": {"spikes": 58888.75, f"real inputs{name}": 51111.75},
        "45nm_with_encoding": {"spikes": 58888.75, "real inputs": 51111.75, "forming weights": 234567.0},
        "chip": {"spikes": 2.0e6, "real inputs": 1.5e6},
        "memory": {"arithmetic": 1.2e5, "weights": 9.0e5, "potentials": 8.0e5, "spikes": 1.0e4},
    }
    return {
        model: {
            "picojoules": grown * sum(own.values()),
            "dense_picojoules": 250000.0 if model.startswith("45") else 7.0e6,
            "parts": {part: grown * spent for part, spent in own.items()},
            "assumptions": f"operations at 45 nm, {model}{name}",
            "source": f"Horowitz, ISSCC 2014{name}",
        }
        for model, own in parts.items()
    }


def _costed_layers(grown: float, name: str) -> list[dict[str, Any]]:
    encodings: list[dict[str, Any] | None] = [
        None,
        {"order": "materialise", "forming": 54321, "first_stage": 0.0, "second_stage": 0},
        {"order": "two_stage", "forming": 4321, "first_stage": 3210.5, "second_stage": 210987},
        None,
    ]
    kinds = ("real", "binary", "counts", "binary")
    return [
        {
            "name": f"conv{k + 1}.conv{name}" if k < 3 else "head",
            "op": "conv" if k < 3 else "linear",
            "input_kind": kind,
            "input_rate": 0.125 * (k + 1),
            "input_activity": 0.1 * (k + 1),
            "passes": 1 if k == 0 else 4,
            "dense_macs": 18432 * (k + 1),
            "weights": 2304 * (k + 1),
            "present": 1152 * (k + 1),
            "effective": 4321.5 * (k + 1) * grown,
            "synaptic_operations": (4321.5 + (kind == "counts") * 100) * (k + 1) * grown,
            "density": 0.5,
            "present_macs": 9216.0 * (k + 1),
            "parameters": 1234 * (k + 1),
            "encoding": encoding,
        }
        for k, (kind, encoding) in enumerate(zip(kinds, encodings, strict=True))
    ]


def _counted_neurons(grown: float, steps: int, name: str) -> list[dict[str, Any]]:
    rows = []
    for k, units in enumerate((2048, 1024, 256)):
        by_step = [grown * units * 0.05 * (1 + t + k) for t in range(steps)]
        row = {"name": f"conv{k + 1}.neuron{name}", "units": units, "rate": sum(by_step) / units / steps}
        rows.append({**row, "spikes": sum(by_step), "spikes_by_step": by_step, "dead": 0.1 * k, "saturated": 0.05})
    return rows


def _robustness_of(accuracy: float, kind: str, place: int, name: str) -> dict[str, Any] | None:
    if kind == "none":
        return None
    changes = {
        "noise": ("of the input's norm", (0.0, 0.25, 0.5, 1.0)),
        f"shift{name}": ("pixels", (0.0, 1.0, 2.0)),
        "weight bits": ("bits", (32.0, 8.0, 4.0, 2.0)),
    }
    curves = []
    for change, (unit, strengths) in changes.items() if kind == "full" else ():
        means = [accuracy - (0.15 + 0.05 * place) * k for k in range(len(strengths))]
        spreads = [0.0 if change == "weight bits" else 0.01 * k for k in range(len(strengths))]
        pairs = [[mean - std, mean + std] for mean, std in zip(means, spreads, strict=True)]
        entry = {"name": change, "unit": unit, "strengths": list(strengths), "accuracies": pairs}
        curves.append({**entry, "mean": means, "std": spreads})
    return {
        "kind": kind,
        "samples": 359,
        "noise_seeds": 5,
        "strength": 0.5,
        "noise_space": "normalised",
        "clean": accuracy,
        "noisy": accuracy - 0.2,
        "drop": 0.2,
        "noisy_std": 0.015,
        "noisy_interval": 0.0186,
        "notes": [f"four shifts{name}"],
        "curves": curves,
    }


def _differences(energy: dict[str, Any], robustness: str, seeds: int) -> dict[str, Any]:
    """Of accuracy significant, of spikes not."""
    found = {
        "test_accuracy": (0.05, 0.002),
        "spikes_per_sample": (-12.0, 40.0),
        "synaptic_operations": (19135.75, 1234.0),
        **({} if robustness == "none" else {"noisy_accuracy": (-0.03, 0.01)}),
        **{f"energy.{model}": (0.25 * row["picojoules"], 2000.0) for model, row in energy.items()},
    }
    return {key: {"mean": mean, "interval": half if seeds > 1 else None} for key, (mean, half) in found.items()}
