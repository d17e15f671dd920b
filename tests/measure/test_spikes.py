"""Spikes counted by the measure are the spikes counted on paper."""

from __future__ import annotations

import pytest
import torch

from evospike.core.errors import ShapeError
from evospike.measure.spikes import SpikeCount, counting

# first layer: 2 + 1, 0 + 4 spikes; second layer (0.75 a spike): 1 + 0, 0 + 2
IMAGES = torch.tensor([[0.6, 0.3], [0.2, 2.0]]).view(2, 1, 1, 2)


def test_spikes_rates_and_chances(hand) -> None:
    with counting(hand) as count:
        hand(IMAGES)
    assert count.spikes == {"first": 7.0, "second": 3.0}
    assert count.chances == {"first": 16, "second": 16}
    assert count.layer_rates() == {"first": 7 / 16, "second": 3 / 16}
    assert count.firing_rate() == 10 / 32
    # first layer, step by step: 0101, 0001, 0000, 1111 -> 3 + 1 + 0 + 0 changes in 4 x 3 places
    assert count.changes["first"] == pytest.approx(4 / 12)
    assert count.finite


def test_several_batches_add_up_to_one(hand) -> None:
    with counting(hand) as together:
        hand(IMAGES)
    with counting(hand) as apart:
        hand(IMAGES[:1])
        hand(IMAGES[1:])
    assert (apart.spikes, apart.chances) == (together.spikes, together.chances)


def test_the_observer_is_put_back(hand) -> None:
    def own(*_: object) -> None: ...

    hand.observer = own
    with counting(hand) as count:
        assert hand.observer is count
    assert hand.observer is own
    with pytest.raises(ShapeError), counting(hand):
        hand(IMAGES[0])
    assert hand.observer is own


def test_counting_changes_no_score(hand) -> None:
    plain = hand(IMAGES)
    with counting(hand):
        assert torch.equal(hand(IMAGES), plain)


def test_a_potential_that_is_not_finite_is_seen(hand) -> None:
    with counting(hand) as count:
        hand(IMAGES)
        hand(torch.full((1, 1, 1, 2), float("nan")))
        hand(IMAGES)
    assert not count.finite


def test_nothing_counted_is_a_rate_of_zero() -> None:
    assert SpikeCount().firing_rate() == 0.0
    assert SpikeCount().layer_rates() == {}


def test_the_mean_change_is_that_of_the_layers() -> None:
    count = SpikeCount()
    alternating = torch.tensor([0.0, 1.0, 0.0])[:, None].expand(3, 7)
    count("restless", alternating, torch.zeros(7))
    count("constant", torch.ones(3, 2, 2), torch.zeros(2, 2))
    assert count.mean_change() == 0.5
    once = SpikeCount()
    once("one step", torch.ones(1, 4), torch.zeros(4))
    assert once.mean_change() == 0
