"""What counting costs beside a plain evaluation: `measure.cost.count_costs` against `evaluate` without any counting.

    python benchmarks/counting_pass.py [--repeats 15] [--threads 2] [--output FILE]

Networks of shipped recipes on random images of their size, in evaluation batches. The two take turns; every repetition
gives one ratio. The bound that the counting pass has to keep is 1.5.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor

from evospike.jobs.attempt import stand_in_workshop
from evospike.jobs.recipe import read_recipe
from evospike.measure.accuracy import evaluate
from evospike.measure.cost import count_costs
from evospike.models.network import Network
from measuring import write_result

SAMPLES = {"digits": 2048, "cifar10-cpu": 512}
"""Images that are evaluated, by recipe."""

SETTLING = 10
"""Forwards in training mode before anything is timed, so that batch norms know their inputs and deep layers fire."""

Batches = list[tuple[Tensor, Tensor]]


def ready(name: str, threads: int) -> tuple[Network, Batches]:
    """A recipe's genetic network, firing, and its evaluation batches."""
    shop = stand_in_workshop(read_recipe(name, [f"run.threads={threads}"]), SAMPLES[name])
    torch.set_num_threads(threads)
    net = shop.network("genetic", ("bench",))
    batches = list(shop.batches(shop.task.train))
    with torch.no_grad():
        for turn in range(SETTLING):
            net.train()(batches[turn % len(batches)][0])
    return net, batches


def seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(name: str, repeats: int, threads: int) -> dict[str, Any]:
    net, batches = ready(name, threads)
    plain: list[float] = []
    counting: list[float] = []
    for turn in range(repeats + 1):
        times = seconds(lambda: evaluate(net, batches, count_spikes=False)), seconds(lambda: count_costs(net, batches))
        if turn:  # the first settles how genetic layers run
            plain.append(times[0])
            counting.append(times[1])
    low, middle, high = quantiles([c / p for c, p in zip(counting, plain, strict=True)], n=4)
    return {
        "recipe": name,
        "input_shape": list(net.spec.input_shape),
        "steps": net.steps,
        "samples": SAMPLES[name],
        "repeats": repeats,
        "plain_ms": round(1e3 * median(plain), 1),
        "counting_ms": round(1e3 * median(counting), 1),
        "ratio": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "firing_rate": round(count_costs(net, batches)[0].firing_rate, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output")
    given = parser.parse_args()
    rows = []
    for name in SAMPLES:
        rows.append(measure(name, given.repeats, given.threads))
        print(rows[-1], flush=True)
    if given.output:
        write_result(given.output, "counting_pass", rows)


if __name__ == "__main__":
    main()
