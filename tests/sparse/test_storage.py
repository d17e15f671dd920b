"""Packed weights: exact, small, and refused when damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from evospike.core.errors import CheckpointError
from evospike.core.files import load_tensors, save_tensors
from evospike.genetic.encode import encode
from evospike.models.build import build
from evospike.models.init import draw_stored
from evospike.models.presets import small32, vggsnn
from evospike.models.spec import NetworkSpec
from evospike.sparse.masks import attach
from evospike.sparse.settings import SparseSettings
from evospike.sparse.storage import pack_state, unpack_state

TENTH = SparseSettings(density=0.1)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Equal names, dtypes, shapes and bits."""
    return set(a) == set(b) and all(
        x.dtype == b[name].dtype and x.shape == b[name].shape and _bits(x) == _bits(b[name]) for name, x in a.items()
    )


def _bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("spec", [small32((3, 32, 32), 10), vggsnn((2, 48, 48), 10, events=True)], ids=lambda s: s.name)
def test_a_tenth_of_the_weights_takes_at_most_15_percent_of_the_file(spec: NetworkSpec, tmp_path: Path) -> None:
    net = build(spec)
    draw_stored(net, 0)
    save_tensors(tmp_path / "dense", net.state_dict())
    attach(net, TENTH, 0)
    save_tensors(tmp_path / "sparse", pack_state(net.state_dict()))
    assert (tmp_path / "sparse").stat().st_size <= 0.15 * (tmp_path / "dense").stat().st_size
    loaded, _ = load_tensors(tmp_path / "sparse")
    assert same(unpack_state(loaded), net.state_dict())


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([(), (3, 3), (1, 2)]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    st.floats(0, 1),
    st.booleans(),
)
def test_any_masked_tensor_comes_back_with_the_same_bits(
    out: int, into: int, kernel: tuple[int, ...], dtype: torch.dtype, density: float, generated: bool
) -> None:
    generator = torch.Generator().manual_seed(out * 10 + into)
    weight = torch.randn(out, into, *kernel, generator=generator).to(dtype)
    mask = torch.rand(weight.shape, generator=generator) < density
    weight.masked_fill_(~mask, 0)
    if kernel:
        weight = weight.contiguous(memory_format=torch.channels_last)
    state = {"a.mask": mask, "a.bias": torch.randn(3), "b.encoding_mask": mask, "c.flags": torch.tensor([True])}
    if not generated:
        state |= {"a.weight": weight, "b.encoding": 2 * weight}
    packed = pack_state(state)
    assert not {"a.mask", "b.encoding_mask", "a.weight", "b.encoding"} & set(packed)
    assert same(unpack_state(packed), state)
    assert sum(t.numel() for n, t in packed.items() if n.startswith("packed/values/")) == (
        0 if generated else 2 * int(mask.sum())
    )


def test_networks_without_masks_pass_through() -> None:
    state = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()
    assert pack_state(state) == state
    assert unpack_state(state) == state


@pytest.mark.parametrize("on", ["weights", "encodings"])
def test_genetic_networks_come_back_whole(tiny, on: str) -> None:
    net = tiny("genetic")
    attach(net, SparseSettings(density=0.3, on=on), 0)
    packed = pack_state(net.state_dict())
    kinds = {name.split("/")[1] for name in packed if "second" in name and name.startswith("packed/")}
    assert kinds == ({"bits"} if on == "weights" else {"bits", "values"})
    assert same(unpack_state(packed), net.state_dict())
    shared = build(small32((3, 8, 8), 2, channels=(4, 4, 4, 4)))
    encode(shared, genes=2, kind="shared_tapE", skip_growing=False)
    attach(shared, SparseSettings(density=0.3, on="encodings"), 0)
    assert same(unpack_state(pack_state(shared.state_dict())), shared.state_dict())


def test_what_would_be_lost_is_refused() -> None:
    mask = torch.tensor([True, False])
    with pytest.raises(CheckpointError, match=r"'a.weight' has values outside its mask"):
        pack_state({"a.weight": torch.ones(2), "a.mask": mask})
    with pytest.raises(CheckpointError, match=r"'a.weight' has shape \(3,\), its mask \(2,\)"):
        pack_state({"a.weight": torch.zeros(3), "a.mask": mask})


BITS, VALUES = "packed/bits/a.mask:3x4", "packed/values/a.weight"
FULL = torch.tensor([255, 240], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({BITS: None, "packed/bits/a.mask:": FULL}, r"'a.mask' has no usable shape \(''\)"),
        ({BITS: None, "packed/bits/a.mask:3x-4": FULL}, r"no usable shape \('3x-4'\)"),
        ({BITS: None, "packed/bits/a.mask:0x4": FULL}, r"no usable shape \('0x4'\)"),
        ({BITS: None, f"packed/bits/a.mask:{10**9}x{10**9}": FULL}, r"'a.mask' has 2 bytes of torch.uint8 for \d+ po"),
        ({BITS: None, "packed/bits/a.mask:3x3": FULL}, r"positions beyond its 9"),
        ({BITS: torch.tensor([255, 255], dtype=torch.int64)}, r"2 bytes of torch.int64"),
        ({BITS: torch.tensor([255, 255], dtype=torch.uint8)}, "positions beyond its 12"),
        ({BITS: None}, "'a.weight' has no mask"),
        ({"packed/bits/a.mask:12": FULL}, "'a.mask' is there twice"),
        ({VALUES: torch.ones(11)}, r"'a.weight' has values of shape \(11,\) for 12 positions"),
        ({VALUES: torch.ones(3, 4)}, r"values of shape \(3, 4\)"),
        ({"packed/values/b.weight": torch.ones(1)}, "'b.weight' has no mask"),
        ({"packed/bits/b": torch.ones(1, dtype=torch.uint8)}, "'b' is not the name and shape of a mask"),
        ({"a.weight": torch.ones(1)}, "'a.weight' is there twice"),
    ],
)
def test_damaged_files_are_refused(changes: dict, message: str) -> None:
    whole = pack_state({"a.weight": torch.ones(3, 4), "a.mask": torch.ones(3, 4, dtype=torch.bool)})
    assert torch.equal(whole[BITS], FULL)
    damaged = {name: tensor for name, tensor in {**whole, **changes}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        unpack_state(damaged)


def test_mutated_files_give_our_error_or_a_state_dict() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(5, 7, generator=generator) < 0.3
    state = {"a.weight": torch.where(mask, 1.5, 0.0), "a.mask": mask, "b.mask": mask[:2], "c": torch.ones(2)}
    whole, chance, refused = pack_state(state), random.Random(0), 0
    for _ in range(3000):
        mutant = dict(whole)
        name = chance.choice(sorted(mutant))
        tensor = mutant.pop(name)
        how = chance.randrange(5)
        if how == 0:
            mutant[name] = tensor.to(chance.choice([torch.uint8, torch.int64, torch.float32, torch.bool]))
        elif how == 1:
            mutant[name] = tensor[: chance.randrange(len(tensor) + 1)]
        elif how == 2:
            mutant[name] = tensor.clone()
            mutant[name][chance.randrange(len(tensor))] = chance.randrange(256)
        elif how == 3:
            mutant[chance.choice([*whole, "packed/bits/", "packed/values/c", "packed/bits/c.mask:2"])] = tensor
        try:
            unpacked = unpack_state(mutant)
        except CheckpointError:
            refused += 1
        else:
            assert all(not key.startswith("packed/") for key in unpacked)
    assert refused > 1000
