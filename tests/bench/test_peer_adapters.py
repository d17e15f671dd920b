"""Peer adapters: a peer's layer fires as a plain loop over the steps does, starts at zero, and passes gradients on.

What is checked is checked itself, on layers that are wrong in one way each. A peer that is not installed is skipped.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from evospike.bench.case import Absent, Peer, PeerNeuron
from evospike.bench.peers import load_peers
from evospike.core.rng import torch_stream

ADAPTERS = Path(__file__).parents[2] / "benchmarks" / "peers"
LIBRARIES = ("braincog", "norse", "snntorch", "spikingjelly")
STEPS = 5
TIES = 1e-4
"""Share of spikes that may differ: a potential within rounding of the threshold."""


def loop(currents: Tensor) -> Tensor:
    """The dynamics that a peer comes as near as it can: decay 0.5, threshold 1, hard reset to zero."""
    v, fired = torch.zeros_like(currents[0]), []
    for current in currents:
        u = 0.5 * v + current
        spikes = (u > 1).to(u.dtype)
        v = u * (1 - spikes)
        fired.append(spikes)
    return torch.stack(fired)


def draw(*shape: int) -> Tensor:
    """Currents that make about a third of the neurons fire."""
    return 0.4 + 0.8 * torch.randn(STEPS, *shape, generator=torch_stream(0, "currents", *shape))


def faults(layer: nn.Module) -> list[str]:
    """What is wrong with a layer over `STEPS` steps."""
    return [said for check in (wrong_spikes, kept_state, lost_gradients) for said in check(layer)]


def wrong_spikes(layer: nn.Module) -> Iterator[str]:
    for currents in (draw(3, 8, 9, 9), draw(3, 700), draw(3, 8, 9, 9)[:1].expand(STEPS, 3, 8, 9, 9)):
        spikes = layer(currents)
        if spikes.shape != currents.shape or spikes.dtype != currents.dtype:
            yield f"gives {spikes.dtype} {tuple(spikes.shape)} for {currents.dtype} {tuple(currents.shape)}"
        elif (spikes != loop(currents)).float().mean() > TIES:
            yield f"other spikes than the loop for {tuple(currents.shape)}"


def kept_state(layer: nn.Module) -> Iterator[str]:
    weak = torch.full((STEPS, 2, 6), 0.6)
    first = layer(weak)
    layer(torch.full((STEPS, 2, 6), 0.4))  # leaves a potential of 0.775
    if not torch.equal(layer(weak), first) or first[0].any():
        yield "keeps state from one call to the next"


def lost_gradients(layer: nn.Module) -> Iterator[str]:
    """A late spike depends on earlier currents: where nothing fired, by half of what it depends on the next one."""
    currents = torch.full((STEPS, 2, 6), 0.1).requires_grad_()
    (grad,) = torch.autograd.grad(layer(currents)[-1].sum(), currents)
    if not (grad > 0).all():
        yield "no gradient by some currents"
    elif not torch.allclose(grad[:-1], 0.5 * grad[1:], rtol=1e-4):
        yield "gradients through time do not halve with every step"


class Leaky(nn.Module):
    """Our dynamics by autograd's own means, wrong in the way its arguments say."""

    def __init__(
        self, decay: float = 0.5, *, forgets: bool = True, passes: bool = True, along_time: bool = True
    ) -> None:
        super().__init__()
        self.decay, self.forgets, self.passes, self.along_time = decay, forgets, passes, along_time
        self.v: Tensor | float = 0.0

    def forward(self, currents: Tensor) -> Tensor:
        fired = []
        if self.forgets or not isinstance(self.v, Tensor) or self.v.shape != currents.shape[1:]:
            self.v = 0.0
        for current in currents:
            before = self.v.detach() if isinstance(self.v, Tensor) and not self.along_time else self.v
            u = self.decay * before + current
            smooth = torch.sigmoid(u - 1)
            spikes = (u > 1).to(u.dtype)
            self.v = u * (1 - spikes)
            fired.append(spikes + (smooth - smooth.detach()) if self.passes else spikes + 0 * smooth)
        self.v = self.v.detach() if isinstance(self.v, Tensor) else self.v
        return torch.stack(fired)


def test_the_checks_pass_a_right_layer() -> None:
    assert faults(Leaky()) == []


@pytest.mark.parametrize(
    ("layer", "fault"),
    [
        (Leaky(0.6), "other spikes"),
        (Leaky(forgets=False), "keeps state"),
        (Leaky(passes=False), "no gradient"),
        (Leaky(along_time=False), "no gradient"),
    ],
)
def test_the_checks_find_what_is_wrong(layer: nn.Module, fault: str) -> None:
    assert any(said.startswith(fault) for said in faults(layer))


def test_an_adapter_of_ones_own_is_loaded_and_checked(tmp_path: Path) -> None:
    (tmp_path / "fake.py").write_text(
        """
from torch import nn
from evospike.bench.case import Peer, PeerNeuron
from evospike.layers.spiking import SpikingNeuron
from evospike.neurons.settings import NeuronSettings

class Ours(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.neuron = SpikingNeuron(NeuronSettings(surrogate="sigmoid"))
    def forward(self, current):
        return self.neuron(current)[0]

PEER = Peer("fake", "1.0", (PeerNeuron("plain", Ours),))
""",
        encoding="utf-8",
    )
    (peer,) = load_peers(tmp_path).values()
    assert isinstance(peer, Peer)
    assert faults(peer.neurons[0].make(STEPS)) == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_not_installed_is_absent(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / f"{library}.py").write_bytes((ADAPTERS / f"{library}.py").read_bytes())
    (peer,) = load_peers(tmp_path).values()
    assert isinstance(peer, Absent)
    assert (peer.name, peer.by) == (library, library)
    assert peer.reason.startswith("not installed: ")


def test_every_requirement_is_pinned_and_what_is_installed_is_what_is_pinned() -> None:
    lines = (ADAPTERS / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert set(LIBRARIES) <= set(pins)
    assert "torchvision" not in pins
    if all(installed(library) for library in LIBRARIES):
        assert {name: installed(name) for name in pins} == pins


def installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def peer_named(name: str) -> Peer:
    if not installed(name):
        pytest.skip(f"{name} is not installed: pip install --no-deps -r benchmarks/peers/requirements.txt")
    with warnings.catch_warnings(action="ignore"):
        peer = load_peers(ADAPTERS)[name]
    assert isinstance(peer, Peer), peer.reason
    return peer


def faults_of(peer: Peer, wanted: Callable[[PeerNeuron], bool]) -> list[str]:
    """What is wrong in the settings that are wanted; there are some."""
    neurons = [neuron for neuron in peer.neurons if wanted(neuron)]
    assert neurons
    return [f"{neuron.setting}: {said}" for neuron in neurons for said in faults(neuron.make(STEPS))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_peer_computes_what_its_adapter_says(name: str) -> None:
    peer = peer_named(name)
    assert (peer.name, peer.version) == (name, installed(name))
    assert faults_of(peer, lambda neuron: not compiled(neuron)) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_peer_computes_the_same_compiled(name: str) -> None:
    assert faults_of(peer_named(name), compiled) == []


def compiled(neuron: PeerNeuron) -> bool:
    return neuron.setting.endswith("compiled")
