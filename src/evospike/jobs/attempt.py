"""One training step of a recipe at its real input size, on random images: does it build, what memory does it take?"""

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
from evospike.data.settings import AugmentSettings
from evospike.data.task import ImageSet, Task
from evospike.evolution.executors.local import LocalExecutor
from evospike.genetic.groups import parameter_roles
from evospike.jobs.folder import resolved_threads
from evospike.jobs.inspection import spec_of
from evospike.jobs.plan import make_plan
from evospike.jobs.recipe import Recipe, read_recipe
from evospike.jobs.workshop import Workshop, parameter_count
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
    """Build a recipe's network and train it for one step on `images` random images of its real size.

    memory: largest resident memory of this process so far, in bytes, on CPU; of the allocator on CUDA.
    """
    spec = spec_of(recipe)
    pixels = torch.randint(
        0, 256, (images, *spec.input_shape), generator=torch_stream(recipe.run.seed, "attempt"), dtype=torch.uint8
    )
    stand_in = ImageSet.of(pixels, torch.arange(images) % spec.classes)
    channels = spec.input_shape[0]
    names = tuple(str(i) for i in range(spec.classes))
    task = Task("random images", names, spec.input_shape, (0.5,) * channels, (0.25,) * channels, stand_in, stand_in)
    recipe = replace(
        recipe,
        training=replace(recipe.training, epochs=1, batch=images, warmup_epochs=0.0),
        data=replace(recipe.data, augment=AugmentSettings(kind="none")),
        run=replace(recipe.run, path="eager"),
    )
    shop = Workshop(recipe, make_plan(recipe, task, evolves=False), task)
    torch.set_num_threads(shop.plan.threads)
    net = shop.network("genetic", ("attempt",))
    started = time.monotonic()
    history = Trainer(net, shop.source(stand_in, ("attempt",)), recipe.training, parameter_roles(net)).run()
    return {
        "recipe": recipe.name,
        "input_shape": list(spec.input_shape),
        "images": images,
        "parameters": parameter_count(net),
        "loss": history.epochs[0]["loss"],
        "seconds": round(time.monotonic() - started, 2),
        "memory": _peak_memory(shop.plan.device),
    }


def _peak_memory(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
