"""Settings of the genetic room: how weights are encoded and what their initial values are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evospike.core.settings import Settings, require

Kind = Literal["dense", "edge", "shared_tapG", "shared_tapE", "low_rank"]
Contraction = Literal["auto", "materialise", "two_stage"]
TapReading = Literal["mean", "centre"]
WiringKind = Literal["analytic", "random", "evolved", "svd"]
Bounds = Literal["absolute", "relative", "none"]
Start = Literal["independent", "orthogonal_genes"]


@dataclass(frozen=True)
class EncodingSettings(Settings):
    """How the weights of a network come to be.

    kind: `dense` stores them; `edge` is methods 3.3 equation 1; `shared_tapG` and `shared_tapE` are
        the two readings of equation 3; `low_rank` is `edge` with the interaction fixed to the identity (the
        control).
    genes: g, the size of the gene interaction matrix.
    train_output_encoding: False freezes the output encodings at their initial values.
    skip_growing: leave layers dense that encoding would make larger (methods 3.4, point 3).
    contraction: how a layer runs, see `genetic.contraction`.
    tap_reading: how `shared_tapE` reads one vector per neuron out of one vector per neuron and kernel tap.
    roles: the roles of the specification's layers that are encoded.
    """

    kind: Kind = "edge"
    genes: int = 100
    train_output_encoding: bool = True
    skip_growing: bool = True
    contraction: Contraction = "auto"
    tap_reading: TapReading = "mean"
    roles: tuple[str, ...] = ("body",)

    def validate(self) -> None:
        require(self.genes != 0, "zero genes cannot express a weight; set genes to at least 1")
        require(self.genes > 0, f"genes is {self.genes}; expected at least 1")
        require(
            bool(self.roles),
            "no roles to encode; name at least one, as in roles = ['body'], or set kind = 'dense'",
        )
        require(
            self.train_output_encoding or not self.kind.startswith("shared"),
            f"train_output_encoding = false cannot be used with '{self.kind}', whose output encodings are also input "
            "encodings; set kind = 'edge'",
        )


@dataclass(frozen=True)
class WiringSettings(Settings):
    """What the initial values of encodings and genes are drawn from (methods 3.7, 3.8).

    kind: `analytic` keeps the variance of the weights at Kaiming's value; `random` is a standard normal;
        `evolved` is a truncated normal with the spreads below; `svd` starts from a trained dense twin.
    encoding_spread, gene_spread: standard deviations before truncation, of encodings and of the gene
        interaction.
    bounds: truncate at `bound` (absolute), at `bound` standard deviations (relative), or not at all (none).
    stage_spreads: one encoding spread per stage, in the order of `wiring.stage_names`; empty:
        `encoding_spread` for all.
    start: of kind `analytic` only: entries of the gene interaction are drawn independently, or made orthogonal at
        equal variance (`orthogonal_genes`), so that it passes every direction on alike.
    """

    kind: WiringKind = "analytic"
    encoding_spread: float = 0.05
    gene_spread: float = 0.1
    bounds: Bounds = "absolute"
    bound: float = 2.0
    stage_spreads: tuple[float, ...] = ()
    start: Start = "independent"

    def validate(self) -> None:
        for name in ("encoding_spread", "gene_spread", "bound"):
            value = getattr(self, name)
            require(value > 0, f"{name} is {value}; expected a number above 0")
        require(
            self.start == "independent" or self.kind == "analytic",
            f"start '{self.start}' belongs to wiring 'analytic', given kind '{self.kind}'; set start = 'independent'",
        )
        for i, value in enumerate(self.stage_spreads):
            require(value > 0, f"stage_spreads[{i}] is {value}; expected a number above 0")
