from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from evospike.layers.weights import GeneratedWeight, holding_weights, weight_of, weighted_layers


class Outer(GeneratedWeight):
    """A linear layer whose weight is the product of two vectors."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.arange(1.0, outputs + 1)), nn.Parameter(torch.ones(inputs) * 2)
        self.formed = 0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return len(self.a), len(self.b)

    def form_weight(self) -> Tensor:
        self.formed += 1
        return torch.outer(self.a, self.b)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.current_weight())


def test_a_weight_is_formed_at_every_use_unless_it_is_held() -> None:
    layer = Outer(2, 3)
    x = torch.ones(1, 3)
    assert layer(x).tolist() == [[6.0, 12.0]]
    layer(x)
    assert layer.formed == 2
    with holding_weights(layer):
        assert layer.formed == 2  # only when it is needed
        first, second = layer(x), layer(x)
        assert weight_of(layer) is layer.current_weight()
    assert layer.formed == 3
    assert torch.equal(first, second)
    with torch.no_grad():
        layer.a.mul_(2)
    assert layer(x).tolist() == [[12.0, 24.0]]  # nothing old is kept


def test_gradients_flow_through_the_one_formation() -> None:
    held, free = Outer(2, 3), Outer(2, 3)
    x = torch.tensor([[1.0, 2.0, 3.0]])
    with holding_weights(held):
        (held(x).sum() + held(2 * x).square().sum()).backward()
    (free(x).sum() + free(2 * x).square().sum()).backward()
    assert held.formed == 1
    assert free.formed == 2
    torch.testing.assert_close(held.a.grad, free.a.grad)
    torch.testing.assert_close(held.b.grad, free.b.grad)


def test_nested_holding_ends_with_the_outermost() -> None:
    net = nn.Sequential(Outer(2, 3), Outer(2, 2))
    first, second = net[0], net[1]
    assert isinstance(first, Outer)
    assert isinstance(second, Outer)
    with holding_weights(first):
        first(torch.ones(1, 3))
        with holding_weights(net):
            net(torch.ones(1, 3))
        net(torch.ones(1, 3))
        assert first.formed == 1
        assert second.formed == 2
    first(torch.ones(1, 3))
    assert first.formed == 2


def test_holding_ends_when_the_body_fails() -> None:
    layer = Outer(2, 3)
    with pytest.raises(RuntimeError, match="cannot be multiplied"), holding_weights(layer):
        layer(torch.ones(1, 4))
    layer(torch.ones(1, 3))
    assert layer.formed == 2
    assert set(layer.state_dict()) == {"a", "b"}


MASK = torch.tensor([[True, False, True], [False, True, True]])


def test_a_masked_weight_is_zero_outside_its_mask_everywhere_it_is_asked_for() -> None:
    layer = Outer(2, 3)
    assert layer.mask is None
    layer.mask = MASK
    expected = [[2.0, 0.0, 2.0], [0.0, 4.0, 4.0]]
    assert weight_of(layer).tolist() == layer.current_weight().tolist() == expected
    assert layer(torch.ones(1, 3)).tolist() == [[4.0, 8.0]]
    with holding_weights(layer):
        assert weight_of(layer).tolist() == expected
    assert layer.form_weight().tolist() == [[2.0] * 3, [4.0] * 3]


def test_what_a_masked_weight_is_made_of_learns_from_the_mask_alone() -> None:
    layer, x = Outer(2, 3), torch.tensor([[1.0, 2.0, 3.0]])
    layer.mask = MASK
    layer(x).square().sum().backward()
    a, b = (tensor.detach().clone().requires_grad_() for tensor in (layer.a, layer.b))
    nn.functional.linear(x, torch.outer(a, b) * MASK).square().sum().backward()
    torch.testing.assert_close((layer.a.grad, layer.b.grad), (a.grad, b.grad))


@pytest.mark.parametrize("held", [False, True])
def test_a_watched_gradient_is_dense_and_summed_over_uses(held: bool) -> None:
    layer, x = Outer(2, 3), torch.tensor([[1.0, 2.0, 3.0]])
    layer.mask = MASK
    effective = layer.current_weight().detach().requires_grad_()
    loss = sum(nn.functional.linear(scale * x, effective).square().sum() for scale in (1.0, 2.0))
    loss.backward()
    assert effective.grad[~MASK].all()
    layer.watch_gradient(True)
    for _ in range(2):  # what was there before is forgotten
        layer.watch_gradient(True)
        with holding_weights(layer) if held else nullcontext():
            (layer(x).square().sum() + layer(2 * x).square().sum()).backward()
        torch.testing.assert_close(layer.weight_gradient, effective.grad)
    with torch.no_grad():
        layer(x)
    layer.watch_gradient(False)
    layer(x).sum().backward()
    assert layer.weight_gradient is None


def test_watching_changes_no_bit_of_a_gradient() -> None:
    watched, free = Outer(2, 3), Outer(2, 3)
    watched.mask = free.mask = MASK
    watched.watch_gradient(True)
    for layer in (watched, free):
        layer(torch.tensor([[0.1, 0.7, 0.3]])).square().sum().backward()
    assert torch.equal(watched.a.grad, free.a.grad)
    assert torch.equal(watched.b.grad, free.b.grad)


def test_a_mask_is_part_of_the_state_once_it_is_set() -> None:
    layer, twin = Outer(2, 3), Outer(2, 3)
    assert set(layer.state_dict()) == {"a", "b"}
    layer.mask, twin.mask = MASK.clone(), torch.ones_like(MASK)
    assert set(layer.state_dict()) == {"a", "b", "mask"}
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin.mask, MASK)
    assert list(layer.encodings()) == []


def test_weight_of_stored_and_generated_layers() -> None:
    conv, linear, outer = nn.Conv2d(1, 2, 3), nn.Linear(2, 2), Outer(2, 3)
    assert weight_of(conv) is conv.weight
    assert weight_of(linear) is linear.weight
    assert weight_of(outer).tolist() == [[2.0, 2.0, 2.0], [4.0, 4.0, 4.0]]


def test_weighted_layers_in_construction_order() -> None:
    net = nn.Sequential()
    net.add_module("z", nn.Conv2d(1, 2, 3))
    net.add_module("norm", nn.BatchNorm2d(2))
    net.add_module("group", nn.Sequential(Outer(2, 3), nn.Linear(2, 2)))
    found = list(weighted_layers(net))
    assert [name for name, _ in found] == ["z", "group.0", "group.1"]
    assert found[1][1] is net.get_submodule("group.0")
