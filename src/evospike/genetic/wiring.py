"""Initial values of encodings and genes: what they are drawn from, and the draws themselves.

Every parameter has a noise stream of its own, named by the seed, a draw key, its layer and itself, so that
candidates that differ only in their spreads share the same noise (common random numbers; methods 3.8). The
noise is uniform, u in (0, 1), and becomes a normal value truncated to [-c, c] by the inverse of its
distribution function:

    x = s * ndtri(1/2 + (u - 1/2) * erf(c / (s sqrt(2))))

which grows in size with the spread s and never leaves the bounds.

The analytic spreads keep Var(W) = g^2 s_o^2 s_G^2 s_i^2 at Kaiming's 2 / (C_i k^2) for every layer, with
s_G = 1 / sqrt(g) and so s_o^2 s_i^2 = 2 / (C_i k^2 g). With one s for both encodings of a layer this is
s = (2 / (C_i k^2 g))^(1/4) (methods 3.7); low_rank has G = I, Var(W) = g s_o^2 s_i^2, and the same
s.

In the shared variants an encoding of variance v serves several layers, and each layer l from neurons i to
neurons o asks ln v_i + ln v_o = ln(2 / (C_i k^2 g)) - ln(r_i r_o), where r is the variance that reading
leaves (1/taps for the mean over taps, else 1). That system is linear in ln v: it is solved by least squares,
the solution nearest to s = (2 / (C_i k^2 g))^(1/4) being taken. It is exact whenever each layer of neurons is
fed by one encoded layer, as in the chains and residual networks of `models.presets`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from evospike.core.errors import EncodingError
from evospike.core.rng import Name, torch_stream
from evospike.genetic.encoding import GenePool, GeneticLayer
from evospike.genetic.settings import WiringSettings
from evospike.models.counts import count_layers
from evospike.models.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Generator

POOL = "gene_pool"
"""Name of the gene pool in an encoded network."""
GENES = "genes"
"""Key of the interaction's spread in `draw`."""
ENCODING = "encoding"
"""Key of the encodings' spread in `draw`; `encoding.<stage>` is that of one stage."""

Part = tuple[str, str]
"""(layer, parameter) of one drawn tensor; the pool's have the layer 'gene_pool'."""


def draw(
    net: nn.Module,
    wiring: WiringSettings,
    seed: int,
    draw_key: tuple[Name, ...] = (),
    spreads: Mapping[str, float] | None = None,
) -> None:
    """Give every encoding and the genes of an encoded network their initial values, in place.

    draw_key: names the draw, as ('generation', 3); equal keys share their noise whatever the spreads.
    spreads: of kind `evolved` only, laid over the settings: 'genes', 'encoding', or 'encoding.<stage>' (see
        `stages`).

    Nothing else of the network changes: dense layers keep their values.
    Raises: EncodingError for a network that is not encoded, an unknown spread, or kind `svd`, which needs a
    dense twin.
    """
    if spreads and wiring.kind != "evolved":
        raise EncodingError(f"wiring '{wiring.kind}' takes no spreads, given '{min(spreads)}'; set wiring.kind=evolved")
    if wiring.kind == "svd":
        raise EncodingError("wiring 'svd' draws nothing; call initialise_from_dense with a trained dense twin")
    bound: tuple[float, bool] | None = None
    if wiring.kind == "random":
        values = {part: 1.0 for part, _ in _drawn(net)}
    elif wiring.kind == "analytic":
        values = analytic_spreads(net)
    else:
        values = _evolved_spreads(net, wiring, spreads or {})
        bound = None if wiring.bounds == "none" else (wiring.bound, wiring.bounds == "relative")
    draw_values(net, values, bound=bound, seed=seed, draw_key=draw_key)
    if wiring.start == "orthogonal_genes" and (POOL, "interaction") in values:
        interaction = _pool(net).interaction
        with torch.no_grad():
            interaction.copy_(orthogonal(interaction, values[POOL, "interaction"]))


def draw_values(
    net: nn.Module,
    spreads: Mapping[Part, float],
    *,
    bound: tuple[float, bool] | None,
    seed: int,
    draw_key: tuple[Name, ...],
) -> None:
    """Draw every part with its own spread.

    bound: (c, whether c is in units of the spread), or None for no truncation.
    """
    for part, target in _drawn(net):
        spread = spreads[part]
        limit = math.inf if bound is None else bound[0] * (spread if bound[1] else 1.0)
        noise = uniform_noise(target.shape, torch_stream(seed, "wiring", *draw_key, *part))
        with torch.no_grad():
            target.copy_(truncated_normal(noise, spread, limit))


def uniform_noise(shape: tuple[int, ...] | torch.Size, generator: Generator) -> Tensor:
    """Uniform float64 values strictly between 0 and 1, on the CPU."""
    edge = 2.0**-53
    return torch.rand(shape, generator=generator, dtype=torch.float64).clamp_(edge, 1 - edge)


def truncated_normal(noise: Tensor, spread: float, limit: float = math.inf) -> Tensor:
    """Uniform noise as normal values of standard deviation `spread` (before truncation), cut to [-limit,
    limit]."""
    inside = math.erf(limit / (spread * math.sqrt(2))) if math.isfinite(limit) else 1.0
    values: Tensor = spread * torch.special.ndtri(0.5 + (noise - 0.5) * inside)
    return values.clamp_(-limit, limit)


def orthogonal(values: Tensor, spread: float) -> Tensor:
    """Square matrices (..., g, g) made orthogonal by QR, with the mean square of their entries at spread^2."""
    q, r = torch.linalg.qr(values.double())
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)  # unique with a positive diagonal
    scaled: Tensor = q * signs.unsqueeze(-2) * (spread * math.sqrt(values.shape[-1]))
    return scaled


def analytic_spreads(net: nn.Module) -> dict[Part, float]:
    """Standard deviations that keep the variance of every layer's weight at Kaiming's value."""
    pool = _pool(net)
    layers = dict(_genetic_layers(net))
    spreads: dict[Part, float] = {}
    if pool.kind != "low_rank":
        spreads[POOL, "interaction"] = pool.genes**-0.5
    if pool.kind.startswith("shared"):
        for key, spread in _shared_spreads(pool, layers).items():
            spreads[POOL, key] = spread
        return spreads
    for name, layer in layers.items():
        spreads[name, "input_encoding"] = spreads[name, "output_encoding"] = _equal_spread(layer)
    return spreads


def _equal_spread(layer: GeneticLayer) -> float:
    _, taps, genes = layer.factor_shape
    return float((2 / (taps * genes)) ** 0.25)


def _shared_spreads(pool: GenePool, layers: Mapping[str, GeneticLayer]) -> dict[str, float]:
    keys = list(pool.encodings)
    column = {key: i for i, key in enumerate(keys)}
    wanted = np.zeros((len(layers), len(keys)))
    target = np.zeros(len(layers))
    start = np.zeros(len(keys))
    users = np.zeros(len(keys))
    for row, layer in enumerate(layers.values()):
        source, feeds = _pool_keys(layer)
        log_variance = 4 * math.log(_equal_spread(layer))
        for key, kernel in ((source, layer.kernel), (feeds, (1, 1))):
            wanted[row, column[key]] += 1
            target[row] -= math.log(_left_by_reading(pool, key, kernel))
            start[column[key]] += log_variance / 2
            users[column[key]] += 1
        target[row] += log_variance
    start /= users
    change, *_ = np.linalg.lstsq(wanted, target - wanted @ start, rcond=None)
    return {key: float(np.exp((start + change)[column[key]] / 2)) for key in keys}


def _left_by_reading(pool: GenePool, key: str, kernel: tuple[int, int]) -> float:
    """Variance of what a layer reads, per variance of what is stored."""
    stored = pool.encodings[key]
    if stored.dim() == 4 and kernel == (1, 1) and pool.tap_reading == "mean":
        return 1 / int(stored.shape[0] * stored.shape[1])
    return 1.0


def _pool_keys(layer: GeneticLayer) -> tuple[str, str]:
    assert layer.keys is not None
    return layer.keys[0].replace(".", "/"), layer.keys[1].replace(".", "/")


def _evolved_spreads(net: nn.Module, wiring: WiringSettings, given: Mapping[str, float]) -> dict[Part, float]:
    of_layer = stages(net)
    names = list(dict.fromkeys(of_layer.values()))
    if wiring.stage_spreads and len(wiring.stage_spreads) != len(names):
        raise EncodingError(
            f"{len(wiring.stage_spreads)} stage spreads for {len(names)} stages: {', '.join(names)}; give one each"
        )
    known = {ENCODING, *(f"{ENCODING}.{name}" for name in names)}
    known |= set() if _pool(net).kind == "low_rank" else {GENES}
    for key, value in given.items():
        if key not in known:
            raise EncodingError(f"unknown spread '{key}'; known: {', '.join(sorted(known))}")
        if not 0 < value < math.inf:
            raise EncodingError(f"spread '{key}' is {value}; expected a number above 0")
    default = given.get(ENCODING)
    by_stage: dict[str, float] = {}
    for i, name in enumerate(names):
        settled = wiring.stage_spreads[i] if wiring.stage_spreads else wiring.encoding_spread
        by_stage[name] = given.get(f"{ENCODING}.{name}", settled if default is None else default)
    spreads: dict[Part, float] = {}
    owners = _owners(net)
    for part, _ in _drawn(net):
        genes = part == (POOL, "interaction")
        spreads[part] = given.get(GENES, wiring.gene_spread) if genes else by_stage[of_layer[owners[part]]]
    return spreads


def stages(net: nn.Module) -> dict[str, str]:
    """The stage of every encoded layer, in order, by layer name.

    With a `.spec`, layers of equal output resolution form a stage called by it, as '16x16'; otherwise layers
    whose dotted names have the same first component do.
    """
    names = [name for name, _ in _genetic_layers(net)]
    spec = getattr(net, "spec", None)
    if not isinstance(spec, NetworkSpec):
        return {name: name.split(".")[0] for name in names}
    size = {count.name: count.output_shape[1:] for count in count_layers(spec)}
    return {name: "x".join(str(side) for side in size[name]) or "1x1" for name in names}


def stage_names(net: nn.Module) -> tuple[str, ...]:
    """The stages in the order of their first layers, which is that of `WiringSettings.stage_spreads`."""
    return tuple(dict.fromkeys(stages(net).values()))


def _owners(net: nn.Module) -> dict[Part, str]:
    """The layer whose stage decides an encoding's spread: that which feeds the neurons, else their first reader."""
    owners: dict[Part, str] = {}
    fed: dict[Part, str] = {}
    for name, layer in _genetic_layers(net):
        if layer.keys is None:
            owners[name, "input_encoding"] = owners[name, "output_encoding"] = name
            continue
        source, feeds = _pool_keys(layer)
        owners.setdefault((POOL, source), name)
        fed.setdefault((POOL, feeds), name)
    return {**owners, **fed}


def initialise_from_dense(net: nn.Module, dense: nn.Module, seed: int = 0) -> None:
    """Start an encoded network from its trained dense twin: the best approximation of each weight that g
    genes allow.

    With the singular value decomposition W = U S V^T: Xo = U sqrt(S), Xi = sqrt(S) V^T, G = I, cut at g
    values. Genes beyond the rank get zero output encodings and small input encodings, so the function is
    exact and they can still learn. Everything else (dense layers, norms, biases) is copied.

    dense: a module with the same layer names and stored weights.
    Raises: EncodingError when a layer is missing or differs in shape, and for shared variants, which have no
    such start.
    """
    pool = _pool(net)
    if pool.kind.startswith("shared"):
        raise EncodingError(
            f"'{pool.kind}' cannot start from a dense twin: its layers share encodings; use kind 'edge'"
        )
    layers = dict(_genetic_layers(net))
    stored = dense.state_dict()
    weights = {name: _twin_weight(stored, name, layer) for name, layer in layers.items()}
    generated = {f"{name}.weight" for name in layers}
    kept = {key: value for key, value in stored.items() if key not in generated}
    own = {f"{name}.{part}" for name in layers for part in ("input_encoding", "output_encoding")}
    own.add(f"{POOL}.interaction")
    expected = {key: value for key, value in net.state_dict().items() if key not in own}
    for key in sorted(set(kept) ^ set(expected)):
        raise EncodingError(f"network and dense twin differ in '{key}'; the twin must be the same network, not encoded")
    for key, value in kept.items():
        if value.shape != expected[key].shape:
            raise EncodingError(f"'{key}' has shape {tuple(value.shape)} in the twin, not {tuple(expected[key].shape)}")
    net.load_state_dict(kept, strict=False)
    with torch.no_grad():
        if pool.kind != "low_rank":
            pool.interaction.copy_(torch.eye(pool.genes))
        for name, layer in layers.items():
            _fill_from(layer, weights[name], torch_stream(seed, "wiring", "svd", name))


def _twin_weight(stored: Mapping[str, Tensor], name: str, layer: GeneticLayer) -> Tensor:
    weight = stored.get(f"{name}.weight")
    if weight is None:
        raise EncodingError(f"the dense twin has no weight of layer '{name}'; it must be the same network, not encoded")
    if weight.shape != layer.weight_shape:
        raise EncodingError(
            f"layer '{name}' has shape {tuple(weight.shape)} in the dense twin; expected {layer.weight_shape}"
        )
    return weight.detach().double().cpu().flatten(1)


def _fill_from(layer: GeneticLayer, weight: Tensor, generator: Generator) -> None:
    assert layer.input_encoding is not None
    assert layer.output_encoding is not None
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    genes = layer.pool.genes
    rank = min(genes, len(values))
    root = values[:rank].sqrt()
    output = torch.zeros(weight.shape[0], genes, dtype=torch.float64)
    output[:, :rank] = left[:, :rank] * root
    taps = torch.zeros(genes, weight.shape[1], dtype=torch.float64)
    taps[:rank] = root[:, None] * right[:rank]
    taps[rank:] = truncated_normal(uniform_noise(taps[rank:].shape, generator), _equal_spread(layer))
    layer.output_encoding.copy_(output)
    layer.input_encoding.copy_(taps.view_as(layer.input_encoding))


def _pool(net: nn.Module) -> GenePool:
    pool = getattr(net, POOL, None)
    if not isinstance(pool, GenePool):
        raise EncodingError(f"{type(net).__name__} has no gene pool; encode it first")
    return pool


def _genetic_layers(net: nn.Module) -> Iterator[tuple[str, GeneticLayer]]:
    return ((name, layer) for name, layer in net.named_modules() if isinstance(layer, GeneticLayer))


def _drawn(net: nn.Module) -> Iterator[tuple[Part, Tensor]]:
    """Every tensor that is drawn."""
    pool = _pool(net)
    if pool.kind != "low_rank":
        yield (POOL, "interaction"), pool.interaction
    for key, encoding in pool.encodings.items():
        yield (POOL, key), encoding
    for name, layer in _genetic_layers(net):
        if layer.keys is None:
            assert layer.input_encoding is not None
            assert layer.output_encoding is not None
            yield (name, "input_encoding"), layer.input_encoding
            yield (name, "output_encoding"), layer.output_encoding
