"""How synapses are allocated, pruned and regrown. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from evospike.core.settings import Settings, require

Allocation = Literal["erk", "er", "uniform"]
Method = Literal["rewire", "static", "one_shot"]
Prune = Literal["magnitude", "sign", "taylor"]
Grow = Literal["gradient", "random", "momentum", "adam", "unfired"]

EPOCHS_BETWEEN = {"random": 4.0, "unfired": 4.0, "gradient": 10.0, "momentum": 10.0, "adam": 10.0}
"""Default epochs between two rewirings by how synapses grow (methods 5.5, after In-Time Over-Parameterization)."""

AVERAGES = {"momentum": 1, "adam": 2}
"""Running averages, each of the size of the weights, that a rule of growth keeps until the last rewiring."""

LONGEST_SHARE = 0.05
"""The default period is at most this share of a training, so that short ones rewire, too."""


@dataclass(frozen=True)
class SparseSettings(Settings):
    """A network that is sparse from its first step (methods 5).

    density: share of the synapses that exist, of all convolution and linear weights together; 1 turns everything off.
    method: `rewire` prunes and regrows while the weights learn; `static` keeps the first random graph; `one_shot`
    trains all weights and prunes them by magnitude at `one_shot_at` of the training; what is left learns on (1: after
    the last step, nothing learns on).
    on: `weights` masks what layers compute with, generated weights included; `encodings` masks the encodings of genetic
    layers instead of the weights they generate.
    allocation: the density of each layer: by its size, `er` (n_in + n_out) and `erk` (kernel sides too), or `uniform`.
    exact_count: draw exactly the allocated number of synapses, not each by chance. keep_first_dense: leave the first
    layer as it is (the first tensor, where an encoded layer comes first and encodings are masked). layers:
    `NAME=DENSITY` for single layers; NAME may hold `*`, the last entry that matches counts.
    starved: what to do when a layer would be left without any synapse: `repair` gives it one, `refuse` is an error.
    prune: `magnitude`; `sign`: half of the quota from the smallest positive, half from the smallest negative weights;
    `taylor`: smallest (w dL/dw)^2. grow: `gradient`: largest; `momentum`: largest running average of the gradient, kept
    for this alone; `adam`: largest |m| / (sqrt(v) + 1e-8), m and v such averages of the gradient and of its square;
    `random`; `unfired`: at random, positions never used before first.
    random_share: share of the grown synapses that are drawn at random whatever `grow` says.
    gradient_batches: batches before a rewiring whose absolute gradients `gradient` adds up. average_decay: share of the
    running averages of `momentum` and `adam` that is kept in each step; 0.99 averages over about 100 batches.
    fraction, final_fraction: share of a layer's synapses rewired at the start and at the end of rewiring, by a cosine.
    period_epochs: epochs between two rewirings; 0: 4 (`random`, `unfired`) or 10, at most a twentieth of the training.
    It is at least one step, or two where a rewired step skips its update.
    freeze: share of the training after which the graph stays. rewired_step: whether the weights of a step in which the
    graph is rewired are updated as well (`masked`) or not (`skip`).
    """

    density: float = 1.0
    method: Method = "rewire"
    on: Literal["weights", "encodings"] = "weights"
    allocation: Allocation = "erk"
    exact_count: bool = True
    keep_first_dense: bool = False
    layers: tuple[str, ...] = ()
    starved: Literal["repair", "refuse"] = "repair"
    prune: Prune = "magnitude"
    grow: Grow = "gradient"
    random_share: float = 0.0
    gradient_batches: int = 1
    average_decay: float = 0.99
    fraction: float = 0.5
    final_fraction: float = 0.005
    period_epochs: float = 0.0
    freeze: float = 0.75
    rewired_step: Literal["skip", "masked"] = "skip"
    one_shot_at: float = 0.75

    def validate(self) -> None:
        require(0 < self.density <= 1, f"'density' must lie in (0, 1], given {self.density}; 0.1 keeps a tenth")
        for name in ("random_share", "freeze", "one_shot_at"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"'{name}' is a share in [0, 1], given {value}")
        require(0 < self.fraction < 1, f"'fraction' must lie in (0, 1), given {self.fraction}")
        require(
            0 <= self.final_fraction <= self.fraction,
            f"'final_fraction' must lie between 0 and 'fraction' ({self.fraction}), given {self.final_fraction}",
        )
        require(self.gradient_batches >= 1, f"'gradient_batches' must be at least 1, given {self.gradient_batches}")
        require(0 <= self.average_decay < 1, f"'average_decay' must lie in [0, 1), given {self.average_decay}")
        require(self.period_epochs >= 0, f"'period_epochs' must not be negative, given {self.period_epochs}")
        for entry in self.layers:
            self._check_layer(entry)

    def _check_layer(self, entry: str) -> None:
        name, equals, text = entry.rpartition("=")
        try:
            density = float(text)
        except ValueError:
            density = -1.0
        require(
            bool(equals and name.strip()) and 0 < density <= 1,
            f"'layers' has '{entry}'; expected NAME=DENSITY with a density in (0, 1], as in classifier=1",
        )

    @property
    def active(self) -> bool:
        """Whether any synapse will be missing at any time."""
        return self.density < 1

    @property
    def averages(self) -> int:
        """Numbers that growth keeps of every weight while the graph is rewired."""
        return AVERAGES.get(self.grow, 0) if self.active and self.method == "rewire" else 0

    def check_effect(self) -> None:
        """Refuse settings that differ from their defaults where no synapse is missing. Raises: SettingsError."""
        idle = [] if self.active else [one.name for one in fields(self) if getattr(self, one.name) != one.default]
        require(
            not idle,
            f"{', '.join(f'sparse.{name}' for name in idle)}: without effect, for at density 1 every synapse exists; "
            "set a density below 1, as with --density 0.1, or leave it out",
        )

    def layer_densities(self) -> list[tuple[str, float]]:
        """Layer patterns and their densities, in the order of `layers`; a pattern may come twice."""
        entries = (entry.rpartition("=") for entry in self.layers)
        return [(name.strip(), float(text)) for name, _, text in entries]
