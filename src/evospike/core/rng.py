"""Named random streams: all randomness of a run comes from one root seed.

A stream is named by its purpose (`stream(seed, "batches", epoch)`), so that the draws for one purpose never depend
on how many draws another purpose made, on the process or on the number of workers.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

Name = str | int


def stream_key(root: int, *names: Name) -> int:
    """64-bit key of the stream called `names` under the seed `root`; equal in every process and on every machine."""
    text = "\x1f".join([str(root), *(str(name) for name in names)])
    # Not hash(): Python changes it from process to process.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream(root: int, *names: Name) -> np.random.Generator:
    """A NumPy generator for one purpose."""
    return np.random.default_rng(stream_key(root, *names))


def torch_stream(root: int, *names: Name) -> torch.Generator:
    """A CPU torch generator for one purpose."""
    import torch

    generator = torch.Generator(device="cpu")
    generator.manual_seed(stream_key(root, *names) >> 1)  # torch takes a signed 64-bit seed
    return generator
