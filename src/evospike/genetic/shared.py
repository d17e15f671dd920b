"""Which layer of neurons each encoded layer reads and feeds, for the shared variants (methods 3.3).

The rules, for a specification's graph:

* A layer reads the neurons reached by walking back through norms, pools, flattening and sums. A sum of spikes
  (the output of a SEW block) has several: neurons fed by an encoded layer come first, then the last in node
  order, which is the residual branch rather than the shortcut.
* A layer feeds the first layer of neurons, in node order, that its current reaches through the same
  operations. In a post-activation block that is the one after the sum; in an MS block the first one of the
  next block.
* Walks stop at other weighted layers, at `concat`, at `vote` and at delayed edges. When no neurons are found,
  or their number differs from the layer's channels (`flatten` of a map larger than 1x1), the layer gets an
  encoding of its own for that side, called `<layer>:input` or `<layer>:output`.
* Neurons that no encoded layer feeds (those of the stem) have one encoding, shared by all their readers.

In shared_tapE only neurons that are read by an encoded layer with a kernel have kernel taps, as many as the
largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evospike.models.shapes import infer_shapes
from evospike.models.spec import INPUT, NetworkSpec

THROUGH = ("norm", "avgpool", "maxpool", "global_pool", "flatten", "add")
"""Operations that keep a walk among the same neurons."""


@dataclass(frozen=True)
class LayerShape:
    """What an encoding needs to know of a dense layer; a linear layer has a 1x1 kernel."""

    out_channels: int
    in_channels: int
    kernel: tuple[int, int]

    @property
    def taps(self) -> int:
        """C_i k^2, the columns of the weight matrix."""
        return self.in_channels * self.kernel[0] * self.kernel[1]

    @property
    def weights(self) -> int:
        """Numbers a stored weight has."""
        return self.out_channels * self.taps

    def encodings(self, genes: int) -> int:
        """Numbers that the two encodings of the edge variant have."""
        return genes * (self.taps + self.out_channels)


@dataclass(frozen=True)
class SharedPlan:
    """Encodings that the gene pool owns and which two of them make each layer's weight.

    encodings: shape by name; layers: (input, output) names by layer; kernel: largest kernel of any layer.
    """

    encodings: Mapping[str, tuple[int, ...]]
    layers: Mapping[str, tuple[str, str]]
    kernel: tuple[int, int]


def plan_shared(
    spec: NetworkSpec,
    shapes: Mapping[str, LayerShape],
    genes: int,
    kind: Literal["shared_tapG", "shared_tapE"],
) -> SharedPlan:
    """Find the encodings that the layers in `shapes` share."""
    walks = _Walks(spec)
    outputs = {name: walks.fed_by(name, shape.out_channels) or f"{name}:output" for name, shape in shapes.items()}
    fed = set(outputs.values())
    layers: dict[str, tuple[str, str]] = {}
    channels: dict[str, int] = {}
    taps: dict[str, tuple[int, int]] = {}
    for name, shape in shapes.items():
        source = walks.read_by(name, shape.in_channels, fed) or f"{name}:input"
        layers[name] = source, outputs[name]
        channels.setdefault(source, shape.in_channels)
        channels.setdefault(outputs[name], shape.out_channels)
        taps[source] = _larger(taps.get(source, (1, 1)), shape.kernel)
    with_taps = {key for key, kernel in taps.items() if kernel != (1, 1) and kind == "shared_tapE"}
    encodings = {
        key: (*taps[key], count, genes) if key in with_taps else (count, genes) for key, count in channels.items()
    }
    kernel = (1, 1)
    for shape in shapes.values():
        kernel = _larger(kernel, shape.kernel)
    return SharedPlan(encodings, layers, kernel)


def _larger(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return max(a[0], b[0]), max(a[1], b[1])


class _Walks:
    """Walks along undelayed edges of a specification."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.nodes = {node.name: node for node in spec.nodes}
        self.rank = {node.name: i for i, node in enumerate(spec.nodes)}
        self.shapes = infer_shapes(spec)
        self.sources = {
            node.name: [edge.source for edge in node.inputs if not edge.delay and edge.source != INPUT]
            for node in spec.nodes
        }
        self.readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, sources in self.sources.items():
            for source in sources:
                self.readers[source].append(name)

    def read_by(self, layer: str, channels: int, fed: set[str]) -> str | None:
        found = self._reach(layer, self.sources, channels)
        return max(found, key=lambda name: (name in fed, self.rank[name]), default=None)

    def fed_by(self, layer: str, channels: int) -> str | None:
        return min(self._reach(layer, self.readers, channels), key=self.rank.__getitem__, default=None)

    def _reach(self, start: str, steps: Mapping[str, list[str]], channels: int) -> set[str]:
        """Neurons of the right number reached from `start`."""
        found: set[str] = set()
        seen: set[str] = set()
        ahead = list(steps[start])
        while ahead:
            name = ahead.pop()
            if name in seen:
                continue
            seen.add(name)
            op = self.nodes[name].op
            if op == "neuron":
                found.add(name)
            elif op in THROUGH:
                ahead += steps[name]
        return {name for name in found if self.shapes[name][0] == channels}
