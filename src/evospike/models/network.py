"""A built network: runs the graph of its specification over T steps.

A static image is coded once: every node before the first neuron works on (B, ...), and only the first neuron spreads it
over time. A graph with delayed edges is stepped through time, one step of every node after the other. A batch norm that
only a neuron reads is computed together with it where `layers.norm_and_fire` can.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from evospike.core.errors import ShapeError
from evospike.layers.norm_and_fire import can_join, normalise_and_fire
from evospike.layers.spiking import SpikingNeuron, TimeBatchNorm2d, merge_time, split_time
from evospike.layers.weights import holding_weights
from evospike.models.shapes import infer_shapes
from evospike.models.spec import INPUT, Edge, NetworkSpec, Node

SpikeObserver = Callable[[str, Tensor, Tensor], None]
"""Called with a neuron layer's name, its spikes (T, B, ...) and its last potential (B, ...); in a network that is
stepped through time, once per step with T = 1."""


@dataclass(frozen=True)
class _Value:
    """What a node gave: (B, ...) when it is the same at every step, (steps*B, ...) when it is not.

    pending: modules that are still to be applied, by the neuron that reads this; `timed` is said of `tensor`.
    """

    tensor: Tensor
    timed: bool
    pending: tuple[nn.Module, ...] = ()


class Network(nn.Module):
    """A spiking network; make one with `models.build.build`.

    forward: images (B, C, H, W), shown at every step, or frames (T, B, C, H, W) -> class scores (T, B, classes).
    Neuron state starts at zero for every forward. `observer`, when set, sees the spikes of every neuron layer.
    recompute_blocks: in training keep of each block (weights, norm, neurons) its input only, and compute the rest again
    for the backward pass: the same gradients for more time and less memory. Without effect while an observer watches,
    and in a network that is stepped through time.
    """

    def __init__(self, spec: NetworkSpec, steps: int) -> None:
        super().__init__()
        self.spec, self.steps = spec, steps
        self.observer: SpikeObserver | None = None
        self.recompute_blocks = False
        self._shapes = infer_shapes(spec)
        self._last_reader = {edge.source: i for i, node in enumerate(spec.nodes) for edge in node.inputs}
        self._neuron_behind = {} if spec.has_delays else _neurons_behind_norms(spec)
        self._block_behind = {} if spec.has_delays else _blocks_behind_weights(spec)

    def forward(self, x: Tensor) -> Tensor:
        steps = self._check_input(x)
        if self.spec.has_delays:
            return self._step_through(x, steps)
        value = _Value(merge_time(x), True) if self.spec.events else _Value(x, False)
        scores = self._run(value, steps, {}, {})
        return self._over_time(scores, steps)

    def predict(self, x: Tensor) -> Tensor:
        """Class of each sample, (B,): the largest score, averaged over time."""
        classes: Tensor = self(x).mean(0).argmax(-1)
        return classes

    def _check_input(self, x: Tensor) -> int:
        wanted = 5 if self.spec.events else 4
        if x.dim() != wanted or tuple(x.shape[-3:]) != self.spec.input_shape:
            form = "(T, B, C, H, W)" if self.spec.events else "(B, C, H, W)"
            raise ShapeError(
                f"'{self.spec.name}' reads {form} with (C, H, W) = {self.spec.input_shape}, given {tuple(x.shape)}"
            )
        if not x.is_floating_point() or not x.numel():
            given = f"{x.dtype} {tuple(x.shape)}"
            raise ShapeError(f"'{self.spec.name}' reads floats of at least one sample, normalised, given {given}")
        return x.shape[0] if self.spec.events else self.steps

    def _over_time(self, value: _Value, steps: int) -> Tensor:
        if value.timed:
            return split_time(value.tensor, steps)
        return value.tensor.unsqueeze(0).expand(steps, *value.tensor.shape)

    def _step_through(self, x: Tensor, steps: int) -> Tensor:
        """One step of every node after the other, keeping what delayed edges will read."""
        states: dict[str, Tensor] = {}
        history: list[dict[str, Tensor]] = []
        scores = []
        reach = max(edge.delay for node in self.spec.nodes for edge in node.inputs)
        with holding_weights(self):
            for t in range(steps):
                delayed = {f"{d}:{name}": v for d, past in enumerate(reversed(history), 1) for name, v in past.items()}
                outputs: dict[str, Tensor] = {}
                value = self._run(_Value(x[t] if self.spec.events else x, True), 1, states, delayed, outputs)
                history = [*history, {INPUT: x[t] if self.spec.events else x, **outputs}][-reach:]
                scores.append(value.tensor)
        return torch.stack(scores)

    def _run(
        self,
        x: _Value,
        steps: int,
        states: dict[str, Tensor],
        delayed: dict[str, Tensor],
        outputs: dict[str, Tensor] | None = None,
    ) -> _Value:
        values = {INPUT: x}
        batch = x.tensor.shape[0] // (steps if x.timed else 1)
        for i, node in enumerate(self.spec.nodes):
            arriving = [self._arrive(edge, values, delayed, batch, x.tensor) for edge in node.inputs]
            values[node.name] = self._compute(node, arriving, steps, states)
            if outputs is not None:
                outputs[node.name] = values[node.name].tensor
            else:
                for edge in node.inputs:
                    if self._last_reader[edge.source] == i:
                        values.pop(edge.source, None)
        return values[self.spec.output]

    def _arrive(
        self, edge: Edge, values: dict[str, _Value], delayed: dict[str, Tensor], batch: int, like: Tensor
    ) -> _Value:
        if edge.delay:
            past = delayed.get(f"{edge.delay}:{edge.source}")
            tensor = like.new_zeros(batch, *self._shapes[edge.source]) if past is None else past
            value = _Value(tensor, True)
        else:
            value = values[edge.source]
        if edge.sign:
            kept = value.tensor.clamp_min(0) if edge.sign > 0 else value.tensor.clamp_max(0)
            return _Value(kept, value.timed)
        return value

    def _compute(self, node: Node, inputs: list[_Value], steps: int, states: dict[str, Tensor]) -> _Value:
        module = self.get_submodule(node.name)
        if isinstance(module, SpikingNeuron):
            return self._fire(node, module, inputs[0], steps, states)
        if len(inputs) > 1:
            return self._join(node, inputs, steps)
        value = inputs[0]
        if self._waits_for_neuron(node, module):
            return _Value(value.tensor, value.timed, (*value.pending, module))
        return _Value(_applied(module, value, steps), value.timed)

    def _waits_for_neuron(self, node: Node, module: nn.Module) -> bool:
        """Whether the neuron that reads this node applies it."""
        if self.observer is not None or not self.training:
            return False
        if self.recompute_blocks and (node.name in self._block_behind or node.name in self._block_behind.values()):
            return torch.is_grad_enabled()
        behind = self._neuron_behind.get(node.name)
        return behind is not None and can_join(module, self.get_submodule(behind))

    def _fire(self, node: Node, module: SpikingNeuron, value: _Value, steps: int, states: dict[str, Tensor]) -> _Value:
        if value.pending:
            return _Value(self._fire_behind(value, module, steps), True)
        current = split_time(value.tensor, steps) if value.timed else value.tensor.unsqueeze(0)
        spikes, states[node.name] = module(current, states.get(node.name), steps)
        if self.observer is not None:
            self.observer(node.name, spikes, states[node.name])
        return _Value(merge_time(spikes), True)

    def _fire_behind(self, value: _Value, neuron: SpikingNeuron, steps: int) -> Tensor:
        """Spikes (T*B, ...) of neurons behind what is pending; of a block that is recomputed only its input is kept."""
        *before, norm = value.pending
        timed = value.timed  # `run` is kept for the backward pass and must not keep `value`: its tensor may be packed

        def run(x: Tensor) -> Tensor:
            for module in before:
                x = module(x)
            assert isinstance(norm, TimeBatchNorm2d)
            if can_join(norm, neuron):
                return normalise_and_fire(x, norm, neuron, steps, timed=timed)
            current = _applied(norm, _Value(x, timed), steps)
            spikes, _ = neuron(split_time(current, steps) if timed else current.unsqueeze(0), None, steps)
            return merge_time(spikes)

        return _recomputed(run, value.tensor, norm) if before else run(value.tensor)

    def _join(self, node: Node, inputs: list[_Value], steps: int) -> _Value:
        timed = any(value.timed for value in inputs)
        if timed and not all(value.timed for value in inputs):
            inputs = [v if v.timed else _Value(merge_time(self._over_time(v, steps)), True) for v in inputs]
        tensors = [value.tensor for value in inputs]
        if node.op == "concat":
            return _Value(self._concatenated(tensors), timed)
        total = tensors[0]
        for tensor in tensors[1:]:
            total = total + tensor
        return _Value(total, timed)

    def _concatenated(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors, 1)


def _applied(module: nn.Module, value: _Value, steps: int) -> Tensor:
    if isinstance(module, TimeBatchNorm2d):
        shown, merged = (1, steps) if value.timed else (steps, 1)
        return module(value.tensor, repeats=shown, steps=merged)  # type: ignore[no-any-return]
    return module(value.tensor)  # type: ignore[no-any-return]


def _recomputed(run: Callable[[Tensor], Tensor], x: Tensor, norm: nn.Module) -> Tensor:
    """run(x), of which the backward pass keeps only x; computed again, the norm's running statistics stand still."""
    assert isinstance(norm, TimeBatchNorm2d)
    result: Tensor = checkpoint(
        run,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), norm.standing_still()),
    )
    return result


def _neurons_behind_norms(spec: NetworkSpec) -> dict[str, str]:
    """Neurons by the norm they follow, where nothing else reads it."""
    return {
        norm: neuron
        for norm, neuron in _only_readers(spec, "norm", "neuron").items()
        if not spec[neuron].inputs[0].sign
    }


def _blocks_behind_weights(spec: NetworkSpec) -> dict[str, str]:
    """Norms by the convolution they follow, where only they read it, and only a neuron reads them."""
    fired = _neurons_behind_norms(spec)
    return {
        conv: norm
        for conv, norm in _only_readers(spec, "conv", "norm").items()
        if norm in fired and not spec[norm].inputs[0].sign
    }


def _only_readers(spec: NetworkSpec, op: str, reader: str) -> dict[str, str]:
    """Nodes of operation `reader` by the node of operation `op` that nothing else reads."""
    found = {node.name: spec.readers(node.name) for node in spec.nodes if node.op == op}
    return {name: nodes[0].name for name, nodes in found.items() if len(nodes) == 1 and nodes[0].op == reader}
