"""A network as blocks: operations that only feed each other are one, and equal groups in a row are told once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from evospike.models.shapes import infer_shapes
from evospike.models.spec import INPUT, NetworkSpec, Node, Shape

MOST_BLOCKS = 300
"""Of a network that is drawn; it is folded after they are counted."""

LONGEST_GROUP = 12
"""Blocks of a group that is looked for again right behind itself."""

LEAST_SAVED = 2
"""Blocks that a fold has to save."""

WEIGHTED, MERGING, ENDING = ("conv", "linear"), ("add", "concat"), ("global_pool", "flatten")
"""Operations with weights, those of several inputs, and those behind which there is no image any more."""


@dataclass(frozen=True)
class Reading:
    """What a block reads. source: place of a block among all. sign, delay: as of `models.spec.Edge`."""

    source: int
    sign: int = 0
    delay: int = 0


@dataclass(frozen=True)
class Block:
    """Operations one after the other. name: of the part of the network. operations, size: in words.

    weighted: whether it has a convolution or a linear layer.
    """

    name: str
    operations: tuple[str, ...]
    size: str
    weighted: bool
    reads: tuple[Reading, ...]


@dataclass(frozen=True)
class Fold:
    """A group of blocks that stands for `times` equal ones in a row, each of which reads what the one before it gives.

    first, length: its place among all blocks and how many it has. last: name of the last of the groups.
    """

    first: int
    length: int
    times: int
    name: str
    last: str


@dataclass(frozen=True)
class Diagram:
    """What is drawn of a network, from its input to its class scores. blocks: the input is the first."""

    blocks: tuple[Block, ...]
    folds: tuple[Fold, ...]

    def fold_of(self, place: int) -> Fold | None:
        """The fold that a block is part of."""
        return next((fold for fold in self.folds if fold.first <= place < fold.first + fold.length), None)


def diagram_of(spec: NetworkSpec, neuron: str) -> Diagram | None:
    """The diagram of a network; None for one of too many blocks. neuron: the network's own kind.

    Raises: SpecError as `infer_shapes` does.
    """
    chains = _chains(spec)
    if len(chains) >= MOST_BLOCKS:
        return None
    shapes = infer_shapes(spec)
    place = {INPUT: 0} | {node.name: k for k, chain in enumerate(chains, 1) for node in chain}
    shown = "one frame at each step" if spec.events else "the same image at every step"
    blocks = [Block("Input", (shown,), size_words(spec.input_shape), False, ())]
    marks: list[Any] = [INPUT]
    for chain in chains:
        head = chain[0]
        reads = tuple(Reading(place[edge.source], edge.sign, edge.delay) for edge in head.inputs)
        given = tuple(shapes[edge.source] for edge in head.inputs)
        operations = tuple(_operation(node, neuron) for node in chain)
        weighted = any(node.op in WEIGHTED for node in chain)
        blocks.append(Block(_name(chain), operations, size_words(shapes[chain[-1].name]), weighted, reads))
        marks.append((given, tuple((node.op, tuple(node.args.items())) for node in chain)))
    return _folded(blocks, marks)


def size_words(shape: Shape) -> str:
    """Channels and image size, or features."""
    if len(shape) == 1:
        return f"{shape[0]:,} feature{'' if shape[0] == 1 else 's'}"
    channels, height, width = shape
    return f"{channels:,} channel{'' if channels == 1 else 's'}, {height}×{width}"


def _chains(spec: NetworkSpec) -> list[list[Node]]:
    """Nodes in groups of which each member but the first reads its predecessor alone, and is alone in reading it."""
    readers = Counter(edge.source for node in spec.nodes for edge in node.inputs)
    ending: dict[str, list[Node]] = {}
    chains: list[list[Node]] = []
    for node in spec.nodes:
        edge = node.inputs[0]
        chain = ending.get(edge.source, [])
        alone = len(node.inputs) == 1 and not edge.sign and not edge.delay and readers[edge.source] == 1
        if not chain or not alone or _parts(chain, node):
            chain = []
            chains.append(chain)
        chain.append(node)
        ending[node.name] = chain
    return chains


def _parts(chain: Sequence[Node], node: Node) -> bool:
    """Whether a new block begins with a node although it could join: where the chain has its weights already, and
    behind a sum where another part of the network begins."""
    held = {one.op for one in chain}
    if node.op in (*WEIGHTED, *ENDING) and held & {*WEIGHTED, *MERGING}:
        return True
    return bool(held & {*MERGING}) and node.name.split(".")[0] != chain[0].name.split(".")[0]


def _name(chain: Sequence[Node]) -> str:
    """The part of the network that the nodes belong to, of several that of the one with weights."""
    parts = {node.name.rpartition(".")[0] or node.name for node in chain}
    if len(parts) == 1:
        return parts.pop()
    chosen = next((node.name for node in chain if node.op in WEIGHTED), "")
    return chosen.rpartition(".")[0] or chosen or chain[0].name


def _operation(node: Node, neuron: str) -> str:
    """What a node does, in words."""
    args = node.args
    if node.op == "conv":
        depthwise = "depthwise " if args["role"] == "depthwise" else ""
        changed = f"{_unless('stride', args, 1)}{_unless('dilation', args, 1)}"
        return f"{depthwise}{_window(args['kernel'])} convolution{changed}"
    if node.op == "neuron":
        return (str(args["kind"]) or neuron).upper()
    if node.op in ("avgpool", "maxpool"):
        kind = "average" if node.op == "avgpool" else "maximum"
        return f"{_window(args['kernel'])} {kind} pool{_unless('stride', args, args['kernel'])}"
    if node.op == "vote":
        return f"mean of {args['voters']} votes"
    return _PLAIN[node.op]


_PLAIN = {
    "linear": "linear",
    "norm": "norm",
    "global_pool": "global average pool",
    "flatten": "flatten",
    "upsample": "upsampling",
    "crop": "crop",
    "zeros": "zeros",
    "add": "sum",
    "concat": "side by side",
}


def _window(side: object) -> str:
    return f"{side}×{side}"


def _unless(name: str, args: Any, usual: object) -> str:
    """An argument where it is not as usual."""
    return "" if args[name] == usual else f", {name} {args[name]}"


def _folded(blocks: Sequence[Block], marks: Sequence[Any]) -> Diagram:
    """Equal groups in a row become the first of them."""
    alike = _signatures(blocks, marks)
    kept: list[int] = []
    folds: list[Fold] = []
    stands: dict[int, int] = {}
    place = 0
    while place < len(blocks):
        length, times = _repetition(alike, blocks, place)
        if times > 1:
            last = place + (times - 1) * length
            names = (_common(blocks[start : start + length]) for start in (place, last))
            folds.append(Fold(len(kept), length, times, *names))
        for step in range(times * length):
            stands[place + step] = len(kept) + step % length
        kept += range(place, place + length)
        place += times * length
    moved = [
        replace(blocks[k], reads=tuple(replace(r, source=stands[r.source]) for r in blocks[k].reads)) for k in kept
    ]
    return Diagram(tuple(moved), tuple(folds))


def _signatures(blocks: Sequence[Block], marks: Sequence[Any]) -> list[Any]:
    """Equal for blocks that do the same with what lies as far before them; a block with a delay is like no other."""
    delayed = {k for k, block in enumerate(blocks) for reading in block.reads if reading.delay}
    delayed |= {reading.source for block in blocks for reading in block.reads if reading.delay}
    return [
        k if k in delayed else (marks[k], block.size, tuple((k - r.source, r.sign) for r in block.reads))
        for k, block in enumerate(blocks)
    ]


def _repetition(alike: Sequence[Any], blocks: Sequence[Block], place: int) -> tuple[int, int]:
    """Length and number of equal groups in a row from a place on that save most blocks; (1, 1) where none does."""
    best, saved = (1, 1), LEAST_SAVED - 1
    for length in range(1, min(LONGEST_GROUP, (len(blocks) - place) // 2) + 1):
        group = alike[place : place + length]
        times = 1
        while alike[place + times * length : place + (times + 1) * length] == group:
            times += 1
        while times > 1 and not _is_closed(blocks, place, length, times):
            times -= 1
        if (times - 1) * length > saved:
            best, saved = (length, times), (times - 1) * length
    return best


def _is_closed(blocks: Sequence[Block], place: int, length: int, times: int) -> bool:
    """Whether every group reads the one before it at most, and what comes after reads the last group alone."""
    last = place + (times - 1) * length
    near = all(r.source >= place - length for k in range(place, place + length) for r in blocks[k].reads)
    behind = (r.source for block in blocks[last + length :] for r in block.reads)
    return near and not any(place <= source < last for source in behind)


def _common(blocks: Sequence[Block]) -> str:
    """The part of the network that blocks have in common, else the first one's."""
    parts = zip(*(block.name.split(".") for block in blocks), strict=False)
    shared = takewhile(lambda part: len(set(part)) == 1, parts)
    return ".".join(part[0] for part in shared) or blocks[0].name
