"""What the package never does, told from its syntax trees: unpickle, evaluate, run a shell, unpack an archive, listen.

An entry of `ALLOWED` says where something is done all the same, and why it cannot be reached by a file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import evospike

ROOT = Path(evospike.__file__).parent

MODULES = {
    **dict.fromkeys(
        ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"), "unpickles"
    ),
    **dict.fromkeys(("yaml", "jsonpickle", "code", "codeop", "runpy", "pandas"), "may run what it reads"),
    **dict.fromkeys(("tarfile", "zipimport", "rarfile", "py7zr"), "unpacks"),
    **dict.fromkeys(
        ("socketserver", "http", "xmlrpc", "flask", "aiohttp", "uvicorn", "tornado"), "listens or downloads"
    ),
    **dict.fromkeys(("urllib", "requests", "httpx", "ftplib", "telnetlib"), "downloads"),
    **dict.fromkeys(
        ("subprocess", "multiprocessing", "importlib", "zipfile", "socket", "ctypes"), "has to be justified"
    ),
    **dict.fromkeys(("datasets", "tonic", "ray"), "a package that reads or runs on its own"),
}
"""Modules whose import has to be justified."""

CALLS = {
    *("eval", "exec", "compile", "__import__", "execfile", "breakpoint", "input"),
    *("os.system", "os.popen", "os.startfile", "os.execv", "os.execve", "os.execvp", "os.spawnv", "os.fork"),
    *(
        "torch.load",
        "torch.jit.load",
        "torch.hub.load",
        "torch.package.PackageImporter",
        "torch.utils.model_zoo.load_url",
    ),
    *("numpy.fromregex", "np.fromregex", "numpy.loadtxt", "np.loadtxt", "numpy.genfromtxt", "np.genfromtxt"),
    *("shutil.unpack_archive", "asyncio.start_server", "np.lib.npyio.NpzFile"),
    "tempfile.mktemp",
}
"""Calls that have to be justified, by their whole name."""

METHODS = {
    *("extractall", "extract", "unpack_archive", "read_pickle", "load_state_dict_from_url"),
    *("import_module", "load_module", "exec_module"),
}
"""The same by the last part of their name, whatever they are called on."""

OWN_PROCESSES = "between the driver and worker processes that it started itself"
ALLOWED: dict[tuple[str, str], str] = {
    ("evolution/executors/local.py", "import pickle"): OWN_PROCESSES,
    ("evolution/executors/worker.py", "import pickle"): OWN_PROCESSES,
    ("evolution/executors/local.py", "import subprocess"): "starts our own interpreter",
    (
        "evolution/executors/ray_cluster.py",
        "import ray",
    ): "asked for by run.executor; a cluster runs what its users say",
    ("evolution/executors/ray_cluster.py", "import socket"): "whether a cluster answers, before and while it is used",
    ("evolution/executors/ray_cluster.py", "import subprocess"): "starts our own interpreter",
    ("evolution/executors/ray_worker.py", "import ray"): "asked for by run.executor",
    ("evolution/executors/ray_worker.py", "import socket"): "the name of this host",
    ("evolution/executors/worker.py", "import importlib"): "functions named by our own code, never by a file",
    ("evolution/executors/worker.py", "import_module"): "functions named by our own code, never by a file",
    ("evolution/executors/worker.py", "import ctypes"): "asks Linux to end a worker with its driver",
    ("core/allocator.py", "import ctypes"): "asks the C library to keep freed memory",
    ("core/lock.py", "import socket"): "the name of this host",
    ("core/stopping.py", "import socket"): "a pair within the process, by which a signal wakes a thread",
    ("jobs/folder.py", "import subprocess"): "git, for the commit of our own checkout",
    ("__init__.py", "import importlib"): "modules of our own package, when they are first used",
    ("__init__.py", "import_module"): "modules of our own package, when they are first used",
    ("jobs/pool.py", "import importlib"): "whether a package is there",
    ("neurons/fused.py", "import importlib"): "whether a package is there",
    ("jobs/recipe.py", "import importlib"): "files of our own package",
    ("search/motif.py", "import importlib"): "files of our own package",
    ("report/page.py", "import importlib"): "files of our own package",
    ("data/digits.py", "import importlib"): "files of our own package",
    ("data/events/framefile.py", "import zipfile"): "reads one entry of an npz file into memory, within limits",
    ("data/events/tonic.py", "import importlib"): "the package tonic, by a constant name",
    ("data/events/tonic.py", "import_module"): "the package tonic, by a constant name",
    ("data/hub.py", "import datasets"): "asked for by hub:NAME; may not run a data set's code",
    ("bench/peers.py", "import importlib"): "adapters are programs that the user names with --peers",
    ("bench/peers.py", "exec_module"): "adapters are programs that the user names with --peers",
    ("bench/registry.py", "import importlib"): "modules of our own package",
    ("bench/cases/memory.py", "import ctypes"): "tells the C library to give freed memory back",
    ("bench/registry.py", "import_module"): "modules of our own package",
    ("bench/cases/starting.py", "import subprocess"): "starts our own command",
}


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def findings(path: Path) -> Iterator[tuple[str, str]]:
    """What a file does that has to be justified: (file, what)."""
    where = path.relative_to(ROOT).as_posix()
    for found in found_in(ast.parse(path.read_text(encoding="utf-8"))):
        yield where, found


def found_in(tree: ast.AST) -> Iterator[str]:
    """What a syntax tree does that has to be justified."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {part}" for name in node.names if (part := name.name.split(".")[0]) in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            part = node.module.split(".")[0]
            if part in MODULES:
                yield f"import {part}"
            yield from (whole for name in node.names if (whole := f"{node.module}.{name.name}") in CALLS)
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    name = dotted(node.func)
    if name in CALLS:
        yield name
    elif name.rpartition(".")[2] in METHODS:
        yield name.rpartition(".")[2]
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in ("np.load", "numpy.load", "npy.read_array", "np.lib.format.read_array", "np.memmap"):
        refused = given.get("allow_pickle")
        if name != "np.memmap" and not (isinstance(refused, ast.Constant) and refused.value is False):
            yield f"{name} without allow_pickle=False"
    if "shell" in given and not (isinstance(given["shell"], ast.Constant) and given["shell"].value is False):
        yield "shell=True"
    trusts = given.get("trust_remote_code")
    if trusts is not None and not (isinstance(trusts, ast.Constant) and trusts.value is False):
        yield "trust_remote_code"
    if name.endswith("Environment") and not (isinstance(given.get("autoescape"), ast.Constant)):
        yield "jinja2 without autoescape"


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an attribute, empty parts for what is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_nothing_is_unpickled_evaluated_run_unpacked_or_listened_to() -> None:
    found = {finding for path in sources() for finding in findings(path)}
    assert found - set(ALLOWED) == set()


def test_what_is_allowed_is_there() -> None:
    """An entry that nothing needs any more would hide something new."""
    found = {finding for path in sources() for finding in findings(path)}
    assert set(ALLOWED) - found == set()


def test_pickle_stays_between_our_own_processes() -> None:
    rooms = {where for where, what in ALLOWED if what == "import pickle"}
    assert all(where.startswith("evolution/executors/") for where in rooms)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import pickle", "import pickle"),
        ("from pickle import loads", "import pickle"),
        ("import marshal as m", "import marshal"),
        ("from os import system", "os.system"),
        ("eval('1')", "eval"),
        ("exec(x)", "exec"),
        ("compile(x, y, z)", "compile"),
        ("__import__('os')", "__import__"),
        ("import torch\ntorch.load(f)", "torch.load"),
        ("torch.load(f, weights_only=True)", "torch.load"),
        ("torch.hub.load('a', 'b')", "torch.hub.load"),
        ("np.load(f)", "np.load without allow_pickle=False"),
        ("np.load(f, allow_pickle=True)", "np.load without allow_pickle=False"),
        ("npy.read_array(f, allow_pickle=flag)", "npy.read_array without allow_pickle=False"),
        ("import yaml", "import yaml"),
        ("os.system(x)", "os.system"),
        ("run(x, shell=True)", "shell=True"),
        ("archive.extractall(x)", "extractall"),
        ("import tarfile", "import tarfile"),
        ("from http.server import HTTPServer", "import http"),
        ("load_dataset(x, trust_remote_code=True)", "trust_remote_code"),
        ("Environment(loader=x)", "jinja2 without autoescape"),
    ],
)
def test_the_walk_sees(text: str, what: str) -> None:
    assert what in set(found_in(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    ["re.compile(x)", "torch.compile(f)", "np.load(f, allow_pickle=False)", "run(x, shell=False)", "model.eval()"],
)
def test_the_walk_leaves_alone(text: str) -> None:
    assert list(found_in(ast.parse(text))) == []


def test_no_file_of_torch_is_read() -> None:
    """There is no command that takes a .pt file, so none has to be trusted."""
    named = [path.name for path in sources() if any(f'"{ending}"' in path.read_text() for ending in (".pt", ".pth"))]
    assert named == []
