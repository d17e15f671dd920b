"""Initial values: their scale, their shared noise, and the start from a dense twin."""

from __future__ import annotations

import copy
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from evospike.core.errors import EncodingError, SettingsError
from evospike.core.rng import torch_stream
from evospike.genetic.encode import encode as encode_where_smaller
from evospike.genetic.encode import materialise
from evospike.genetic.encoding import GeneticConv2d, GeneticLayer
from evospike.genetic.settings import WiringSettings
from evospike.genetic.wiring import (
    analytic_spreads,
    draw,
    initialise_from_dense,
    orthogonal,
    stage_names,
    stages,
    truncated_normal,
    uniform_noise,
)
from evospike.models.build import build
from evospike.models.presets import resnet19w, small8

encode = partial(encode_where_smaller, skip_growing=False)
"""These layers are so small that most would grow; `test_skip_growing_...` asks for the default."""

NOISE = uniform_noise((20_000,), torch_stream(0, "test"))


def chain(genes: int = 64, kind: str = "edge", widths: tuple[int, ...] = (64, 64, 128, 64)) -> nn.Module:
    return encode(build(small8((3, 8, 8), 4, channels=widths)), genes=genes, kind=kind)  # type: ignore[arg-type]


def values(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters() if "encoding" in name or "genes" in name}


class TestTruncatedNormal:
    def test_untruncated_has_the_given_spread(self) -> None:
        drawn = truncated_normal(NOISE, 0.3)
        assert drawn.std().item() == pytest.approx(0.3, rel=0.02)

    def test_bounds_hold_and_variance_is_that_of_the_formula(self) -> None:
        drawn = truncated_normal(NOISE, 1.0, 2.0)
        assert drawn.abs().max() <= 2
        assert drawn.var().item() == pytest.approx(0.7737, rel=0.03)  # 1 - 2 c phi(c) / (2 Phi(c) - 1), c = 2

    def test_far_bounds_do_nothing_and_near_bounds_make_it_uniform(self) -> None:
        torch.testing.assert_close(truncated_normal(NOISE, 0.05, 2.0), truncated_normal(NOISE, 0.05))
        uniform = truncated_normal(NOISE, 100.0, 2.0)
        torch.testing.assert_close(uniform, 4 * (NOISE - 0.5), atol=1e-3, rtol=0)

    def test_common_noise_grows_with_the_spread(self) -> None:
        spreads = [1e-3, 0.05, 0.1, 0.5, 1.0, 3.0]
        sizes = [truncated_normal(NOISE, spread, 2.0).abs() for spread in spreads]
        for smaller, larger in itertools.pairwise(sizes):
            assert bool((smaller <= larger).all())

    def test_extreme_noise_stays_finite(self) -> None:
        generator = torch.Generator().manual_seed(0)
        noise = uniform_noise((1000,), generator)
        noise[0], noise[1] = 2.0**-53, 1 - 2.0**-53
        assert truncated_normal(noise, 1.0).isfinite().all()


class TestDraw:
    def test_equal_names_share_noise_and_different_names_do_not(self) -> None:
        net = chain(8, widths=(8, 8, 8, 8))
        evolved = WiringSettings(kind="evolved", bounds="none")
        draw(net, evolved, 1, ("generation", 0), {"encoding": 0.1, "genes": 0.2})
        first = values(net)
        draw(net, evolved, 1, ("generation", 0), {"encoding": 0.3, "genes": 0.2})
        wider = values(net)
        draw(net, evolved, 1, ("generation", 1), {"encoding": 0.1, "genes": 0.2})
        other = values(net)
        for name, value in first.items():
            torch.testing.assert_close(wider[name], value * 3, msg=name)
            assert not torch.equal(other[name], value)
        assert not torch.equal(first["conv3.conv.input_encoding"], first["conv4.conv.input_encoding"])

    def test_other_layers_keep_their_values(self) -> None:
        net = chain(4, widths=(4, 4, 4, 4))
        before = {name: value.clone() for name, value in net.state_dict().items() if "encoding" not in name}
        draw(net, WiringSettings(kind="random"), 3)
        for name, value in before.items():
            if "gene_pool" not in name:
                assert torch.equal(net.state_dict()[name], value)

    def test_random_is_standard_normal(self) -> None:
        net = chain()
        draw(net, WiringSettings(kind="random"), 0)
        assert net.get_parameter("conv3.conv.input_encoding").std().item() == pytest.approx(1, rel=0.02)
        assert net.get_parameter("gene_pool.interaction").std().item() == pytest.approx(1, rel=0.05)

    @pytest.mark.parametrize(("bounds", "limit"), [("absolute", 0.5), ("relative", 0.5 * 0.4), ("none", np.inf)])
    def test_bounds(self, bounds: str, limit: float) -> None:
        net = chain()
        wiring = WiringSettings(kind="evolved", encoding_spread=0.4, bounds=bounds, bound=0.5)  # type: ignore[arg-type]
        draw(net, wiring, 0)
        largest = net.get_parameter("conv3.conv.input_encoding").abs().max().item()
        assert 0.98 * min(limit, 1.2) < largest < limit * (1 + 1e-6)

    def test_one_spread_per_stage(self) -> None:
        net = chain()
        assert stages(net) == {"conv2.conv": "8x8", "conv3.conv": "4x4", "conv4.conv": "4x4"}
        assert stage_names(net) == ("8x8", "4x4")
        draw(net, WiringSettings(kind="evolved", stage_spreads=(0.1, 0.2)), 0, spreads={"encoding.4x4": 0.3})
        assert net.get_parameter("conv2.conv.input_encoding").std().item() == pytest.approx(0.1, rel=0.05)
        assert net.get_parameter("conv4.conv.input_encoding").std().item() == pytest.approx(0.3, rel=0.05)

    def test_stages_of_a_plain_module_are_its_first_names(self) -> None:
        blocks = nn.ModuleDict({"a": nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), "b": nn.Linear(3, 3)})
        net = encode(blocks, genes=2, layers=lambda *_: True)
        assert stages(net) == {"a.0": "a", "a.1": "a", "b": "b"}

    def test_errors(self) -> None:
        net = chain(2, widths=(4, 4, 4, 4))
        with pytest.raises(EncodingError, match=r"unknown spread 'encoding\.2x2'; known: encoding, encoding\.4x4"):
            draw(net, WiringSettings(kind="evolved"), 0, spreads={"encoding.2x2": 1.0})
        with pytest.raises(EncodingError, match="spread 'genes' is 0"):
            draw(net, WiringSettings(kind="evolved"), 0, spreads={"genes": 0.0})
        with pytest.raises(EncodingError, match="3 stage spreads for 2 stages: 8x8, 4x4"):
            draw(net, WiringSettings(kind="evolved", stage_spreads=(1.0, 1.0, 1.0)), 0)
        with pytest.raises(EncodingError, match="wiring 'analytic' takes no spreads, given 'genes'"):
            draw(net, WiringSettings(), 0, spreads={"genes": 1.0})
        with pytest.raises(EncodingError, match="call initialise_from_dense"):
            draw(net, WiringSettings(kind="svd"), 0)
        with pytest.raises(EncodingError, match="Linear has no gene pool; encode it first"):
            draw(nn.Linear(2, 2), WiringSettings(), 0)


class TestAnalytic:
    def test_spread_of_methods_3_7(self) -> None:
        net = encode(
            nn.Sequential(nn.Conv2d(256, 8, 3), nn.Linear(1, 1)), genes=150, layers=lambda name, _: name == "0"
        )
        assert analytic_spreads(net)["0", "input_encoding"] == pytest.approx(0.049, abs=5e-4)
        assert analytic_spreads(net)["gene_pool", "interaction"] == pytest.approx(150**-0.5)

    @pytest.mark.parametrize("kind", ["edge", "low_rank", "shared_tapG", "shared_tapE"])
    def test_weights_have_the_variance_of_kaiming(self, kind: str) -> None:
        net = chain(kind=kind)
        ratios = []
        for seed in range(3):
            draw(net, WiringSettings(), seed)
            for layer in net.modules():
                if isinstance(layer, GeneticConv2d):
                    ratios.append(layer.form_weight().var().item() * layer.factor_shape[1] / 2)
        assert np.mean(ratios) == pytest.approx(1, rel=0.1)
        assert max(ratios) < 1.25
        assert min(ratios) > 0.8

    @pytest.mark.parametrize("block", ["post", "sew", "ms"])
    def test_shared_spreads_solve_every_layer_of_a_residual_network(self, block: str) -> None:
        net = encode(build(resnet19w((3, 16, 16), 4, block=block)), genes=5, kind="shared_tapG")
        spreads = analytic_spreads(net)
        for layer in net.modules():
            if isinstance(layer, GeneticLayer):
                assert layer.keys is not None
                source, target = (spreads["gene_pool", key.replace(".", "/")] for key in layer.keys)
                assert (source * target) ** 2 == pytest.approx(2 / (layer.factor_shape[1] * 5))


class TestStartFromDense:
    def trained(self) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 3, bias=True), nn.Flatten(), nn.Linear(8 * 4, 2)
        ).double()

    @pytest.mark.parametrize("kind", ["edge", "low_rank"])
    @pytest.mark.parametrize("genes", [1, 3, 8, 20])
    def test_best_approximation_of_every_weight(self, kind: str, genes: int) -> None:
        dense = self.trained()
        net = encode(copy.deepcopy(dense), genes=genes, kind=kind)  # type: ignore[arg-type]
        initialise_from_dense(net, dense)
        layer = net.get_submodule("2")
        assert isinstance(layer, GeneticLayer)
        weight = dense[2].weight.flatten(1)
        error = (layer.form_weight().flatten(1) - weight).norm()
        best = torch.linalg.svdvals(weight)[genes:].norm()
        assert error.item() == pytest.approx(best.item(), abs=1e-12)

    def test_with_enough_genes_the_function_is_the_same(self) -> None:
        dense = self.trained()
        net = encode(self.trained(), genes=12)
        initialise_from_dense(net, dense)
        x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
        torch.testing.assert_close(net.eval()(x), dense.eval()(x), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(materialise(net)(x), dense(x), rtol=1e-10, atol=1e-12)
        net(x).sum().backward()
        spare = net.get_parameter("2.output_encoding")
        assert bool((spare[:, 8:] == 0).all())
        assert spare.grad is not None
        assert bool((spare.grad[:, 8:] != 0).all())  # genes beyond the rank can learn

    def test_errors(self) -> None:
        net = encode(self.trained(), genes=2)
        with pytest.raises(EncodingError, match=r"no weight of layer '2'"):
            initialise_from_dense(net, nn.Sequential(nn.Conv2d(2, 6, 3)))
        other = self.trained()
        other[2] = nn.Conv2d(6, 8, 5).double()
        with pytest.raises(EncodingError, match=r"layer '2' has shape \(8, 6, 5, 5\) in the dense twin"):
            initialise_from_dense(net, other)
        fewer = self.trained()
        fewer[1] = nn.Identity()
        with pytest.raises(EncodingError, match=r"differ in '1\.bias'"):
            initialise_from_dense(net, fewer)
        with pytest.raises(EncodingError, match="'shared_tapG' cannot start from a dense twin"):
            initialise_from_dense(chain(2, "shared_tapG", (4, 4, 4, 4)), nn.Identity())


class TestOrthogonalGenes:
    def test_every_matrix_is_orthogonal_at_the_variance_of_independent_entries(self) -> None:
        drawn = torch.randn(3, 3, 16, 16, generator=torch_stream(0, "genes"))
        made = orthogonal(drawn, 0.25)
        torch.testing.assert_close(made @ made.mT, torch.eye(16, dtype=made.dtype).expand(3, 3, 16, 16))
        assert made.square().mean().item() == pytest.approx(0.25**2)

    def test_it_keeps_a_matrix_that_is_orthogonal_already(self) -> None:
        start = orthogonal(torch.randn(8, 8, generator=torch_stream(0, "genes")), 8**-0.5)
        torch.testing.assert_close(orthogonal(start, 8**-0.5), start)

    def test_only_the_genes_differ_from_independent_entries(self) -> None:
        plain, made = chain(), chain()
        draw(plain, WiringSettings(), 0)
        draw(made, WiringSettings(start="orthogonal_genes"), 0)
        for name, value in values(made).items():
            assert torch.equal(value, values(plain)[name])
        genes = made.gene_pool.interaction.double()
        assert not torch.equal(genes, plain.gene_pool.interaction)
        torch.testing.assert_close(genes @ genes.T, torch.eye(64, dtype=genes.dtype), atol=1e-5, rtol=0)

    def test_the_low_rank_control_has_no_genes_to_change(self) -> None:
        plain, made = chain(kind="low_rank"), chain(kind="low_rank")
        draw(plain, WiringSettings(), 0)
        draw(made, WiringSettings(start="orthogonal_genes"), 0)
        for name, value in values(made).items():
            assert torch.equal(value, values(plain)[name])

    def test_it_belongs_to_the_analytic_wiring(self) -> None:
        with pytest.raises(SettingsError, match="belongs to wiring 'analytic'"):
            WiringSettings(kind="random", start="orthogonal_genes")
