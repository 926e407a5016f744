"""Writes TensorFlow's checkpoints for tests, whole or with any fault, by the book and slowly."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

NUMBERS = {torch.float32: 1, torch.float64: 2, torch.int32: 3, torch.int64: 9, torch.bfloat16: 14, torch.float16: 19}
MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


def crc32c(raw: bytes) -> int:
    """Bit by bit, as in the definition."""
    register = 0xFFFFFFFF
    for byte in raw:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(raw: bytes) -> int:
    crc = crc32c(raw)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def varint(number: int) -> bytes:
    result = b""
    while number > 127:
        result += bytes([number % 128 + 128])
        number //= 128
    return result + bytes([number])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protobuf: numbers as varints, bytes with their length."""
    return b"".join(
        varint(8 * number) + varint(value)
        if isinstance(value, int)
        else varint(8 * number + 2) + varint(len(value)) + value
        for number, value in fields
    )


def entry(dtype: int, shape: Sequence[int], place: tuple[int, int], raw: bytes, /, **changes: Any) -> bytes:
    """A BundleEntryProto; `place` is (shard, offset), and `changes` replace what is true."""
    dimensions = message(*((2, message((1, size))) for size in changes.get("shape", shape)))
    fields = [
        *((1, changes.get("dtype", dtype)), (2, dimensions), (3, changes.get("shard", place[0]))),
        *((4, changes.get("offset", place[1])), (5, changes.get("size", len(raw)))),
    ]
    sum_of_values = varint(8 * 6 + 5) + struct.pack("<I", changes.get("crc", masked(raw)))
    return message(*fields) + sum_of_values + changes.get("more", b"")


def block(items: Sequence[tuple[bytes, bytes]], kind: int = 0, every: int = 16) -> bytes:
    """Keys without what they share with the one before; every 16th is whole."""
    body, places, last = b"", [], b""
    for number, (key, value) in enumerate(items):
        shared = 0
        if number % every == 0:
            places.append(len(body))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    body += struct.pack(f"<{len(places) + 1}I", *places, len(places)) + bytes([kind])
    return body + struct.pack("<I", masked(body))


def table(items: Sequence[tuple[bytes, bytes]], per_block: int = 1000, kind: int = 0) -> bytes:
    """The blocks, an empty one that nobody reads, the list of blocks, and the footer."""
    raw, handles = b"", []
    for start in range(0, len(items), per_block):
        part = block(items[start : start + per_block], kind)
        handles.append((items[start : start + per_block][-1][0], varint(len(raw)) + varint(len(part) - 5)))
        raw += part
    nothing, index = block([]), block(handles, every=1)
    footer = varint(len(raw)) + varint(len(nothing) - 5)
    footer += varint(len(raw) + len(nothing)) + varint(len(index) - 5)
    return raw + nothing + index + footer.ljust(40, b"\0") + MAGIC


def header(shards: int = 1, endianness: int = 0) -> bytes:
    return message((1, shards), (2, endianness), (3, message((1, 1))))


def write(
    prefix: Path,
    variables: Mapping[str, torch.Tensor],
    *,
    shards: int = 1,
    per_block: int = 1000,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """A checkpoint; `changes` says of a variable what the index shall say instead of the truth."""
    data = [b""] * shards
    items = [(b"", header(shards))]
    for number, name in enumerate(sorted(variables)):
        tensor = variables[name].contiguous()
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        place = (number % shards, len(data[number % shards]))
        lies = (changes or {}).get(name, {})
        items.append((name.encode(), entry(NUMBERS[tensor.dtype], tensor.shape, place, raw, **lies)))
        data[number % shards] += raw
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table(items, per_block))
    for number, raw in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{shards:05d}").write_bytes(raw)
    return prefix
