"""What each parameter of a network is for, so that an optimiser can treat genes and encodings in their own
way."""

from __future__ import annotations

from typing import Literal

from torch import nn

from evospike.genetic.encoding import GenePool, GeneticLayer
from evospike.layers.weights import GeneratedWeight

Role = Literal["encoding", "genes", "weight", "norm", "bias", "neuron"]


def parameter_roles(net: nn.Module) -> dict[str, Role]:
    """The role of every parameter by its name in `named_parameters`, dense networks included.

    `genes` receive the gradients of all layers (give them a rate of their own); only `weight` wants weight
    decay: decay on three factors decays their product about three times as fast (methods 3.7,
    3.14).
    """
    roles: dict[int, Role] = {}
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            roles.setdefault(id(parameter), _role(module, name, parameter.dim()))
        if isinstance(module, GenePool):
            roles.update((id(encoding), "encoding") for encoding in module.encodings.values())
    return {name: roles[id(parameter)] for name, parameter in net.named_parameters()}


def _role(module: nn.Module, name: str, dimensions: int) -> Role:
    if isinstance(module, GenePool):
        return "genes"
    if isinstance(module, GeneticLayer):
        return "bias" if name == "bias" else "encoding"
    if "norm" in type(module).__name__.lower():
        return "norm"
    if isinstance(module, GeneratedWeight) or hasattr(module, "weight"):
        return "bias" if name.endswith("bias") else "weight"
    if name.endswith("bias"):
        return "bias"
    return "weight" if dimensions >= 2 else "neuron"
