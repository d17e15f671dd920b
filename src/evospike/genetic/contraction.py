"""In which order a genetic layer is computed: form its weight first, or run it in two stages.

With Q output positions (batch x steps x height x width), K = C_i k^2 taps and g genes (methods 3.6), in
multiply-accumulates per forward:

    materialise   min(C_o, K) g^2 + C_o g K + Q C_o K   the weight is built once; the convolution sees spikes
    two_stage     C_o g^2 + Q g (K + C_o)               convolution to g channels, then 1x1 to C_o

The two-stage order launches two kernels and keeps a real-valued activation of g channels for the backward pass. What
that costs grows with the activations, Q (g + C_o), and not with the counts: about 50 multiply-accumulates a value
(`MACS_PER_ACTIVATION`; on two CPU cores 75 at C = 64, 90 at 128, 55 at 256 and less at 512 channels, as
`benchmarks/contraction.py` measures; a GPU was not measured).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Literal

from torch import nn

from evospike.core.errors import EncodingError
from evospike.genetic.settings import Contraction
from evospike.layers.weights import GeneratedWeight

Order = Literal["materialise", "two_stage"]

MACS_PER_ACTIVATION = 50
"""Time that each value of the two-stage order's activations takes beside its arithmetic, in multiply-accumulates."""


class ContractedWeight(GeneratedWeight):
    """A generated weight that is a product of small factors and can run in either order.

    contraction: `auto` until the first forward or `plan_contractions` settles it for good. A masked layer is always
    materialised, whatever it says: two stages never form the weight that is masked.
    """

    contraction: Contraction = "auto"

    @property
    @abstractmethod
    def factor_shape(self) -> tuple[int, int, int]:
        """(output channels C_o, taps C_i k^2, genes g)."""

    @property
    def settled(self) -> Order | None:
        """The order to run in; None as long as that depends on the number of output positions."""
        if self.mask is not None:
            return "materialise"
        return None if self.contraction == "auto" else self.contraction

    def settle(self, positions: int) -> Order:
        """The order to run in; `auto` is decided for this number of output positions, and kept."""
        if self.mask is not None:
            return "materialise"
        if self.contraction == "auto":
            out_channels, taps, genes = self.factor_shape
            self.contraction = choose_contraction(out_channels, taps, genes, positions)
        return self.contraction


def macs(order: Order, out_channels: int, taps: int, genes: int, positions: int) -> int:
    """Multiply-accumulates of one forward, the building of the factors included.

    positions: batch x steps x output height x output width.
    """
    if order == "materialise":
        build = min(out_channels, taps) * genes**2 + out_channels * genes * taps
        return build + positions * out_channels * taps
    return out_channels * genes**2 + positions * genes * (taps + out_channels)


def choose_contraction(out_channels: int, taps: int, genes: int, positions: int) -> Order:
    """The order that takes less time: the counts of `macs`, and for two stages what their activations take."""
    materialised = macs("materialise", out_channels, taps, genes, positions)
    staged = macs("two_stage", out_channels, taps, genes, positions)
    staged += MACS_PER_ACTIVATION * positions * (genes + out_channels)
    return "two_stage" if staged < materialised else "materialise"


def plan_contractions(
    net: nn.Module, positions_per_layer: Mapping[str, int], force: Contraction = "auto"
) -> dict[str, Order]:
    """Settle the order of every genetic layer and return the record, for `apply_contractions` in another
    process.

    positions_per_layer: output positions of one forward by layer name; unused when `force` names an order.
    Raises: EncodingError for a layer whose positions are missing.
    """
    record: dict[str, Order] = {}
    for name, layer in contracted_layers(net):
        layer.contraction = force
        if force == "auto" and name not in positions_per_layer:
            raise EncodingError(f"no output positions for layer '{name}'; expected batch x steps x height x width")
        record[name] = layer.settle(positions_per_layer.get(name, 1))
    return record


def apply_contractions(net: nn.Module, record: Mapping[str, str]) -> None:
    """Set the orders that `plan_contractions` recorded.

    Raises: EncodingError when the record names other layers than the network has, or no order.
    """
    layers = dict(contracted_layers(net))
    if strange := sorted(set(layers) ^ set(record)):
        raise EncodingError(
            f"contraction record and network differ in layer '{strange[0]}'; plan the contractions again"
        )
    for name, layer in layers.items():
        order = record[name]
        if order == "materialise":
            layer.contraction = "materialise"
        elif order == "two_stage":
            layer.contraction = "two_stage"
        else:
            raise EncodingError(f"layer '{name}' has contraction '{order}'; expected 'materialise' or 'two_stage'")


def contracted_layers(net: nn.Module) -> Iterator[tuple[str, ContractedWeight]]:
    """Every layer that can run in either order, with its dotted name."""
    for name, layer in net.named_modules():
        if isinstance(layer, ContractedWeight):
            yield name, layer
