"""Whether a training fits into memory, asked before any of it is taken."""

from __future__ import annotations

import torch

from evospike.core.errors import SettingsError
from evospike.core.limits import memory_limit, require_memory
from evospike.genetic.encode import encoded_parameters
from evospike.jobs.recipe import Recipe
from evospike.measure.sources import moving_nodes
from evospike.models.counts import LayerCount, count_layers
from evospike.models.spec import NetworkSpec

_FLOAT = 4


def require_training_memory(recipe: Recipe, spec: NetworkSpec, device: str, *, encoded: bool) -> None:
    """Refuse a training that cannot fit on a device. encoded: whether any network of the run is.

    Raises: SettingsError with the estimate and what is free.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.startswith("cuda") else memory_limit()
    require_memory(
        least_training_bytes(recipe, spec, device, encoded=encoded),
        f"training '{spec.name}' (batch {recipe.training.batch}, {recipe.model.steps} steps)",
        "lower training.batch or model.steps, or use a smaller network",
        SettingsError,
        free=free,
    )


def least_training_bytes(recipe: Recipe, spec: NetworkSpec, device: str = "cpu", *, encoded: bool = True) -> int:
    """What one training takes at least, from static counts; encoded: as the recipe says, otherwise of a dense twin.

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
    return _FLOAT * weights + width * of_sample * recipe.training.batch


def _kept(layer: LayerCount, steps: int) -> int:
    return layer.outputs * steps if layer.op in ("conv", "linear", "neuron") else 0
