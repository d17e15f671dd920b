"""What a final training of a sparse network tells of its structure: its layers, and a picture of its synapses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class SparseLayer:
    """One prunable tensor of a trained network, or its mean over trainings.

    weights: positions. active: those that exist. unfed: outputs that read nothing.
    """

    name: str
    weights: int
    active: float
    unfed: float

    @property
    def density(self) -> float:
        return self.active / self.weights


@dataclass(frozen=True)
class LayerPicture:
    """Which synapses of a layer exist, coarsely.

    share: rows from the first output to the last, columns from the first input to the last; each value is the share of
    what lies there that exists, in 0..1. density: of the whole layer.
    """

    name: str
    outputs: int
    inputs: int
    share: tuple[tuple[float, ...], ...]
    density: float

    @property
    def rows(self) -> int:
        return len(self.share)

    @property
    def columns(self) -> int:
        return len(self.share[0])

    @property
    def blocks(self) -> bool:
        """Whether several outputs or inputs share a row or a column."""
        return (self.rows, self.columns) != (self.outputs, self.inputs)

    @property
    def fullest(self) -> float:
        """The largest share."""
        return max(map(max, self.share))

    @property
    def empty_rows(self) -> int:
        return sum(not any(row) for row in self.share)

    @property
    def empty_columns(self) -> int:
        return sum(not any(column) for column in zip(*self.share, strict=True))


@dataclass(frozen=True)
class Connectivity:
    """The pictures of one training; layers that keep every synapse have none."""

    arm: str
    repeat: int
    layers: tuple[LayerPicture, ...]


def sparse_layers(rows: Iterable[Mapping[str, Any]] | None) -> tuple[SparseLayer, ...]:
    """Layers from `structure` of a training's result; none of a network that is not sparse."""
    return tuple(
        SparseLayer(str(row["name"]), int(row["weights"]), float(row["active"]), float(row["unfed"]))
        for row in rows or ()
    )


def mean_layers(trainings: Sequence[Sequence[SparseLayer]]) -> tuple[SparseLayer, ...]:
    """The mean of every layer over trainings of one network. Raises: ValueError when their layers differ."""
    return tuple(_mean_layer(same) for same in zip(*trainings, strict=True))


def connectivity_of(
    arm: str, repeat: int, layers: Sequence[SparseLayer], pictures: Iterable[Mapping[str, Any]]
) -> Connectivity:
    """The pictures of a training whose layers are known. Raises: KeyError, TypeError, ValueError for other forms."""
    densities = {layer.name: layer.density for layer in layers}
    return Connectivity(arm, repeat, tuple(_picture(picture, densities) for picture in pictures))


def _mean_layer(same: Sequence[SparseLayer]) -> SparseLayer:
    if len({(layer.name, layer.weights) for layer in same}) > 1:
        raise ValueError(f"trainings of one network disagree about layer '{same[0].name}'")
    return SparseLayer(
        same[0].name, same[0].weights, fmean(layer.active for layer in same), fmean(layer.unfed for layer in same)
    )


def _picture(picture: Mapping[str, Any], densities: Mapping[str, float]) -> LayerPicture:
    name = str(picture["name"])
    share = tuple(tuple(float(value) for value in row) for row in picture["share"])
    if len({len(row) for row in share}) != 1 or not share[0]:
        raise ValueError(f"the picture of layer '{name}' is not rectangular")
    if not all(0 <= value <= 1 for row in share for value in row):
        raise ValueError(f"the picture of layer '{name}' has a share outside 0..1")
    return LayerPicture(name, int(picture["outputs"]), int(picture["inputs"]), share, densities[name])
