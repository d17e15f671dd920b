"""Networks and batches follow from seed and key alone: common random numbers within a generation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evospike.genetic.groups import parameter_roles

SAME = {"encoding": 0.5, "genes": 0.5}
NARROW = {"encoding": 0.05, "genes": 0.25}


def state(net) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in net.named_parameters()}


def drawn(name: str) -> bool:
    """Whether a tensor's size is a matter of spreads: encodings and genes."""
    return name in ROLES and ROLES[name] in ("encoding", "genes")


ROLES: dict[str, str] = {}


@pytest.fixture(autouse=True)
def _roles(workshop) -> None:
    ROLES.update(parameter_roles(workshop().network("genetic", ("any",))))


def test_candidates_of_a_generation_share_their_noise(workshop) -> None:
    shop = workshop()
    wide, again, narrow = (
        state(shop.network("genetic", ("generation", 3), spreads)) for spreads in (SAME, SAME, NARROW)
    )
    assert all(torch.equal(wide[name], again[name]) for name in wide)
    assert any(drawn(name) for name in wide)
    for name in wide:
        if drawn(name):  # other sizes, but the same signs and the same order
            assert not torch.equal(wide[name], narrow[name])
            assert torch.equal(wide[name].sign(), narrow[name].sign())
            assert torch.equal(wide[name].flatten().argsort(stable=True), narrow[name].flatten().argsort(stable=True))
        else:
            assert torch.equal(wide[name], narrow[name])


def test_generations_and_seeds_have_their_own_noise(workshop) -> None:
    shop = workshop()
    one = state(shop.network("genetic", ("generation", 0), SAME))
    for other in (
        shop.network("genetic", ("generation", 1), SAME),
        shop.network("genetic", ("finalist", 0), SAME),
        workshop("run.seed=1").network("genetic", ("generation", 0), SAME),
    ):
        two = state(other)
        assert all(not torch.equal(one[name], two[name]) for name in one if drawn(name) or name == "classifier.weight")


def test_the_noise_does_not_depend_on_global_randomness(workshop) -> None:
    shop = workshop()
    one = state(shop.network("genetic", ("generation", 0), SAME))
    torch.manual_seed(123)
    torch.rand(7)
    two = state(shop.network("genetic", ("generation", 0), SAME))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_candidates_of_a_generation_see_the_same_batches(workshop) -> None:
    shop = workshop()
    one, same, later = (shop.source(shop.task.train, ("generation", n)) for n in (0, 0, 1))
    assert np.array_equal(one.order(0), same.order(0))
    assert not np.array_equal(one.order(0), one.order(1))
    assert not np.array_equal(one.order(0), later.order(0))
    positions = np.arange(20)
    first, labels = one.batch(positions, 0)
    second, _ = same.batch(positions, 0)
    assert torch.equal(first, second)
    assert not torch.equal(first, one.batch(positions, 1)[0]), "augmentation varies with the epoch"
    assert not torch.equal(first, later.batch(positions, 0)[0])
    assert torch.equal(labels, shop.task.train.labels[:20])


def test_paired_seeds_share_what_arms_have_in_common(workshop) -> None:
    """The classifier and stem, which both arms store, start from the same values, and both see the same batches."""
    shop = workshop()
    genetic, dense = (state(shop.network(arm, ("final", 0))) for arm in ("genetic", "dense"))
    common = [name for name in dense if name in genetic]
    assert {"conv1.conv.weight", "classifier.weight"} <= set(common)
    assert all(torch.equal(genetic[name], dense[name]) for name in common)


def test_arms_are_what_they_are_called(workshop) -> None:
    shop = workshop("wiring.kind=random", "final.arms=['genetic','dense','svd']")
    kinds = {
        arm: (shop.arm(arm).encoding.kind, shop.arm(arm).wiring.kind)
        for arm in ("genetic", "dense", "random", "analytic")
    }
    assert kinds == {
        "genetic": ("edge", "random"),
        "dense": ("dense", "random"),
        "random": ("edge", "random"),
        "analytic": ("edge", "analytic"),
    }
    assert shop.arm("low-rank").encoding.kind == "low_rank"
    assert set(parameter_roles(shop.network("dense", ("final", 0))).values()) == {"weight", "norm", "bias"}


@pytest.mark.parametrize("arm", ["random", "analytic", "low-rank"])
def test_evolved_spreads_reach_the_genetic_arm_only(workshop, arm: str) -> None:
    shop = workshop()
    plain, evolved = (state(shop.network(arm, ("final", 0), spreads)) for spreads in (None, SAME))
    assert all(torch.equal(plain[name], evolved[name]) for name in plain)


def test_evaluation_batches_cover_a_set_once_in_order(workshop) -> None:
    shop = workshop()
    images = shop.task.validation
    parts = list(shop.batches(images, 7))
    assert torch.equal(torch.cat([labels for _, labels in parts]), images.labels)
    assert [len(x) for x, _ in parts] == [7] * 5 + [5]
    once = torch.cat([x for x, _ in parts])
    torch.testing.assert_close(once, torch.cat([x for x, _ in shop.batches(images)]), rtol=0, atol=0)
