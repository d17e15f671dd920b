"""Networks of one architecture computed as one: side by side in the channels of a wide network.

A small network takes a GPU more time to start than to compute. P of them that differ in their values alone become
one network with P times the channels: what is (N, C, ...) in a member is block p of (N, P*C, ...). Convolutions have P
times the groups, a batch norm has its statistics by channel anyway, linear layers are one batched product, and neurons
look at nothing but themselves. So nothing passes from one member to another.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from evospike.core.errors import SpecError
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d
from evospike.layers.weights import GeneratedWeight, weight_of
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.spec import NetworkSpec, Node

WIDENED = ("channels", "groups", "features")
"""Arguments of nodes that grow with the number of members; `groups` of one member keep to its channels."""


class PopulationNetwork(nn.Module):
    """P networks of one specification, trained as one; they get their new values by `scatter`.

    forward: the members' batches one after the other in the channels, (B, P*C, H, W) or (T, B, P*C, H, W) -> class
    scores (T, B, P, classes). Every parameter holds those of all members, (P, ...), so that one optimiser that treats
    every number by itself does for each member what its own would. A parameter that is frozen stays frozen. Weights
    that are generated are formed for all members at once.
    Raises: SpecError when `why_not` has a reason.
    """

    def __init__(self, nets: Sequence[Network]) -> None:
        super().__init__()
        reason = why_not(nets)
        if reason is not None:
            raise SpecError(f"these networks cannot be computed as one: {reason}; compute them one after the other")
        self._nets = tuple(nets)  # a tuple hides them from the module tree
        self.wide = _wide_network(self._nets)
        self.stacked = _Stacked(self._nets, _take_parameters(self.wide))

    @property
    def members(self) -> int:
        return len(self._nets)

    def forward(self, x: Tensor) -> Tensor:
        wide: Tensor = functional_call(self.wide, self.stacked.tensors(), (x,))
        scores: Tensor = wide.unflatten(-1, (self.members, -1))
        return scores

    @torch.no_grad()
    def scatter(self) -> None:
        """Give every member its own parameters and running statistics, in place."""
        for place, net in enumerate(self._nets):
            for name, parameter in net.named_parameters():
                parameter.copy_(self.stacked.net.get_parameter(name)[place])
            for name, buffer in self.wide.named_buffers():
                net.get_buffer(name).copy_(buffer.chunk(self.members)[place] if buffer.dim() else buffer)


def widened(spec: NetworkSpec, members: int) -> NetworkSpec:
    """The specification of as many networks side by side: block by block in the channels, class by class in the end."""
    nodes = tuple(Node(node.name, node.op, node.inputs, _widened_arguments(node, members)) for node in spec.nodes)
    channels, height, width = spec.input_shape
    return NetworkSpec(spec.name, (members * channels, height, width), members * spec.classes, nodes, spec.events)


def _widened_arguments(node: Node, members: int) -> dict[str, Any]:
    return {name: members * node.integer(name) if name in WIDENED else value for name, value in node.args.items()}


def why_not(nets: Sequence[Network]) -> str | None:
    """One reason why networks cannot be computed as one; None when they can.

    They must be of one specification and made alike: encoded under one setting, drawn as they please.
    """
    if len(nets) < 2:
        return "there is only one"
    for net in nets:
        if reason := _unsuitable(net):
            return reason
    if any(net.spec != nets[0].spec or net.steps != nets[0].steps for net in nets):
        return "their specifications differ"
    if any(_character(net) != _character(nets[0]) for net in nets):
        return "their layers differ in settings, sizes or types"
    return None


def _unsuitable(net: Network) -> str | None:
    if net.recompute_blocks:
        return "their blocks are computed again for the backward pass"
    if net.observer is not None:
        return "one of them is observed"
    for node in net.spec.nodes:
        module = net.get_submodule(node.name)
        if not _is_known(node, module):
            return f"layer '{node.name}' is a {type(module).__name__}"
        if getattr(module, "mask", None) is not None:
            return f"layer '{node.name}' lacks synapses"
        if getattr(module, "decay_logit", None) is not None:
            return f"the neurons of '{node.name}' learn their decay"
    return None


def _is_known(node: Node, module: nn.Module) -> bool:
    """Whether a layer is what a specification builds, or generates its weight."""
    kinds: Mapping[str, type[nn.Module]] = {
        "conv": nn.Conv2d,
        "linear": nn.Linear,
        "norm": TimeBatchNorm2d,
        "neuron": SpikingNeuron,
    }
    if node.op in ("conv", "linear") and isinstance(module, GeneratedWeight):
        return True
    return node.op not in kinds or type(module) is kinds[node.op]


def _character(net: Network) -> list[Any]:
    """What members share: settings of neurons and norms; type, size and place of every parameter."""
    neurons = [(m.neuron, m.path) for m in net.modules() if isinstance(m, SpikingNeuron)]
    norms = [(m.stepwise, m.eps, m.momentum) for m in net.modules() if isinstance(m, TimeBatchNorm2d)]
    layers = [type(net.get_submodule(node.name)) for node in net.spec.weighted()]
    sizes = [(name, p.shape, p.dtype, p.device, p.requires_grad) for name, p in net.named_parameters()]
    return [neurons, norms, layers, sizes]


class _Stacked(nn.Module):
    """The first member with the parameters of all in its own, members first; forms what the wide network computes with.

    names: of the tensors that the wide network needs.
    """

    def __init__(self, nets: Sequence[Network], names: Sequence[str]) -> None:
        super().__init__()
        self.net = copy.deepcopy(nets[0])
        self._names = names
        for name, first in nets[0].named_parameters():
            values = _stack([net.get_parameter(name).detach() for net in nets])
            _put(self.net, name, nn.Parameter(values, first.requires_grad))

    def forward(self) -> dict[str, Tensor]:
        """What one member computes with, once its parameters are in the place of those of all."""
        return dict(self._of_one_member())

    def tensors(self) -> dict[str, Tensor]:
        """Weights, biases and gains of all members by name, in blocks: (P*C, ...)."""
        form = torch.vmap(lambda parameters: functional_call(self, parameters, ()))
        formed: dict[str, Tensor] = form(dict(self.named_parameters()))
        return {name: tensor.flatten(0, 1) for name, tensor in formed.items()}

    def _of_one_member(self) -> Iterator[tuple[str, Tensor]]:
        for name in self._names:
            path, _, kind = name.rpartition(".")
            layer = self.net.get_submodule(path)
            yield name, weight_of(layer) if kind == "weight" else getattr(layer, kind)


class _WideNetwork(Network):
    """A network whose channels are those of several members, which a concatenation keeps together."""

    def __init__(self, spec: NetworkSpec, steps: int, members: int) -> None:
        super().__init__(spec, steps)
        self.members = members

    def _concatenated(self, tensors: list[Tensor]) -> Tensor:
        by_member = zip(*(tensor.chunk(self.members, 1) for tensor in tensors), strict=True)
        return torch.cat([part for parts in by_member for part in parts], 1)


class _LinearLayers(nn.Module):
    """One linear layer for each member, (N, P*inputs) -> (N, P*outputs).

    weight (P*outputs, inputs) and bias (P*outputs), or none, are put in place when it is called.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = members
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.unflatten(1, (self.members, -1)).transpose(0, 1)
        weights = self.weight.unflatten(0, (self.members, -1)).transpose(1, 2)
        if self.bias is None:
            products = torch.bmm(rows, weights)
        else:
            products = torch.baddbmm(self.bias.unflatten(0, (self.members, 1, -1)), rows, weights)
        return products.transpose(0, 1).flatten(1)


def _wide_network(nets: Sequence[Network]) -> _WideNetwork:
    """A network of the widened specification, made as the members are, with their running statistics."""
    first, members = nets[0], len(nets)
    with torch.device("meta"):
        built = build(widened(first.spec, members), steps=first.steps)
    wide = _WideNetwork(built.spec, built.steps, members)
    for name, child in built.named_children():
        wide.add_module(name, child)
    for node in first.spec.nodes:
        _settle(wide.get_submodule(node.name), first.get_submodule(node.name))
    for name, _ in list(wide.named_buffers()):
        held = [net.get_buffer(name) for net in nets]
        _put(wide, name, torch.cat(held) if held[0].dim() else held[0].clone())
    return wide.train(first.training)


def _settle(layer: nn.Module, member: nn.Module) -> None:
    """Give a wide layer the settings that a member's has."""
    if isinstance(layer, SpikingNeuron) and isinstance(member, SpikingNeuron):
        layer.neuron, layer.path = member.neuron, member.path
    if isinstance(layer, TimeBatchNorm2d) and isinstance(member, TimeBatchNorm2d):
        layer.stepwise, layer.eps, layer.momentum = member.stepwise, member.eps, member.momentum


def _take_parameters(wide: _WideNetwork) -> list[str]:
    """Leave a wide network without parameters of its own, and give their names; linear layers change their kind."""
    names = [name for name, _ in wide.named_parameters()]
    for name in names:
        _put(wide, name, None)
    for node in wide.spec.nodes:
        if node.op == "linear":
            wide.set_submodule(node.name, _LinearLayers(wide.members))
    return names


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """(P, ...), each in memory as it was: where channels come last, they still do."""
    first = tensors[0]
    stacked = first.new_empty_strided((len(tensors), *first.shape), (first.numel(), *first.stride()))
    for place, tensor in zip(stacked, tensors, strict=True):
        place.copy_(tensor)
    return stacked


def _put(module: nn.Module, name: str, tensor: Tensor | None) -> None:
    """Set a parameter or buffer by its dotted name."""
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, tensor)
