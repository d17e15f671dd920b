"""What the space's settings refuse, and where reductions are."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from evospike.core.errors import SettingsError
from evospike.core.settings import plain, read_settings
from evospike.neurons.settings import NeuronSettings
from evospike.search.settings import SpaceSettings, parse_neuron, reduction_cells


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cells": 0}, "'cells' must be at least 1, given 0"),
        ({"channels": 0}, "'channels' must be at least 1, given 0"),
        ({"module_cells": 0}, "'module_cells' must be at least 1, given 0"),
        (
            {"fewest_cells": 7},
            "'fewest_cells' must lie between 1 and cells = 6, or be 0 for a fixed number, given 7",
        ),
        ({"widths": [8, 0]}, "'widths' must be positive, given [8, 0]"),
        ({"inputs": [2, 5]}, "'inputs' may hold 2, 3 and 4, given 5"),
        ({"inputs": []}, "'inputs' is empty; name at least one"),
        ({"operations": []}, "'operations' is empty; name at least one"),
        ({"motifs": []}, "'motifs' is empty; name at least one"),
        ({"motifs": ["FE", "FE"]}, "'motifs' names 'FE' twice; name each value once"),
        ({"motifs": ["empty"]}, "'motifs' holds only 'empty', which carries nothing; name another"),
        (
            {"operations": ["conv7"]},
            "'operations[0]' cannot be 'conv7'; did you mean 'conv5'? "
            "(one of: conv3, conv5, sep3, sep5, dil3, dil5, avgpool3, maxpool3, skip)",
        ),
        (
            {"cells": 3},
            "with reductions = 'static' 3 cell(s) are all reductions and none has a motif; give more cells",
        ),
        (
            {"reductions": "searched", "cells": 3},
            "'reduction_count' is 3, which may leave no motif among 3 cell(s); give fewer reductions or more cells",
        ),
        ({"neurons": ["lif"]}, "cannot read neuron 'lif'; expected kind:decay:threshold, as in 'lif:0.5:1.0'"),
        ({"neurons": ["lif:a:1"]}, "cannot read neuron 'lif:a:1'; expected kind:decay:threshold, as in 'lif:0.5:1.0'"),
        (
            {"neurons": ["lfi:0.5:1"]},
            "neuron 'lfi:0.5:1': 'kind' cannot be 'lfi'; did you mean 'lif'? (one of: lif, if, plif)",
        ),
        ({"neurons": ["lif:2:1"]}, "neuron 'lif:2:1': 'decay' must lie in (0, 1], given 2.0"),
        ({"neurons": ["lif:0.5:inf"]}, "neuron 'lif:0.5:inf': 'threshold' wants a finite number, given inf"),
        ({"motif": ["FE"]}, "unknown field 'motif'; did you mean 'motifs'?"),
    ],
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(SpaceSettings, values)
    assert str(caught.value) == message


def test_settings_survive_their_plain_form() -> None:
    given = SpaceSettings(widths=(8, 16), neurons=("plif:0.5:1.0",), signs="free", macro="modules", inputs=(4,))
    assert read_settings(SpaceSettings, plain(given)) == given


def test_reduction_cells_of_the_methods() -> None:
    assert reduction_cells("static", 6) == {1, 3, 4}
    assert reduction_cells("event", 6) == {1, 3, 5}
    assert reduction_cells("static", 12) == {3, 6, 9}
    assert reduction_cells("event", 12) == {1, 3, 5, 7}


def test_neurons() -> None:
    assert parse_neuron("plif:0.25:2") == NeuronSettings("plif", 0.25, 2.0)


def test_the_room_imports_no_torch() -> None:
    code = (
        "import sys; import evospike.search.codec, evospike.search.variation, evospike.search.bounds; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
