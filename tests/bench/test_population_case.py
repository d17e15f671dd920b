"""Candidates trained as one network and one after the other: the same work in every repetition, and what it is."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from evospike.bench.case import OURS, Circumstances
from evospike.bench.cases import population
from evospike.bench.registry import find
from evospike.bench.targets import TARGETS


@pytest.fixture
def circumstances(tmp_path: Path) -> Circumstances:
    """Quick, so that nothing is compiled."""
    return Circumstances("cpu", 1, True, str(tmp_path), "", {})


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "SAMPLES", 32)
    monkeypatch.setattr(population, "candidates", functools.partial(population.candidates, count=2))


def test_the_case_is_that_of_its_target(circumstances: Circumstances) -> None:
    (target,) = [target for target in TARGETS if target.number == "G3"]
    figure: Any = target.figure
    case: Any = find(population.__name__, figure.case)
    made = list(case.contestants(circumstances))
    assert [(one.name, one.by) for one in made] == [(figure.under.name, OURS), (figure.over.name, OURS)]
    assert case.reference == figure.over.name
    assert not case.quick


def test_candidates_differ_in_their_spreads_alone(circumstances: Circumstances) -> None:
    shop = population.workshop(circumstances)
    first, second, third = population.candidates(shop, 3)
    name = "conv2.conv.input_encoding"
    widths = [float(net.get_parameter(name).detach().std()) for net in (first, second, third)]
    assert widths == sorted(widths)
    assert widths[2] / widths[0] == pytest.approx(4, rel=0.1)
    assert torch.equal(first.get_parameter("gene_pool.interaction"), third.get_parameter("gene_pool.interaction"))


def test_every_repetition_trains_the_same_first_values(few: None, circumstances: Circumstances) -> None:
    """Every repetition ends with the same values, and both ways do but for rounding."""
    ends = []
    for train in (population.at_once, population.one_after_another):
        nets: list[Any] = []

        def noting(given: Any, shop: Any, train: Any = train, nets: list[Any] = nets) -> object:
            nets[:] = given
            return train(given, shop)

        measure = population._repetition(noting, circumstances)
        assert measure() > 0
        once = [net.state_dict()["classifier.weight"].clone() for net in nets]
        assert measure() > 0
        again = [net.state_dict()["classifier.weight"] for net in nets]
        assert len(nets) == 2
        assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
        ends.append(once)
    for one, other in zip(*ends, strict=True):
        assert float((one - other).abs().mean()) < 1e-3  # a step moves them by up to 1e-2
