"""A genetic convolution against a dense one, forward and backward, in both orders of contraction.

python benchmarks/contraction.py --repeats 7 --output benchmarks/results/contraction.json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from evospike.genetic.contraction import choose_contraction, macs
from evospike.genetic.encoding import GenePool, GeneticConv2d
from measuring import medians, write_result

CASES = [(64, 32), (128, 16), (256, 8), (512, 4)]
"""Channels and side of the image, as in networks for 32x32 images."""


def case(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    def run() -> None:
        layer(x).sum().backward()

    return run


def genetic(channels: int, genes: int, order: str) -> nn.Module:
    layer = GeneticConv2d(GenePool(genes), channels, channels, 3, padding=1)
    for parameter in (layer.pool.interaction, layer.input_encoding, layer.output_encoding):
        nn.init.normal_(parameter, std=0.05)
    layer.contraction = order
    return layer


def measure(channels: int, side: int, genes: int, batch: int, repeats: int) -> dict[str, object]:
    spikes = (torch.rand(batch, channels, side, side) < 0.2).float().to(memory_format=torch.channels_last)
    x = spikes.requires_grad_()
    cases = {
        "dense": case(nn.Conv2d(channels, channels, 3, padding=1, bias=False), x),
        "materialise": case(genetic(channels, genes, "materialise"), x),
        "two_stage": case(genetic(channels, genes, "two_stage"), x),
    }
    seconds = medians(cases, repeats)
    taps, positions = channels * 9, batch * side * side
    return {
        "channels": channels,
        "side": side,
        "genes": genes,
        "batch_times_steps": batch,
        "materialise": round(seconds["dense"] / seconds["materialise"], 2),
        "two_stage": round(seconds["dense"] / seconds["two_stage"], 2),
        "mac_ratio_two_stage": round(
            positions * channels * taps / macs("two_stage", channels, taps, genes, positions), 2
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
    print("speed relative to the dense convolution, forward and backward (above 1: faster)")
    print(f"{'channels':>8} {'side':>5} {'genes':>6} {'materialise':>12} {'two_stage':>10} {'MAC ratio':>10}  auto")
    for channels, side in CASES:
        for genes in (50, 100, 200):
            row = measure(channels, side, genes, arguments.batch, arguments.repeats)
            rows.append(row)
            print(
                f"{channels:>8} {side:>5} {genes:>6} {row['materialise']:>12} {row['two_stage']:>10} "
                f"{row['mac_ratio_two_stage']:>10}  {row['auto']}"
            )
    if arguments.output:
        write_result(arguments.output, "contraction", rows)


if __name__ == "__main__":
    main()
