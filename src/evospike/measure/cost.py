"""What a network does for a sample, counted in one pass over a data set (methods 1.8).

The tensor that *enters* a layer decides what its work is: spikes are accumulated, anything else is multiplied. For
every position of an input its non-zero entries are counted; times the present weights that the position meets this is
exactly the number of pairs (input, weight) that meet, without running anything twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from evospike.core.errors import ShapeError
from evospike.genetic.encoding import GeneticLayer
from evospike.layers.weights import weight_of, weighted_layers
from evospike.measure.encoding_work import EncodingWork, encoding_work
from evospike.measure.predictions import Predictions
from evospike.measure.sources import Origin, moving_nodes, origins
from evospike.measure.tally import InputKind, InputTally, SpikeTally, fan_out
from evospike.models.counts import LayerCount, count_layers
from evospike.models.network import Network


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer, per sample, mean over the samples counted; a generated weight as if formed.

    reads: where what it reads comes from: the network's `input`, `currents` that precede every neuron, or `neurons`.
    input_kind: of everything that entered: zeros and ones (`binary`), whole numbers from 0 (`counts`), or `real`.
    input_rate: r_in, mean of what entered per element and pass; input_activity: share of it that was not zero.
    passes: how often the layer has to run for a sample: once where its input is the same at every step, else T times.
    inputs, outputs: numbers that one pass reads and gives. weights: numbers in the weight; present: those not zero.
    dense_macs: multiply-accumulates of one pass with every weight present, padding counted (methods 1.8, FL).
    unpadded_macs: of one pass with the present weights, padding left out.
    effective: pairs (input not zero, weight not zero) that met in all passes; padding and biases are no input.
    synaptic_operations: the same, but an input of 2 counts as two spikes where `counts` entered.
    dense_unpadded_macs, dense_effective, dense_synaptic_operations: what these three would be with every weight
    present and the same input.
    encoding: what a genetic layer does besides; None for a stored weight.
    """

    name: str
    op: str
    reads: Origin
    input_kind: InputKind
    input_rate: float
    input_activity: float
    passes: int
    inputs: int
    outputs: int
    weights: int
    present: int
    dense_macs: int
    unpadded_macs: int
    effective: float
    synaptic_operations: float
    dense_unpadded_macs: int
    dense_effective: float
    dense_synaptic_operations: float
    encoding: EncodingWork | None = None

    @property
    def density(self) -> float:
        """Share of the weights that are present."""
        return self.present / self.weights

    @property
    def present_macs(self) -> float:
        """Multiply-accumulates of one pass with the present weights, padding counted."""
        return self.dense_macs * self.density


@dataclass(frozen=True)
class NeuronCost:
    """One layer of neurons, over all samples counted.

    spikes_by_step: of one sample, mean over samples. dead, saturated: share of the units that never fired, and that
    fired at every step of every sample.
    """

    name: str
    units: int
    spikes_by_step: tuple[float, ...]
    dead: float
    saturated: float

    @property
    def spikes(self) -> float:
        """Of one sample."""
        return sum(self.spikes_by_step)

    @property
    def rate(self) -> float:
        """Spikes per unit and step."""
        return self.spikes / (self.units * len(self.spikes_by_step))


@dataclass(frozen=True)
class Costs:
    """What a network does for one sample over `steps` steps, mean over `samples`."""

    samples: int
    steps: int
    layers: tuple[LayerCost, ...]
    neurons: tuple[NeuronCost, ...]

    @property
    def spikes_per_sample(self) -> float:
        """Of all neurons over all steps."""
        return sum(layer.spikes for layer in self.neurons)

    @property
    def firing_rate(self) -> float:
        """Spikes per unit and step, all units alike."""
        return self.spikes_per_sample / self.membrane_updates

    @property
    def accumulates(self) -> float:
        """Effective operations of layers that read zeros and ones."""
        return sum(layer.effective for layer in self.layers if layer.input_kind == "binary")

    @property
    def multiply_accumulates(self) -> float:
        """Effective operations of all other layers, those that read `counts` among them."""
        return sum(layer.effective for layer in self.layers if layer.input_kind != "binary")

    @property
    def synaptic_operations(self) -> float:
        """Of all layers."""
        return sum(layer.synaptic_operations for layer in self.layers)

    @property
    def membrane_updates(self) -> int:
        """One for every unit and step."""
        return self._units * self.steps

    @property
    def activation_sparsity(self) -> float:
        """Share of the neurons' outputs that are zero."""
        return 1 - self.firing_rate

    @property
    def connection_sparsity(self) -> float:
        """Share of the weights of all layers that are zero."""
        weights = sum(layer.weights for layer in self.layers)
        return (weights - sum(layer.present for layer in self.layers)) / weights

    @property
    def dead(self) -> float:
        """Share of all units that never fired."""
        return sum(layer.dead * layer.units for layer in self.neurons) / self._units

    @property
    def saturated(self) -> float:
        """Share of all units that fired at every step of every sample."""
        return sum(layer.saturated * layer.units for layer in self.neurons) / self._units

    @property
    def _units(self) -> int:
        return sum(layer.units for layer in self.neurons)


class CostCounter:
    """Adds up what passes through a network; made by `counting_costs`."""

    def __init__(self, net: Network) -> None:
        self.samples = self.steps = 0
        self._net = net
        self._layers = dict(weighted_layers(net))
        self._moving, self._origins = moving_nodes(net.spec), origins(net.spec)
        self._inputs = {name: InputTally() for name in self._layers}
        self._spikes: dict[str, SpikeTally] = {}

    def __call__(self, name: str, spikes: Tensor, potential: Tensor) -> None:
        """Count the spikes (T, B, ...) of one layer of neurons; the network's observer."""
        self._spikes.setdefault(name, SpikeTally()).add(spikes)

    def watch(self) -> Iterator[RemovableHandle]:
        """Hook every weighted layer and the end of a forward."""
        for name, layer in self._layers.items():
            yield layer.register_forward_pre_hook(_hand_to(self._inputs[name]))
        yield self._net.register_forward_hook(self._end_of_forward)

    def _end_of_forward(self, net: nn.Module, arguments: object, scores: Tensor) -> None:
        steps, samples = scores.shape[:2]
        if self.samples and steps != self.steps:
            raise ShapeError(f"a batch has {steps} steps after batches of {self.steps}; count them apart")
        self.steps = steps
        self.samples += samples
        for tally in self._spikes.values():
            tally.rewind()

    @torch.no_grad()
    def costs(self) -> Costs:
        """What was counted so far, for the weights as they are now. Raises: ShapeError when no sample was."""
        if not self.samples:
            raise ShapeError("no sample was counted; run the network on at least one batch")
        layers = tuple(self._layer(count) for count in count_layers(self._net.spec) if count.weights)
        return Costs(self.samples, self.steps, layers, tuple(self._neurons(name) for name in self._spikes))

    def _layer(self, count: LayerCount) -> LayerCost:
        node, layer, tally = self._net.spec[count.name], self._layers[count.name], self._inputs[count.name]
        passes = tally.rows // self.samples if count.name in self._moving else 1
        shown = tally.rows // passes  # a static layer of a network that is stepped through time runs at every step
        present = weight_of(layer) != 0
        met = fan_out(node, present, count.input_shape, count.output_shape)
        all_met = fan_out(node, torch.ones_like(present), count.input_shape, count.output_shape)
        elements = tally.rows * tally.nonzero.numel()
        return LayerCost(
            name=count.name,
            op=count.op,
            reads=self._origins[count.name],
            input_kind=tally.kind,
            input_rate=float(tally.values.sum()) / elements,
            input_activity=int(tally.nonzero.sum()) / elements,
            passes=passes,
            inputs=tally.nonzero.numel(),
            outputs=count.outputs,
            weights=count.weights,
            present=int(present.sum()),
            dense_macs=count.macs,
            unpadded_macs=int(met.sum()),
            effective=tally.pairs(met) / shown,
            synaptic_operations=tally.operations(met) / shown,
            dense_unpadded_macs=int(all_met.sum()),
            dense_effective=tally.pairs(all_met) / shown,
            dense_synaptic_operations=tally.operations(all_met) / shown,
            encoding=encoding_work(node, layer, count, tally, passes) if isinstance(layer, GeneticLayer) else None,
        )

    def _neurons(self, name: str) -> NeuronCost:
        tally = self._spikes[name]
        units = tally.by_unit.numel()
        return NeuronCost(
            name=name,
            units=units,
            spikes_by_step=tuple(spikes / self.samples for spikes in tally.by_step),
            dead=int((tally.by_unit == 0).sum()) / units,
            saturated=int((tally.by_unit == self.samples * self.steps).sum()) / units,
        )


def _hand_to(tally: InputTally) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def look(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        tally.add(arguments[0])

    return look


@contextmanager
def counting_costs(net: Network) -> Iterator[CostCounter]:
    """Count every forward inside this context; on leaving, also by an exception, hooks and observer are as before.

    Raises: ShapeError for a network without layers of neurons.
    """
    if not any(node.op == "neuron" for node in net.spec.nodes):
        raise ShapeError(
            f"'{net.spec.name}' has no layer of neurons, so there is nothing to count as spikes; "
            "give it at least one node of operation 'neuron'"
        )
    counter, before = CostCounter(net), net.observer
    handles = list(counter.watch())
    net.observer = counter
    try:
        yield counter
    finally:
        net.observer = before
        for handle in handles:
            handle.remove()


@torch.no_grad()
def count_costs(net: Network, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Costs, Predictions]:
    """Run a network in eval mode over batches of (images, classes), count what it does and judge its scores.

    Every module's mode, the hooks and the observer are restored, also when a batch fails.
    Raises: ShapeError for a network without layers of neurons, or without any batch.
    """
    modes = [(module, module.training) for module in net.modules()]
    predictions = Predictions()
    net.eval()
    try:
        with counting_costs(net) as counter:
            for x, labels in batches:
                predictions.add(net(x), labels)
    finally:
        for module, training in modes:
            module.training = training
    return counter.costs(), predictions
