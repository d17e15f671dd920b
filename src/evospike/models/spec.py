"""A network architecture as data: a graph of named nodes with signed and delayed edges.

A `NetworkSpec` says what is connected to what; `models.build` turns it into a module, `models.counts` counts it, the
genetic room decides from its roles which weights to generate. Names are dotted (`stage1.0.conv1`) and are the names of
the built submodules, so that encodings, masks and measures all speak of the same layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, get_args

from evospike.core.errors import SpecError
from evospike.core.files import canonical_json, digest_json, parse_json
from evospike.core.limits import LARGEST_SIZE
from evospike.core.text import shortened, shown
from evospike.neurons.settings import NeuronKind

INPUT = "input"
FORMAT = 1

LONGEST_NAME = 200
"""Characters of a node's name."""

MOST_DELAY = 1000
"""Steps; the outputs of as many are held."""

MOST_NODES, MOST_EDGES = 10_000, 100_000
"""Of one network."""

Shape = tuple[int, ...]
Argument = bool | int | float | str

ROLES = ("stem", "body", "depthwise", "shortcut", "hidden", "classifier")
"""What a weighted layer is for; the genetic encoding takes `body` by default, and cannot take `depthwise`, which has
groups."""

KINDS: tuple[str, ...] = get_args(NeuronKind)
"""Kinds of neuron a node may ask for; an empty kind is the network's own."""

ARGUMENTS: Mapping[str, Mapping[str, Argument | None]] = MappingProxyType(
    {
        # argument -> default; None: required
        "conv": {
            "channels": None,
            "kernel": None,
            "stride": 1,
            "padding": 0,
            "dilation": 1,
            "groups": 1,
            "bias": False,
            "role": "body",
        },
        "linear": {"features": None, "bias": True, "role": "body"},
        "norm": {"gain": 1.0},
        "neuron": {"kind": "", "threshold": 0.0, "decay": -1.0},
        "avgpool": {"kernel": 2, "stride": 2, "padding": 0, "ceil": False},
        "maxpool": {"kernel": 2, "stride": 2, "padding": 0, "ceil": False},
        "global_pool": {},
        "flatten": {},
        "upsample": {"factor": None},
        "crop": {"pixels": None},
        "zeros": {"channels": None},
        "add": {},
        "concat": {},
        "vote": {"voters": 10},
    }
)
"""Every operation a node may name, with its arguments."""


@dataclass(frozen=True)
class Edge:
    """A connection into a node.

    sign: +1 excitatory, only the positive part passes; -1 inhibitory, only the negative part; 0 unchanged.
    delay: simulation steps between source and target; 0 within the step. Before the first step the source is zero.
    """

    source: str
    sign: int = 0
    delay: int = 0

    def to_json(self) -> list[Any]:
        return [self.source, self.sign, self.delay]


@dataclass(frozen=True)
class Node:
    """One operation, its inputs and its arguments (defaults filled in)."""

    name: str
    op: str
    inputs: tuple[Edge, ...]
    args: Mapping[str, Argument] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.op, str):
            raise SpecError(f"a node has a name and an operation, both texts; given {shown((self.name, self.op))}")
        if not self.name.isprintable() or len(self.name) > LONGEST_NAME:
            raise SpecError(f"a node's name is at most {LONGEST_NAME} printable characters, given {shown(self.name)}")
        if self.op not in ARGUMENTS:
            raise SpecError(
                f"node '{shortened(self.name)}' has unknown operation '{shortened(self.op)}'; "
                f"known: {', '.join(ARGUMENTS)}"
            )
        known = ARGUMENTS[self.op]
        unknown = sorted(set(self.args) - set(known))
        if unknown:
            raise SpecError(
                f"node '{self.name}' ({self.op}) has unknown argument '{shortened(unknown[0])}'; "
                f"known: {', '.join(known)}"
            )
        missing = [name for name, default in known.items() if default is None and name not in self.args]
        if missing:
            raise SpecError(f"node '{self.name}' ({self.op}) lacks argument '{missing[0]}'")
        filled = {name: self._typed(name, self.args.get(name, default), default) for name, default in known.items()}
        object.__setattr__(self, "args", MappingProxyType(filled))
        if "role" in known and self.args["role"] not in ROLES:
            raise SpecError(
                f"node '{self.name}' has unknown role '{shortened(str(self.args['role']))}'; known: {', '.join(ROLES)}"
            )
        if "kind" in known and self.args["kind"] not in ("", *KINDS):
            raise SpecError(
                f"node '{self.name}' has unknown kind '{shortened(str(self.args['kind']))}'; known: {', '.join(KINDS)}"
            )
        if self.op == "neuron":
            self._check_constants(float(self.args["threshold"]), float(self.args["decay"]))

    def _check_constants(self, threshold: float, decay: float) -> None:
        if threshold < 0 or (decay < 0 and decay != -1):
            raise SpecError(
                f"node '{self.name}' has threshold {threshold:g} and decay {decay:g}; a threshold is positive, a decay "
                "in (0, 1], and 0 and -1 stand for the network's own"
            )

    def _typed(self, name: str, value: Argument | None, default: Argument | None) -> Argument:
        """The value as the argument's own type, so that equal nodes have equal JSON."""
        if isinstance(default, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
            if not abs(value) <= LARGEST_SIZE:  # a value that is no number fails the comparison
                raise SpecError(f"node '{self.name}' wants a number for '{name}', given {shown(value)}")
            return float(value)
        wanted = int if default is None else type(default)
        if type(value) is not wanted:
            text = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[wanted]
            raise SpecError(f"node '{self.name}' wants {text} for '{name}', given {shown(value)}")
        least = 0 if name == "padding" else 1
        if type(value) is int and not least <= value <= LARGEST_SIZE:
            bound = f"at least {least}" if value < least else f"at most {LARGEST_SIZE}"
            raise SpecError(f"node '{self.name}' wants {bound} for '{name}', given {shown(value)}")
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        return Node, (self.name, self.op, self.inputs, dict(self.args))

    def integer(self, name: str) -> int:
        """An argument that is a whole number."""
        value = self.args[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise SpecError(f"node '{self.name}' wants a whole number for '{name}', given {shown(value)}")
        return value

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "op": self.op,
            "inputs": [edge.to_json() for edge in self.inputs],
            "args": dict(self.args),
        }


@dataclass(frozen=True)
class NetworkSpec:
    """An architecture: what it reads, what it is made of, how many classes it tells apart.

    input_shape: (channels, height, width) of one image or one event frame.
    events: the input differs from step to step, shape (T, B, C, H, W); otherwise one image is shown at every step.
    nodes: in an order in which every undelayed source comes first; the last node gives the class scores.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    nodes: tuple[Node, ...]
    events: bool = False

    def __post_init__(self) -> None:
        given: Any = self.input_shape
        if isinstance(given, list):
            object.__setattr__(self, "input_shape", tuple(given))
        self._check_values()
        self._check_order()

    def _check_values(self) -> None:
        if not self.name.isprintable() or len(self.name) > LONGEST_NAME:
            raise SpecError(
                f"a network's name is at most {LONGEST_NAME} printable characters, given {shown(self.name)}"
            )
        sides = (*self.input_shape, self.classes)
        if not all(type(side) is int and abs(side) <= LARGEST_SIZE for side in sides):
            raise SpecError(f"sizes of '{self.name}' are whole numbers up to {LARGEST_SIZE}, given {shown(sides)}")
        edges = sum(len(node.inputs) for node in self.nodes)
        if len(self.nodes) > MOST_NODES or edges > MOST_EDGES:
            raise SpecError(
                f"'{self.name}' has {len(self.nodes)} nodes and {edges} edges; a network has at most {MOST_NODES} and "
                f"{MOST_EDGES}"
            )
        if len(self.input_shape) != 3 or min(self.input_shape) < 1:
            raise SpecError(
                f"input shape {self.input_shape} of '{self.name}' is not (channels, height, width), each at least 1"
            )
        if self.classes < 2:
            raise SpecError(f"'{self.name}' has {self.classes} class(es); at least 2 are needed to tell apart")
        if not self.nodes:
            raise SpecError(f"'{self.name}' has no nodes")

    def _check_order(self) -> None:
        all_names = {INPUT, *(node.name for node in self.nodes)}
        if len(all_names) != len(self.nodes) + 1:
            names = [INPUT, *(node.name for node in self.nodes)]
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise SpecError(f"node name '{twice}' is used twice in '{self.name}'")
        known = {INPUT}
        for node in self.nodes:
            if not node.inputs:
                raise SpecError(f"node '{node.name}' has no inputs")
            for edge in node.inputs:
                self._check_edge(node, edge, known, all_names)
            known.add(node.name)

    def _check_edge(self, node: Node, edge: Edge, known: set[str], all_names: set[str]) -> None:
        if edge.source not in all_names:
            raise SpecError(f"node '{node.name}' reads {_quoted(edge.source)}, which does not exist")
        if {type(edge.sign), type(edge.delay)} != {int} or edge.sign not in (-1, 0, 1) or edge.delay < 0:
            raise SpecError(
                f"edge '{edge.source}' -> '{node.name}' has sign {shown(edge.sign)}, delay {shown(edge.delay)}; "
                "a sign is -1, 0 or 1 and a delay is at least 0"
            )
        if edge.delay > MOST_DELAY:
            raise SpecError(
                f"edge '{edge.source}' -> '{node.name}' has delay {shown(edge.delay)}; the most is {MOST_DELAY} steps"
            )
        if edge.delay == 0 and edge.source not in known:
            raise SpecError(
                f"edge '{edge.source}' -> '{node.name}' closes a cycle within one step; give it a delay of at least 1"
            )

    @property
    def output(self) -> str:
        """Name of the node that gives the class scores."""
        return self.nodes[-1].name

    @property
    def last_neuron(self) -> str:
        """Name of the neuron layer nearest to the class scores. Raises: SpecError when there is none."""
        for node in reversed(self.nodes):
            if node.op == "neuron":
                return node.name
        raise SpecError(f"'{self.name}' has no neurons")

    @property
    def has_delays(self) -> bool:
        """Whether the network has to be stepped through time."""
        return any(edge.delay for node in self.nodes for edge in node.inputs)

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise SpecError(f"no node '{name}' in '{self.name}'")

    def weighted(self) -> Iterator[Node]:
        """Convolution and linear nodes, in order."""
        return (node for node in self.nodes if node.op in ("conv", "linear"))

    def readers(self, name: str) -> list[Node]:
        """Nodes that read the output of `name`, in order."""
        return [node for node in self.nodes if any(edge.source == name for edge in node.inputs)]

    def to_json(self) -> str:
        """The specification as JSON text, equal for equal specifications."""
        return canonical_json(self._plain())

    def digest(self) -> str:
        """32 hex digits of everything but the network's name."""
        plain = self._plain()
        del plain["name"]
        return digest_json(plain)

    def _plain(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "events": self.events,
            "nodes": [node.to_json() for node in self.nodes],
        }

    @classmethod
    def from_json(cls, text: str) -> NetworkSpec:
        """Read what `to_json` wrote. Raises: SpecError when it is not a specification of this format."""
        try:
            plain = parse_json(text)
            if plain["format"] != FORMAT:
                raise SpecError(
                    f"network specification has format {shown(plain['format'])}; this release reads format {FORMAT}, "
                    "use the release that wrote it"
                )
            nodes = tuple(
                Node(n["name"], n["op"], tuple(Edge(*edge) for edge in n["inputs"]), n["args"]) for n in plain["nodes"]
            )
            channels, height, width = plain["input_shape"]
            name, events = plain["name"], plain["events"]
            if not isinstance(name, str) or not isinstance(events, bool):
                raise TypeError(f"name {shown(name)}, events {shown(events)}")
            return cls(name, (channels, height, width), plain["classes"], nodes, events)
        except SpecError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise SpecError(
                f"not a network specification: {type(error).__name__}: {shortened(str(error))}; "
                "expected JSON written by NetworkSpec.to_json"
            ) from None


def _quoted(name: object) -> str:
    return f"'{shortened(name)}'" if isinstance(name, str) else shown(name)


class SpecBuilder:
    """Writes a specification node by node; each method returns the new node's name."""

    def __init__(self, name: str, input_shape: tuple[int, int, int], classes: int, *, events: bool = False) -> None:
        self._name, self._input_shape, self._classes, self._events = name, input_shape, classes, events
        self._nodes: list[Node] = []

    def node(self, name: str, op: str, *sources: str | Edge, **args: Argument) -> str:
        """Append a node that reads `sources`."""
        edges = tuple(source if isinstance(source, Edge) else Edge(source) for source in sources)
        self._nodes.append(Node(name, op, edges, args))
        return name

    def conv(self, name: str, source: str, channels: int, kernel: int = 3, stride: int = 1, role: str = "body") -> str:
        """A convolution without bias that keeps the size at stride 1."""
        return self.node(
            name,
            "conv",
            source,
            channels=channels,
            kernel=kernel,
            stride=stride,
            padding=kernel // 2,
            role=role,
        )

    def conv_norm(
        self,
        prefix: str,
        source: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        role: str = "body",
        gain: float = 1.0,
    ) -> str:
        """Convolution and batch norm: `<prefix>conv`, `<prefix>norm`; the prefix may end in a dot."""
        conv = self.conv(f"{prefix}conv", source, channels, kernel, stride, role)
        return self.node(f"{prefix}norm", "norm", conv, gain=gain)

    def conv_norm_neuron(
        self, prefix: str, source: str, channels: int, kernel: int = 3, stride: int = 1, role: str = "body"
    ) -> str:
        """Convolution, batch norm and neuron."""
        norm = self.conv_norm(prefix, source, channels, kernel, stride, role)
        return self.node(f"{prefix}neuron", "neuron", norm)

    def finish(self) -> NetworkSpec:
        """The specification; the last node gives the class scores."""
        return NetworkSpec(self._name, self._input_shape, self._classes, tuple(self._nodes), self._events)
