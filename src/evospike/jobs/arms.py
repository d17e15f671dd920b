"""The arms of a final comparison: what tells each of its networks from the recipe's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evospike.core.rng import Name
from evospike.genetic.settings import EncodingSettings, WiringSettings
from evospike.jobs.recipe import Recipe
from evospike.sparse.settings import SparseSettings


def final_key(repeat: int) -> tuple[Name, ...]:
    """Names the draws of a repetition of the final trainings; they are the same for all arms, which makes pairs."""
    return "final", repeat


@dataclass(frozen=True)
class Arm:
    """How the weights of a network are made, drawn and thinned (see `FinalSettings` for the names)."""

    encoding: EncodingSettings
    wiring: WiringSettings
    sparse: SparseSettings

    @classmethod
    def of(cls, recipe: Recipe, name: str) -> Arm:
        """An arm by its name; every name but those of controls is the recipe's own network."""
        own = cls(recipe.encoding, recipe.wiring, recipe.sparse)
        if name == "dense":
            return replace(own, encoding=replace(own.encoding, kind="dense"), sparse=SparseSettings())
        if name == "static":
            return replace(own, sparse=replace(own.sparse, method="static"))
        if name == "one-shot":
            return replace(own, sparse=replace(own.sparse, method="one_shot"))
        if name == "low-rank":
            wiring = replace(own.wiring, kind="analytic", stage_spreads=())
            return replace(own, encoding=replace(own.encoding, kind="low_rank"), wiring=wiring)
        if name in ("random", "analytic"):
            return replace(own, wiring=WiringSettings(kind="random" if name == "random" else "analytic"))
        return own
