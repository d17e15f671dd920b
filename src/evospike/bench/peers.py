"""Other tools that take part: adapters in a folder, one Python file each, with a module-level `PEER`.

Loading an adapter imports its tool, so this happens in measuring processes only. Imports no torch by itself.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType

from evospike.bench.case import Absent, Peer
from evospike.core.errors import SettingsError
from evospike.evolution.executors.worker import one_line


class Peers(Mapping[str, "Peer | Absent"]):
    """The peers of a folder by name, loaded when the first of them is asked for.

    folder: of the adapters; empty for no peers. Iterating raises what `load_peers` raises.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __getitem__(self, name: str) -> Peer | Absent:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @cached_property
    def _found(self) -> dict[str, Peer | Absent]:
        return load_peers(Path(self._folder)) if self._folder else {}


def adapters(folder: Path) -> list[Path]:
    """The adapter files of a folder, by name; files that begin with an underscore are not meant to be one.

    Raises: SettingsError when there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise SettingsError(f"no folder of peers at '{folder}'; give --peers a folder of adapters, one .py file each")
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    if not files:
        raise SettingsError(f"'{folder}' holds no adapter (*.py); give --peers the folder of adapters")
    return files


def load_peers(folder: Path) -> dict[str, Peer | Absent]:
    """Every peer of a folder by name; one whose adapter fails is absent with the reason, under the file's name.

    Raises: SettingsError as `adapters` does, and when two adapters give the same name.
    """
    found: dict[str, Peer | Absent] = {}
    for path in adapters(folder):
        peer = _load(path)
        if peer.name in found:
            raise SettingsError(f"two adapters in '{folder}' are named '{peer.name}'; give each peer its own name")
        found[peer.name] = peer
    return found


def _load(path: Path) -> Peer | Absent:
    try:
        peer = getattr(_module(path), "PEER", None)
    except ImportError as error:
        return _absent(path, f"not installed: {' '.join(str(error).split())}")
    except Exception as error:
        return _absent(path, f"its adapter fails: {one_line(error)}")
    if not isinstance(peer, (Peer, Absent)):
        return _absent(path, f"{path.name} has no PEER of type Peer or Absent")
    return peer


def _module(path: Path) -> ModuleType:
    """The module in a file, under a name of its own: `norse.py` beside it must not hide the tool of that name."""
    name = f"evospike_peer_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _absent(path: Path, reason: str) -> Absent:
    return Absent(path.stem, path.stem, reason)
