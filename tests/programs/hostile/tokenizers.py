"""Cases: vocabularies and tokenizer files that lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.programs.hostile.case import (
    CONFIG,
    LOADED,
    SETTINGS,
    TOKENIZER,
    VOCAB,
    Case,
    Group,
    Outcome,
    Spoil,
    Words,
    both,
    cut,
    edit_json,
    grow,
    open_tokenizer,
    refused,
    remove,
    replace,
    set_json,
    warned,
    write,
)

ADDED, NAMES = "added_tokens.json", "special_tokens_map.json"
HUGE = 100_000_000  # bytes
TOO_LARGE = Words(f"has {HUGE} bytes")
NO_TEXT, NO_OBJECT = Words("is not UTF-8 text"), Words("is not a JSON object")
NO_FILE, LEADS_OUT = Words("is not a file"), Words("leads out of its folder")
NEW = Words("the last is '<new>'")


def vocab(*steps: Callable[[Path], object]) -> Spoil:
    """A folder whose only vocabulary is vocab.txt, then the steps."""
    return both(remove(TOKENIZER), *steps)


def stored(*steps: Callable[[Path], object]) -> Spoil:
    """A folder whose only vocabulary is tokenizer.json, then the steps."""
    return both(remove(VOCAB), *steps)


def settings(**values: Any) -> Spoil:
    """What tokenizer_config.json says."""
    return set_json(SETTINGS, values)


def pieces(**ids: Any) -> Spoil:
    """Ids of pieces in tokenizer.json."""
    return stored(edit_json(TOKENIZER, lambda value: value["model"]["vocab"].update(ids)))


def part(name: str, **values: Any) -> Spoil:
    """Keys inside one part of tokenizer.json."""
    return edit_json(TOKENIZER, lambda value: value[name].update(values))


def added(**token: Any) -> Spoil:
    """One more of the added tokens in tokenizer.json."""
    return stored(edit_json(TOKENIZER, lambda value: value["added_tokens"].append(token)))


def rewrite(change: Callable[[bytes], bytes]) -> Spoil:
    """Changes the bytes of vocab.txt."""
    return vocab(lambda folder: (folder / VOCAB).write_bytes(change((folder / VOCAB).read_bytes())))


def fifo(file: str) -> Spoil:
    """A pipe that nobody writes to in the place of a file: whoever reads it waits for ever."""
    return both(remove(file), lambda folder: os.mkfifo(folder / file))


def link(file: str, target: str) -> Spoil:
    return both(remove(file), lambda folder: (folder / file).symlink_to(target))


def cases(file: str, *rows: tuple[str, Spoil, str | Outcome]) -> list[Case]:
    """Cases from name, what is done, and the key that the error about `file` has to name."""
    return [
        Case(name, spoil, refused(file, outcome) if isinstance(outcome, str) else outcome)
        for name, spoil, outcome in rows
    ]


NEITHER = refused("model", Words("has neither tokenizer.json nor vocab.txt"))

VOCABULARIES = cases(
    VOCAB,
    ("no [UNK]", vocab(replace(VOCAB, "[UNK]", "unk")), "[UNK]"),
    ("no [CLS]", vocab(replace(VOCAB, "[CLS]", "cls")), "[CLS]"),
    ("no [SEP]", vocab(replace(VOCAB, "[SEP]", "sep")), "[SEP]"),
    ("no [PAD]", vocab(replace(VOCAB, "[PAD]", "pad")), "[PAD]"),
    ("no [MASK]", vocab(replace(VOCAB, "[MASK]", "mask")), "[MASK]"),
    ("special tokens of RoBERTa", vocab(write(VOCAB, "<s>\n</s>\n")), "[PAD]"),
    ("a piece twice", vocab(replace(VOCAB, "film", "the")), Words("'the' twice, on lines 17 and 18")),
    ("one piece too many", rewrite(lambda raw: raw + b"new\n"), Words("22 pieces")),
    ("1000 pieces too many", rewrite(lambda raw: raw + _numbers(1000)), Words("1021 pieces")),
    (
        "pieces too many, no vocab_size",
        both(rewrite(lambda raw: raw + _numbers(31_000)), edit_json(CONFIG, lambda value: value.pop("vocab_size"))),
        Words("embeddings for 30522"),
    ),
    ("an empty line", rewrite(lambda raw: raw.replace(b"film", b"")), "line 18"),
    ("empty lines at the end", rewrite(lambda raw: raw + b"\n\n"), LOADED),
    ("an empty file", vocab(write(VOCAB, b"")), "line 1"),
    ("cut in a piece", vocab(cut(VOCAB, 20)), "[SEP]"),
    ("not UTF-8", vocab(write(VOCAB, b"\xff\xfe\n")), NO_TEXT),
    ("UTF-16", rewrite(lambda raw: raw.decode().encode("utf-16")), NO_TEXT),
    ("cut inside a character", rewrite(lambda raw: raw + b"\xe6\x88"), NO_TEXT),
    ("NUL for line ends", rewrite(lambda raw: raw.replace(b"\n", b"\0")), "[PAD]"),
    ("a byte-order mark", rewrite(lambda raw: b"\xef\xbb\xbf" + raw), LOADED),
    ("Windows line ends", rewrite(lambda raw: raw.replace(b"\n", b"\r\n")), LOADED),
    ("fewer pieces than the table", vocab(replace(VOCAB, "bad\n!\n", "")), LOADED),
    ("a line of 100 MB", vocab(grow(VOCAB, HUGE, b"a")), TOO_LARGE),
    ("a line of 30 MB", vocab(grow(VOCAB, 30_000_000, b"a")), "[PAD]"),
    ("100 MB of empty lines", vocab(grow(VOCAB, HUGE, b"\n")), TOO_LARGE),
    ("a folder", vocab(remove(VOCAB), lambda folder: (folder / VOCAB).mkdir()), NO_FILE),
    ("a pipe", vocab(fifo(VOCAB)), NO_FILE),
    ("a device", vocab(link(VOCAB, "/dev/zero")), Words("folder, to /dev/zero")),
    ("a link out of the folder", vocab(link(VOCAB, "../secret")), LEADS_OUT),
    ("a link to nothing", vocab(link(VOCAB, "none")), NEITHER),
    ("no file at all", both(remove(VOCAB, TOKENIZER)), NEITHER),
)

STORED = cases(
    TOKENIZER,
    ("byte-pair encoding", part("model", type="BPE"), Words("its model is 'BPE'")),
    ("unigrams", part("model", type="Unigram"), Words("its model is 'Unigram'")),
    ("no model", set_json(TOKENIZER, {"model": None}), "model"),
    ("a model that is a list", set_json(TOKENIZER, {"model": [1]}), "model"),
    ("another normalizer", part("normalizer", type="NFKC"), "normalizer"),
    ("text not cleaned", part("normalizer", clean_text=False), "clean_text"),
    ("another splitter", part("pre_tokenizer", type="ByteLevel"), "pre_tokenizer"),
    ("another post-processor", part("post_processor", type="RobertaProcessing"), "post_processor"),
    ("a template without [CLS]", part("post_processor", single=[]), "single"),
    ("a template with other ids", part("post_processor", special_tokens={}), "special_tokens"),
    ("other unknown token", part("model", unk_token="<unk>"), "unk_token"),
    ("another prefix", part("model", continuing_subword_prefix="@"), "continuing_subword_prefix"),
    ("a vocabulary that is a list", part("model", vocab=[]), "vocab"),
    ("an empty vocabulary", both(stored(), part("model", vocab={})), "[PAD]"),
    ("a piece with no [UNK] beside it", both(stored(), part("model", vocab={"a": 0})), Words("has no [PAD], [UNK]")),
    ("two pieces with one id", pieces(a=6), Words("the id 6 twice")),
    ("an id beyond the table", pieces(film=1000), Words("1001 pieces")),
    ("[SEP] beyond the table", pieces(**{"[SEP]": 21}), "[SEP]"),
    ("an id below zero", pieces(film=-1), "film"),
    ("an id of 2 ** 40", pieces(film=2**40), "film"),
    ("an id that is text", pieces(film="17"), "film"),
    ("an id that is no whole number", pieces(film=17.0), "film"),
    ("an id that is true", pieces(film=True), "film"),
    ("an empty piece", pieces(**{"": 21}), Words("has the piece ''")),
    ("half a surrogate pair", pieces(**{"\ud800": 21}), "\ud800"),
    ("a piece twice", stored(replace(TOKENIZER, '"film"', '"the"')), "the"),
    ("vocab.txt says other", both(replace(VOCAB, "film\ngood", "good\nfilm")), "film"),
    ("vocab.txt has less", replace(VOCAB, "bad\n!\n", ""), "bad"),
    ("vocab.txt has more", both(replace(VOCAB, "bad\n!\n", "bad\n!\nnew\n")), "new"),
    ("vocab.txt is damaged", write(VOCAB, b"\xff"), warned(VOCAB, NO_TEXT)),
    ("cut", cut(TOKENIZER, 500), Words("Unterminated string")),
    ("empty", cut(TOKENIZER, 0), Words("Expecting value")),
    ("a list", write(TOKENIZER, "[]"), NO_OBJECT),
    ("not UTF-8", write(TOKENIZER, b'{"model": "\xff"}'), Words("byte 0xff")),
    ("a byte-order mark", write(TOKENIZER, b"\xef\xbb\xbf{}"), Words("BOM")),
    ("100,000 lists in each other", write(TOKENIZER, "[" * 100_000), Words("while decoding a JSON array")),
    ("100 MB of blanks", grow(TOKENIZER, HUGE), TOO_LARGE),
    ("a pipe", fifo(TOKENIZER), NO_FILE),
    (
        "padding and truncation",
        set_json(TOKENIZER, {"padding": {"strategy": {"Fixed": 10**9}}, "truncation": {"max_length": 1}}),
        LOADED,
    ),
)

TOKEN = Words("the added token")
ADDED_TOKENS = cases(
    TOKENIZER,
    ("beyond the table", added(content="<new>", id=21), NEW),
    ("with a gap before it", both(added(content="<new>", id=30), set_json(CONFIG, {"vocab_size": 40})), "<new>"),
    ("[CLS] with another id", added(content="[CLS]", id=7), "[CLS]"),
    ("a piece with another id", added(content="film", id=7), "film"),
    ("without text", added(content="", id=21), "the added token"),
    ("half a surrogate pair", added(content="\udfff", id=21), Words("'content': '\\udfff'")),
    ("an unknown flag", added(content="x", id=21, run="x"), "the added token"),
    ("not a list", set_json(TOKENIZER, {"added_tokens": {}}), "added_tokens"),
    ("older file, beyond the table", write(ADDED, '{"<new>": 21}'), NEW),
    ("older file, [UNK] with another id", write(ADDED, '{"[UNK]": 3}'), refused(ADDED, "[UNK]")),
    ("older file, an id that is text", write(ADDED, '{"<new>": "x"}'), refused(ADDED, TOKEN)),
    ("older file, a list", write(ADDED, '["<new>"]'), refused(ADDED, NO_OBJECT)),
    ("older file, a piece of the vocabulary", write(ADDED, '{"film": 17}'), LOADED),
    ("settings, beyond the table", settings(added_tokens_decoder={"21": {"content": "<new>"}}), NEW),
    (
        "settings, an id that is text",
        settings(added_tokens_decoder={"x": {"content": "<new>"}}),
        refused(SETTINGS, TOKEN),
    ),
    ("settings, a token that is text", settings(added_tokens_decoder={"21": "<new>"}), refused(SETTINGS, TOKEN)),
    ("settings, a list", settings(added_tokens_decoder=["<new>"]), refused(SETTINGS, "added_tokens_decoder")),
    ("further tokens without an id, beyond the table", settings(additional_special_tokens=["<new>"]), NEW),
    (
        "further tokens that are numbers",
        settings(additional_special_tokens=[7]),
        refused(SETTINGS, "additional_special_tokens"),
    ),
)

SETTINGS_THAT_LIE = cases(
    SETTINGS,
    ("do_lower_case as text", settings(do_lower_case="false"), "do_lower_case"),
    ("do_lower_case as a number", settings(do_lower_case=0), "do_lower_case"),
    ("do_lower_case against the other file", settings(do_lower_case=False), warned(SETTINGS, "do_lower_case")),
    ("strip_accents as text", settings(strip_accents="no"), "strip_accents"),
    ("split_special_tokens as text", settings(split_special_tokens="no"), "split_special_tokens"),
    ("model_max_length as text", settings(model_max_length="512"), "model_max_length"),
    ("model_max_length below zero", settings(model_max_length=-1), "model_max_length"),
    ("model_max_length not a number", settings(model_max_length=float("nan")), "model_max_length"),
    ("model_max_length without a limit", settings(model_max_length=1e30), LOADED),
    ("model_max_length above the model's", settings(model_max_length=4096), LOADED),
    ("another [UNK]", settings(unk_token="<unk>"), "unk_token"),
    ("another [CLS] as an object", settings(cls_token={"content": "<s>"}), "cls_token"),
    ("[PAD] that is a number", settings(pad_token=0), "pad_token"),
    ("another [SEP] in the map", write(NAMES, '{"sep_token": "</s>"}'), refused(NAMES, "sep_token")),
    ("a Japanese tokenizer", vocab(settings(tokenizer_class="BertJapaneseTokenizer")), "tokenizer_class"),
    ("a class that is a number", vocab(settings(tokenizer_class=3)), "tokenizer_class"),
    ("code of its own", settings(auto_map={"AutoTokenizer": ["evil.Evil", None]}), LOADED),
    ("a key twice", write(SETTINGS, '{"do_lower_case": true, "do_lower_case": false}'), "do_lower_case"),
    ("not an object", write(SETTINGS, "3"), NO_OBJECT),
    ("cut", cut(SETTINGS, 30), Words("Unterminated string")),
    ("vocab_size as text", set_json(CONFIG, {"vocab_size": "21"}), refused(CONFIG, "vocab_size")),
    ("vocab_size too small", set_json(CONFIG, {"vocab_size": 20}), refused(TOKENIZER, Words("21 pieces"))),
    (
        "no position at all",
        set_json(CONFIG, {"max_position_embeddings": -5}),
        refused(CONFIG, "max_position_embeddings"),
    ),
)


def _numbers(count: int) -> bytes:
    """So many different pieces, one on each line."""
    return b"".join(b"%d\n" % number for number in range(count))


GROUPS = (
    Group("vocabulary", open_tokenizer, VOCABULARIES),
    Group("tokenizer", open_tokenizer, STORED),
    Group("added", open_tokenizer, ADDED_TOKENS),
    Group("settings", open_tokenizer, SETTINGS_THAT_LIE),
)
