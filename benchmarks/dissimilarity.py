"""Distance matrices of spikes: ways to form them, against a loop over samples, and their share of a candidate's time.

python benchmarks/dissimilarity.py --repeats 5 --output benchmarks/results/dissimilarity.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pairwise_distance

from evospike.measure.dissimilarity import Dissimilarity, batch_statistics, matrices
from evospike.models.build import build
from evospike.models.spec import NetworkSpec
from evospike.search.decode import decode
from evospike.search.settings import SpaceSettings
from evospike.search.space import Space
from measuring import medians, write_result

LAYERS = [(16, 32), (48, 32), (32, 16), (64, 8)]
"""Channels and side of neuron layers of a candidate with 16 channels; its stem is three times as wide."""


def spikes_of(channels: int, side: int, steps: int, batch: int) -> Tensor:
    """Spikes at a rate of 0.2 as a network passes them on: (T, B, C, H, W), channels last."""
    fired = (torch.rand(steps * batch, channels, side, side) < 0.2).float()
    return fired.to(memory_format=torch.channels_last).unflatten(0, (steps, batch))


def rows_of(spikes: Tensor) -> Tensor:
    return spikes.movedim(2, -1).flatten(2)


def loop_over_samples(spikes: Tensor) -> Tensor:
    """Hamming distances of one sample after the other to all, step by step."""
    return torch.stack([torch.stack([pairwise_distance(x, rows, p=1) for x in rows]) for rows in rows_of(spikes)])


def float32(spikes: Tensor) -> Tensor:
    """Products of float32 rows made of booleans."""
    return torch.stack([(x := (rows > 0).float()) @ x.T for rows in rows_of(spikes)])


def float32_as_given(spikes: Tensor) -> Tensor:
    """One batched product of the spikes themselves, trusting that they are 0 or 1."""
    rows = rows_of(spikes)
    return rows @ rows.mT


def int8(spikes: Tensor) -> Tensor:
    return torch.stack([torch._int_mm(x := (rows > 0).view(torch.int8), x.T) for rows in rows_of(spikes)])


def int8_halves(spikes: Tensor) -> Tensor:
    """Three of the four quarters of the symmetric product."""
    products = []
    for rows in rows_of(spikes):
        x = (rows > 0).view(torch.int8)
        top, bottom = x.chunk(2)
        upper, corner = torch._int_mm(top, x.T), torch._int_mm(bottom, bottom.T)
        products.append(torch.cat([upper, torch.cat([upper[:, len(top) :].T, corner], 1)]))
    return torch.stack(products)


def popcount(spikes: Tensor) -> Tensor:
    """Bits packed into words; every row against the rows from it on."""
    words = np.packbits((rows_of(spikes) > 0).numpy(), axis=-1).view(np.uint64)
    products = np.zeros((*words.shape[:2], words.shape[1]), np.int64)
    for rows, product in zip(words, products, strict=True):
        for i, row in enumerate(rows):
            product[i, i:] = product[i:, i] = np.bitwise_count(row & rows[i:]).sum(-1, dtype=np.int64)
    return torch.from_numpy(products)


WAYS = {
    "float32": float32,
    "float32_as_given": float32_as_given,
    "int8": int8,
    "int8_halves": int8_halves,
    "popcount": popcount,
}


def call(function: Callable[[Tensor], Tensor], spikes: Tensor) -> Callable[[], Tensor]:
    return lambda: function(spikes)


def compare_ways(channels: int, side: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time of every way to form the products, as a multiple of the int8 product's."""
    spikes = spikes_of(channels, side, arguments.steps, arguments.batch)
    expected = int8(spikes).double()
    for name, way in WAYS.items():
        assert torch.equal(way(spikes).double(), expected), f"{name} miscounts"
    cases = {name: partial(way, spikes) for name, way in WAYS.items()}
    cases |= {"matrices": partial(matrices, spikes, "hamming")}
    seconds = medians(cases, arguments.repeats)
    row: dict[str, Any] = {"channels": channels, "side": side, "int8_ms": round(1e3 * seconds["int8"], 2)}
    return row | {name: round(value / seconds["int8"], 2) for name, value in seconds.items() if name != "int8"}


def compare_loop(layers: list[tuple[int, int]], arguments: argparse.Namespace) -> dict[str, Any]:
    """How many times faster the matrices of some layers are than a loop over samples: median and least of the pairs."""
    spikes = [spikes_of(*layer, arguments.steps, arguments.batch) for layer in layers]
    pairs = []
    for _ in range(arguments.pairs):
        loop = medians({"loop": lambda: [loop_over_samples(s) for s in spikes]}, repeats=1, warmup=0)
        fast = medians({"matrices": lambda: [matrices(s, "hamming") for s in spikes]}, repeats=9)
        pairs.append(loop["loop"] / fast["matrices"])
    return {"layers": layers, "pairs": len(pairs), "faster": round(median(pairs), 1), "least": round(min(pairs), 1)}


def forward_share(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Share of a candidate's time (building, forward pass, matrices, score) that its forward pass takes."""
    space = Space(SpaceSettings(channels=16))
    rng = np.random.default_rng(seed)
    spec = decode(space.genome([int(rng.integers(0, upper + 1)) for upper in space.upper]), (3, 32, 32), 10)
    x = torch.randn(arguments.batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    found = [_time_candidate(spec, x, arguments.steps) for _ in range(arguments.repeats)]
    neurons = [node.name for node in spec.nodes if node.op == "neuron"]
    return {
        "candidate": seed,
        "populations": len(neurons),
        "seconds": round(median(total for total, _ in found), 2),
        "forward_share": round(median(share for _, share in found), 3),
        "least": round(min(share for _, share in found), 3),
    }


def _time_candidate(spec: NetworkSpec, x: Tensor, steps: int) -> tuple[float, float]:
    """Seconds from the specification to the score, and the share of the forward pass without its observer."""
    seen, compared = Dissimilarity("hamming"), 0.0

    def observe(name: str, spikes: Tensor, potential: Tensor) -> None:
        nonlocal compared
        before = time.perf_counter()
        seen(name, spikes, potential)
        compared += time.perf_counter() - before

    started = time.perf_counter()
    net = build(spec, steps=steps).to(memory_format=torch.channels_last)
    net.observer = observe
    with batch_statistics(net):
        entered = time.perf_counter()
        net(x)
        forward = time.perf_counter() - entered - compared
    seen.score()
    total = time.perf_counter() - started
    return total, forward / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=3, help="of the loop over samples, which is slow")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    measures: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        *(("ways, relative to int8", partial(compare_ways, *layer, arguments)) for layer in LAYERS),
        *(("loop over samples", partial(compare_loop, [layer], arguments)) for layer in LAYERS),
        ("loop over samples", partial(compare_loop, LAYERS, arguments)),
        *(("forward share", partial(forward_share, seed, arguments)) for seed in range(arguments.candidates)),
    ]
    rows = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for question, measure in measures:
            rows.append({"question": question, "threads": threads} | measure())
            print(rows[-1], flush=True)
    if arguments.output:
        write_result(arguments.output, "dissimilarity", rows)


if __name__ == "__main__":
    main()
