"""Files that are either whole or absent: atomic writes, checksums, tensors without pickle."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from evospike.core.errors import CheckpointError, EvospikeError
from evospike.core.limits import MOST_DEPTH, MOST_DOCUMENT_BYTES, WHOLE_BITS, check_plain, require_memory

if TYPE_CHECKING:
    from torch import Tensor

_CHECKSUM = "checksum"

_LEFTOVER = re.compile(r"\..+\.(\d+|[0-9a-f]{32})\.tmp(-journal)?")
_LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""How a disk says that something was not written; where folders cannot be synced, other errors say so."""

_JSON_GROWTH = 48
"""Python's values of a JSON text take at most so many times its bytes."""

_TENSOR_COPIES = 3
"""Of a file of tensors, at most as many are held at once while it is checked."""


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


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that a reader, a crash or a full disk never leaves half of it. A link is replaced, not followed.

    durable: whether it has to outlast a power cut.
    Raises: OSError as the operating system gives it; the previous file is then untouched, unless it was the folder that
    could not be synced.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _open_new(temporary) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def _open_new(path: Path) -> BinaryIO:
    """Open a file of our own to write; one of this name is of a process that is gone, or is a link."""
    try:
        return open(path, "xb")
    except FileExistsError:
        path.unlink()
        return open(path, "xb")


def leftovers_in(folder: Path) -> Iterator[Path]:
    """What writes that were cut off have left in a folder: temporary files with the number of a process or a token."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if is_leftover(path.name):
            yield path


def is_leftover(name: str) -> bool:
    """Whether a file of this name is temporary, and nothing to whoever does not write it."""
    return _LEFTOVER.fullmatch(name) is not None


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, durably. Raises: OSError."""
    if folder.is_dir():
        return
    if not folder.parent.exists():
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename durable; where folders cannot be synced (Windows), do nothing.

    Raises: OSError where the disk failed or is full.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _LOST:
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_text(path: Path, what: str, most: int, error: type[EvospikeError]) -> str:
    """The text of a file that exists. what: how an error calls it, as `recipe`; most: bytes it may have.

    Raises: `error` when it cannot be read, is larger or is no UTF-8.
    """
    try:
        return _read(path, most).decode()
    except _TooLargeError as problem:
        raise error(f"{what} file '{path}' has {problem} bytes; a {what} has at most {most}") from None
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"cannot read {what} '{path}': {reason}; give a text file that can be read") from None


def parse_json(text: str | bytes, bits: int = WHOLE_BITS) -> Any:
    """The value of a JSON text of ours or of a person. bits: that a whole number may have, without its sign.

    Raises: ValueError when it is no JSON, is nested deeper than `MOST_DEPTH`, or holds a number that is not finite or
    a whole number of more bits.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MOST_DEPTH}") from None
    check_plain(value, bits)
    return value


def read_json(path: Path) -> Any:
    """The value of a JSON document. Raises: OSError; ValueError as `parse_json`, and for a file that is too large."""
    try:
        require_memory(_JSON_GROWTH * path.stat().st_size, "reading it", "free memory", EvospikeError)
        return parse_json(_read(path, MOST_DOCUMENT_BYTES))
    except _TooLargeError as error:
        raise ValueError(f"it has {error} bytes; a document has at most {MOST_DOCUMENT_BYTES}") from None
    except EvospikeError as error:
        raise ValueError(str(error)) from None


class _TooLargeError(ValueError):
    """The number of bytes of a file that has too many."""


def _read(path: Path, most: int) -> bytes:
    """What a file holds. Raises: OSError, for a pipe or a device too; _TooLargeError for more bytes than `most`."""
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        if status.st_size > most:
            raise _TooLargeError(str(status.st_size))
        data = file.read(status.st_size + 1)
        if len(data) > status.st_size:  # that of some files is 0, whatever they hold
            data += file.read(most + 1 - len(data))
    if len(data) > most:
        raise _TooLargeError(f"more than {most}")
    return data


def _open_at_once(path: str, flags: int) -> int:
    """Without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is no number")


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
    from safetensors import safe_open

    if not path.is_file():
        raise CheckpointError(f"no tensor file at {path}; expected a .safetensors file written by evospike")
    require_memory(
        _TENSOR_COPIES * path.stat().st_size, f"reading {path}", "use a machine with more memory", CheckpointError
    )
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except Exception as error:  # the reader raises whatever a damaged header leads it to, torch's errors among them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"cannot read {path} ({reason:.200}); the file is cut short or altered, use an earlier one"
        ) from None
    described = {name: value for name, value in metadata.items() if name != _CHECKSUM}
    if metadata.get(_CHECKSUM) != digest_json([digest_tensors(tensors), described]):
        raise CheckpointError(
            f"checksum of {path} does not match its contents; the file was altered, use an earlier one"
        )
    return tensors, metadata
