"""Which architecture a recipe uses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evospike.core.settings import Settings, require


@dataclass(frozen=True)
class ModelSettings(Settings):
    """A preset of the literature and the choices it leaves open; a choice left at its default is the preset's own.

    preset: see `evospike.models.presets.PRESETS`. steps: simulation steps T for static images.
    block: placement of neurons in a residual block (methods 2.4). hidden: width of hidden fully connected layers.
    channels: widths of the small presets. readout: mean of class scores over time, or a vote of spiking outputs.
    norm_time: batch-norm statistics over time and batch together, or per step (methods 1.5).
    genome: a searched architecture as JSON (`search.genome`), as `--model` writes it; it takes the place of the preset.
    """

    preset: str = "small8"
    steps: int = 4
    block: Literal["", "post", "sew", "ms"] = ""
    hidden: int = 0
    channels: tuple[int, ...] = ()
    readout: Literal["mean", "vote"] = "mean"
    norm_time: Literal["joint", "step"] = "joint"
    genome: str = ""

    def validate(self) -> None:
        require(self.steps >= 1, f"'steps' must be at least 1, given {self.steps}")
        require(self.hidden >= 0, f"'hidden' must not be negative, given {self.hidden}")
        require(all(c >= 1 for c in self.channels), f"'channels' must be positive, given {list(self.channels)}")
