"""Losses on scores over time, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from evospike.training.losses import loss_of, mean_cross_entropy, tet

# Two steps, two samples, two classes. CE of scores (a, b) with target 0 is ln(1 + e^(b - a)).
SCORES = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 3.0]]])
TARGETS = torch.tensor([0, 1])


def ce(margin: float) -> float:
    """Cross-entropy of two classes, the right one ahead by `margin`."""
    return math.log1p(math.exp(-margin))


def test_the_mean_loss_is_the_cross_entropy_of_scores_averaged_over_time() -> None:
    assert float(mean_cross_entropy(SCORES, TARGETS)) == pytest.approx((ce(1.0) + ce(2.0)) / 2)


def test_tet_averages_the_cross_entropy_of_every_step() -> None:
    each = (ce(2.0) + ce(1.0) + ce(0.0) + ce(3.0)) / 4
    assert float(tet(SCORES, TARGETS)) == pytest.approx(each)
    assert each > float(mean_cross_entropy(SCORES, TARGETS))  # Jensen


def test_the_mmd_term_pulls_every_score_towards_the_level() -> None:
    # squares of scores minus 1: (1 1 1 0) in step 0, (1 1 1 4) in step 1
    squares = (1 + 1 + 1 + 0 + 1 + 1 + 1 + 4) / 8
    each = float(tet(SCORES, TARGETS))
    assert float(tet(SCORES, TARGETS, mmd_weight=0.25)) == pytest.approx(0.75 * each + 0.25 * squares)
    assert float(tet(SCORES, TARGETS, mmd_weight=1.0, level=0.0)) == pytest.approx((4 + 1 + 9) / 8)


def test_probabilities_give_the_loss_of_the_classes_they_name() -> None:
    soft = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for loss in (mean_cross_entropy, tet):
        torch.testing.assert_close(loss(SCORES, soft), loss(SCORES, TARGETS))


def test_label_smoothing_mixes_in_the_other_class() -> None:
    # target probabilities 0.95 and 0.05: ce(m) + 0.05 m
    by_hand = (ce(1.0) + 0.05 * 1.0 + ce(2.0) + 0.05 * 2.0) / 2
    assert float(mean_cross_entropy(SCORES, TARGETS, 0.1)) == pytest.approx(by_hand)


def test_the_settings_choose_the_loss(settings) -> None:
    pairs = [
        (settings(), mean_cross_entropy(SCORES, TARGETS)),
        (settings(label_smoothing=0.2), mean_cross_entropy(SCORES, TARGETS, 0.2)),
        (settings(loss="tet", mmd_weight=0.1), tet(SCORES, TARGETS, 0.0, 0.1)),
    ]
    for chosen, wanted in pairs:
        assert float(loss_of(SCORES, TARGETS, chosen)) == float(wanted)
