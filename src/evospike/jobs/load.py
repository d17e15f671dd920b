"""A finished run as a network: `evospike.load(RUN)`, and its evaluation."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evospike.core.errors import RunError
from evospike.core.files import load_tensors
from evospike.data.task import load_task
from evospike.genetic.encode import materialise
from evospike.jobs.final import WEIGHTS, load_weights, stored_result
from evospike.jobs.folder import RunFolder, open_run
from evospike.jobs.plan import Plan, resolve_device
from evospike.jobs.results import data_facts
from evospike.jobs.workshop import Workshop, parameter_count
from evospike.measure.accuracy import evaluate
from evospike.models.counts import dense_parameters
from evospike.models.network import Network
from evospike.neurons.fused import compiler_available
from evospike.sparse.inference import Choice, with_sparse_kernels
from evospike.sparse.masks import summarise


class TrainedNetwork(nn.Module):
    """A trained network with the input normalisation of its task.

    forward: normalised images (B, C, H, W), or frames of counts (T, B, 2, H, W) -> class scores (T, B, classes), as
    the bare `network` does.
    classes: names of the classes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: Network, classes: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.network, self.classes = network, classes
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(x)
        return scores

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Class numbers (B,) of images (B, C, H, W), uint8 in 0..255 or floats in 0..1, not normalised; of recordings,
        counts (B, T, 2, H, W) of the network's size."""
        if self.network.spec.events:
            return self._predict(images.float().transpose(0, 1))
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images
        return self._predict((scaled - self.mean) / self.std)

    def _predict(self, x: Tensor) -> Tensor:
        was_training = self.training
        self.eval()
        try:
            return self.network.predict(x)
        finally:
            self.train(was_training)

    def with_sparse_kernels(self, images: Tensor) -> tuple[TrainedNetwork, list[Choice]]:
        """The network by sparse CPU kernels, layer by layer where they are faster here, and what was measured.

        images: normalised, as `forward` takes them, of the batch size that is wanted; see `sparse.inference`.
        """
        fast = copy.copy(self)
        fast._modules = dict(self._modules)
        stored = materialise(self.network)
        assert isinstance(stored, Network)
        fast.network, choices = with_sparse_kernels(stored, images)
        return fast, choices


def load(run: str | Path, *, arm: str | None = None, seed: int = 0, device: str = "cpu") -> TrainedNetwork:
    """The trained network of a run, in eval mode.

    arm, seed: which of the final trainings; the run's own network on its first seed by default.
    Raises: RunError when it is no run or not trained yet; CheckpointError when its weights are damaged.
    """
    folder = _open_training(run)
    shop = _workshop(folder, device)
    net = _trained(folder, shop, arm or shop.recipe.final.arms[0], seed)
    task = shop.task
    return TrainedNetwork(net, task.classes, task.mean, task.std).to(device).eval()


def evaluate_run(path: str | Path, *, device: str = "auto") -> dict[str, Any]:
    """Measure the run's own network once more on the test split: the document that `evospike evaluate` prints."""
    folder = _open_training(path)
    started = time.monotonic()
    result = folder.read("result.json")
    if result is None:
        raise RunError(f"'{path}' is not finished; continue it with: evospike resume {path}")
    shop = _workshop(folder, device, same_path=True)
    torch.set_num_threads(shop.plan.threads)
    net = _trained(folder, shop, shop.recipe.final.arms[0], 0)
    images = shop.task.open_test() if shop.task.has_test else shop.task.validation
    seen = evaluate(net, shop.batches(images))
    return {
        "run": str(path),
        "data": data_facts(shop.task),
        "test_accuracy": seen.accuracy,
        "parameters": parameter_count(net),
        "dense_parameters": dense_parameters(shop.spec),
        "density": summarise(net, shop.arm(shop.recipe.final.arms[0]).sparse).density,
        "firing_rate": seen.firing_rate,
        "layer_rates": seen.spikes.layer_rates(),
        "wall_seconds": round(time.monotonic() - started, 1),
        "digest": result["digest"],
    }


def _open_training(path: str | Path) -> RunFolder:
    folder = open_run(path)
    if not folder.trains:
        raise RunError(
            f"run '{path}' ({folder.verb}) has no trained network; train what it found: "
            f"evospike train RECIPE --model {path}"
        )
    return folder


def _workshop(folder: RunFolder, device: str, *, same_path: bool = False) -> Workshop:
    """The run's workshop on another device; eagerly, which needs no compiler, unless the run's own path is wanted."""
    recorded = folder.read("plan.json")
    if recorded is None:
        raise RunError(f"'{folder.path}' has not begun; continue it with: evospike resume {folder.path}")
    plan = replace(Plan.from_plain(recorded), device=resolve_device(device))
    if not (same_path and compiler_available()):
        plan = replace(plan, path="eager")
    return Workshop(folder.recipe, plan, load_task(folder.recipe.data, folder.recipe.run.seed))


def _trained(folder: RunFolder, shop: Workshop, arm: str, repeat: int) -> Network:
    where = folder.final_path(arm, repeat)
    if arm not in shop.recipe.final.arms or repeat >= shop.recipe.final.seeds:
        known = ", ".join(shop.recipe.final.arms)
        raise RunError(
            f"run has no training of '{arm}' with seed {repeat}; arms: {known}; seeds: {shop.recipe.final.seeds}"
        )
    if stored_result(where) is None:
        if (where / WEIGHTS).exists():
            load_tensors(where / WEIGHTS)  # says what is wrong with the file, when that is the reason
        raise RunError(
            f"training of '{arm}' (seed {repeat}) is not finished; continue with: evospike resume {folder.path}"
        )
    net = shop.network(arm, ("final", repeat))
    shop.structure(net, shop.arm(arm).sparse, ("final", repeat))
    load_weights(net, where)
    return net.eval()
