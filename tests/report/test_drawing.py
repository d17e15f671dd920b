"""The drawing of an architecture: well-formed, complete, and with the signs of the network."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import get_args
from xml.etree import ElementTree

import numpy as np
import pytest

from evospike.report.architecture.connections import COLUMNS, OPERATIONS, reads, rows_of
from evospike.report.architecture.facts import GENOME_LINES
from evospike.report.architecture.genome_drawing import draw
from evospike.report.architecture.motif_layout import RADIUS, lay_out
from evospike.report.architecture.svg import legend
from evospike.search.decode import decode
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import choose_motif, shipped
from evospike.search.settings import Operation, SpaceSettings
from evospike.search.space import Space

EVERY = [
    (name, reach, motif) for name in ("canonical", "as_coded") for motif in shipped(name) for reach in motif.inputs
]
EVERY = [pytest.param(kind, reach, motif, id=f"{kind}-{motif.name}-{reach}") for kind, reach, motif in EVERY]
HOSTILE = "<script>alert(1)</script>\"'><img src=x>"


def genome_of(motif_set, *names, reach=2, operation="conv3", **fields):
    motifs = (*shipped(motif_set), *fields.get("motifs", ()))
    cells = [
        Cell(name)
        if name == "reduction"
        else Cell(name, tuple(Link(operation) for _ in choose_motif(name, reach, motifs).slots(reach)))
        for name in names
    ]
    return Genome(tuple(cells), reach, 4, motif_set, fields.pop("feedback", "same_step"), **fields)


def parsed(genome, side=(8, 8)):
    return ElementTree.fromstring(draw(genome, side, "A title"))


def groups(root, name, attribute):
    return [group for group in root.iter("g") if group.get("class", "").split()[:1] == [name] and group.get(attribute)]


def classes(group):
    return {name for element in group for name in element.get("class", "").split()}


def texts(root):
    return [element.text for element in root.iter("text")]


@pytest.mark.parametrize(("kind", "reach", "motif"), EVERY)
def test_every_node_input_and_edge_of_every_shipped_motif_is_drawn(kind, reach, motif):
    root = parsed(genome_of(kind, motif.name, reach=reach, operation="conv5"))
    assert [group.get("data-node") for group in groups(root, "node", "data-node")] == list(motif.nodes)
    assert [group.get("data-port") for group in groups(root, "port", "data-port")] == [
        f"a{i + 1}" for i in range(reach)
    ]
    drawn = groups(root, "edge", "data-edge")
    wiring = motif.wiring(reach)
    assert [group.get("data-edge") for group in drawn] == [f"{edge.source} {edge.target}" for edge in wiring]
    for edge, group in zip(wiring, drawn, strict=True):
        shape = {("connection", 1): "head", ("connection", -1): "bar", ("identity", 0): "ring", ("zero", 0): None}
        found = classes(group) & {"head", "bar", "ring"}
        assert found == ({shape[edge.carrier, edge.sign]} - {None})
        assert ("feedback" in classes(group)) == edge.feedback
        assert texts(group) == (["5×5"] if edge.carrier == "connection" else [])
        assert group.find("title").text.startswith(f"{edge.source} to {edge.target}: ")
    dead = {group.get("data-node") for group in groups(root, "node", "data-node") if "dead" in group.get("class")}
    assert dead == set(motif.dead)


@pytest.mark.parametrize(("kind", "reach", "motif"), EVERY)
def test_edges_end_at_their_circles_and_pass_the_others(kind, reach, motif):
    layout = lay_out(motif, reach)
    top, bottom, right = layout.top, layout.bottom, layout.right
    for placed in layout.edges:
        edge, points = placed.edge, placed.curve.points()
        if edge.target in layout.nodes:
            assert RADIUS < points[-1].distance(layout.nodes[edge.target]) < RADIUS + 6
        if edge.source in layout.nodes:
            assert points[0].distance(layout.nodes[edge.source]) == pytest.approx(RADIUS)
        if edge.carrier != "zero":
            others = [centre for name, centre in layout.nodes.items() if name not in (edge.source, edge.target)]
            assert all(point.distance(centre) > RADIUS for point in points for centre in others)
        assert all(top <= point.y <= bottom and point.x <= right for point in points)
    centres = [*layout.nodes.values(), *layout.ports.values()]
    assert all(a.distance(b) > 1.5 * RADIUS for k, a in enumerate(centres) for b in centres[:k])


@pytest.mark.parametrize("name", ["LI", "FI", "FBI", "MI", "FE"])
def test_labels_of_canonical_motifs_do_not_cover_each_other(name):
    for reach in (2, 3):
        labels = [p.label for p in lay_out(choose_motif(name, reach, shipped("canonical")), reach).edges if p.label]
        assert all(abs(a.x - b.x) >= 28 or abs(a.y - b.y) >= 10 for k, a in enumerate(labels) for b in labels[:k])


def test_a_node_that_feeds_itself_gets_a_loop():
    motif = dataclasses.replace(
        choose_motif("FE", 2, shipped("canonical")), name="loop", edges=("a -> E1 +", "E1 -> E2 +", "E2 => E2 -")
    )
    (loop,) = [p for p in lay_out(motif, 2).edges if p.edge.feedback]
    centre = lay_out(motif, 2).nodes["E2"]
    assert max(point.distance(centre) for point in loop.curve.points()) > 1.5 * RADIUS


@pytest.mark.parametrize("reach", [2, 3, 4])
def test_cells_read_what_the_network_reads(reach):
    names = ["FE", "reduction", "FI", "FE", "reduction", "FE"]
    genome = genome_of("canonical", *names, reach=reach)
    spec = {node.name: node for node in decode(genome, (1, 8, 8), 10).nodes}

    def origin(name):
        """The last node before the neuron that the preprocessing of an input reads."""
        return spec[spec[name].inputs[0].source].inputs[0].source

    ends = [
        "stem.norm",
        *(f"cell{i}.norm" if name == "reduction" else f"cell{i}.output" for i, name in enumerate(names)),
    ]
    read = {
        f"cell{index}.{port}.conv": ends[source]
        for index, name in enumerate(names)
        if name != "reduction"
        for port, source in reads(index, reach).items()
    }
    assert {name: origin(name) for name in read} == read


def test_wires_lead_from_the_outputs_that_are_read():
    root = parsed(genome_of("canonical", "FE", "reduction", "FI", reach=3))
    sources = [g.find("title").text for g in root.iter("g") if (g.findtext("title") or "").startswith("output of")]
    boxes = ["Stem", "Cell 0: FE", "Cell 1: reduction", "Cell 2: FI"]
    read = [0, 0, 0, 1, 0, 1, 2, 3]  # cell 0: the stem three times; cell 1: cell 0; cell 2: stem, 0, 1; classifier: 2
    assert sources == [f"output of {boxes[k]}" for k in read]


def test_reductions_are_marked_with_the_resolution():
    genome = genome_of("canonical", "FE", "reduction", "LI", "reduction", "FE")
    shown = texts(parsed(genome, (16, 8)))
    for text in ("3×3 convolution, 16×8, 12 channels", "16×8 → 8×4, 24 channels", "8×4, 5 × 8 channels"):
        assert text in shown
    assert "1/2 of the image → 1/4 of the image, 48 channels" in texts(parsed(genome, None))


def test_free_signs_are_those_of_the_network():
    free = genome_of("canonical", "FE")
    links = (Link("conv3", sign="-"), Link("skip", sign="-"), Link("sep5", sign="-"))
    root = parsed(dataclasses.replace(free, cells=(Cell("FE", links),)))
    kinds = [group.get("class") for group in groups(root, "edge", "data-edge")]
    assert kinds == ["edge plus", "edge minus", "edge plus"]  # a node that only - reaches is excited by its first
    assert [text for text in texts(root) if text in {label for label, _ in OPERATIONS.values()}] == [
        "3×3",
        "skip",
        "s5×5",
    ]


def test_every_line_is_told_in_the_table():
    genome = genome_of("canonical", "FE", "reduction", "LI", "FBI", reach=3, feedback="delayed")
    links = (Link("sep5", sign="-", neuron="lif:0.5:1.0"), *genome.cells[0].links[1:])
    genome = dataclasses.replace(genome, cells=(Cell("FE", links), *genome.cells[1:]))
    rows = rows_of(genome)
    assert all(len(row) == len(COLUMNS) and all(row) for row in rows)
    drawn = groups(parsed(genome), "edge", "data-edge")
    inner = [row for row in rows if "reduction" not in row[0] and row[0] != "Classifier"]
    assert len(inner) == len(drawn)
    for row, group in zip(inner, drawn, strict=True):
        source, target = group.get("data-edge").split()
        assert [row[1].split()[0], row[2].split()[0]] == [source, target]
        words = group.find("title").text
        assert f": {row[3]}" in words
        assert row[4] == "none" or row[4].split(" (")[0] in words
        assert (row[5] == "feedback in the next step") == ("feedback" in classes(group))
    first = (
        "Cell 0: FE",
        "a1 (stem)",
        "E1",
        "inhibitory",
        "separable 5×5 convolution (s5×5), neuron lif:0.5:1.0",
        "none",
    )
    assert rows[0] == first
    reduction = "Cell 1: reduction"
    assert (reduction, "Cell 0: FE", reduction, "unchanged", "halves the image", "none") in rows
    assert rows[-1][:3] == ("Classifier", "Cell 3: FBI", "Classifier")


def test_connections_between_modules_and_nodes_that_never_fire_are_told():
    rows = rows_of(genome_of("canonical", "FE", "FE", "FI", module_cells=2, adjacency=((1, 0), (1, 0))))
    ends = [(row[1], row[2], row[5]) for row in rows if row[0] == "between modules"]
    assert ends == [("module 0", "module 0", "1 step"), ("module 1", "module 0", "1 step")]
    motif = next(motif for motif in shipped("as_coded") if motif.dead)
    rows = rows_of(genome_of("as_coded", motif.name, reach=motif.inputs[0]))
    assert {node for row in rows for node in row[1:3] if "never fires" in node} == {
        f"{node} (never fires)" for node in motif.dead
    }


def test_every_operation_of_a_space_has_a_label_of_its_own():
    assert set(OPERATIONS) == set(get_args(Operation))
    assert max(Counter(label for label, _ in OPERATIONS.values()).values()) == 1


def test_connections_between_modules_are_drawn_once_each():
    adjacency = ((1, 0), (1, 0))
    root = parsed(genome_of("canonical", "FE", "FE", "FI", module_cells=2, adjacency=adjacency))
    assert [g.get("data-module") for g in root.iter("g") if g.get("class") == "module"] == ["0 0", "1 0"]
    plain = parsed(genome_of("canonical", "FE", "FE", "FI"))
    assert float(root.get("width")) > float(plain.get("width"))


def test_the_drawing_says_in_words_what_it_shows():
    root = parsed(genome_of("canonical", "FE", "reduction", "LI"))
    assert root.get("role") == "img"
    title, about = root.get("aria-labelledby").split()
    named = {element.get("id"): element.text for element in root if element.get("id")}
    assert named[title] == "A title"
    assert "cell 0 FE, cell 1 reduction, cell 2 LI" in named[about]


def test_what_is_drawn_lies_in_the_picture():
    for reach in (2, 3, 4):
        names = [motif.name for motif in shipped("as_coded") if reach in motif.inputs]
        root = parsed(genome_of("as_coded", *names, reach=reach))
        width, height = float(root.get("width")), float(root.get("height"))
        assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
        for box in root.findall("g[@data-box]"):
            frame = box.find("rect")
            x, y, w, h = (float(frame.get(name)) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= x + w <= width
            assert 0 <= y <= y + h <= height
            for inner in box.findall("g"):
                dx, dy = map(float, inner.get("transform")[10:-1].split())
                for circle in inner.iter("circle"):
                    assert x < dx + float(circle.get("cx")) < x + w
                    assert y + 30 < dy + float(circle.get("cy")) < y + h


def test_names_with_markup_are_text():
    motif = dataclasses.replace(choose_motif("FE", 2, shipped("canonical")), name=HOSTILE, circuit=HOSTILE)
    svg = draw(genome_of("canonical", HOSTILE, motifs=(motif,)), (8, 8), HOSTILE)
    assert "<script" not in svg
    assert "<img" not in svg
    assert f"Cell 0: {HOSTILE}" in texts(ElementTree.fromstring(svg))


def test_random_genomes_of_a_rich_space_are_drawn():

    settings = SpaceSettings(
        cells=6,
        fewest_cells=4,
        operations=("conv3", "sep5", "dil3", "avgpool3", "skip"),
        motifs=("empty", "FE", "FI", "FBI", "LI", "MI"),
        inputs=(2, 3, 4),
        signs="free",
        macro="modules",
        module_cells=2,
        reductions="searched",
        reduction_count=2,
        neurons=("lif:0.5:1.0", "lif:0.8:0.5"),
        feedback="delayed",
    )
    space = Space(settings)
    rng = np.random.default_rng(0)
    for _ in range(10):
        genome = space.genome([int(value) for value in rng.integers(0, np.array(space.upper) + 1)])
        root = parsed(genome)
        drawn = len(groups(root, "edge", "data-edge"))
        cells = [i for i in range(len(genome.cells)) if i not in genome.reductions]
        assert drawn == sum(len(genome.motif(i).wiring(genome.reach)) for i in cells)


def test_the_legend_shows_every_kind_of_line():
    root = ElementTree.fromstring(legend(GENOME_LINES))
    found = {name for element in root.iter() for name in element.get("class", "").split()}
    assert {"plus", "minus", "identity", "zero", "feedback", "head", "bar", "ring"} <= found
