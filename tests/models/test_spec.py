"""Specifications: what they refuse, and that their JSON is the whole of them."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from evospike.core.errors import SpecError
from evospike.models.presets import PRESETS, small8
from evospike.models.spec import INPUT, Edge, NetworkSpec, Node, SpecBuilder


def chain(*nodes: Node, classes: int = 2) -> NetworkSpec:
    return NetworkSpec("net", (1, 4, 4), classes, nodes)


def node(name: str, op: str, *sources: str | Edge, **args: Any) -> Node:
    return Node(name, op, tuple(s if isinstance(s, Edge) else Edge(s) for s in sources), args)


def signed() -> NetworkSpec:
    """A specification that uses every kind of field."""
    return NetworkSpec(
        "signed",
        (2, 4, 5),
        3,
        (
            node("a", "conv", INPUT, channels=4, kernel=3, padding=1, groups=2, role="stem"),
            node("sum", "add", "a", Edge("b.conv", -1, 2), Edge("a", 1)),
            node("b.neuron", "neuron", "sum", kind="plif", threshold=0.5, decay=0.25),
            node("b.conv", "conv", "b.neuron", channels=4, kernel=1),
            node("flat", "flatten", "b.conv"),
            node("out", "linear", "flat", features=3, role="classifier"),
        ),
        events=True,
    )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_pickle_and_copy(name: str) -> None:
    spec = PRESETS[name]((3, 64, 64), 10)
    for again in (NetworkSpec.from_json(spec.to_json()), pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec)):
        assert again == spec
        assert again.to_json() == spec.to_json()
        assert again.digest() == spec.digest()


def test_json_carries_every_field() -> None:
    spec = signed()
    again = NetworkSpec.from_json(spec.to_json())
    assert again == spec
    assert again["sum"].inputs == (Edge("a"), Edge("b.conv", -1, 2), Edge("a", 1))
    assert again["b.neuron"].args == {"kind": "plif", "threshold": 0.5, "decay": 0.25}
    assert again.events is True
    plain = json.loads(spec.to_json())
    assert plain["format"] == 1
    assert plain["nodes"][1] == {
        "name": "sum",
        "op": "add",
        "inputs": [["a", 0, 0], ["b.conv", -1, 2], ["a", 1, 0]],
        "args": {},
    }


def test_a_digest_is_of_everything_but_the_name() -> None:
    spec = signed()
    digest = spec.digest()
    assert replace(spec, name="other").digest() == digest
    assert replace(spec, name="other").to_json() != spec.to_json()
    changed = [
        replace(spec, events=False),
        replace(spec, input_shape=(2, 5, 4)),
        replace(spec, classes=4),
        replace(spec, nodes=spec.nodes[:-1]),
        replace(spec, nodes=(*spec.nodes[:-1], node("out", "linear", "flat", features=3))),
        replace(spec, nodes=(spec.nodes[0], node("sum", "add", "a", Edge("b.conv", -1, 1), "a"), *spec.nodes[2:])),
        replace(spec, nodes=(spec.nodes[0], node("sum", "add", "a", Edge("b.conv", 1, 2), "a"), *spec.nodes[2:])),
    ]
    assert len({digest, *(other.digest() for other in changed)}) == len(changed) + 1


def test_equal_nodes_have_equal_json() -> None:
    whole = node("n", "norm", INPUT, gain=1)
    assert whole == node("n", "norm", INPUT, gain=1.0) == node("n", "norm", INPUT)
    assert json.dumps(whole.to_json()) == json.dumps(node("n", "norm", INPUT, gain=1.0).to_json())


def test_the_digest_of_small8_is_pinned() -> None:
    # stored runs name architectures by this; it may only change with the format number
    assert small8((1, 8, 8), 10).digest() == "2731086fc41ed91844fde09c2560391a"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: node("a", "dense", INPUT),
            "node 'a' has unknown operation 'dense'; known: conv, linear, norm, neuron, avgpool, maxpool, "
            "global_pool, flatten, upsample, crop, zeros, add, concat, vote",
        ),
        (
            lambda: node("a", "linear", INPUT, features=2, width=3),
            "node 'a' (linear) has unknown argument 'width'; known: features, bias, role",
        ),
        (lambda: node("a", "conv", INPUT, kernel=3), "node 'a' (conv) lacks argument 'channels'"),
        (
            lambda: node("a", "linear", INPUT, features=2, role="head"),
            "node 'a' has unknown role 'head'; known: stem, body, depthwise, shortcut, hidden, classifier",
        ),
        (lambda: node("a", "neuron", INPUT, kind="adex"), "node 'a' has unknown kind 'adex'; known: lif, if, plif"),
        (
            lambda: node("a", "linear", INPUT, features=2.0),
            "node 'a' wants a whole number for 'features', given 2.0",
        ),
        (
            lambda: node("a", "linear", INPUT, features=True),
            "node 'a' wants a whole number for 'features', given True",
        ),
        (
            lambda: node("a", "linear", INPUT, features=2, bias=1),
            "node 'a' wants true or false for 'bias', given 1",
        ),
        (lambda: node("a", "norm", INPUT, gain="1"), "node 'a' wants a number for 'gain', given '1'"),
        (lambda: node("a", "norm", INPUT, gain=True), "node 'a' wants a number for 'gain', given True"),
        (lambda: node("a", "neuron", INPUT, kind=3), "node 'a' wants text for 'kind', given 3"),
        (
            lambda: node("a", "conv", INPUT, channels=0, kernel=3),
            "node 'a' wants at least 1 for 'channels', given 0",
        ),
        (
            lambda: node("a", "conv", INPUT, channels=1, kernel=3, stride=0),
            "node 'a' wants at least 1 for 'stride', given 0",
        ),
        (
            lambda: node("a", "avgpool", INPUT, padding=-1),
            "node 'a' wants at least 0 for 'padding', given -1",
        ),
        (
            lambda: node("a", "norm", INPUT).integer("gain"),
            "node 'a' wants a whole number for 'gain', given 1.0",
        ),
        (
            lambda: NetworkSpec("net", (1, 0, 4), 2, (node("a", "flatten", INPUT),)),
            "input shape (1, 0, 4) of 'net' is not (channels, height, width), each at least 1",
        ),
        (
            lambda: NetworkSpec("net", (4, 4), 2, (node("a", "flatten", INPUT),)),  # type: ignore[arg-type]
            "input shape (4, 4) of 'net' is not (channels, height, width), each at least 1",
        ),
        (
            lambda: chain(node("a", "flatten", INPUT), classes=1),
            "'net' has 1 class(es); at least 2 are needed to tell apart",
        ),
        (lambda: chain(), "'net' has no nodes"),
        (
            lambda: chain(node("a", "flatten", INPUT), node("a", "flatten", INPUT)),
            "node name 'a' is used twice in 'net'",
        ),
        (lambda: chain(node("input", "flatten", INPUT)), "node name 'input' is used twice in 'net'"),
        (lambda: chain(node("a", "flatten")), "node 'a' has no inputs"),
        (lambda: chain(node("a", "flatten", "b")), "node 'a' reads 'b', which does not exist"),
        (
            lambda: chain(node("a", "flatten", Edge(INPUT, sign=2))),
            "edge 'input' -> 'a' has sign 2, delay 0; a sign is -1, 0 or 1 and a delay is at least 0",
        ),
        (
            lambda: chain(node("a", "flatten", Edge(INPUT, delay=-1))),
            "edge 'input' -> 'a' has sign 0, delay -1; a sign is -1, 0 or 1 and a delay is at least 0",
        ),
        (
            lambda: chain(node("a", "add", INPUT, "b"), node("b", "neuron", "a")),
            "edge 'b' -> 'a' closes a cycle within one step; give it a delay of at least 1",
        ),
        (
            lambda: chain(node("a", "add", INPUT, "a")),
            "edge 'a' -> 'a' closes a cycle within one step; give it a delay of at least 1",
        ),
        (lambda: signed()["zzz"], "no node 'zzz' in 'signed'"),
        (
            lambda: node("n", "neuron", INPUT, threshold=-3.0),
            "node 'n' has threshold -3 and decay -1; a threshold is positive, a decay in (0, 1], and 0 and -1 stand "
            "for the network's own",
        ),
    ],
)
def test_refusals_name_the_node(make: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        '{"format": 1}',
        '{"format": 1, "name": "a", "input_shape": [1, 2], "classes": 2, "events": false, "nodes": []}',
        '{"format":1,"name":"a","input_shape":[1,2,2],"classes":2,"events":false,"nodes":[{"name":"q","op":"conv",'
        '"inputs":[["input",0,0]],"args":["channels","kernel"]}]}',
        '{"format":1,"name":"a","input_shape":[1,2,2],"classes":2,"events":false,"nodes":[{"name":"q","op":"add",'
        '"inputs":[["input",0,0,0]],"args":{}}]}',
    ],
)
def test_text_that_is_no_specification(text: str) -> None:
    with pytest.raises(
        SpecError, match=r"not a network specification: .*; expected JSON written by NetworkSpec.to_json"
    ):
        NetworkSpec.from_json(text)


def test_another_format_is_refused_by_number() -> None:
    with pytest.raises(SpecError, match="network specification has format 2; this release reads format 1"):
        NetworkSpec.from_json('{"format": 2}')


def test_a_broken_node_in_json_says_what_is_wrong_with_it() -> None:
    text = signed().to_json().replace('"op":"flatten"', '"op":"squash"')
    with pytest.raises(SpecError, match="node 'flat' has unknown operation 'squash'"):
        NetworkSpec.from_json(text)


def test_questions_about_the_graph() -> None:
    spec = signed()
    assert spec.output == "out"
    assert spec.has_delays
    assert not small8((1, 8, 8), 10).has_delays
    assert [n.name for n in spec.weighted()] == ["a", "b.conv", "out"]
    assert [n.name for n in spec.readers("a")] == ["sum"]
    assert [n.name for n in spec.readers("b.conv")] == ["sum", "flat"]
    assert spec.readers("out") == []


def test_defaults_are_filled_in_and_cannot_be_changed() -> None:
    conv = node("a", "conv", INPUT, channels=2, kernel=3)
    assert dict(conv.args) == {
        "channels": 2,
        "kernel": 3,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "role": "body",
    }
    with pytest.raises(TypeError, match="does not support item assignment"):
        conv.args["kernel"] = 5  # type: ignore[index]


def test_the_builder_writes_what_its_names_say() -> None:
    b = SpecBuilder("net", (1, 5, 5), 2, events=True)
    assert b.conv_norm_neuron("one.", INPUT, 4, kernel=5, stride=2, role="stem") == "one.neuron"
    assert b.conv_norm("two.", "one.neuron", 3, kernel=1, gain=0.5) == "two.norm"
    b.node("flat", "flatten", b.node("sum", "add", "two.norm", Edge("two.norm", -1, 1)))
    b.node("out", "linear", "flat", features=2)
    spec = b.finish()
    names = ["one.conv", "one.norm", "one.neuron", "two.conv", "two.norm", "sum", "flat", "out"]
    assert [n.name for n in spec.nodes] == names
    first, second = spec["one.conv"].args, spec["two.conv"].args
    assert [first[k] for k in ("channels", "kernel", "stride", "padding", "role")] == [4, 5, 2, 2, "stem"]
    assert [second[k] for k in ("channels", "kernel", "stride", "padding", "role")] == [3, 1, 1, 0, "body"]
    assert spec["two.norm"].args["gain"] == 0.5
    assert spec["sum"].inputs[1] == Edge("two.norm", -1, 1)
    assert (spec.name, spec.input_shape, spec.classes, spec.events) == ("net", (1, 5, 5), 2, True)


def test_an_input_shape_may_be_a_list() -> None:
    b = SpecBuilder("x", [1, 8, 8], 3)  # type: ignore[arg-type]
    b.node("classifier", "linear", b.node("flat", "flatten", INPUT), features=3, role="classifier")
    assert b.finish().input_shape == (1, 8, 8)
