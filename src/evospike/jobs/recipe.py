"""A recipe: everything that defines a run, read from a shipped name or a TOML file. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from evospike.core.errors import SettingsError
from evospike.core.files import read_text
from evospike.core.limits import MOST_SETTINGS_BYTES
from evospike.core.settings import (
    Settings,
    merge,
    nearest,
    parse_override,
    parse_toml,
    plain,
    read_settings,
    require,
)
from evospike.core.text import shortened, shown
from evospike.data.settings import DIRECTED, DataSettings
from evospike.evolution.settings import EvolutionSettings
from evospike.genetic.settings import EncodingSettings, WiringSettings
from evospike.jobs.settings import OWN, FinalSettings, RankSettings, RunSettings, ScoringSettings, SearchSettings
from evospike.measure.settings import DissimilaritySettings
from evospike.models.settings import ModelSettings
from evospike.neurons.settings import NeuronSettings
from evospike.search.motif import read_motif_file
from evospike.search.settings import SpaceSettings
from evospike.sparse.settings import SparseSettings
from evospike.training.settings import TrainingSettings

MEASURED = ("score", "parameters", "operations", "energy", "spikes", "firing_rate")
"""Terms of a searched architecture that can be objectives; a short training adds `accuracy`."""


@dataclass(frozen=True)
class Recipe(Settings):
    """One experiment. about: a line for the list of recipes, gone when anything but [run] is changed. genes and other
    choices live in their sections."""

    name: str = "custom"
    about: str = ""
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    neuron: NeuronSettings = field(default_factory=NeuronSettings)
    encoding: EncodingSettings = field(default_factory=EncodingSettings)
    wiring: WiringSettings = field(default_factory=WiringSettings)
    sparse: SparseSettings = field(default_factory=SparseSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    evolution: EvolutionSettings = field(default_factory=EvolutionSettings)
    final: FinalSettings = field(default_factory=FinalSettings)
    space: SpaceSettings = field(default_factory=SpaceSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    scoring: ScoringSettings = field(default_factory=ScoringSettings)
    dissimilarity: DissimilaritySettings = field(default_factory=DissimilaritySettings)
    rank: RankSettings = field(default_factory=RankSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def validate(self) -> None:
        starts_dense = self.wiring.kind == "svd" and bool(set(OWN) & set(self.final.arms))
        require(
            not starts_dense or "dense" in self.final.arms,
            "wiring.kind = 'svd' starts from the trained dense twin; add 'dense' to final.arms",
        )
        for arm in ("sparse", "static", "one-shot"):
            require(
                self.sparse.active or arm not in self.final.arms,
                f"arm '{arm}' needs a density below 1; set sparse.density, or --density 0.1",
            )
        period = self.sparse.period_epochs
        require(
            not self.sparse.active or self.sparse.method != "rewire" or period <= self.training.epochs,
            f"sparse.period_epochs is {period:g}, longer than the training of {self.training.epochs} epochs; lower it, "
            "or 0 to let it follow the training",
        )
        require(
            self.training.keep == "last" or self.data.validation > 0,
            "training.keep = 'best' chooses the epoch by validation images; set data.validation above 0",
        )
        frames = self.data.events.frames
        require(
            not self.data.records_events or self.model.steps == frames,
            f"a network takes one step per frame of a recording: model.steps is {self.model.steps}, data.events.frames "
            f"{frames}; set both alike, as with --steps {frames}",
        )
        require(
            self.scoring.score != "training" or self.data.validation > 0,
            "scoring.score = 'training' judges by validation images; set data.validation above 0",
        )
        measured = MEASURED if self.scoring.score != "training" else (*MEASURED, "accuracy")
        for name in self.search.objectives:
            require(
                name in measured,
                f"search.objectives names '{name}', which a search does not measure; {nearest(name, list(measured))}",
            )

    def check_new(self) -> None:
        """Refuse what only the record of an earlier run may say. Raises: SettingsError."""
        self.sparse.check_effect()
        self.data.events.check_effect()
        augment = self.data.augment
        require(
            self.data.source not in DIRECTED or augment.kind == "none" or augment.flip == 0,
            f"data.augment.flip is {augment.flip:g}, but flipped samples of '{self.data.source}' have another label; "
            "set it to 0",
        )

    def check_for(self, verb: str) -> None:
        """Refuse what a verb cannot do with this recipe. Raises: SettingsError."""
        require(
            verb != "evolve" or self.encoding.kind != "dense" or self.evolution.mode == "random",
            f"recipe '{self.name}' stores its weights (encoding.kind = 'dense') and has no initial values to evolve; "
            "use train, or another encoding",
        )
        require(
            verb != "search" or not self.sparse.active or self.scoring.score == "training",
            "a search scores untrained networks with all their synapses; leave out the density here, give it to train",
        )

    def in_flight(self, verb: str) -> int:
        """How many candidates a run of this verb has in flight in a steady state; 0 by generations, or without any."""
        if verb == "search":
            return self.search.in_flight
        return self.evolution.in_flight if verb == "evolve" and self.evolution.mode != "random" else 0

    def starts_from_dense(self, arm: str) -> bool:
        """Whether an arm begins with an approximation of its trained dense twin."""
        return arm == "svd" or (arm in OWN and self.wiring.kind == "svd")

    def to_plain(self) -> dict[str, Any]:
        """Every field as plain JSON values."""
        values = plain(self)
        assert isinstance(values, dict)
        return values


def read_recipe(name: str, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe, or the TOML file at that path, with `section.field=value` overrides and flags laid over it.

    What it says is all that a run needs beside its data, from wherever it is continued: a file of motifs becomes a part
    of it, and a relative path to data an absolute one.
    Raises: SettingsError naming the unknown recipe, field or value.
    """
    values = _values_of(name)
    laid = laid_over(values, overrides, flags or {})
    recipe = recipe_from_plain(laid)
    recipe.check_new()
    as_told = {**laid, "run": None} == {**values, "run": None}
    return _from_here(recipe if as_told else replace(recipe, about=""))


def _from_here(recipe: Recipe) -> Recipe:
    """A recipe that says the same from any other folder."""
    space, data = recipe.space, recipe.data
    if space.motif_file:
        space = replace(space, motif_file="", own_motifs=read_motif_file(space.motif_file))
    if data.folder:
        data = replace(data, folder=os.path.abspath(os.path.expanduser(data.folder)))
    elif data.place:
        data = replace(data, source=f"{data.source.partition(':')[0]}:{os.path.abspath(data.place)}")
    return replace(recipe, space=space, data=data)


def laid_over(values: Mapping[str, Any], overrides: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a recipe with `section.field=value` overrides, then flags laid over them.

    A density of 1 laid over it turns its [sparse] off as a whole.
    Raises: SettingsError for what is no override.
    """
    given = dict[str, Any]()
    for text in overrides:
        given = merge(given, parse_override(text))
    given = merge(given, flags)
    sparse = given.get("sparse")
    if isinstance(sparse, Mapping) and sparse.get("density") == 1:
        values = {**values, "sparse": {}}
    return merge(values, given)


def recipe_from_plain(values: Mapping[str, Any]) -> Recipe:
    """A recipe from nested plain values, as of a record, validated."""
    return read_settings(Recipe, values)


def recipe_text(values: Mapping[str, Any], where: str = "") -> str:
    """A recipe, as plain values, as TOML that `read_recipe` reads back to the same recipe."""
    lines = [f"[{where}]"] if where else []
    lines += [f"{key} = {_toml(v)}" for key, v in values.items() if v is not None and not isinstance(v, Mapping)]
    sections = [
        recipe_text(value, f"{where}.{key}".lstrip(".")) for key, value in values.items() if isinstance(value, Mapping)
    ]
    return "\n\n".join(["\n".join(lines), *sections])


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def shipped_recipes() -> list[str]:
    """Names of the recipes in the package."""
    folder = files("evospike.recipes")
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _values_of(name: str) -> dict[str, Any]:
    if name.endswith(".toml") or "/" in name:
        return _read_file(Path(name))
    if name not in shipped_recipes():
        near = nearest(name, shipped_recipes())
        raise SettingsError(f"unknown recipe '{shortened(name)}'; {near} A file name ends in .toml")
    text = files("evospike.recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return _inherit({"name": name, **parse_toml(text)})


def _read_file(path: Path) -> dict[str, Any]:
    if not os.path.isfile(path):  # never raises, whatever the name holds
        raise SettingsError(
            f"no recipe file at '{path}'; give a path to a TOML file, or one of: {', '.join(shipped_recipes())}"
        )
    text = read_text(path, "recipe", MOST_SETTINGS_BYTES, SettingsError)
    try:
        values = parse_toml(text)
    except ValueError as error:
        raise SettingsError(f"cannot read recipe '{path}': {error}") from None
    return _inherit({"name": path.stem, **values})


def _inherit(values: dict[str, Any]) -> dict[str, Any]:
    """Lay a recipe over the shipped one it names with `like`."""
    base = values.pop("like", None)
    if base is None:
        return values
    if not isinstance(base, str) or base not in shipped_recipes():
        given = shortened(base) if isinstance(base, str) else shown(base)
        raise SettingsError(
            f"recipe {shown(values['name'])} is like '{given}', which is not shipped; "
            f"{nearest(given, shipped_recipes())}"
        )
    inherited = _values_of(base)
    inherited.pop("about", None)
    return merge(inherited, values)
