"""`multi_step` against the readable `step` loop: spikes, states and every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evospike.core.errors import ShapeError
from evospike.neurons.dynamics import multi_step, step
from evospike.neurons.settings import NeuronSettings

Case = dict[str, Tensor]


def loop(
    current: Tensor, v: Tensor, neuron: NeuronSettings, steps: int | None = None, decay: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    spikes = []
    for t in range(len(current) if steps is None else steps):
        s, v = step(current[t if len(current) > 1 else 0], v, neuron, decay)
        spikes.append(s)
    return torch.stack(spikes), v


def draw(seed: int, *shapes: tuple[int, ...], scale: float = 1.0) -> list[Tensor]:
    """Continuous draws: no potential lies on a threshold or a kink."""
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(shape, dtype=torch.float64, generator=generator) * 0.8 + 0.4) * scale for shape in shapes]


def outcome(
    function: Any, current: Tensor, v: Tensor, neuron: NeuronSettings, decay: Tensor | None, **options: Any
) -> dict[str, Tensor]:
    """Spikes, last state and all gradients of a loss that weighs every output differently."""
    inputs = {"current": current, "state": v, **({} if decay is None else {"decay": decay})}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    spikes, last = function(leaves["current"], leaves["state"], neuron, decay=leaves.get("decay"), **options)
    first, second = draw(7, tuple(spikes.shape), tuple(last.shape))
    grads = torch.autograd.grad((spikes * first).sum() + (last * second).sum(), list(leaves.values()))
    return {"spikes": spikes.detach(), "last": last.detach(), **dict(zip(leaves, grads, strict=True))}


def same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-12) -> None:
    assert set(one) == set(other)
    assert torch.equal(one["spikes"], other["spikes"])
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


neurons = st.builds(
    NeuronSettings,
    kind=st.sampled_from(["lif", "if", "plif"]),
    decay=st.floats(0.05, 0.99),
    threshold=st.floats(0.2, 3.0),
    reset=st.sampled_from(["hard", "soft"]),
    detach_reset=st.booleans(),
    surrogate=st.sampled_from(["triangle", "rectangle", "arctan", "sigmoid"]),
    surrogate_width=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(neuron=neurons, steps=st.integers(1, 6), seed=st.integers(0, 10_000), static=st.booleans())
def test_equals_the_step_loop(neuron: NeuronSettings, steps: int, seed: int, static: bool) -> None:
    current, v = draw(seed, (1 if static else steps, 3, 4), (3, 4), scale=neuron.threshold)
    decay = torch.tensor(neuron.decay, dtype=torch.float64) if neuron.kind == "plif" else None
    ours = outcome(multi_step, current, v, neuron, decay, steps=steps)
    assert ours["spikes"].shape == (steps, 3, 4)
    same(ours, outcome(loop, current, v, neuron, decay, steps=steps))


def test_the_cases_above_fire_and_have_gradients() -> None:
    """Guards the comparison: neither all silent nor all firing, and no gradient that vanishes."""
    neuron = NeuronSettings(kind="plif", detach_reset=False)
    current, v = draw(1, (6, 3, 4), (3, 4))
    result = outcome(multi_step, current, v, neuron, torch.tensor(0.5, dtype=torch.float64))
    assert 0.1 < result["spikes"].mean() < 0.9
    assert (result["current"] != 0).double().mean() > 0.5
    assert result["state"].abs().sum() > 0.1
    assert abs(result["decay"].item()) > 0.01


def test_a_gradient_by_hand() -> None:
    # lif, triangle, hard and detached: current (0.8, 0.8): u = 0.8, 1.2; slopes 0.8 and 0.8; step 1 does not reset
    # d(s1 + s2)/dI2 = 0.8;  d/dI1 = slope(u1) + slope(u2) * decay = 0.8 + 0.4
    current = torch.tensor([[0.8], [0.8]], dtype=torch.float64, requires_grad=True)
    spikes, _ = multi_step(current, None, NeuronSettings())
    spikes.sum().backward()
    torch.testing.assert_close(current.grad, torch.tensor([[1.2], [0.8]], dtype=torch.float64))


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_detach_reset_changes_gradients_and_not_spikes(reset: Any) -> None:
    current, v = draw(3, (5, 20), (20,))
    kept = outcome(multi_step, current, v, NeuronSettings(reset=reset, detach_reset=False), None)
    detached = outcome(multi_step, current, v, NeuronSettings(reset=reset, detach_reset=True), None)
    assert torch.equal(kept["spikes"], detached["spikes"])
    assert (kept["current"] - detached["current"]).abs().max() > 0.1


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("split", [1, 3, 5])
def test_a_carried_state_continues_the_same_run(reset: Any, split: int) -> None:
    neuron = NeuronSettings(kind="plif", reset=reset, detach_reset=False)
    current, v = draw(split, (6, 2, 5), (2, 5))

    def in_two(current: Tensor, v: Tensor, neuron: NeuronSettings, decay: Tensor) -> tuple[Tensor, Tensor]:
        first, middle = multi_step(current[:split], v, neuron, decay=decay)
        second, last = multi_step(current[split:], middle, neuron, decay=decay)
        return torch.cat([first, second]), last

    decay = torch.tensor(0.6, dtype=torch.float64)
    whole = outcome(multi_step, current, v, neuron, decay)
    same(outcome(in_two, current, v, neuron, decay), whole)
    forgotten = multi_step(current[split:], None, neuron, decay=decay)[1]
    assert (forgotten - whole["last"]).abs().max() > 1e-3


def test_no_state_is_a_zero_state_and_inputs_stay_as_they_are() -> None:
    current, v = draw(0, (4, 9), (9,))
    before = current.clone(), v.clone()
    a = multi_step(current, None, NeuronSettings())
    b = multi_step(current, torch.zeros(9, dtype=torch.float64), NeuronSettings())
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])
    multi_step(current, v, NeuronSettings())
    assert torch.equal(current, before[0])
    assert torch.equal(v, before[1])


def test_static_current_equals_the_repeated_one() -> None:
    neuron = NeuronSettings(detach_reset=False)
    current, v = draw(11, (1, 2, 3, 4, 5), (2, 3, 4, 5))
    once = outcome(multi_step, current, v, neuron, None, steps=4)
    repeated = outcome(multi_step, current.repeat(4, 1, 1, 1, 1), v, neuron, None)
    repeated["current"] = repeated["current"].sum(0, keepdim=True)
    same(once, repeated)


@pytest.mark.parametrize("surrogate", ["triangle", "rectangle", "arctan", "sigmoid"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_widths_are_in_threshold_units(surrogate: Any, reset: Any, scale: float) -> None:
    """Scaling threshold, current and state by c leaves spikes unchanged and divides their gradient by c."""
    current, v = draw(5, (4, 30), (30,))

    def spikes_and_gradient(c: float) -> tuple[Tensor, Tensor]:
        neuron = NeuronSettings(threshold=c, reset=reset, surrogate=surrogate, detach_reset=False)
        leaf = (current * c).requires_grad_()
        spikes, last = multi_step(leaf, v * c, neuron)
        weights = draw(1, (4, 30))[0]
        (grad,) = torch.autograd.grad((spikes * weights).sum() + last.sum() / c, leaf)
        return spikes, grad

    base, scaled = spikes_and_gradient(1.0), spikes_and_gradient(scale)
    assert torch.equal(base[0], scaled[0])
    assert base[1].abs().sum() > 1
    torch.testing.assert_close(scaled[1] * scale, base[1], rtol=1e-12, atol=1e-13)


def test_the_decay_gradient_equals_finite_differences_where_no_spike_moves() -> None:
    # the last potential is smooth in the decay as long as no unit fires: v[T] = sum decay^(T-t) I[t] + decay^T v[0]
    current, v = (tensor * 0.05 for tensor in draw(9, (5, 6), (6,)))
    neuron = NeuronSettings(kind="plif")
    decay = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    spikes, last = multi_step(current, v, neuron, decay=decay)
    assert spikes.sum() == 0
    (grad,) = torch.autograd.grad(last.sum(), decay)
    h = 1e-6
    ends = [multi_step(current, v, neuron, decay=decay.detach() + e)[1].sum() for e in (h, -h)]
    assert grad.item() == pytest.approx(((ends[0] - ends[1]) / (2 * h)).item(), rel=1e-8)
    powers = torch.tensor([0.7**n for n in (4, 3, 2, 1, 0)], dtype=torch.float64)
    torch.testing.assert_close(last.detach(), (powers[:, None] * current).sum(0) + 0.7**5 * v)


@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_the_decay_gradient_after_spikes_with_detached_reset(reset: Any) -> None:
    # with the reset detached and the spikes fixed, the last potential is smooth in the decay even after spikes
    current, v = draw(21, (6, 40), (40,))
    neuron = NeuronSettings(kind="plif", reset=reset)
    decay = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    spikes, last = multi_step(current, v, neuron, decay=decay)
    (grad,) = torch.autograd.grad(last.sum(), decay)
    h = 1e-7
    ends = [multi_step(current, v, neuron, decay=decay.detach() + e) for e in (h, -h)]
    assert torch.equal(ends[0][0], spikes)
    assert torch.equal(ends[1][0], spikes)
    assert spikes.mean() > 0.1
    assert grad.item() == pytest.approx(((ends[0][1].sum() - ends[1][1].sum()) / (2 * h)).item(), rel=1e-6)


def layouts(x: Tensor) -> dict[str, Tensor]:
    """(T, B, C, H, W) with equal values in several orders of memory."""
    t, b = x.shape[:2]
    nhwc = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(t, b, *x.shape[2:])
    return {
        "contiguous": x,
        "channels_last": nhwc,
        "transposed": x.transpose(3, 4).contiguous().transpose(3, 4),
        "sliced": torch.cat([x, x], 2)[:, :, : x.shape[2]],
    }


@pytest.mark.parametrize("name", ["contiguous", "channels_last", "transposed", "sliced"])
@pytest.mark.parametrize("state_name", ["contiguous", "channels_last"])
def test_any_layout_gives_the_same_values(name: str, state_name: str) -> None:
    neuron = NeuronSettings(detach_reset=False)
    current, v = draw(2, (3, 2, 4, 5, 6), (1, 2, 4, 5, 6))
    base = outcome(multi_step, current, v[0], neuron, None)
    state = layouts(v)[state_name][0]
    other = layouts(current)[name]
    assert torch.equal(other, current)
    leaf, start = other.detach().requires_grad_(), state.detach().requires_grad_()
    spikes, last = multi_step(leaf, start, neuron)
    first, second = draw(7, tuple(spikes.shape), tuple(last.shape))
    grads = torch.autograd.grad((spikes * first).sum() + (last * second).sum(), [leaf, start])
    same({"spikes": spikes, "last": last, "current": grads[0], "state": grads[1]}, base)


@pytest.mark.parametrize("name", ["contiguous", "channels_last", "transposed"])
def test_the_layout_is_kept(name: str) -> None:
    current = layouts(torch.rand(3, 2, 4, 5, 6))[name].detach().requires_grad_()
    spikes, last = multi_step(current, None, NeuronSettings())
    assert spikes.stride() == current.stride()
    assert last.stride() == current[0].stride()
    (grad,) = torch.autograd.grad(spikes.sum(), current)
    assert grad.stride() == current.stride()


def test_dense_layouts_are_read_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    from evospike.neurons import eager

    seen: list[int] = []
    original = eager.charge_and_fire

    def spy(current: Tensor, *rest: Any) -> Any:
        seen.append(current.data_ptr())
        return original(current, *rest)

    monkeypatch.setattr(eager, "charge_and_fire", spy)
    for current in list(layouts(torch.rand(3, 2, 4, 5, 6)).values())[:3]:
        multi_step(current, None, NeuronSettings())
        multi_step(current[:1], None, NeuronSettings(), steps=3)
        assert seen == [current.data_ptr()] * 2
        seen.clear()


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 0), (4, 2, 1, 1), (1, 3, 1, 1, 1)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    (current,) = draw(4, shape)
    spikes, last = multi_step(current, None, NeuronSettings())
    expected, end = loop(current, torch.zeros(shape[1:], dtype=torch.float64), NeuronSettings())
    assert spikes.shape == shape
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(last, end, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_current_s_dtype_is_kept(dtype: torch.dtype) -> None:
    current = torch.full((3, 2), 0.75, dtype=dtype)
    spikes, last = multi_step(current, None, NeuronSettings())
    assert spikes.dtype == last.dtype == dtype
    assert spikes[:, 0].tolist() == [0, 1, 0]  # .75, 1.125, .75: exact in every dtype
    assert last[0].item() == 0.75


def test_second_derivatives_are_refused() -> None:
    current = torch.rand(3, 2, requires_grad=True)
    weight = torch.rand(2, requires_grad=True)
    spikes, _ = multi_step(current, None, NeuronSettings())
    (grad,) = torch.autograd.grad((spikes * weight).square().sum(), current, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_whole_numbers_are_no_current() -> None:
    with pytest.raises(ShapeError, match=r"floating-point numbers, given torch.int64; convert it with .float\(\)"):
        multi_step(torch.full((4, 1), 2), None, NeuronSettings(threshold=2.0))
