"""Accuracy and loss by hand; the network is left as it was."""

from __future__ import annotations

import math

import pytest
import torch

from evospike.measure.accuracy import evaluate

# mean scores (1/4 and 0), (0 and 2/4), (2/4 and 0): classes 0, 1, 0
IMAGES = torch.tensor([[0.6, 0.2], [0.2, 2.0], [2.0, 0.2]]).view(3, 1, 1, 2)
LABELS = torch.tensor([0, 1, 1])


def ce(margin: float) -> float:
    return math.log1p(math.exp(-margin))


def test_accuracy_loss_and_firing_rate(hand) -> None:
    seen = evaluate(hand, [(IMAGES, LABELS)])
    assert seen.accuracy == 2 / 3
    assert seen.samples == 3
    assert seen.loss == pytest.approx((ce(0.25) + ce(0.5) + ce(-0.5)) / 3)
    assert seen.spikes.spikes == {"first": 2 + 4 + 4, "second": 1 + 2 + 2}
    assert seen.firing_rate == 15 / 48


def test_unequal_batches_weigh_by_their_samples(hand) -> None:
    whole = evaluate(hand, [(IMAGES, LABELS)])
    parts = evaluate(hand, [(IMAGES[:1], LABELS[:1]), (IMAGES[1:], LABELS[1:])])
    assert (parts.accuracy, parts.samples, parts.firing_rate) == (whole.accuracy, 3, whole.firing_rate)
    assert parts.loss == pytest.approx(whole.loss)


def test_no_samples_give_zeros(hand) -> None:
    seen = evaluate(hand, [])
    assert (seen.accuracy, seen.loss, seen.samples) == (0.0, 0.0, 0)


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_is_restored(hand, training: bool) -> None:
    hand.train(training)
    modes = []
    hand.register_forward_hook(lambda net, args, out: modes.append(net.training))
    evaluate(hand, [(IMAGES, LABELS)])
    assert (hand.training, modes) == (training, [False])
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(hand, broken())
    assert hand.training == training
    assert hand.observer is None


def broken():
    yield IMAGES, LABELS
    raise RuntimeError("broken")


def test_spikes_are_not_counted_unless_wanted_and_no_gradient_is_kept(hand) -> None:
    hand.register_forward_hook(lambda net, args, out: gradients.append(out.requires_grad))
    gradients: list[bool] = []
    seen = evaluate(hand, [(IMAGES, LABELS)], count_spikes=False)
    assert (seen.spikes.spikes, gradients) == ({}, [False])
