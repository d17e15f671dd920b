"""What moves and what neurons have a part in, of graphs small enough to see it."""

from __future__ import annotations

import pytest

from evospike.measure.sources import moving_nodes, origins
from evospike.models.spec import INPUT, Edge, NetworkSpec, SpecBuilder


def loop(*, events: bool = False) -> NetworkSpec:
    """A projected stem that neurons read, which feed a sum of the next step."""
    b = SpecBuilder("loop", (1, 4, 4), 2, events=events)
    stem = b.conv("stem", b.node("smaller", "avgpool", INPUT), 2, role="stem")
    wide = b.conv("wide", stem, 2, kernel=1)
    late = b.conv("late", b.node("before", "add", wide, Edge("stem", delay=1)), 2)
    total = b.node("total", "add", wide, late, Edge("back", delay=1))
    fired = b.node("fired", "neuron", b.conv("after", total, 2))
    b.conv("back", fired, 2)
    b.node("scores", "linear", b.node("flat", "flatten", fired), features=2)
    return b.finish()


def test_only_what_precedes_neurons_events_and_delays_stands_still() -> None:
    standing = {"smaller", "stem", "wide"}
    assert {INPUT, *(node.name for node in loop().nodes)} - moving_nodes(loop()) == {INPUT, *standing}
    assert moving_nodes(loop(events=True)) == {INPUT, *(node.name for node in loop().nodes)}


@pytest.mark.parametrize("events", [False, True])
def test_what_a_node_reads_comes_from_the_input_from_currents_or_from_neurons(events: bool) -> None:
    """Also from neurons of an earlier step, which only a delayed edge reaches."""
    found = origins(loop(events=events))
    assert {name for name, origin in found.items() if origin == "input"} == {"smaller", "stem"}
    assert {name for name, origin in found.items() if origin == "currents"} == {"wide", "before", "late"}
    assert {name for name, origin in found.items() if origin == "neurons"} == {
        *("total", "after", "fired", "back", "flat", "scores")
    }
