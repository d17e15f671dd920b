"""The compiled twin against the eager one. Two sets of constants only: each costs a compilation when it is cold."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from evospike.neurons import fused
from evospike.neurons.dynamics import multi_step
from evospike.neurons.settings import NeuronSettings

# torch's own compiler imports parts of torch that it calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")

compiled = pytest.mark.skipif(not fused.compiler_available(), reason="no C++ compiler for torch.compile")

SETS = {
    "lif": (NeuronSettings(), 4),
    "plif": (
        NeuronSettings(kind="plif", decay=0.6, threshold=0.7, reset="soft", detach_reset=False, surrogate="arctan"),
        3,
    ),
}


def inputs(neuron: NeuronSettings, steps: int, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """A current and a state under which no potential comes close to the threshold, so that rounding decides nothing."""
    generator = torch.Generator().manual_seed(seed)
    current = torch.randn((steps, *shape), generator=generator) + 0.5
    state = torch.randn(shape, generator=generator) * 0.5
    for _ in range(20):
        v = state
        near = torch.zeros(shape, dtype=torch.bool)
        for row in current:
            u = v * neuron.decay + row
            near |= (u - neuron.threshold).abs() < 1e-4
            s = (u > neuron.threshold).float()
            v = u * (1 - s) if neuron.reset == "hard" else u - neuron.threshold * s
        if not near.any():
            return current, state
        current = current + near * 1e-2
    raise AssertionError("no current away from the threshold found")


def run(current: Tensor, state: Tensor, neuron: NeuronSettings, path: Any) -> dict[str, Tensor]:
    leaves = {"current": current.detach().requires_grad_(), "state": state.detach().requires_grad_()}
    if neuron.kind == "plif":
        leaves["decay"] = torch.tensor(neuron.decay, requires_grad=True)
    spikes, last = multi_step(leaves["current"], leaves["state"], neuron, decay=leaves.get("decay"), path=path)
    generator = torch.Generator().manual_seed(0)
    loss = (spikes * torch.randn(spikes.shape, generator=generator)).mean()
    loss = loss + (last * torch.randn(last.shape, generator=generator)).mean()
    grads = torch.autograd.grad(loss, list(leaves.values()))
    return {"spikes": spikes.detach(), "last": last.detach(), **dict(zip(leaves, grads, strict=True))}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert torch.equal(one["spikes"], other["spikes"])
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@compiled
@pytest.mark.parametrize("name", SETS)
def test_one_compilation_serves_every_size_and_layout_with_the_eager_results(name: str) -> None:
    neuron, steps = SETS[name]
    before = graphs()
    for i, shape in enumerate([(64,), (2, 3, 4, 5), (33,), (1, 7, 6, 6), (130, 10)]):
        current, state = inputs(neuron, steps, shape, i)
        same(run(current, state, neuron, "fused"), run(current, state, neuron, "eager"))
        if len(shape) == 4:
            moved = current.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
            result = run(moved, state, neuron, "fused")
            same(result, run(current, state, neuron, "eager"))
            assert result["spikes"].stride() == moved.stride()
        with torch.no_grad():  # evaluation takes the same compilation
            spikes, _ = multi_step(current, state, neuron, decay=torch.tensor(neuron.decay), path="fused")
        assert torch.equal(spikes, run(current, state, neuron, "eager")["spikes"])
    assert graphs() - before == 2  # one forward, one backward


@compiled
def test_a_static_current_and_no_state() -> None:
    neuron, steps = SETS["lif"]
    current, _ = inputs(neuron, steps, (50,), 3)
    shown = current[:1].clone().requires_grad_()
    fused_spikes, fused_last = multi_step(shown, None, neuron, steps=steps, path="fused")
    eager_spikes, eager_last = multi_step(shown, None, neuron, steps=steps)
    assert torch.equal(fused_spikes, eager_spikes)
    torch.testing.assert_close(fused_last, eager_last, rtol=1e-6, atol=1e-6)
    (one,) = torch.autograd.grad(fused_spikes.mean(), shown)
    (other,) = torch.autograd.grad(eager_spikes.mean(), shown)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_any_number_of_steps_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch gives up on a function after eight recompilations; a search over steps must not run into that."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    fused._compiled.cache_clear()
    try:
        for steps in range(1, 11):
            current = torch.full((steps, 3), 0.8)
            spikes, last = multi_step(current, None, NeuronSettings(), path="fused")
            expected, end = multi_step(current, None, NeuronSettings())
            assert torch.equal(spikes, expected)
            assert torch.equal(last, end)
    finally:
        fused._compiled.cache_clear()


def test_a_missing_compiler_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused.shutil, "which", lambda name: None)
    assert not fused.compiler_available()
    monkeypatch.setattr(fused.shutil, "which", lambda name: f"/bin/{name}" if name == "clang++" else None)
    assert fused.compiler_available()


def test_a_cuda_device_wants_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused.shutil, "which", lambda name: None)
    for found in (None, object()):
        monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name, found=found: found)
        assert fused.compiler_available("cuda:0") == (found is not None)
    assert "triton" in fused.missing_compiler("cuda:0")
    assert "g++" in fused.missing_compiler("cpu")
