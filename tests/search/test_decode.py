"""What a genome decodes to: names, roles, shared neurons, versions, modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from evospike.genetic.encode import encode, encoded_parameters
from evospike.genetic.settings import EncodingSettings
from evospike.models.build import build
from evospike.models.counts import count_layers, dense_parameters
from evospike.models.shapes import infer_shapes
from evospike.models.spec import Edge, NetworkSpec
from evospike.search.decode import decode, edge_counts
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import REDUCTION, Motif, choose_motif, shipped
from evospike.search.space import Space, Vector

Draw = Callable[[Space, np.random.Generator], Vector]
Make = Callable[..., Space]
IMAGE = (3, 16, 16)


def genome(*motifs: str, reach: int = 2, link: Link | None = None, own: Sequence[Motif] = (), **changes: Any) -> Genome:
    """A genome whose connections are all alike."""
    known = (*shipped("canonical"), *own)
    cells = tuple(
        Cell(
            name,
            () if name == REDUCTION else (link or Link("conv3"),) * len(choose_motif(name, reach, known).slots(reach)),
        )
        for name in motifs
    )
    fields: dict[str, Any] = {"channels": 4, "motif_set": "canonical", "feedback": "same_step", "motifs": tuple(own)}
    return Genome(cells, reach, **{**fields, **changes})


def test_one_cell_node_by_node() -> None:
    spec = decode(genome("FE"), IMAGE, 5)
    assert [(node.name, node.op, [edge.source for edge in node.inputs]) for node in spec.nodes] == [
        ("stem.conv", "conv", ["input"]),
        ("stem.norm", "norm", ["stem.conv"]),
        ("stem.norm_neuron", "neuron", ["stem.norm"]),
        ("cell0.a1.conv", "conv", ["stem.norm_neuron"]),
        ("cell0.a1.norm", "norm", ["cell0.a1.conv"]),
        ("cell0.a1.norm_neuron", "neuron", ["cell0.a1.norm"]),
        ("cell0.edge0.conv", "conv", ["cell0.a1.norm_neuron"]),
        ("cell0.edge0.norm", "norm", ["cell0.edge0.conv"]),
        ("cell0.a2.conv", "conv", ["stem.norm_neuron"]),
        ("cell0.a2.norm", "norm", ["cell0.a2.conv"]),
        ("cell0.a2.norm_neuron", "neuron", ["cell0.a2.norm"]),
        ("cell0.edge1.conv", "conv", ["cell0.a2.norm_neuron"]),
        ("cell0.edge1.norm", "norm", ["cell0.edge1.conv"]),
        ("cell0.E1", "add", ["cell0.edge0.norm", "cell0.edge1.norm"]),
        ("cell0.E1_neuron", "neuron", ["cell0.E1"]),
        ("cell0.edge2.conv", "conv", ["cell0.E1_neuron"]),
        ("cell0.edge2.norm", "norm", ["cell0.edge2.conv"]),
        ("cell0.E2", "add", ["cell0.edge2.norm"]),
        ("cell0.output", "concat", ["cell0.E1", "cell0.E2"]),
        ("cell0.output_neuron", "neuron", ["cell0.output"]),
        ("pool", "global_pool", ["cell0.output_neuron"]),
        ("classifier", "linear", ["pool"]),
    ]
    assert edge_counts(spec) == {
        "stem.norm_neuron": 2,
        "cell0.a1.norm_neuron": 1,
        "cell0.a2.norm_neuron": 1,
        "cell0.E1_neuron": 1,
        "cell0.output_neuron": 1,
    }


def test_widths_and_sizes_of_the_methods() -> None:
    spec = decode(genome("FE", REDUCTION, "LI", REDUCTION, REDUCTION, "MI", reach=4, channels=6), (3, 32, 32), 10)
    shapes = infer_shapes(spec)
    assert shapes["stem.norm"] == (18, 32, 32)
    assert shapes["cell0.output"] == (12, 32, 32)
    assert shapes["cell1.norm"] == (36, 16, 16)
    assert shapes["cell2.output"] == (60, 16, 16)
    assert shapes["cell3.norm"] == (72, 8, 8)
    assert shapes["cell4.norm"] == (144, 4, 4)
    assert shapes["cell5.output"] == (96, 4, 4)
    # The inputs of the last cell, oldest first: cells 1 to 4, with 2, 2, 1 and no halving between.
    names = [node.name for node in spec.nodes if node.op == "conv" and node.name.startswith("cell5.a")]
    assert names == [
        *("cell5.a1.conv", "cell5.a1.shifted", "cell5.a1.again1_conv"),
        *("cell5.a2.conv", "cell5.a2.shifted", "cell5.a2.again1_conv"),
        *("cell5.a3.conv", "cell5.a3.shifted"),
        "cell5.a4.conv",
    ]
    sources = [spec[f"cell5.a{i}.conv"].inputs[0].source for i in (1, 2, 3, 4)]
    assert sources == ["cell1.norm_neuron", "cell2.output_neuron", "cell3.norm_neuron", "cell4.norm_neuron"]
    assert all(shapes[f"cell5.a{i}.{last}"] == (48, 4, 4) for i, last in ((1, "again1_norm"), (3, "norm"), (4, "norm")))
    assert spec["cell5.a4.conv"].args["kernel"] == 1
    assert (spec["cell5.a3.conv"].args["kernel"], spec["cell5.a3.conv"].args["stride"]) == (3, 2)


def test_three_halvings_between() -> None:
    spec = decode(genome(REDUCTION, REDUCTION, REDUCTION, "FE", reach=4), (3, 8, 8), 10)
    assert spec["cell3.a1.conv"].inputs == (Edge("stem.norm_neuron"),)
    assert {"cell3.a1.again1_norm", "cell3.a1.again2_norm"} < {node.name for node in spec.nodes}
    assert infer_shapes(spec)["cell3.a1.again2_norm"] == (32, 1, 1)


def test_inputs_before_the_first_cell_are_the_stem() -> None:
    spec = decode(genome("FE", "FE", reach=3), IMAGE, 5)
    first = [spec[f"cell0.a{i}.conv"].inputs[0].source for i in (1, 2, 3)]
    second = [spec[f"cell1.a{i}.conv"].inputs[0].source for i in (1, 2, 3)]
    assert first == ["stem.norm_neuron"] * 3
    assert second == ["stem.norm_neuron"] * 2 + ["cell0.output_neuron"]


def test_roles() -> None:
    link = Link("sep3")
    spec = decode(genome("FE", REDUCTION, REDUCTION, "FE", reach=3, link=link), IMAGE, 5)
    roles: dict[str, set[str]] = {}
    for node in spec.weighted():
        kind = "".join(c for c in node.name.split(".", 1)[-1] if not c.isdigit())
        roles.setdefault(str(node.args["role"]), set()).add(kind)
    assert roles == {
        "stem": {"conv"},
        "shortcut": {"a.conv", "a.shifted"},
        "body": {"edge.pointwise", "conv", "shifted", "a.again_conv"},
        "depthwise": {"edge.depthwise"},
        "classifier": {"classifier"},
    }


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("conv3", [("conv", {"kernel": 3, "padding": 1, "groups": 1, "dilation": 1})]),
        ("conv5", [("conv", {"kernel": 5, "padding": 2, "groups": 1, "dilation": 1})]),
        ("dil3", [("conv", {"kernel": 3, "padding": 2, "groups": 1, "dilation": 2})]),
        ("dil5", [("conv", {"kernel": 5, "padding": 4, "groups": 1, "dilation": 2})]),
        (
            "sep3",
            [("conv", {"kernel": 3, "padding": 1, "groups": 4}), ("conv", {"kernel": 1, "padding": 0, "groups": 1})],
        ),
        (
            "sep5",
            [("conv", {"kernel": 5, "padding": 2, "groups": 4}), ("conv", {"kernel": 1, "padding": 0, "groups": 1})],
        ),
        ("avgpool3", [("avgpool", {"kernel": 3, "stride": 1, "padding": 1})]),
        ("maxpool3", [("maxpool", {"kernel": 3, "stride": 1, "padding": 1})]),
        ("skip", []),
    ],
)
def test_operations(operation: Any, expected: list[tuple[str, dict[str, int]]]) -> None:
    """Each is neuron - operation - batch norm, and keeps the size."""
    spec = decode(genome("FE", link=Link(operation)), IMAGE, 5)
    nodes = [node for node in spec.nodes if node.name.startswith("cell0.edge0.")]
    assert [node.op for node in nodes] == [*(op for op, _ in expected), "norm"]
    for node, (_, args) in zip(nodes, expected, strict=False):
        assert {name: node.args[name] for name in args} == args
    assert nodes[0].inputs == (Edge("cell0.a1.norm_neuron"),)
    assert infer_shapes(spec)["cell0.edge0.norm"] == (4, 16, 16)


def test_one_neuron_per_state_and_constants() -> None:
    links = (Link("conv3"), Link("conv3", "lif:0.5:1"), Link("conv5"), Link("skip", "lif:0.5:1.0"))
    rest = (Link("conv3", "if:0.5:1"), Link("conv3", "if:0.9:1"))
    cell = Cell("MI", (*links, *rest))  # a1, a2 -> E1; a1, a2 -> E2; E1 -> E2; E2 => E1
    spec = decode(Genome((cell,), 2, 4, "canonical", "same_step"), IMAGE, 5)
    readers = {
        node.name: [reader.name for reader in spec.readers(node.name)] for node in spec.nodes if node.op == "neuron"
    }
    assert readers["cell0.a1.norm_neuron"] == ["cell0.edge0.conv", "cell0.edge2.conv"]
    assert readers["cell0.a2.norm_neuron"] == ["cell0.edge1.conv", "cell0.edge3.norm"]
    assert spec["cell0.a2.norm_neuron"].args == {"kind": "lif", "decay": 0.5, "threshold": 1.0}
    assert edge_counts(spec)["cell0.a1.norm_neuron"] == 2


def test_an_if_neuron_has_no_decay_to_differ_in() -> None:
    cell = Cell("FE", (Link("conv3", "if:0.5:1"), Link("conv3", "if:0.5:1"), Link("conv3", "if:0.5:1")))
    other = Cell("FE", tuple(replace(link, neuron="if:0.9:1") for link in cell.links))
    specs = [decode(Genome((c,), 2, 4, "canonical", "same_step"), IMAGE, 5) for c in (cell, other)]
    assert specs[0].digest() == specs[1].digest()


def test_a_plif_neuron_stays_with_its_connection() -> None:
    spec = decode(genome("LI", link=Link("conv3", "plif:0.5:1.0")), IMAGE, 5)
    own = [node for node in spec.nodes if node.op == "neuron" and node.args["kind"] == "plif"]
    assert [node.name for node in own] == [f"cell0.edge{i}.neuron" for i in range(10)]
    assert all(len(spec.readers(node.name)) == 1 for node in own)


def test_same_step_feedback_makes_a_version_that_later_readers_see() -> None:
    spec = decode(genome("FBI"), IMAGE, 5)  # edges: 0, 1 inputs; 2 E1 -> I; 3 E1 -> E2; 4 I => E1
    assert spec["cell0.E1_fed4"].inputs == (Edge("cell0.E1"), Edge("cell0.edge4.norm", -1))
    # In node order E1, I, E2: I saw the old version, E2 and the output see the new one.
    assert spec["cell0.edge2.conv"].inputs == (Edge("cell0.E1_neuron"),)
    assert spec["cell0.edge3.conv"].inputs == (Edge("cell0.E1_fed4_neuron"),)
    assert [edge.source for edge in spec["cell0.output"].inputs] == ["cell0.E1_fed4", "cell0.I", "cell0.E2"]
    assert not spec.has_delays


def test_delayed_feedback_is_an_edge_of_its_target() -> None:
    spec = decode(genome("FBI", feedback="delayed"), IMAGE, 5)
    assert spec["cell0.E1"].inputs[-1] == Edge("cell0.edge4.norm", -1, 1)
    assert [edge.source for edge in spec["cell0.output"].inputs] == ["cell0.E1", "cell0.I", "cell0.E2"]
    assert spec.has_delays
    assert not decode(genome("FE", feedback="delayed"), IMAGE, 5).has_delays


@pytest.mark.parametrize("feedback", ["same_step", "delayed"])
def test_feedback_to_itself_and_to_an_input(feedback: Any) -> None:
    edges = ("a -> E1 +", "a2 -> E2 +", "E1 -> E2 -", "E1 => E1 -", "E1 => a2 identity")
    own = Motif("own", "A test.", (2,), ("E1", "E2"), edges)
    spec = decode(genome("own", own=[own], feedback=feedback), IMAGE, 5)
    if feedback == "same_step":
        assert spec["cell0.E1_fed4"].inputs == (Edge("cell0.E1"), Edge("cell0.edge4.norm", -1))
        assert spec["cell0.edge2.conv"].inputs == (Edge("cell0.a2_fed5_neuron"),)
    else:
        assert spec["cell0.E1"].inputs[-1] == Edge("cell0.edge4.norm", -1, 1)
        assert spec["cell0.a2_input"].inputs == (Edge("cell0.a2.norm"), Edge("cell0.E1", 0, 1))
        assert spec["cell0.edge1.conv"].inputs == (Edge("cell0.a2_input_neuron"),)
    infer_shapes(spec)


def test_empty_cells_give_zeros_and_need_no_inputs() -> None:
    spec = decode(genome("FE", "empty", "FE"), IMAGE, 5)
    assert spec["cell1.E1_zeros"].op == "zeros"
    assert infer_shapes(spec)["cell1.output"] == (4, 16, 16)
    assert not any(node.name.startswith("cell1.a") for node in spec.nodes)


def test_what_no_score_depends_on_is_left_out() -> None:
    recent = Motif("recent", "Reads the last cell only.", (3,), ("E1",), ("a3 -> E1 +", "E1 => a1 +"))
    spec = decode(genome("recent", "recent", reach=3, own=[recent]), IMAGE, 5)
    assert {node.name.split(".")[1] for node in spec.nodes if node.name.startswith("cell1.")} == {
        *("a3", "edge0", "E1", "output", "output_neuron")
    }
    needed = {edge.source for node in spec.nodes for edge in node.inputs}
    assert all(node.name in needed for node in spec.nodes[:-1])


def test_free_signs() -> None:
    signs = ("-", "-", "-", "+", "-")  # FI: a1, a2 -> E1; E1 -> I; E1 -> E2; I -> E2
    cell = Cell("FI", tuple(Link("conv3", sign=sign) for sign in signs))  # type: ignore[arg-type]
    spec = decode(Genome((cell,), 2, 4, "canonical", "same_step"), IMAGE, 5)
    arriving = {name: [edge.sign for edge in spec[f"cell0.{name}"].inputs] for name in ("E1", "I", "E2")}
    assert arriving == {"E1": [1, -1], "I": [1], "E2": [1, -1]}


@pytest.mark.parametrize("feedback", ["same_step", "delayed"])
def test_with_free_signs_every_node_can_fire(feedback: str, wide: Make, draw: Draw) -> None:
    rng = np.random.default_rng(0)
    space = wide(feedback=feedback)
    for _ in range(60):
        spec = decode(space.genome(draw(space, rng)), IMAGE, 5)
        for node in spec.nodes:
            if node.op == "add" and not all(spec[edge.source].op == "zeros" for edge in node.inputs):
                assert any(edge.sign >= 0 and not edge.delay for edge in node.inputs), node.name


def with_modules(*rows: tuple[int, ...], **changes: Any) -> Genome:
    return genome("FE", REDUCTION, "FE", "FE", module_cells=2, adjacency=rows, **changes)


def test_modules_feed_each_other_one_step_later() -> None:
    spec = decode(with_modules((1, 1), (1, 0)), IMAGE, 5)
    shapes = infer_shapes(spec)
    assert spec["module0.input"].inputs == (
        Edge("stem.norm"),
        Edge("module0.to0.resize", 0, 1),
        Edge("module1.to0.resize", 0, 1),
    )
    assert spec["module1.input"].inputs == (Edge("cell1.norm"), Edge("module0.to1.norm", 0, 1))
    assert spec["cell0.a1.conv"].inputs[0].source == "module0.input_neuron"
    assert spec["cell2.a2.conv"].inputs[0].source == "module1.input_neuron"
    assert spec["module0.to1.conv"].inputs == (Edge("cell1.norm_neuron"),)
    assert shapes["module1.to0.norm"] == (12, 8, 8)
    assert (spec["module1.to0.resize"].op, shapes["module1.to0.resize"]) == ("upsample", (12, 16, 16))
    assert shapes["module1.input"] == shapes["cell1.norm"] == (24, 8, 8)


def test_a_module_ahead_is_pooled() -> None:
    cells = genome("FE", REDUCTION, "FE", module_cells=1, adjacency=((0, 0, 1), (0, 0, 0), (0, 0, 0)))
    spec = decode(cells, IMAGE, 5)
    resize = spec["module0.to2.resize"]
    assert (resize.op, resize.args["kernel"], resize.args["stride"]) == ("avgpool", 2, 2)
    assert infer_shapes(spec)["module0.to2.resize"] == (24, 8, 8)


def test_modules_without_connections_are_no_modules() -> None:
    plain = decode(genome("FE", REDUCTION, "FE", "FE"), IMAGE, 5)
    assert decode(with_modules((0, 0), (0, 0)), IMAGE, 5).digest() == plain.digest()


def test_random_networks_are_counted_as_they_are_built(wide: Make, draw: Draw) -> None:
    rng = np.random.default_rng(3)
    space = wide(inputs=(2, 3), widths=(4,))
    settings = EncodingSettings(genes=2, skip_growing=False)
    for _ in range(8):
        spec = decode(space.genome(draw(space, rng)), IMAGE, 5)
        network = build(spec)
        assert dense_parameters(spec) == sum(parameter.numel() for parameter in network.parameters())
        kinds = Counter(count.role for count in count_layers(spec))
        if kinds["body"]:
            encode(network, genes=2, skip_growing=False)
            counted = encoded_parameters(spec, settings)
            assert counted.total == sum(parameter.numel() for parameter in network.parameters())


def unshared(spec: NetworkSpec) -> NetworkSpec:
    """The same network with a neuron of its own for every connection, as in the released code."""
    neurons = {node.name: node for node in spec.nodes if node.op == "neuron"}
    nodes, copies = [], set()
    for node in spec.nodes:
        if node.name in neurons:
            continue
        inputs = []
        for edge in node.inputs:
            if edge.source in neurons:
                connection = node.name.rsplit(".", 1)[0].replace(".", "_")  # a FactorizedReduce is one connection
                copy = f"{edge.source}_for_{connection}"
                if copy not in copies:
                    copies.add(copy)
                    nodes.append(replace(neurons[edge.source], name=copy))
                edge = replace(edge, source=copy)
            inputs.append(edge)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return replace(spec, nodes=tuple(nodes))


@pytest.mark.parametrize("feedback", ["same_step", "delayed"])
@pytest.mark.parametrize("motif", ["FI", "LI", "MI"])
def test_a_shared_neuron_fires_as_each_of_its_connections_would(motif: str, feedback: Any) -> None:
    spec = decode(genome(motif, REDUCTION, motif, reach=3, feedback=feedback), IMAGE, 5)
    many = unshared(spec)
    counts = edge_counts(spec)
    assert sum(counts.values()) == sum(node.op == "neuron" for node in many.nodes)
    torch.manual_seed(0)
    network, reference = build(spec, steps=3), build(many, steps=3)
    reference.load_state_dict(network.state_dict())
    spikes: dict[str, list[torch.Tensor]] = {}
    copies: dict[str, list[torch.Tensor]] = {}
    network.observer = lambda name, fired, _: spikes.setdefault(name, []).append(fired)
    reference.observer = lambda name, fired, _: copies.setdefault(name, []).append(fired)
    x = torch.randn(4, *IMAGE)
    with torch.no_grad():
        assert torch.equal(network(x), reference(x))
    assert sum(float(part.sum()) for parts in spikes.values() for part in parts) > 0
    seen = Counter(name.split("_for_")[0] for name in copies)
    assert seen == counts
    for name, parts in copies.items():
        for part, original in zip(parts, spikes[name.split("_for_")[0]], strict=True):
            assert torch.equal(part, original)
