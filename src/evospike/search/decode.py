"""From a genome to the specification of a network (methods 4.3 to 4.5).

Every connection is LIF - operation - batch norm - sign gate. What differs from the released code, and why:

* Neurons that would compute the same are one node: the released code gives every connection its own LIF, but those
  that read one state with the same constants fire the same spikes. `edge_counts` says how many each stands for. A
  neuron of kind `plif` learns its decay and stays with its connection; when plif is the network's own kind, the
  connections that read a state share one decay.
* A convolution that reduces further inside a preprocess has its LIF and batch norm, where the released code has a bare
  convolution; so has the projection between modules. Then every convolution but the stem's reads binary spikes.
* With free signs, a node that no forward `+` or identity edge reaches could never fire: its first forward connection is
  made excitatory.
* Nodes that no class score depends on are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evospike.core.errors import SpecError
from evospike.models.spec import INPUT, Argument, Edge, NetworkSpec, SpecBuilder
from evospike.search.genome import Genome, Link
from evospike.search.motif import MotifEdge, can_fire
from evospike.search.settings import parse_neuron

_SIGNS = {"+": 1, "-": -1}

InputShape = tuple[int, int, int]

STEM_FACTOR = 3
"""Width of the stem and of a reduction cell in units of C."""

COUNTED = ("conv", "linear", "norm", "avgpool", "maxpool", "global_pool")
"""Operations whose reading of a neuron makes a connection."""


def decode(
    genome: Genome, input_shape: InputShape, classes: int, *, events: bool = False, name: str = "searched"
) -> NetworkSpec:
    """The network of a genome for images or event frames of (channels, height, width).

    Raises: SpecError naming the cell whose reduction the image size does not allow.
    """
    _check_sizes(genome, input_shape)
    blocks = _Blocks(SpecBuilder(name, input_shape, classes, events=events))
    norm = blocks.builder.conv_norm("stem.", INPUT, STEM_FACTOR * genome.channels, role="stem")
    last = _Cells(genome, blocks).write(_State(norm, STEM_FACTOR * genome.channels, 0))
    pooled = blocks.builder.node("pool", "global_pool", blocks.neuron(last.node))
    blocks.builder.node("classifier", "linear", pooled, features=classes, role="classifier")
    return _needed(blocks.builder.finish())


def edge_counts(spec: NetworkSpec) -> dict[str, int]:
    """How many connections each neuron node stands for, by name, at least 1.

    The released code has one LIF for each; weighed so, an average over nodes equals its average over LIFs.
    """
    counts = Counter(edge.source for node in spec.nodes if node.op in COUNTED for edge in node.inputs)
    return {node.name: max(1, counts[node.name]) for node in spec.nodes if node.op == "neuron"}


def _check_sizes(genome: Genome, input_shape: InputShape) -> None:
    """Both halves of a FactorizedReduce have one size only when every side is even."""
    _, height, width = input_shape
    for done, cell in enumerate(sorted(genome.reductions)):
        if (height >> done) % 2 or (width >> done) % 2:
            raise SpecError(
                f"cell {cell} cannot halve an image of {height >> done}x{width >> done}, as both sides have to be "
                f"even; use images whose sides are multiples of {2 ** len(genome.reductions)} "
                f"(given {height}x{width}) or fewer reductions"
            )


def _needed(spec: NetworkSpec) -> NetworkSpec:
    """Without the nodes that no class score depends on."""
    needed: set[str] = set()
    ahead = [spec.output]
    sources = {node.name: [edge.source for edge in node.inputs] for node in spec.nodes}
    while ahead:
        name = ahead.pop()
        if name not in needed:
            needed.add(name)
            ahead += sources.get(name, [])
    return replace(spec, nodes=tuple(node for node in spec.nodes if node.name in needed))


@dataclass(frozen=True)
class _State:
    """A current: the node that gives it, its channels, and how often the image was halved before."""

    node: str
    channels: int
    halvings: int


def _signed(edges: Sequence[MotifEdge], links: Mapping[int, Link], nodes: Sequence[str]) -> list[MotifEdge]:
    """The edges with the links' own signs, and with a node that they leave silent excited by its first connection."""
    chosen = [replace(edge, sign=_SIGNS.get(_sign(edge, links), edge.sign)) for edge in edges]
    for node in nodes:
        freed = [i for i, edge in enumerate(chosen) if edge.target == node and not edge.feedback and _sign(edge, links)]
        if freed and node not in can_fire(edge for edge in chosen if not edge.feedback):
            chosen[freed[0]] = replace(chosen[freed[0]], sign=1)
    return chosen


def _sign(edge: MotifEdge, links: Mapping[int, Link]) -> str:
    return links[edge.slot].sign if edge.carrier == "connection" else ""


class _Blocks:
    """The parts that all cells are made of; each method gives the name of its last node."""

    def __init__(self, builder: SpecBuilder) -> None:
        self.builder = builder
        self._neurons: dict[tuple[str, str, float, float], str] = {}

    def neuron(self, state: str, constants: str = "", prefix: str = "") -> str:
        """The neuron that reads a state; the same one for the same constants, but for plif, named by `prefix`."""
        if not constants:
            return self._shared(state, "", -1.0, 0.0)
        wanted = parse_neuron(constants)
        if wanted.kind == "plif":
            args: dict[str, Argument] = {"kind": wanted.kind, "decay": wanted.decay, "threshold": wanted.threshold}
            return self.builder.node(f"{prefix}neuron", "neuron", state, **args)
        return self._shared(state, wanted.kind, wanted.step_decay, wanted.threshold)

    def _shared(self, state: str, kind: str, decay: float, threshold: float) -> str:
        key = state, kind, decay, threshold
        if key not in self._neurons:
            others = sum(other[0] == state for other in self._neurons)
            name = f"{state}_neuron{others + 1 if others else ''}"
            self._neurons[key] = self.builder.node(name, "neuron", state, kind=kind, decay=decay, threshold=threshold)
        return self._neurons[key]

    def operation(self, prefix: str, spikes: str, channels: int, link: Link) -> str:
        """The operation of a connection from `channels` to as many, and its batch norm."""
        x = spikes
        kind, kernel = link.operation[:-1], link.operation[-1]
        if kind in ("conv", "dil"):
            x = self._kernel(f"{prefix}conv", x, channels, int(kernel), dilation=2 if kind == "dil" else 1)
        elif kind == "sep":
            x = self._kernel(f"{prefix}depthwise", x, channels, int(kernel), groups=channels, role="depthwise")
            x = self.builder.conv(f"{prefix}pointwise", x, channels, 1)
        elif kind in ("avgpool", "maxpool"):
            x = self.builder.node(f"{prefix}pool", kind, x, kernel=int(kernel), stride=1, padding=int(kernel) // 2)
        return self.builder.node(f"{prefix}norm", "norm", x)

    def _kernel(self, name: str, source: str, channels: int, kernel: int, **args: Argument) -> str:
        dilation = int(args.get("dilation", 1))
        padding = dilation * (kernel // 2)
        return self.builder.node(name, "conv", source, channels=channels, kernel=kernel, padding=padding, **args)

    def preprocess(self, prefix: str, state: _State, channels: int, halvings: int) -> str:
        """A cell's input at the cell's own width and size."""
        spikes = self.neuron(state.node)
        behind = halvings - state.halvings
        if not behind:
            return self.builder.conv_norm(prefix, spikes, channels, kernel=1, role="shortcut")
        x = self.halve(prefix, spikes, channels, role="shortcut")
        for i in range(1, behind):
            x = self.builder.conv_norm(f"{prefix}again{i}_", self.neuron(x), channels, stride=2)
        return x

    def halve(self, prefix: str, spikes: str, channels: int, role: str) -> str:
        """FactorizedReduce: two strided convolutions, the second shifted by one pixel, side by side."""
        half = channels // 2
        first = self.builder.conv(f"{prefix}conv", spikes, half, stride=2, role=role)
        crop = self.builder.node(f"{prefix}crop", "crop", spikes, pixels=1)
        second = self.builder.conv(f"{prefix}shifted", crop, half, stride=2, role=role)
        return self.builder.node(f"{prefix}norm", "norm", self.builder.node(f"{prefix}join", "concat", first, second))


class _Cells:
    """Writes the cells of a genome, one after the other, and the connections between modules."""

    def __init__(self, genome: Genome, blocks: _Blocks) -> None:
        self.genome, self.blocks = genome, blocks
        self._exits: list[_State] = []
        self._entries: list[_State] = []

    def write(self, stem: _State) -> _State:
        """All cells; the state of the last one."""
        outputs = [stem]
        for index in range(len(self.genome.cells)):
            if self.genome.module_cells and index % self.genome.module_cells == 0:
                outputs[-1] = self._enter_module(index // self.genome.module_cells, outputs[-1])
            outputs.append(self._reduce(index, outputs[-1]) if self._reduces(index) else self._fill(index, outputs))
        if self.genome.module_cells:
            self._exits.append(outputs[-1])
            self._connect_modules()
        return outputs[-1]

    def _reduces(self, index: int) -> bool:
        return index in self.genome.reductions

    def _halvings(self, index: int) -> int:
        """How often the image is halved in the cells up to and with `index`."""
        return sum(cell <= index for cell in self.genome.reductions)

    def _channels(self, index: int) -> int:
        """C_c, which doubles at every reduction cell."""
        return int(self.genome.channels << self._halvings(index))

    def _reduce(self, index: int, source: _State) -> _State:
        channels = STEM_FACTOR * self._channels(index)
        node = self.blocks.halve(f"cell{index}.", self.blocks.neuron(source.node), channels, role="body")
        return _State(node, channels, self._halvings(index))

    def _fill(self, index: int, outputs: Sequence[_State]) -> _State:
        reach = self.genome.reach
        inputs = {f"a{reach - back}": outputs[max(0, index - back)] for back in range(reach)}
        width, halvings = self._channels(index), self._halvings(index)
        cell = _MotifCell(self.genome, index, self.blocks, inputs, width, halvings)
        return _State(cell.write(), width * len(self.genome.motif(index).nodes), halvings)

    def _enter_module(self, module: int, source: _State) -> _State:
        """What the module reads: the cell before it, and last step's outputs of the modules that feed it."""
        if module:
            self._exits.append(source)
        self._entries.append(source)
        feeding = [i for i in range(self.genome.modules) if self.genome.adjacency[i][module]]
        if not feeding:
            return source
        delayed = [Edge(self._projection(i, module, source.halvings), delay=1) for i in feeding]
        node = self.blocks.builder.node(f"module{module}.input", "add", Edge(source.node), *delayed)
        return replace(source, node=node)

    def _projection(self, source: int, target: int, halvings: int) -> str:
        """Name of the last node of the projection from one module to another."""
        last_cell = min((source + 1) * self.genome.module_cells, len(self.genome.cells)) - 1
        resized = self._halvings(last_cell) != halvings
        return f"module{source}.to{target}.{'resize' if resized else 'norm'}"

    def _connect_modules(self) -> None:
        """LIF - conv1x1 - batch norm, and a resize by a power of two where the sizes differ."""
        b = self.blocks.builder
        for i, source in enumerate(self._exits):
            for j, target in enumerate(self._entries):
                if not self.genome.adjacency[i][j]:
                    continue
                prefix = f"module{i}.to{j}."
                spikes = self.blocks.neuron(source.node)
                norm = b.conv_norm(prefix, spikes, target.channels, kernel=1, role="shortcut")
                factor = 2 ** abs(target.halvings - source.halvings)
                if target.halvings > source.halvings:
                    b.node(f"{prefix}resize", "avgpool", norm, kernel=factor, stride=factor)
                elif target.halvings < source.halvings:
                    b.node(f"{prefix}resize", "upsample", norm, factor=factor)


class _MotifCell:
    """Writes one cell that has a motif."""

    def __init__(
        self,
        genome: Genome,
        index: int,
        blocks: _Blocks,
        inputs: dict[str, _State],
        channels: int,
        halvings: int,
    ) -> None:
        self.blocks, self.inputs, self.channels, self.halvings = blocks, inputs, channels, halvings
        self.prefix = f"cell{index}."
        self.nodes = genome.motif(index).nodes
        self.delayed = genome.feedback == "delayed"
        slots = genome.motif(index).slots(genome.reach)
        self._links = dict(zip(slots, genome.cells[index].links, strict=True))
        wiring = genome.motif(index).wiring(genome.reach)
        self.edges = [edge for edge in _signed(wiring, self._links, self.nodes) if edge.carrier != "zero"]
        self._states: dict[str, str] = {}

    def write(self) -> str:
        """All nodes of the motif, in order, and what they give together."""
        for node in self.nodes:
            arriving = [self._carry(edge) for edge in self.edges if edge.target == node and not edge.feedback]
            arriving = arriving or [Edge(self._zeros(node))]
            self._states[node] = self._add(node, *arriving, *self._delayed_into(node))
            self._feed_back(node)
        return self.blocks.builder.node(f"{self.prefix}output", "concat", *(self._states[node] for node in self.nodes))

    def _add(self, name: str, *edges: Edge) -> str:
        return self.blocks.builder.node(f"{self.prefix}{name}", "add", *edges)

    def _zeros(self, node: str) -> str:
        recent = self.inputs[f"a{len(self.inputs)}"]  # always at the cell's own size
        return self.blocks.builder.node(f"{self.prefix}{node}_zeros", "zeros", recent.node, channels=self.channels)

    def _feed_back(self, node: str) -> None:
        """Same step: a new version of each target, which later readers see. Delayed: the target reads by itself."""
        leaving = [edge for edge in self.edges if edge.feedback and edge.source == node]
        currents = [self._carry(edge) for edge in leaving]
        if self.delayed:
            return
        for edge, current in zip(leaving, currents, strict=True):
            old = Edge(self._state(edge.target))
            self._states[edge.target] = self._add(f"{edge.target}_fed{edge.place}", old, current)

    def _delayed_into(self, target: str) -> list[Edge]:
        if not self.delayed:
            return []
        feedback = [edge for edge in self.edges if edge.feedback and edge.target == target]
        return [Edge(self._carrier(edge), edge.sign, delay=1) for edge in feedback]

    def _carrier(self, edge: MotifEdge) -> str:
        """Name of the node that gives what an edge carries; known before it is written, for delayed edges."""
        if edge.carrier == "identity":
            return f"{self.prefix}{edge.source}"
        return f"{self.prefix}edge{edge.place}.norm"

    def _carry(self, edge: MotifEdge) -> Edge:
        """What an edge carries now, with its connection written."""
        state = self._state(edge.source)
        if edge.carrier == "identity":
            return Edge(state)
        link, prefix = self._links[edge.slot], f"{self.prefix}edge{edge.place}."
        spikes = self.blocks.neuron(state, link.neuron, prefix)
        return Edge(self.blocks.operation(prefix, spikes, self.channels, link), edge.sign)

    def _state(self, name: str) -> str:
        """The present version of a state; an input is preprocessed when it is first read."""
        if name not in self._states:
            prefix = f"{self.prefix}{name}."
            norm = self.blocks.preprocess(prefix, self.inputs[name], self.channels, self.halvings)
            delayed = self._delayed_into(name)
            self._states[name] = self._add(f"{name}_input", Edge(norm), *delayed) if delayed else norm
        return self._states[name]
