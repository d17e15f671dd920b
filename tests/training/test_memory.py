"""Keeping less of a forward pass: the gradients are the same to the bit, and less is kept."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evospike.genetic.encode import encode
from evospike.models.build import build
from evospike.models.network import Network
from evospike.models.presets import make_spec
from evospike.models.settings import ModelSettings
from evospike.models.spec import Edge, SpecBuilder
from evospike.neurons import fused
from evospike.neurons.settings import NeuronSettings
from evospike.training import memory
from evospike.training.memory import saving

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def small_tensors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL", 1)


def small_network(path: str = "eager", norm_time: str = "joint") -> Network:
    spec = SpecBuilder("small", (3, 8, 8), 4)
    first = spec.conv_norm_neuron("a.", "input", 8, role="stem")
    second = spec.conv_norm_neuron("b.", first, 8)
    signed = spec.node("d.norm", "norm", Edge(spec.conv("d.conv", second, 8), -1))
    third = spec.conv_norm("c.", second, 8)
    total = spec.node("add", "add", third, spec.node("d.neuron", "neuron", signed))
    fired = spec.node("fire", "neuron", total)
    spec.node("classifier", "linear", spec.node("pool", "global_pool", fired), features=4, role="classifier")
    torch.manual_seed(0)
    return build(spec.finish(), NeuronSettings(kind="plif"), steps=4, path=path, norm_time=norm_time)  # type: ignore[arg-type]


def trained_a_step(net: Network, x: Tensor, activations: str) -> dict[str, Tensor]:
    """Gradients and buffers after a step that keeps what `activations` says."""
    net = copy.deepcopy(net)
    net.recompute_blocks = activations == "recomputed"
    with saving(activations):  # type: ignore[arg-type]
        scores = net(x)
    scores.square().mean().backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {"scores": scores.detach(), **gradients, **dict(net.named_buffers())}


def identical(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


PATHS = ["eager", pytest.param("fused", marks=pytest.mark.skipif(not fused.compiler_available(), reason="no compiler"))]


@pytest.mark.parametrize("activations", ["bits", "recomputed"])
@pytest.mark.parametrize("norm_time", ["joint", "step"])
@pytest.mark.parametrize("path", PATHS)
def test_the_same_gradients_and_statistics_to_the_bit(path: str, norm_time: str, activations: str) -> None:
    net, x = small_network(path, norm_time), torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    identical(trained_a_step(net, x, activations), trained_a_step(net, x, "kept"))


@pytest.mark.parametrize("activations", ["bits", "recomputed"])
def test_genetic_layers_and_masks_are_served_too(activations: str) -> None:
    net = encode(small_network(), genes=4)
    layer = net.get_submodule("b.conv")
    layer.mask = torch.rand(layer.weight_shape, generator=torch.Generator().manual_seed(2)) < 0.5
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    identical(trained_a_step(net, x, activations), trained_a_step(net, x, "kept"))


def kept_bytes(net: Network, x: Tensor, activations: str) -> int:
    """Bytes that the graph of a forward pass holds, parameters apart."""
    net = copy.deepcopy(net)
    net.recompute_blocks = activations == "recomputed"
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor | memory._Bits:
        packed = tensor if activations == "kept" else memory._pack(tensor)
        held = packed.packed if isinstance(packed, memory._Bits) else packed
        if not isinstance(held, nn.Parameter):
            kept[held.untyped_storage().data_ptr()] = held.nbytes
        alive.append(packed)
        return packed

    alive: list[Tensor | memory._Bits] = []
    with torch.autograd.graph.saved_tensors_hooks(note, memory._unpack):
        scores = net(x)
    scores.sum().backward()
    return sum(kept.values())


@pytest.mark.parametrize("path", PATHS)
def test_bits_keep_less_and_recomputed_blocks_least(path: str) -> None:
    net, x = small_network(path), torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    kept, bits, recomputed = (kept_bytes(net, x, name) for name in ("kept", "bits", "recomputed"))
    spikes = 4 * 4 * 16 * 8 * 8 * 8  # bytes of a layer's spikes over T = 4
    assert kept - bits >= 2 * spikes * 15 // 16  # those that convolutions b, c and d read; c and d each keep theirs
    assert recomputed < bits - spikes  # of the blocks, what norms and neurons keep


def test_the_input_of_a_recomputed_block_lives_on_as_bits_only() -> None:
    spec = SpecBuilder("chain", (3, 8, 8), 4)
    fired = spec.conv_norm_neuron("a.", "input", 8, role="stem")
    for name in "bcd":
        fired = spec.conv_norm_neuron(f"{name}.", fired, 8)
    spec.node("classifier", "linear", spec.node("pool", "global_pool", fired), features=4, role="classifier")
    net, x = build(spec.finish(), steps=4), torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    net.recompute_blocks = True
    seen: list[weakref.ref[Tensor]] = []
    for name in ("b.conv", "c.conv", "d.conv"):
        net.get_submodule(name).register_forward_pre_hook(lambda module, inputs: seen.append(weakref.ref(inputs[0])))
    with saving("recomputed"):
        scores = net(x)
    assert [kept() for kept in seen] == [None, None, None]
    scores.sum().backward()
    assert len(seen) == 6  # each convolution ran again


def test_blocks_of_a_residual_network_are_found() -> None:
    spec = make_spec(ModelSettings(preset="resnet19"), (3, 32, 32), 10)
    net = build(spec, steps=2)
    convolutions = [node.name for node in spec.nodes if node.op == "conv"]
    inside = [name for name in convolutions if name in net._block_behind]
    assert 1 / 3 < len(inside) / len(convolutions) < 1  # the second convolution of a residual block ends in a sum


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99), st.booleans())
@settings(max_examples=60, deadline=None)
def test_bits_come_back_as_they_were(shape: list[int], seed: int, moved: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor = (torch.rand(shape, generator=generator) < 0.3).float()
    if moved:
        tensor = tensor.permute(list(torch.randperm(len(shape), generator=generator)))
    packed = memory._pack(tensor)
    assert isinstance(packed, memory._Bits)
    assert packed.packed.numel() == (tensor.numel() + 7) // 8
    again = memory._unpack(packed)
    assert torch.equal(again, tensor)
    assert again.stride() == tensor.stride()
    assert again.dtype == tensor.dtype


def test_what_is_no_spike_stays_as_it_is() -> None:
    for tensor in (
        torch.tensor([0.0, 1.0, 2.0]),
        torch.tensor([0, 1]),
        nn.Parameter(torch.ones(3)),
        torch.ones(4)[::2],
    ):
        assert memory._pack(tensor) is tensor


def test_accelerators_pack_the_same_bits() -> None:
    flat = (torch.rand(37, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    packed = memory._to_bits(flat)
    assert torch.equal(memory._to_bits_by_shifts(flat), packed)
    assert torch.equal(memory._from_bits_by_shifts(packed, 37), memory._from_bits(packed, 37))
    assert torch.equal(memory._from_bits(packed, 37).float(), flat)
