from __future__ import annotations

import math

import pytest
import torch

from evospike.layers.spiking import SpikingNeuron, merge_time, split_time
from evospike.neurons.dynamics import multi_step
from evospike.neurons.settings import NeuronSettings


def test_the_module_is_the_function() -> None:
    torch.manual_seed(0)
    neuron = NeuronSettings(decay=0.7, reset="soft")
    current, state = torch.randn(4, 3, 5) + 0.5, torch.randn(3, 5)
    spikes, last = SpikingNeuron(neuron)(current, state)
    expected, end = multi_step(current, state, neuron)
    assert torch.equal(spikes, expected)
    assert torch.equal(last, end)
    shown, _ = SpikingNeuron(neuron)(current[:1], None, steps=3)
    assert torch.equal(shown, multi_step(current[:1].repeat(3, 1, 1), None, neuron)[0])
    assert list(SpikingNeuron(neuron).parameters()) == []


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9])
def test_a_plif_layer_starts_at_its_decay_and_learns_one_number(decay: float) -> None:
    torch.manual_seed(0)
    layer = SpikingNeuron(NeuronSettings(kind="plif", decay=decay)).double()
    assert layer.decay_logit is not None
    assert torch.sigmoid(layer.decay_logit).item() == pytest.approx(decay, rel=1e-6)
    assert [tuple(p.shape) for p in layer.parameters()] == [()]
    current = torch.randn(5, 40, dtype=torch.float64) * 0.5
    spikes, last = layer(current)
    expected, _ = multi_step(current, None, NeuronSettings(decay=decay))
    assert torch.equal(spikes, expected)
    (by_logit,) = torch.autograd.grad(spikes.sum() + last.sum(), layer.decay_logit)
    factor = torch.sigmoid(layer.decay_logit.detach()).requires_grad_()
    spikes, last = multi_step(current, None, NeuronSettings(decay=decay), decay=factor)
    (by_factor,) = torch.autograd.grad(spikes.sum() + last.sum(), factor)
    assert by_logit.item() == pytest.approx((by_factor * factor * (1 - factor)).item(), rel=1e-12)
    assert abs(by_logit.item()) > 1e-3


def test_the_path_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from evospike.neurons import fused

    def refuse(*_: object) -> None:
        raise RuntimeError("fused was called")

    monkeypatch.setattr(fused, "charge_and_fire", refuse)
    SpikingNeuron(NeuronSettings())(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="fused was called"):
        SpikingNeuron(NeuronSettings(), "fused")(torch.ones(2, 3))


def test_repr_says_what_the_neuron_is() -> None:
    text = repr(SpikingNeuron(NeuronSettings(kind="if", surrogate="sigmoid", threshold=2.0)))
    assert text == "SpikingNeuron(if, threshold=2.0, decay=0.5, reset=hard, sigmoid(0.25))"


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 5), (3, 2, 4, 5, 6), (3, 2, 1, 5, 6), (3, 1, 4, 1, 1)])
def test_merge_and_split_are_inverse_views(shape: tuple[int, ...]) -> None:
    x = torch.arange(float(math.prod(shape))).reshape(shape)
    merged = merge_time(x)
    assert merged.shape == (shape[0] * shape[1], *shape[2:])
    assert torch.equal(merged, torch.cat(list(x)))
    assert merged.data_ptr() == x.data_ptr()
    back = split_time(merged, shape[0])
    assert torch.equal(back, x)
    assert back.data_ptr() == x.data_ptr()


def test_merge_and_split_are_views_for_channels_last() -> None:
    flat = torch.rand(6, 4, 5, 7).contiguous(memory_format=torch.channels_last)
    timed = split_time(flat, 3)
    assert timed.data_ptr() == flat.data_ptr()
    assert torch.equal(timed[1], flat[2:4])
    merged = merge_time(timed)
    assert merged.data_ptr() == flat.data_ptr()
    assert merged.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(merged, flat)
    # and through a neuron, which is where merging happens
    spikes, _ = SpikingNeuron(NeuronSettings())(timed * 3)
    merged = merge_time(spikes)
    assert merged.data_ptr() == spikes.data_ptr()
    assert merged.is_contiguous(memory_format=torch.channels_last)
    # where merging has to copy, the order of memory stays
    shown = merge_time(flat.unsqueeze(0).expand(3, -1, -1, -1, -1))
    assert torch.equal(shown, flat.repeat(3, 1, 1, 1))
    assert shown.is_contiguous(memory_format=torch.channels_last)
