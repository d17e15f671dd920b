"""How a network is trained. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evospike.core.settings import Settings, require

MOST_EPOCHS, MOST_BATCH = 1_000_000, 1 << 24

Activations = Literal["kept", "bits", "recomputed"]


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """One training, from the first step to the last.

    epochs, batch: passes over the training split and samples per step. optimiser: `adamw` or `sgd` (Nesterov).
    rate: peak learning rate; warmup_epochs: linear rise from 0; then a cosine down to final_rate * rate.
    weight_decay acts on stored weights only; encoding_decay on encodings and genes (0 by default: their product would
    decay three times as fast, methods 3.14). gene_rate: factor on the rate of the shared gene matrix.
    loss: cross-entropy of the `mean` output or `tet` (methods 1.6) with mmd_weight on its second term.
    clip: largest gradient norm, 0 for none. ema: decay of the averaged weights that are kept, 0 for none.
    precision: `bf16` runs convolutions in bfloat16, `auto` does so on a GPU that can. channels_last: layout of images.
    keep: final weights are those of the `last` epoch, or of the one that was `best` on the validation split, the first
    of equals and at the final density (ESL's protocol, methods 5.4).
    activations: what the backward pass finds of the forward one, with the same results: all is `kept` (fastest), spikes
    are kept as `bits`, or blocks are `recomputed` from their spikes, which are kept as bits (least is kept between the
    passes; where one block is large, its recomputation may set a higher peak than `bits`).
    checkpoint_minutes: a checkpoint is written after each epoch and at least this often.
    """

    epochs: int = 300
    batch: int = 128
    optimiser: Literal["adamw", "sgd"] = "adamw"
    rate: float = 6.25e-4
    final_rate: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 0.01
    encoding_decay: float = 0.0
    gene_rate: float = 1.0
    warmup_epochs: float = 5.0
    label_smoothing: float = 0.0
    loss: Literal["mean", "tet"] = "mean"
    mmd_weight: float = 0.0
    clip: float = 0.0
    ema: float = 0.0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    channels_last: bool = True
    keep: Literal["last", "best"] = "last"
    activations: Activations = "kept"
    checkpoint_minutes: float = 5.0

    def steps_per_epoch(self, samples: int) -> int:
        """Whole batches of an epoch; a set smaller than a batch is one batch."""
        return max(samples // self.batch, 1)

    def validate(self) -> None:
        require(self.epochs >= 1, f"'epochs' must be at least 1, given {self.epochs}")
        require(self.batch >= 2, f"'batch' must be at least 2 (batch norm), given {self.batch}")
        for name, most in (("epochs", MOST_EPOCHS), ("batch", MOST_BATCH)):
            require(getattr(self, name) <= most, f"'{name}' must be at most {most}, given {getattr(self, name)}")
        require(self.rate > 0, f"'rate' must be positive, given {self.rate}")
        require(0 <= self.final_rate <= 1, f"'final_rate' is a fraction of the rate in [0, 1], given {self.final_rate}")
        require(0 <= self.momentum < 1, f"'momentum' must lie in [0, 1), given {self.momentum}")
        require(0 <= self.ema < 1, f"'ema' must lie in [0, 1), given {self.ema}")
        require(0 <= self.label_smoothing < 1, f"'label_smoothing' must lie in [0, 1), given {self.label_smoothing}")
        require(0 <= self.mmd_weight <= 1, f"'mmd_weight' must lie in [0, 1], given {self.mmd_weight}")
        for name in ("weight_decay", "encoding_decay", "gene_rate", "warmup_epochs", "clip", "checkpoint_minutes"):
            require(getattr(self, name) >= 0, f"'{name}' must not be negative, given {getattr(self, name)}")
