"""Masks on a network: which synapses exist at first, and how many there are now.

A mask is a bool buffer beside the tensor it belongs to (`mask` for `weight`, `<name>_mask` for an encoding), so every
copy and checkpoint of the network has it. A stored tensor is zero outside its mask; a generated weight is multiplied
by it when it is formed (`layers.weights`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from evospike.core.errors import RunError, SettingsError
from evospike.core.rng import Name, torch_stream
from evospike.layers.weights import GeneratedWeight, weight_of, weighted_layers
from evospike.models.counts import count_layers
from evospike.models.spec import NetworkSpec
from evospike.sparse.allocation import Quota, Shape, allocate, connection_density
from evospike.sparse.settings import SparseSettings


@dataclass(frozen=True)
class Prunable:
    """A tensor whose entries may be missing: attribute `attribute` of the module `owner`.

    name: of the layer for a weight, of the parameter for an encoding. shape: as of a weight, (out, in, *kernel).
    axes: the order in which the tensor's own axes are those of `shape`.
    """

    name: str
    owner: nn.Module
    attribute: str
    shape: Shape
    axes: tuple[int, ...]

    @property
    def mask_name(self) -> str:
        return mask_name(self.attribute)

    @property
    def mask(self) -> Tensor | None:
        """The mask now, in the tensor's own shape; None when every entry exists."""
        mask: Tensor | None = getattr(self.owner, self.mask_name, None)
        return mask

    @property
    def mask_as_weight(self) -> Tensor | None:
        """The mask now, in `shape`; None when every entry exists."""
        return None if self.mask is None else self.mask.permute(self.axes)

    @property
    def generated(self) -> GeneratedWeight | None:
        """The layer, when its weight is formed from something else."""
        return self.owner if self.attribute == "weight" and isinstance(self.owner, GeneratedWeight) else None

    @property
    def parameter(self) -> nn.Parameter:
        """The stored tensor."""
        stored = getattr(self.owner, self.attribute)
        assert isinstance(stored, nn.Parameter)
        return stored

    @torch.no_grad()
    def value(self) -> Tensor:
        """What is computed with now, masked."""
        return self.parameter.detach() if self.generated is None else self.generated.current_weight()


@dataclass(frozen=True)
class Masks:
    """What `attach` did. quotas: of every prunable tensor by name; tensors: those that have a mask."""

    net: nn.Module
    settings: SparseSettings
    seed: int
    key: tuple[Name, ...]
    quotas: Mapping[str, Quota]
    tensors: tuple[Prunable, ...]


def mask_name(attribute: str) -> str:
    """Name of the mask of a tensor called `attribute`."""
    return "mask" if attribute == "weight" else f"{attribute}_mask"


def masked_name(name: str) -> str | None:
    """The dotted name of the tensor whose mask is called `name`; None when that is no name of a mask."""
    owner, dot, last = name.rpartition(".")
    if last == "mask":
        return f"{owner}{dot}weight"
    attribute = last.removesuffix("_mask")
    return f"{owner}{dot}{attribute}" if attribute and attribute != last else None


def attach(net: nn.Module, settings: SparseSettings, seed: int, key: tuple[Name, ...] = ()) -> Masks:
    """Make a network sparse, in place: allocate, draw its graph, and zero what is missing.

    Call it when the initial values are drawn. The graph depends on seed, key and the names of the tensors only; with
    method `one_shot` all synapses exist until the learner prunes them. A run's own masks come with `load_state_dict`.
    key: names the training, as ('final', 0). Density 1 attaches nothing.
    Raises: SettingsError as `allocate` does, and for a network without anything to prune; RunError when it has masks.
    """
    found = list(prunable_tensors(net, settings))
    if not found:
        raise SettingsError(
            f"{type(net).__name__} has no convolution or linear weight to prune; leave it dense (sparse.density = 1)"
        )
    for tensor in found:
        if tensor.mask is not None:
            raise RunError(f"layer '{tensor.name}' has a mask already; attach masks to a network once")
    quotas = allocate({tensor.name: tensor.shape for tensor in found}, settings)
    masked = tuple(tensor for tensor in found if not quotas[tensor.name].dense)
    for tensor in masked:
        generator = torch_stream(seed, "mask", *key, tensor.name)
        _attach_one(tensor, _first_graph(tensor.name, quotas[tensor.name], settings, generator))
    return Masks(net, settings, seed, key, quotas, masked)


def prunable_tensors(net: nn.Module, settings: SparseSettings) -> Iterator[Prunable]:
    """Every weight of a two-dimensional convolution or linear layer that is generated or trained; with
    `on = "encodings"` trainable encodings in the place of weights that are generated. A tensor that several layers
    share comes once, with the first of them.

    Raises: SettingsError for a trainable weight that is no parameter of its layer.
    """
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    seen: set[int] = set()
    for name, layer in weighted_layers(net):
        if not isinstance(layer, GeneratedWeight):
            weight = weight_of(layer)
            if weight.requires_grad and id(weight) not in seen:
                if not isinstance(weight, nn.Parameter):
                    raise SettingsError(
                        f"the weight of layer '{name}' is computed from other parameters (weight or spectral norm?), "
                        "and masks lie on stored ones; remove the parametrisation first"
                    )
                seen.add(id(weight))
                yield _weight_of_layer(name, layer, tuple(weight.shape))
            continue
        if settings.on == "weights":
            yield _weight_of_layer(name, layer, layer.weight_shape)
            continue
        for encoding, axes in layer.encodings():
            if encoding.requires_grad and id(encoding) not in seen:
                seen.add(id(encoding))
                owner, _, attribute = names[id(encoding)].rpartition(".")
                shape = tuple(encoding.shape[axis] for axis in axes)
                yield Prunable(names[id(encoding)], net.get_submodule(owner), attribute, shape, axes)


def _weight_of_layer(name: str, layer: nn.Module, shape: Shape) -> Prunable:
    return Prunable(name, layer, "weight", shape, tuple(range(len(shape))))


def _weights(layer: nn.Module) -> int:
    return prod(layer.weight_shape) if isinstance(layer, GeneratedWeight) else weight_of(layer).numel()


def _first_graph(name: str, quota: Quota, settings: SparseSettings, generator: torch.Generator) -> Tensor:
    """The flat mask a layer begins with."""
    if settings.method == "one_shot":
        return torch.ones(quota.weights, dtype=torch.bool)
    if settings.exact_count:
        graph = torch.zeros(quota.weights, dtype=torch.bool)
        graph[torch.randperm(quota.weights, generator=generator)[: quota.count]] = True
        return graph
    graph = torch.rand(quota.weights, generator=generator, dtype=torch.float64) < quota.density
    if not graph.any():
        if settings.starved == "refuse":
            raise SettingsError(
                f"chance left layer '{name}' without any synapse; raise sparse.density, or set sparse.exact_count=true"
            )
        graph[torch.randint(quota.weights, (1,), generator=generator)] = True
    return graph


@torch.no_grad()
def _attach_one(tensor: Prunable, graph: Tensor) -> None:
    value = tensor.value()
    mask = torch.empty_like(value, dtype=torch.bool).copy_(graph.view(value.shape))
    tensor.owner.register_buffer(tensor.mask_name, mask)
    if tensor.generated is None:
        tensor.parameter.masked_fill_(~mask, 0)


@dataclass(frozen=True)
class LayerDensity:
    """Of one prunable tensor: its numbers, those that exist, and its layer's multiply-accumulates per sample and step
    (0 where they are not known). unfed: outputs that read nothing, which fire from their bias alone (0 for encodings).
    """

    name: str
    weights: int
    active: int
    macs: int
    unfed: int

    @property
    def density(self) -> float:
        return self.active / self.weights


@dataclass(frozen=True)
class Summary:
    """How sparse a network is, by what it computes with and by what it stores.

    density: of the prunable tensors, which `layers` lists. Computed with: `synapses` of `weights`, generated ones
    included, their `synapse_density`, and `connection_density`, which weights layers by multiply-accumulates (None
    for a network without a specification). Stored: `parameters` are the trainable numbers, `active_parameters` those
    that exist. Masks on generated weights remove synapses but no parameters; masks on encodings the reverse, except
    where an entry of a weight has nothing left that it is made of.
    """

    layers: tuple[LayerDensity, ...]
    density: float
    weights: int
    synapses: int
    connection_density: float | None
    parameters: int
    active_parameters: int

    @property
    def synapse_density(self) -> float:
        return self.synapses / self.weights


def summarise(net: nn.Module, settings: SparseSettings) -> Summary:
    """Count what exists in a network now; `settings` say what is prunable."""
    spec = getattr(net, "spec", None)
    counts = count_layers(spec) if isinstance(spec, NetworkSpec) else []
    macs = {count.name: count.macs for count in counts if count.macs}
    prunable = list(prunable_tensors(net, settings))
    layers = tuple(_layer_density(tensor, macs.get(tensor.name, 0)) for tensor in prunable)
    weights = {name: _weights(layer) for name, layer in weighted_layers(net)}
    synapses = {name: _synapses(layer) for name, layer in weighted_layers(net)}
    parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
    stored = {tensor.name for tensor in prunable if tensor.generated is None and tensor.parameter.requires_grad}
    densities = {name: synapses[name] / weights[name] for name in weights}
    return Summary(
        layers,
        density=sum(layer.active for layer in layers) / sum(layer.weights for layer in layers),
        weights=sum(weights.values()),
        synapses=sum(synapses.values()),
        connection_density=connection_density(densities, macs) if macs else None,
        parameters=parameters,
        active_parameters=parameters - sum(layer.weights - layer.active for layer in layers if layer.name in stored),
    )


def _layer_density(tensor: Prunable, macs: int) -> LayerDensity:
    weights, mask = prod(tensor.shape), tensor.mask
    if mask is None:
        return LayerDensity(tensor.name, weights, weights, macs, 0)
    unfed = int((~mask.flatten(1).any(1)).sum()) if tensor.attribute == "weight" else 0
    return LayerDensity(tensor.name, weights, int(mask.sum()), macs, unfed)


@torch.no_grad()
def _synapses(layer: nn.Module) -> int:
    mask = getattr(layer, "mask", None)
    if isinstance(mask, Tensor):
        return int(mask.sum())
    weight = weight_of(layer)
    return int(weight.count_nonzero()) if isinstance(layer, GeneratedWeight) else weight.numel()
