"""Neurons by the eager and the fused path against a ReLU in their place, forward and backward over T steps.

python benchmarks/neuron_paths.py --repeats 11 --output benchmarks/results/neuron_paths.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from evospike.neurons.dynamics import multi_step
from evospike.neurons.fused import compiler_available
from evospike.neurons.settings import NeuronSettings, Path
from measuring import medians, write_result

SHAPES = [(32, 64, 32, 32), (32, 128, 16, 16), (32, 256, 8, 8), (64, 32, 8, 8)]


def spiking(x: Tensor, path: Path) -> Callable[[], None]:
    def run() -> None:
        multi_step(x, None, NeuronSettings(), path=path)[0].sum().backward()

    return run


def relu(x: Tensor) -> Callable[[], None]:
    def run() -> None:
        torch.relu(x).sum().backward()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    paths: list[Path] = ["eager", "fused"] if compiler_available() else ["eager"]
    rows = []
    print(f"time relative to ReLU over the same tensor, T={arguments.steps}, forward and backward")
    for shape in SHAPES:
        x = torch.randn(arguments.steps, *shape, requires_grad=True)
        cases = {"relu": relu(x)} | {path: spiking(x, path) for path in paths}
        seconds = medians(cases, arguments.repeats, warmup=3)
        row = {"shape": list(shape), "steps": arguments.steps, "relu_ms": round(1e3 * seconds["relu"], 2)}
        row |= {path: round(seconds[path] / seconds["relu"], 2) for path in paths}
        rows.append(row)
        print(row)
    if arguments.output:
        write_result(arguments.output, "neuron_paths", rows)


if __name__ == "__main__":
    main()
