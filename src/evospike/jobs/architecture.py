"""Which network a recipe's model section stands for: a preset of the literature, or a searched genome."""

from __future__ import annotations

from evospike.models.presets import make_spec
from evospike.models.settings import ModelSettings
from evospike.models.spec import NetworkSpec
from evospike.search.decode import decode
from evospike.search.genome import Genome


def spec_for(
    model: ModelSettings, input_shape: tuple[int, int, int], classes: int, *, events: bool = False
) -> NetworkSpec:
    """The specification of a model section for a data set. Raises: SettingsError, SpecError."""
    if model.genome:
        return decode(Genome.from_json(model.genome), input_shape, classes, events=events)
    return make_spec(model, input_shape, classes, events=events)
