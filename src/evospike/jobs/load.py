"""A finished run as a network: `evospike.load(RUN)`."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evospike.core.errors import RunError, ShapeError
from evospike.core.files import load_tensors
from evospike.data.task import load_task
from evospike.genetic.encode import materialise
from evospike.jobs.arms import final_key
from evospike.jobs.final import load_weights, stored_result
from evospike.jobs.folder import PLAN, RESULT, WEIGHTS, RunFolder, open_run, read_record
from evospike.jobs.inference import for_inference
from evospike.jobs.plan import Plan, check_data, resolve_device
from evospike.jobs.workshop import Workshop
from evospike.models.inference import InferenceNetwork
from evospike.models.network import Network
from evospike.neurons.fused import compiler_available
from evospike.neurons.settings import Path as NeuronPath
from evospike.sparse.inference import Choice, with_sparse_kernels

_BEYOND = 0.25
"""How far floats may lie outside 0..1, as resizing leaves some."""


class TrainedNetwork(nn.Module):
    """A trained network with the input normalisation of its task.

    forward: what `normalise` gives -> class scores (T, B, classes), as the bare `network` does.
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
        """Class numbers (B,) of images or recordings as `normalise` takes them. Raises: ShapeError as it does."""
        was_training = self.training
        self.eval()
        try:
            return self.network.predict(self.normalise(images))
        finally:
            self.train(was_training)

    def normalise(self, images: Tensor) -> Tensor:
        """What `forward` takes: normalised images (B, C, H, W), or frames of counts (T, B, 2, H, W).

        images: (B, C, H, W) of the network's size, uint8 in 0..255 or floats in 0..1, not normalised; of recordings,
        counts (B, T, 2, H, W). Raises: ShapeError for anything else.
        """
        if not isinstance(images, Tensor):
            raise ShapeError(f"images are a tensor, given {type(images).__name__}; use torch.from_numpy for an array")
        spec = self.network.spec
        if images.dim() != 4 + spec.events or tuple(images.shape[-3:]) != spec.input_shape:
            form = "counts (B, T, C, H, W)" if spec.events else "images (B, C, H, W)"
            raise ShapeError(
                f"the network reads {form} with (C, H, W) = {spec.input_shape}, given {tuple(images.shape)}"
            )
        if spec.events:
            return images.to(self.mean.dtype).transpose(0, 1)
        if images.dtype == torch.uint8:
            return (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        if not images.is_floating_point():
            raise ShapeError(f"images are uint8 in 0..255 or floats in 0..1, given {images.dtype}; convert them")
        least, most = (float(end) for end in images.detach().aminmax()) if images.numel() else (0.0, 1.0)
        if not (math.isfinite(least) and math.isfinite(most)):
            raise ShapeError("images hold values that are not finite")
        if not (least > -_BEYOND and most < 1 + _BEYOND):
            raise ShapeError(
                f"images of floats are in 0..1 and not normalised, given {least:.3g} to {most:.3g}; divide those of "
                "0..255 by 255, or give uint8"
            )
        return (images.to(self.mean.dtype) - self.mean) / self.std

    def with_sparse_kernels(self, images: Tensor) -> tuple[TrainedNetwork, list[Choice]]:
        """The network by sparse CPU kernels, layer by layer where they are faster here, and what was measured.

        images: as `predict` takes them, of the batch size that is wanted; see `sparse.inference`.
        """
        stored = materialise(self.network)
        assert isinstance(stored, Network)
        network, choices = with_sparse_kernels(stored, self.normalise(images))
        if isinstance(network, InferenceNetwork):
            network.compiled = False  # the times are those of single layers
        return self._with(network), choices

    def for_inference(self, *, path: NeuronPath = "eager", compiled: bool = False) -> TrainedNetwork:
        """The network with generated weights stored and norms folded; see `jobs.inference.for_inference`."""
        return self._with(for_inference(self.network, path=path, compiled=compiled))

    def _with(self, network: Network) -> TrainedNetwork:
        """The same task by another network."""
        other = copy.copy(self)
        other._modules = {**self._modules, "network": network}
        return other


def load(run: str | Path, *, arm: str | None = None, seed: int = 0, device: str = "cpu") -> TrainedNetwork:
    """The trained network of a run, in eval mode.

    arm, seed: which of the final trainings; the run's own network on its first seed by default. device: `auto`, `cpu`,
    `cuda` or `cuda:N`.
    Raises: RunError when it is no run, not trained yet, or its data changed; CheckpointError for damaged weights.
    """
    folder = open_training(run)
    shop = workshop_of(folder, device)
    net = trained_network(folder, shop, arm or shop.recipe.final.arms[0], seed)
    task = shop.task
    check_data(shop.plan, task)  # the normalisation is that of the training images
    return TrainedNetwork(net, task.classes, task.mean, task.std).to(shop.plan.device).eval()


def open_training(path: str | Path) -> RunFolder:
    """Open a run that ends in trained networks. Raises: RunError for any other."""
    folder = open_run(path)
    if folder.verb == "search":
        raise RunError(
            f"run '{path}' (search) has no trained network; train what it found: evospike train RECIPE --model {path}"
        )
    if not folder.trains:
        raise RunError(f"run '{path}' ({folder.verb}) has no trained network; give a run of train or evolve")
    return folder


def workshop_of(folder: RunFolder, device: str, *, same_path: bool = False) -> Workshop:
    """The run's workshop on another device; eagerly, which needs no compiler, unless the run's own path is wanted."""
    recorded = folder.read(PLAN)
    if recorded is None:
        raise RunError(f"'{folder.path}' has not begun; continue it with: evospike resume {folder.path}")
    plan = replace(Plan.from_plain(recorded), device=resolve_device(device))
    if not (same_path and compiler_available(plan.device)):
        plan = replace(plan, path="eager")
    return Workshop(folder.recipe, plan, load_task(folder.recipe.data, folder.recipe.run.seed))


def finished_training(folder: RunFolder, arm: str, repeat: int) -> dict[str, Any]:
    """The result of one final training whose weights are whole.

    Raises: RunError when the run has no such training, or it is not finished or has lost its weights; CheckpointError
    for damaged weights.
    """
    final = folder.recipe.final
    if arm not in final.arms or repeat >= final.seeds:
        known = ", ".join(final.arms)
        raise RunError(f"run has no training of '{arm}' with seed {repeat}; arms: {known}; seeds: {final.seeds}")
    result = stored_result(folder.final_path(arm, repeat))
    if result is None:
        raise _untrained(folder, arm, repeat)
    return result


def trained_network(folder: RunFolder, shop: Workshop, arm: str, repeat: int) -> Network:
    """The network of one final training with its final weights, in eval mode. Raises: as `finished_training` does."""
    finished_training(folder, arm, repeat)
    net = shop.network(arm, final_key(repeat))
    shop.structure(net, shop.arm(arm).sparse, final_key(repeat))
    load_weights(net, folder.final_path(arm, repeat))
    return net.eval()


def _untrained(folder: RunFolder, arm: str, repeat: int) -> RunError:
    """Why a training cannot be used. Raises: what is wrong with one of its files, when that is the reason."""
    where, resume = folder.final_path(arm, repeat), f"evospike resume {folder.path}"
    if not (where / RESULT).is_file():
        return RunError(f"training of '{arm}' (seed {repeat}) is not finished; continue with: {resume}")
    if not (where / WEIGHTS).is_file():
        return RunError(f"the weights of '{arm}' (seed {repeat}) are gone; make them again with: {resume}")
    read_record(where / RESULT)
    load_tensors(where / WEIGHTS)
    return RunError(f"the weights of '{arm}' (seed {repeat}) are not those of its result; train it again: {resume}")
