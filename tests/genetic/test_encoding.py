"""Generated weights: the equations on tiny layers, parity of the two orders, gradients, one pool per network."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evospike.core.errors import EncodingError
from evospike.genetic.encoding import GenePool, GeneticConv2d, GeneticLayer, GeneticLinear
from evospike.layers.weights import holding_weights, weight_of

FLOAT64 = torch.float64


def filled(layer: GeneticLayer, seed: int = 0) -> GeneticLayer:
    """The layer with random encodings and genes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in [*layer.parameters(), *layer.pool.parameters()]:
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=FLOAT64))
    return layer


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT64)


class TestEquations:
    def test_conv_weight_by_hand(self) -> None:
        # One output, one input, two genes, kernel 1x2: W = [1, 2] @ [[1, 1], [0, 1]] @ Xi = [1, 3] @ Xi.
        layer = GeneticConv2d(GenePool(2), 1, 1, (1, 2))
        with torch.no_grad():
            layer.output_encoding.copy_(torch.tensor([[1.0, 2.0]]))
            layer.pool.interaction.copy_(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
            layer.input_encoding.copy_(torch.tensor([[5.0, 6.0], [7.0, 8.0]]).view(2, 1, 1, 2))
        assert layer.form_weight().tolist() == [[[[26.0, 30.0]]]]

    @pytest.mark.parametrize(("out_channels", "in_channels"), [(3, 4), (40, 2)])
    def test_weight_is_the_sum_over_gene_pairs(self, out_channels: int, in_channels: int) -> None:
        layer = filled(GeneticConv2d(GenePool(5, dtype=FLOAT64), in_channels, out_channels, 3))
        expected = torch.einsum("oa,ab,biuv->oiuv", layer.output_encoding, layer.pool.interaction, layer.input_encoding)
        torch.testing.assert_close(layer.form_weight(), expected, rtol=1e-12, atol=1e-12)

    def test_low_rank_is_edge_with_identity_genes(self) -> None:
        edge = filled(GeneticLinear(GenePool(3, dtype=FLOAT64), 7, 5))
        low = GeneticLinear(GenePool(3, "low_rank", dtype=FLOAT64), 7, 5)
        low.load_state_dict(edge.state_dict())
        with torch.no_grad():
            edge.pool.interaction.copy_(torch.eye(3))
        torch.testing.assert_close(low.form_weight(), edge.form_weight(), rtol=0, atol=1e-14)
        assert list(low.pool.parameters()) == []

    def test_shared_tap_genes(self) -> None:
        pool = GenePool(4, "shared_tapG", kernel=(3, 3), encodings={"a": (2, 4), "b.n": (5, 4)}, dtype=FLOAT64)
        layer = filled(GeneticConv2d(pool, 2, 5, 3, keys=("a", "b.n")))
        expected = torch.einsum("oa,uvab,ib->oiuv", pool.encoding("b.n"), pool.interaction, pool.encoding("a"))
        torch.testing.assert_close(layer.form_weight(), expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("reading", ["mean", "centre"])
    def test_shared_tap_encodings(self, reading: str) -> None:
        shapes = {"a": (3, 3, 2, 4), "b": (3, 3, 5, 4)}
        pool = GenePool(4, "shared_tapE", encodings=shapes, tap_reading=reading, dtype=FLOAT64)  # type: ignore[arg-type]
        layer = filled(GeneticConv2d(pool, 2, 5, 3, keys=("a", "b")))
        target = pool.encoding("b").mean((0, 1)) if reading == "mean" else pool.encoding("b")[1, 1]
        expected = torch.einsum("oa,ab,uvib->oiuv", target, pool.interaction, pool.encoding("a"))
        torch.testing.assert_close(layer.form_weight(), expected, rtol=1e-12, atol=1e-12)

    def test_smaller_kernels_take_the_central_window_of_the_taps(self) -> None:
        pool = GenePool(4, "shared_tapG", kernel=(5, 5), encodings={"a": (2, 4)}, dtype=FLOAT64)
        layer = filled(GeneticConv2d(pool, 2, 2, 3, keys=("a", "a")))
        expected = torch.einsum("oa,uvab,ib->oiuv", pool.encoding("a"), pool.interaction[1:4, 1:4], pool.encoding("a"))
        torch.testing.assert_close(layer.form_weight(), expected, rtol=1e-12, atol=1e-12)


class TestTwoOrdersAgree:
    @pytest.mark.parametrize(
        ("kernel", "stride", "padding", "dilation", "bias"),
        [
            (3, 1, 1, 1, False),
            (3, 2, 1, 1, True),
            ((1, 3), (2, 1), (0, 1), 1, False),
            (3, 1, 2, 2, True),
            (5, 3, 0, 1, False),
            (1, 1, 0, 1, True),
            ((3, 5), 1, "same", 1, False),
        ],
    )
    def test_conv_outputs_and_gradients(self, kernel, stride, padding, dilation, bias) -> None:  # type: ignore[no-untyped-def]
        layer = GeneticConv2d(
            GenePool(4, dtype=FLOAT64), 3, 6, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias
        )
        x = noise(2, 3, 9, 8)
        dense = F.conv2d(x, filled(layer).form_weight(), layer.bias, stride, padding, dilation)
        self._compare(layer, x, dense)

    def test_linear_outputs_and_gradients(self) -> None:
        layer = filled(GeneticLinear(GenePool(4, dtype=FLOAT64), 6, 5))
        x = noise(2, 3, 6)
        self._compare(layer, x, F.linear(x, layer.form_weight(), layer.bias))

    def _compare(self, layer: GeneticLayer, x: Tensor, expected: Tensor) -> None:
        parameters = [*layer.parameters(), *layer.pool.parameters()]
        weights = noise(*expected.shape, seed=3)
        wanted = torch.autograd.grad((expected * weights).sum(), parameters)
        for order in ("materialise", "two_stage"):
            layer.contraction = order  # type: ignore[assignment]
            out = layer(x)
            torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
            gradients = torch.autograd.grad((out * weights).sum(), parameters)
            for gradient, want in zip(gradients, wanted, strict=True):
                torch.testing.assert_close(gradient, want, rtol=1e-12, atol=1e-11)

    def test_automatic_order_is_settled_at_the_first_forward(self) -> None:
        small = GeneticConv2d(GenePool(2), 64, 64, 3, padding=1)
        small(torch.zeros(4, 64, 8, 8))
        assert small.contraction == "two_stage"
        large = GeneticConv2d(GenePool(60), 8, 8, 3, padding=1)
        large(torch.zeros(64, 8, 8, 8))
        assert large.contraction == "materialise"

    def test_channels_last_input(self) -> None:
        layer = filled(GeneticConv2d(GenePool(4, dtype=FLOAT64), 3, 6, 3, padding=1))
        x = noise(2, 3, 6, 6)
        for order in ("materialise", "two_stage"):
            layer.contraction = order  # type: ignore[assignment]
            torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x))


class TestGradients:
    def test_methods_equations_4_and_5(self) -> None:
        pool = GenePool(4, dtype=FLOAT64)
        layers = [filled(GeneticConv2d(pool, 3, 6, 3, padding=1), 1), filled(GeneticConv2d(pool, 6, 5, 3), 2)]
        total = torch.zeros(4, 4, dtype=FLOAT64)
        weights = [layer.form_weight() for layer in layers]
        for weight in weights:
            weight.retain_grad()
        y = F.conv2d(F.conv2d(noise(2, 3, 5, 5), weights[0], padding=1).relu(), weights[1])
        y.pow(2).sum().backward()
        G = pool.interaction.detach()
        for layer, weight in zip(layers, weights, strict=True):
            assert weight.grad is not None
            D, Xo = weight.grad.flatten(1), layer.output_encoding.detach()
            Xi = layer.input_encoding.detach().flatten(1)
            torch.testing.assert_close(layer.output_encoding.grad, D @ (G @ Xi).T)
            torch.testing.assert_close(layer.input_encoding.grad.flatten(1), (Xo @ G).T @ D)
            total += Xo.T @ D @ Xi.T
        torch.testing.assert_close(pool.interaction.grad, total)

    @pytest.mark.parametrize("order", ["materialise", "two_stage"])
    def test_gradcheck(self, order: str) -> None:
        layer = filled(GeneticConv2d(GenePool(2, dtype=FLOAT64), 2, 3, 2, bias=True))
        layer.contraction = order  # type: ignore[assignment]
        names = ["input_encoding", "output_encoding", "bias"]
        x = noise(1, 2, 3, 3).requires_grad_()

        def run(x: Tensor, genes: Tensor, *values: Tensor) -> Tensor:
            both = nn.Sequential()
            both.add_module("layer", layer)
            both.add_module("pool", layer.pool)
            given = {f"layer.{name}": value for name, value in zip(names, values, strict=True)}
            return torch.func.functional_call(both, {**given, "pool.interaction": genes}, (x,))

        values = [getattr(layer, name).detach().clone().requires_grad_() for name in names]
        genes = layer.pool.interaction.detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(run, (x, genes, *values))

    def test_frozen_output_encoding_gets_no_gradient(self) -> None:
        layer = filled(GeneticLinear(GenePool(2, dtype=FLOAT64), 3, 4, train_output_encoding=False))
        layer(noise(5, 3)).sum().backward()
        assert layer.output_encoding.grad is None
        assert layer.input_encoding.grad is not None


class TestPrecision:
    @pytest.mark.parametrize("order", ["materialise", "two_stage"])
    def test_autocast_forms_the_weight_in_float32(self, order: str) -> None:
        layer = filled(GeneticConv2d(GenePool(4), 3, 6, 3))
        layer.contraction = order  # type: ignore[assignment]
        exact = layer.form_weight()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer.form_weight().dtype == torch.float32
            assert torch.equal(layer.form_weight(), exact)
            out = layer(noise(2, 3, 5, 5).float())
        assert out.dtype == torch.bfloat16
        out.float().sum().backward()
        assert layer.pool.interaction.grad is not None

    def test_half_precision_parameters_compute_in_float32(self) -> None:
        layer = filled(GeneticLinear(GenePool(4, dtype=torch.bfloat16), 3, 6))
        assert layer.form_weight().dtype == torch.float32
        assert layer(noise(2, 3).bfloat16()).dtype == torch.bfloat16


class TestHolding:
    def test_weight_is_formed_once_while_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        layer = filled(GeneticLinear(GenePool(4, dtype=FLOAT64), 3, 6))
        layer.contraction = "materialise"
        count = itertools.count()
        original = layer.form_weight
        monkeypatch.setattr(layer, "form_weight", lambda: (next(count), original())[1])
        with holding_weights(layer):
            for _ in range(3):
                layer(noise(2, 3))
        assert next(count) == 1
        assert torch.equal(weight_of(layer), original())


class TestOnePool:
    def network(self) -> nn.Sequential:
        pool = GenePool(3, dtype=FLOAT64)
        net = nn.Sequential(GeneticLinear(pool, 4, 5), nn.ReLU(), GeneticLinear(pool, 5, 2))
        for i in (0, 2):
            layer = net[i]
            assert isinstance(layer, GeneticLayer)
            filled(layer, i)
        net.add_module("gene_pool", pool)
        return net

    def test_genes_are_stored_and_optimised_once(self) -> None:
        net = nn.ModuleDict({"body": nn.Sequential()})
        pool = GenePool(3)
        net["body"].append(GeneticLinear(pool, 4, 5)).append(GeneticLinear(pool, 5, 2))
        net.add_module("gene_pool", pool)
        assert [key for key in net.state_dict() if "interaction" in key] == ["gene_pool.interaction"]
        assert sum(parameter is pool.interaction for parameter in net.parameters()) == 1

    def test_copies_share_their_own_pool(self) -> None:
        net = self.network()
        twin = copy.deepcopy(net)
        pool = twin.gene_pool
        assert pool is not net.gene_pool
        for layer in twin.modules():
            if isinstance(layer, GeneticLayer):
                assert layer.pool is pool

    def test_dtype_moves_and_loading_keep_sharing(self) -> None:
        net, other = self.network(), self.network().float()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(0.5)
        other.double().load_state_dict(net.state_dict())
        assert all(layer.pool is other.gene_pool for layer in other.modules() if isinstance(layer, GeneticLayer))
        x = noise(2, 4)
        torch.testing.assert_close(other[2](other[1](other[0](x))), net[2](net[1](net[0](x))))


class TestErrors:
    @pytest.mark.parametrize(("genes", "text"), [(0, "zero genes cannot"), (-2, "-2 genes cannot")])
    def test_genes(self, genes: int, text: str) -> None:
        with pytest.raises(EncodingError, match=text):
            GenePool(genes)

    def test_groups(self) -> None:
        with pytest.raises(EncodingError, match="2 groups cannot be encoded; leave it dense"):
            GeneticConv2d(GenePool(2), 4, 4, 3, groups=2)

    def test_keys_without_shared_pool(self) -> None:
        with pytest.raises(EncodingError, match="only shared pools have them"):
            GeneticLinear(GenePool(2), 4, 4, keys=("a", "b"))
