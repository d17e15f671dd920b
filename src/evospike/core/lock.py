"""One driver per run folder: a lock file that outlives no live process.

The file names its owner (process, host, boot, start of the process, PID namespace). On one machine the kernel says
whether the owner lives: it holds an flock on the file for as long as it does, whatever its namespace; where the file
system has no such locks, its process number is looked up. For other machines the owner touches the guard, a file beside
the lock, every `BEAT_S` seconds: a lock whose guard was not touched for `PATIENCE_S` is taken over. Times are compared
as the file system gave them, so no two clocks have to agree.

An owner that was suspended for so long finds, when it wakes up, that the lock is no longer its own: `RunLock.check`.
A lock of release 0.1 has no beat; on another host it stays until someone deletes it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from evospike.core.errors import RunError
from evospike.core.files import leftovers_in, make_folder, read_json, sync_folder
from evospike.core.flock import close_locked, guarded, is_locked, lock_file
from evospike.core.processes import boot_id, clock, is_running, namespace, start_of

NAME = "run.lock"
GUARD = ".run.lock.guard"

BEAT_S = 15.0
"""Seconds between two signs of life."""

PATIENCE_S = 300.0
"""Seconds without one after which another host takes a lock over."""

_AGAIN_S = 0.05

_FIELDS = {"pid", "host", "boot", "started", "since", "token"}
_FIELDS_WITH_A_BEAT = {*_FIELDS, "namespace", "locked"}
_MOST_PID = 2**31 - 1

_State = Literal["alive", "stale", "elsewhere"]


class HeldByOther(RunError):
    """The folder belongs to a live process of this host, which will let go of it."""


@dataclass(frozen=True)
class Holder:
    """Who a lock file names. since: in the holder's local time.

    state: `alive`, `stale` (the process is gone, the next driver takes over) or `elsewhere` (on a host that this one
    cannot ask; whether it still gives signs of life is for the next driver to find out).
    """

    pid: int
    host: str
    since: str
    state: _State


def holder_of(folder: Path) -> Holder | None:
    """Who holds a run folder, None where nobody does; changes nothing. Raises: RunError for a lock it cannot read."""
    lock = RunLock(folder)
    owner = lock._read()
    if owner is None:
        return None
    return Holder(owner["pid"], owner["host"], owner["since"], _state(owner, lock.path))


class RunLock:
    """Holds a run folder while used as a context manager.

    patience_s: how long to wait for a live process that holds it.
    Raises: RunError on entry when the folder belongs to a live process, to another host that gives signs of life, or
    when the lock cannot be read or written.
    """

    def __init__(self, folder: Path, patience_s: float = 0.0) -> None:
        self.folder = folder
        self._patience_s = patience_s
        self.path = folder / NAME
        self._token: str | None = None
        self._held: IO[str] | None = None
        self._ended = threading.Event()
        self._lost = ""
        self._seen = 0.0

    def __enter__(self) -> RunLock:
        until = time.monotonic() + self._patience_s
        while True:
            try:
                self.acquire()
                return self
            except HeldByOther:
                if time.monotonic() >= until:
                    raise
                time.sleep(_AGAIN_S)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the folder, or raise RunError."""
        token = uuid.uuid4().hex
        try:
            try:
                self._take(token)
            except FileNotFoundError:  # who held it removed the folder just now
                self._take(token)
        except OSError as error:
            raise RunError(
                f"cannot write to '{self.folder}' ({error.strerror}); "
                "make it writable, or choose a folder on a disk with room"
            ) from None
        self._token, self._lost, self._seen, self._ended = token, "", clock(), threading.Event()
        self._discard_leftovers()
        threading.Thread(target=self._beat, args=[self._ended], name="run lock", daemon=True).start()

    def _take(self, token: str) -> None:
        make_folder(self.folder)
        with guarded(self.folder / GUARD):
            self._remove_stale()
            os.utime(self.folder / GUARD)
            self._held = self._create(token)

    def release(self) -> None:
        """Give the folder back; does nothing when it is not held (any more)."""
        token, self._token = self._token, None
        if token is None:
            return
        self._ended.set()
        with contextlib.suppress(OSError, RunError), guarded(self.folder / GUARD):
            owner = self._read()
            if owner is not None and owner["token"] == token:
                self.path.unlink()
        if self._held is not None:
            close_locked(self._held)
            self._held = None

    def check(self) -> None:
        """For whoever holds it, before something is written. Costs no look at the disk while signs of life are given.

        Raises: RunError once the lock is another's, as when this process was suspended, or when it was deleted.
        """
        if not self._lost and clock() - self._seen > PATIENCE_S / 2:
            self._give_sign()
        if self._lost:
            raise RunError(self._lost)

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(BEAT_S) and not self._lost:
            self._give_sign()

    def _give_sign(self) -> None:
        """Touch the guard, unless the lock is no longer ours; a disk that cannot be read now may be read later."""
        token, now = self._token, clock()
        if token is None:
            return
        try:
            owner = self._read()
            if owner is not None and owner["token"] == token:
                os.utime(self.folder / GUARD)
                self._seen = now
                return
            what = "was deleted" if owner is None else f"is now of process {owner['pid']} on host {owner['host']}"
        except RunError:
            what = "was overwritten"
        except OSError:
            return
        if self._token == token:  # not given back meanwhile
            self._lost = (
                f"lost run folder {self.folder}: its lock {what}, "
                f"after {now - self._seen:.0f} s without a sign of life from this process, which stops here"
            )

    def _remove_stale(self) -> None:
        owner = self._read()
        if owner is None:
            return
        silent = self._silent_for() if _beats(owner) else None
        state = _state(owner, self.path, silent)
        if state == "alive":
            raise HeldByOther(f"{self._describe(owner)}; wait for it or stop it")
        if state == "elsewhere":
            patience = (
                "" if silent is None else f" (silent for {max(silent, 0):.0f} s, taken over after {PATIENCE_S:.0f} s)"
            )
            raise RunError(
                f"{self._describe(owner)}, which this host cannot check; "
                f"wait for it, or delete {self.path} if it is gone{patience}"
            )
        self._take_away(owner)

    def _silent_for(self) -> float | None:
        """How long the guard was not touched, in seconds as the file system of the folder counts them."""
        stamp = self._temporary()
        try:
            stamp.touch(exist_ok=False)
            return stamp.stat().st_mtime - (self.folder / GUARD).stat().st_mtime
        finally:
            with contextlib.suppress(OSError):
                stamp.unlink()

    def _take_away(self, owner: dict[str, Any]) -> None:
        """Remove the lock of an owner that is gone, and not that of another host that was faster."""
        aside = self._temporary()
        self.path.rename(aside)
        try:
            found = read_json(aside)
            if found != owner:
                _put_back(aside, self.path)
                raise HeldByOther(f"run folder {self.folder} was just taken; wait for it or stop it")
        finally:
            aside.unlink(missing_ok=True)

    def _describe(self, owner: dict[str, Any]) -> str:
        return (
            f"run folder {self.folder} belongs to process {owner['pid']} on host {owner['host']} "
            f"(since {owner['since']})"
        )

    def _create(self, token: str) -> IO[str] | None:
        """Make the whole lock file appear at once; another host may have been faster. Gives what holds its flock."""
        temporary, owner = self._temporary(), {**_identity(os.getpid()), "token": token}
        try:
            held = _write_locked(temporary, owner)
            try:
                os.link(temporary, self.path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                held = _write_locked(self.path, owner)
        except FileExistsError:
            other = self._read()
            about = self._describe(other) if other else f"run folder {self.folder} was just taken"
            raise HeldByOther(f"{about}; wait for it or stop it") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        try:
            sync_folder(self.folder)
        except OSError:
            self.path.unlink()
            raise
        return held

    def _discard_leftovers(self) -> None:
        """Remove what writes into this folder that were cut off have left; not what another one may be writing."""
        with contextlib.suppress(OSError):
            now = self.path.stat().st_mtime
            for path in leftovers_in(self.folder):
                if now - path.lstat().st_mtime > PATIENCE_S:
                    path.unlink()

    def _temporary(self) -> Path:
        return self.folder / f".{NAME}.{uuid.uuid4().hex}.tmp"

    def _read(self) -> dict[str, Any] | None:
        try:
            owner = read_json(self.path)
        except FileNotFoundError:
            return None
        except ValueError:
            owner = None
        except OSError as error:
            if error.errno != errno.EINVAL:  # of a pipe or a device
                raise
            owner = None
        if not _names_an_owner(owner):
            raise RunError(f"cannot read the lock {self.path}; if no evospike run uses this folder, delete that file")
        found: dict[str, Any] = owner
        return found


def _names_an_owner(owner: Any) -> bool:
    """Whether this is what `_create` writes, now or in release 0.1: a process number and texts."""
    if not isinstance(owner, dict) or set(owner) not in (_FIELDS, _FIELDS_WITH_A_BEAT):
        return False
    pid = owner["pid"]
    texts = [owner[name] for name in owner.keys() - {"pid", "locked"}]
    numbered = type(pid) is int and 0 < pid <= _MOST_PID
    return numbered and all(isinstance(text, str) for text in texts) and type(owner.get("locked", True)) is bool


def _beats(owner: dict[str, Any]) -> bool:
    return "locked" in owner


def _state(owner: dict[str, Any], path: Path, silent: float | None = None) -> _State:
    """What is known of the owner of the lock at `path`. silent: seconds since its last sign of life, None: unknown."""
    if owner["host"] == socket.gethostname():
        known = _state_here(owner, path, silent)
        if known is not None:
            return known
    return "stale" if silent is not None and silent > PATIENCE_S else "elsewhere"


def _state_here(owner: dict[str, Any], path: Path, silent: float | None) -> _State | None:
    """Of an owner on a host of this name; None where only its signs of life can tell."""
    if owner["boot"] != boot_id():
        # a host that has started since, or another one of the same name, which has given a sign since this one started
        return "stale" if silent is None or silent > clock() else None
    if _is_alive(owner) or (owner.get("locked") and is_locked(path)):
        return "alive"
    visible = owner.get("namespace", namespace()) == namespace()
    return "stale" if owner.get("locked") or visible else None


def _put_back(aside: Path, path: Path) -> None:
    """Give a lock its name again, unless there is another one by now."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        aside.rename(path)


def _write_locked(path: Path, owner: dict[str, Any]) -> IO[str] | None:
    """Write a new lock file that this process holds an flock on; gives the open file, None where there are none."""
    file = open(path, "x", encoding="utf-8")  # noqa: SIM115 - it stays open as long as the lock is held
    try:
        locked = lock_file(file, wait=False)
        file.write(json.dumps({**owner, "locked": locked}))
        file.flush()
        os.fsync(file.fileno())
    except BaseException:
        file.close()
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    if locked:
        return file
    file.close()
    return None


def _identity(pid: int) -> dict[str, Any]:
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "boot": boot_id(),
        "started": start_of(pid),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "namespace": namespace(),
    }


def _is_alive(owner: dict[str, Any]) -> bool:
    """Whether the owner, a process of this start of this host, still runs: the same process, not a reused number."""
    if not is_running(owner["pid"]):
        return False
    started = start_of(owner["pid"])
    return not owner["started"] or not started or started == owner["started"]
