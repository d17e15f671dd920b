"""The Ray cluster of an executor: joined and left, or started on this machine and ended.

Ray is imported when a cluster is needed. It takes over the handling of SIGTERM then; here the run keeps its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evospike.core.errors import Interrupted, MissingExtra, RunError
from evospike.evolution.executors.worker import one_line

_REACH_S = 10.0
_ASK_S = 30.0
_LOOK_EVERY_S = 1.0
_HEAD_S = 15.0
"""How long the head of a cluster may be silent. Ray itself ends this process after a minute, without a word to it."""

_LOOPBACK = "127.0.0.1"
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",  # a cluster tells nobody of itself
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_prestart_worker_first_driver": "0",  # no worker but those that are asked for
    "RAY_worker_niceness": "0",  # workers are as important as the driver
}
"""Environment in which a cluster is joined or started."""

_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Environment in which Ray is imported for a cluster of one machine: it then knows this machine by its loopback address
and listens nowhere else. Asked for that address by name, it takes the one that others can reach.
"""


class Cluster:
    """A connection to Ray, made when it is first needed.

    address: of a running cluster, 'HOST:PORT' or 'auto'; empty: one of this machine alone is started, with `cpus` CPUs
    and, where `gpus` is above 0, the GPUs that are there. A process that is connected already keeps its connection.
    """

    def __init__(self, address: str, cpus: int, gpus: float) -> None:
        self._address, self._cpus, self._gpus = address, cpus, gpus
        self._left = contextlib.ExitStack()
        self._joined = False
        self._head = ""
        self._looked = 0.0
        self._silent_since: float | None = None

    @property
    def ray(self) -> Any:
        """The module. Raises: MissingExtra where it is not installed."""
        return _import_ray()

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment of the workers: the import path, where they run on this machine."""
        if self._address:
            return {}
        return {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)}

    def join(self) -> Any:
        """Connect, once; gives the module. Raises: RunError when there is no such cluster, or none can be started."""
        if not self._joined:
            with (
                _own_signals(),
                _environment(_VARIABLES | (_authentication(self._address) if self._address else _ALONE)),
            ):
                ray = _import_ray()
                if not ray.is_initialized():
                    self._connect(ray)
            self._head, self._silent_since = ray.get_runtime_context().gcs_address, None
            self._joined = True
        return self.ray

    def leave(self) -> None:
        """Disconnect from a cluster that was joined here, or end the one that was started here."""
        self._joined = False
        with _own_signals():
            self._left.close()

    def answers(self, now: bool = False) -> bool:
        """Whether the cluster's head can be reached; while it cannot, whatever is asked of Ray may block.

        now: look at once; otherwise a look holds for a second. Raises: RunError when it was silent for too long.
        """
        if not self._joined or not (now or time.monotonic() > self._looked + _LOOK_EVERY_S):
            return self._silent_since is None
        try:
            socket.create_connection(_host_and_port(self._head), _LOOK_EVERY_S).close()
            self._silent_since = None
        except OSError:
            self._silent_since = self._silent_since or time.monotonic()
        self._looked = time.monotonic()
        if self._silent_since is not None and self._looked > self._silent_since + _HEAD_S:
            raise RunError(
                f"the head of the Ray cluster at '{self._head}' does not answer any more; start a cluster and resume"
            )
        return self._silent_since is None

    def has(self, node: str) -> bool:
        """Whether a node of the cluster, by its name, is alive."""
        return any(one["NodeID"] == node and one["Alive"] for one in self.ray.nodes())

    def free(self) -> str:
        """CPUs and GPUs that nobody uses, in words."""
        free = self.ray.available_resources()
        return f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"

    def _connect(self, ray: Any) -> None:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self._address:
                ray.init(address=_reachable(self._address), **quiet)
            else:
                folder = tempfile.mkdtemp(prefix="evospike-")
                self._left.callback(shutil.rmtree, folder, ignore_errors=True)
                ray.init(
                    address="local",
                    num_cpus=self._cpus,
                    num_gpus=None if self._gpus else 0,
                    include_dashboard=False,
                    _temp_dir=folder,
                    **quiet,
                )
        except SystemExit:  # how Ray takes SIGTERM meanwhile
            self._left.close()
            raise Interrupted(signal.SIGTERM) from None
        except Exception as error:  # of many types, none of them documented
            self._left.close()
            raise RunError(f"{self._what()} ({one_line(error)})") from None
        self._left.enter_context(_unheard(ray))  # until after the shutdown
        self._left.callback(ray.shutdown)
        if not self._address and ray.util.get_node_ip_address() != _LOOPBACK:
            self._left.close()
            raise RunError(
                "Ray was imported before and would be open to other machines; start it there and give its address"
            )

    def _what(self) -> str:
        if not self._address:
            return "cannot start Ray on this machine"
        return f"cannot join the Ray cluster at '{self._address}'; give HOST:PORT or auto, on a machine of the cluster"


def _reachable(address: str) -> str:
    """An address at which something listens: Ray would try for many minutes. Raises: OSError, ValueError."""
    address = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    if address != "auto":
        socket.create_connection(_host_and_port(address), _REACH_S).close()
    return address


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _authentication(address: str) -> dict[str, str]:
    """Environment in which a cluster that demands a token is shown the one that is here, unless somebody said how.

    `ray start` demands one as soon as its account has one, yet Ray joins an address without; and with one it gets no
    workers where none is demanded. Ray itself would try for two minutes with a token that is not the right one.
    Raises: RunError when there is no token here, or not the right one.
    """
    if "RAY_AUTH_MODE" in os.environ or _is_connected():
        return {}
    try:
        address = _reachable(address)
    except (OSError, ValueError):
        return {}  # whoever joins it is told
    if address == "auto" or not _turns_away(address, "disabled"):
        return {}
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path.home() / ".ray" / "auth_token"
    if not (named or file.exists()):
        raise RunError(
            f"the Ray cluster at '{address}' demands a token and this account has none; copy the {file.name} of the "
            f"account that started it to {file}, readable by nobody else"
        )
    if _turns_away(address, "token"):
        where = "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH" if named else str(file)
        raise RunError(
            f"the Ray cluster at '{address}' demands another token than that of {where}; take the one of the account "
            "that started it"
        )
    return {"RAY_AUTH_MODE": "token"}


def _is_connected() -> bool:
    ray: Any = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def _turns_away(address: str, mode: str) -> bool:
    """Whether a cluster wants another token than the one shown in a mode of RAY_AUTH_MODE. Asked by a process of its
    own: Ray reads once what it shows.
    """
    ask = [sys.executable, "-P", "-c", "import sys, ray; ray._raylet.GcsClient(address=sys.argv[1])", address]
    env = {**os.environ, "RAY_AUTH_MODE": mode}
    try:
        return b"AuthenticationError" in subprocess.run(ask, env=env, capture_output=True, timeout=_ASK_S).stderr
    except subprocess.TimeoutExpired:
        return False


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray", "--executor ray") from None
    return ray


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside, these variables are set; processes that are started inside keep them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _unheard(ray: Any) -> Iterator[None]:
    """Inside, Ray prints nothing: what it learns of machines that die goes to standard output otherwise."""
    ray._private.worker._worker_logs_enabled = False
    try:
        yield
    finally:
        ray._private.worker._worker_logs_enabled = True


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Whatever is set inside, the signals that stop a run are handled as before afterwards."""
    main = threading.current_thread() is threading.main_thread()
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
