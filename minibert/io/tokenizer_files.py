"""The tokenizer files of a model folder: what they say, checked before anything is made of it.

A folder holds the vocabulary once or twice, as `tokenizer.json` and as `vocab.txt`, and settings
in up to four more files. Different programs wrote them at different times, so each can contradict
another. What cannot be right, or cannot be right in both of two files, is an error here that names
the file, the key and both values: later it would be wrong tokens, or an index error in the network.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from minibert.io.errors import TokenizerError
from minibert.io.files import (
    LARGEST_JSON,
    half_a_pair,
    inside,
    read_bytes,
    read_object,
    write_json,
    write_text,
)

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)

# The position table of every published BERT, and the pieces of bert-base-uncased: they count where
# no file says another number, as in the official configuration.
DEFAULT_MAX_LENGTH = 512
_DEFAULT_VOCAB_SIZE = 30522

# Bytes of vocab.txt or tokenizer.json; the 501,153 pieces of LaBSE, the most published, take 5 MB.
_LARGEST_VOCAB = 32 * 2**20

# What makes a `tokenizer.json` that of a BERT. Other values would make other tokens.
_PARTS: dict[str, dict[str, Any]] = {
    "model": {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    },
    "normalizer": {"type": "BertNormalizer", "clean_text": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
}

# The classes, each with or without Fast behind it, whose vocab.txt is cut as BERT's is, and those
# that stand for any tokenizer. That of BertJapaneseTokenizer, say, is cut otherwise.
_CLASSES = (
    *("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"),
    *("ConvBertTokenizer", "LayoutLMTokenizer", "LxmertTokenizer", "RetriBertTokenizer"),
    *("SqueezeBertTokenizer", "DPRContextEncoderTokenizer", "DPRQuestionEncoderTokenizer"),
    *("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend"),
)

# How a text is read: `BertTokenizer`'s argument -> the key in `tokenizer_config.json`.
FLAGS = {
    "lowercase": "do_lower_case",
    "strip_accents": "strip_accents",
    "chinese_characters": "tokenize_chinese_chars",
    "split_special_tokens": "split_special_tokens",
}

_FLAGS_OF_TOKENS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_folder(folder: Path) -> dict[str, Any]:
    """Reads and checks every tokenizer file of a folder, against each other and `config.json`.

    Raises:
        TokenizerError: as `BertTokenizer.from_pretrained` says.
    """
    files = [inside(folder, name, TokenizerError) for name in FILES]
    path, vocab_txt = files[:2]
    content = _Fields.of_file(path, _LARGEST_VOCAB)
    settings, names, older, config = map(_Fields.of_file, files[2:])
    listed: list[tuple[_Fields, dict[str, Any]]] = []
    if path.exists():
        vocabulary = _stored_vocabulary(content)
        listed += ((content, token) for token in _stored_tokens(content))
    elif vocab_txt.exists():
        path = vocab_txt
        _check_class(settings)
        vocabulary = read_vocab(path)
    else:
        raise TokenizerError(
            f"{folder} has neither tokenizer.json nor vocab.txt.",
            path=folder,
            hint="Copy the tokenizer files of the model into its folder.",
        )
    check_vocabulary(path, vocabulary)
    listed += _tokens_beside(settings, older)
    added_tokens = _merged(listed, vocabulary)
    every_id = vocabulary | {token["content"]: token["id"] for token in added_tokens}
    if path != vocab_txt:
        _check_post_processor(content, vocabulary)
        if vocab_txt.exists():
            _compare(path, vocabulary, every_id, vocab_txt)
    _check_names(settings, every_id)
    _check_names(names, every_id)
    _check_table(path, every_id, config)
    segments = config.number("type_vocab_size", 2)
    return {
        "source": path,
        "vocabulary": vocabulary,
        "added_tokens": added_tokens,
        "max_length": _max_length(settings, config),
        "token_types": config.values.get("model_type") != "distilbert" and segments > 1,
        **_flags(settings, content.inside("normalizer")),
    }


def write_folder(
    folder: Path,
    vocabulary: Mapping[str, int],
    tokenizer_json: str,
    *,
    flags: Mapping[str, Any],
    max_length: int,
    token_types: bool,
) -> None:
    """Writes the files that transformers and `read_folder` open.

    `vocab.txt`, where the line number is the id, is left out if the ids have a gap.
    """
    write_text(folder / "tokenizer.json", tokenizer_json)
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    if [vocabulary[piece] for piece in pieces] == list(range(len(pieces))):
        write_text(folder / "vocab.txt", "".join(piece + "\n" for piece in pieces))
    names = {_role(token): token for token in SPECIAL_TOKENS}
    write_json(folder / "special_tokens_map.json", names)
    settings = {
        "tokenizer_class": "BertTokenizer" if token_types else "DistilBertTokenizer",
        **{FLAGS[name]: value for name, value in flags.items()},
        "model_max_length": max_length,
        **names,
    }
    write_json(folder / "tokenizer_config.json", settings)


def check_place(source: str | Path, token: Mapping[str, Any], number: int | None) -> None:
    """Whether an added token got the id that the file gives it.

    Raises:
        TokenizerError: naming the token and both ids.
    """
    if number != token["id"]:
        raise TokenizerError(
            f"{source} gives the added token {token['content']!r} the id {token['id']}, but its "
            f"place is {number}.",
            path=source,
            key=token["content"],
        )


def read_vocab(path: str | Path) -> dict[str, int]:
    """Reads a `vocab.txt`: one piece a line, the id is the line number from 0.

    Empty lines at the end have no id.

    Raises:
        TokenizerError: the file is missing, too large, not UTF-8, or has an empty line before
            others or a piece twice.
    """
    path = Path(path)
    try:
        text = read_bytes(path, TokenizerError, largest=_LARGEST_VOCAB).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise TokenizerError(f"{path} is not UTF-8 text: {problem}.", path=path) from problem
    # Not splitlines(): pieces such as U+2028 and U+0085 are lines of their own to it.
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    vocabulary: dict[str, int] = {}
    for number, piece in enumerate(lines):
        if piece == "":
            raise TokenizerError(
                f"{path}, line {number + 1} is empty.",
                path=path,
                key=f"line {number + 1}",
                hint="Each line is a piece, and its number is the id of that piece.",
            )
        if piece in vocabulary:
            raise TokenizerError(
                f"{path} has {piece!r:.50} twice, on lines {vocabulary[piece] + 1} and "
                f"{number + 1}.",
                path=path,
                key=piece,
            )
        vocabulary[piece] = number
    return vocabulary


def check_vocabulary(source: str | Path, vocabulary: Mapping[str, Any]) -> None:
    """Whether pieces are text and ids are whole numbers, each once, the special tokens among them.

    Raises:
        TokenizerError: naming the piece and the id.
    """
    if not _is_sound(vocabulary):
        _refuse_the_first_fault(source, vocabulary)
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        raise TokenizerError(
            f"{source} has no {', '.join(missing)}.",
            path=source,
            key=missing[0],
            hint="Is it the vocabulary of a BERT model?",
        )


def _is_sound(vocabulary: Mapping[str, Any]) -> bool:
    """Whether the pieces are text and the ids differ, asked of all of them at once: it is quick."""
    ids = vocabulary.values()
    return (
        {*map(type, vocabulary)} == {str}
        and {*map(type, ids)} == {int}
        and _is_count(min(ids))
        and _is_count(max(ids))
        and len({*ids}) == len(ids)
        and "" not in vocabulary
        and half_a_pair("".join(vocabulary)) is None
    )


def _refuse_the_first_fault(source: str | Path, vocabulary: Mapping[str, Any]) -> None:
    """Looks at one piece after another, for the name of the first that cannot be."""
    owners: dict[int, str] = {}
    for piece, number in vocabulary.items():
        if not _is_text(piece):
            fault, expected = f"{source} has the piece {piece!r:.50}, which is no text.", "text"
        elif not _is_count(number):
            expected = "a whole number"
            fault = (
                f"{source} gives the piece {piece!r:.50} the id {number!r:.50}, which is not "
                f"{expected}."
            )
        elif number in owners:
            expected = "an id of its own"
            fault = (
                f"{source} gives the id {number} twice, to {owners[number]!r:.50} and "
                f"{piece!r:.50}."
            )
        else:
            owners[number] = piece
            continue
        raise TokenizerError(
            fault,
            path=source,
            key=str(piece),
        )


@dataclass(frozen=True)
class _Fields:
    """A JSON object of a file; a value of the wrong kind is an error that names file and key."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def of_file(cls, path: Path, largest: int = LARGEST_JSON) -> _Fields:
        """The object in a file, empty where there is no file."""
        if not path.exists():
            return cls(path, {})
        return cls(path, read_object(path, TokenizerError, largest=largest))

    def number(self, key: str, default: Any) -> Any:
        """A whole number from 0; null counts as absent."""
        value = self.values.get(key)
        if value is None:
            return default
        return value if _is_count(value) else self.refuse(key, value, "a whole number")

    def flag(self, key: str, default: bool | None) -> bool | None:
        """true or false; null where that is what the setting is without a value."""
        value = self.values.get(key, default)
        right = isinstance(value, bool) or value is default
        return value if right else self.refuse(key, value, "true or false")

    def inside(self, key: str) -> _Fields:
        """An object inside this one, empty for null and where it is absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            self.refuse(key, value, "an object")
        return _Fields(self.path, value or {})

    def refuse(self, key: str, value: object, expected: str) -> NoReturn:
        raise TokenizerError(
            f"{self.path} has {key} {value!r:.50}, which is not {expected}.",
            path=self.path,
            key=key,
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_text(value: object) -> bool:
    """A string that is not empty and has no half of a surrogate pair, which JSON can spell."""
    return isinstance(value, str) and value != "" and half_a_pair(value) is None


# tokenizer.json


def _stored_vocabulary(content: _Fields) -> dict[str, Any]:
    """The vocabulary, if every part beside it is what BERT has.

    The tokenizer is built anew from what is read here, so that no setting comes along unseen.
    """
    for part, supported in _PARTS.items():
        found = content.inside(part).values
        kind = supported["type"]
        if found.get("type") != kind:
            raise TokenizerError(
                f"{content.path} is not a BERT tokenizer: its {part} is {found.get('type')!r:.50}, "
                f"not {kind}.",
                path=content.path,
                key=part,
            )
        _require(_Fields(content.path, found), supported)
    vocabulary = content.inside("model").values.get("vocab")
    if not isinstance(vocabulary, dict):
        raise TokenizerError(
            f"{content.path} has no vocabulary in its model.", path=content.path, key="vocab"
        )
    return vocabulary


def _require(fields: _Fields, supported: Mapping[str, Any]) -> None:
    """Each key that is there has the one value that BERT has."""
    for key, value in supported.items():
        if fields.values.get(key, value) != value:
            fields.refuse(key, fields.values[key], f"{json.dumps(value)} as in BERT")


def _check_post_processor(content: _Fields, vocabulary: Mapping[str, int]) -> None:
    """[CLS] and [SEP] around the texts, with the ids that the vocabulary gives them."""
    found = content.inside("post_processor")
    ids = {token: vocabulary[token] for token in ("[CLS]", "[SEP]")}
    kinds: dict[str | None, dict[str, Any]] = {
        None: {},
        "BertProcessing": {"cls": ["[CLS]", ids["[CLS]"]], "sep": ["[SEP]", ids["[SEP]"]]},
        "TemplateProcessing": {
            "single": _template("[CLS]:0 A:0 [SEP]:0"),
            "pair": _template("[CLS]:0 A:0 [SEP]:0 B:1 [SEP]:1"),
            "special_tokens": {
                token: {"id": token, "ids": [number], "tokens": [token]}
                for token, number in ids.items()
            },
        },
    }
    kind = found.values.get("type")
    if kind not in [*kinds]:
        content.refuse("post_processor", kind, "BertProcessing or TemplateProcessing")
    _require(found, kinds[kind])


def _template(parts: str) -> list[dict[str, Any]]:
    """A template such as "[CLS]:0 A:0" as `tokenizer.json` writes it."""
    result = []
    for name, number in (part.rsplit(":", 1) for part in parts.split()):
        kind = "Sequence" if name in ("A", "B") else "SpecialToken"
        result.append({kind: {"id": name, "type_id": int(number)}})
    return result


def _compare(
    path: Path, vocabulary: Mapping[str, int], every_id: Mapping[str, int], vocab_txt: Path
) -> None:
    """`vocab.txt` beside `tokenizer.json` has the same pieces; added tokens it may leave out."""
    try:
        beside = read_vocab(vocab_txt)
    except TokenizerError as problem:
        warnings.warn(f"{problem} It is not used: {path.name} beside it is.", stacklevel=4)
        return
    for piece in () if beside == vocabulary else (*vocabulary, *beside):
        if beside.get(piece) != every_id.get(piece):
            raise TokenizerError(
                f"{path} gives {piece!r:.50} the id {every_id.get(piece)}, vocab.txt beside it "
                f"{beside.get(piece)}.",
                path=path,
                key=piece,
                hint="Remove the one that does not belong to the model.",
            )


# Tokens that are listed apart from the vocabulary


def _stored_tokens(content: _Fields) -> list[dict[str, Any]]:
    tokens = content.values.get("added_tokens", [])
    return tokens if isinstance(tokens, list) else content.refuse("added_tokens", tokens, "a list")


def _tokens_beside(settings: _Fields, older: _Fields) -> Iterator[tuple[_Fields, Any]]:
    """What the two other places list, in the form of `tokenizer.json`, each with its file."""
    for number, token in settings.inside("added_tokens_decoder").values.items():
        token = {**token, "id": _number_of(number)} if isinstance(token, dict) else token
        yield settings, token
    for piece, number in older.values.items():
        yield older, {"content": piece, "id": number}


def _number_of(text: str) -> int | str:
    """The id that a JSON key stands for, or the key itself, which is then refused as an id."""
    return int(text) if text.isdecimal() and len(text) < 12 else text


def _merged(
    listed: list[tuple[_Fields, dict[str, Any]]], vocabulary: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Each token once, by id, without BERT's own special tokens; what is said twice must agree."""
    ids = {token: vocabulary[token] for token in SPECIAL_TOKENS}
    tokens: dict[str, dict[str, Any]] = {}
    for file, token in listed:
        if not (
            isinstance(token, dict)
            and _is_text(token.get("content"))
            and _is_count(token.get("id"))
            and set(token) <= {"content", "id", "__type", *_FLAGS_OF_TOKENS}
            and all(isinstance(token.get(flag, False), bool) for flag in _FLAGS_OF_TOKENS)
        ):
            file.refuse("the added token", token, "an object with content, id and flags")
        piece, number = token["content"], token["id"]
        if ids.setdefault(piece, number) != number:
            raise TokenizerError(
                f"{file.path} gives the added token {piece!r:.50} the id {number}, but its id is "
                f"{ids[piece]}.",
                path=file.path,
                key=piece,
            )
        if piece not in SPECIAL_TOKENS:
            tokens.setdefault(piece, {key: token[key] for key in token if key != "__type"})
    return sorted(tokens.values(), key=lambda token: token["id"])


def _check_names(file: _Fields, every_id: Mapping[str, int]) -> None:
    """The special tokens that a file names are BERT's, and its further ones have an id."""
    for token in SPECIAL_TOKENS:
        key = _role(token)
        name = _content(file.values.get(key))
        if name not in (None, token):
            file.refuse(key, name, f"{token} as in BERT")
    for key in ("additional_special_tokens", "extra_special_tokens"):
        further = file.values.get(key) or []
        if not isinstance(further, (list, dict)):
            file.refuse(key, further, "a list")
        for value in further.values() if isinstance(further, dict) else further:
            name = _content(value)
            if not isinstance(name, str) or name not in every_id:
                file.refuse(key, name, "a token with an id in the vocabulary or the added tokens")


def _role(token: str) -> str:
    """The key under which settings name a special token: "[PAD]" -> "pad_token"."""
    return f"{token.strip('[]').lower()}_token"


def _content(token: Any) -> Any:
    """A token is written as its text, or as an object with its text and its flags."""
    return token.get("content") if isinstance(token, dict) else token


# tokenizer_config.json and config.json


def _check_class(settings: _Fields) -> None:
    """A vocab.txt alone does not say how words are made; the class that wrote it does."""
    kind = settings.values.get("tokenizer_class")
    if kind is not None and str(kind).removesuffix("Fast") not in _CLASSES:
        raise TokenizerError(
            f"{settings.path} has tokenizer_class {kind!r:.50}, which is not known to cut words as "
            "BERT does.",
            path=settings.path,
            key="tokenizer_class",
            hint="If it does, take the key out of the file.",
        )
    _require(settings, {"do_basic_tokenize": True})


def _check_table(path: Path, every_id: Mapping[str, int], config: _Fields) -> None:
    """The model has an embedding for every id."""
    if not config.values:
        return
    table = config.number("vocab_size", _DEFAULT_VOCAB_SIZE)
    last = max(every_id, key=every_id.__getitem__)
    if every_id[last] >= table:
        raise TokenizerError(
            f"{path} has {every_id[last] + 1} pieces (the last is {last!r:.50}), but the model has "
            f"embeddings for {table} ({config.path}, vocab_size).",
            path=path,
            key="vocab_size",
            hint="The vocabulary belongs to another model.",
        )


def _flags(settings: _Fields, stored: _Fields) -> dict[str, Any]:
    """How to normalise: `tokenizer_config.json` over `tokenizer.json` over the original code."""
    result = {}
    for name, stored_key, default in (
        ("lowercase", "lowercase", True),
        ("strip_accents", "strip_accents", None),
        ("chinese_characters", "handle_chinese_chars", True),
        ("split_special_tokens", "", False),  # not in tokenizer.json
    ):
        key = FLAGS[name]
        beside = stored.flag(stored_key, default)
        result[name] = settings.flag(key, default) if key in settings.values else beside
        if stored_key in stored.values and result[name] != beside:
            warnings.warn(
                f"{settings.path} says {key} {result[name]}, tokenizer.json beside it says "
                f"{beside}; the former counts, as in transformers.",
                stacklevel=4,
            )
    return result


def _max_length(settings: _Fields, config: _Fields) -> int:
    """The smaller of what the tokenizer and the model say.

    Files without a limit hold 1e30 as `model_max_length`; the model's limit then counts.
    """
    stored = settings.values.get("model_max_length")
    unlimited = isinstance(stored, (int, float)) and stored >= 1e9
    limits = [
        None if unlimited else settings.number("model_max_length", None),
        config.number("max_position_embeddings", None),
    ]
    return min([limit for limit in limits if limit is not None] or [DEFAULT_MAX_LENGTH])
