"""Files that are either whole or absent: atomic writes, checksums, tensors without pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evospike.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_CHECKSUM = "checksum"


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_json(value: Any) -> str:
    """32 hex digits that depend only on the value, not on key order."""
    return digest_bytes(canonical_json(value).encode())


def digest_bytes(data: bytes) -> str:
    """32 hex digits of a byte string."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """32 hex digits of named tensors: names, dtypes, shapes and bytes, whatever their device or memory layout."""
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        hasher.update(_bytes_of(tensor))
    return hasher.hexdigest()


def _bytes_of(tensor: Tensor) -> bytes:
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, a crash or a full disk never leaves half of it.

    Raises: OSError as the operating system gives it; the previous file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename durable; where folders cannot be synced (Windows), do nothing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write named tensors as safetensors, atomically, with a checksum in the header; returns the checksum."""
    import torch
    from safetensors.torch import save

    # copies, because safetensors refuses tensors that share memory, as tied weights do
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    checksum = digest_json([digest_tensors(plain), dict(metadata or {})])
    write_atomic(path, _in_one_order(save(plain, metadata={**(metadata or {}), _CHECKSUM: checksum})))
    return checksum


def _in_one_order(data: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: safetensors writes them in an order that changes."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, data[start:]])


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote: the tensors and the metadata, with the checksum under `checksum`.

    Raises: CheckpointError when the file is missing, cut short, altered or not a safetensors file of ours.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"no tensor file at {path}; expected a .safetensors file written by evospike")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {path} ({error}); the file is cut short or altered, use an earlier one"
        ) from None
    described = {name: value for name, value in metadata.items() if name != _CHECKSUM}
    if metadata.get(_CHECKSUM) != digest_json([digest_tensors(tensors), described]):
        raise CheckpointError(
            f"checksum of {path} does not match its contents; the file was altered, use an earlier one"
        )
    return tensors, metadata
