"""How differently a network answers different samples: representational dissimilarity matrices of spikes.

A layer's response to a sample at one step is the row x in {0, 1}^N of the units that fired. With

    G = x x^T          units that fire for both samples of a pair; its diagonal counts the spikes of each sample

every distance between rows follows from G and N alone (methods 4.7), so one matrix product per layer and step is all
the work there is. On x86 it is formed from int8 rows, 2.5 to 3 times as fast as from float32 and as exact; with it a
scored candidate spends about 88 % of its time on one thread in the forward pass (`benchmarks/dissimilarity.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from evospike.core.errors import SettingsError, ShapeError
from evospike.core.settings import choose
from evospike.measure.settings import Distance
from evospike.measure.spikes import SpikeCount

MOST_UNITS = 2**24
"""Units a layer may have: float32 holds every count up to here exactly."""

_LEAST_UNITS_INT8 = 64
"""Below, int8 gains nothing; and oneDNN leaves the product of rows of one unit undefined without saying so."""

_SAHD_SLACK = 1e-3
_LARGEST_COSINE, _LARGEST_PEARSON = 1.0, 2.0


def matrices(spikes: Tensor, distance: Distance) -> Tensor:
    """One matrix of pairwise distances per step: spikes (T, B, ...) -> (T, B, B), float64.

    A unit fired where its output is above zero. With a_i the spikes of row i, N units and H = a_i + a_j - 2 G_ij:

        hamming               H, exact
        hamming_normalised    H / N
        euclidean             sqrt(H)
        cosine                1 - G / sqrt(a_i a_j)                  in [0, 1]; 1 between a silent and an active row
        pearson               1 - correlation                        in [0, 2]; 2 between a constant and another row
        sahd_logdet           N - 0.5 H / (E + 0.001)                a kernel, not a distance; E is the H expected of
                                                                     independent rows with these numbers of spikes

    Equal rows are at distance 0 by every distance, two silent or two saturated ones too; nothing is ever NaN.
    Raises: SettingsError for an unknown distance; ShapeError for fewer than 2 samples or more than 2^24 units.
    Source: methods 4.7, 4.11.
    """
    compare = choose("distance", distance, _DISTANCES)
    return compare(_shared_spikes(spikes), _units(spikes))


class Dissimilarity:
    """Observer of one forward: the mean distance matrix over layers and steps, and how much the layers fired.

    weights: weight of each neuron layer in the mean, 0 to leave it out; None: all alike. A layer counts once per step.
    count: spikes, chances and finiteness of every layer, taken from the same products; its changes are not measured.
    Several forwards of one batch are averaged. Raises: SettingsError for an unknown distance or a bad weight, and
    ShapeError when samples cannot be compared.
    """

    def __init__(self, distance: Distance = "hamming", weights: Mapping[str, float] | None = None) -> None:
        self._compare = choose("distance", distance, _DISTANCES)
        self.distance, self.count = distance, SpikeCount()
        self._weights = None if weights is None else _checked(weights)
        self._silent: dict[str, int] = {}
        self._rows: dict[str, int] = {}
        self._total: Tensor | None = None
        self._weight = 0.0

    def __call__(self, name: str, spikes: Tensor, potential: Tensor) -> None:
        """Compare one layer of one forward: spikes (T, B, ...) and the last potential (B, ...)."""
        weight, spikes = self._weight_of(name), spikes.detach()
        shared = _shared_spikes(spikes)
        self._tally(name, spikes, shared, potential)
        total = weight * self._compare(shared, _units(spikes)).sum(0)
        if self._total is not None and self._total.shape != total.shape:
            raise ShapeError(
                f"layer '{name}' shows {len(total)} samples after {len(self._total)}; "
                "one observer compares one batch, take a new one for the next"
            )
        self._total = total if self._total is None else self._total + total
        self._weight += weight * len(spikes)

    def matrix(self) -> Tensor:
        """Weighted mean over layers and steps, (B, B), float64. Raises: ShapeError when there is nothing to average."""
        total = self._seen()
        if not self._weight:
            raise ShapeError("every layer that was seen has weight 0; give at least one a positive weight")
        return total / self._weight

    def score(self) -> float:
        """One number, larger for responses that differ more.

        Distances: sum of the matrix over all i, j, each pair twice. `sahd_logdet`: log |det K| of the mean kernel;
        eigenvalues smaller in size than B * 2^-52 of the largest, which are those of a singular kernel (equal rows)
        up to rounding, count as that size, so that it is finite.
        """
        matrix = self.matrix()
        return _log_determinant(matrix) if self.distance == "sahd_logdet" else float(matrix.sum())

    def rates(self) -> dict[str, float]:
        """Spikes per unit, sample and step of every layer."""
        return self.count.layer_rates()

    def silent(self) -> dict[str, float]:
        """For every layer, the share of its rows (a sample at a step) without a spike."""
        return {name: silent / self._rows[name] for name, silent in self._silent.items()}

    def firing_rate(self) -> float:
        """Spikes per unit, sample and step of the whole network."""
        return self.count.firing_rate()

    def spikes_per_sample(self) -> float:
        """Spikes of all layers and steps for one sample, mean over the batch; of one forward."""
        return sum(self.count.spikes.values()) / len(self._seen())

    def _seen(self) -> Tensor:
        if self._total is None:
            raise ShapeError("no layer of neurons was seen; run the network once with this observer")
        return self._total

    def _weight_of(self, name: str) -> float:
        if self._weights is None:
            return 1.0
        if name not in self._weights:
            raise SettingsError(f"no weight for neuron layer '{name}'; give every layer one, 0 to leave it out")
        return self._weights[name]

    def _tally(self, name: str, spikes: Tensor, shared: Tensor, potential: Tensor) -> None:
        active, count = _active(shared), self.count
        count.spikes[name] = count.spikes.get(name, 0.0) + float(active.sum())
        count.chances[name] = count.chances.get(name, 0) + spikes.numel()
        count.finite = count.finite and bool(torch.isfinite(potential).all())
        self._silent[name] = self._silent.get(name, 0) + int((active == 0).sum())
        self._rows[name] = self._rows.get(name, 0) + active.numel()


@contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """Normalise by the statistics of the batch, without gradients, and leave no trace.

    On leaving, also by an exception, every parameter and buffer has its old value and every module its old mode; so
    weights drawn inside are gone, too. At initialisation running statistics say nothing yet (methods 4.11).
    """
    modes = [(module, module.training) for module in net.modules()]
    kept = [(tensor, tensor.detach().clone()) for tensor in (*net.parameters(), *net.buffers())]
    try:
        with torch.no_grad():
            net.train()
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)


def _units(spikes: Tensor) -> int:
    return math.prod(spikes.shape[2:])


def _shared_spikes(spikes: Tensor) -> Tensor:
    """G of every step: (T, B, ...) -> (T, B, B), whole numbers in float64."""
    _check(spikes)
    steps, batch = spikes.shape[:2]
    shared = spikes.new_empty(steps, batch, batch, dtype=torch.float64)
    for row, out in zip(_rows(spikes), shared, strict=True):
        out.copy_(_gram(row > 0))
    return shared


def _check(spikes: Tensor) -> None:
    if spikes.dim() < 3 or spikes.shape[1] < 2:
        raise ShapeError(
            f"spikes have shape {tuple(spikes.shape)}; expected (steps, samples, units...) "
            "with at least 2 samples to tell apart"
        )
    if not 1 <= _units(spikes) <= MOST_UNITS:
        raise ShapeError(f"a layer has {_units(spikes)} units; expected 1 to {MOST_UNITS}, which are counted exactly")


def _rows(spikes: Tensor) -> Tensor:
    """(T, B, ...) -> (T, B, N), units in the order of memory: a view wherever memory allows."""
    order = sorted(range(2, spikes.dim()), key=spikes.stride, reverse=True)
    return spikes.permute(0, 1, *order).flatten(2)


def _gram(active: Tensor) -> Tensor:
    """x x^T of booleans (B, N), exact."""
    if active.device.type == "cpu" and active.shape[1] >= _LEAST_UNITS_INT8 and _int8_is_fast():
        x = active.contiguous().view(torch.int8)
        return torch._int_mm(x, x.T)
    with torch.autocast(active.device.type, enabled=False):
        x = active.float()
        return x @ x.T


def _int8_is_fast() -> bool:
    """Whether this is an x86 with vector instructions and a oneDNN that uses them."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")


def _active(shared: Tensor) -> Tensor:
    """Spikes of each row: (T, B, B) -> (T, B)."""
    return shared.diagonal(dim1=-2, dim2=-1)


def _hamming(shared: Tensor, units: int) -> Tensor:
    active = _active(shared)
    return active.unsqueeze(-1) + active.unsqueeze(-2) - 2 * shared


def _hamming_normalised(shared: Tensor, units: int) -> Tensor:
    return _hamming(shared, units) / units


def _euclidean(shared: Tensor, units: int) -> Tensor:
    return _hamming(shared, units).sqrt()


def _cosine(shared: Tensor, units: int) -> Tensor:
    active = _active(shared)
    return _from_similarity(shared, active, _hamming(shared, units), _LARGEST_COSINE)


def _pearson(shared: Tensor, units: int) -> Tensor:
    active = _active(shared)
    covariance = units * shared - active.unsqueeze(-1) * active.unsqueeze(-2)
    return _from_similarity(covariance, active * (units - active), _hamming(shared, units), _LARGEST_PEARSON)


def _from_similarity(product: Tensor, power: Tensor, hamming: Tensor, largest: float) -> Tensor:
    """1 - product / sqrt(power_i power_j); where that is 0 / 0, equal rows are at 0 and others at the largest."""
    scale = (power.unsqueeze(-1) * power.unsqueeze(-2)).sqrt()
    return torch.where(scale > 0, 1 - product / scale.clamp_min(1), largest * (hamming > 0))


def _sahd(shared: Tensor, units: int) -> Tensor:
    active = _active(shared) / units
    fires, rests = active.unsqueeze(-1), 1 - active.unsqueeze(-1)
    expected = units * (fires * rests.mT + rests * fires.mT)
    return units - 0.5 * _hamming(shared, units) / (expected + _SAHD_SLACK)


def _log_determinant(kernel: Tensor) -> float:
    sizes = torch.linalg.eigvalsh(kernel).abs()
    smallest = len(sizes) * torch.finfo(sizes.dtype).eps * sizes.max()
    return float(sizes.clamp_min(smallest).log().sum())


def _checked(weights: Mapping[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise SettingsError(f"weight of neuron layer '{name}' is {weight}; expected a number of at least 0")
    return dict(weights)


_DISTANCES: Mapping[str, Callable[[Tensor, int], Tensor]] = {
    "hamming": _hamming,
    "hamming_normalised": _hamming_normalised,
    "euclidean": _euclidean,
    "cosine": _cosine,
    "pearson": _pearson,
    "sahd_logdet": _sahd,
}
"""From G (T, B, B) and the number of units."""
