"""Sizes are believed only after they were compared with what there is; texts only up to a length, a depth, a number."""

from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evospike.cli.main import main
from evospike.core import limits
from evospike.core.errors import CheckpointError, DataError, EvospikeError, SettingsError, SpecError
from evospike.core.files import _JSON_GROWTH, _TENSOR_COPIES, load_tensors, parse_json, read_json, save_tensors
from evospike.core.limits import MEMORY, MOST_DEPTH, free_memory, memory_limit, require_memory
from evospike.core.settings import parse_override, parse_toml
from evospike.core.text import shown
from evospike.data.decode import MOST_PIXELS, Layout, decode_split, probe
from evospike.data.digits import stored_digits
from evospike.data.events.aedat import parse_aedat2, parse_aedat3
from evospike.data.events.framefile import _COPIES, parse_frames
from evospike.data.events.nmnist import parse_nmnist
from evospike.data.events.recording import _BYTES_PER_BYTE, read_bytes
from evospike.data.source import RawImage, RawSplit, checked_classes
from evospike.jobs.inspection import inspect_recipe
from evospike.jobs.memory import least_training_bytes
from evospike.jobs.recipe import read_recipe
from evospike.models.build import build
from evospike.models.presets import small8
from evospike.models.shapes import infer_shapes
from evospike.models.spec import NetworkSpec, SpecBuilder
from evospike.search.motif import parse_motifs
from evospike.sparse.storage import unpack_state

MIB = 1 << 20


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda given: monkeypatch.setenv(MEMORY, given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1000", 1000), ("16GB", 16 * 10**9), ("1.5 kb", 1500), ("2MiB", 2 * MIB), ("1T", 10**12), (" 3 g ", 3 * 10**9)],
)
def test_the_limit_can_be_set(allow: Callable[[str], None], given: str, expected: int) -> None:
    allow(given)
    assert memory_limit() == expected


@pytest.mark.parametrize("given", ["much", "-1", "1e9", "GB", "9" * 40, "nan", "1 2"])
def test_a_limit_that_is_none_is_refused(allow: Callable[[str], None], given: str) -> None:
    allow(given)
    with pytest.raises(SettingsError, match=f"{MEMORY} is .*; give bytes, or a number with a unit"):
        memory_limit()


def test_the_limit_is_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MEMORY, raising=False)
    assert 0 < memory_limit() <= 1 << 62
    assert memory_limit() == pytest.approx(free_memory(), rel=0.2)


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("0::/job/step", ("memory.max", "memory.current", "inactive_file")),
        ("4:memory:/job/step", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ],
)
def test_a_control_group_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, names: Any) -> None:
    """The group itself has no limit, the one above it has; pages of files can be given back."""
    root = tmp_path / group.split(":")[1]
    outer, inner = root / "job", root / "job" / "step"
    inner.mkdir(parents=True)
    for folder, most in ((inner, "max"), (outer, str(100 * MIB))):
        (folder / names[0]).write_text(most)
        (folder / names[1]).write_text(str(70 * MIB))
        (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {20 * MIB}\n")
    monkeypatch.setattr(limits, "_GROUPS", tmp_path)
    real = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda path, *a, **k: f"{group}\n" if str(path) == "/proc/self/cgroup" else real(path, *a, **k),
    )
    assert free_memory() == 50 * MIB


def test_the_message_has_the_estimate_the_limit_and_the_remedy(allow: Callable[[str], None]) -> None:
    allow("1GB")
    require_memory(10**9, "it", "do without", DataError)
    with pytest.raises(DataError) as caught:
        require_memory(10**9 + 1, "it", "do without", DataError)
    message = "it would take about 1.0 GB of memory, 1.0 GB are free; do without, or set EVOSPIKE_MEMORY to allow more"
    assert str(caught.value) == message
    with pytest.raises(DataError, match=r"about 1,000,000,000,000\.0 PB"):
        require_memory(10**27, "it", "do without", DataError)


class TestSettings:
    """Recipes and overrides that ask for too much, in every sense."""

    @pytest.mark.parametrize(
        "override",
        [
            "training.rate=" + "1" * 400,
            "training.rate=0x" + "f" * 5000,
            "run.seed=0x" + "f" * 5000,
            "run.seed=" + "1" * 5000,
            "name=0x" + "f" * 5000,
            "training.epochs=" + "[" * 40 + "]" * 40,
            "training.epochs=[" + "1," * 60_000 + "]",
            ".".join(["training", "epochs", *"a" * 2000]) + "=1",
            "training.epochs={" + ".".join("a" * 30_000) + "=1}",
            "final.seeds=100000000000",
            "run.workers=1000000000",
            "run.threads=1000000",
            "training.batch=1000000000000",
            "training.epochs=1000000000000",
            "evolution.population=1000000000000",
            "evolution.upper=1e308",
            "search.offspring=1000000000",
            "rank.resamples=1000000000000",
            "space.cells=1000000000",
            "data.augment.crop_padding=1000000000",
            "dissimilarity.repeats=1000000000",
            "space.motifs=" + str(["x"] * 20_000).replace("'", '"'),
            "model.genome=" + "x" * (2 * MIB),
        ],
        ids=lambda text: text[:40],
    )
    def test_an_override_is_refused_in_a_short_line_and_at_once(self, override: str) -> None:
        started = time.process_time()
        with pytest.raises(SettingsError) as caught:
            read_recipe("digits", [override])
        assert time.process_time() - started < 5.0
        assert len(str(caught.value)) < 1000
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "text",
        [
            "a" + ".a" * 200_000 + " = 1",
            "[" + "a" + ".a" * 200_000 + "]",
            "x = {" + "a" + ".a" * 200_000 + " = 1}",
            '"x"' + '."x"' * 100_000 + " = 1",
            "x = " + "[" * 100_000,
            'x = "' + '\\"' * 200_000,
            '"\\' * 200_000,
            "seed = " + "1" * 5000,
            "x = 9999-99-99",
        ],
        ids=lambda text: text[:20],
    )
    def test_a_recipe_that_would_keep_the_parser_busy(self, tmp_path: Path, text: str) -> None:
        """The square of the number of parts in a name: half an hour for one of a megabyte."""
        (tmp_path / "x.toml").write_text(text)
        started = time.process_time()
        with pytest.raises(SettingsError, match=r"cannot read recipe '.*x.toml'"):
            read_recipe(str(tmp_path / "x.toml"))
        assert time.process_time() - started < 5.0

    def test_what_looks_like_a_name_of_many_parts_but_is_none(self) -> None:
        dots = "." * 100
        text = f'a = "{dots}"\nb = \'{dots}\'\nc = """{dots}\n"{dots}"""\nd = \'\'\'{dots}\'\'\' # {dots}\n'
        found = parse_toml(text + "f = [" + "1.5," * 200 + "]")
        assert (found["a"], found["c"], len(found["f"])) == (dots, f'{dots}\n"{dots}', 200)

    def test_the_deepest_that_is_read(self) -> None:
        assert parse_json("[" * MOST_DEPTH + "]" * MOST_DEPTH)
        with pytest.raises(ValueError, match="nested deeper than 32"):
            parse_json("[" * (MOST_DEPTH + 1) + "]" * (MOST_DEPTH + 1))
        with pytest.raises(ValueError, match="nested deeper than 32"):
            parse_json("[" * 200_000)

    @pytest.mark.parametrize(
        "text", ["NaN", "[Infinity]", "-Infinity", "1e999", str(2**63), '{"a": -1e400}', "1" * 4400]
    )
    def test_numbers_that_are_none(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"no number|not finite|bits|digits"):
            parse_json(text)

    def test_a_network_that_does_not_fit_is_refused_with_the_estimate(
        self, allow: Callable[[str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        allow("100MB")
        for flags in (["--set", "model.channels=[9000,9000]"], ["--batch", "1000000"], ["--steps", "100000"]):
            assert main(["train", "digits", "-o", str(tmp_path / "run"), *flags]) == 2
            said = capsys.readouterr().err
            assert "of memory, 100.0 MB are free; lower training.batch or model.steps" in said
            assert not (tmp_path / "run").exists()

    def test_an_estimate_is_no_more_than_a_training_keeps(self) -> None:
        """By hand: weights and, of a sample, convolutions before the first neuron once, what follows at every step."""
        recipe = read_recipe(
            "digits", ["model.channels=[2,3]", 'encoding.kind="dense"', "model.steps=5", "training.batch=4"]
        )
        spec = small8((1, 8, 8), 10, channels=(2, 3))
        weights = 1 * 2 * 9 + 2 * 2 + 2 * 3 * 9 + 2 * 3 + 3 * 10 + 10
        kept = 2 * 64 + 5 * (2 * 64 + 3 * 64 + 3 * 64 + 10)
        assert least_training_bytes(recipe, spec) == 4 * (4 * weights + 4 * kept)
        bits = replace(recipe, training=replace(recipe.training, activations="bits"))
        assert least_training_bytes(bits, spec) == 4 * (4 * weights + 4 * 5 * 3 * 64)

    def test_shipped_recipes_fit_where_they_are_meant_to(self) -> None:
        assert least_training_bytes(read_recipe("digits"), small8((1, 8, 8), 10)) < 200 * MIB

    def test_inspect_shows_what_could_never_be_built(self) -> None:
        """Counting takes no memory."""
        document = inspect_recipe(read_recipe("digits", ["model.channels=[1000000,1000000]", 'encoding.kind="dense"']))
        assert document["parameters"] > 10**12


class TestSpecifications:
    def test_weights_that_do_not_fit(self, allow: Callable[[str], None]) -> None:
        allow("1GB")
        with pytest.raises(SpecError, match=r"the weights of 'small8' would take about 36\.\d TB of memory"):
            build(small8((1, 8, 8), 10, channels=(10**6, 10**6)))
        with torch.device("meta"):
            assert build(small8((1, 8, 8), 10, channels=(10**6, 10**6))) is not None

    @pytest.mark.parametrize("channels", [2**41, 10**30])
    def test_counts_beyond_all_that_can_be(self, channels: int) -> None:
        with pytest.raises(SpecError, match="wants at most"):
            small8((1, 8, 8), 10, channels=(channels, 4))

    def test_layers_that_grow_without_end(self) -> None:
        b = SpecBuilder("net", (1, 8, 8), 2)
        name = "input"
        for i in range(2000):
            name = b.node(f"up{i}", "upsample", name, factor=1000)
        b.node("flat", "flatten", name)
        with pytest.raises(SpecError, match=r"layer 'up1' gives 1 x 8000000 x 8000000 numbers for one sample; at most"):
            infer_shapes(b.finish())

    @pytest.mark.parametrize("value", [10**400, float("nan"), float("inf"), -(10**30)])
    def test_a_neuron_of_no_number(self, value: Any) -> None:
        plain = json.loads(small8((1, 8, 8), 10).to_json())
        node = next(node for node in plain["nodes"] if node["op"] == "neuron")
        node["args"]["threshold"] = value
        with pytest.raises(SpecError):
            NetworkSpec.from_json(json.dumps(plain))


class TestMotifs:
    def test_edges_without_end_are_refused_unread(self) -> None:
        """Every unknown name was compared with all known ones."""
        nodes = [f"E{i}" for i in range(3000)]
        text = f"""
[[motif]]
name = "wide"
circuit = "x"
inputs = [2, 3, 4]
nodes = {json.dumps(nodes)}
edges = {json.dumps([f"a -> {node} +" for node in nodes])}
"""
        started = time.process_time()
        with pytest.raises(SettingsError, match="has 3000 nodes; a cell carries at most 99"):
            parse_motifs(text)
        assert time.process_time() - started < 2.0


class TestMeasured:
    """What is predicted is no less than what is taken: measured, with a few per cent for what surrounds it."""

    def peak(self, work: Callable[[], Any]) -> int:
        work()
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "text", ["[" + "{}," * 20_000 + "0]", "[" + "[[]]," * 20_000 + "0]", "[" + "0," * 30_000 + "0]"]
    )
    def test_json(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "x.json").write_text(text)
        assert self.peak(lambda: read_json(tmp_path / "x.json")) <= 1.05 * _JSON_GROWTH * len(text)

    def test_recordings(self) -> None:
        count = 5_000
        aedat2 = b"#!AER-DAT2.0\r\n" + struct.pack(">II", 3 << 8, 9) * count
        aedat3 = b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, count, count, count)
        aedat3 += struct.pack("<II", 1, 9) * count
        start = aedat3.index(b"HEADER\r\n") + 8
        empty = aedat3[:start] + struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, 0, 0, 0) * count + aedat3[start:]
        nmnist = bytes([1, 2, 0, 0, 9]) * count
        for data, parse in (
            (aedat2, lambda data: parse_aedat2(data, "file")),
            (aedat3, lambda data: parse_aedat3(data, (128, 128), "file")),
            (empty, lambda data: parse_aedat3(data, (128, 128), "file")),
            (nmnist, lambda data: parse_nmnist(data, "file")),
        ):
            assert self.peak(lambda data=data, parse=parse: parse(data)) <= _BYTES_PER_BYTE * len(data)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.float16, np.bool_])
    def test_frames(self, dtype: Any) -> None:
        stream = io.BytesIO()
        np.savez(stream, frames=np.ones((4, 2, 100, 100), dtype))
        size = 4 * 2 * 100 * 100 * np.dtype(dtype).itemsize
        assert self.peak(lambda: parse_frames(stream.getvalue(), "file")) <= 1.05 * (
            _COPIES * size + len(stream.getvalue())
        )


class TestFiles:
    def test_a_tensor_file_that_does_not_fit(self, allow: Callable[[str], None], tmp_path: Path) -> None:
        save_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(2 * MIB)})
        allow(str(_TENSOR_COPIES * 8 * MIB))
        with pytest.raises(CheckpointError, match=r"reading .*x\.safetensors would take about 25\.\d MB"):
            load_tensors(tmp_path / "x.safetensors")
        allow(str(_TENSOR_COPIES * 9 * MIB))
        assert load_tensors(tmp_path / "x.safetensors")

    def test_a_mask_that_unpacks_to_more_than_there_is(self, allow: Callable[[str], None]) -> None:
        allow("20MB")
        bits = torch.zeros(500_000, dtype=torch.uint8)
        with pytest.raises(CheckpointError, match=r"packed weights: 'a.mask' would take about 40\.0 MB"):
            unpack_state({"packed/bits/a.mask:2000x2000": bits})

    def test_an_archive_that_is_a_bomb(self, allow: Callable[[str], None]) -> None:
        """60 kB that honestly inflate to 60 MB."""
        allow("100MB")
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("frames.npy", bytes(60_000_000))
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=r"reading file would take about 300\.0 MB of memory"):
                parse_frames(stream.getvalue(), "file")
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()

    def test_a_recording_that_does_not_fit(self, allow: Callable[[str], None], tmp_path: Path) -> None:
        allow("100MB")
        with open(tmp_path / "x.aedat", "wb") as file:
            file.truncate(10**10)
        with pytest.raises(DataError, match=r"reading .*x\.aedat would take about 160\.0 GB of memory"):
            read_bytes(tmp_path / "x.aedat")

    def test_digits_of_a_size_that_does_not_fit(self, allow: Callable[[str], None]) -> None:
        allow("10GB")
        with pytest.raises(DataError, match=r"the digits at 4096x4096 pixels would take about 361\.\d GB"):
            stored_digits(4096)

    def test_labels_of_any_size_take_no_memory(self) -> None:
        for labels, missing in (([0, 1, 10**15], 2), ([1, 2], 0), ([0, 2], 1)):
            with pytest.raises(DataError, match=f"no training sample has label {missing};"):
                checked_classes("set", {"train": np.array(labels, np.int64)}, None)


class TestImages:
    """Headers that claim huge images, and formats that start programs."""

    image = pytest.importorskip("PIL.Image")

    def split(self, *payloads: bytes) -> RawSplit:
        raw = [RawImage(payload, f"image {i}") for i, payload in enumerate(payloads)]
        return RawSplit(np.zeros(len(raw), np.int64), lambda: iter([raw]))

    def png(self, width: int, height: int) -> bytes:
        """A file whose header says so, and that has no pixels."""
        stream = io.BytesIO()
        self.image.new("L", (4, 4)).save(stream, "PNG")
        data = bytearray(stream.getvalue())
        data[16:24] = struct.pack(">II", width, height)
        import zlib

        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        return bytes(data)

    def test_a_header_that_claims_a_bomb(self) -> None:
        assert MOST_PIXELS == 8192**2
        with pytest.raises(
            DataError, match="image 0 is 8193x8192; an image has 1 to 67,108,864 pixels, scale it first"
        ):
            probe(self.split(self.png(8193, 8192)), 8)
        for side in (20_000, 2**31 - 1):
            with pytest.raises(DataError, match="image 0"):
                probe(self.split(self.png(side, side)), 8)

    def test_a_strip_that_would_be_scaled_to_a_bomb(self) -> None:
        stream = io.BytesIO()
        self.image.new("L", (60_000, 1)).save(stream, "PNG")
        with pytest.raises(DataError, match="image 0 is 13440000x224; an image has"):
            list(decode_split(self.split(stream.getvalue()), Layout(1, 224, 224, True)))

    def test_batches_that_do_not_fit(self, allow: Callable[[str], None]) -> None:
        stream = io.BytesIO()
        self.image.new("RGB", (500, 400)).save(stream, "PNG")
        allow("1GB")
        with pytest.raises(DataError, match=r"decoding images of 500x400 would take about 1\.4 GB"):
            probe(self.split(stream.getvalue()), 0)
        assert probe(self.split(stream.getvalue()), 32).shape == (3, 32, 32)

    def test_postscript_is_never_run(self, tmp_path: Path) -> None:
        program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(stray) (w) file\n%%EOF\n"
        assert self.image.open(io.BytesIO(program)).format == "EPS", "Pillow itself would take it"
        with pytest.raises(DataError, match="cannot decode image 0"):
            probe(self.split(program), 8)


def test_reading_a_small_file_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory_limit", lambda: pytest.fail("asked"))
    require_memory(limits.ALWAYS_FREE, "it", "do without", EvospikeError)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1 << 20_000, "a number of 20001 bits"), ("x" * 9999, "'xxx"), ([[[[[[[[1]]]]]]]], "[[[[[[[...]]]]]]]"), (3, "3")],
    ids=["long", "text", "deep", "plain"],
)
def test_a_value_is_quoted_in_few_characters(value: Any, text: str) -> None:
    assert shown(value).startswith(text)
    assert len(shown(value)) <= 80


def test_an_override_is_quoted_in_few_characters() -> None:
    with pytest.raises(SettingsError, match=r"cannot read override 'x{80}…'"):
        parse_override("x" * 10_000)
