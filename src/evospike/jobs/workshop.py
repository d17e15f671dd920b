"""Where recipe, plan and data meet: makes the networks, batches and trainings that jobs and workers need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evospike.core.allocator import keep_freed_memory
from evospike.core.rng import Name, stream, stream_key
from evospike.data.augment import Augmenter, batch_order
from evospike.data.task import ImageSet, Task, load_task
from evospike.genetic.contraction import apply_contractions
from evospike.genetic.encode import encode_with
from evospike.genetic.wiring import draw
from evospike.jobs.arms import Arm
from evospike.jobs.plan import Plan
from evospike.jobs.recipe import Recipe
from evospike.jobs.settings import OWN
from evospike.models.build import build
from evospike.models.init import draw_stored
from evospike.models.network import Network
from evospike.models.spec import NetworkSpec
from evospike.search.space import Space
from evospike.sparse.learner import StructureLearner
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class BatchSource:
    """Training batches of a set; see `training.loop.Source`."""

    images: ImageSet
    augmenter: Augmenter
    seed: int
    device: str
    channels_last: bool

    def __len__(self) -> int:
        return len(self.images)

    def order(self, epoch: int) -> np.ndarray:
        return batch_order(len(self.images), self.seed, epoch)

    def batch(self, positions: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        return self.augmenter.train_batch(torch.from_numpy(positions), epoch, self.device, self.channels_last)


@dataclass(frozen=True)
class Workshop:
    """A recipe on its data, under the decisions of a plan."""

    recipe: Recipe
    plan: Plan
    task: Task

    @classmethod
    def open(cls, recipe: Recipe, plan: Plan, task: Task | None = None) -> Workshop:
        """Load the data, unless they are given, and obey the plan in this process."""
        settle_process(plan)
        return cls(recipe, plan, load_task(recipe.data, recipe.run.seed) if task is None else task)

    @cached_property
    def spec(self) -> NetworkSpec:
        return NetworkSpec.from_json(self.plan.spec)

    def arm(self, name: str) -> Arm:
        """An arm of the final comparison: the recipe's own network but for what its name says."""
        return Arm.of(self.recipe, name)

    def network(self, arm: str, draw_key: tuple[Name, ...], spreads: Mapping[str, float] | None = None) -> Network:
        """A network of an arm with its initial values, drawn under `draw_key`; `spreads` make its wiring evolved.

        All its synapses are there; `structure` takes away those it is to begin without.
        """
        wiring, evolved = self.arm(arm).wiring, arm in OWN and spreads is not None
        seed = self.recipe.run.seed
        net = self.bare_network(arm)
        draw_stored(net, seed, draw_key)
        if self.arm(arm).encoding.kind != "dense":
            if evolved:
                wiring = replace(wiring, kind="evolved", stage_spreads=(), start="independent")
            if wiring.kind != "svd" and arm != "svd":
                draw(net, wiring, seed, draw_key, spreads if evolved else None)
            apply_contractions(net, self.plan.contractions)
        return self._placed(net)

    def structure(self, net: Network, sparse: SparseSettings, key: tuple[Name, ...]) -> StructureLearner | None:
        """Take away the synapses that a network is to begin without; gives what changes them while it learns.

        None, and nothing is taken away, where `sparse` asks for all of them. The graph follows from the seed and `key`.
        """
        if not sparse.active:
            return None
        return StructureLearner(attach(net, sparse, self.recipe.run.seed, key))

    def bare_network(self, arm: str) -> Network:
        """A network of an arm, encoded, before anything is drawn."""
        net = self._built(self.spec)
        encode_with(net, self.arm(arm).encoding, seed=self.recipe.run.seed)
        return net

    def stored_network(self, spec: NetworkSpec, draw_key: tuple[Name, ...]) -> Network:
        """Any network with stored weights, drawn under `draw_key`."""
        net = self._built(spec)
        draw_stored(net, self.recipe.run.seed, draw_key)
        return self._placed(net)

    @cached_property
    def space(self) -> Space:
        """The recipe's space of architectures; its file of motifs is read once."""
        return Space(self.recipe.space)

    @cached_property
    def probe_batches(self) -> list[Tensor]:
        """The fixed batches of training images every untrained architecture is shown: normalised, on the device."""
        settings, train = self.recipe.dissimilarity, self.task.train
        size = min(settings.batch, len(train))
        batches = []
        for repeat in range(settings.repeats):
            chosen = stream(self.recipe.run.seed, "probe batch", repeat).choice(len(train), size, replace=False)
            ((x, _labels),) = self.batches(train.subset(torch.from_numpy(chosen)), size)
            batches.append(x)
        return batches

    def _built(self, spec: NetworkSpec) -> Network:
        return build(
            spec,
            self.recipe.neuron,
            steps=self.recipe.model.steps,
            norm_time=self.recipe.model.norm_time,
            path=self.plan.path,
        )

    def _placed(self, net: Network) -> Network:
        training = self.recipe.training
        layout = torch.channels_last if training.channels_last else torch.contiguous_format
        net.recompute_blocks = training.activations == "recomputed"
        return net.to(device=self.plan.device, memory_format=layout)  # type: ignore[call-overload, no-any-return]

    def source(self, images: ImageSet, key: tuple[Name, ...]) -> BatchSource:
        """Training batches of a set; order and augmentation follow from the run's seed and `key`."""
        seed = stream_key(self.recipe.run.seed, "training", *key) >> 1
        augmenter = Augmenter(self.task, self.recipe.data.augment, seed, images)
        return BatchSource(images, augmenter, seed, self.plan.device, self.recipe.training.channels_last)

    def batches(self, images: ImageSet, size: int = EVALUATION_BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Evaluation batches of a set, in order, nothing random."""
        augmenter = Augmenter(self.task, self.recipe.data.augment, 0, images)
        for positions in torch.arange(len(images)).split(size):
            pixels, labels = images.take(positions)
            x = augmenter.eval_batch(pixels, self.plan.device, self.recipe.training.channels_last)
            yield x, labels.to(self.plan.device)


def parameter_count(net: nn.Module) -> int:
    """All trainable numbers of a network, the shared gene matrix once."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def as_context(recipe: Recipe, plan: Plan, folder: str) -> dict[str, Any]:
    """What a worker process needs to open the same workshop."""
    return {"recipe": recipe.to_plain(), "plan": plan.to_plain(), "folder": folder}


def settle_process(plan: Plan) -> None:
    """What a process does once before it computes anything for a run: its threads, and what becomes of freed memory."""
    torch.set_num_threads(plan.threads)
    keep_freed_memory()
