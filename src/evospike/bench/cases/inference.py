"""Forward passes without gradients: a trained network in its forms, ReLU and peers' neurons in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from evospike.bench.case import Absent, Case, Circumstances, Contestant
from evospike.bench.cases import networks
from evospike.bench.cases.networks import Entrant, Workload
from evospike.bench.timing import timed

if TYPE_CHECKING:
    from evospike.bench.cases.running import Form

GROUP = "Inference"

OUR_FORMS: dict[str, Form] = {
    "evospike training-mode forward": "training",
    "evospike eval": "eval",
    "evospike folded": "folded",
    "evospike folded, compiled": "compiled",
}


def vgg_small(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Forward passes of VGG-small."""
    batch = networks.batch_of(circumstances, 32)
    return contestants(Workload(networks.vgg_small(), batch, device=circumstances.device), circumstances)


def resnet19(circumstances: Circumstances) -> Iterator[Contestant | Absent]:
    """Forward passes of ResNet-19."""
    return contestants(Workload(networks.resnet19(), 16, device=circumstances.device), circumstances, large=True)


def contestants(
    workload: Workload, circumstances: Circumstances, *, large: bool = False
) -> Iterator[Contestant | Absent]:
    """Everyone's forward pass of one workload, in milliseconds."""
    from evospike.bench.cases.running import forward_pass

    def in_form(form: Form) -> Callable[[Entrant], Callable[[], float]]:
        return lambda entrant: timed(forward_pass(workload, entrant, form), workload.device)

    for entrant, form in entrants(circumstances, large=large):
        yield from networks.as_contestants([entrant], in_form(form))


def entrants(circumstances: Circumstances, *, large: bool = False) -> Iterator[tuple[Entrant | Absent, Form]]:
    """Who takes part, and in which form. Norms are folded for ReLU and, channels last, for peers as for ourselves.

    A quick run leaves out what is compiled as a whole. large: peers run in one layout.
    """
    for name, form in OUR_FORMS.items():
        if not (circumstances.quick and form == "compiled"):
            yield networks.ours(name, "fused", circumstances.device), form
    yield networks.relu_entrant(), "folded"
    peers, device, quick = circumstances.peers, circumstances.device, circumstances.quick
    for entrant in networks.peer_entrants(
        peers, device, networks.peer_layouts(circumstances, large=large), quick=quick
    ):
        yield entrant, "eval"
    for entrant in networks.peer_entrants(peers, device, quick=quick):
        if isinstance(entrant, Entrant):
            yield replace(entrant, name=f"{entrant.name}, folded"), "folded"


CASES: tuple[Case, ...] = (
    Case(
        "infer-vgg-small",
        GROUP,
        "VGG-small (64-64-128-128-256-256), T=4, 32x32, batch 32 (quick: 8): forward without gradients",
        "ms",
        "evospike training-mode forward",
        vgg_small,
        repeats=9,
        quick_repeats=3,
    ),
    Case(
        "infer-resnet19",
        GROUP,
        "ResNet-19, T=4, 32x32, batch 16: forward without gradients",
        "ms",
        "evospike training-mode forward",
        resnet19,
        repeats=4,
        warmup=1,
        quick=False,
    ),
)
