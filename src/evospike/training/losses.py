"""Losses on class scores over time, (T, B, classes) (methods 1.6)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from evospike.training.settings import TrainingSettings


def mean_cross_entropy(scores: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """L_mean = CE((1/T) sum_t o[t], y). targets: classes (B,) or class probabilities (B, classes)."""
    return F.cross_entropy(scores.mean(0), targets, label_smoothing=label_smoothing)


def tet(
    scores: Tensor, targets: Tensor, label_smoothing: float = 0.0, mmd_weight: float = 0.0, level: float = 1.0
) -> Tensor:
    """L = (1 - w) (1/T) sum_t CE(o[t], y) + w (1/T) sum_t mean (o[t] - level)^2. Source: TET, arXiv 2202.11946."""
    steps = scores.shape[0]
    repeated = targets.repeat(steps, *([1] * (targets.dim() - 1)))
    each = F.cross_entropy(scores.flatten(0, 1), repeated, label_smoothing=label_smoothing)
    if mmd_weight == 0:
        return each
    return (1 - mmd_weight) * each + mmd_weight * (scores - level).square().mean()


def loss_of(scores: Tensor, targets: Tensor, training: TrainingSettings) -> Tensor:
    """The loss a training section names."""
    if training.loss == "mean":
        return mean_cross_entropy(scores, targets, training.label_smoothing)
    return tet(scores, targets, training.label_smoothing, training.mmd_weight)
