"""The Python that the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

import evospike
from evospike.layers.weights import GeneratedWeight

README = Path(__file__).parents[2] / "README.md"


def test_the_block_of_python_runs(trained) -> None:
    run, _ = trained
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block.count("runs/digits-...") == 1
    generator = torch.Generator().manual_seed(0)
    names: dict[str, Any] = {
        "images": torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=generator),
        "any_torch_module": nn.Sequential(*[nn.Conv2d(128, 128, 3) for _ in range(3)]),
        "text": evospike.load(run.path).network.spec.to_json(),
    }
    # the compiled path has its own tests, and takes a minute
    block = block.replace("runs/digits-...", str(run.path)).replace("compiled=True", "compiled=False")
    sparse, specified = block.split("spec = ")
    exec(sparse, names)
    assert names["classes"].shape == (5,)
    assert names["scores"].shape == (2, 5, 10)
    assert torch.equal(names["scores"].mean(0).argmax(-1), names["classes"])
    torch.testing.assert_close(names["fast"](names["fast"].normalise(names["images"])), names["scores"])
    encoded = [isinstance(layer, GeneratedWeight) for layer in names["any_torch_module"][:3]]
    assert encoded == [False, True, True], "in place, all but the first"
    weights = torch.cat([layer.weight.flatten() for layer in names["net"][:3]])
    assert int(weights.count_nonzero()) == round(0.1 * len(weights))
    exec("spec = " + specified, names)
    assert names["net"](torch.zeros(2, 1, 8, 8)).shape == (4, 2, 10)
