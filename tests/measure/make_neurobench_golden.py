"""Makes `neurobench_golden.json`: what NeuroBench counts of small networks, for `test_neurobench.py`.

    python tests/measure/make_neurobench_golden.py

Needs neurobench and snntorch, which evospike does not. Networks, weights and inputs are whole numbers from a seeded
generator of the standard library, stored beside the figures; divided by `SCALE` they make all arithmetic exact, so that
snnTorch's neurons and evospike's fire alike. The networks run step by step, as NeuroBench expects of a spiking network.
"""

from __future__ import annotations

import json
import random
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import snntorch
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import ActivationSparsity, ClassificationAccuracy, MembraneUpdates, SynapticOperations
from neurobench.models import SNNTorchModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

OUTPUT = Path(__file__).with_name("neurobench_golden.json")
SCALE = 8
BATCH = 2
SAMPLES = 5


def node(name: str, op: str, *inputs: str, **args: int | bool) -> dict[str, Any]:
    return {"name": name, "op": op, "inputs": list(inputs), "args": args}


NETWORKS: list[dict[str, Any]] = [
    {
        "name": "images",
        "about": "real images shown at every step, a padded and a strided convolution, a bias",
        "input_shape": [2, 4, 4],
        "events": False,
        "steps": 3,
        "inputs_from": [-12, 12],
        "share_of_zeros": 0.0,
        "nodes": [
            node("stem", "conv", "input", channels=3, kernel=3, padding=1),
            node("fired", "neuron", "stem"),
            node("second", "conv", "fired", channels=4, kernel=3, stride=2, padding=1),
            node("again", "neuron", "second"),
            node("flat", "flatten", "again"),
            node("classifier", "linear", "flat", features=3, bias=True),
        ],
    },
    {
        "name": "pooled",
        "about": "binary events, pooled spikes, half of the weights missing, no padding",
        "input_shape": [2, 6, 6],
        "events": True,
        "steps": 4,
        "inputs_from": [0, 1],
        "share_of_zeros": 0.5,
        "nodes": [
            node("stem", "conv", "input", channels=4, kernel=3),
            node("fired", "neuron", "stem"),
            node("pool", "avgpool", "fired", kernel=2, stride=2),
            node("point", "conv", "pool", channels=6, kernel=1),
            node("again", "neuron", "point"),
            node("mean", "global_pool", "again"),
            node("classifier", "linear", "mean", features=3, bias=False),
        ],
    },
    {
        "name": "sums",
        "about": "counts of events, sums of spikes, a grouped and dilated convolution",
        "input_shape": [2, 4, 4],
        "events": True,
        "steps": 3,
        "inputs_from": [0, 3],
        "share_of_zeros": 0.25,
        "nodes": [
            node("stem", "conv", "input", channels=4, kernel=3, padding=1),
            node("fired", "neuron", "stem"),
            node("inner", "conv", "fired", channels=4, kernel=3, padding=1),
            node("also", "neuron", "inner"),
            node("sum", "add", "fired", "also"),
            node("wide", "conv", "sum", channels=4, kernel=3, padding=2, dilation=2, groups=2),
            node("last", "neuron", "wide"),
            node("flat", "flatten", "last"),
            node("classifier", "linear", "flat", features=3, bias=True),
        ],
    },
    {
        "name": "signed",
        "about": "inputs of -1, 0 and 1, linear layers only",
        "input_shape": [1, 2, 5],
        "events": True,
        "steps": 4,
        "inputs_from": [-1, 1],
        "share_of_zeros": 0.3,
        "nodes": [
            node("flat", "flatten", "input"),
            node("first", "linear", "flat", features=8, bias=True),
            node("fired", "neuron", "first"),
            node("second", "linear", "fired", features=6, bias=False),
            node("again", "neuron", "second"),
            node("classifier", "linear", "again", features=3, bias=True),
        ],
    },
]


class Stepped(nn.Module):
    """A network of snnTorch's neurons that is run step by step: (B, T, ...) -> (T, B, classes)."""

    def __init__(self, network: dict[str, Any], seed: int) -> None:
        super().__init__()
        self.nodes = network["nodes"]
        self.layers = nn.ModuleDict()
        shapes = {"input": tuple(network["input_shape"])}
        draw = random.Random(seed)
        for one in self.nodes:
            layer = make_layer(one, shapes[one["inputs"][0]])
            self.layers[one["name"]] = layer
            example = [torch.zeros(1, *shapes[source]) for source in one["inputs"]]
            shapes[one["name"]] = tuple(self.call(one, example).shape[1:])
            for parameter in layer.parameters():
                parameter.data = drawn_weights(draw, parameter.shape, network["share_of_zeros"]) / SCALE
        self.reset()

    def reset(self) -> None:
        for layer in self.layers.values():
            if isinstance(layer, snntorch.Leaky):
                layer.reset_mem()

    def call(self, one: dict[str, Any], inputs: list[Tensor]) -> Tensor:
        return inputs[0] + inputs[1] if one["op"] == "add" else self.layers[one["name"]](inputs[0])

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        return torch.stack([self.step(x[:, t]) for t in range(x.shape[1])])

    def step(self, x: Tensor) -> Tensor:
        values = {"input": x}
        for one in self.nodes:
            values[one["name"]] = self.call(one, [values[source] for source in one["inputs"]])
        return values[self.nodes[-1]["name"]]


def make_layer(one: dict[str, Any], source: tuple[int, ...]) -> nn.Module:
    args = dict(one["args"])
    if one["op"] == "conv":
        return nn.Conv2d(source[0], args.pop("channels"), args.pop("kernel"), bias=False, **args)
    if one["op"] == "linear":
        return nn.Linear(source[0], args.pop("features"), **args)
    if one["op"] == "avgpool":
        return nn.AvgPool2d(args["kernel"], args["stride"])
    if one["op"] == "neuron":
        return snntorch.Leaky(beta=0.5, threshold=1.0, reset_mechanism="zero", init_hidden=True)
    flat = nn.Flatten(1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), flat) if one["op"] == "global_pool" else flat


def drawn_weights(draw: random.Random, shape: torch.Size, share_of_zeros: float) -> Tensor:
    numbers = [0 if draw.random() < share_of_zeros else draw.randint(-3, 6) for _ in range(prod(shape))]
    return torch.tensor(numbers, dtype=torch.float32).view(shape)


def drawn_inputs(network: dict[str, Any], seed: int) -> Tensor:
    """(B, T, C, H, W) in whole numbers; images are the same at every step."""
    draw, (low, high) = random.Random(seed), network["inputs_from"]
    shown = network["steps"] if network["events"] else 1
    shape = (SAMPLES, shown, *network["input_shape"])
    x = torch.tensor([draw.randint(low, high) for _ in range(prod(shape))], dtype=torch.float32).view(shape)
    return x.expand(-1, network["steps"], -1, -1, -1)


def whole(tensor: Tensor, scale: int) -> list[Any]:
    return (scale * tensor).round().int().tolist()


@torch.no_grad()
def measure(network: dict[str, Any], seed: int) -> dict[str, Any]:
    """The network's definition, its numbers, and what NeuroBench says of it."""
    net = Stepped(network, seed)
    scale = 1 if network["events"] else SCALE
    x = drawn_inputs(network, seed) / scale
    labels = torch.tensor([random.Random(seed + i).randrange(3) for i in range(SAMPLES)])
    parameters = {name.removeprefix("layers."): p for name, p in net.named_parameters()}
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in net.buffers())
    workload = [ActivationSparsity, ClassificationAccuracy, MembraneUpdates, SynapticOperations]
    benchmark = Benchmark(
        SNNTorchModel(net, custom_forward=True),
        DataLoader(TensorDataset(x, labels), batch_size=BATCH),
        [],
        [lambda scores: scores.mean(1).argmax(-1)],
        [[ConnectionSparsity, Footprint], workload],
    )
    return {
        **network,
        "weights": {name: whole(parameter, SCALE) for name, parameter in parameters.items()},
        "inputs": whole(x if network["events"] else x[:, 0], scale),
        "inputs_scale": scale,
        "labels": labels.tolist(),
        "golden": {**benchmark.run(quiet=True), "bytes_of_buffers": buffers},
    }


def main() -> None:
    document = {
        "origin": "https://github.com/NeuroBench/neurobench, by way of tests/measure/make_neurobench_golden.py",
        "versions": {name: version(name) for name in ("neurobench", "snntorch", "torch")},
        "weights_scale": SCALE,
        "batch": BATCH,
        "networks": [measure(network, seed) for seed, network in enumerate(NETWORKS, 1)],
    }
    OUTPUT.write_text(json.dumps(document) + "\n", encoding="utf-8")
    for network in document["networks"]:
        print(network["name"], network["golden"])


if __name__ == "__main__":
    main()
