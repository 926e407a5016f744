"""A case: what is done to a good folder, and what has to come of opening it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from minibert import BertConfig, BertForSequenceClassification
from minibert.io.tokenizer_files import SPECIAL_TOKENS
from minibert.tokenizer import BertTokenizer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
VOCAB, TOKENIZER, SETTINGS = "vocab.txt", "tokenizer.json", "tokenizer_config.json"

PIECES = (*SPECIAL_TOKENS, *"abcdefgh", "##a", "##b", "##ing", "the", "film", "good", "bad", "!")


class Words(str):
    """What a message has to say beside path and hint, where the key of the error is not enough."""


@dataclass(frozen=True)
class Outcome:
    """What has to come of it.

    Attributes:
        kind: "error", "warning" or "loaded".
        file: what the message has to name, and the path of the error to end in.
        key: the key of the error, to the letter; `Words` and the key of a warning are looked for in
            the message.
    """

    kind: str
    file: str = ""
    key: str = ""


def refused(file: str, key: str) -> Outcome:
    """An error of minibert's own about the file and the key."""
    return Outcome("error", file, key)


def warned(file: str, key: str) -> Outcome:
    """The folder opens, with a warning that names the file and the key."""
    return Outcome("warning", file, key)


LOADED = Outcome("loaded")


@dataclass(frozen=True)
class Case:
    """One folder.

    Attributes:
        name: what is wrong with it.
        spoil: does it to a good folder; may return another folder to open in its place.
        outcome: what has to come of it.
    """

    name: str
    spoil: Callable[[Path], Path | None]
    outcome: Outcome


@dataclass(frozen=True)
class Group:
    """Cases that are opened by the same function."""

    name: str
    open: Callable[[Path], object]
    cases: Sequence[Case] = field(repr=False)


def open_model(folder: Path) -> object:
    return BertForSequenceClassification.from_pretrained(folder)


def open_tokenizer(folder: Path) -> object:
    return BertTokenizer.from_pretrained(folder)


def write_good_folder(folder: Path) -> None:
    """A three-class model with D 8, L 2, N 2, F 12, 16 positions, and its tokenizer."""
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=16,
        id2label={0: "cold", 1: "mild", 2: "hot"},
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    vocabulary = {piece: number for number, piece in enumerate(PIECES)}
    BertTokenizer(vocabulary, max_length=16).save_pretrained(folder)


# What cases do to a folder: each call returns a function for `Case.spoil`.

Spoil = Callable[[Path], None]


def both(*steps: Callable[[Path], object]) -> Spoil:
    """One step after the other."""

    def spoil(folder: Path) -> None:
        for step in steps:
            step(folder)

    return spoil


def remove(*files: str) -> Spoil:
    return lambda folder: [(folder / file).unlink() for file in files] and None


def write(file: str, content: str | bytes) -> Spoil:
    raw = content if isinstance(content, bytes) else content.encode("utf-8")
    return lambda folder: (folder / file).write_bytes(raw) and None


def cut(file: str, kept: int) -> Spoil:
    """Keeps the first bytes of a file; a negative number cuts that many from its end."""
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:kept]) and None


def replace(file: str, old: str, new: str) -> Spoil:
    """Replaces the first occurrence of a text that has to be there."""

    def spoil(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text, f"{file} has no {old!r}"
        (folder / file).write_bytes(text.replace(old, new, 1).encode("utf-8", "surrogatepass"))

    return spoil


def grow(file: str, size: int, byte: bytes = b" ") -> Spoil:
    """Makes a file of `size` equal bytes, written a piece at a time."""

    def spoil(folder: Path) -> None:
        with open(folder / file, "wb") as out:
            for start in range(0, size, 2**20):
                out.write(byte * min(2**20, size - start))

    return spoil


def edit_json(file: str, change: Callable[[Any], object]) -> Spoil:
    """Changes the object that is in a JSON file."""

    def spoil(folder: Path) -> None:
        value = json.loads((folder / file).read_text(encoding="utf-8"))
        change(value)
        (folder / file).write_text(json.dumps(value), encoding="utf-8")

    return spoil


def set_json(file: str, values: Mapping[str, Any]) -> Spoil:
    """Sets keys at the top of a JSON file."""
    return edit_json(file, lambda value: value.update(values))


def split_weights(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The header of model.safetensors as an object, and the bytes after it."""
    raw = (folder / WEIGHTS).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + size]), raw[8 + size :]


def write_weights(path: Path, header: Mapping[str, Any] | str | bytes, body: bytes) -> None:
    """A safetensors file, with whatever is said to be its header."""
    text = header if isinstance(header, (str, bytes)) else json.dumps(header)
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + body)


def edit_header(change: Callable[[dict[str, Any]], object]) -> Spoil:
    """Changes the header of model.safetensors; the bytes after it stay."""

    def spoil(folder: Path) -> None:
        header, body = split_weights(folder)
        change(header)
        write_weights(folder / WEIGHTS, header, body)

    return spoil
