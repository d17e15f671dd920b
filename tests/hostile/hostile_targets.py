"""Every reader of files and texts from outside, with sound inputs and inputs in its grammar."""

from __future__ import annotations

import json
import struct
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import hostile_inputs as inputs
import numpy as np
import torch
from hypothesis import strategies as st

from evospike.core.errors import EvospikeError
from evospike.core.files import digest_json, digest_tensors, load_tensors, save_tensors
from evospike.core.settings import parse_override
from evospike.data.cache import load_cached, write_header
from evospike.data.events.aedat import parse_aedat2, parse_aedat3
from evospike.data.events.cache import _SplitFile
from evospike.data.events.folders import find_frames
from evospike.data.events.framefile import parse_frames
from evospike.data.events.gesture import parse_intervals
from evospike.data.events.nmnist import parse_nmnist
from evospike.data.events.source import EventSplit
from evospike.data.settings import EventSettings
from evospike.jobs.architecture import spec_for
from evospike.jobs.memory import least_training_bytes
from evospike.jobs.recipe import read_recipe, recipe_from_plain
from evospike.measure.sources import moving_nodes, origins
from evospike.models.build import build
from evospike.models.counts import count_layers
from evospike.models.presets import PRESETS
from evospike.models.spec import NetworkSpec
from evospike.search.decode import decode
from evospike.search.genome import Cell, Genome, Link
from evospike.search.motif import parse_motifs
from evospike.sparse.storage import pack_state, unpack_state
from evospike.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, saved_record

SENSOR = (8, 8)


@dataclass(frozen=True)
class Target:
    """A reader. sound: inputs that it takes; grammar: what else to try. read: reads bytes, and may use the folder."""

    name: str
    sound: tuple[bytes, ...]
    read: Callable[[bytes, Path], None]
    grammar: tuple[st.SearchStrategy[bytes], ...] = field(default=())

    def inputs(self) -> st.SearchStrategy[bytes]:
        """A fifth without sense, the rest damaged or grammatical."""
        raw = st.one_of(
            st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))
        )
        near = [inputs.damaged(data) for data in self.sound]
        return st.one_of(raw, *near, *near, *self.grammar, *self.grammar)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _recipe(data: bytes, folder: Path) -> None:
    path = folder / "given.toml"
    path.write_bytes(data)
    recipe = read_recipe(str(path))
    assert recipe_from_plain(recipe.to_plain()) == recipe
    least_training_bytes(recipe, spec_for(recipe.model, (3, 32, 32), 10))


def _override(data: bytes, folder: Path) -> None:
    text = _text(data)
    parse_override(text)
    read_recipe("digits", [text])


def _genome(data: bytes, folder: Path) -> None:
    genome = Genome.from_json(_text(data))
    assert Genome.from_json(genome.to_json()) == genome
    count_layers(decode(genome, (3, 32, 32), 10))


def _motifs(data: bytes, folder: Path) -> None:
    for motif in parse_motifs(_text(data)):
        for reach in motif.inputs:
            assert motif.slots(reach) is not None


def _spec(data: bytes, folder: Path) -> None:
    spec = NetworkSpec.from_json(_text(data))
    again = NetworkSpec.from_json(spec.to_json())
    assert again.digest() == spec.digest()
    count_layers(spec)
    moving_nodes(spec)
    origins(spec)
    with torch.device("meta"):
        build(spec)


def _intervals(data: bytes, folder: Path) -> None:
    assert all(0 <= one.start < one.stop for one in parse_intervals(data, "file"))


def _frame_folder(data: bytes, folder: Path) -> None:
    good = inputs.archive_of(np.ones((2, 2, 3, 4), np.uint8))
    for split, files_of in (("train", {"a": good, "b": data}), ("test", {"a": good, "b": good})):
        for name, content in files_of.items():
            (folder / "set" / split / name).mkdir(parents=True, exist_ok=True)
            (folder / "set" / split / name / "0.npz").write_bytes(content)
    for split_of in ("number", "duration"):
        source = find_frames("set", folder / "set", EventSettings(frames=2, split=split_of)).open()
        for split in source.splits.values():
            assert all(frames.shape == (2, 2, 3, 4) for frames in split.read(0))


def _cached(name: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        for file, content in _cache_files().items():
            (folder / file).write_bytes(data if file == name else content)
        found = load_cached(folder)
        if found is None:
            raise _NothingThereError
        for give in found.splits.values():
            split = give()
            assert split.images.dtype == torch.uint8
            assert len(split.images) == len(split.labels)
            assert 0 <= split.labels.min() <= split.labels.max() < len(found.classes)

    return read


class _NothingThereError(EvospikeError):
    """A cache that is not taken is made anew; for the tally it was refused."""

    def __init__(self) -> None:
        super().__init__("not taken")


def _cache_files() -> dict[str, bytes]:
    labels = np.array([0, 1, 1], np.int64)
    part = {"shape": [3, 1, 2, 2], "digest": "0" * 32}
    manifest = {"format": 1, "name": "set", "classes": ["a", "b"], "notes": [], "splits": {"train": part}}
    return {
        "manifest.json": json.dumps({**manifest, "fingerprint": [], "split": "as it is"}).encode(),
        "train.npy": _npy((3, 1, 2, 2), bytes(12)),
        "train.labels.npy": _npy_of(labels),
    }


def _npy(shape: tuple[int, ...], values: bytes) -> bytes:
    import io

    stream = io.BytesIO()
    write_header(stream, shape)
    return stream.getvalue() + values


def _npy_of(values: np.ndarray[Any, Any]) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


PARTS = EventSplit(np.array([0, 1, 1], np.int64), (2, 1), lambda part: [])


def _resumed(data: bytes, folder: Path) -> None:
    """What an interrupted build left: its record and its array, of which one is hostile."""
    (folder / "set").mkdir(exist_ok=True)
    (folder / "train.progress.json").write_bytes(data)
    (folder / "set" / "train.npy").write_bytes(_npy((3, 2, 2, 2, 2), bytes(3 * 16)))
    assert _SplitFile(folder, "train", PARTS, (2, 2, 2, 2)).parts in (0, 1, 2)
    (folder / "train.progress.json").write_text('{"parts": 1, "digest": "0"}')
    (folder / "set" / "train.npy").write_bytes(data)
    assert _SplitFile(folder, "train", PARTS, (2, 2, 2, 2)).parts == 0


def _tensors(data: bytes, folder: Path) -> None:
    path = folder / "x.safetensors"
    path.write_bytes(data)
    tensors, _ = load_tensors(path)
    unpack_state(tensors)


def _checkpoint(data: bytes, folder: Path) -> None:
    """A newest pair of which one file is hostile, with a sound pair before it."""
    sound = _checkpoint_files()
    for name, content in sound.items():
        (folder / name).write_bytes(content)
    saved_record(folder)
    for name in ("step-000000002.state.safetensors", "step-000000002.weights.safetensors"):
        (folder / name).write_bytes(data)
        record = saved_record(folder)
        assert record is None or isinstance(record, dict)
        found = load_checkpoint(folder)
        assert found is not None
        assert found[0].record["step"] in (1, 2) or data != sound[name]
        (folder / name).write_bytes(sound[name])
    if data in sound.values():
        return
    for name in sound:
        (folder / name).unlink() if "000001" in name else (folder / name).write_bytes(data)
    found = load_checkpoint(folder)
    assert found is None or isinstance(found[0].record, dict)


_made: dict[str, Any] = {}


def _checkpoint_files() -> dict[str, bytes]:
    if "checkpoint" not in _made:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            for step in (1, 2):
                tensors = {"w": torch.arange(4.0) + step, "m": torch.ones(2, 3, dtype=torch.bool)}
                save_checkpoint(Path(folder), step, Checkpoint(tensors, tensors, {"step": step, "history": []}))
            _made["checkpoint"] = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    found: dict[str, bytes] = _made["checkpoint"]
    return found


def _tensor_bytes() -> bytes:
    import tempfile

    mask = torch.tensor([[True, False, True], [False, True, True]])
    state = {"a.weight": torch.where(mask, 1.5, 0.0), "a.mask": mask, "b": torch.ones(2)}
    with tempfile.TemporaryDirectory() as folder:
        save_tensors(Path(folder) / "x.safetensors", pack_state(state), {"arm": "genetic", "record": "{}"})
        return (Path(folder) / "x.safetensors").read_bytes()


def sealed_header(header: Mapping[str, Any], data: bytes) -> dict[str, str]:
    """Metadata with the checksum that the reader will find, where the tensors are ones it can read."""
    described = {"record": json.dumps({"step": 3, "history": [{"seconds": 1.0}]}), "weights": "x"}
    tensors = {}
    try:
        for name, one in header.items():
            if name != "__metadata__":
                start, end = one["data_offsets"]
                kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8,
                        "I64": torch.int64, "BOOL": torch.bool}[one["dtype"]]  # fmt: skip
                tensors[name] = torch.frombuffer(bytearray(data[start:end]), dtype=kind).reshape(one["shape"])
        return {**described, "checksum": digest_json([digest_tensors(tensors), described])}
    except (KeyError, ValueError, RuntimeError, TypeError):
        return described


def genome() -> Genome:
    """One that has everything a genome can have."""
    cells = (
        Cell("MI", (Link("conv3"), Link("sep5", "lif:0.5:1.0"), *(Link("skip", sign="-"),) * 4)),
        Cell("reduction"),
        Cell("own", (Link("conv5"), Link("maxpool3"))),
    )
    own = parse_motifs(_OWN)
    return Genome(cells, 2, 8, "canonical", "delayed", 2, ((0, 1), (1, 0)), own)


_OWN = """
[[motif]]
name = "own"
circuit = "A test."
inputs = [2, 3]
nodes = ["E1"]
edges = ["a -> E1 +"]
"""


def spec() -> NetworkSpec:
    """A small network of many operations."""
    return decode(genome(), (2, 8, 8), 3, events=True)


def _tables(text: str) -> dict[str, dict[str, str]]:
    """Sections of a recipe with the text of every value."""
    found: dict[str, dict[str, str]] = {"": {}}

    def add(values: Mapping[str, Any], where: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                add(value, f"{where}.{name}".lstrip("."))
            elif value is not None:
                found.setdefault(where, {})[name] = json.dumps(value)

    add(tomllib.loads(text), "")
    return found


def _whole_recipe() -> dict[str, dict[str, str]]:
    from evospike.jobs.recipe import recipe_text

    return _tables(recipe_text(read_recipe("digits").to_plain()))


def _recipes() -> tuple[bytes, ...]:
    names = ("digits", "digits-search", "cifar10-gee-vgg16-small")
    return tuple(files("evospike.recipes").joinpath(f"{name}.toml").read_bytes() for name in names)


def targets() -> dict[str, Target]:
    """All readers by name."""
    frames = inputs.archive_of(np.random.default_rng(1).integers(0, 9, (2, 2, 3, 4)).astype(np.uint8))
    genomes, specs = json.loads(genome().to_json()), json.loads(spec().to_json())
    presets = tuple(PRESETS[name]((3, 32, 32), 10).to_json().encode() for name in ("small8", "resnet18"))
    events = b"".join(struct.pack("<II", 3 << 17 | 5 << 2 | 3, time) for time in (4, 9, 9))
    aedat3 = b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 3, 3, 3) + events
    cache, pair = _cache_files(), _checkpoint_files()
    tensors = inputs.tensor_file(sealed_header)
    motifs = tuple(
        files("evospike.search").joinpath("motifs", f"{name}.toml").read_bytes() for name in ("canonical", "as_coded")
    )
    every = (
        Target("recipe", _recipes(), _recipe, (inputs.toml_of(_whole_recipe()),)),
        Target(
            "override",
            (b"training.rate=0.1", b"final.arms=['dense']", b"data.augment.kind=none"),
            _override,
            (
                st.tuples(
                    st.sampled_from([f"{a}.{b}" for a, row in _whole_recipe().items() for b in row]),
                    st.sampled_from(inputs.LITERALS),
                ).map(lambda pair: f"{pair[0]}={pair[1]}".encode("utf-8", "replace")),
            ),
        ),
        Target("genome", (genome().to_json().encode(),), _genome, (inputs.altered_json(genomes),)),
        Target(
            "motifs", (*motifs, _OWN.encode()), _motifs, (inputs.toml_of(_tables(_OWN.replace("[[motif]]", "[m]"))),)
        ),
        Target("specification", (spec().to_json().encode(), *presets), _spec, (inputs.altered_json(specs),)),
        Target(
            "AEDAT 2",
            (b"#!AER-DAT2.0\r\n# x\r\n" + struct.pack(">IIII", 27 << 8 | 10, 7, 3 << 8, 9),),
            lambda data, folder: _sound(parse_aedat2(data, "file"), (128, 128)),
            (inputs.aedat2(),),
        ),
        Target(
            "AEDAT 3.1",
            (aedat3,),
            lambda data, folder: _sound(parse_aedat3(data, (128, 128), "file"), (128, 128)),
            (inputs.aedat3(),),
        ),
        Target(
            "N-MNIST",
            (bytes([3, 4, 0x80, 0, 9, 5, 6, 0, 1, 0]),),
            lambda data, folder: _sound(parse_nmnist(data, "file"), (34, 34)),
            (inputs.nmnist(),),
        ),
        Target("gesture intervals", (b"class,start,end\n1,5,9\r\n11,9,20\n",), _intervals),
        Target("frames", (frames,), lambda data, folder: _counts(parse_frames(data, "file")), (inputs.npz(),)),
        Target("frame folder", (frames,), _frame_folder, (inputs.npz(),)),
        Target(
            "cache manifest",
            (cache["manifest.json"],),
            _cached("manifest.json"),
            (inputs.altered_json(json.loads(cache["manifest.json"])),),
        ),
        Target("cached images", (cache["train.npy"],), _cached("train.npy"), (inputs.npy(),)),
        Target("cached labels", (cache["train.labels.npy"],), _cached("train.labels.npy"), (inputs.npy(),)),
        Target(
            "interrupted cache",
            (b'{"parts": 1, "digest": "00"}',),
            _resumed,
            (inputs.altered_json({"parts": 1, "digest": "00"}), inputs.npy()),
        ),
        Target("tensor file", (_tensor_bytes(),), _tensors, (tensors,)),
        Target("checkpoint", tuple(pair.values()), _checkpoint, (tensors,)),
    )
    return {target.name: target for target in every}


def _sound(recording: Any, sensor: tuple[int, int]) -> None:
    height, width = sensor
    assert len(recording)
    assert 0 <= recording.x.min() <= recording.x.max() < width
    assert 0 <= recording.y.min() <= recording.y.max() < height
    assert set(recording.p.tolist()) <= {0, 1}
    assert (np.diff(recording.t) >= 0).all()


def _counts(frames: Any) -> None:
    assert frames.dtype == np.uint8
    assert frames.ndim == 4
