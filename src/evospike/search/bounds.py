"""Bounds on what an architecture may cost, from static counts."""

from __future__ import annotations

from dataclasses import dataclass

from evospike.core.settings import Settings, require
from evospike.models.counts import count_layers
from evospike.models.spec import NetworkSpec


@dataclass(frozen=True)
class Bounds(Settings):
    """Limits that are met exactly at their values; 0: none.

    max_parameters, min_parameters: trainable numbers with every weight stored.
    max_operations: multiply-accumulates of one sample over `steps` steps.
    """

    max_parameters: int = 0
    min_parameters: int = 0
    max_operations: int = 0
    steps: int = 1

    def validate(self) -> None:
        for name in ("max_parameters", "min_parameters", "max_operations"):
            require(getattr(self, name) >= 0, f"'{name}' must not be negative, given {getattr(self, name)}")
        require(
            not self.max_parameters or self.min_parameters <= self.max_parameters,
            f"'min_parameters' ({self.min_parameters}) exceeds 'max_parameters' ({self.max_parameters}); swap them",
        )

    def refusals(self, spec: NetworkSpec) -> list[str]:
        """Every bound that a network breaks; none when it keeps them all. Raises: SpecError."""
        layers = count_layers(spec)
        parameters = sum(layer.parameters for layer in layers)
        operations = sum(layer.macs for layer in layers) * self.steps
        broken = []
        if self.max_parameters and parameters > self.max_parameters:
            broken.append(f"more parameters than max_parameters = {self.max_parameters:,}")
        if parameters < self.min_parameters:
            broken.append(f"fewer parameters than min_parameters = {self.min_parameters:,}")
        if self.max_operations and operations > self.max_operations:
            broken.append(f"more operations than max_operations = {self.max_operations:,}")
        return broken
