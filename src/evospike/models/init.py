"""Initial values of stored weights, drawn from named streams."""

from __future__ import annotations

import math

import torch
from torch import nn

from evospike.core.rng import Name, torch_stream
from evospike.models.spec import NetworkSpec


def draw_stored(net: nn.Module, seed: int, draw_key: tuple[Name, ...] = ()) -> None:
    """Give every stored convolution and linear weight its usual initial value, in place.

    Convolutions and hidden linear layers: normal with Kaiming's variance 2 / fan-in. The classifier: uniform within
    +-1 / sqrt(fan-in), PyTorch's own. Biases: zero. Each layer has its own stream, named by seed, draw key and layer.
    """
    spec = getattr(net, "spec", None)
    roles = {n.name: n.args["role"] for n in spec.weighted()} if isinstance(spec, NetworkSpec) else {}
    for name, layer in net.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            _draw(layer, roles.get(name) == "classifier", torch_stream(seed, "weights", *draw_key, name))


def _draw(layer: nn.Conv2d | nn.Linear, classifier: bool, generator: torch.Generator) -> None:
    fan_in = layer.weight[0].numel()
    with torch.no_grad():
        if classifier:
            values = (torch.rand(layer.weight.shape, generator=generator) * 2 - 1) / math.sqrt(fan_in)
        else:
            values = torch.randn(layer.weight.shape, generator=generator) * math.sqrt(2 / fan_in)
        layer.weight.copy_(values)
        if layer.bias is not None:
            layer.bias.zero_()
