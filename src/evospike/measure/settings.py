"""How networks are compared by their spikes, and how their robustness is asked for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evospike.core.limits import MOST_REPEATS
from evospike.core.settings import Settings, require

Distance = Literal["hamming", "hamming_normalised", "euclidean", "cosine", "pearson", "sahd_logdet"]
Weighting = Literal["edges", "equal", "depth"]

Measured = Literal["protocol", "full"]
"""Of robustness: noise of half the input's norm alone, or curves of every kind of change as well (methods 1.9)."""

Robustness = Literal["none", Measured]
"""How much is measured, from the least to the most."""

NoiseSpace = Literal["normalised", "raw"]
"""Where noise is added: to normalised images, or to those of the files."""

SAMPLES, NOISE_SEEDS = 1000, 5
"""Of robustness, where nothing else is asked for."""


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
