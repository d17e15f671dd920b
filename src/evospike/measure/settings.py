"""How networks are compared by the spikes they answer samples with. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evospike.core.limits import MOST_REPEATS
from evospike.core.settings import Settings, require

Distance = Literal["hamming", "hamming_normalised", "euclidean", "cosine", "pearson", "sahd_logdet"]
Weighting = Literal["edges", "equal", "depth"]


@dataclass(frozen=True)
class DissimilaritySettings(Settings):
    """How different the responses of an untrained network to different samples are (methods 4.7).

    distance: between the spike patterns of two samples; see `dissimilarity.matrices`.
    weighting: how neuron layers are averaged: by the number of connections each stands for (`edges`, as if every
    connection had its own neurons), all alike (`equal`), or by their place from input to output (`depth`).
    repeats: batches that are compared, each with fresh initial weights. batch: samples in one of them.
    """

    distance: Distance = "hamming"
    weighting: Weighting = "edges"
    repeats: int = 2
    batch: int = 128

    def validate(self) -> None:
        require(self.repeats >= 1, f"'repeats' must be at least 1, given {self.repeats}")
        require(self.repeats <= MOST_REPEATS, f"'repeats' must be at most {MOST_REPEATS}, given {self.repeats}")
        require(self.batch >= 2, f"'batch' must be at least 2 (samples are compared in pairs), given {self.batch}")
