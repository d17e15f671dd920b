"""Whether a training or a scoring pass fits into memory, asked before any of it is taken."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

import torch

from evospike.core.errors import SettingsError
from evospike.core.limits import MEMORY, memory_limit, require_memory
from evospike.genetic.encode import encoded_parameters
from evospike.jobs.recipe import Recipe
from evospike.measure.sources import moving_nodes
from evospike.models.counts import LayerCount, count_layers
from evospike.models.spec import NetworkSpec
from evospike.search.decode import STEM_FACTOR

_FLOAT = 4


def require_training_memory(recipe: Recipe, spec: NetworkSpec, device: str, *, encoded: bool) -> None:
    """Refuse a training that cannot fit on a device. encoded: whether any network of the run is.

    Raises: SettingsError with the estimate and what is free.
    """
    free = _free_of_cuda(device) if device.startswith("cuda") else memory_limit()
    require_memory(
        least_training_bytes(recipe, spec, device, encoded=encoded),
        f"training '{spec.name}' (batch {recipe.training.batch}, {recipe.model.steps} steps)",
        "lower training.batch or model.steps, or use a smaller network",
        SettingsError,
        free=free,
    )


def least_training_bytes(
    recipe: Recipe, spec: NetworkSpec, device: str = "cpu", *, encoded: bool = True, batch: int = 0
) -> int:
    """What one training takes at least, from static counts; encoded: as the recipe says, otherwise of a dense twin.
    batch: samples of a step; 0: as the recipe says.

    All weights once; gradients and two moments of what is trained; and for every sample what back-propagation cannot do
    without: outputs of weighted layers and of neurons at every step at which they differ. Where activations are kept as
    bits or computed again, the largest of these alone.
    """
    layers = count_layers(spec)
    stored = sum(layer.parameters for layer in layers)
    weights = stored + 3 * (encoded_parameters(spec, recipe.encoding).total if encoded else stored)
    moving = moving_nodes(spec)
    kept = [_kept(layer, recipe.model.steps if layer.name in moving else 1) for layer in layers]
    of_sample = sum(kept) if recipe.training.activations == "kept" else max(kept, default=0)
    precision = recipe.training.precision
    halved = precision == "bf16" or (precision == "auto" and device.startswith("cuda"))
    width = _FLOAT // 2 if halved else _FLOAT
    return _FLOAT * weights + width * of_sample * (batch or recipe.training.batch)


def require_scoring_memory(recipe: Recipe, spec: NetworkSpec, device: str, shown: int, trained: int) -> None:
    """Refuse an architecture of a search or a ranking that cannot be scored on a device.

    shown, trained: as of `least_scoring_bytes`. What this process holds is its to use again, as it keeps what it frees.
    Raises: SettingsError with the estimate and what is free.
    """
    _require_for_scoring(least_scoring_bytes(recipe, spec, shown, trained, device), "the architecture", recipe, device)


def require_stem_memory(recipe: Recipe, shape: tuple[int, int, int], device: str, shown: int, trained: int) -> None:
    """Refuse a search or a ranking none of whose architectures could be scored, by the stem that they all have.

    shape: of an image. Raises: SettingsError.
    """
    narrowest = min(recipe.space.widths or (recipe.space.channels,))
    of_sample = (STEM_FACTOR * narrowest + shape[0]) * prod(shape[1:])
    needed = max(_FLOAT * of_sample * shown, _FLOAT // 2 * of_sample * trained)  # a training may have half the width
    _require_for_scoring(needed, "any architecture of the space", recipe, device)


def least_scoring_bytes(recipe: Recipe, spec: NetworkSpec, shown: int, trained: int, device: str = "cpu") -> int:
    """What scoring an architecture takes at least, from static counts: the more of its scoring pass and its training.

    shown: images of a pass; trained: images of a batch of its short training; 0 where there is none.
    A pass has all weights, and of every image what a node reads and what it gives; where the network is stepped through
    time, what all nodes give in a step.
    """
    training = least_training_bytes(recipe, spec, device, encoded=False, batch=trained) if trained else 0
    if not shown:
        return training
    layers = count_layers(spec)
    moving = set() if spec.has_delays else moving_nodes(spec)
    given = {layer.name: layer.outputs * (recipe.model.steps if layer.name in moving else 1) for layer in layers}
    source = {node.name: node.inputs[0].source for node in spec.nodes}
    copying = [layer for layer in layers if layer.op in ("conv", "linear", "norm", "neuron")]
    read = [given.get(source[layer.name], prod(layer.input_shape)) for layer in copying]
    passed = [given[layer.name] + numbers for layer, numbers in zip(copying, read, strict=True)]
    of_image = sum(given[layer.name] for layer in copying) if spec.has_delays else max(passed, default=0)
    return max(training, _FLOAT * (sum(layer.parameters for layer in layers) + of_image * shown))


def _require_for_scoring(needed: int, what: str, recipe: Recipe, device: str) -> None:
    require_memory(
        needed,
        f"scoring {what} (dissimilarity.batch {recipe.dissimilarity.batch}, {recipe.model.steps} steps)",
        "lower dissimilarity.batch, training.batch, model.steps or data.image_size, or use a smaller space",
        SettingsError,
        free=_free_of_cuda(device, own=True) if device.startswith("cuda") else _free_and_own(),
    )


def _free_of_cuda(device: str, *, own: bool = False) -> int:
    """Bytes of a device that are free; own: with those that this process keeps."""
    free = int(torch.cuda.mem_get_info(device)[0])
    return free + (int(torch.cuda.memory_reserved(device)) if own else 0)


def _free_and_own() -> int:
    """Bytes that are free, with those that this process holds; what is set by hand is all there is."""
    if os.environ.get(MEMORY, "").strip():
        return memory_limit()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return memory_limit()
    return memory_limit() + pages * os.sysconf("SC_PAGE_SIZE")


def _kept(layer: LayerCount, steps: int) -> int:
    return layer.outputs * steps if layer.op in ("conv", "linear", "neuron") else 0
