"""A genetic convolution against a stored one, forward and backward, in both orders of contraction.

python benchmarks/contraction.py --repeats 7 --output benchmarks/results/contraction.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from evospike.bench.cases.genetic import random_spikes, single_layer, there_and_back
from evospike.genetic.contraction import Order, choose_contraction, contracted_layers, macs
from measuring import medians, write_result

CASES = {
    (64, 32): (25, 40, 50),
    (128, 32): (50, 64, 100),
    (128, 16): (50, 64, 100),
    (256, 16): (100, 160, 200),
    (256, 8): (100, 160, 200),
    (512, 8): (100, 200, 400),
    (512, 4): (100, 200, 400),
}
"""Genes by channels and side of the image, as in networks for 32x32 images; about up to where they save parameters."""

ORDERS: tuple[Order, ...] = ("materialise", "two_stage")


def genetic(channels: int, genes: int, order: Order) -> torch.nn.Module:
    layer = single_layer(channels, genes)
    for _, contracted in contracted_layers(layer):
        contracted.contraction = order
    return layer


def measure(channels: int, side: int, batch: int, repeats: int) -> list[dict[str, object]]:
    """Stored and genetic layers of one size, in turns."""
    spikes = random_spikes(channels, side, batch, "cpu").requires_grad_()
    cases: dict[str, Callable[[], None]] = {"stored": there_and_back(single_layer(channels), spikes)}
    for genes in CASES[channels, side]:
        cases |= {f"{order} {genes}": there_and_back(genetic(channels, genes, order), spikes) for order in ORDERS}
    seconds = medians(cases, repeats)
    return [row(channels, side, genes, batch, seconds) for genes in CASES[channels, side]]


def row(channels: int, side: int, genes: int, batch: int, seconds: dict[str, float]) -> dict[str, object]:
    taps, positions = channels * 9, batch * side * side
    return {
        "channels": channels,
        "side": side,
        "genes": genes,
        "batch_times_steps": batch,
        **{order: round(seconds["stored"] / seconds[f"{order} {genes}"], 3) for order in ORDERS},
        "mac_ratio_two_stage": round(
            positions * channels * taps / macs("two_stage", channels, taps, genes, positions), 3
        ),
        "auto": choose_contraction(channels, taps, genes, positions),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128, help="batch times steps")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    print("speed relative to the stored convolution, forward and backward (above 1: faster)")
    print(f"{'channels':>8} {'side':>5} {'genes':>6} {'materialise':>12} {'two_stage':>10} {'MAC ratio':>10}  auto")
    for channels, side in CASES:
        for found in measure(channels, side, arguments.batch, arguments.repeats):
            rows.append(found)
            print(
                f"{channels:>8} {side:>5} {found['genes']:>6} {found['materialise']:>12} {found['two_stage']:>10} "
                f"{found['mac_ratio_two_stage']:>10}  {found['auto']}",
                flush=True,
            )
    if arguments.output:
        write_result(arguments.output, "contraction", rows)


if __name__ == "__main__":
    main()
