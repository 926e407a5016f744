"""Odd text: any str is read as the plain algorithm reads it or refused by row, in bounded time.

Full form (a million characters of more kinds): pytest -m full tests/lesson/test_odd_text.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from minibert.data import Dataset, Example, TaggedExample
from minibert.io.errors import DataError, InputError, TokenizerError
from minibert.io.text_input import MOST_CHARACTERS
from minibert.tokenizer import BertTokenizer
from minibert.wordpiece import WordPiece
from tests.conftest import refused

# What is accepted, and how many tokens it has with [CLS] and [SEP]

ACCEPTED = {
    "nothing": ("", 2),
    "a space": (" ", 2),
    "tabs and line feeds": ("\t\n\r\n", 2),
    "NUL": ("\0", 2),
    "NUL inside a word": ("go\0od", 3),
    "control characters": ("a\x01\x1b[31mb\x7f", 6),
    "C1 controls": ("a\x85\x9fb", 3),
    "byte-order mark": ("\ufeffgood", 3),
    "the other byte order": ("\ufffegood", 3),
    "replacement character": ("\ufffd", 2),
    "zero-width space": ("go\u200bod", 3),
    "zero-width joiners": ("\u200d\u200c\u200d", 2),
    "soft hyphen": ("go\u00adod", 3),
    "right-to-left override": ("\u202egood\u202c", 3),
    "no-break and ideographic space": ("good\u00a0film\u3000day", 5),
    "line and paragraph separators": ("good\u2028film\u2029day", 5),
    "accents alone": ("\u0301\u0302\u0303", 2),
    "accents in a heap": ("g\u0301\u0302\u0303\u0304ood" * 3, 5),
    "composed and decomposed": ("caf\u00e9 cafe\u0301", 4),
    "emoji": ("\U0001f600", 3),
    "a family of emoji": ("\U0001f468\u200d\U0001f469\u200d\U0001f467", 3),
    "flags": ("\U0001f1e9\U0001f1ea", 3),
    "keycap": ("1\ufe0f\u20e3", 3),
    "private use": ("\ue000\U000f0000", 2),
    "no character": ("\U0010ffff", 3),
    "unassigned": ("\u0378", 3),
    "Arabic": ("\u0645\u0631\u062d\u0628\u0627", 7),
    "Hebrew with points": ("\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd", 6),
    "Hindi": ("\u0928\u092e\u0938\u094d\u0924\u0947", 6),
    "Thai": ("\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", 3),
    "Korean": ("\uc548\ub155", 8),
    "Japanese": ("\u65e5\u672c\u3067\u3059", 6),
    "Chinese beyond 16 bits": ("\U00020000\U0002a6d0", 4),
    "capital dotted i": ("\u0130STANBUL", 3),
    "ligature and sharp s": ("\ufb01lm stra\u00dfe", 6),
    "mathematical letters": ("\U0001d4d0\U0001d4d1", 3),
    "several scripts in a word": ("g\u043e\u03bfd", 6),
    "a word of 101 letters": ("a" * 101, 3),
    "only punctuation": ("!?" * 50, 102),
    "ASCII signs": ("a$b^c`d~e", 11),
    "a subclass of str": (np.str_("good"), 3),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_odd_text_is_read_as_by_hand(uncased, name):
    text, count = ACCEPTED[name]
    (row,) = uncased.encode(text)
    pieces = WordPiece(uncased.vocabulary)(text)
    assert row.tokens[1:-1] == [piece.token for piece in pieces]
    assert row.offsets[1:-1] == [(piece.start, piece.end) for piece in pieces]
    assert len(row.input_ids) == count
    assert uncased.encode([[text]], words=True)[0].input_ids == row.input_ids


REFUSED = {
    "first half of a pair": ("ab\ud83d", "U+D83D) at character 2"),
    "second half of a pair": ("\ude00ab", "U+DE00) at character 0"),
    "halves in the wrong order": ("\ude00\ud83d", "U+DE00) at character 0"),
    "bytes that are not UTF-8": (b"a\xff".decode("utf-8", "surrogateescape"), "U+DCFF"),
    "None": (None, "None"),
    "a number": (3, "3"),
    "true": (True, "True"),
    "not a number": (float("nan"), "nan"),
    "bytes": (b"good", "b'good'"),
    "a list": (["good"], "list"),
    "an object": ({"text": "good"}, "dict"),
    "an array": (np.array("good"), "ndarray"),
    "a tensor": (torch.tensor(1), "Tensor"),
    "a path": (Path("good"), "Path"),
    "a million and one characters": ("a" * (MOST_CHARACTERS + 1), "1000001"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_its_row(uncased, name):
    value, named = REFUSED[name]
    for arguments in ((["fine", value],), (["fine", "fine"], ["fine", value])):
        with refused(DataError, "1") as error:
            uncased(*arguments)
        assert named in str(error.value) and len(str(error.value)) < 400
    with refused(DataError, "1"):
        Dataset([Example("fine"), Example(value)], uncased)
    if name != "a list":
        with refused(DataError, "0"):
            uncased(value)


def test_words_that_are_not_text_name_their_row(uncased):
    for words, named in (
        (["a", None], "a sequence of words"),
        (["a", "\ud83d"], "U+D83D) at character 2"),
        (["a"] * 600_000, "1199999"),
        (None, "a sequence of words"),
    ):
        with refused(DataError, "1") as error:
            uncased.encode([["fine"], words], words=True)
        assert named in str(error.value)
        with refused(DataError, "1"):
            Dataset([TaggedExample(("fine",)), TaggedExample(words)], uncased)


def test_ids_out_of_range(uncased):
    for number in (-1, 2**32):
        with refused(InputError, "input_ids"):
            uncased.decode([101, number])
        with refused(InputError, "input_ids"):
            uncased.tokens([101, number])


# Special tokens in the text of a user


def mask_and_sep(tokenizer: BertTokenizer, ids: list[int]) -> list[int]:
    return [number for number in ids[1:-1] if number in (tokenizer.mask_id, tokenizer.sep_id)]


@pytest.fixture
def careful(tmp_path, uncased) -> BertTokenizer:
    """As the official one, with the choice in its settings, where transformers has it too."""
    uncased.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["split_special_tokens"] is False
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "split_special_tokens": True}))
    return BertTokenizer.from_pretrained(tmp_path)


TEXT = "good [SEP] bad [MASK]"


def test_special_tokens_count_in_a_text_by_default(uncased):
    ids = uncased.encode(TEXT)[0].input_ids
    assert mask_and_sep(uncased, ids) == [uncased.sep_id, uncased.mask_id]


def test_one_call_can_read_them_as_text(uncased):
    ids = uncased.encode(TEXT, split_special_tokens=True)[0].input_ids
    assert mask_and_sep(uncased, ids) == []
    assert uncased.tokens(ids)[2:5] == ["[", "sep", "]"]
    both = uncased(TEXT, TEXT, split_special_tokens=True)["input_ids"][0].tolist()
    assert both.count(uncased.sep_id) == 2 and uncased.mask_id not in both


def test_the_settings_can_read_them_as_text(tmp_path, careful):
    assert careful.split_special_tokens
    ids = careful(TEXT)["input_ids"].tolist()
    assert mask_and_sep(careful, ids[0]) == []
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.split_special_tokens and theirs(TEXT)["input_ids"] == ids[0]


def test_a_call_overrides_the_settings(careful):
    ids = careful.encode(TEXT, split_special_tokens=False)[0].input_ids
    assert mask_and_sep(careful, ids) == [careful.sep_id, careful.mask_id]


def test_a_dataset_follows_the_settings(uncased, careful):
    for tokenizer, special in ((uncased, 2), (careful, 0)):
        for example in (Example(TEXT), TaggedExample(tuple(TEXT.split()))):
            ids = Dataset([example], tokenizer)[0]["input_ids"].tolist()
            assert len(mask_and_sep(tokenizer, ids)) == special


def test_the_settings_are_saved(tmp_path, careful):
    careful.save_pretrained(tmp_path / "again")
    assert BertTokenizer.from_pretrained(tmp_path / "again").split_special_tokens


# What goes wrong inside the library


def test_a_panic_in_rust_becomes_a_tokenizer_error(monkeypatch, uncased):
    class PanicException(BaseException):
        """As pyo3 makes it: not an Exception, and in no module."""

    class Broken:
        def __init__(self, problem):
            self.problem = problem

        def encode_batch(self, *_, **__):
            raise self.problem

    for problem in (PanicException("index out of bounds"), OverflowError("number too large")):
        monkeypatch.setattr(uncased, "_tokenizer", Broken(problem))
        with pytest.raises(TokenizerError) as error:
            uncased("good")
        assert error.value.path.name == "vocab.txt" and str(problem) in str(error.value)
    for problem in (KeyboardInterrupt(), SystemExit(1)):
        monkeypatch.setattr(uncased, "_tokenizer", Broken(problem))
        with pytest.raises(type(problem)):
            uncased("good")


# A million characters

KINDS = {
    "words": "the film was good ",
    "one word": "a",
    "emoji": "\U0001f600",
    "Chinese": "\u6211",
    "accents": "\u00e9",
    "punctuation": "!",
    "blanks": " ",
    "heaped accents": "e\u0301\u0302\u0303\u0304",
    "Korean": "\ud55c",
    "flags": "\U0001f1e9\U0001f1ea",
    "NUL": "\0",
    "[SEP]": "[SEP]",
}
SECONDS, GIGABYTES = 8, 1.5  # for one text
# Each kind in a child of its own, that has the memory and no more.
BOUNDED = """
import json, os, resource, signal, sys, time
from pathlib import Path
import torch
from minibert.tokenizer import BertTokenizer

tokenizer = BertTokenizer.from_vocab(sys.argv[1])
gigabytes = float(sys.argv[2])
for name, text in json.loads(sys.argv[3]).items():
    if os.fork() == 0:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        start = time.perf_counter()
        (row,) = tokenizer.encode((text * (1_000_000 // len(text))))
        seconds = time.perf_counter() - start
        print(json.dumps([name, seconds, len(row.input_ids), row.cut]), flush=True)
        os._exit(0)
    os.wait()
"""


def bounded(data, kinds: dict[str, str]) -> dict[str, tuple[float, int, int]]:
    vocabulary = data / "bert_vocabs/bert-base-uncased/vocab.txt"
    command = [sys.executable, "-c", BOUNDED, str(vocabulary), str(GIGABYTES), json.dumps(kinds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert {name for name, *_ in answers} == set(kinds), done.stderr
    return {name: tuple(rest) for name, *rest in answers}


def test_a_million_characters(data):
    found = bounded(data, {name: KINDS[name] for name in ("words", "emoji", "Chinese")})
    for name, (seconds, tokens, cut) in found.items():
        assert seconds < 10 * SECONDS, name  # ten times: a guard against a hang alone
        pieces = {"words": 222_220, "emoji": 1, "Chinese": 1_000_000}[name]
        assert (tokens, cut) == (min(pieces + 2, 512), max(pieces - 510, 0))


@pytest.mark.full
def test_a_million_characters_of_every_kind(data):
    for name, (seconds, tokens, _) in bounded(data, KINDS).items():
        print(f"{name}: {seconds:.1f} s, {tokens} tokens")
        assert seconds < SECONDS, name


def test_a_million_characters_are_the_limit(uncased):
    with warnings.catch_warnings(action="ignore"):
        assert uncased("a" * MOST_CHARACTERS)["input_ids"].shape == (1, 3)
    with refused(DataError, "0"):
        uncased("a" * (MOST_CHARACTERS + 1))
