"""The drawing of any network by blocks: nothing is lost, equal groups are told once, and every line is in the table."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from evospike.models.presets import PRESETS, make_spec
from evospike.models.settings import ModelSettings
from evospike.models.spec import INPUT, Edge, NetworkSpec, Node, SpecBuilder
from evospike.report.architecture.block_drawing import COLUMNS, draw, kinds_of, rows_of
from evospike.report.architecture.blocks import MOST_BLOCKS, diagram_of
from evospike.report.architecture.facts import MOST_LINES, of_genome, of_network
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import choose_motif, shipped

HOSTILE = "<script>alert(1)</script>\"'><img src=x>"
SHAPES = {"small8": (1, 8, 8), "vggsnn": (2, 48, 48), "resnet34": (3, 224, 224)}
EVERY = [
    pytest.param(name, block, readout, id=f"{name}-{block or 'own'}-{readout}")
    for name in PRESETS
    for block in (("post", "sew", "ms") if "resnet" in name else ("",))
    for readout in ("mean", "vote")
]


def spec_of(name, **choices):
    return make_spec(ModelSettings(preset=name, **choices), SHAPES.get(name, (3, 32, 32)), 10)


def stood_for(diagram):
    """How many blocks of the network each drawn one stands for."""
    folds = [diagram.fold_of(place) for place in range(len(diagram.blocks))]
    return [1 if fold is None else fold.times for fold in folds]


@pytest.mark.parametrize(("name", "block", "readout"), EVERY)
def test_every_operation_of_a_preset_is_in_a_block(name, block, readout):
    spec = spec_of(name, block=block, readout=readout)
    diagram = diagram_of(spec, "lif")
    told = zip(diagram.blocks[1:], stood_for(diagram)[1:], strict=True)
    assert sum(len(one.operations) * times for one, times in told) == len(spec.nodes)
    assert diagram.blocks[-1].size == "10 features"
    for place, one in enumerate(diagram.blocks[1:], 1):
        assert all(0 <= reading.source < place for reading in one.reads)
    told = {name for block in diagram.blocks for name in block.operations}
    assert "LIF" in told


@pytest.mark.parametrize("block", ["post", "sew", "ms"])
def test_equal_residual_blocks_are_told_once(block):
    diagram = diagram_of(spec_of("resnet34", block=block), "lif")
    assert [(fold.name, fold.last, fold.times) for fold in diagram.folds] == [
        ("stage1.0", "stage1.2", 3),
        ("stage2.1", "stage2.3", 3),
        ("stage3.1", "stage3.5", 5),
        ("stage4.1", "stage4.2", 2),
    ]
    assert len(diagram.blocks) < 36
    for fold in diagram.folds:  # the sum at its end reads what the group reads, past the two convolutions
        assert {r.source for r in diagram.blocks[fold.first + 2].reads} == {fold.first - 1, fold.first + 1}


def test_a_block_in_words():
    first, stem, *_, last = diagram_of(spec_of("resnet34"), "plif").blocks
    assert (first.operations, first.size) == (("the same image at every step",), "3 channels, 224×224")
    assert stem.operations == ("7×7 convolution, stride 2", "norm", "3×3 maximum pool, stride 2")
    assert (stem.name, stem.size, stem.weighted) == ("stem", "64 channels, 56×56", True)
    assert last.operations == ("PLIF", "global average pool", "linear")


def lines(root):
    return {group.get("data-reading"): group for group in root.iter("g") if group.get("class") == "reading"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_line_is_drawn_within_the_picture_and_told_in_the_table(name):
    diagram = diagram_of(spec_of(name), "lif")
    root = ElementTree.fromstring(draw(diagram, "A title"))
    width, height = float(root.get("width")), float(root.get("height"))
    boxes = [group for group in root.findall("g") if group.get("data-box")]
    assert len(boxes) == len(diagram.blocks) + len(diagram.folds)
    for group in boxes:
        x, y, w, h = (float(group.find("rect").get(side)) for side in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    drawn = [f"{r.source} {place}" for place, block in enumerate(diagram.blocks) for r in block.reads]
    assert list(lines(root)) == drawn
    rows = rows_of(diagram)
    assert len(rows) == len(drawn)
    assert all(len(row) == len(COLUMNS) and all(row) for row in rows)
    assert kinds_of(diagram) == [("wire", "what a block gives, unchanged")]


def signed_spec():
    b = SpecBuilder("signed", (1, 8, 8), 2)
    one = b.node("one.neuron", "neuron", b.conv_norm("one.", INPUT, 4))
    two = b.conv_norm("two.", Edge(one, 1), 4)
    three = b.node("three", "add", Edge(two), Edge(one, -1), Edge("four", 0, 2))
    four = b.node("four", "neuron", three, kind="if")
    b.node("classifier", "linear", b.node("pool", "global_pool", four), features=2, role="classifier")
    return b.finish()


def test_signs_and_delays_are_marked_and_told():
    diagram = diagram_of(signed_spec(), "lif")
    names = [block.name for block in diagram.blocks]
    assert names == ["Input", "one", "two", "three", "four", "classifier"]
    drawn = lines(ElementTree.fromstring(draw(diagram, "A title")))
    classes = {place: [part.get("class") for part in group.iter("path")] for place, group in drawn.items()}
    assert classes["1 2"] == ["line plus", "head plus"]
    assert classes["1 3"] == ["line minus", "bar"]
    assert classes["4 3"] == ["line wire feedback", "head wire"]
    assert drawn["4 3"].findtext("text") == "2 steps"
    assert drawn["4 3"].findtext("title") == "four to three: unchanged, 2 steps"
    rows = [(row[0], row[1], row[4], row[5]) for row in rows_of(diagram)]
    assert rows[1:5] == [
        ("one", "two", "excitatory", "none"),
        ("two", "three", "unchanged", "none"),
        ("one", "three", "inhibitory", "none"),
        ("four", "three", "unchanged", "2 steps"),
    ]
    assert rows_of(diagram)[4][2] == "sum"
    assert [kind for kind, _ in kinds_of(diagram)] == ["wire", "plus", "minus", "wire feedback"]


def test_what_is_read_from_within_is_not_folded():
    def chain(*, tapped):
        b = SpecBuilder("chain", (1, 8, 8), 2)
        x = INPUT
        for k in range(6):
            x = b.conv_norm_neuron(f"conv{k}.", x, 1)
        x = b.node("sum", "add", x, "conv2.neuron") if tapped else x
        b.node("classifier", "linear", b.node("pool", "global_pool", x), features=2, role="classifier")
        return diagram_of(b.finish(), "lif")

    assert [(fold.name, fold.times) for fold in chain(tapped=False).folds] == [("conv0", 6)]
    tapped = chain(tapped=True)
    assert [(fold.name, fold.last, fold.times) for fold in tapped.folds] == [
        ("conv0", "conv2", 3),
        ("conv3", "conv5", 3),
    ]
    assert [r.source for r in tapped.blocks[-2].reads] == [2, 1]


def test_names_with_markup_are_text_and_long_ones_are_cut():
    spec = signed_spec()
    name = HOSTILE + 60 * "x"
    nodes = [Node(name if n.name == "three" else n.name, n.op, n.inputs, n.args) for n in spec.nodes]
    nodes[6] = Node("four", "neuron", (Edge(name),), {"kind": "if"})
    architecture = of_network(NetworkSpec("n", (1, 8, 8), 2, tuple(nodes)), "lif", HOSTILE)
    svg = architecture.drawing.__html__()
    assert "<script" not in svg
    assert "<img" not in svg
    assert f"{name[:40]}…" in [element.text for element in ElementTree.fromstring(svg).iter("text")]


def test_what_is_too_large_is_not_drawn():
    channels = tuple(range(1, MOST_BLOCKS + 1))
    spec = make_spec(ModelSettings(preset="small8", channels=channels), (1, 8, 8), 10)
    assert of_network(spec, "lif", "A title") is None
    slots = len(choose_motif("MI", 4, shipped("canonical")).slots(4))
    cells = tuple(Cell("MI", tuple(Link("conv3") for _ in range(slots))) for _ in range(MOST_LINES // slots + 1))
    assert of_genome(Genome(cells, 4, 4, "canonical", "same_step"), None, "A title") is None
    fitting = of_genome(Genome(cells[: len(cells) // 2], 4, 4, "canonical", "same_step"), None, "A title")
    assert len(fitting.rows) > MOST_LINES // 3
