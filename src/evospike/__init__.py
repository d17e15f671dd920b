"""evospike: evolve deep spiking neural networks.

The public names are loaded when they are first used, so that importing the package costs next to nothing and the
command line can answer before torch is there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "GeneticConv2d": "evospike.genetic.encoding",
    "GeneticLinear": "evospike.genetic.encoding",
    "GenePool": "evospike.genetic.encoding",
    "encode": "evospike.genetic.encode",
    "materialise": "evospike.genetic.encode",
    "NeuronSettings": "evospike.neurons.settings",
    "SpikingNeuron": "evospike.layers.spiking",
    "NetworkSpec": "evospike.models.spec",
    "SpecBuilder": "evospike.models.spec",
    "Edge": "evospike.models.spec",
    "build": "evospike.models.build",
    "sparsify": "evospike.sparse.learner",
    "for_inference": "evospike.jobs.inference",
    "load": "evospike.jobs.load",
    "EvospikeError": "evospike.core.errors",
}

__all__ = [*sorted(_HOMES), "__version__"]  # pyright: ignore

if TYPE_CHECKING:
    from evospike.core.errors import EvospikeError as EvospikeError
    from evospike.genetic.encode import encode as encode
    from evospike.genetic.encode import materialise as materialise
    from evospike.genetic.encoding import GenePool as GenePool
    from evospike.genetic.encoding import GeneticConv2d as GeneticConv2d
    from evospike.genetic.encoding import GeneticLinear as GeneticLinear
    from evospike.jobs.inference import for_inference as for_inference
    from evospike.jobs.load import load as load
    from evospike.layers.spiking import SpikingNeuron as SpikingNeuron
    from evospike.models.build import build as build
    from evospike.models.spec import Edge as Edge
    from evospike.models.spec import NetworkSpec as NetworkSpec
    from evospike.models.spec import SpecBuilder as SpecBuilder
    from evospike.neurons.settings import NeuronSettings as NeuronSettings
    from evospike.sparse.learner import sparsify as sparsify


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evospike' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
