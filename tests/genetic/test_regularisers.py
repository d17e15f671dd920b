"""Temporal difference and gene entropy against hand-made values (methods 3.9, section 8)."""

from __future__ import annotations

import math

import pytest
import torch

from evospike.core.errors import ShapeError
from evospike.genetic.regularisers import (
    entropy_ratio,
    entropy_scaled,
    spatial_entropy,
    temporal_difference,
)


class TestTemporalDifference:
    def test_by_hand(self) -> None:
        # One sample, two classes: (3, 4), (0, 0), (6, 8): changes 5 and 10, sizes 5, 0, 10.
        scores = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]], [[6.0, 8.0]]])
        assert temporal_difference(scores, "absolute").item() == pytest.approx(7.5)
        assert temporal_difference(scores).item() == pytest.approx(7.5 / 5)

    def test_relative_form_ignores_the_scale(self) -> None:
        scores = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
        assert temporal_difference(100 * scores).item() == pytest.approx(temporal_difference(scores).item(), rel=1e-5)

    def test_silent_and_single_step_are_zero(self) -> None:
        assert temporal_difference(torch.zeros(4, 2, 3)).item() == 0
        assert temporal_difference(torch.ones(1, 2, 3)).item() == 0

    def test_errors(self) -> None:
        with pytest.raises(ShapeError, match=r"expected \(steps, batch, classes\)"):
            temporal_difference(torch.zeros(2, 3))


class TestEntropy:
    def test_by_hand(self) -> None:
        genes = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
        assert spatial_entropy(genes).item() == pytest.approx(1.5 * math.log(2))
        assert entropy_ratio(genes).item() == pytest.approx(0.75)
        assert entropy_scaled(genes).item() == pytest.approx(1 - 0.5 * math.log(2) / 0.3)

    @pytest.mark.parametrize(("law", "gap"), [("uniform", 0.1931), ("normal", 0.2838)])
    def test_gap_of_random_genes(self, law: str, gap: float) -> None:
        generator = torch.Generator().manual_seed(0)
        make = torch.rand if law == "uniform" else torch.randn
        genes = make(1000, 1000, generator=generator, dtype=torch.float64)
        assert math.log(genes.numel()) - spatial_entropy(genes).item() == pytest.approx(gap, abs=2e-3)

    @pytest.mark.parametrize(("spread", "gap"), [(0.05, 0.001), (1.0, 0.50)])
    def test_gap_of_softmax(self, spread: float, gap: float) -> None:
        genes = spread * torch.randn(500, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert math.log(genes.numel()) - spatial_entropy(genes, "softmax").item() == pytest.approx(gap, abs=0.01)

    def test_equal_genes_are_the_maximum(self) -> None:
        genes = torch.full((5, 5), -0.3)
        assert entropy_ratio(genes).item() == pytest.approx(1)
        assert entropy_scaled(genes).item() == pytest.approx(1)

    def test_zero_genes_have_no_entropy(self) -> None:
        assert spatial_entropy(torch.zeros(4, 4)).item() == 0
        assert entropy_ratio(torch.zeros(4, 4)).item() == 0
        assert math.isfinite(entropy_scaled(torch.zeros(4, 4)).item())

    def test_one_gene(self) -> None:
        assert spatial_entropy(torch.tensor([[-2.0]])).item() == 0
        assert entropy_ratio(torch.tensor([[-2.0]])).item() == 1

    def test_gradient_reaches_the_genes(self) -> None:
        genes = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
        spatial_entropy(genes).backward()
        assert genes.grad is not None
        assert genes.grad.isfinite().all()
