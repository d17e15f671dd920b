"""What a recipe or run would build and cost, without training it."""

from __future__ import annotations

from typing import Any

from evospike.core.errors import DataError
from evospike.core.progress import tell
from evospike.core.threads import resolved_threads
from evospike.data.known import known_facts
from evospike.data.locate import data_folder, filled_folder
from evospike.data.settings import SIMULATED, DataSettings
from evospike.data.task import load_task
from evospike.genetic.encode import encoded_parameters
from evospike.jobs.architecture import spec_for
from evospike.jobs.plan import (
    check_structure,
    estimated_bytes,
    estimated_seconds,
    resolve_device,
    synapse_quotas,
    tell_of_fed,
    training_count,
)
from evospike.jobs.recipe import Recipe
from evospike.jobs.results import told_data
from evospike.jobs.spaces import estimate
from evospike.models.counts import count_layers, dense_parameters, macs_per_step, neuron_units
from evospike.models.spec import NetworkSpec
from evospike.sparse.allocation import connection_density

BYTES_PER_CANDIDATE = 20_000
"""Room that a genome of usual size and its score take in the record."""


def spec_of(recipe: Recipe) -> NetworkSpec:
    """The network of a recipe; data sets that are known by name need not be there."""
    shape, classes, _ = _task_facts(recipe.data)
    return spec_for(recipe.model, shape, classes, events=recipe.data.records_events)


def inspect_recipe(recipe: Recipe) -> dict[str, Any]:
    """Parameters, density and layers of a recipe's network: the document of `evospike inspect`.

    prunable: numbers that may be missing, of what `sparse.on` says; density: the share of them that exists at any time.
    connection_density: with layers weighted by their multiply-accumulates; None where encodings are masked, as it
    follows from their values.
    """
    spec = spec_of(recipe)
    quotas = synapse_quotas(recipe, spec)
    tell_of_fed(recipe, quotas)
    densities = {name: quota.count / quota.weights for name, quota in quotas.items()}
    prunable = sum(quota.weights for quota in quotas.values())
    macs = {count.name: count.macs for count in count_layers(spec) if count.macs}
    encoded = encoded_parameters(spec, recipe.encoding)
    kinds = {layer.name: layer for layer in encoded.layers}
    layers = []
    for count in count_layers(spec):
        if count.parameters or count.macs:
            own = kinds.get(count.name)
            layers.append(
                {
                    "name": count.name,
                    "op": count.op,
                    "role": count.role,
                    "encoding": own.kind if own else "dense",
                    "parameters": own.parameters if own else count.parameters,
                    "dense_parameters": count.parameters,
                    "density": densities.get(count.name),
                    "macs_per_step": count.macs,
                    "output_shape": list(count.output_shape),
                }
            )
    dense = dense_parameters(spec)
    return {
        "name": recipe.name,
        "data": told_data(recipe, None),
        "network": spec.name,
        "digest": spec.digest(),
        "input_shape": list(spec.input_shape),
        "classes": spec.classes,
        "steps": recipe.model.steps,
        "parameters": encoded.total,
        "dense_parameters": dense,
        "encoding_parameters": encoded.encodings,
        "gene_parameters": encoded.genes,
        "prunable": prunable,
        "density": sum(quota.count for quota in quotas.values()) / prunable,
        "connection_density": connection_density(densities, macs) if recipe.sparse.on == "weights" else None,
        "macs_per_step": macs_per_step(spec),
        "neurons": neuron_units(spec),
        "layers": layers,
    }


def dry_run(recipe: Recipe, verb: str) -> dict[str, Any]:
    """The plan of a run with estimates of time, memory and disk, nothing written and nothing trained."""
    recipe.check_for(verb)
    _tell_of_missing(recipe.data)
    if verb in ("search", "rank"):
        return _dry_search(recipe, verb)
    spec = spec_of(recipe)
    _, _, samples = _task_facts(recipe.data)
    check_structure(recipe, spec, samples, evolves=verb == "evolve")
    device = resolve_device(recipe.run.device)
    threads = resolved_threads(recipe.run.threads)
    evolves = verb == "evolve"
    seconds = estimated_seconds(recipe, spec, samples, device, threads, evolves=evolves)
    memory, disk = estimated_bytes(recipe, spec)
    candidate_epochs, final_epochs = training_count(recipe, evolves=evolves)
    return {
        "verb": verb,
        "recipe": recipe.name,
        "data": told_data(recipe, None),
        "network": spec.name,
        "parameters": encoded_parameters(spec, recipe.encoding).total,
        "training_samples": samples,
        "candidate_epochs": candidate_epochs,
        "final_epochs": final_epochs,
        "device": device,
        "threads": threads,
        "workers": recipe.run.workers,
        "estimated_seconds": round(seconds / recipe.run.workers),
        "estimated_memory_bytes": memory * recipe.run.workers,
        "estimated_disk_bytes": disk,
    }


def _dry_search(recipe: Recipe, verb: str) -> dict[str, Any]:
    shape, classes, samples = _task_facts(recipe.data)
    expected = estimate(recipe, shape, classes, samples, ranking=verb == "rank")
    return {
        "verb": verb,
        "recipe": recipe.name,
        "data": told_data(recipe, None),
        "training_samples": samples,
        "candidates": expected.candidates,
        "device": resolve_device(recipe.run.device),
        "threads": resolved_threads(recipe.run.threads),
        "workers": recipe.run.workers,
        "estimated_seconds": round(expected.seconds / recipe.run.workers),
        "estimated_memory_bytes": expected.memory * recipe.run.workers,
        "estimated_disk_bytes": expected.candidates * BYTES_PER_CANDIDATE,
    }


def _tell_of_missing(data: DataSettings) -> None:
    """Say that a named set, which can be planned for without it, is not there."""
    name = SIMULATED.get(data.source, data.source)
    if known_facts(data) is None or name == "digits":
        return
    try:
        filled_folder(data_folder(data.folder) / name)
    except DataError as error:
        tell(f"planned from what is known of '{data.source}', which is not there: {error}")


def _task_facts(data: DataSettings) -> tuple[tuple[int, int, int], int, int]:
    """Shape the network sees, classes, training samples: from what is known of named sets, else by loading."""
    known = known_facts(data)
    if known is not None:
        pool = min(data.train_limit or known.train, known.train)
        return known.shape, known.classes, pool - round(pool * data.validation)
    task = load_task(data, 0)
    return task.shape, len(task.classes), len(task.train)
