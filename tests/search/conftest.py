from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from evospike.search.settings import SpaceSettings
from evospike.search.space import Space, Vector

OPERATIONS = ("conv3", "conv5", "sep3", "sep5", "dil3", "dil5", "avgpool3", "maxpool3", "skip")

WIDE: dict[str, Any] = {
    "cells": 6,
    "fewest_cells": 4,
    "widths": (2, 4),
    "operations": OPERATIONS,
    "motifs": ("empty", "FE", "FI", "FBI", "LI", "MI"),
    "signs": "free",
    "inputs": (2, 3, 4),
    "macro": "modules",
    "module_cells": 2,
    "reductions": "searched",
    "neurons": ("lif:0.5:1.0", "plif:0.5:1.0", "if:0.7:0.5"),
}
"""A space in which everything is a gene."""


@pytest.fixture
def wide() -> Callable[..., Space]:
    """Makes the space in which everything is a gene, with changes."""
    return lambda **changes: Space(SpaceSettings(**{**WIDE, **changes}))


@pytest.fixture
def draw() -> Callable[[Space, np.random.Generator], Vector]:
    """Draws a vector of a space, bounds included."""
    return lambda space, rng: tuple(int(gene) for gene in rng.integers(0, np.array(space.upper) + 1))
