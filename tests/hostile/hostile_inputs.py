"""Strategies for hostile files: bytes without sense, sound files with damage, and files that follow the grammar but
say what no honest file says."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]
Path = tuple[Any, ...]

TEXTS = (
    "",
    " ",
    "input",
    "../../../outside",
    "/etc/passwd",
    "a/b\\c",
    "\x00",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202etxt.exe",
    "\ud800",
    "<script>alert(1)</script>",
    "${HOME} %s {0} {x!r}",
    "x" * 5000,
    "0" * 5000,
    ".".join("a" * 50),
    "__class__",
    "nan",
)
DEEP = "nested without end"
"""Stands for thousands of lists in lists, which are written out in the text alone."""

NUMBERS = (0, -1, 1, 2, 3, 7, 255, 256, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, 10**4000)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"))


def deep(levels: int) -> Any:
    """Lists in lists."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


leaves = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(NUMBERS),
    st.sampled_from(FLOATS),
    st.sampled_from([None, True, False, [], {}, [[]], [None], {"": None}, deep(40), DEEP, list(range(300))]),
    st.integers(-3, 300),
    st.floats(-2, 2),
    st.text(max_size=8),
)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value inside a plain value."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def altered(draw: Draw, document: Any) -> Any:
    """A copy of a plain value with one to three of: another value, one fewer, one more, one twice, two exchanged."""
    changed = {"": copy.deepcopy(document)}
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(changed))
        path = found[draw(st.integers(0, len(found) - 1))]
        _alter(draw, changed, path)
    return changed[""]


def _alter(draw: Draw, document: Any, path: Path) -> None:
    *above, key = path
    holder = document
    for part in above:
        holder = holder[part]
    kind = draw(st.integers(0, 5))
    if kind == 0 and above:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 2 and isinstance(holder[key], dict):
        holder[key][draw(st.sampled_from(TEXTS))] = copy.deepcopy(draw(leaves))
    elif kind == 3 and isinstance(holder, dict) and above:
        holder[draw(st.sampled_from(sorted(holder)))] = copy.deepcopy(holder[key])
    else:
        holder[key] = copy.deepcopy(draw(leaves))


def json_text(value: Any) -> bytes:
    """As Python writes it: with NaN, long numbers and halves of characters."""
    return json.dumps(value).encode().replace(json.dumps(DEEP).encode(), b"[" * 3000 + b"]" * 3000)


@st.composite
def damaged(draw: Draw, sound: bytes) -> bytes:
    """One to three of: cut off, a flipped bit, bytes inserted, removed, made equal or repeated."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 3))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(1, 12))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            del data[place:]
        elif kind == 1 and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == 2:
            data[place:place] = draw(st.binary(max_size=12))
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place : place + length] = bytes([draw(st.sampled_from([0, 0x7F, 0x80, 0xFF, 0x22, 0x5B]))]) * length
        else:
            data[place:place] = data[place : place + length] * draw(st.sampled_from([1, 2, 500]))
    return bytes(data)


def altered_json(document: Any, write: Callable[[Any], bytes] = json_text) -> st.SearchStrategy[bytes]:
    """Texts of a document with other values; `write` seals it where it is to be believed."""

    @st.composite
    def make(draw: Draw) -> bytes:
        return write(altered(draw, document))

    return make()


LITERALS = (
    *(json.dumps(text) for text in TEXTS if text.isprintable()),
    *map(str, NUMBERS[:12]),
    "1" * 5000,
    "0x" + "f" * 5000,
    "-1",
    "1e999",
    "nan",
    "-inf",
    "true",
    "1979-05-27T07:32:00Z",
    "0000-00-00",
    "'''x'''",
    '"\\u001b[31m"',
    '"\\ud800"',
    "[]",
    "[[1], 2]",
    "[" * 200 + "]" * 200,
    "[" * 3000,
    "{}",
    "{a.b.c = 1}",
    "{" + ".".join("a" * 3000) + " = 1}",
    "[" + "0," * 20_000 + "]",
)


def toml_of(tables: Any) -> st.SearchStrategy[bytes]:
    """TOML texts of nested tables in which one to three values or names are others."""
    rows = [(section, name) for section, fields in tables.items() for name in fields]

    @st.composite
    def make(draw: Draw) -> bytes:
        changed = {section: dict(fields) for section, fields in tables.items()}
        for _ in range(draw(st.integers(1, 3))):
            section, name = rows[draw(st.integers(0, len(rows) - 1))]
            kind = draw(st.integers(0, 4))
            if kind == 0:
                changed[section][draw(st.sampled_from([*TEXTS, ".".join("a" * 4000), '"a"."b"']))] = "1"
            elif kind == 1:
                changed[draw(st.sampled_from([*TEXTS, "data.augment.kind", ".".join("b" * 3000)]))] = {name: "1"}
            else:
                changed[section][name] = draw(st.sampled_from(LITERALS))
        text = "".join(
            (f"[{section}]\n" if section else "") + "".join(f"{name} = {value}\n" for name, value in fields.items())
            for section, fields in changed.items()
        )
        return text.encode("utf-8", "surrogatepass")

    return make()


WHOLE = st.sampled_from([0, 1, 2, 7, 8, 9, 2**15, 2**31 - 1, -1, -(2**31)])


@st.composite
def aedat3(draw: Draw) -> bytes:
    """A header and packets whose sizes, counts and times are anything."""
    header = draw(
        st.sampled_from(
            [b"#!AER-DAT3.1\r\n#!END-HEADER\r\n", b"#!AER-DAT3.1\r\n", b"#!AER-DAT3.1\n#x\n#!END-HEADER\n#y\n"]
        )
    )
    packets = []
    for _ in range(draw(st.integers(0, 3))):
        body = draw(st.binary(max_size=40))
        kind = draw(st.sampled_from([0, 1, 1, 1, 2, -1, 32767]))
        counts = [draw(st.one_of(st.integers(0, 5), WHOLE)) for _ in range(6)]
        size = draw(st.sampled_from([8, 8, 8, counts[0]]))
        packets.append(struct.pack("<hhiiiiii", kind, 1, size, 4, *counts[1:4], counts[3]) + body)
    return header + b"".join(packets)


@st.composite
def aedat2(draw: Draw) -> bytes:
    """A header of any lines, and pairs of any address and time."""
    lines = draw(st.lists(st.sampled_from([b"# x\r\n", b"#\n", b"#!AER-DAT2.0\r\n", b"x\n", b"#"]), max_size=3))
    pairs = draw(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=6))
    times = sorted(time for _, time in pairs) if draw(st.booleans()) else [time for _, time in pairs]
    body = b"".join(struct.pack(">II", address & draw(st.sampled_from([0x7FFF, 0xFFFFFFFF])), time)
                    for (address, _), time in zip(pairs, times, strict=True))  # fmt: skip
    return b"#!AER-DAT2.0\r\n" + b"".join(lines) + body


@st.composite
def nmnist(draw: Draw) -> bytes:
    """Events of 5 bytes, some of them marks of overflow."""
    x = st.sampled_from([0, 33, 34, 255])
    rows = draw(
        st.lists(st.tuples(x, st.sampled_from([0, 33, 240, 255]), st.binary(min_size=3, max_size=3)), max_size=9)
    )
    return b"".join(bytes([one, two]) + rest for one, two, rest in rows)


@st.composite
def npy(draw: Draw) -> bytes:
    """An array whose header claims anything."""
    shapes = ["(1, 2, 3, 4)", "(2, 2, 1, 1)", "()", "(0,)", "(-1, -24)", f"({2**33}, {2**31}, 1, 1)", "(1, 2, 3, 4"]
    shapes += ["(" * 3000, "-" * 3000 + "1", "(1.5,)", "(True, 2, 3, 4)", f"({10**30},)", "[24]", "'24'"]
    types = [
        "'|u1'",
        "'<f8'",
        "'|O'",
        "'|V8'",
        "'<U1'",
        "'<M8[s]'",
        "[('a', '|O')]",
        "'|u1 ' * 9",
        "''",
        "None",
        "'<c16'",
    ]
    shape, descr = draw(st.sampled_from(shapes)), draw(st.sampled_from(types))
    order = draw(st.sampled_from(["False", "True", "1", "None"]))
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header += draw(st.sampled_from([b"\n", b"", b" " * 40 + b"\n", b"\x00"]))
    version = draw(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]))
    length = draw(st.sampled_from([len(header), len(header), len(header), 0, 65535]))
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", length)
    return b"\x93NUMPY" + version + size + header + bytes(draw(st.sampled_from([0, 2, 24, 192])))


@st.composite
def npz(draw: Draw) -> bytes:
    """An archive with an entry for frames, or with others, whose lengths may be lies."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for name in draw(
            st.lists(st.sampled_from(["frames.npy", "../frames.npy", "x", "frames"]), max_size=2, unique=True)
        ):
            archive.writestr(name, draw(npy()))
    data = bytearray(stream.getvalue())
    if draw(st.booleans()) and (place := data.find(b"PK\x01\x02")) >= 0:
        at = place + draw(st.sampled_from([8, 10, 16, 20, 24, 28, 42]))
        data[at : at + 4] = struct.pack("<I", draw(st.sampled_from([0, 1, 2**31, 2**32 - 1])))
    return bytes(data)


@st.composite
def tensor_file(draw: Draw, seal: Callable[[dict[str, Any], bytes], dict[str, str]]) -> bytes:
    """A safetensors file whose header says anything, sealed as its reader will see it where that can be told."""
    data = bytes(range(48))
    header: dict[str, Any] = {}
    start = 0
    for number in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["F32", "F16", "BF16", "U8", "I64", "BOOL", "F8_E4M3", "F4", "C64", "X", 3]))
        shape = draw(st.sampled_from([[4], [2, 2], [], [0], [16], [2**40], [-1], [2**62, 4], [1, 1, 1, 1, 4], "x"]))
        end = start + draw(st.sampled_from([16, 4, 1, 0, 2**40]))
        header[draw(st.sampled_from([f"t{number}", *TEXTS[:14]]))] = {
            "dtype": kind, "shape": shape, "data_offsets": [start, end],
        }  # fmt: skip
        start = end if end < 48 else start
    header["__metadata__"] = draw(
        st.sampled_from([{}, {"record": "[]"}, {"record": "[" * 3000}, {"a": 1}, None, [], {"checksum": "0"}])
    )
    if isinstance(header["__metadata__"], dict) and draw(st.booleans()):
        header["__metadata__"] = seal(header, data[:start])
    text = json.dumps(header).encode()
    length = draw(st.sampled_from([len(text)] * 6 + [0, 2**63, len(text) + 1]))
    return struct.pack("<Q", length) + text + data[:start]


def archive_of(frames: np.ndarray[Any, Any]) -> bytes:
    """Frames as SpikingJelly writes them."""
    stream = io.BytesIO()
    np.savez_compressed(stream, frames=frames)
    return stream.getvalue()
