"""TensorFlow's checkpoints, read without TensorFlow: an index of variables, and their bytes.

BERT was published in this form, the "tensor bundle". Its files share a prefix, `bert_model.ckpt`:

* `PREFIX.index` is a table in LevelDB's format (LevelDB, doc/table_format.md): blocks of sorted
  keys, of which each stores only what differs from the start of the one before; a block that lists
  the blocks; and a footer of 48 bytes, which says where that block is and ends in a magic number.
  After each block comes a byte for its compression and a masked CRC-32C (RFC 3720, B.4) of both.
  The values are protobufs (tensorflow/core/protobuf/tensor_bundle.proto): under the empty key a
  BundleHeaderProto, under each variable's name a BundleEntryProto.
* `PREFIX.data-00000-of-00001`, and further ones, hold the values, little-endian and row by row.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from minibert.io.errors import CheckpointError
from minibert.io.files import inside, size_of_file
from minibert.io.shards import DTYPES

INDEX = ".index"
_FILES = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")  # what follows a prefix

_LARGEST_INDEX = 2**20  # bytes; BERT-large's, with two slots of Adam for each variable, has 80 KB
_LONGEST_NAME = 250  # bytes; a block can make much of little by repeating a long one
_LARGEST_RATIO = 100  # of a file to its form in a zip; weights hardly shrink, and zeros do 1,000 times

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5  # bytes at the end of the index, and after each block
_COMPRESSIONS = {1: "Snappy", 2: "Zstandard"}

# DataType of tensorflow/core/framework/types.proto -> safetensors' name.
_DTYPES = {1: "F32", 2: "F64", 3: "I32", 9: "I64", 10: "BOOL", 14: "BF16", 19: "F16"}


class Package:
    """The files of a folder, or of a zip archive that is read where it is: nothing is unpacked.

    Attributes:
        path: the folder or archive.
        sizes: name -> bytes, of files in the folder and in those one level below, or in the archive.

    Raises:
        CheckpointError: also from its methods: a file cannot be read, leads out of the folder, is
            encrypted, or is one that a few bytes of an archive would fill the memory with.
    """

    def __init__(self, path: Path):
        self.path = path
        with _reading(path):
            if path.is_dir():
                files = [*path.glob("*"), *path.glob("*/*")]
                self.sizes = {
                    file.relative_to(path).as_posix(): file.stat().st_size for file in files if file.is_file()
                }
            else:
                with zipfile.ZipFile(path) as archive:
                    self.sizes = {info.filename: info.file_size for info in archive.infolist()}

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file of the package, to read."""
        path = self.path / name
        with _reading(path):
            if self.path.is_dir():
                size_of_file(inside(self.path, name))  # a plain file of this folder
                with path.open("rb") as file:
                    yield file
                return
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(name)
                if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    how = "encrypted" if info.flag_bits & 1 else f"compressed by method {info.compress_type}"
                    raise CheckpointError(f"{path} is {how}.", path=path, key=name, hint="Unpack the archive first.")
                if info.file_size > _LARGEST_RATIO * max(info.compress_size, 2**10):
                    sizes = f"{info.file_size:,} bytes from {info.compress_size:,}"
                    raise CheckpointError(f"{path} would unpack to {sizes}, as weights never do.", path=path, key=name)
                with archive.open(info) as file:
                    yield file

    def read(self, name: str, largest: int = _LARGEST_INDEX) -> bytes:
        """A small file as a whole."""
        path = self.path / name
        with self.open(name) as file:
            raw = file.read(largest + 1)
        if len(raw) > largest:
            raise CheckpointError(f"{path} has more than {largest} bytes.", path=path, key=name)
        return raw


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    # zipfile and zlib answer a damaged archive with any of these.
    unreadable = (
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        MemoryError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    )
    try:
        yield
    except unreadable as problem:
        what = getattr(problem, "strerror", None) or problem or type(problem).__name__
        raise CheckpointError(f"{path} could not be read: {what}.", path=path) from problem


@dataclass(frozen=True)
class Variable:
    """What the index says of one variable: its type and shape, the place of its bytes, their sum."""

    dtype: str  # as safetensors writes it
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: bool  # it is stored in parts, under other keys


class TensorBundle:
    """A checkpoint whose index has been read.

    Args:
        package: the files.
        prefix: what their names begin with, such as "uncased_L-12_H-768_A-12/bert_model.ckpt".

    Attributes:
        path: the index, for messages.
        variables: name -> Variable.

    Raises:
        CheckpointError: the index is damaged, or says what it cannot: the message names what.
    """

    def __init__(self, package: Package, prefix: str):
        self.package, self.prefix = package, prefix
        self.path = package.path / f"{prefix}{INDEX}"
        raw = package.read(f"{prefix}{INDEX}")
        try:
            self._shards, self.variables = _parse(raw)
        except ValueError as problem:
            raise self._damaged(str(problem), None) from problem

    @property
    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of each variable, as `shards.stored_shapes` gives those of safetensors."""
        return {name: (variable.shape, variable.dtype) for name, variable in self.variables.items()}

    def read(self, names: Collection[str], progress: bool = False) -> dict[str, torch.Tensor]:
        """Variables of floating-point types, as they are stored, each held against its sum.

        Raises:
            CheckpointError: a shard is missing or too short, or a variable's bytes are damaged.
        """
        chosen = sorted(names, key=lambda name: (self.variables[name].shard, self.variables[name].offset))
        self._check_places(chosen)
        total = sum(self.variables[name].size for name in chosen)
        result = {}
        with tqdm(total=total, desc="reading", unit="B", unit_scale=True, disable=None if progress else True) as bar:
            for shard in sorted({self.variables[name].shard for name in chosen}):
                with self.package.open(self._shard(shard)) as file:
                    for name in chosen:
                        if self.variables[name].shard == shard:
                            result[name] = self._read_one(file, name)
                            bar.update(self.variables[name].size)
        return result

    def _read_one(self, file: Any, name: str) -> torch.Tensor:
        variable = self.variables[name]
        raw = bytearray(variable.size)
        file.seek(variable.offset)
        if file.readinto(raw) < variable.size or _masked(crc32c(raw)) != variable.crc:
            raise self._damaged(f"the values of {name} do not add up to their checksum", name)
        return torch.frombuffer(raw, dtype=getattr(torch, DTYPES[variable.dtype])).reshape(variable.shape)

    def _shard(self, number: int) -> str:
        return f"{self.prefix}.data-{number:05d}-of-{self._shards:05d}"

    def _check_places(self, names: Collection[str]) -> None:
        """Each variable lies inside a shard that is there, after the one before it, and fits its shape."""
        shard, end = -1, 0
        for name in names:
            variable = self.variables[name]
            place = self._shard(variable.shard)
            if variable.size != prod(variable.shape) * getattr(torch, DTYPES[variable.dtype]).itemsize:
                what = f"{name} is {variable.dtype} {variable.shape} and has {variable.size} bytes"
                raise self._damaged(what, name)
            if place not in self.package.sizes:
                raise self._damaged(f"{name} is in {place}, which is not there", name)
            if variable.offset < (end if variable.shard == shard else 0):
                raise self._damaged(f"{name} begins at byte {variable.offset}, inside another variable", name)
            shard, end = variable.shard, variable.offset + variable.size
            if end > self.package.sizes[place]:
                what = f"{name} ends at byte {end} of {place}, which has {self.package.sizes[place]}"
                raise self._damaged(what, name)

    def _damaged(self, what: str, name: str | None) -> CheckpointError:
        message = f"{self.path} cannot be read as a TensorFlow checkpoint: {what}."
        return CheckpointError(message, path=self.path, key=name, hint="Download it again, and unpack it again.")


def find(source: str | Path) -> tuple[Package, str]:
    """The files of a checkpoint and their prefix.

    Args:
        source: a folder or zip archive that holds one checkpoint, in itself or in a folder inside;
            or the prefix of a checkpoint or one of its files.

    Raises:
        CheckpointError: there is none, or several; or the archive is damaged.
    """
    path = Path(source).expanduser()
    given = _FILES.sub("", path.name)
    if path.with_name(f"{given}{INDEX}").is_file():
        return Package(path.parent), given
    if not path.exists():
        raise CheckpointError(
            f"There is no {path}, and no {path.with_name(given)}{INDEX}.",
            path=path,
            hint="Name the archive or folder of a TensorFlow checkpoint, or the prefix of its files.",
        )
    package = Package(path)
    names = [Path(name) for name in package.sizes if name.endswith(INDEX)]
    found = [str(name.as_posix()).removesuffix(INDEX) for name in names if not name.name.startswith("._")]  # macOS
    if len(found) == 1:
        return package, found[0]
    fault, hint = f"{path} holds no TensorFlow checkpoint: no file of it ends in {INDEX}.", None
    if found:
        fault, hint = (
            f"{path} holds {len(found)} checkpoints: {', '.join(sorted(found))}.",
            f"Name one: {path / found[-1]}",
        )
    raise CheckpointError(fault, path=path, key=INDEX, hint=hint)


# The table. A ValueError says what is wrong with it.


def _parse(raw: bytes) -> tuple[int, dict[str, Variable]]:
    """The number of shards, and the variables."""
    if len(raw) < _FOOTER or int.from_bytes(raw[-8:], "little") != _MAGIC:
        raise ValueError("it does not end in the magic number of a table")
    handles = raw[-_FOOTER:-8]
    place = 0
    for _ in range(3):  # offset and size of a block that nobody uses, and the offset of the index
        offset, place = _varint(handles, place)
    size, _ = _varint(handles, place)
    values: dict[bytes, bytes] = {}
    last = None
    for _, handle in _block(raw, offset, size):
        start, place = _varint(handle, 0)
        for key, value in _block(raw, start, _varint(handle, place)[0]):
            if last is not None and key <= last:
                raise ValueError(f"the key {key!r} follows {last!r}, and keys are sorted")
            last, values[key] = key, value
    if b"" not in values:
        raise ValueError("it has no header")
    header = _message(values.pop(b""))
    if _number(header, 2):
        raise ValueError("its values are big-endian, and only little-endian ones are read")
    variables = {key.decode(errors="backslashreplace"): _variable(value) for key, value in values.items()}
    for name, variable in variables.items():
        if variable.slices:
            raise ValueError(f"{name} is stored in slices, as partitioned variables are")
    return _number(header, 1), variables


def _block(raw: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    end = offset + size
    if end + _TRAILER > len(raw) - _FOOTER:
        raise ValueError(f"a block ends at byte {end} of {len(raw)}")
    kind, stored = struct.unpack_from("<BI", raw, end)
    if _masked(crc32c(raw[offset : end + 1])) != stored:
        raise ValueError(f"the block at byte {offset} does not add up to its checksum")
    if kind:
        raise ValueError(f"it is compressed ({_COMPRESSIONS.get(kind, kind)}), as TensorFlow's savers do not")
    # At the end: places where a key is stored in full, for a search, and how many there are.
    places = int.from_bytes(raw[end - 4 : end], "little")
    if 4 * (1 + places) > size:
        raise ValueError(f"the block at byte {offset} has no room for {places} places")
    body = raw[offset : end - 4 * (1 + places)]
    key, place = b"", 0
    while place < len(body):
        shared, place = _varint(body, place)
        own, place = _varint(body, place)
        length, place = _varint(body, place)
        if shared > len(key) or shared + own > _LONGEST_NAME or place + own + length > len(body):
            raise ValueError(f"a key of the block at byte {offset} has impossible lengths")
        key = key[:shared] + body[place : place + own]
        place += own + length
        yield key, body[place - length : place]


# Protobufs (protobuf.dev, "Encoding"): fields by their numbers.


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in a byte, and the place after it."""
    value = 0
    for count, byte in enumerate(raw[place : place + 10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80 and value < 2**64:
            return value, place + count + 1
    raise ValueError("a number has no end, or more than 64 bits")


def _message(raw: int | bytes) -> dict[int, list[int | bytes]]:
    """Field number -> its values."""
    if isinstance(raw, int):
        raise ValueError("a number is in the place of a message")
    fields: dict[int, list[int | bytes]] = {}
    place = 0
    while place < len(raw):
        value: int | bytes
        tag, place = _varint(raw, place)
        size = {1: 8, 5: 4}.get(tag & 7, 0)
        if tag & 7 == 0:
            value, place = _varint(raw, place)
        else:
            if tag & 7 == 2:
                size, place = _varint(raw, place)
            elif not size:
                raise ValueError(f"a field is of the unknown kind {tag & 7}")
            place += size
            if place > len(raw):
                raise ValueError("a field is longer than its message")
            value = raw[place - size : place]
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(fields: dict[int, list[int | bytes]], field: int) -> int:
    """The whole number in a field, 0 if it is left out; one of a fixed size is stored as bytes."""
    value = fields.get(field, [0])[-1]
    return value if isinstance(value, int) else int.from_bytes(value, "little")


def _variable(raw: bytes) -> Variable:
    """A BundleEntryProto."""
    fields = _message(raw)
    shape = _message(fields.get(2, [b""])[-1])  # a TensorShapeProto: dimensions, or that it has none
    number = _number(fields, 1)
    return Variable(
        dtype=_DTYPES.get(number, f"type {number} of TensorFlow"),
        shape=tuple(_number(_message(dimension), 1) for dimension in shape.get(2, ())),
        shard=_number(fields, 3),
        offset=_number(fields, 4),
        size=_number(fields, 5),
        crc=_number(fields, 6),
        slices=7 in fields,
    )


# Sums. A CRC is the remainder of a division of polynomials over bits, so numbers add by xor.

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, the lowest power in the highest bit


def crc32c(raw: bytes | bytearray) -> int:
    """The CRC-32C of bytes. Long ones are folded first, many words at a time: 1.4 GB a second."""
    data, register = np.frombuffer(raw, np.uint8), 0xFFFFFFFF
    for words in (2**14, 2**6):
        data, register = _fold(data, words, register)
    table = _moved(8)[0][:256].tolist()
    for byte in data.tolist():
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


def _fold(data: np.ndarray, words: int, register: int) -> tuple[np.ndarray, int]:
    """Shorter bytes with the same remainder: rows of words, each moved to the last row and added to it."""
    count = data.size // (4 * words)
    if count < 2:
        return data, register
    rows = data[: 4 * words * count].view("<u4").reshape(count, words)
    low, high = _moved(32 * words)
    total = rows[0].copy()
    total[0] ^= register
    for row in rows[1:]:
        halves = total.view("<u2")
        total = low[halves[0::2]] ^ high[halves[1::2]] ^ row
    return np.concatenate([total.view(np.uint8), data[rows.nbytes :]]), 0


@cache
def _moved(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The remainder of every lower and every upper half of 32 bits with zero bits (a power of 2) after it."""
    one_bit = [_POLYNOMIAL, *(1 << bit for bit in range(31))]
    images = np.array(one_bit, np.uint32)  # of the numbers 1, 2, 4, ...
    low, high = _sums(images[:16]), _sums(images[16:])
    while bits > 1:
        images = low[images & 0xFFFF] ^ high[images >> 16]
        low, high = _sums(images[:16]), _sums(images[16:])
        bits //= 2
    return low, high


def _sums(images: np.ndarray) -> np.ndarray:
    """The sum of every subset of 16 numbers, by the bits of its index."""
    table = np.zeros(1, np.uint32)
    for image in images:
        table = np.concatenate([table, table ^ image])
    return table


def _masked(crc: int) -> int:
    """As stored: a CRC of bytes that hold their own CRC would be a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
