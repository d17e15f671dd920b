"""Static counts from a specification, without building it: parameters and multiply-accumulates."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from evospike.models.shapes import infer_shapes
from evospike.models.spec import NetworkSpec, Node, Shape


@dataclass(frozen=True)
class LayerCount:
    """What one node costs when its weights are stored.

    weights: numbers in the convolution or linear weight; parameters: all trainable numbers, with bias and norm affine.
    macs: multiply-accumulates of one sample and one step, biases not counted. outputs: units per sample.
    """

    name: str
    op: str
    role: str
    input_shape: Shape
    output_shape: Shape
    weights: int
    parameters: int
    macs: int

    @property
    def outputs(self) -> int:
        return prod(self.output_shape)


def count_layers(spec: NetworkSpec) -> list[LayerCount]:
    """One record per node, in order. Raises: SpecError as `infer_shapes` does."""
    shapes = infer_shapes(spec)
    return [_count(node, shapes[node.inputs[0].source], shapes[node.name]) for node in spec.nodes]


def dense_parameters(spec: NetworkSpec) -> int:
    """Trainable numbers with every weight stored; a decay is counted where the node itself is a plif neuron."""
    return sum(layer.parameters for layer in count_layers(spec))


def macs_per_step(spec: NetworkSpec) -> int:
    """Multiply-accumulates of one sample and one step, every layer dense."""
    return sum(layer.macs for layer in count_layers(spec))


def neuron_units(spec: NetworkSpec) -> int:
    """Spiking units of one sample."""
    return sum(layer.outputs for layer in count_layers(spec) if layer.op == "neuron")


def _count(node: Node, source: Shape, output: Shape) -> LayerCount:
    weights = parameters = macs = 0
    if node.op == "conv":
        weights = node.integer("channels") * (source[0] // node.integer("groups")) * node.integer("kernel") ** 2
        macs = weights * prod(output[1:])
        parameters = weights + (node.integer("channels") if node.args["bias"] else 0)
    elif node.op == "linear":
        weights = macs = source[0] * node.integer("features")
        parameters = weights + (node.integer("features") if node.args["bias"] else 0)
    elif node.op == "norm":
        parameters = 2 * output[0]
    elif node.op == "neuron" and node.args["kind"] == "plif":
        parameters = 1
    return LayerCount(node.name, node.op, str(node.args.get("role", "")), source, output, weights, parameters, macs)
