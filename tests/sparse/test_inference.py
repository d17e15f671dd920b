"""Sparse kernels give the outputs of the dense ones, and are taken only where they are faster."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evospike.models.build import build
from evospike.models.presets import small8
from evospike.sparse import inference
from evospike.sparse.inference import Choice, CsrConv2d, CsrLinear, with_sparse_kernels
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings


def sparse_network() -> nn.Module:
    net = build(small8((1, 8, 8), 10, channels=(4, 8, 8, 16)), steps=3)
    attach(net, SparseSettings(density=0.2), seed=0)
    return net.eval()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(1, 2),
    st.booleans(),
)
def test_a_sparse_convolution_is_the_dense_one(
    batch: int, inputs: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int, bias: bool
) -> None:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=bias).requires_grad_(False)
    conv.weight[torch.rand_like(conv.weight) < 0.7] = 0
    x = torch.randn(batch, inputs, 9, 7)
    torch.testing.assert_close(CsrConv2d(conv)(x), conv(x), rtol=1e-4, atol=1e-5)


def test_a_sparse_linear_layer_is_the_dense_one() -> None:
    linear = nn.Linear(30, 7).requires_grad_(False)
    linear.weight[torch.rand_like(linear.weight) < 0.7] = 0
    x = torch.randn(2, 3, 30)
    torch.testing.assert_close(CsrLinear(linear)(x), linear(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wins", [True, False])
def test_layers_change_only_where_it_pays(monkeypatch: pytest.MonkeyPatch, wins: bool) -> None:
    monkeypatch.setattr(inference, "_milliseconds", lambda *_: [2.0, 1.0] if wins else [1.0, 1.0])
    net, x = sparse_network(), torch.rand(1, 1, 8, 8)
    fast, choices = with_sparse_kernels(net, x)
    masked = [name for name, layer in net.named_modules() if hasattr(layer, "mask")]
    replaced = [name for name, layer in fast.named_modules() if isinstance(layer, (CsrConv2d, CsrLinear))]
    assert [choice.name for choice in choices] == masked
    assert replaced == (masked if wins else [])
    assert not any(isinstance(layer, CsrConv2d) for layer in net.modules())
    torch.testing.assert_close(fast(x), net(x), rtol=1e-3, atol=1e-4)


def test_times_are_measured() -> None:
    _, choices = with_sparse_kernels(sparse_network(), torch.rand(1, 1, 8, 8))
    assert choices
    assert all(choice.dense_ms > 0 and choice.sparse_ms > 0 for choice in choices)
    assert Choice("layer", 1.1, 1.0).sparse
    assert not Choice("layer", 1.09, 1.0).sparse
