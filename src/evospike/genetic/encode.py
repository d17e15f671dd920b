"""Turn the layers of a network genetic, and back; count what an encoded network has.

`encode(net, genes=100)` gives the same network with generated weights and one `gene_pool`; `materialise(net)` a plain
copy with stored weights and the same outputs; `encoded_parameters(spec, settings)` the numbers of parameters, without
building anything.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from evospike.core.errors import EncodingError, SettingsError
from evospike.core.settings import read_settings
from evospike.genetic.encoding import GenePool, GeneticConv2d, GeneticLayer, GeneticLinear
from evospike.genetic.settings import Contraction, EncodingSettings, Kind, TapReading
from evospike.genetic.shared import LayerShape, SharedPlan, plan_shared
from evospike.genetic.wiring import POOL, analytic_spreads, draw_values
from evospike.models.counts import LayerCount, count_layers
from evospike.models.spec import NetworkSpec

Predicate = Callable[[str, nn.Module], bool]


def encode(
    module: nn.Module,
    *,
    genes: int = 100,
    kind: Kind = "edge",
    layers: Predicate | None = None,
    roles: tuple[str, ...] = ("body",),
    skip_growing: bool = True,
    train_output_encoding: bool = True,
    contraction: Contraction = "auto",
    tap_reading: TapReading = "mean",
    seed: int = 0,
) -> nn.Module:
    """Replace convolutions and linear layers of any torch module by genetic ones, in place; returns `module`.

    layers: chooses by dotted name and layer, among exact `nn.Conv2d` and `nn.Linear`. Without it, a network
        with a `.spec` has the layers of the given roles encoded; any other module all but its first weighted
        layer, 1x1 and grouped convolutions and its last linear layer.
    skip_growing: leave a layer dense when the edge encoding would have at least as many numbers as its
        weight.
    seed: of the initial values, the analytic ones of `genetic.wiring`; a bias keeps its value.

    The replaced layers' training mode, dtype and device carry over. Shared variants need a network with a
    `.spec`.
    Raises: EncodingError for an argument that `EncodingSettings` would refuse, when nothing is chosen, a chosen
    layer has groups, a mask or no zero padding, or the module is encoded already or has a `gene_pool` of its own.
    """
    _check_arguments(
        genes=genes,
        kind=kind,
        roles=roles,
        skip_growing=skip_growing,
        train_output_encoding=train_output_encoding,
        contraction=contraction,
        tap_reading=tap_reading,
    )
    if kind == "dense":
        raise EncodingError("kind 'dense' encodes nothing; expected edge, shared_tapG, shared_tapE or low_rank")
    if not isinstance(module, nn.Module):
        raise EncodingError(f"encode takes a torch module, given {type(module).__name__}")
    _refuse_unsuitable(module)
    chosen = _choose(module, layers, roles)
    shapes = {name: _shape_of(layer) for name, layer in chosen.items()}
    if skip_growing:
        shapes = {name: shape for name, shape in shapes.items() if shape.encodings(genes) < shape.weights}
    if not shapes:
        raise EncodingError(
            f"no layer of {type(module).__name__} is to be encoded ({_why_none(module, chosen, layers)}); choose at "
            "least one with layers=lambda name, layer: ..."
        )
    for name in shapes:
        _refuse_layer(name, chosen[name])
    plan = _plan(module, shapes, genes, kind)
    first = chosen[next(iter(shapes))].weight
    pool = GenePool(
        genes,
        kind,
        kernel=plan.kernel if plan else (1, 1),
        encodings=plan.encodings if plan else {},
        tap_reading=tap_reading,
        dtype=first.dtype,
        device=first.device,
    )
    twins: dict[int, nn.Module] = {}
    for name in shapes:
        keys = plan.layers[name] if plan else None
        twin = _genetic_twin(chosen[name], pool, train_output_encoding, keys)
        twin.contraction = contraction
        twins[id(chosen[name])] = twin
    _replace(module, twins)
    module.add_module(POOL, pool)
    draw_values(module, analytic_spreads(module), bound=None, seed=seed, draw_key=("encode",))
    return module


def encode_with(module: nn.Module, settings: EncodingSettings, *, seed: int = 0) -> nn.Module:
    """`encode` as the settings say; kind 'dense' returns the module untouched."""
    if settings.kind == "dense":
        return module
    return encode(
        module,
        genes=settings.genes,
        kind=settings.kind,
        roles=settings.roles,
        skip_growing=settings.skip_growing,
        train_output_encoding=settings.train_output_encoding,
        contraction=settings.contraction,
        tap_reading=settings.tap_reading,
        seed=seed,
    )


def materialise(module: nn.Module) -> nn.Module:
    """A copy with a plain `nn.Conv2d` or `nn.Linear` for every genetic layer, the same outputs, and no genes.

    A module without genetic layers is just copied. A masked layer gives its masked weight, and keeps its mask.
    """
    plain = copy.deepcopy(module)
    layers = [layer for layer in plain.modules() if isinstance(layer, GeneticLayer)]
    if isinstance(plain, GeneticLayer):
        return _dense_twin(plain)
    _replace(plain, {id(layer): _dense_twin(layer) for layer in layers})
    for part in list(plain.modules()):
        if isinstance(getattr(part, POOL, None), GenePool):
            delattr(part, POOL)
    return plain


def _check_arguments(**given: object) -> None:
    try:
        read_settings(EncodingSettings, given)
    except SettingsError as error:
        raise EncodingError(str(error)) from None


def _refuse_unsuitable(module: nn.Module) -> None:
    if any(isinstance(part, (GeneticLayer, GenePool)) for part in module.modules()):
        raise EncodingError(f"{type(module).__name__} is encoded already; materialise it first, or build it anew")
    if hasattr(module, POOL):
        raise EncodingError(f"{type(module).__name__} has an attribute '{POOL}' of its own; rename it before encoding")
    if _encodable(module):
        raise EncodingError(f"a bare {type(module).__name__} cannot be replaced in place; wrap it in nn.Sequential")


def _encodable(layer: nn.Module) -> bool:
    # Exact types: a subclass (as inside nn.MultiheadAttention) may use its weight in ways a replacement does not know.
    return type(layer) in (nn.Conv2d, nn.Linear)


def _choose(module: nn.Module, predicate: Predicate | None, roles: tuple[str, ...]) -> dict[str, nn.Conv2d | nn.Linear]:
    found: dict[str, nn.Conv2d | nn.Linear] = {
        name: layer for name, layer in module.named_modules() if type(layer) is nn.Conv2d or type(layer) is nn.Linear
    }
    if predicate is not None:
        return {name: layer for name, layer in found.items() if predicate(name, layer)}
    spec = getattr(module, "spec", None)
    if isinstance(spec, NetworkSpec):
        named = {node.name for node in spec.weighted() if node.args["role"] in roles}
        return {name: layer for name, layer in found.items() if name in named}
    last = next((name for name, layer in reversed(found.items()) if isinstance(layer, nn.Linear)), None)
    return {
        name: layer
        for name, layer in list(found.items())[1:]
        if name != last and not (isinstance(layer, nn.Conv2d) and (layer.kernel_size == (1, 1) or layer.groups != 1))
    }


def _why_none(module: nn.Module, chosen: Mapping[str, nn.Module], predicate: Predicate | None) -> str:
    """Why nothing was left to encode. chosen: what was, before layers that would grow were left out."""
    if chosen:
        return f"skip_growing leaves out {', '.join(chosen)}, whose encodings would be larger than their weights"
    if not any(type(layer) in (nn.Conv2d, nn.Linear) for layer in module.modules()):
        return "it has no nn.Conv2d and no nn.Linear"
    if predicate is not None:
        return "layers= chooses none"
    if isinstance(getattr(module, "spec", None), NetworkSpec):
        return "none has one of the given roles"
    return "the first one, 1x1 and grouped convolutions and the last linear layer stay as they are"


def _refuse_layer(name: str, layer: nn.Conv2d | nn.Linear) -> None:
    if getattr(layer, "mask", None) is not None:
        raise EncodingError(f"layer '{name}' has a mask, of a weight that would be gone; encode first, then sparsify")
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1:
            raise EncodingError(_grouped(name, layer.groups))
        if layer.padding_mode != "zeros":
            raise EncodingError(
                f"layer '{name}' has padding mode '{layer.padding_mode}'; only zero padding can be encoded"
            )


def _shape_of(layer: nn.Conv2d | nn.Linear) -> LayerShape:
    out_channels, in_channels, *kernel = layer.weight.shape
    return LayerShape(out_channels, in_channels, (kernel[0], kernel[1]) if kernel else (1, 1))


def _plan(module: nn.Module, shapes: Mapping[str, LayerShape], genes: int, kind: Kind) -> SharedPlan | None:
    if kind != "shared_tapG" and kind != "shared_tapE":
        return None
    spec = getattr(module, "spec", None)
    if not isinstance(spec, NetworkSpec):
        raise EncodingError(
            f"'{kind}' follows a network's spec, which {type(module).__name__} does not have; use kind='edge'"
        )
    named = {node.name for node in spec.weighted()}
    for name in shapes:
        if name not in named:
            raise EncodingError(f"layer '{name}' is not in the spec '{kind}' follows; leave it dense")
    return plan_shared(spec, shapes, genes, kind)


def _genetic_twin(
    layer: nn.Conv2d | nn.Linear, pool: GenePool, train_output_encoding: bool, keys: tuple[str, str] | None
) -> GeneticLayer:
    twin: GeneticLayer
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Conv2d):
        twin = GeneticConv2d(
            pool,
            layer.in_channels,
            layer.out_channels,
            (layer.kernel_size[0], layer.kernel_size[1]),
            stride=(layer.stride[0], layer.stride[1]),
            padding=layer.padding if isinstance(layer.padding, str) else (layer.padding[0], layer.padding[1]),
            dilation=(layer.dilation[0], layer.dilation[1]),
            bias=has_bias,
            train_output_encoding=train_output_encoding,
            keys=keys,
        )
    else:
        twin = GeneticLinear(
            pool,
            layer.in_features,
            layer.out_features,
            bias=has_bias,
            train_output_encoding=train_output_encoding,
            keys=keys,
        )
    if isinstance(layer.bias, nn.Parameter):
        twin.bias = layer.bias
    return twin.train(layer.training)


def _dense_twin(layer: GeneticLayer) -> nn.Module:
    twin: nn.Conv2d | nn.Linear
    bias = layer.bias is not None
    # On "meta" no random initial values are drawn, only to be replaced.
    if isinstance(layer, GeneticConv2d):
        window = layer.kernel, layer.stride, layer.padding, layer.dilation
        twin = nn.Conv2d(layer.in_channels, layer.out_channels, *window, bias=bias, device="meta")
    else:
        twin = nn.Linear(layer.in_channels, layer.out_channels, bias=bias, device="meta")
    with torch.no_grad():
        weight = layer.current_weight().to(layer.pool.interaction.dtype)
    twin.weight = nn.Parameter(weight)
    twin.register_parameter("bias", layer.bias)
    if layer.mask is not None:
        twin.register_buffer("mask", layer.mask)
    return twin.train(layer.training)


def _replace(module: nn.Module, twins: Mapping[int, nn.Module]) -> None:
    """Put the twins in, wherever a layer is registered (it may be in several places)."""
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in twins:
                parent._modules[name] = twins[id(child)]


@dataclass(frozen=True)
class LayerParameters:
    """Parameters of one node of a specification; kind 'encoded', or its operation.

    parameters: trainable ones, the encodings of shared variants left out; dense_parameters: with a stored
        weight.
    """

    name: str
    kind: str
    parameters: int
    dense_parameters: int


@dataclass(frozen=True)
class EncodedParameters:
    """Trainable numbers of an encoded network: total = encodings + genes + dense.

    frozen: output encodings that are not trained, not part of the total. unencoded: the same network with
        stored weights.
    """

    total: int
    encodings: int
    genes: int
    dense: int
    frozen: int
    unencoded: int
    layers: tuple[LayerParameters, ...]


def encoded_parameters(spec: NetworkSpec, settings: EncodingSettings) -> EncodedParameters:
    """Count the trainable parameters of a specification under an encoding, without building it.

    Raises: EncodingError as `encode` does, when no layer is to be encoded or a layer has groups.
    """
    counts = count_layers(spec)
    shapes = _static_shapes(spec, settings, counts)
    g = settings.genes
    plan: SharedPlan | None = None
    if shapes and (settings.kind == "shared_tapG" or settings.kind == "shared_tapE"):
        plan = plan_shared(spec, shapes, g, settings.kind)
    encodings = frozen = dense = 0
    if plan:
        encodings = sum(math.prod(shape) for shape in plan.encodings.values())
    layers: list[LayerParameters] = []
    for count in counts:
        shape = shapes.get(count.name)
        if shape is None:
            dense += count.parameters
            layers.append(LayerParameters(count.name, count.op, count.parameters, count.parameters))
            continue
        own = 0 if plan else g * (shape.taps + (shape.out_channels if settings.train_output_encoding else 0))
        frozen += 0 if settings.train_output_encoding else g * shape.out_channels
        bias = count.parameters - shape.weights
        encodings += own
        dense += bias
        layers.append(LayerParameters(count.name, "encoded", own + bias, count.parameters))
    genes = 0
    if settings.kind not in ("dense", "low_rank"):
        genes = g * g * (math.prod(plan.kernel) if plan and settings.kind == "shared_tapG" else 1)
    unencoded = sum(count.parameters for count in counts)
    return EncodedParameters(encodings + genes + dense, encodings, genes, dense, frozen, unencoded, tuple(layers))


def _static_shapes(
    spec: NetworkSpec, settings: EncodingSettings, counts: Sequence[LayerCount]
) -> dict[str, LayerShape]:
    shapes: dict[str, LayerShape] = {}
    if settings.kind == "dense":
        return shapes
    for count in counts:
        if count.op not in ("conv", "linear") or count.role not in settings.roles:
            continue
        node = spec[count.name]
        kernel = node.integer("kernel") if count.op == "conv" else 1
        groups = node.integer("groups") if count.op == "conv" else 1
        shape = LayerShape(count.output_shape[0], count.input_shape[0] // groups, (kernel, kernel))
        if settings.skip_growing and shape.encodings(settings.genes) >= shape.weights:
            continue
        if groups != 1:
            raise EncodingError(_grouped(count.name, groups))
        shapes[count.name] = shape
    if not shapes:
        raise EncodingError(
            f"no layer of '{spec.name}' is to be encoded; choose other encoding.roles, or set encoding.kind=dense"
        )
    return shapes


def _grouped(name: str, groups: int) -> str:
    return f"layer '{name}' has {groups} groups and cannot be encoded; leave it dense"
