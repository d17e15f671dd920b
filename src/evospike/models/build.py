"""The one constructor: a specification in, a network out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from evospike.core.errors import SettingsError, SpecError
from evospike.core.limits import require_memory
from evospike.core.settings import convert, require
from evospike.core.text import shown
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.models.counts import dense_parameters
from evospike.models.network import Network
from evospike.models.shapes import infer_shapes
from evospike.models.spec import NetworkSpec, Node, Shape
from evospike.neurons.settings import NeuronSettings, Path

BatchNormTime = Literal["joint", "step"]

_BYTES = 4
"""Of a weight."""


class Vote(nn.Module):
    """Averages groups of output neurons into class scores."""

    def __init__(self, voters: int) -> None:
        super().__init__()
        self.voters = voters

    def forward(self, x: Tensor) -> Tensor:
        groups: Tensor = x.unflatten(1, (-1, self.voters))
        return groups.mean(-1)


class Crop(nn.Module):
    """Drops the first rows and columns of an image."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.pixels :, self.pixels :]


class Zeros(nn.Module):
    """An image of zeros, of its input's size but with channels of its own number."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.channels, *x.shape[2:])


def build(
    spec: NetworkSpec,
    neuron: NeuronSettings | None = None,
    *,
    steps: int = 4,
    norm_time: BatchNormTime = "joint",
    path: Path = "eager",
) -> Network:
    """Build a specification; weights have PyTorch's defaults until they are drawn.

    neuron: constants of every neuron a node does not override. steps: T for static images. norm_time: batch-norm
    statistics over time and batch together (`joint`, tdBN) or per step.
    Raises: SpecError naming the layer; SettingsError for an argument of another type or a choice that there is not.
    """
    require(isinstance(spec, NetworkSpec), f"a network is built from a NetworkSpec, given {shown(spec)}")
    require(neuron is None or isinstance(neuron, NeuronSettings), f"neuron is a NeuronSettings, given {shown(neuron)}")
    for name, value, hint in (("steps", steps, int), ("norm_time", norm_time, BatchNormTime), ("path", path, Path)):
        convert(value, hint, name)
    if steps < 1:
        raise SpecError(f"a network runs at least 1 step, given {steps}")
    neuron = neuron or NeuronSettings()
    shapes = infer_shapes(spec)
    if torch.get_default_device().type != "meta":
        weights = _BYTES * dense_parameters(spec)
        require_memory(weights, f"the weights of '{spec.name}'", "make its layers smaller", SpecError)
    network = Network(spec, steps)
    for node in spec.nodes:
        source = shapes[node.inputs[0].source]
        if node.op == "neuron":
            module: nn.Module = SpikingNeuron(_override(neuron, node), path)
        elif node.op == "norm":
            gain = float(node.args["gain"]) * neuron.threshold
            module = TimeBatchNorm2d(source[0], gain, stepwise=norm_time == "step")
        else:
            module = _MAKERS[node.op](node, source)
        _attach(network, node.name, module)
    return network


def _override(neuron: NeuronSettings, node: Node) -> NeuronSettings:
    changes: dict[str, Any] = {}
    if node.args["kind"]:
        changes["kind"] = node.args["kind"]
    if float(node.args["threshold"]) > 0:
        changes["threshold"] = float(node.args["threshold"])
    if float(node.args["decay"]) >= 0:
        changes["decay"] = float(node.args["decay"])
    try:
        return replace(neuron, **changes) if changes else neuron
    except SettingsError as error:
        raise SpecError(f"layer '{node.name}' (neuron): {error}") from None


def _attach(root: nn.Module, name: str, module: nn.Module) -> None:
    """Register a module under a dotted name, with empty containers on the way."""
    *parents, leaf = name.split(".")
    if not leaf or not all(parents):
        raise SpecError(f"node name '{name}' has an empty part; name every part between dots")
    for part in parents:
        if not hasattr(root, part):
            root.add_module(part, nn.Module())
        root = getattr(root, part)
        if type(root) is not nn.Module:
            raise SpecError(f"node name '{name}' lies inside '{part}', which is no container; rename one of them")
    if hasattr(root, leaf):
        raise SpecError(f"node name '{name}' clashes with an attribute of the network; rename it")
    root.add_module(leaf, module)


def _conv(node: Node, source: Shape) -> nn.Module:
    return nn.Conv2d(
        source[0],
        node.integer("channels"),
        node.integer("kernel"),
        node.integer("stride"),
        node.integer("padding"),
        node.integer("dilation"),
        node.integer("groups"),
        bias=bool(node.args["bias"]),
    )


def _window(node: Node) -> tuple[int, int, int]:
    return node.integer("kernel"), node.integer("stride"), node.integer("padding")


_MAKERS: dict[str, Callable[[Node, Shape], nn.Module]] = {
    "conv": _conv,
    "linear": lambda node, source: nn.Linear(source[0], node.integer("features"), bias=bool(node.args["bias"])),
    "avgpool": lambda node, _: nn.AvgPool2d(*_window(node), ceil_mode=bool(node.args["ceil"])),
    "maxpool": lambda node, _: nn.MaxPool2d(*_window(node), ceil_mode=bool(node.args["ceil"])),
    "global_pool": lambda _node, _source: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1)),
    "flatten": lambda _node, _source: nn.Flatten(1),
    "upsample": lambda node, _: nn.Upsample(scale_factor=node.integer("factor"), mode="nearest"),
    "crop": lambda node, _: Crop(node.integer("pixels")),
    "zeros": lambda node, _: Zeros(node.integer("channels")),
    "add": lambda _node, _source: nn.Identity(),
    "concat": lambda _node, _source: nn.Identity(),
    "vote": lambda node, _: Vote(node.integer("voters")),
}
