"""Named streams: the same draws for the same name, in any process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch

from evospike.core.rng import stream, stream_key, torch_stream


def test_keys_are_pinned() -> None:
    # blake2b over the seed and the names; a change here changes every seeded result
    assert stream_key(0) == 8493733112532773764
    assert stream_key(7, "batches", 3) == 1372396737535253737


def test_keys_tell_seeds_names_and_their_order_apart() -> None:
    names: list[tuple[str | int, ...]] = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("ab",), ("a", 1), ("a1",)]
    keys = {stream_key(seed, *name) for seed in (0, 1, -1, 2**70) for name in names}
    assert len(keys) == 4 * len(names)
    assert all(0 <= key < 2**64 for key in keys)


def test_a_stream_does_not_depend_on_other_draws() -> None:
    first = stream(1, "weights").normal(size=4)
    stream(1, "noise").normal(size=1000)
    np.testing.assert_array_equal(stream(1, "weights").normal(size=4), first)
    assert not np.array_equal(stream(1, "noise").normal(size=4), first)
    assert not np.array_equal(stream(2, "weights").normal(size=4), first)


def test_torch_streams_repeat_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first = torch.rand(4, generator=torch_stream(5, "weights", "conv1"))
    assert torch.equal(torch.rand(4, generator=torch_stream(5, "weights", "conv1")), first)
    assert not torch.equal(torch.rand(4, generator=torch_stream(5, "weights", "conv2")), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch_stream(5, "a").initial_seed() == stream_key(5, "a") >> 1


def test_another_process_draws_the_same() -> None:
    code = "from evospike.core.rng import stream; print(stream(3, 'x', 2).integers(2**62))"
    # python's own hash is salted per process; ours must not be
    drawn = {
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert drawn == {str(stream(3, "x", 2).integers(2**62))}
