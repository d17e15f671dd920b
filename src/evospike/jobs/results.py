"""The result of a run: what it is called in JSON, and how arms compare over paired seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from evospike.core.files import digest_json
from evospike.core.statistics import deviation, half_interval, significant
from evospike.data.known import KNOWN
from evospike.data.settings import SIMULATED
from evospike.evolution.failures import failures_in_words
from evospike.jobs.folder import RESULT, RunFolder, reading
from evospike.jobs.recipe import Recipe
from evospike.training.history import without_times

if TYPE_CHECKING:  # a report reads results without torch
    from evospike.data.task import Task


def summarise(
    run: RunFolder, recipe: Recipe, finals: Sequence[Mapping[str, Any]], study: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The document that evolve, train and resume print, but for its time. The first arm is the run's own network.

    `test_accuracy`, `firing_rate`: means over seeds, of the first arm; `test_accuracy_std`, `interval`: the sample
    standard deviation of the accuracy and half the 95 % interval of its mean, None with one seed; `seeds`: each of its
    trainings. `density`: share of the prunable numbers that exist (1 without structure learning). `digest`: of history
    and final weights, without times, paths and workers. `processes`: how many trained a network together, each number
    that occurred.
    """
    arms = [_arm(name, finals) for name in recipe.final.arms]
    first = arms[0]
    document = {
        "run": str(run.path),
        "recipe": recipe.name,
        "test_accuracy": first["test_accuracy"],
        "test_accuracy_std": first["std"],
        "interval": first["interval"],
        "parameters": first["parameters"],
        "dense_parameters": first["dense_parameters"],
        "density": first["density"],
        "firing_rate": first["firing_rate"],
        "digest": _digest(finals, study),
        "processes": sorted({count for final in finals for count in final.get("processes", [1])}),
        "seeds": [_seed(final) for final in finals if final["arm"] == first["arm"]],
        "arms": [{**arm, **_against(arm, first)} for arm in arms],
    }
    if study is not None:
        document["winner"] = study["winner"]
        document["failures"] = study["failures"]
    return document


def _arm(name: str, finals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    own = [final for final in finals if final["arm"] == name]
    accuracies = [final["test_accuracy"] for final in own]
    return {
        "arm": name,
        "test_accuracy": mean(accuracies),
        "std": deviation(accuracies),
        "interval": half_interval(accuracies),
        "seeds": accuracies,
        "firing_rate": mean(final["firing_rate"] for final in own),
        "parameters": own[0]["parameters"],
        "dense_parameters": own[0]["dense_parameters"],
        "density": own[0]["density"],
        "synapse_density": own[0]["synapse_density"],
        "connection_density": mean(final["connection_density"] for final in own),
        "active_parameters": own[0]["active_parameters"],
        "seconds": round(mean(final["seconds"] for final in own), 1),
    }


def _seed(final: Mapping[str, Any]) -> dict[str, Any]:
    """One training of the first arm."""
    return {
        "seed": final["repeat"],
        "test_accuracy": final["test_accuracy"],
        "test_loss": final["test_loss"],
        "firing_rate": final["firing_rate"],
        "connection_density": final["connection_density"],
        "seconds": round(final["seconds"], 1),
        "weights": final["weights"],
    }


def _against(arm: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """Difference to the first arm on the same seeds: mean, and half its 95 % interval."""
    if arm is first:
        return {}
    differences = [a - b for a, b in zip(arm["seeds"], first["seeds"], strict=True)]
    return {"difference": mean(differences), "difference_interval": half_interval(differences)}


def _digest(finals: Sequence[Mapping[str, Any]], study: Mapping[str, Any] | None) -> str:
    trainings = [
        {
            "arm": final["arm"],
            "repeat": final["repeat"],
            "history": without_times(final["history"]),
            "weights": final["weights"],
        }
        for final in finals
    ]
    return digest_json([trainings, None if study is None else study["history_digest"]])


def data_facts(task: Task) -> dict[str, Any]:
    """What the numbers of a result were measured on; `split` says what training and test split are."""
    return {"name": task.name, "split": task.split, "simulated": task.simulated, "notes": list(task.notes)}


def told_data(recipe: Recipe, result: Mapping[str, Any] | None) -> dict[str, Any]:
    """Name, split and whether simulated, of the data of a run: as its result says where there is one that does, else
    as is known of the source; the split is empty where the data alone can tell."""
    told = (result or {}).get("data") or {}
    source = recipe.data.source
    known = KNOWN.get(source)
    return {
        "name": str(told.get("name", recipe.data.title)),
        "split": str(told.get("split", known.split if known else "")),
        "simulated": bool(told.get("simulated", source in SIMULATED)),
    }


def identity(differences: Sequence[object], processes: Sequence[int] = (1,)) -> dict[str, Any]:
    """Whether all of a run was computed on machines of one kind, each training by one process, and what was different
    between machines where it was not."""
    alone = list(processes) == [1]
    return {"bit_identical": alone and not differences, "node_differences": [str(one) for one in differences]}


def identity_line(document: Mapping[str, Any]) -> str:
    """Text about a run that was computed on machines of several kinds or trained by several processes; empty for any
    other."""
    lines = []
    if found := document.get("node_differences"):
        lines.append(f"not bit-identical, computed on machines that differ: {'; '.join(found)}")
    if (processes := document.get("processes", [1])) != [1]:
        counts = " and ".join(map(str, processes))
        lines.append(f"not bit-identical to a run in one process, trained by {counts} processes together")
    return "\n".join(lines)


def replay_line(document: Mapping[str, Any]) -> str:
    """Whether a replay came out as the run that it made again; empty for any other run."""
    with reading(RESULT, "delete it, finish the run and resume it"):
        replay = document.get("replay")
        if replay is None:
            return ""
        if replay["same"] is None:
            return f"{replay['of']} was not finished: nothing to compare with"
        if replay["same"]:
            return f"same digest as {replay['of']}: {replay['digest']}"
        known = "; ".join(replay["differences"]) or "nothing"
        both = f"{replay['digest']}, here {document['digest']}"
        return f"digest differs from {replay['of']}: {both}; known to differ: {known}"


def data_line(document: Mapping[str, Any]) -> str:
    """What a result was measured on, as a line of text; empty for a document that does not say."""
    facts = document.get("data")
    return "" if facts is None else f"data: {data_in_words(facts)}"


def data_in_words(facts: Mapping[str, Any]) -> str:
    """A data set with its split, where that is known, and whether it is simulated. facts: as of `told_data`."""
    simulated = " (simulated recordings)" if facts["simulated"] else ""
    return f"{facts['name']}{simulated}" + (f", split: {facts['split']}" if facts["split"] else "")


def describe(document: Mapping[str, Any]) -> str:
    """A result document as text, whichever verb it is of. Raises: RunError for one of another form."""
    with reading("the result", "delete result.json of the run and resume it"):
        lines = (data_line(document), identity_line(document), _described(document), _unusable(document))
        return "\n".join(line for line in lines if line)


def _unusable(document: Mapping[str, Any]) -> str:
    """What became of candidates without a usable score; documents of earlier releases do not say."""
    failures = document.get("failures")
    return f"scores that are not usable: {failures_in_words(failures)}" if failures else ""


def _described(document: Mapping[str, Any]) -> str:
    if "arms" in document:
        tail = f"test accuracy {document['test_accuracy']:.2%}, run {document['run']}, digest {document['digest']}"
        return f"{table(document)}\n\n{tail}"
    if "scores" in document:
        return f"{_ranking(document)}\n\nrun {document['run']}, digest {document['digest']}"
    return (
        f"{_cells(document['winner']['genome'])}\n{_search(document)}\n\n"
        f"run {document['run']}, digest {document['digest']}\ntrain it: evospike train RECIPE --model {document['run']}"
    )


def _search(document: Mapping[str, Any]) -> str:
    """What a search found beside the cells of its winner; of several searches a row each, and their mean."""
    seeds, per_second = document.get("seeds", ()), document["candidates_per_second"]
    if len(seeds) < 2:
        return (
            f"score {document['score']:.6g}, {document['parameters']:,} parameters, {document['operations']:,} "
            f"operations, {_scored(document)}, {per_second} scores a second{_trained_at(document)}"
        )
    mean_score = f"{document['score']:.6g} ± {document['interval']:.3g}"
    lines = [f"\n{'seed':<4} {'score':>20} {'parameters':>12} {'operations':>16}  scored"]
    for seed in seeds:
        row = f"{seed['seed']:<4} {seed['score']:>20.6g} {seed['parameters']:>12,} {seed['operations']:>16,}"
        shown = "; the cells above" if seed["seed"] == document["winner_seed"] else ""
        lines.append(f"{row}  {_scored(seed)}{shown}")
    lines.append(f"mean {mean_score:>20} {document['parameters']:>12,.0f} {document['operations']:>16,.0f}")
    tail = f"{per_second} scores a second; the mean with half its 95 % interval over seeds{_trained_at(document)}"
    return "\n".join([*lines, tail])


def _trained_at(document: Mapping[str, Any]) -> str:
    """The density of candidates that were sparse when they were trained."""
    density = document.get("density", 1.0)
    return f"; trained with {density:.3g} of the synapses" if density < 1 else ""


def _scored(found: Mapping[str, Any]) -> str:
    """What a search gave scores to; documents of earlier releases do not say how often its best were drawn again."""
    again = f", further draws of the best: {found['draws']:,}" if "draws" in found else ""
    return f"{found['candidates']:,} candidates{again}"


def _cells(genome: Mapping[str, Any]) -> str:
    """One line per cell: its motif and the operations of its connections."""
    return "\n".join(
        f"cell {i}: {cell['motif']:<10} {' '.join(link['operation'] for link in cell['links'])}".rstrip()
        for i, cell in enumerate(genome["cells"])
    )


def _ranking(document: Mapping[str, Any]) -> str:
    """Kendall's tau of every score as lines of text."""
    lines = [f"{'score':<30} {'tau':>7} {'95 % interval':>18}"]
    for row in document["scores"]:
        low, high = row["interval"]
        lines.append(f"{row['score']:<30} {row['tau']:>+7.3f} {f'{low:+.3f} .. {high:+.3f}':>18}")
    seen = document["accuracy"]
    lines.append(
        f"{document['architectures']} architectures, accuracy after a short training "
        f"{seen['least']:.2%} to {seen['most']:.2%}"
    )
    return "\n".join(lines)


def table(document: Mapping[str, Any]) -> str:
    """The arms of a result as lines of text; density and present parameters only where synapses are missing."""
    arms = document["arms"]
    sparse = any(arm["density"] < 1 for arm in arms)
    head = f"{'network':<10} {'test accuracy':>20} {'parameters':>12} {'of dense':>9}"
    head += f" {'density':>8} {'present':>12}" if sparse else ""
    lines = [f"{head} {'firing rate':>12} {'seconds':>8}"]
    for arm in arms:
        share = arm["parameters"] / arm["dense_parameters"]
        row = f"{arm['arm']:<10} {_percent(arm['test_accuracy'], arm['interval']):>20} {arm['parameters']:>12,}"
        row += f" {share:>9.1%}"
        row += f" {arm['density']:>8.1%} {arm['active_parameters']:>12,}" if sparse else ""
        lines.append(f"{row} {arm['firing_rate']:>12.3f} {arm['seconds']:>8.1f}")
    for arm in arms[1:]:
        name, first = arm["arm"], arms[0]["arm"]
        change = _points(arm["difference"], arm["difference_interval"], len(arm["seeds"]))
        lines.append(f"{name} minus {first}, paired: {change}")
    return "\n".join(lines)


def _percent(value: float, interval: float | None) -> str:
    return f"{value:.2%}" if interval is None else f"{100 * value:.2f} ± {100 * interval:.2f} %"


def _points(value: float, interval: float | None, seeds: int) -> str:
    if interval is None:
        return f"{100 * value:+.2f} points (one seed)"
    verdict = "" if significant(value, interval, seeds) else " (not significant)"
    return f"{100 * value:+.2f} ± {100 * interval:.2f} points{verdict}"
