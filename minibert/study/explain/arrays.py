"""Numbers for a page: float arrays as text, small and with three significant digits or more.

Each array is scaled by a power of two and rounded to float16, whose relative error is at most 1/2048. The high bytes of
all numbers come before the low ones, so that deflate finds the repeating exponents. The whole is written in base 85
with an alphabet that needs no escaping in HTML. page.js reads it back.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

# 85 printable characters without quotes, backslash, angle brackets and the ampersand.
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@[]^_{|}"[:85]


def pack(arrays: Mapping[str, Tensor]) -> tuple[dict[str, Any], int, str]:
    """The index of the arrays, name -> {at, shape, scale}; the bytes of the deflated numbers; and these as text.

    `at` counts numbers; a number of the array is the stored one times `scale`.
    """
    index: dict[str, Any] = {}
    parts: list[np.ndarray] = []
    at = 0
    for name, tensor in arrays.items():
        values = tensor.detach().double().cpu().numpy()
        most = float(np.abs(values).max(initial=0.0))
        scale = 2.0 ** (math.frexp(most)[1] - 15) if most else 1.0  # the largest becomes 16384 to 32768
        parts.append((values / scale).astype("<f2").ravel())
        index[name] = {"at": at, "shape": list(values.shape), "scale": scale}
        at += values.size
    bytes_of = np.concatenate(parts).view(np.uint8) if parts else np.empty(0, np.uint8)
    planes = bytes_of[1::2].tobytes() + bytes_of[0::2].tobytes()
    # Raw, as the browser's DecompressionStream reads it; repeated strings are chance here, frequent bytes are not.
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    deflated = compressor.compress(planes) + compressor.flush()
    return index, len(deflated), base85(deflated)


def base85(data: bytes) -> str:
    """Four bytes as five characters, the highest digit first; the last group is filled with zeros."""
    words = np.frombuffer(data + bytes(-len(data) % 4), dtype=">u4").astype(np.int64)
    digits = np.empty((len(words), 5), dtype=np.int64)
    for place in range(4, -1, -1):
        words, digits[:, place] = np.divmod(words, 85)
    return np.frombuffer(ALPHABET.encode(), dtype=np.uint8)[digits].tobytes().decode()


def png(levels: np.ndarray, colour: tuple[int, int, int]) -> bytes:
    """A picture of (height, width) numbers from 0 to 1: one colour, whose opacity is the number in 16 steps."""
    height, width = levels.shape
    steps = np.zeros((height, width + width % 2), np.uint8)
    steps[:, :width] = np.clip(np.rint(levels * 15), 0, 15)
    pairs = steps[:, 0::2] << 4 | steps[:, 1::2]  # two pixels a byte
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pairs], axis=1)  # each row begins with its filter, 0
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([4, 3, 0, 0, 0])
    chunks = {b"IHDR": header, b"PLTE": bytes(colour) * 16, b"tRNS": bytes(range(0, 256, 17))}
    chunks |= {b"IDAT": zlib.compress(rows.tobytes(), 9), b"IEND": b""}
    written = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        written += len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
    return written
