"""The moving average, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evospike.training.ema import MovingAverage


class OneNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([0.0]))
        self.register_buffer("statistic", torch.tensor([0.0]))
        self.register_buffer("count", torch.tensor(0))

    def put(self, value: float) -> None:
        with torch.no_grad():
            self.x.fill_(value)
            self.statistic.fill_(10 * value)


def test_the_decay_rises_with_the_steps() -> None:
    """Decay 1/10 at step 0, 2/11 at step 1, capped at 0.15: 0 -> 0.9 * 1 -> 0.15 * 0.9 + 0.85 * 2."""
    net = OneNumber()
    average = MovingAverage(net, 0.15)
    net.put(1.0)
    average.update(0)
    assert average.tensors["x"].item() == pytest.approx(0.9)
    net.put(2.0)
    average.update(1)
    assert average.tensors["x"].item() == pytest.approx(0.15 * 0.9 + 0.85 * 2)
    assert average.tensors["statistic"].item() == pytest.approx(10 * (0.15 * 0.9 + 0.85 * 2))
    assert "count" not in average.tensors


def test_a_network_changed_at_one_blow_begins_its_averages_anew() -> None:
    net = OneNumber()
    average = MovingAverage(net, 0.99)
    for step in range(500):
        average.update(step)
    net.put(1.0)
    average.update(500, begun=500)
    assert average.tensors["x"].item() == pytest.approx(0.9)
    average.update(501, begun=500)
    assert average.tensors["x"].item() == pytest.approx(1 - 0.1 * 2 / 11)


def test_applied_lends_the_averages_and_gives_the_own_values_back() -> None:
    net = OneNumber()
    average = MovingAverage(net, 0.5)
    net.put(4.0)
    average.update(20)
    with average.applied():
        assert net.x.item() == 2.0
        assert net.statistic.item() == 20.0
    assert net.x.item() == 4.0
    with pytest.raises(RuntimeError, match="inside"), average.applied():
        raise RuntimeError("inside")
    assert net.statistic.item() == 40.0
    average.keep()
    assert (net.x.item(), net.statistic.item()) == (2.0, 20.0)


def test_averages_are_copies_and_can_be_loaded() -> None:
    net = OneNumber()
    average = MovingAverage(net, 0.5)
    net.put(3.0)
    assert average.tensors["x"].item() == 0.0
    average.load({"x": torch.tensor([7.0]), "statistic": torch.tensor([8.0])})
    average.keep()
    assert (net.x.item(), net.statistic.item()) == (7.0, 8.0)
