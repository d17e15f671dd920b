"""One training step of a recipe at its real input size, on random data: does it build, what memory does it take?"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from evospike.core.errors import RunError
from evospike.core.rng import torch_stream
from evospike.core.threads import resolved_threads
from evospike.data.settings import AugmentSettings
from evospike.data.task import ImageSet, Task
from evospike.evolution.executors.local import LocalExecutor
from evospike.genetic.groups import parameter_roles
from evospike.jobs.inspection import spec_of
from evospike.jobs.plan import make_plan
from evospike.jobs.recipe import Recipe, read_recipe
from evospike.jobs.workshop import Workshop, parameter_count, settle_process
from evospike.training.loop import Trainer


def attempt_each(names: Sequence[str], images: int) -> Iterator[dict[str, Any]]:
    """`attempt` for shipped recipes, each in a process of its own, so that its memory is its own.

    Raises: RunError naming the first recipe that fails.
    """
    for name in names:
        threads = resolved_threads(read_recipe(name).run.threads)
        with LocalExecutor(1, threads, "evospike.jobs.attempt:attempt_named", {"images": images}) as executor:
            for _, outcome in executor.run([{"name": name}]):
                if outcome.error is not None:
                    raise RunError(f"recipe '{name}' failed its training step: {outcome.error}")
                yield outcome.value


def attempt_named(payload: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker of `attempt_each` does."""
    return attempt(read_recipe(payload["name"]), context["images"])


def attempt(recipe: Recipe, images: int = 2) -> dict[str, Any]:
    """Build a recipe's network and train it for one step on `images` random samples of its real size.

    memory: largest resident memory of this process so far, in bytes, on CPU; of the allocator on CUDA. Without what
    growth of synapses averages, for one step rewires nothing.
    """
    spec = spec_of(recipe)
    recipe = replace(
        recipe,
        training=replace(recipe.training, epochs=1, batch=images, warmup_epochs=0.0),
        sparse=replace(recipe.sparse, period_epochs=0.0),
        run=replace(recipe.run, path="eager"),
    )
    shop = stand_in_workshop(recipe, images)
    settle_process(shop.plan)
    net = shop.network("genetic", ("attempt",))
    structure = shop.structure(net, recipe.sparse, ("attempt",))
    started = time.monotonic()
    source = shop.source(shop.task.train, ("attempt",))
    history = Trainer(net, source, recipe.training, parameter_roles(net), structure=structure).run()
    return {
        "recipe": recipe.name,
        "input_shape": list(spec.input_shape),
        "images": images,
        "parameters": parameter_count(net),
        "loss": history.epochs[0]["loss"],
        "seconds": round(time.monotonic() - started, 2),
        "memory": _peak_memory(shop.plan.device),
    }


def stand_in_workshop(recipe: Recipe, samples: int) -> Workshop:
    """A recipe on random images or recordings of its size, not augmented and none for validation, in the place of its
    data."""
    spec, frames = spec_of(recipe), recipe.data.events.frames if recipe.data.records_events else 0
    shape = (samples, frames, *spec.input_shape) if frames else (samples, *spec.input_shape)
    most, generator = 4 if frames else 256, torch_stream(recipe.run.seed, "attempt")
    values = torch.randint(0, most, shape, generator=generator, dtype=torch.uint8)
    stand_in = ImageSet.of(values, torch.arange(samples) % spec.classes)
    channels, names = spec.input_shape[0], tuple(str(i) for i in range(spec.classes))
    mean, std = ((0.0,) * channels, (1 / 255,) * channels) if frames else ((0.5,) * channels, (0.25,) * channels)
    task = Task("random samples", names, spec.input_shape, mean, std, stand_in, stand_in, frames=frames)
    data = replace(recipe.data, augment=AugmentSettings(kind="none"))
    recipe = replace(recipe, data=data, training=replace(recipe.training, keep="last"))
    return Workshop(recipe, make_plan(recipe, task, evolves=False), task)


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
