"""Cases: safetensors headers that lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.programs.hostile.case import (
    WEIGHTS,
    Case,
    Group,
    Spoil,
    Words,
    cut,
    edit_header,
    grow,
    open_model,
    refused,
    split_weights,
    write,
    write_weights,
)

BIAS = "classifier.bias"  # 3 values of F32
# The library maps the whole file into memory, which a cage of 200 MB has no room for.
NO_ROOM = Words("do not fit into memory")
NEEDS, STARTS = Words("its header needs"), Words("its header starts with")
END = Words("is not a whole safetensors file")


def header(name: str, change: Callable[[dict[str, Any]], object], key: str = BIAS) -> Case:
    """The header, changed as an object."""
    return Case(name, edit_header(change), refused(WEIGHTS, key))


def entry(name: str, key: str = Words("is not a whole safetensors file"), **changes: Any) -> Case:
    """Fields of one tensor of the header, changed; None takes a field away."""

    def change(tensors: dict[str, Any]) -> None:
        fields = {**tensors[BIAS], **changes}
        tensors[BIAS] = {field: value for field, value in fields.items() if value is not None}

    return header(name, change, key)


def text(name: str, change: Callable[[str], str | bytes], key: str) -> Case:
    """The header, changed as a text."""

    def spoil(folder: Path) -> None:
        content, body = split_weights(folder)
        write_weights(folder / WEIGHTS, change(json.dumps(content)), body)

    return Case(name, spoil, refused(WEIGHTS, key))


def raw(name: str, change: Callable[[bytes], bytes], key: str) -> Case:
    """The bytes of the whole file, changed."""

    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))

    return Case(name, spoil, refused(WEIGHTS, key))


def says_size(size: int) -> Callable[[bytes], bytes]:
    return lambda whole: size.to_bytes(8, "little") + whole[8:]


def move(by: int) -> Callable[[dict[str, Any]], None]:
    """Moves the place of one tensor, its length kept."""

    def change(tensors: dict[str, Any]) -> None:
        tensors[BIAS]["data_offsets"] = [at + by for at in tensors[BIAS]["data_offsets"]]

    return change


def ends(tensors: dict[str, Any]) -> dict[str, int]:
    """Where the bytes of each tensor end."""
    return {n: e["data_offsets"][1] for n, e in tensors.items() if n != "__metadata__"}


def without_the_last(tensors: dict[str, Any]) -> None:
    """Takes the tensor at the end of the file out of the header; its bytes are left over."""
    place = ends(tensors)
    tensors.pop(max(place, key=place.__getitem__))


def with_empty_tensors(tensors: dict[str, Any]) -> None:
    at = max(ends(tensors).values())
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [at, at]}
    tensors.update({f"x{number}": empty for number in range(25_000)})


def sparse(size: int) -> Spoil:
    """A file that says it is huge; no disk is taken."""

    def spoil(folder: Path) -> None:
        with open(folder / WEIGHTS, "r+b") as file:
            file.truncate(size)

    return spoil


def large_header(folder: Path) -> None:
    """A header of 100 MB, all of it blanks after the opening bracket."""
    grow(WEIGHTS, 100 * 2**20)(folder)
    with open(folder / WEIGHTS, "r+b") as file:
        file.write((100 * 2**20 - 8).to_bytes(8, "little") + b"{")


CUT = [
    Case(f"the first {kept} bytes alone", cut(WEIGHTS, kept), refused(WEIGHTS, NEEDS)) for kept in (0, 1, 7, 8, 9, 100)
]
SIZES = [
    raw(f"a header of {size} bytes", says_size(size), Words(f"its header needs {8 + size} bytes"))
    for size in (2**31, 2**63 - 1, 2**64 - 1)
]
DTYPES = [
    entry(f"a dtype {dtype!r}", dtype=dtype)
    for dtype in ("F33", "f32", "", "torch.float32", 32, ["F32"], {"F32": 1}, True)
]
SHAPES = [
    entry(f"a shape {shape!r:.40}", shape=shape)
    for shape in ([-3], [3.0], ["3"], [True, 3], 3, "3", {"3": 3}, [[3]], [2**64, 3], [10**300])
]
OFFSETS = [
    entry(f"data_offsets {offsets!r:.40}", data_offsets=offsets)
    for offsets in ([], [0], [0, 12, 24], [-12, 0], [0.0, 12.0], ["0", "12"], [0, 2**70])
]
METADATA = [
    header(f"__metadata__ {value!r}", lambda h, v=value: h.update(__metadata__=v), END)
    for value in ([], "pt", {"format": 1}, {"format": {"x": "pt"}}, {"format": None})
]
NESTED = '{"x":' * 100_000
NOT_AN_OBJECT = [text(f"the JSON {value} for a header", lambda _, v=value: v, STARTS) for value in ("[]", "1", '"x"')]

GROUPS = (
    Group(
        "header",
        open_model,
        [
            *CUT,
            Case("the last byte cut off", cut(WEIGHTS, -1), refused(WEIGHTS, END)),
            raw("a byte too many at the end", lambda whole: whole + b"\0", END),
            Case("a hole of 100 GB at the end", sparse(100 * 2**30), refused(WEIGHTS, NO_ROOM)),
            *SIZES,
            raw("a header of 0 bytes", says_size(0), STARTS),
            raw("a header one byte short", lambda w: says_size(w[0] + 256 * w[1] - 1)(w), END),
            raw("a header one byte long", lambda w: says_size(w[0] + 256 * w[1] + 1)(w), Words("Extra data")),
            Case("a header of 100 MB of blanks", large_header, refused(WEIGHTS, Words("104857592 bytes"))),
            Case("noise", write(WEIGHTS, bytes(range(256)) * 8), refused(WEIGHTS, NEEDS)),
            Case("nothing but zeros", write(WEIGHTS, bytes(4096)), refused(WEIGHTS, STARTS)),
            *NOT_AN_OBJECT,
            text("blanks before the header", lambda text: "  " + text, STARTS),
            text("a byte-order mark before the header", lambda text: "\ufeff" + text, STARTS),
            text("not UTF-8", lambda text: b'{"\xff":' + text.encode()[1:], Words("byte 0xff")),
            text("not JSON", lambda text: text.replace(":", "=", 1), Words("Expecting ':' delimiter")),
            text("text after the header", lambda text: text + "{}", Words("Extra data")),
            text("nested 100,000 deep", lambda text: NESTED + text, Words("while decoding a JSON object")),
            text("a number of 5,000 digits", lambda t: t.replace("12", "1" * 5000, 1), Words("Exceeds the limit")),
            text("a NaN in a shape", lambda text: text.replace("[3]", "[NaN]"), "shape"),
            text("a tensor twice", lambda text: text[:-1] + f', "{BIAS}": 1}}', BIAS),
            text("a field twice", lambda t: t.replace('"dtype":', '"dtype": "F16", "dtype":'), "dtype"),
            text("half a surrogate pair", lambda text: '{"\\ud800": 1,' + text[1:], "\ud800"),
            *METADATA,
            *DTYPES,
            *SHAPES,
            entry("a shape of 100,000 axes", shape=[1] * 100_000),
            entry("a shape that needs more bytes than it has", shape=[4]),
            entry("a shape that needs fewer bytes than it has", shape=[2]),
            entry("a dtype that needs more bytes than it has", dtype="F64"),
            *OFFSETS,
            entry("an end before the start", BIAS, data_offsets=[12, 0]),
            entry("no dtype", BIAS, dtype=None),
            entry("no shape", BIAS, shape=None),
            entry("no data_offsets", BIAS, data_offsets=None),
            entry("a field that nobody knows", BIAS, code="import os"),
            header("a list in place of a tensor", lambda h: h.update({BIAS: ["F32", [3], 0, 12]})),
            header("null in place of a tensor", lambda h: h.update({BIAS: None})),
            header("a tensor that overlaps the one before", move(-4)),
            header("a hole before a tensor", move(+4)),
            header("a tensor beyond the end", move(10**9), "classifier.weight"),
            header("two tensors in one place", lambda h: h.update(twin=dict(h[BIAS])), END),
            header("bytes at the end that belong to no tensor", without_the_last, END),
            header("no tensors", lambda h: [h.pop(n) for n in [*h]] and None, END),
            header("25,000 empty tensors", with_empty_tensors, "x0"),
        ],
    ),
)
