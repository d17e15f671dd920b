from __future__ import annotations

import pytest
import torch

from evospike.data.keyed import Draws, mixed


def _splitmix(x: int) -> int:
    mask = (1 << 64) - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_hash_equals_plain_python() -> None:
    values = [0, 1, 2**62 + 12345, -7, -(2**63)]
    expected = [_splitmix(value % 2**64) for value in values]
    assert [int(value) % 2**64 for value in mixed(torch.tensor(values))] == expected


def test_first_output_of_splitmix64() -> None:
    # splitmix64 seeded with 0 gives 0xE220A8397B1DCDAF first: the finaliser of the golden increment.
    assert int(mixed(torch.tensor([0x9E3779B97F4A7C15 - 2**64]))) % 2**64 == 0xE220A8397B1DCDAF


def test_a_sample_alone_draws_what_it_draws_in_a_batch() -> None:
    rows = torch.tensor([5, 900_000, 0, 17])
    together, alone = Draws(3, 7, rows), Draws(3, 7, rows[2:3])
    assert torch.equal(together.uniform("crop", 9)[2:3], alone.uniform("crop", 9))
    assert torch.equal(together.at(torch.tensor([2])).whole("x", 100, 5), alone.whole("x", 100, 5))
    assert torch.allclose(together.normal("noise", 11)[2:3], alone.normal("noise", 11), atol=1e-6)


@pytest.mark.parametrize("count", [7, 12])
def test_single_normal_numbers_are_those_of_the_whole_draw(count: int) -> None:
    draws = Draws(3, 7, torch.tensor([5, 900_000, 0, 17]))
    sample, place = torch.tensor([3, 0, 0, 2, 1]), torch.tensor([0, 6, 5, 3, 4])
    expected = draws.normal("noise", count)[sample, place]
    torch.testing.assert_close(draws.normal_at("noise", sample, place, count), expected, atol=1e-6, rtol=0)


def test_every_part_of_the_key_counts() -> None:
    rows = torch.arange(50)
    base = Draws(0, 0, rows).uniform("a")
    for other in (Draws(1, 0, rows).uniform("a"), Draws(0, 1, rows).uniform("a"), Draws(0, 0, rows).uniform("b")):
        assert (base == other).sum() < 3
    assert base.unique().numel() == 50


def test_uniform_moments_and_independence() -> None:
    u = Draws(0, 0, torch.arange(20_000)).uniform("u", 4).double()
    assert u.min() >= 0.0
    assert u.max() < 1.0
    # standard error of the mean is 0.289 / sqrt(80000) = 0.001
    assert abs(u.mean() - 0.5) < 0.004
    assert abs(u.var() - 1 / 12) < 0.002
    off_diagonal = torch.corrcoef(u.T) - torch.eye(4)
    assert off_diagonal.abs().max() < 0.03
    neighbours = torch.corrcoef(torch.stack([u[:-1, 0], u[1:, 0]]))[0, 1]
    assert abs(neighbours) < 0.03


def test_normal_and_whole_moments() -> None:
    draws = Draws(0, 0, torch.arange(20_000))
    x = draws.normal("n", 3).double()
    assert x.shape == (20_000, 3)
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    counts = torch.bincount(draws.whole("w", 5)[:, 0], minlength=5)
    assert counts.numel() == 5
    assert (counts - 4000).abs().max() < 250
    assert abs(draws.chance("c", 0.25).float().mean() - 0.25) < 0.015
