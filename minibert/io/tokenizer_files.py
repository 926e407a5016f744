"""The tokenizer files of a model folder: read, checked against each other, and written.

A folder holds the vocabulary once or twice, as `tokenizer.json` and as `vocab.txt`, and settings
in up to four more files. Different programs wrote them at different times, so they can contradict
each other. A value that cannot be right, or two that cannot both be, are an error here that names
file and key; later they would be wrong tokens, or an index error in the network.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from minibert.io.errors import TokenizerError
from minibert.io.files import LARGEST_JSON, half_a_pair, inside, read_bytes, read_object, write_json, write_text

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROLES = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS}  # pad_token, ...
FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)

# The official defaults: the positions of every published BERT, the pieces of bert-base-uncased.
DEFAULT_MAX_LENGTH = 512
_DEFAULT_VOCAB_SIZE = 30522

# Bytes of vocab.txt or tokenizer.json. LaBSE has the most pieces of all published models, 501,153,
# in 5 MB.
LARGEST_VOCAB = 32 * 2**20

# How a text is read: `BertTokenizer`'s argument -> the key in `tokenizer_config.json`, the one in
# the normalizer of `tokenizer.json`, and the original code's default.
_FLAGS: dict[str, tuple[str, str, bool | None]] = {
    "lowercase": ("do_lower_case", "lowercase", True),
    "strip_accents": ("strip_accents", "strip_accents", None),
    "chinese_characters": ("tokenize_chinese_chars", "handle_chinese_chars", True),
    "split_special_tokens": ("split_special_tokens", "", False),
}
FLAGS = tuple(_FLAGS)

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

# The classes, each with or without Fast behind it, that tokenize as BERT does, and those that
# stand for any tokenizer. BertJapaneseTokenizer, say, does not.
_CLASSES = (
    *("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"),
    *("ConvBertTokenizer", "LayoutLMTokenizer", "LxmertTokenizer", "RetriBertTokenizer"),
    *("SqueezeBertTokenizer", "DPRContextEncoderTokenizer", "DPRQuestionEncoderTokenizer"),
    *("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend"),
)

_FURTHER = ("extra_special_tokens", "additional_special_tokens")  # lists of special tokens, today's name first
_FLAGS_OF_TOKENS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def read_folder(folder: Path) -> dict[str, Any]:
    """The arguments of `BertTokenizer` that the files of a folder amount to.

    The vocabulary comes from `tokenizer.json`, else from `vocab.txt`; further tokens from
    `tokenizer.json` and `tokenizer_config.json`, and where that does not number them, from
    `special_tokens_map.json` and `added_tokens.json`; lower-casing, accents and Chinese characters
    from `tokenizer_config.json`, as in transformers 5, else from `tokenizer.json`, else from the
    original code's defaults. Stored padding and truncation are ignored: they belong to one use of
    the model. `config.json` says how many positions, segments and pieces the model has.

    Raises:
        TokenizerError: there is no vocabulary, or that of another kind of tokenizer; a piece or an
            id occurs twice; a special token is missing or has another name; a value is of the wrong
            kind; two files disagree; or there are more pieces than the model has embeddings for.
    """
    files = [inside(folder, name, TokenizerError) for name in FILES]
    path, vocab_txt = files[:2]
    content = _Fields.of_file(path, LARGEST_VOCAB)
    settings, names, older, config = map(_Fields.of_file, files[2:])
    if path.exists():
        vocabulary = _stored_vocabulary(content)
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
    added_tokens = _added_tokens(content, settings, names, older, vocabulary)
    every_id = vocabulary | {token["content"]: token["id"] for token in added_tokens}
    if path != vocab_txt:
        _check_post_processor(content, vocabulary)
        if vocab_txt.exists():
            _compare(path, vocabulary, every_id, vocab_txt)
    for file in (settings, names):
        _check_names(file)
    _check_table(path, every_id, config)
    segments = config.number("type_vocab_size", 2)
    return {
        "source": path,
        "vocabulary": vocabulary,
        "added_tokens": added_tokens,
        "max_length": _max_length(settings, config),
        "token_types": not _is_distilbert(config.values) and segments > 1,
        **_read_flags(settings, content.inside("normalizer")),
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

    `tokenizer_json`, as the library gives it, gets the template that puts [CLS] and [SEP] around
    texts. `vocab.txt`, where the line number is the id, is left out if the ids have a gap.
    """
    stored = json.loads(tokenizer_json)
    stored["post_processor"] = {"type": "TemplateProcessing", **_templates(vocabulary)}
    write_json(folder / "tokenizer.json", stored)
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    if [vocabulary[piece] for piece in pieces] == list(range(len(pieces))):
        write_text(folder / "vocab.txt", "".join(piece + "\n" for piece in pieces))
    write_json(folder / "special_tokens_map.json", _ROLES)
    settings = {
        "tokenizer_class": "BertTokenizer" if token_types else "DistilBertTokenizer",
        **{_FLAGS[name][0]: value for name, value in flags.items()},
        "model_max_length": max_length,
        **_ROLES,
    }
    write_json(folder / "tokenizer_config.json", settings)


def read_vocab(path: str | Path) -> dict[str, int]:
    """Reads a `vocab.txt`: one piece per line, its id is the line number from 0.

    Empty lines at the end have no id.

    Raises:
        TokenizerError: the file is missing, too large, not UTF-8, or has an empty line before
            others or a piece twice.
    """
    return parse_vocab(Path(path), read_bytes(path, TokenizerError, largest=LARGEST_VOCAB))


def parse_vocab(path: Path, raw: bytes) -> dict[str, int]:
    """The vocabulary that the bytes of a `vocab.txt` are, as `read_vocab` reads it."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise TokenizerError(f"{path} is not UTF-8 text: {problem}.", path=path) from problem
    vocabulary: dict[str, int] = {}
    # Not splitlines(), which would split at pieces such as U+2028 and U+0085.
    for number, piece in enumerate(text.replace("\r\n", "\n").rstrip("\n").split("\n")):
        if piece == "":
            line = f"line {number + 1}"
            hint = "Each line is a piece, and its number is the id of that piece."
            _refuse(path, f", {line} is empty", line, hint)
        if piece in vocabulary:
            lines = f"{vocabulary[piece] + 1} and {number + 1}"
            _refuse(path, f" has {piece!r:.50} twice, on lines {lines}", piece)
        vocabulary[piece] = number
    return vocabulary


def check_vocabulary(source: str | Path, vocabulary: Mapping[str, Any]) -> None:
    """Whether pieces are text and ids are whole numbers, each once, the special tokens among them.

    Raises:
        TokenizerError: naming the piece and the id.
    """
    owners: dict[int, str] = {}
    for piece, number in vocabulary.items():
        if not _is_text(piece):
            _refuse(source, f" has the piece {piece!r:.50}, which is not text", str(piece))
        if not _is_count(number):
            fault = f"the id {number!r:.50}, which is not a whole number"
            _refuse(source, f" gives the piece {piece!r:.50} {fault}", piece)
        if number in owners:
            owner = owners[number]
            _refuse(source, f" gives the id {number} twice, to {owner!r:.50} and {piece!r:.50}", piece)
        owners[number] = piece
    missing = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if missing:
        hint = "Is it the vocabulary of a BERT model?"
        _refuse(source, f" has no {', '.join(missing)}", missing[0], hint)


def check_place(source: str | Path, token: Mapping[str, Any], number: int | None) -> None:
    """Whether an added token got the id that its file gives it; a TokenizerError if not."""
    if number != token["id"]:
        piece = token["content"]
        fault = f"the id {token['id']}, but its place is {number}"
        _refuse(source, f" gives the added token {piece!r} {fault}", piece)


def _refuse(source: str | Path, fault: str, key: str, hint: str | None = None) -> NoReturn:
    raise TokenizerError(f"{source}{fault}.", path=source, key=key, hint=hint)


@dataclass(frozen=True)
class _Fields:
    """A JSON object of a file; a value of the wrong kind is an error that names file and key."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def of_file(cls, path: Path, largest: int = LARGEST_JSON) -> _Fields:
        """The object in a file, empty if the file does not exist."""
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
        """true or false, or null where that is the default."""
        value = self.values.get(key, default)
        right = isinstance(value, bool) or value is default
        return value if right else self.refuse(key, value, "true or false")

    def inside(self, key: str) -> _Fields:
        """An object inside this one, empty if it is null or absent."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            self.refuse(key, value, "an object")
        return _Fields(self.path, value or {})

    def require(self, supported: Mapping[str, Any]) -> None:
        """Each key that is present has the one value that BERT has."""
        for key, value in supported.items():
            if self.values.get(key, value) != value:
                self.refuse(key, self.values[key], f"{json.dumps(value)} as in BERT")

    def refuse(self, key: str, value: object, expected: str) -> NoReturn:
        _refuse(self.path, f" has {key} {value!r:.50}, which is not {expected}", key)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_text(value: object) -> bool:
    """A string that is not empty and has no half of a surrogate pair, which JSON can spell."""
    return isinstance(value, str) and value != "" and half_a_pair(value) is None


# tokenizer.json


def _stored_vocabulary(content: _Fields) -> dict[str, Any]:
    """The vocabulary, if every part beside it is what BERT has.

    The tokenizer is built from what is read here, so no other setting takes effect unseen.
    """
    for part, supported in _PARTS.items():
        found = content.inside(part)
        kind = found.values.get("type")
        if kind != supported["type"]:
            fault = f"its {part} is {kind!r:.50}, not {supported['type']}"
            _refuse(content.path, f" is not a BERT tokenizer: {fault}", part)
        found.require(supported)
    vocabulary = content.inside("model").values.get("vocab")
    if not isinstance(vocabulary, dict):
        _refuse(content.path, " has no vocabulary in its model", "vocab")
    return vocabulary


def _check_post_processor(content: _Fields, vocabulary: Mapping[str, int]) -> None:
    """[CLS] and [SEP] around the texts, with the ids that the vocabulary gives them."""
    kinds: dict[str | None, dict[str, Any]] = {
        None: {},
        "BertProcessing": {name: [token, vocabulary[token]] for name, token in (("cls", "[CLS]"), ("sep", "[SEP]"))},
        "TemplateProcessing": _templates(vocabulary),
    }
    found = content.inside("post_processor")
    kind = found.values.get("type")
    if kind not in [*kinds]:
        content.refuse("post_processor", kind, "BertProcessing or TemplateProcessing")
    found.require(kinds[kind])


def _templates(vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """The rows of one text and of a pair, as `tokenizer.json` writes them."""
    return {
        "single": _template("[CLS]:0 A:0 [SEP]:0"),
        "pair": _template("[CLS]:0 A:0 [SEP]:0 B:1 [SEP]:1"),
        "special_tokens": {
            token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
        },
    }


def _template(parts: str) -> list[dict[str, Any]]:
    """A template such as "[CLS]:0 A:0", part by part."""
    result = []
    for name, number in (part.rsplit(":", 1) for part in parts.split()):
        kind = "Sequence" if name in ("A", "B") else "SpecialToken"
        result.append({kind: {"id": name, "type_id": int(number)}})
    return result


def _compare(path: Path, vocabulary: Mapping[str, int], every_id: Mapping[str, int], vocab_txt: Path) -> None:
    """`vocab.txt` beside `tokenizer.json` has the same pieces; it may leave out added tokens."""
    try:
        beside = read_vocab(vocab_txt)
    except TokenizerError as problem:
        warnings.warn(f"{problem} It is not used: {path.name} beside it is.", stacklevel=4)
        return
    for piece in () if beside == vocabulary else (*vocabulary, *beside):
        if beside.get(piece) != every_id.get(piece):
            ids = f"the id {every_id.get(piece)}, vocab.txt beside it {beside.get(piece)}"
            hint = "Remove the one that does not belong to the model."
            _refuse(path, f" gives {piece!r:.50} {ids}", piece, hint)


# Tokens that are listed apart from the vocabulary


def _added_tokens(
    content: _Fields, settings: _Fields, names: _Fields, older: _Fields, vocabulary: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Each token once, by id, without BERT's own special tokens; the ids of repetitions must agree.

    Which are special is decided as in transformers. A special token without an id gets the next one.
    """
    ids = {token: vocabulary[token] for token in SPECIAL_TOKENS}
    tokens: dict[str, dict[str, Any]] = {}
    special = list(_special_tokens(settings, names))
    # What the oldest of these files lists has no flags, and transformers does not look here for them.
    late = (names, "additional_special_tokens")
    known = {_content(token) for file, key, token in special if (file, key) != late}
    for file, token in _listed_tokens(content, settings, older, known):
        _check_token(file, token)
        piece, number = token["content"], token["id"]
        if ids.setdefault(piece, number) != number:
            fault = f"the id {number}, but its id is {ids[piece]}"
            _refuse(file.path, f" gives the added token {piece!r:.50} {fault}", piece)
        tokens.setdefault(piece, token)
    for file, key, token in special:
        flags = {"normalized": False, **(token if isinstance(token, dict) else {"content": token}), "special": True}
        piece = flags["content"]
        if piece not in tokens:
            following = max(len(vocabulary), 1 + max(ids.values()))
            tokens[piece] = {**flags, "id": ids.setdefault(piece, vocabulary.get(piece, following))}
            _check_token(file, tokens[piece])
        elif key not in _FURTHER:
            tokens[piece] = {"normalized": False, **tokens[piece], "special": True}
    kept = sorted((tokens[piece] for piece in tokens if piece not in SPECIAL_TOKENS), key=lambda token: token["id"])
    return [{key: value for key, value in token.items() if key != "__type"} for token in kept]


def _check_token(file: _Fields, token: Any) -> None:
    if not (
        isinstance(token, dict)
        and _is_text(token.get("content"))
        and _is_count(token.get("id"))
        and set(token) <= {"content", "id", "__type", *_FLAGS_OF_TOKENS}
        and all(isinstance(token.get(flag, False), bool) for flag in _FLAGS_OF_TOKENS)
    ):
        file.refuse("the added token", token, "an object with content, id and flags")


def _listed_tokens(
    content: _Fields, settings: _Fields, older: _Fields, special: Collection[str]
) -> Iterator[tuple[_Fields, Any]]:
    """Tokens from the three places that list them with ids, in the form of `tokenizer.json`."""
    stored = content.values.get("added_tokens", [])
    if not isinstance(stored, list):
        content.refuse("added_tokens", stored, "a list")
    for token in stored:
        yield content, token
    numbered = settings.inside("added_tokens_decoder").values
    for number, token in numbered.items():
        # A key that is not a number is refused as an id.
        known = int(number) if number.isdecimal() and len(number) < 12 else number
        yield settings, {**token, "id": known} if isinstance(token, dict) else token
    for piece, number in older.values.items():
        if "added_tokens_decoder" not in settings.values or piece in map(_content, numbered.values()):
            yield older, {"content": piece, "id": number, "special": piece in special}


def _special_tokens(settings: _Fields, names: _Fields) -> Iterator[tuple[_Fields, str, Any]]:
    """Tokens that a file calls special, with the key that says so, in the order in which transformers adds them.

    `names`, the older file, counts only where `settings` do not number the added tokens.
    """
    files = (settings,) if "added_tokens_decoder" in settings.values else (settings, names)
    for file in files:  # those with a role of their own, such as entity_token
        further = file.values.get("extra_special_tokens")
        for role, token in {**file.values, **(further if isinstance(further, dict) else {})}.items():
            if role.endswith("_token") and role not in _ROLES and _is_text(_content(token)):
                yield file, role, token
    found = False
    for file, key in ((file, key) for file in files for key in _FURTHER):
        listed = file.values.get(key) or []
        if not isinstance(listed, (list, dict)):
            file.refuse(key, listed, "a list")
        for token in listed if isinstance(listed, list) and not found else ():
            if not _is_text(_content(token)):
                file.refuse(key, token, "a list of tokens")
            yield file, key, token
        found = found or (isinstance(listed, list) and bool(listed))


def _check_names(file: _Fields) -> None:
    """The special tokens that a file gives a role in BERT are BERT's."""
    for key, token in _ROLES.items():
        name = _content(file.values.get(key))
        if name not in (None, token):
            file.refuse(key, name, f"{token} as in BERT")


def _content(token: Any) -> Any:
    """A token is written as its text, or as an object with its text and its flags."""
    return token.get("content") if isinstance(token, dict) else token


# tokenizer_config.json and config.json


def _check_class(settings: _Fields) -> None:
    """A vocab.txt alone does not say how text is split into words; the class that wrote it does."""
    kind = settings.values.get("tokenizer_class")
    if kind is not None and str(kind).removesuffix("Fast") not in _CLASSES:
        fault = f"tokenizer_class {kind!r:.50}, which is not known to tokenize as BERT does"
        hint = "If it does, take the key out of the file."
        _refuse(settings.path, f" has {fault}", "tokenizer_class", hint)
    settings.require({"do_basic_tokenize": True})


def _check_table(path: Path, every_id: Mapping[str, int], config: _Fields) -> None:
    """The model has an embedding for every id."""
    if not config.values:
        return
    table = config.number("vocab_size", _DEFAULT_VOCAB_SIZE)
    last = max(every_id, key=every_id.__getitem__)
    if every_id[last] >= table:
        pieces = f"{every_id[last] + 1} pieces (the last is {last!r:.50})"
        stated = "vocab_size" if "vocab_size" in config.values else "which has no vocab_size: the default"
        fault = f"but the model has embeddings for {table} ({config.path}, {stated})"
        hint = "The vocabulary belongs to another model."
        _refuse(path, f" has {pieces}, {fault}", "vocab_size", hint)


def _read_flags(settings: _Fields, stored: _Fields) -> dict[str, Any]:
    """How to read texts: `tokenizer_config.json` over `tokenizer.json` over the defaults."""
    result = {}
    for name, (key, stored_key, default) in _FLAGS.items():
        beside = stored.flag(stored_key, default)
        result[name] = settings.flag(key, default) if key in settings.values else beside
        if stored_key in stored.values and result[name] != beside:
            warnings.warn(
                f"{settings.path} says {key} {result[name]}, tokenizer.json beside it says "
                f"{beside}; the former counts, as in transformers.",
                stacklevel=4,
            )
    return result


def _is_distilbert(values: Mapping[str, Any]) -> bool:
    """Whether a config is DistilBERT's, which has no segments; a file without model_type shows it by another key."""
    kind = values.get("model_type") or values.get("architectures") or ("distilbert" if "n_layers" in values else "")
    return "distilbert" in str(kind).lower()


def _max_length(settings: _Fields, config: _Fields) -> int:
    """The smaller of what the tokenizer and the model say.

    Tokenizers without a limit store 1e30 as `model_max_length`; the model's limit then counts.
    """
    stored = settings.values.get("model_max_length")
    unlimited = isinstance(stored, (int, float)) and stored >= 1e9
    limits = [
        None if unlimited else settings.number("model_max_length", None),
        config.number("max_position_embeddings", None),
    ]
    return min([limit for limit in limits if limit is not None] or [DEFAULT_MAX_LENGTH])
