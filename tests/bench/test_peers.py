"""Adapters of other tools: found, absent, broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evospike.bench.case import Absent, Peer
from evospike.bench.peers import Peers, adapters, load_peers
from evospike.core.errors import SettingsError

GOOD = """
from evospike.bench.case import Peer, PeerNeuron
PEER = Peer("{name}", "1.2", (PeerNeuron("plain", lambda steps: steps),), "soft reset")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(GOOD.format(name="Good"))
    return tmp_path


def test_peers_are_found_by_name(folder: Path) -> None:
    (folder / "_shared.py").write_text("raise RuntimeError('not an adapter')")
    (folder / "requirements.txt").write_text("good")
    (folder / "declined.py").write_text(
        "from evospike.bench.case import Absent\nPEER = Absent('Declined', 'Declined', 'needs CUDA')"
    )
    found = load_peers(folder)
    assert list(found) == ["Declined", "Good"]
    assert found["Declined"] == Absent("Declined", "Declined", "needs CUDA")
    good = found["Good"]
    assert isinstance(good, Peer)
    assert (good.version, good.dynamics, good.neurons[0].setting, good.neurons[0].make(4)) == (
        *("1.2", "soft reset", "plain"),
        4,
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_tool_here", "not installed: No module named 'no_such_tool_here'"),
        ("raise ImportError('two\\nlines')", "not installed: two lines"),
        ("raise ValueError('cannot\\nbe')", "its adapter fails: ValueError: cannot be"),
        ("def :", "its adapter fails: SyntaxError: "),
        ("", "bad.py has no PEER of type Peer or Absent"),
        ("PEER = 'bad'", "bad.py has no PEER of type Peer or Absent"),
    ],
)
def test_an_adapter_that_fails_is_absent_with_the_reason(folder: Path, text: str, reason: str) -> None:
    (folder / "bad.py").write_text(text)
    found = load_peers(folder)
    assert list(found) == ["bad", "Good"]
    bad = found["bad"]
    assert isinstance(bad, Absent)
    assert (bad.name, bad.by) == ("bad", "bad")
    assert bad.reason.startswith(reason)
    assert "\n" not in bad.reason


def test_an_adapter_does_not_hide_the_tool_it_is_named_after(folder: Path) -> None:
    text = "import json\nassert json.dumps\n" + GOOD.format(name="Named")
    (folder / "json.py").write_text(text)
    assert isinstance(load_peers(folder)["Named"], Peer)
    assert "json" in sys.modules
    assert Path(sys.modules["json"].__file__ or "").parent != folder


def test_two_adapters_of_one_name_are_refused(folder: Path) -> None:
    (folder / "again.py").write_text(GOOD.format(name="Good"))
    with pytest.raises(SettingsError, match=r"two adapters in '.*' are named 'Good'"):
        load_peers(folder)


def test_a_folder_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no folder of peers at '.*nowhere'"):
        adapters(tmp_path / "nowhere")
    (tmp_path / "_shared.py").write_text("")
    with pytest.raises(SettingsError, match="holds no adapter"):
        adapters(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="no folder of peers"):
        adapters(tmp_path / "file")


def test_nothing_is_loaded_before_it_is_asked_for(folder: Path) -> None:
    (folder / "noisy.py").write_text("from pathlib import Path\nPath(__file__).with_name('loaded').touch()")
    peers = Peers(str(folder))
    assert not (folder / "loaded").exists()
    assert set(peers) == {"Good", "noisy"}
    assert (folder / "loaded").exists()
    (folder / "good.py").unlink()
    assert (len(peers), peers["Good"].name) == (2, "Good")
    assert not Peers("")
