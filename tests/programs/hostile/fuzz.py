"""Mutants of good files: whatever they hold, only minibert's own errors may come out.

Every mutant is made from its target and number alone, so that one that crashed can be made again:
`write_mutant("header", 123, folder)`.
"""

from __future__ import annotations

import collections
import copy
import json
import math
import random
import re
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from minibert import BertForSequenceClassification, checkpoint
from minibert.io.files import write_json
from minibert.tokenizer import BertTokenizer
from tests.programs.hostile import cage
from tests.programs.hostile.case import CONFIG, INDEX, SETTINGS, TOKENIZER, VOCAB, WEIGHTS, remove, write_good_folder
from tests.programs.hostile.shards import shard

AT_ONCE = 200  # mutants for one child
SECONDS = 20  # for one mutant, a guard against hangs

# What a mutation puts in, beside bytes drawn at random: the edges of the formats that are read.
TOKENS = rb"""
{ } [ ] " : , \ / null true false NaN Infinity -Infinity 0 -0 -1 1e999 1e-999 0.5
2147483648 4294967296 9223372036854775807 18446744073709551616 99999999999999999999999999999999
"" "a" {} [] {"a":1} [1,2] [[[[[[[[ {"a":{"a":{"a": "__metadata__" "dtype" "shape" "data_offsets"
"F32" "F64" "I8" "BF16" "BOOL" "F8_E4M3" "model_type" "bert" "distilbert" "id2label" "label2id"
"num_labels" "weight_map" "../x.safetensors" "/etc/passwd" "added_tokens" "WordPiece" "BPE"
[UNK] [CLS] [SEP] [PAD] [MASK] ## \u0000 \ud800 \udfff
""".split()
VALUES = [None, True, False, 0, 1, -1, 2, 8, 22, 2**31, 2**40, 2**63, 10**300, 0.5, 1e-300, 1e300]
VALUES += [math.nan, math.inf, "", "a", "bert", "distilbert", "F16", "I64", "gelu", "\0", "\ud800"]
VALUES += [[], {}, [[]], [0], [3], [0, 12], {"0": "a"}, {"a": 0}, {"a": {"a": []}}, "x" * 10_000]
STRINGS = ["", "a", "0", "__metadata__", "dtype", "dim", "n_layers", "vocab_size", "[UNK]", "\x1b[2J"]
TOKENS += [b"\0", b"\n", b"\r\n", b"\x1b[2J", b"\xff", b"\xef\xbb\xbf", "\u2028\u0301".encode()]


@dataclass(frozen=True)
class Target:
    """A file of the good folder, what is done to the folder first, and what opens it."""

    file: str
    open: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda folder: None


def use_model(folder: Path) -> None:
    """Opens a model, and if it opens, runs it and writes its config, of which all is kept."""
    model = BertForSequenceClassification.from_pretrained(folder)
    model(torch.tensor([[2, 5, 6, 3]]))  # (B, S)
    write_json(folder / "again.json", checkpoint.official_config(model))


def use_tokenizer(folder: Path) -> None:
    """Opens a tokenizer, and if it opens, cuts texts."""
    BertTokenizer.from_pretrained(folder)(["the good film!", ""], padding="max_length")


TARGETS = {
    "header": Target(WEIGHTS, use_model),
    "config": Target(CONFIG, use_model),
    "positions": Target(CONFIG, use_tokenizer),  # what a tokenizer takes from config.json
    "index": Target(INDEX, use_model, shard),
    "vocabulary": Target(VOCAB, use_tokenizer, remove(TOKENIZER)),
    "tokenizer": Target(TOKENIZER, use_tokenizer),
    "settings": Target(SETTINGS, use_tokenizer),
}


def run(count: int) -> Iterator[tuple[str, collections.Counter[str], list[str]]]:
    """Tries `count` mutants, as many of each target: what came out, and what should not have."""
    for target in TARGETS:
        kinds: collections.Counter[str] = collections.Counter()
        crashes: list[str] = []
        numbers = range(count // len(TARGETS) + (target == "header") * (count % len(TARGETS)))
        for start in numbers[::AT_ONCE]:
            part = numbers[start : start + AT_ONCE]
            answer = cage.in_child(lambda target=target, part=part: _try(target, part))
            if answer is None:
                crashes.append(f"a child that tried {target} {part} died")
            else:
                kinds.update(answer[0])
                crashes += answer[1]
        yield target, kinds, crashes


def write_mutant(target: str, number: int, folder: Path) -> None:
    """Makes the folder that holds a mutant, to look into one that crashed."""
    path, good = _prepared(target, folder)
    path.write_bytes(_mutated(target, number, good))


def _prepared(target: str, folder: Path) -> tuple[Path, bytes]:
    """A good folder, as it is before the target's file is mutated; that file and its content."""
    write_good_folder(folder)
    TARGETS[target].prepare(folder)
    path = folder / TARGETS[target].file
    return path, path.read_bytes()


def _try(target: str, numbers: range) -> tuple[dict[str, int], list[str]]:
    kinds: collections.Counter[str] = collections.Counter()
    crashes = []
    signal.signal(signal.SIGALRM, _hang)
    with tempfile.TemporaryDirectory() as temporary, cage.silence():
        folder = Path(temporary, "model")
        path, good = _prepared(target, folder)
        cage.limit_memory()
        for number in numbers:
            path.write_bytes(_mutated(target, number, good))
            signal.alarm(SECONDS)
            with warnings.catch_warnings(record=True):
                result = cage.attempt(lambda: TARGETS[target].open(folder))
            signal.alarm(0)
            kinds.update([result.kind])
            if result.kind == "crash":
                crashes.append(f"{target} {number}: {result.text}")
    return kinds, crashes


def _hang(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def _mutated(target: str, number: int, content: bytes) -> bytes:
    """One to four mutations of a file; of a safetensors file, mostly of its header alone."""
    draw = random.Random(f"{target} {number}")
    size = int.from_bytes(content[:8], "little")
    whole = target != "header" or draw.random() < 0.2
    part = content if whole else content[8 : 8 + size]
    if part.startswith(b"{") and draw.random() < 0.5:
        part = _edit(draw, part)
    else:
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            part = draw.choice(_MUTATIONS)(draw, part)
    return part if whole else len(part).to_bytes(8, "little") + part + content[8 + size :]


def _edit(draw: random.Random, raw: bytes) -> bytes:
    """Mutations that leave the JSON whole: values replaced, keys renamed, dropped or moved."""
    value = json.loads(raw)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place = value
        while True:
            keys = [*place] if isinstance(place, dict) else [*range(len(place))]
            key = draw.choice(keys) if keys else None
            inner = place[key] if key is not None else None
            if not isinstance(inner, (dict, list)) or draw.random() < 0.3:
                break
            place = inner
        if key is None:
            continue
        what = draw.choice(("replace", "replace", "near", "drop", "rename", "copy"))
        if what == "drop":
            del place[key]
        elif what == "rename" and isinstance(place, dict):
            place[draw.choice(STRINGS)] = place.pop(key)
        elif what == "copy" and isinstance(place, dict):
            place[key] = place[draw.choice(keys)]
        elif what == "near" and isinstance(inner, (int, float)):
            place[key] = draw.choice((inner + 1, inner - 1, -inner, float(inner), str(inner)))
        else:
            place[key] = copy.deepcopy(draw.choice(VALUES))
    return json.dumps(value).encode()


def _flip(draw: random.Random, raw: bytes) -> bytes:
    """One to eight bits."""
    result = bytearray(raw)
    for _ in range(draw.randint(1, 8) if raw else 0):
        result[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    return bytes(result)


def _cut(draw: random.Random, raw: bytes) -> bytes:
    """A piece taken out, or all from a place on."""
    start, end = _span(draw, raw)
    return raw[:start] + (raw[end:] if draw.random() < 0.7 else b"")


def _splice(draw: random.Random, raw: bytes) -> bytes:
    """A piece put in again elsewhere, perhaps many times."""
    start, end = _span(draw, raw)
    at = draw.randint(0, len(raw))
    return raw[:at] + raw[start:end] * draw.choice((1, 1, 2, 50)) + raw[at:]


def _insert(draw: random.Random, raw: bytes) -> bytes:
    """A token of the formats put in, or in the place of a value."""
    token = draw.choice(TOKENS)
    values = [match.span() for match in _VALUE.finditer(raw)]
    if values and draw.random() < 0.7:
        start, end = draw.choice(values)
        return raw[:start] + token + raw[end:]
    at = draw.randint(0, len(raw))
    return raw[:at] + token + raw[at:]


def _swap(draw: random.Random, raw: bytes) -> bytes:
    """Two values, such as numbers or names, in each other's place."""
    values = [match.span() for match in _VALUE.finditer(raw)]
    if len(values) < 2:
        return raw
    (start, end), (start2, end2) = sorted(draw.sample(values, 2))
    return raw[:start] + raw[start2:end2] + raw[end:start2] + raw[start:end] + raw[end2:]


def _double(draw: random.Random, raw: bytes) -> bytes:
    """A key and its value, or a line, there twice."""
    pairs = [match.span() for match in _PAIR.finditer(raw)]
    if not pairs:
        return raw
    start, end = draw.choice(pairs)
    separator = b"\n" if raw[start:end].endswith(b"\n") else b","
    return raw[:end] + separator.strip() + raw[start:end] + raw[end:]


def _span(draw: random.Random, raw: bytes) -> tuple[int, int]:
    start = draw.randint(0, len(raw))
    return start, min(len(raw), start + int(draw.expovariate(1 / 20)) + 1)


_MUTATIONS = (_flip, _cut, _splice, _insert, _swap, _double)
_VALUE = re.compile(rb'"[^"]{0,200}"|-?[0-9][0-9.e+-]*|true|false|null|(?<=\n)[^"\n]+(?=\n)')
_PAIR = re.compile(rb'"[^"]{1,200}"\s*:\s*("[^"]*"|[\w.-]+|\[[^\]]*\]|\{[^}]*\})|[^"\n]+\n')
