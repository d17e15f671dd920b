"""The two terms that guide the evolution of the initial wiring (methods 3.9)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from evospike.core.errors import ShapeError

RANDOM_GAP = 0.3
"""About the largest gap ln(g^2) - H of truncated-normal genes (0.1931 uniform to 0.2838 untruncated)."""


def temporal_difference(scores: Tensor, form: Literal["relative", "absolute"] = "relative") -> Tensor:
    """R_T: how strongly the class scores change from step to step; zero when silent or for one step.

        1/(T-1) sum_t mean_b ||o[t] - o[t-1]||_2  /  (mean_{t,b} ||o[t]||_2 + 1e-8)

    Shapes: scores (T, B, classes); returns a scalar. `absolute` leaves the denominator out.
    """
    if scores.dim() != 3:
        raise ShapeError(f"scores have shape {tuple(scores.shape)}; expected (steps, batch, classes)")
    scores = scores.float() if scores.dtype != torch.float64 else scores
    if scores.shape[0] < 2:
        return scores.new_zeros(())
    change: Tensor = torch.linalg.vector_norm(scores[1:] - scores[:-1], dim=-1).mean()
    if form == "absolute":
        return change
    size: Tensor = torch.linalg.vector_norm(scores, dim=-1).mean()
    return change / (size + 1e-8)


def spatial_entropy(genes: Tensor, normalise: Literal["abs", "softmax"] = "abs") -> Tensor:
    """H in nats: the Shannon entropy of the gene interaction, normalised so that its elements sum to 1.

    `abs` divides |G| by its sum, `softmax` takes softmax(G) over all elements. All-zero genes have no
    distribution under `abs` and entropy 0. Computed in float64; any shape, returns a scalar.
    """
    flat = genes.flatten().double()
    if normalise == "softmax":
        share = flat.softmax(0)
    else:
        total = flat.abs().sum()
        share = flat.abs() / total.clamp(min=torch.finfo(torch.float64).tiny)
    entropy: Tensor = torch.special.entr(share).sum()
    return entropy


def entropy_ratio(genes: Tensor, normalise: Literal["abs", "softmax"] = "abs") -> Tensor:
    """R_S = H / ln(number of elements), in [0, 1]; 1 for a single gene, whose distribution is trivially
    uniform."""
    if genes.numel() == 1:
        return torch.ones((), dtype=torch.float64, device=genes.device)
    return spatial_entropy(genes, normalise) / math.log(genes.numel())


def entropy_scaled(genes: Tensor, normalise: Literal["abs", "softmax"] = "abs") -> Tensor:
    """R_S stretched so that random genes differ: 1 - (ln(number of elements) - H) / 0.3; 1 is uniform, no
    lower bound."""
    return 1 - (math.log(genes.numel()) - spatial_entropy(genes, normalise)) / RANDOM_GAP
