"""What kind of neuron a network uses. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evospike.core.settings import Settings, convert, require

NeuronKind = Literal["lif", "if", "plif"]
Reset = Literal["hard", "soft"]
SurrogateName = Literal["triangle", "rectangle", "arctan", "sigmoid"]
Path = Literal["eager", "fused"]

DEFAULT_WIDTHS = {"triangle": 1.0, "rectangle": 0.5, "arctan": 0.5, "sigmoid": 0.25}


@dataclass(frozen=True)
class NeuronSettings(Settings):
    """Constants of a spiking neuron (methods 1.2, 1.3, form A).

    kind: `lif` leaks by `decay` each step, `if` does not leak, `plif` learns one decay per layer, starting at `decay`.
    decay: membrane decay factor per step, in (0, 1]. threshold: potential above which a spike is fired, > 0.
    reset: `hard` to zero, or `soft` by subtracting the threshold. detach_reset: the reset carries no gradient.
    surrogate: shape of the surrogate derivative; surrogate_width: its width in threshold units, 0 for the shape's own
    (triangle half-base 1, rectangle half-width 0.5, arctan 1/alpha = 0.5, sigmoid 1/alpha = 0.25).
    """

    kind: NeuronKind = "lif"
    decay: float = 0.5
    threshold: float = 1.0
    reset: Reset = "hard"
    detach_reset: bool = True
    surrogate: SurrogateName = "triangle"
    surrogate_width: float = 0.0

    def validate(self) -> None:
        for name in ("decay", "threshold", "surrogate_width"):
            convert(getattr(self, name), float, name)
        require(0 < self.decay <= 1, f"'decay' must lie in (0, 1], given {self.decay}")
        require(self.kind != "plif" or self.decay < 1, "'decay' of a plif neuron must start below 1")
        require(self.threshold > 0, f"'threshold' must be positive, given {self.threshold}")
        require(self.surrogate_width >= 0, f"'surrogate_width' must not be negative, given {self.surrogate_width}")

    @property
    def width(self) -> float:
        """The surrogate's width in threshold units."""
        return self.surrogate_width or DEFAULT_WIDTHS[self.surrogate]

    @property
    def step_decay(self) -> float:
        """The factor the potential is multiplied with at each step (1 for `if`)."""
        return 1.0 if self.kind == "if" else self.decay
