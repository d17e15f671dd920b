"""What structure learning costs a training step, in time and memory.

    python benchmarks/structure_learning.py [RECIPE] [--density 0.1] [--steps 24] [--repeats 5] [--output FILE]

The recipe's network is trained on random images of its size: with all synapses, with a static mask, and rewired. The
period is `--period` steps, shorter than any real one, so its cost is an upper bound; the steps that rewire are part of
the mean. Runs are interleaved; the ratio of each repetition's step times to the dense ones is reported. Memory: bytes
of weights, gradients and optimiser state, and what masks and learner add, counted between steps: the most there was.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import mean, median
from typing import Any

import torch
from torch import nn

from evospike.genetic.groups import parameter_roles
from evospike.jobs.attempt import stand_in_workshop
from evospike.jobs.recipe import read_recipe
from evospike.jobs.workshop import Workshop
from evospike.sparse.learner import StructureLearner
from evospike.sparse.settings import SparseSettings
from evospike.training.loop import Trainer
from measuring import write_result

WARM_UP = 3
"""Steps of a run that are not counted."""


class Clock:
    """Notes when each step ended, and the most bytes that masks and learner took by then."""

    def __init__(self, net: nn.Module, structure: StructureLearner | None) -> None:
        self.times: list[float] = []
        self.most_bytes = 0
        self._masks = _bytes(buffer for buffer in net.buffers() if buffer.dtype == torch.bool)
        self._structure = structure

    def after_step(self, step: int, total: int) -> None:
        self.times.append(time.perf_counter())
        held = 0 if self._structure is None else _bytes(self._structure.state().values())
        self.most_bytes = max(self.most_bytes, self._masks + held)

    def seconds(self) -> float:
        """Mean time of a step after the first ones."""
        counted = self.times[WARM_UP - 1 :]
        return (counted[-1] - counted[0]) / (len(counted) - 1)


def train(shop: Workshop, sparse: SparseSettings) -> tuple[float, dict[str, int]]:
    """Seconds of a step, and bytes."""
    net = shop.network("genetic", ("bench",))
    structure = shop.structure(net, sparse, ("bench",))
    clock = Clock(net, structure)
    source = shop.source(shop.task.train, ("bench",))
    trainer = Trainer(net, source, shop.recipe.training, parameter_roles(net), hooks=[clock], structure=structure)
    trainer.run()
    moments = [v for state in trainer.optimiser.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    parameters = _bytes(net.parameters())
    return clock.seconds(), {
        "weights, gradients, moments": 2 * parameters + _bytes(moments),
        "masks and learner": clock.most_bytes,
    }


def _bytes(tensors: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="cifar10-cpu-sparse")
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--period", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recipe = read_recipe(
        given.recipe, [f"run.threads={given.threads}", "training.epochs=1", "training.warmup_epochs=0"]
    )
    shop = stand_in_workshop(recipe, given.steps * recipe.training.batch)
    rewire = SparseSettings(density=given.density, period_epochs=given.period / given.steps, freeze=1.0)
    cases = {
        "dense": SparseSettings(),
        "static": replace(rewire, method="static"),
        "gradient": rewire,
        "random": replace(rewire, grow="random"),
        "momentum": replace(rewire, grow="momentum"),
        "adam": replace(rewire, grow="adam"),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    memory: dict[str, dict[str, int]] = {}
    for _ in range(given.repeats):
        for name, sparse in cases.items():
            seconds, memory[name] = train(shop, sparse)
            times[name].append(seconds)
    rows = []
    print(f"{'training':<10} {'ms a step':>10} {'of dense':>9}   smallest to largest    masks and learner, of the rest")
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times["dense"], strict=True)]
        share = memory[name]["masks and learner"] / memory[name]["weights, gradients, moments"]
        rows.append(
            {"training": name, "ms": 1e3 * mean(own), "ratio": median(ratios), "ratios": ratios, **memory[name]}
        )
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"{name:<10} {1e3 * mean(own):>10.1f} {median(ratios):>9.3f}   {spread:<22} {share:.1%}")
    if given.output:
        write_result(given.output, "structure_learning", rows)


if __name__ == "__main__":
    main()
