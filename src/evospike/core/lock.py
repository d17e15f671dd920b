"""One driver per run folder: a lock file that outlives no live process.

The file names its owner (process, host, boot, start of the process), so that a lock left by a killed driver
is recognised and taken over. On another host nothing can be known about the owner: such a lock is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from evospike.core.errors import RunError
from evospike.core.files import read_json

NAME = "run.lock"
GUARD = ".run.lock.guard"
_FIELDS = {"pid", "host", "boot", "started", "since", "token"}
_MOST_PID = 2**31 - 1


class HeldByOther(RunError):
    """The folder belongs to a live process of this host, which will let go of it."""


@dataclass(frozen=True)
class Holder:
    """Who a lock file names. since: in the holder's local time.

    state: `alive`, `stale` (the process is gone, the next driver takes over) or `elsewhere` (on a host that this one
    cannot ask).
    """

    pid: int
    host: str
    since: str
    state: Literal["alive", "stale", "elsewhere"]


def holder_of(folder: Path) -> Holder | None:
    """Who holds a run folder, None where nobody does; changes nothing. Raises: RunError for a lock it cannot read."""
    owner = RunLock(folder)._read()
    if owner is None:
        return None
    state: Literal["alive", "stale", "elsewhere"] = "elsewhere"
    if owner["host"] == socket.gethostname():
        state = "alive" if _is_alive(owner) else "stale"
    return Holder(owner["pid"], owner["host"], owner["since"], state)


class RunLock:
    """Holds a run folder while used as a context manager.

    Raises: RunError on entry when the folder belongs to a live process, to another host, or when the lock
    cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self._token: str | None = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the folder, or raise RunError."""
        token = uuid.uuid4().hex
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _guarded(self.folder / GUARD):
                self._remove_stale()
                self._create(token)
        except OSError as error:
            raise RunError(
                f"cannot lock run folder {self.folder} ({error.strerror}); make it writable or choose another"
            ) from None
        self._token = token

    def release(self) -> None:
        """Give the folder back; does nothing when it is not held (any more)."""
        token, self._token = self._token, None
        if token is None:
            return
        with contextlib.suppress(OSError, RunError), _guarded(self.folder / GUARD):
            owner = self._read()
            if owner is not None and owner["token"] == token:
                self.path.unlink()

    def _remove_stale(self) -> None:
        owner = self._read()
        if owner is None:
            return
        if owner["host"] != socket.gethostname():
            raise RunError(
                f"{self._describe(owner)}, which this host cannot check; "
                f"wait for it, or delete {self.path} if it is gone"
            )
        if _is_alive(owner):
            raise HeldByOther(f"{self._describe(owner)}; wait for it or stop it")
        self.path.unlink(missing_ok=True)

    def _describe(self, owner: dict[str, Any]) -> str:
        return (
            f"run folder {self.folder} belongs to process {owner['pid']} on host {owner['host']} "
            f"(since {owner['since']})"
        )

    def _create(self, token: str) -> None:
        """Make the whole lock file appear at once; another host may have been faster."""
        temporary = self.folder / f".{NAME}.{token}.tmp"
        text = json.dumps({**_identity(os.getpid()), "token": token})
        try:
            temporary.write_text(text)
            _link_new(temporary, self.path, text)
        except FileExistsError:
            owner = self._read()
            about = self._describe(owner) if owner else f"run folder {self.folder} was just taken"
            raise HeldByOther(f"{about}; wait for it or stop it") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _read(self) -> dict[str, Any] | None:
        try:
            owner = read_json(self.path)
        except FileNotFoundError:
            return None
        except ValueError:
            owner = None
        if not _names_an_owner(owner):
            raise RunError(f"cannot read the lock {self.path}; if no evospike run uses this folder, delete that file")
        found: dict[str, Any] = owner
        return found


def _names_an_owner(owner: Any) -> bool:
    """Whether this is what `_create` writes: a process number and texts."""
    if not isinstance(owner, dict) or set(owner) != _FIELDS:
        return False
    pid = owner["pid"]
    texts = [owner[name] for name in _FIELDS - {"pid"}]
    return type(pid) is int and 0 < pid <= _MOST_PID and all(isinstance(text, str) for text in texts)


def _link_new(source: Path, target: Path, text: str) -> None:
    """Give `source` a second name; FileExistsError when the name is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with open(target, "x", encoding="utf-8") as file:
            file.write(text)


@contextlib.contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """One process of this host at a time; the kernel frees the guard when its holder dies.

    Only takeovers need it, and those happen within one host. The empty file stays: removing it would be a
    race.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with open(path, "a") as file:
        with contextlib.suppress(OSError):  # a file system without locks: the window is then some microseconds
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _identity(pid: int) -> dict[str, Any]:
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "boot": _boot_id(),
        "started": _start_of(pid),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the owner, a process of this host, still runs: same boot, same process, not a reused number."""
    if owner["boot"] != _boot_id() or not _is_running(owner["pid"]):
        return False
    started = _start_of(owner["pid"])
    return not owner["started"] or not started or started == owner["started"]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # no harmless way to ask; the user is told to delete the file
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat_fields(pid)[:1] != ["Z"]  # killed, but not yet collected by its parent


def _start_of(pid: int) -> str:
    """Start of a process in clock ticks since boot, or '' where /proc is missing."""
    fields = _stat_fields(pid)
    return fields[19] if len(fields) > 19 else ""


def _stat_fields(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on (field 3 of proc(5)); the name before may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
