from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evospike.core.rng import stream
from evospike.data.split import held_out, shares, stratified


def test_shares_by_largest_remainder() -> None:
    assert shares(np.array([50, 50, 50]), 15).tolist() == [5, 5, 5]
    assert shares(np.array([98, 1, 1]), 10).tolist() == [8, 1, 1]
    assert shares(np.array([3, 3, 3]), 2).tolist() == [1, 1, 0]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.data())
def test_stratified_takes_what_was_asked(counts: list[int], data: st.DataObject) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    count = data.draw(st.integers(0, len(labels)))
    chosen = stratified(labels, count, stream(0, "test"))
    assert len(np.unique(chosen)) == len(chosen) == count
    taken = np.bincount(labels[chosen], minlength=len(counts))
    assert (taken <= counts).all()
    if count >= len(counts):
        assert (taken >= 1).all()


@given(st.lists(st.integers(1, 30), min_size=2, max_size=8), st.floats(0, 0.99))
def test_held_out_is_a_partition_that_keeps_every_class(counts: list[int], fraction: float) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    kept, held = held_out(labels, fraction, stream(1, "test"))
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert len(np.unique(labels[kept])) == len(counts)


def test_seed_decides() -> None:
    labels = np.arange(100) % 5
    first = stratified(labels, 20, stream(0, "a"))
    assert np.array_equal(first, stratified(labels, 20, stream(0, "a")))
    assert not np.array_equal(first, stratified(labels, 20, stream(1, "a")))
    assert np.bincount(labels[first]).tolist() == [4] * 5
