"""How many synapses each layer gets, from the shapes of the weights alone. Imports no torch.

Of n prunable weights, round(d n) are synapses. A layer's density is eps times its share s_l, at most 1 (methods 5.3):

    uniform   s_l = 1
    er        s_l = (n_in + n_out) / (n_in n_out),  n_in = C_i k^2, n_out = C_o           (SET)
    erk       s_l = (C_o + C_i + k_h + k_w) / (C_o C_i k_h k_w)                           (Erdos-Renyi-kernel)

One eps serves all layers and solves sum_l d_l n_l = d n; layers that it would take above 1 are dense and it is solved
again for the rest. The densities give fractions of synapses: each layer gets the whole part, and those with the
largest fractional parts (the earlier on a tie) one more, until the total is met exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import floor, prod

from evospike.core.errors import SettingsError
from evospike.core.settings import require
from evospike.sparse.settings import Allocation, SparseSettings

Shape = tuple[int, ...]
"""Of a weight: (out, in, *kernel)."""


@dataclass(frozen=True)
class Quota:
    """What a layer gets. density: as allocated, before it was rounded to `count` synapses. fed: whether that left it
    without any and its one synapse was taken from another layer."""

    shape: Shape
    density: float
    count: int
    fed: bool = False

    @property
    def weights(self) -> int:
        return prod(self.shape)

    @property
    def dense(self) -> bool:
        """Whether every weight is a synapse."""
        return self.count == self.weights


def allocate(shapes: Mapping[str, Shape], settings: SparseSettings) -> dict[str, Quota]:
    """The synapses of every layer, in the order of `shapes`.

    `settings.layers` and `keep_first_dense` come first (of several matching entries the last one counts), the other
    layers share what is left of the total; when no layer is left, the total is what the entries add up to. At density 1
    everything exists, whatever else the settings say.
    Raises: SettingsError when an entry matches no layer, when entries leave too few or too many synapses for the other
    layers, and for a layer without any synapse under `starved = "refuse"`, or where there is none to give it.
    """
    if not settings.active:
        return {name: Quota(shape, 1.0, prod(shape)) for name, shape in shapes.items()}
    fixed = _fixed_quotas(shapes, settings)
    free = {name: shape for name, shape in shapes.items() if name not in fixed}
    quotas = fixed
    if free:
        total = round(settings.density * sum(map(prod, shapes.values())))
        budget = total - sum(quota.count for quota in fixed.values())
        _check_budget(budget, free, settings)
        quotas = {**fixed, **_share_out(free, budget, settings.allocation)}
    return _feed_starved({name: quotas[name] for name in shapes}, frozenset(free), settings)


def connection_density(densities: Mapping[str, float], macs: Mapping[str, int]) -> float:
    """Density weighted by multiply-accumulates: the share of a network's connections, not of its weights, that exist.

    A convolution's weight is a connection at every position (methods 1.8). Layers are those of `macs`.
    """
    return sum(densities[name] * count for name, count in macs.items()) / sum(macs.values())


def _fixed_quotas(shapes: Mapping[str, Shape], settings: SparseSettings) -> dict[str, Quota]:
    densities: dict[str, float] = {}
    if settings.keep_first_dense:
        densities[next(iter(shapes))] = 1.0
    for pattern, density in settings.layer_densities():
        matching = [name for name in shapes if fnmatchcase(name, pattern)]
        require(
            bool(matching), f"'sparse.layers' has '{pattern}', which no layer is called; layers: {', '.join(shapes)}"
        )
        densities.update(dict.fromkeys(matching, density))
    return {name: Quota(shapes[name], d, round(d * prod(shapes[name]))) for name, d in densities.items()}


def _check_budget(budget: int, free: Mapping[str, Shape], settings: SparseSettings) -> None:
    require(
        budget >= 0,
        f"layers set by hand have {-budget} synapses more than density {settings.density} allows in all; "
        "raise sparse.density or lower theirs",
    )
    room = sum(map(prod, free.values()))
    require(
        budget <= room,
        f"density {settings.density} leaves {budget} synapses to layers of {room} weights; "
        "lower sparse.density or raise the layers set by hand",
    )


def _share_out(shapes: Mapping[str, Shape], budget: int, kind: Allocation) -> dict[str, Quota]:
    densities = _densities(shapes, budget, kind)
    ideal = {name: densities[name] * prod(shape) for name, shape in shapes.items()}
    counts = {name: floor(value) for name, value in ideal.items()}
    by_remainder = sorted(shapes, key=lambda name: counts[name] - ideal[name])
    for name in by_remainder[: budget - sum(counts.values())]:
        counts[name] += 1
    return {name: Quota(shape, densities[name], counts[name]) for name, shape in shapes.items()}


def _densities(shapes: Mapping[str, Shape], budget: int, kind: Allocation) -> dict[str, float]:
    shares = {name: _SHARES[kind](shape) for name, shape in shapes.items()}
    rest, room = dict(shapes), budget
    densities = dict.fromkeys(shapes, 1.0)
    while rest:
        scale = room / sum(shares[name] * prod(shape) for name, shape in rest.items())
        full = [name for name in rest if scale * shares[name] >= 1]
        if not full:
            return {**densities, **{name: scale * shares[name] for name in rest}}
        for name in full:
            room -= prod(rest.pop(name))
    return densities


def _er_share(shape: Shape) -> float:
    fan_in = prod(shape[1:])
    return (fan_in + shape[0]) / (fan_in * shape[0])


_SHARES: dict[Allocation, Callable[[Shape], float]] = {
    "uniform": lambda shape: 1.0,
    "er": _er_share,
    "erk": lambda shape: sum(shape) / prod(shape),
}


def _feed_starved(quotas: dict[str, Quota], free: frozenset[str], settings: SparseSettings) -> dict[str, Quota]:
    """Every layer with at least one synapse: taken from the layer that has most, unless that was set by hand."""
    fed = dict(quotas)
    for name in [name for name, quota in quotas.items() if quota.count == 0]:
        if settings.starved == "refuse":
            raise SettingsError(
                f"density {settings.density} leaves layer '{name}' without any synapse; "
                "raise it, set the layer's own in sparse.layers, or let sparse.starved=repair"
            )
        giver = max(free, key=lambda other: fed[other].count, default=None)
        if giver is None or fed[giver].count < 2:
            raise SettingsError(
                f"density {settings.density} gives {len(quotas)} layers fewer synapses than one each; raise it"
            )
        fed[giver] = replace(fed[giver], count=fed[giver].count - 1)
        fed[name] = replace(fed[name], count=1, fed=True)
    return fed
