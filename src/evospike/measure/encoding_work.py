"""What a layer of generated weights does besides what its weights would do (methods 3.6)."""

from __future__ import annotations

from dataclasses import dataclass

from evospike.genetic.contraction import Order
from evospike.genetic.encoding import GeneticLayer
from evospike.measure.tally import InputTally, fan_out
from evospike.models.counts import LayerCount
from evospike.models.spec import Node


@dataclass(frozen=True)
class EncodingWork:
    """What a genetic layer does besides; of one sample, mean over the samples counted.

    order: as the layer runs.
    forming: multiply-accumulates of forming the weight once; in two stages, of forming the two factors.
    first_stage: synaptic operations of the convolution onto g channels, all passes; 0 unless in two stages.
    first_stage_macs: its multiply-accumulates in one pass, padding and zeros of the input counted; 0 likewise.
    second_stage: multiply-accumulates from g real-valued channels to C_o, all passes; 0 likewise.

    In the two stages a missing entry of an encoding does no work.
    """

    order: Order
    forming: int
    first_stage: float
    first_stage_macs: int
    second_stage: int


def encoding_work(node: Node, layer: GeneticLayer, count: LayerCount, tally: InputTally, passes: int) -> EncodingWork:
    """The work of a layer that has run, and has to run so often for a sample, on what entered it."""
    order = layer.settled
    assert order is not None  # the layer ran
    forming = forming_macs(layer, order)
    if order == "materialise":
        return EncodingWork(order, forming, 0.0, 0, 0)
    left, right = layer.two_factors()
    taps = (right != 0).reshape(-1, *layer.weight_shape[1:])
    met = fan_out(node, taps, count.input_shape, count.output_shape)
    positions = count.outputs // layer.out_channels
    return EncodingWork(
        order,
        forming,
        first_stage=tally.operations(met) / (tally.rows // passes),
        first_stage_macs=int(taps.sum()) * positions,
        second_stage=int((left != 0).sum()) * positions * passes,
    )


def forming_macs(layer: GeneticLayer, order: Order) -> int:
    """Multiply-accumulates of the products of small factors that precede a forward, as `GeneticLayer` forms them.

    They are dense products: missing entries of an encoding save nothing.
    """
    out_channels, taps, genes = layer.factor_shape
    if layer.pool.kind == "low_rank":
        mixing = 0
    elif layer.pool.kind == "shared_tapG":
        mixing = taps * genes**2
    else:
        mixing = genes**2 * (out_channels if order == "two_stage" else min(out_channels, taps))
    return mixing + (out_channels * genes * taps if order == "materialise" else 0)
